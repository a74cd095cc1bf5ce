//! What bounds memory and time: the queue, the memory of bodies and of decoding, and the end of work for
//! clients that have gone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{FORM, encode, form, pixels_json, test_image};
use crate::photos::has_detector;
use crate::service::{MAX_WAIT, Reply, Service, has_reply, read_reply};

const PREDICT: &str = "/v1/predict";

const PNG: [(&str, &str); 1] = [("Content-Type", "image/png")];

/// A PNG of 100 megapixels and a tenth of a megabyte, which takes a while to decode.
fn slow_png() -> Vec<u8> {
    encode(&image::DynamicImage::new_luma8(10_000, 10_000))
}

/// Options under which it is decoded.
const SLOW: [&str; 2] = ["--max-pixels", "100"];

/// A PNG of 48x48 pixels whose color profile inflates to this number of zeros.
fn with_profile(zeros: usize) -> Vec<u8> {
    let mut profile = flate2::write::ZlibEncoder::new(b"x\0\0".to_vec(), flate2::Compression::fast());
    let part = vec![0; 1 << 20];
    (0..zeros >> 20).for_each(|_| profile.write_all(&part).unwrap());
    let profile = profile.finish().unwrap();
    let png = encode(&image::DynamicImage::new_luma8(48, 48));
    let mut crc = flate2::Crc::new();
    crc.update(b"iCCP");
    crc.update(&profile);
    // After the signature and the header.
    let (start, rest) = png.split_at(33);
    let length = (profile.len() as u32).to_be_bytes();
    [start, &length, b"iCCP", &profile, &crc.sum().to_be_bytes(), rest].concat()
}

#[test]
fn profiles_that_inflate_to_gigabytes_are_skipped() {
    let service = Service::start(&[]);
    let (png, _) = test_image(0);
    service.post(PREDICT, "image/png", &png).json();
    let before = service.peak_memory();
    let bombs = [with_profile(256 << 20), with_profile(8 << 20)];
    for bomb in &bombs {
        service.post(PREDICT, "image/png", bomb).json();
    }
    service.post(PREDICT, FORM, &form(&[("a.png", &bombs[0]), ("b.png", &bombs[1])])).json();
    if let (Some(before), Some(after)) = (before, service.peak_memory()) {
        assert!(after < before + (64 << 20), "{before} bytes became {after}");
    }
}

/// Sends `slow`, and then other requests until one is refused, because `slow` has the only place.
/// `None` if `slow` has its response before.
fn refused_beside(service: &Service, slow: &[u8], png: &[u8]) -> Option<(TcpStream, Reply)> {
    let mut client = service.connect();
    client.write_all(slow).unwrap();
    while !has_reply(&client) {
        let reply = service.post(PREDICT, "image/png", png);
        if reply.status != 200 {
            return Some((client, reply));
        }
    }
    None
}

#[test]
fn work_for_clients_that_have_gone_keeps_its_place() {
    let service = Service::start(&[&SLOW[..], &["--queue", "1"]].concat());
    let (slow, (png, _)) = (service.request("POST", PREDICT, &PNG, &slow_png()), test_image(0));
    let left = || service.get("/metrics").text().contains("path=\"/v1/predict\",status=\"499\"");
    let deadline = Instant::now() + MAX_WAIT;
    // On a busy machine the image may be decoded before the client is known to have gone.
    loop {
        assert!(Instant::now() < deadline, "the places of requests are free while their images are decoded");
        let Some((client, _)) = refused_beside(&service, &slow, &png) else { continue };
        drop(client);
        service.wait_for_requests(0);
        if left() {
            let reply = service.post(PREDICT, "image/png", &png);
            if reply.status == 503 {
                reply.error(503, "1 requests are in progress");
                break;
            }
        }
        wait_for_place(&service, &png);
    }
    wait_for_place(&service, &png);
    let stderr = service.stop();
    assert!(stderr.contains("POST /v1/predict 499"), "{stderr}");
}

