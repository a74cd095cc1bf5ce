//! A load generator for `grimace serve` and other HTTP services: connections with keep-alive that send
//! one request after the other, for a fixed time.
//!
//! `cargo run --release --example serve_load -- URL FILE [--connections 16] [--seconds 10]
//! [--requests N] [--type image/png]` prints one line of JSON: requests per second, latencies in
//! milliseconds, failures, and responses that differ from the first in the predicted class.

// Offsets are those of matches in the same text; a failure ends the program.
#![allow(clippy::indexing_slicing, clippy::string_slice)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends one file again and again.
#[derive(Parser)]
struct Args {
    /// URL, such as http://127.0.0.1:8000/v1/predict
    url: String,
    /// Body of each request
    file: std::path::PathBuf,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Time after which no request is sent
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Number of requests after which no request is sent
    #[arg(long, default_value_t = u64::MAX)]
    requests: u64,
    /// Content-Type
    #[arg(long = "type", default_value = "image/png")]
    content_type: String,
}

/// What all connections share.
struct Load {
    addr: String,
    request: Vec<u8>,
    deadline: Instant,
    sent: AtomicU64,
    max_requests: u64,
}

/// What a connection has measured.
#[derive(Default)]
struct Found {
    /// Of good responses.
    latencies: Vec<Duration>,
    /// Other statuses, and broken connections.
    failures: u64,
    first_failure: Option<String>,
    /// Predicted class of the first response.
    class: Option<String>,
    /// Responses with another one.
    different: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rest = args.url.strip_prefix("http://").context("the URL must begin with http://")?;
    let (addr, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let body = fs_err::read(&args.file)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        args.content_type,
        body.len()
    );
    let load = Arc::new(Load {
        addr: addr.to_owned(),
        request: [head.into_bytes(), body].concat(),
        deadline: Instant::now() + Duration::from_secs_f64(args.seconds),
        sent: AtomicU64::new(0),
        max_requests: args.requests,
    });
    // One thread, which leaves the cores to the service.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let found = runtime.block_on(async {
        let tasks: Vec<_> = (0..args.connections).map(|_| tokio::spawn(connection(Arc::clone(&load)))).collect();
        let mut found = Vec::new();
        for task in tasks {
            found.push(task.await?);
        }
        anyhow::Ok(found)
    })?;
    report(&args, &found, start.elapsed());
    Ok(())
}

/// Pause after a failure, so that a service that is gone does not make millions of them.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

async fn connection(load: Arc<Load>) -> Found {
    let mut found = Found::default();
    let mut open = None;
    let mut buffer = Vec::new();
    while Instant::now() < load.deadline && load.sent.fetch_add(1, Ordering::Relaxed) < load.max_requests {
        let start = Instant::now();
        match exchange(&mut open, &load, &mut buffer).await {
            Ok((200, body)) => {
                found.latencies.push(start.elapsed());
                let class = class(body);
                match &found.class {
                    None => found.class = Some(class),
                    Some(first) => found.different += u64::from(*first != class),
                }
            }
            other => {
                found.failures += 1;
                let text = other.map_or_else(|error| error.to_string(), |(status, body)| format!("{status}: {body}"));
                found.first_failure.get_or_insert(text);
                open = None;
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
    found
}

async fn connect(addr: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request, over a new connection if none is open; returns status and body.
async fn exchange<'a>(open: &mut Option<TcpStream>, load: &Load, buffer: &'a mut Vec<u8>) -> Result<(u16, &'a str)> {
    if open.is_none() {
        *open = Some(connect(&load.addr).await?);
    }
    let stream = open.as_mut().context("no connection")?;
    stream.write_all(&load.request).await?;
    buffer.clear();
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection ended before the response");
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let Some(length) = length else { bail!("a response without Content-Length") };
        let total = end + 4 + length.trim().parse::<usize>()?;
        while buffer.len() < total {
            ensure!(stream.read_buf(buffer).await? > 0, "the connection ended within the response");
        }
        return Ok((status, std::str::from_utf8(&buffer[end + 4..])?));
    }
}

/// The predicted class in a response, of the first face.
fn class(body: &str) -> String {
    let found = body.find("\"class\"").map(|start| &body[start..]);
    found.and_then(|rest| rest.split('"').nth(3)).unwrap_or("none").to_owned()
}

fn report(args: &Args, found: &[Found], time: Duration) {
    let mut latencies: Vec<f64> =
        found.iter().flat_map(|one| &one.latencies).map(|latency| latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |fraction: f64| {
        let index = (latencies.len().saturating_sub(1) as f64 * fraction).round() as usize;
        latencies.get(index).map(|value| (value * 1e3).round() / 1e3)
    };
    let classes: Vec<&String> = found.iter().filter_map(|one| one.class.as_ref()).collect();
    let between = classes.iter().filter(|class| **class != classes[0]).count() as u64;
    let report = serde_json::json!({
        "connections": args.connections,
        "requests": latencies.len(),
        "per_second": (latencies.len() as f64 / time.as_secs_f64() * 10.0).round() / 10.0,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "failures": found.iter().map(|one| one.failures).sum::<u64>(),
        "first_failure": found.iter().find_map(|one| one.first_failure.as_ref()),
        "different": found.iter().map(|one| one.different).sum::<u64>() + between,
    });
    println!("{report}");
}
