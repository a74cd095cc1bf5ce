//! Addresses, tokens, a full queue, signals.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::{encode, test_image};
use crate::common::{bad, command, workshop};
use crate::service::{MAX_WAIT, Reply, Service, read_reply};

const TOKEN: &str = "a-token-of-some-length";

#[test]
fn addresses_that_cannot_be_used_say_what_to_do() {
    let serve = |args: &[&str], code, parts: &[&str]| {
        bad(workshop(), &[&["serve", "run"], args].concat(), code, parts);
    };
    serve(&["--addr", "0.0.0.0:0"], 2, &["other machines could reach", "add --allow-remote and set GRIMACE_TOKEN"]);
    serve(&["--addr", "0.0.0.0:0", "--allow-remote"], 2, &["needs a token", "GRIMACE_TOKEN"]);
    serve(&["--addr", "8000"], 2, &["expected ADDRESS:PORT"]);
    serve(&["--addr", "192.0.2.1:8000", "--allow-remote"], 2, &["needs a token"]);
    serve(&["--timeout", "0"], 2, &["--timeout 0: expected 0.1 to 3600 seconds"]);
    serve(&["--batch", "0"], 2, &["--batch"]);
    serve(&["--allow-host", "http://x"], 2, &["without http://"]);
    bad(workshop(), &["serve", "data"], 2, &["data: is not a run directory"]);
    let taken = Service::start(&[]);
    serve(&["--addr", &taken.addr], 1, &[&taken.addr, "another program listens there", "choose another port"]);
    let both = [("GRIMACE_TOKEN", TOKEN), ("GRIMACE_TOKEN_FILE", "token")];
    let mut twice = command(workshop(), &["serve", "run", "--addr", "127.0.0.1:0"]);
    let done: crate::common::Done = twice.envs(both).output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("GRIMACE_TOKEN_FILE are both set"), "{}", done.all());
    let mut short = command(workshop(), &["serve", "run", "--addr", "127.0.0.1:0"]);
    let done: crate::common::Done = short.env("GRIMACE_TOKEN", "secret").output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("expected 16 to 1024") && !done.stderr.contains("secret"));
}

#[test]
fn a_token_is_required_when_it_is_set() {
    let run = workshop().join("run");
    let service = Service::start_run(&run, &[], &[("GRIMACE_TOKEN", TOKEN)]);
    let (png, _) = test_image(0);
    let post = |value: &str| {
        let headers = [("Content-Type", "image/png"), ("Authorization", value)];
        service.ask("POST", "/v1/predict", &headers, &png)
    };
    let refused = post("Bearer another-token-of-length");
    refused.error(401, "Authorization: Bearer TOKEN");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    post(TOKEN).error(401, "needs its token");
    post(&format!("Bearer {TOKEN}")).json();
    service.get("/metrics").error(401, "needs its token");
    assert_eq!((service.get("/healthz").status, service.get("/").status), (200, 200));
    assert!(!service.stop().contains(TOKEN));
    // With a token, all addresses; any name leads there.
    let args = ["--addr", "0.0.0.0:0", "--allow-remote"];
    let remote = Service::start_run(&run, &args, &[("GRIMACE_TOKEN", TOKEN)]);
    let ask = |token: &str| remote.ask("GET", "/v1/model", &[("Host", "any.example"), ("Authorization", token)], b"");
    ask("").error(401, "token");
    ask(&format!("Bearer {TOKEN}")).json();
}

#[test]
fn a_token_can_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let run = workshop().join("run");
    for (mode, is_public) in [(0o600, false), (0o644, true)] {
        fs_err::write(&path, format!("{TOKEN}\n")).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let service = Service::start_run(&run, &[], &[("GRIMACE_TOKEN_FILE", path.to_str().unwrap())]);
        service.get("/v1/model").error(401, "needs its token");
        service.ask("GET", "/v1/model", &[("Authorization", &format!("Bearer {TOKEN}"))], b"").json();
        let stderr = service.stop();
        assert_eq!(stderr.contains("every user of this machine can read the token"), is_public, "{stderr}");
        assert!(!stderr.contains(TOKEN), "{stderr}");
    }
}

#[test]
fn other_names_and_pages_of_other_origins_are_refused() {
    let service = Service::start(&["--allow-host", "faces.example.com"]);
    let (png, _) = test_image(0);
    let port = service.addr.rsplit(':').next().unwrap().to_owned();
    let post = |host: &str, origin: Option<&str>| -> Reply {
        let mut headers = vec![("Content-Type", "image/png"), ("Host", host)];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        service.ask("POST", "/v1/predict", &headers, &png)
    };
    let local = format!("localhost:{port}");
    for host in [local.as_str(), &format!("[::1]:{port}"), "faces.example.com"] {
        post(host, None).json();
        post(host, Some(&format!("http://{host}"))).json();
    }
    post(&local, Some("https://faces.example.com")).json();
    post(&format!("evil.example:{port}"), None).error(403, "is not this service; use localhost:");
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        post(&local, Some(origin)).error(403, "pages of other origins");
    }
    let preflight = [("Host", local.as_str()), ("Origin", "https://evil.example")];
    service.ask("OPTIONS", "/v1/predict", &preflight, b"").error(403, "other origins");
}

