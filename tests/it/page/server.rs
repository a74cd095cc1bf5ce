//! A small web server on a free port of this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

/// A request: method and path, a token, and the body.
pub struct Request {
    pub line: String,
    pub token: Option<String>,
    pub body: Vec<u8>,
}

/// An answer: status, more header lines, content type, content.
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let bytes = value.to_string().into_bytes();
        Self { status, headers: String::new(), content_type: "application/json", bytes }
    }

    fn missing() -> Self {
        Self { status: 404, headers: String::new(), content_type: "text/plain", bytes: b"not here".to_vec() }
    }
}

/// Serves `answer` until the tests end; returns the address, such as `http://127.0.0.1:1234`.
pub fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            // A browser that closes the connection is no failure.
            std::thread::spawn(move || drop(handle(stream, &*answer)));
        }
    });
    format!("http://{address}")
}

/// Serves the files of a folder, as any static web server does.
pub fn serve_folder(folder: PathBuf) -> String {
    serve(move |request| {
        let path = request.line.split(' ').nth(1).unwrap_or("/");
        let path = if path == "/" { "/index.html" } else { path };
        let content_type = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html",
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg+xml",
            Some("wasm") => "application/wasm",
            Some("json") => "application/json",
            _ => "application/octet-stream",
        };
        match fs_err::read(folder.join(&path[1..])) {
            Ok(bytes) => Answer { status: 200, headers: String::new(), content_type, bytes },
            Err(_) => Answer::missing(),
        }
    })
}

fn handle(stream: TcpStream, answer: &dyn Fn(&Request) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length, mut token) = (String::new(), 0, None);
    reader.read_line(&mut line)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let Answer { status, headers, content_type, bytes } = answer(&Request { line, token, body });
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        bytes.len()
    )?;
    stream.write_all(&bytes)
}
