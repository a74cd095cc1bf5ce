//! What the handlers of all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::http::StatusCode;
use face_detect::Detector;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access_log::AccessLog;
use super::api_error::{ApiError, ApiResult};
use super::batching::Batcher;
use super::guard::Guard;
use super::memory::{BodyMemory, DecodingMemory, HeldMemory};
use super::metrics::Metrics;
use super::options::ServeOptions;

/// Maximum number of images of a request.
pub(super) const MAX_IMAGES: usize = 64;

/// Memory for bodies of all requests, in multiples of `options.max_body`.
const BODY_MEMORY_FACTOR: usize = 8;

/// The service's state.
#[derive(Debug)]
pub(super) struct State {
    pub options: ServeOptions,
    pub guard: Guard,
    pub batcher: Batcher,
    /// Or why there is no detector, and what to install.
    pub detector: Result<Arc<Detector>, String>,
    pub classes: Vec<String>,
    /// The response of `GET /v1/model`.
    pub model_info: Bytes,
    pub metrics: Arc<Metrics>,
    pub log: AccessLog,
    pub body_memory: BodyMemory,
    pub decoding_memory: DecodingMemory,
    /// Admits `options.queue` requests for predictions.
    admission: Arc<Semaphore>,
    /// Admits as many blocking tasks as there are cores.
    workers: Arc<Semaphore>,
    draining: AtomicBool,
}

/// What a [`State`] is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub options: ServeOptions,
    pub guard: Guard,
    pub batcher: Batcher,
    pub detector: Result<Arc<Detector>, String>,
    pub classes: Vec<String>,
    pub model_info: Bytes,
    pub metrics: Arc<Metrics>,
    pub log: AccessLog,
    pub cores: usize,
}

/// What a request for predictions holds of the service's limits. It moves into the work on another
/// thread, which goes on when the client has gone.
#[derive(Debug)]
pub(super) struct Held {
    /// Held until the response is ready.
    pub admitted: OwnedSemaphorePermit,
    /// Held as long as the body or a part of it.
    pub memory: HeldMemory,
}

impl State {
    pub fn new(parts: Parts) -> Self {
        Self {
            body_memory: BodyMemory::new(parts.options.max_body.saturating_mul(BODY_MEMORY_FACTOR)),
            decoding_memory: DecodingMemory::new(),
            admission: Arc::new(Semaphore::new(parts.options.queue)),
            workers: Arc::new(Semaphore::new(parts.cores.max(1))),
            draining: AtomicBool::new(false),
            options: parts.options,
            guard: parts.guard,
            batcher: parts.batcher,
            detector: parts.detector,
            classes: parts.classes,
            model_info: parts.model_info,
            metrics: parts.metrics,
            log: parts.log,
        }
    }

    /// Admits a request for predictions until the permit is dropped.
    ///
    /// # Errors
    /// 503 if too many are in progress.
    pub fn admit(&self) -> ApiResult<OwnedSemaphorePermit> {
        Arc::clone(&self.admission).try_acquire_owned().map_err(|_| {
            let message = format!("{} requests are in progress, as many as are allowed; try again", self.options.queue);
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        })
    }

    /// Runs work of a millisecond or more on another thread, as many at a time as there are cores. Work
    /// that has begun goes on when nobody waits for it anymore, and keeps its place until it ends.
    ///
    /// # Errors
    /// 500 if the work panics.
    pub async fn run_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
        // Closed only when the service ends.
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| ApiError::internal())?;
        let task = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            work()
        });
        task.await.map_err(|_| ApiError::internal())
    }

    /// From now on, every response closes its connection.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the service is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