/// Sends requests until one is not refused.
fn wait_for_place(service: &Service, png: &[u8]) {
    let deadline = Instant::now() + MAX_WAIT;
    while service.post(PREDICT, "image/png", png).status != 200 {
        assert!(Instant::now() < deadline, "there is never a place again");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_queue_is_answered_with_503() {
    let service = Service::start(&[&SLOW[..], &["--queue", "1"]].concat());
    let (slow, (png, _)) = (service.request("POST", PREDICT, &PNG, &slow_png()), test_image(0));
    // The image may be decoded before the next request arrives.
    let deadline = Instant::now() + MAX_WAIT;
    let (mut first, refused) = loop {
        assert!(Instant::now() < deadline, "no refusal while an image is decoded");
        if let Some(found) = refused_beside(&service, &slow, &png) {
            break found;
        }
    };
    assert_eq!((service.get("/healthz").status, service.get("/v1/model").status), (200, 200));
    read_reply(&mut first, false).unwrap().json();
    refused.error(503, "1 requests are in progress");
    assert_eq!(refused.header("retry-after"), "1");
    service.post(PREDICT, "image/png", &png).json();
}

#[test]
fn bodies_that_do_not_arrive_take_no_place_in_the_queue() {
    let service = Service::start(&["--queue", "1"]);
    let (png, _) = test_image(0);
    let request = service.request("POST", PREDICT, &PNG, &png);
    let mut slow: Vec<TcpStream> = (0..5).map(|_| service.connect()).collect();
    for client in &mut slow {
        client.write_all(&request[..request.len() - 1]).unwrap();
    }
    service.wait_for_requests(5);
    service.post(PREDICT, "image/png", &png).json();
    for mut client in slow {
        client.write_all(&request[request.len() - 1..]).unwrap();
        read_reply(&mut client, false).unwrap().json();
    }
}

#[test]
fn the_memory_of_bodies_is_bounded_and_given_back() {
    let service = Service::start(&["--max-body", "1", "--timeout", "60"]);
    let (png, pixels) = test_image(0);
    let body = vec![7; 1 << 20];
    let request = service.request("POST", PREDICT, &PNG, &body);
    // All of it: eight bodies of the maximum size, each without its last byte.
    let mut full: Vec<TcpStream> = (0..8).map(|_| service.connect()).collect();
    for client in &mut full {
        client.write_all(&request[..request.len() - 1]).unwrap();
    }
    let deadline = Instant::now() + MAX_WAIT;
    let refused = loop {
        let reply = service.post(PREDICT, "image/png", &png);
        if reply.status != 200 {
            break reply;
        }
        assert!(Instant::now() < deadline, "the memory is never full");
    };
    refused.error(503, "the bodies of other requests fill the memory");
    assert_eq!(refused.header("retry-after"), "1");
    drop(full);
    wait_for_place(&service, &png);
    // The same in chunks of one byte: each takes its byte, not a unit of the account.
    let mut small = service.connect();
    let head = format!("POST {PREDICT} HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\n", service.addr);
    small.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    for _ in 0..10 {
        small.write_all("1\r\nx\r\n".repeat(1000).as_bytes()).unwrap();
    }
    service.wait_for_requests(1);
    sleep(Duration::from_millis(200));
    service.post(PREDICT, "application/json", &pixels_json(&vec![pixels; 64])).json();
    small.write_all(b"0\r\n\r\n").unwrap();
    read_reply(&mut small, false).unwrap().error(400, "is not a picture");
    // A form needs its size twice while it is parsed.
    let files = vec![("a.png", png.as_slice()); 64];
    service.post(PREDICT, FORM, &form(&files)).json();
}

#[test]
fn the_effort_of_a_search_is_bounded_for_all_images_together() {
    if !has_detector("the_effort_of_a_search_is_bounded_for_all_images_together") {
        return;
    }
    let service = Service::start(&["--max-pixels", "1"]);
    let png = encode(&image::DynamicImage::new_luma8(600, 600));
    let post = |query: &str, count: usize| {
        service.post(&format!("{PREDICT}?faces=detect{query}"), FORM, &form(&vec![("a.png", png.as_slice()); count]))
    };
    post("&min_face=20", 1).json();
    post("&min_face=20", 2).error(413, "too many pixels to be searched for faces of 20 pixels");
    post("", 2).json();
}

#[test]
fn a_refused_body_of_a_client_that_was_told_to_continue_is_read() {
    let service = Service::start(&["--max-body", "1"]);
    let head = format!(
        "POST {PREDICT} HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\nExpect: 100-continue\r\n",
        service.addr
    );
    let mut client = service.connect();
    client.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut found = [0; 25];
    client.read_exact(&mut found).unwrap();
    assert_eq!(&found, expected);
    let chunk = [b"100000\r\n".as_slice(), &vec![7; 1 << 20], b"\r\n"].concat();
    // Without a reader, the connection would break.
    (0..16).for_each(|_| client.write_all(&chunk).unwrap());
    client.write_all(b"0\r\n\r\n").unwrap();
    read_reply(&mut client, false).expect("a response").error(413, "more than 1 MiB");
    // Refused by its length, it is never sent.
    let mut client = service.connect();
    client.write_all(format!("{head}Content-Length: 2000000\r\n\r\n").as_bytes()).unwrap();
    read_reply(&mut client, false).expect("a response").error(413, "more than 1 MiB");
}

#[test]
fn a_batch_waits_for_images_that_are_being_decoded() {
    let service = Service::start(&["--batch-wait", "1000", "--max-pixels", "100"]);
    let (png, _) = test_image(0);
    let large = service.request("POST", PREDICT, &PNG, &encode(&image::DynamicImage::new_luma8(3000, 3000)));
    let shared = || service.metric("grimace_batch_images_sum") - service.metric("grimace_batch_images_count");
    // The small image comes while the large one is decoded, in most rounds.
    let deadline = Instant::now() + MAX_WAIT;
    while Instant::now() < deadline {
        let mut first = service.connect();
        first.write_all(&large).unwrap();
        sleep(Duration::from_millis(5));
        service.post(PREDICT, "image/png", &png).json();
        read_reply(&mut first, false).unwrap().json();
        if shared() > 0.0 {
            return;
        }
    }
    panic!("no batch waited");
}
