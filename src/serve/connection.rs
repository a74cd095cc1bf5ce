//! One connection: HTTP/1.1 with keep-alive and timeouts.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Maximum size of a request's headers in bytes, its first line included.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Maximum number of a request's headers.
const MAX_HEADERS: usize = 100;

/// The response to headers that are not complete in time.
const TIMEOUT_RESPONSE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 86\r\n\r\n{\"error\": {\"status\": 408, \"message\": \"the headers of the request arrived too slowly\"}}";

/// Extension of a request: the address at the other side of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub IpAddr);

/// Serves the requests of a connection until the client or a timeout ends it. When `closing` turns
/// true, the connection ends after the request in progress.
pub(super) async fn serve(stream: TcpStream, router: Router, timeout: Duration, mut closing: watch::Receiver<bool>) {
    configure(&stream, timeout);
    let mut builder = http1::Builder::new();
    // The timer runs while a connection is idle, too.
    builder.timer(TokioTimer::new()).header_read_timeout(timeout);
    // The buffer is larger, so that headers that are a little too large are read, and the response too.
    builder.max_header_size(MAX_HEADER_BYTES).max_headers(MAX_HEADERS).max_buf_size(2 * MAX_HEADER_BYTES);
    let client = stream.peer_addr().ok().map(|addr| ClientAddress(addr.ip()));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        client.map(|client| request.extensions_mut().insert(client));
        router.call(request)
    });
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let finished = tokio::select! {
        result = &mut connection => Some(result),
        () = is_true(&mut closing) => None,
    };
    let result = match finished {
        Some(result) => result,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if result.is_err_and(|error| error.is_timeout()) {
        let parts = connection.into_parts();
        // A connection without a part of a request was only idle.
        if !parts.read_buf.is_empty() {
            let mut stream = parts.io.into_inner();
            let _ = tokio::time::timeout(timeout, stream.write_all(TIMEOUT_RESPONSE)).await;
        }
    }
}

/// Waits until the value is true, or nobody can set it.
async fn is_true(value: &mut watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}

/// Ends connections whose other side does not take what was sent, or is gone. Failures leave the
/// system's defaults.
fn configure(stream: &TcpStream, timeout: Duration) {
    // Responses are one write; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(timeout));
    #[cfg(not(target_os = "linux"))]
    let _ = timeout;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_to_slow_headers_has_its_length() {
        let text = std::str::from_utf8(TIMEOUT_RESPONSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{} bytes", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
