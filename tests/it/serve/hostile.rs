//! Bodies and clients that are wrong on purpose: each gets its error, and the service stays up.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::{FORM, encode, form, pixels_json, test_image};
use crate::photos::has_detector;
use crate::service::{Service, read_reply};

/// A PNG whose header says it has 60,000 x 60,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut png = encode(&image::DynamicImage::new_luma8(64, 64));
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    png
}

#[test]
fn wrong_bodies_get_an_error_with_their_status() {
    let service = Service::start(&["--max-body", "1", "--max-pixels", "1"]);
    let (png, pixels) = test_image(0);
    let post = |path: &str, content_type: &str, body: &[u8]| service.post(path, content_type, body);
    let predict = "/v1/predict";
    post(predict, "image/png", b"").error(400, "the image: is empty");
    post(predict, "image/png", &png[..png.len() / 2]).error(400, "the image: cannot be decoded");
    post(predict, "image/png", b"emotion,pixels").error(400, "is not a picture that can be read; expected JPEG");
    post(predict, "image/svg+xml", b"<svg/>").error(400, "is not a picture");
    post(predict, "image/png", &huge_png())
        .error(413, "has 60000 x 60000 pixels; the images of a request may have 1 mega");
    let large = encode(&image::DynamicImage::new_luma8(1001, 1000));
    post(predict, "image/png", &large).error(413, "1001 x 1000");
    post(predict, "image/png", &vec![7; (1 << 20) + 1]).error(413, "more than 1 MiB");
    post(predict, "text/plain", &png).error(415, "Content-Type is \"text/plain\"; expected image/png");
    post(predict, "application/x-www-form-urlencoded", &png).error(415, "expected image/png");
    service.ask("POST", predict, &[], &png).error(415, "Content-Type is missing");
    // Forms.
    post(predict, "multipart/form-data", b"x").error(400, "has no boundary");
    post(predict, FORM, b"--XX--\r\n").error(400, "has no file");
    post(predict, FORM, b"nonsense").error(400, "multipart/form-data");
    post(predict, FORM, b"").error(400, "multipart/form-data");
    let field = b"--XX\r\nContent-Disposition: form-data; name=\"faces\"\r\n\r\ndetect\r\n--XX--\r\n";
    post(predict, FORM, field).error(400, "the field \"faces\" is no file");
    let whole = form(&[("a.png", &png)]);
    post(predict, FORM, &whole[..whole.len() - 12]).error(400, "multipart/form-data");
    post(predict, FORM, &form(&[("a.png", &png), ("b\u{202e}.png", b"text")]))
        .error(400, "b\\u{202e}.png: is not a picture");
    let half = encode(&image::DynamicImage::new_luma8(800, 1000));
    post(predict, FORM, &form(&[("a.png", &half), ("b.png", &half)])).error(413, "b.png: has 800 x 1000");
    post(predict, FORM, &form(&vec![("a.png", png.as_slice()); 65])).error(400, "more than 64 files");
    // JSON.
    let text = String::from_utf8(pixels_json(&[pixels])).unwrap();
    let first = text.find("[[").unwrap() + 2;
    let changed = |value: &str| [&text[..first], value, ",", text[first..].split_once(',').unwrap().1].concat();
    for (body, part) in [
        (changed("NaN"), "expected value"),
        (changed("-1"), "integer `-1`, expected a whole number from 0 to 255"),
        (changed("256"), "integer `256`"),
        (changed("0.5"), "floating point `0.5`"),
        (changed("1,2"), "image 1 has more than 2304 numbers"),
        (text[..text.len() - 1].to_owned(), "EOF"),
        ("{\"pixels\": []}".to_owned(), "no images"),
        ("[".repeat(100_000), "an object with the key pixels"),
    ] {
        post(predict, "application/json", body.as_bytes()).error(400, part);
    }
    // Options.
    post("/v1/predict?faces=some", "image/png", &png)
        .error(400, "unknown variant `some`, expected `whole` or `detect`");
    post("/v1/predict?face=whole", "image/png", &png).error(400, "unknown field `face`");
    post("/v1/predict?min_face=40", "image/png", &png).error(400, "min_face needs faces=detect");
    post("/v1/predict?faces=whole&faces=detect", "image/png", &png).error(400, "duplicate field");
    service.post(predict, "image/png", &png).json();
    let stderr = service.stop();
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn searches_that_take_too_long_are_refused() {
    if !has_detector("searches_that_take_too_long_are_refused") {
        return;
    }
    let service = Service::start(&["--max-pixels", "1"]);
    let png = encode(&image::DynamicImage::new_luma8(600, 600));
    let post = |query: &str| service.post(&format!("/v1/predict?faces=detect{query}"), "image/png", &png);
    post("&min_face=8").error(413, "use a larger min_face");
    for wrong in ["7", "-3", "NaN", "1e30"] {
        post(&format!("&min_face={wrong}")).error(400, "expected 8 to 1000000 pixels");
    }
    post("&min_face=x").error(400, "invalid float literal");
    let pixels = pixels_json(&[vec![0; 2304]]);
    service.post("/v1/predict?faces=detect", "application/json", &pixels).error(400, "faces already");
    post("&min_face=20").json();
}

#[test]
fn slow_clients_are_cut_off() {
    let service = Service::start(&["--timeout", "0.4", "--max-connections", "2"]);
    let (png, _) = test_image(0);
    let start = Instant::now();
    // Headers, a byte at a time.
    let mut slow = service.connect();
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n".iter().cycle().take(200) {
        if slow.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_secs(3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Written to a connection that is closed, so the answer may be lost; unless it is, it is 408.
    if let Some(reply) = read_reply(&mut slow, false) {
        assert_eq!(reply.status, 408);
    }
    // Headers that stop.
    let mut slow = service.connect();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    read_reply(&mut slow, false).expect("an answer").error(408, "headers of the request arrived too slowly");
    // A body that stops.
    let request = service.request("POST", "/v1/predict", &[("Content-Type", "image/png")], &png);
    let mut slow = service.connect();
    slow.write_all(&request[..request.len() - 5]).unwrap();
    let reply = read_reply(&mut slow, false).expect("an answer");
    reply.error(408, "the body arrived too slowly");
    assert_eq!((reply.header("connection"), slow.read(&mut [0]).unwrap()), ("close", 0));
    // A chunked body that stops.
    let mut slow = service.connect();
    let head = format!("POST /v1/predict HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\n", service.addr);
    slow.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n").as_bytes()).unwrap();
    read_reply(&mut slow, false).expect("an answer").error(408, "too slowly");
    // An idle connection is closed without an answer; a kept one too.
    let mut idle = service.connect();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    let mut kept = service.connect();
    kept.write_all(&service.request("GET", "/healthz", &[], b"")).unwrap();
    assert_eq!(read_reply(&mut kept, false).unwrap().status, 200);
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    // Idle connections in all places: the next one waits until they time out.
    let _both = [service.connect(), service.connect()];
    assert_eq!(service.get("/healthz").status, 200);
    service.post("/v1/predict", "image/png", &png).json();
    assert!(!service.stop().contains("panicked"));
}

#[test]
fn nonsense_instead_of_http_is_refused() {
    let service = Service::start(&[]);
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], Some(400)),
        (b"GET\r\n\r\n", Some(400)),
        // The preface of HTTP/2 ends the connection.
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\n\r\n", Some(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Some(400)),
        (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", Some(400)),
        (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Some(400)),
    ] {
        let mut stream = service.connect();
        stream.write_all(bytes).unwrap();
        let found = read_reply(&mut stream, false).map(|reply| reply.status);
        assert_eq!(found, status, "{:?}", String::from_utf8_lossy(bytes));
    }
    // Pipelined requests are answered in turn.
    let mut stream = service.connect();
    let requests: Vec<u8> = (0..10).flat_map(|_| service.request("GET", "/healthz", &[], b"")).collect();
    stream.write_all(&requests).unwrap();
    (0..10).for_each(|_| assert_eq!(read_reply(&mut stream, false).unwrap().status, 200));
    service.post("/v1/predict", "image/png", &test_image(0).0).json();
    assert!(!service.stop().contains("panicked"));
}

#[test]
fn headers_are_bounded_in_size_and_number() {
    let service = Service::start(&[]);
    let status = |headers: &str| {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", service.addr);
        let mut stream = service.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let reply = read_reply(&mut stream, false).expect("a response");
        // HTTP that cannot be read has a response without a body.
        assert!(reply.status == 200 || reply.body.is_empty(), "{reply:?}");
        reply.status
    };
    let long = |bytes: usize| format!("X: {}\r\n", "a".repeat(bytes));
    assert_eq!((status(&long(32_000)), status(&long(33_000))), (200, 431));
    let many = |count: usize| "X: a\r\n".repeat(count);
    assert_eq!((status(&many(99)), status(&many(101))), (200, 431));
    // The log has no more than the beginning of a method that a client has invented.
    let method = "M".repeat(20_000);
    let refused = service.ask(&method, "/healthz", &[], b"");
    refused.error(405, "/healthz has no MMMMMMMMMMMMMMMMMMMM...; use GET");
    let stderr = service.stop();
    assert!(stderr.contains("MMMMMMMMMMMMMMMMMMMM... /healthz 405"), "{stderr}");
    assert!(stderr.lines().filter(|line| line.contains("MMM")).all(|line| line.len() < 300), "{stderr}");
}
