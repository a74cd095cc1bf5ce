//! Reading a body within limits of size, of memory for all bodies, and of time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::api_error::{ApiError, ApiResult};
use super::memory::{BodyMemory, HeldMemory};

/// Minimum speed in bytes per second; each byte that arrived extends the deadline by its inverse.
const MIN_BYTES_PER_SECOND: f64 = 65536.0;

/// A refused body is read to its end up to this size and time, so that a client that is still sending
/// reads the response instead of an error of its connection.
const MAX_DISCARDED_BYTES: usize = 64 << 20;
const MAX_DISCARD_TIME: Duration = Duration::from_secs(2);

/// Limits of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits<'a> {
    /// Maximum number of bytes.
    pub bytes: usize,
    /// Time for an empty body.
    pub timeout: Duration,
    /// Memory for all bodies.
    pub memory: &'a BodyMemory,
}

/// A body and the memory it holds.
#[derive(Debug)]
pub(super) struct Received {
    pub bytes: Bytes,
    pub memory: HeldMemory,
}

/// Reads a body.
///
/// # Errors
/// 413 for too many bytes, 408 if they arrive too slowly, 503 without memory for them, 400 if the
/// connection breaks.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, limits: &BodyLimits<'_>) -> ApiResult<Received> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limits.bytes as u64) {
        discard(headers, body).await;
        return Err(too_large(limits));
    }
    match read_frames(declared, &mut body, limits).await {
        Ok(received) => Ok(received),
        Err(error) => {
            if error.status != StatusCode::REQUEST_TIMEOUT {
                discard_rest(body).await;
            }
            Err(error)
        }
    }
}

async fn read_frames(declared: Option<u64>, body: &mut Body, limits: &BodyLimits<'_>) -> ApiResult<Received> {
    let expected = declared.and_then(|declared| usize::try_from(declared).ok()).unwrap_or(limits.bytes);
    let start = Instant::now();
    let (mut memory, mut bytes) = (HeldMemory::default(), Vec::new());
    loop {
        let deadline = start + limits.timeout + Duration::from_secs_f64(bytes.len() as f64 / MIN_BYTES_PER_SECOND);
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| {
            ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body arrived too slowly; send it at once, over a faster connection",
            )
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("the body is incomplete"))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > limits.bytes {
            return Err(too_large(limits));
        }
        // Frames are slices of read buffers of 8 KiB and more: keeping them would keep those.
        if length > bytes.capacity() {
            let capacity = length.max(expected.min(2 * bytes.capacity()));
            limits.memory.raise(&mut memory, capacity)?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes: bytes.into(), memory })
}

fn too_large(limits: &BodyLimits<'_>) -> ApiError {
    let mib = limits.bytes as f64 / f64::from(1 << 20);
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {mib} MiB; send a smaller one, or start the service with a larger --max-body"),
    )
}

/// Reads a refused body of which nothing was read, unless the client waits for permission to send it.
pub(super) async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        discard_rest(body).await;
    }
}

/// Reads the rest of a refused body. Reading its beginning has permitted the client to send it all.
async fn discard_rest(mut body: Body) {
    let read = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > MAX_DISCARDED_BYTES {
                break;
            }
        }
    };
    let _ = timeout_at(Instant::now() + MAX_DISCARD_TIME, read).await;
}
