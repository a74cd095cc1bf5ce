//! A service of a test, and plain HTTP/1.1 with it.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{command, workshop};

/// Maximum wait for anything, so that a test fails instead of hanging.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// A running service.
pub struct Service {
    child: Child,
    /// Reads stderr, so that its pipe is never full.
    stderr: Option<JoinHandle<String>>,
    /// Address and port, as in a URL.
    pub addr: String,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Service {
    /// Starts the service of a run, on a free port unless `args` has an address.
    pub fn start_run(run: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut service = Self::start_unread(run, args, env);
        let pipe = service.child.stderr.take();
        service.stderr = Some(std::thread::spawn(|| read_all(pipe)));
        service
    }

    /// The same, but its stderr is not read until it has ended.
    pub fn start_unread(run: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let run = run.display().to_string();
        let addr: &[&str] = if args.contains(&"--addr") { &[] } else { &["--addr", "127.0.0.1:0"] };
        let args = [&["serve", &run, "--json"], addr, args].concat();
        let mut command = command(workshop(), &args);
        command.env_remove("GRIMACE_TOKEN").env_remove("GRIMACE_TOKEN_FILE").envs(env.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", read_all(child.stderr.take())));
        let addr = ready["url"].as_str().unwrap().strip_prefix("http://").unwrap();
        Self { child, stderr: None, addr: addr.replace("0.0.0.0", "127.0.0.1") }
    }

    /// Starts the service of the tests' run.
    pub fn start(args: &[&str]) -> Self {
        Self::start_run(&workshop().join("run"), args, &[])
    }

    /// Maximum of the resident memory so far in bytes; `None` if the system does not report it.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().unwrap() << 10)
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    }

    /// Waits until `count` requests are in progress, besides that for the metrics. They must stay so: a
    /// busy machine may look late.
    pub fn wait_for_requests(&self, count: usize) {
        let deadline = Instant::now() + MAX_WAIT;
        while self.metric("grimace_requests_in_flight") as usize != count + 1 {
            assert!(Instant::now() < deadline, "there are never {count} requests in progress");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
        stream
    }

    /// The bytes of a request.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.addr);
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        // The service may refuse a body and close before it is sent.
        let _ = stream.write_all(&self.request(method, path, headers, body));
        read_reply(&mut stream, method == "HEAD").expect("a response")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Reply {
        self.ask("POST", path, &[("Content-Type", content_type)], body)
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal; one to a process that has just ended has no effect.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let done = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the end: the exit code and stderr.
    pub fn wait(mut self) -> (i32, String) {
        let deadline = Instant::now() + MAX_WAIT;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the service does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let stderr = match self.stderr.take() {
            Some(thread) => thread.join().unwrap(),
            None => read_all(self.child.stderr.take()),
        };
        (code, stderr)
    }

    /// Ends the service as a system does: the exit code is 0; returns stderr.
    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, stderr) = self.wait();
        assert_eq!(code, 0, "{stderr}");
        stderr
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(pipe: Option<ChildStderr>) -> String {
    let mut text = String::new();
    pipe.unwrap().read_to_string(&mut text).unwrap();
    text
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a good response.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Expects an error with this status and this part of its message.
    pub fn error(&self, status: u16, part: &str) {
        let found: Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        assert_eq!((self.status, &found["error"]["status"]), (status, &status.into()), "{found}");
        let message = found["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// Whether a response, or the end of the connection, has arrived.
pub fn has_reply(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let found = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !found.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Reads one response; `None` if the connection ends before it.
pub fn read_reply(stream: &mut TcpStream, is_head: bool) -> Option<Reply> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect();
    let mut reply = Reply { status, headers, body: Vec::new() };
    let length = if is_head { 0 } else { reply.header("content-length").parse().unwrap_or(0) };
    reply.body.resize(length, 0);
    stream.read_exact(&mut reply.body).ok()?;
    Some(reply)
}
