//! Lines on stderr, written by a thread of their own: a pipe that nobody reads must not stop the
//! service.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::util::text::{escaped, short};

/// Lines that wait to be written; further ones are dropped and counted.
const MAX_WAITING_LINES: usize = 4096;

/// Maximum length of a path in characters; longer ones are cut.
const MAX_PATH: usize = 200;

/// The same for a method, which a client may invent.
const MAX_METHOD: usize = 20;

/// The log of the service.
#[derive(Debug, Clone)]
pub(super) struct AccessLog {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
    requests: bool,
}

/// A finished request, without anything of its content.
#[derive(Debug)]
pub(super) struct Access<'a> {
    /// The other side of the connection: a proxy, if there is one.
    pub client: Option<IpAddr>,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub time: Duration,
    pub faces: Option<usize>,
}

impl AccessLog {
    /// Starts the thread, which ends after the last handle. Requests are logged if `requests`.
    pub fn start(requests: bool) -> Result<(Self, JoinHandle<()>)> {
        let (lines, receiver) = sync_channel(MAX_WAITING_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&receiver, &counter));
        Ok((Self { lines, dropped, requests }, thread.context("cannot start a thread")?))
    }

    /// Logs a line.
    pub fn line(&self, text: &str) {
        if self.lines.try_send(escaped(text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs a request.
    pub fn request(&self, access: &Access<'_>) {
        if self.requests {
            self.line(&format!("{} {}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"), access.describe()));
        }
    }
}

impl Access<'_> {
    fn describe(&self) -> String {
        let status = self.status;
        let (method, path) = (short(self.method, MAX_METHOD), short(self.path, MAX_PATH));
        let milliseconds = self.time.as_secs_f64() * 1e3;
        let faces = self.faces.map_or(String::new(), |faces| format!(" faces={faces}"));
        let client = self.client.map_or_else(|| "-".to_owned(), |client| client.to_canonical().to_string());
        format!("{client} {method} {path} {status} {milliseconds:.1}ms{faces}")
    }
}

/// Writes lines until all handles are gone, those that wait together.
fn write_lines(lines: &Receiver<String>, dropped: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        let mut text = line + "\n";
        for line in lines.try_iter().take(MAX_WAITING_LINES) {
            text += &line;
            text.push('\n');
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            text += &format!("log: {missing} lines were dropped, because stderr is read too slowly\n");
        }
        // A closed pipe must not end the service.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_content_of_the_request() {
        let access = Access {
            client: Some("::ffff:192.0.2.7".parse().unwrap()),
            method: "POST",
            path: "/v1/predict",
            status: 200,
            time: Duration::from_micros(3140),
            faces: Some(2),
        };
        assert_eq!(access.describe(), "192.0.2.7 POST /v1/predict 200 3.1ms faces=2");
        let path = "/".repeat(1000);
        let (method, time) = ("X".repeat(30_000), Duration::ZERO);
        let long = Access { client: None, method: &method, path: &path, status: 404, time, faces: None };
        assert!(long.describe().len() < 250 && long.describe().ends_with("... 404 0.0ms"), "{}", long.describe());
    }
}