#[test]
fn requests_in_flight_at_a_signal_are_answered() {
    for signal in ["TERM", "INT"] {
        let service = Service::start(&["--grace", "1.5", "--timeout", "60"]);
        let (png, _) = test_image(0);
        let request = service.request("POST", "/v1/predict", &[("Content-Type", "image/png")], &png);
        let mut waiting: Vec<_> = (0..8).map(|_| service.connect()).collect();
        for stream in &mut waiting {
            stream.write_all(&request[..request.len() - 1]).unwrap();
        }
        let mut kept = service.connect();
        let mut health = || {
            kept.write_all(&service.request("GET", "/healthz", &[], b"")).unwrap();
            read_reply(&mut kept, false).expect("a response while the service ends")
        };
        assert_eq!(health().status, 200);
        service.wait_for_requests(8);
        service.signal(signal);
        // Until the service has noticed the signal.
        let ending = std::iter::repeat_with(&mut health).find(|reply| reply.status != 200).unwrap();
        ending.error(503, "about to end");
        assert_eq!(ending.header("connection"), "close");
        // Until the port is closed.
        let deadline = Instant::now() + MAX_WAIT;
        while TcpStream::connect(&service.addr).is_ok() {
            assert!(Instant::now() < deadline, "the port stays open");
            std::thread::sleep(Duration::from_millis(20));
        }
        for stream in &mut waiting {
            stream.write_all(&request[request.len() - 1..]).unwrap();
        }
        for stream in &mut waiting {
            read_reply(stream, false).expect("a response to each request").json();
        }
        let (code, stderr) = service.wait();
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains(&format!("SIG{signal}: ending; ")), "{stderr}");
        assert_eq!(stderr.matches("POST /v1/predict 200").count(), 8, "{stderr}");
    }
}

#[test]
fn work_in_progress_at_a_signal_is_finished() {
    for signal in ["TERM", "HUP"] {
        let service = Service::start(&["--max-pixels", "100"]);
        let large = encode(&image::DynamicImage::new_luma8(10_000, 10_000));
        let request = service.request("POST", "/v1/predict", &[("Content-Type", "image/png")], &large);
        let mut waiting: Vec<_> = (0..3).map(|_| service.connect()).collect();
        waiting.iter_mut().for_each(|stream| stream.write_all(&request[..request.len() - 1]).unwrap());
        service.wait_for_requests(3);
        // Decoding takes longer than the service takes to notice the signal, in most cases.
        waiting.iter_mut().for_each(|stream| stream.write_all(&request[request.len() - 1..]).unwrap());
        service.signal(signal);
        for stream in &mut waiting {
            let found = read_reply(stream, false).expect("a response to each request").json();
            assert_eq!(found["images"][0]["width"], 10_000);
        }
        let (code, stderr) = service.wait();
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains(&format!("SIG{signal}: ending; ")), "{stderr}");
    }
}

#[test]
fn a_second_signal_ends_the_service_at_once() {
    let mut service = Service::start(&["--timeout", "300"]);
    let request = service.request("POST", "/v1/predict", &[("Content-Type", "image/png")], &test_image(0).0);
    let mut waiting = service.connect();
    waiting.write_all(&request[..request.len() - 1]).unwrap();
    service.wait_for_requests(1);
    service.signal("TERM");
    // One more within a second is the same one: `timeout` signals a process, and then its group.
    service.signal("TERM");
    // The request keeps the service up, until a signal arrives later.
    let deadline = Instant::now() + MAX_WAIT;
    while service.is_running() {
        assert!(Instant::now() < deadline, "signals do not end the service");
        std::thread::sleep(Duration::from_millis(300));
        service.signal("TERM");
    }
    let (code, stderr) = service.wait();
    assert_eq!(code, 128 + 15, "{stderr}");
    assert!(read_reply(&mut waiting, false).is_none());
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_service_up() {
    let service = Service::start_unread(&workshop().join("run"), &[], &[]);
    // More than a pipe takes.
    let path = format!("/{}", "x".repeat(150));
    let mut stream = service.connect();
    for _ in 0..600 {
        stream.write_all(&service.request("GET", &path, &[], b"")).unwrap();
        assert_eq!(read_reply(&mut stream, false).unwrap().status, 404);
    }
    let stderr = service.stop();
    assert!(stderr.matches("/xxx").count() > 300, "{} bytes", stderr.len());
}
