//! Routes, and what happens to every request: checks, headers, metrics, the log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::access_log::Access;
use super::api_error::ApiError;
use super::batching::MAX_FAILED_BATCHES;
use super::connection::ClientAddress;
use super::predict::FaceCount;
use super::state::State;
use super::{body, metrics, page, predict};

/// Headers of every response, besides its caching. The page may use the camera; nothing may frame or
/// embed the service.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", page::CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(self), microphone=(), geolocation=()"),
];

/// The description of the API. `tests/it/serve/openapi.rs` compares it with the service.
const OPENAPI: &str = include_str!("openapi.json");

/// Status in log and metrics of a request whose client went before the response, as in nginx.
const CLIENT_GONE: u16 = 499;

/// The service.
pub(super) fn router(state: &Arc<State>) -> Router {
    Router::new()
        .route("/", get(asset))
        .route("/assets/{*path}", get(asset))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(openapi))
        .route("/v1/model", get(model))
        .route("/v1/predict", post(predict::handle))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(state), observe))
        .with_state(Arc::clone(state))
}

/// Checks a request, passes it on, and records it.
async fn observe(Shared(state): Shared<Arc<State>>, request: Request<Body>, next: Next) -> Response {
    let mut record = Record::start(&state, &request);
    let mut response = match state.guard.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let (parts, body) = request.into_parts();
            body::discard(&parts.headers, body).await;
            error.into_response()
        }
    };
    set_headers(response.headers_mut(), state.is_draining());
    record.status = response.status().as_u16();
    record.faces = response.extensions().get().map(|FaceCount(count)| *count);
    response
}

fn set_headers(headers: &mut HeaderMap, is_draining: bool) {
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if is_draining {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A request in progress, which is recorded when it ends, however it does.
struct Record<'a> {
    state: &'a State,
    client: Option<IpAddr>,
    start: Instant,
    method: Method,
    path: String,
    status: u16,
    faces: Option<usize>,
}

impl<'a> Record<'a> {
    fn start(state: &'a State, request: &Request<Body>) -> Self {
        state.metrics.in_flight.inc();
        let client = request.extensions().get().map(|ClientAddress(client)| *client);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Self { state, client, start: Instant::now(), method, path, status: CLIENT_GONE, faces: None }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let time = self.start.elapsed();
        self.state.metrics.in_flight.dec();
        self.state.metrics.finished(&self.path, self.status, time);
        let (method, path, status) = (self.method.as_str(), self.path.as_str(), self.status);
        self.state.log.request(&Access { client: self.client, method, path, status, time, faces: self.faces });
    }
}

async fn asset(uri: Uri) -> Response {
    let Some(asset) = page::asset(uri.path()) else { return not_found(uri).await };
    let mut response = Response::new(Body::from(asset.bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    // Another version of the program has other files under the same names.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    if state.is_draining() {
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the service is about to end").into_response();
    }
    if !state.batcher.is_alive() {
        let message = "the thread of the model has ended; start the service again";
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response();
    }
    let failed = state.batcher.failed_batches();
    if failed >= MAX_FAILED_BATCHES {
        let message = format!("the last {failed} batches failed; the log says why; start the service again");
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response();
    }
    typed("text/plain; charset=utf-8", Body::from("ok"))
}

async fn metrics_text(Shared(state): Shared<Arc<State>>) -> Response {
    typed(metrics::CONTENT_TYPE, Body::from(state.metrics.text()))
}

async fn model(Shared(state): Shared<Arc<State>>) -> Response {
    typed("application/json", Body::from(state.model_info.clone()))
}

async fn openapi() -> Response {
    typed("application/json", Body::from(OPENAPI))
}

fn typed(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn not_found(uri: Uri) -> Response {
    let path = crate::util::text::short(uri.path(), 200);
    let expected = "/, /v1/predict, /v1/model, /openapi.json, /healthz or /metrics";
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no {path}; expected {expected}")).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let expected = if uri.path() == "/v1/predict" { "POST" } else { "GET" };
    let (path, method) = (uri.path(), crate::util::text::short(method.as_str(), 20));
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} has no {method}; use {expected}")).into_response()
}
