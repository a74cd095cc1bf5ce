//! Dynamic batching: one thread owns the model and predicts the images of all requests that wait.
//!
//! An idle model starts at once with what is there. While it works, further images gather and make the
//! next batch, so batches grow with the load and a lone request never waits. A batch that is not full
//! waits up to `batch_wait` only while images are being decoded, which will be there in a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::{oneshot, watch};

use super::access_log::AccessLog;
use super::api_error::{ApiError, ApiResult};
use super::batch_queue::{BatchLimits, Job, Message, Pending, Queue};
use super::metrics::Metrics;
use crate::data::images::PIXELS;
use crate::metrics::Predictions;

/// After this number of failed batches in a row, `/healthz` reports it: pixels of any value are valid,
/// so it is the device that fails.
pub(super) const MAX_FAILED_BATCHES: u32 = 3;

/// A handle to the thread of the model.
#[derive(Debug)]
pub(super) struct Batcher {
    jobs: Sender<Message>,
    limits: BatchLimits,
    metrics: Arc<Metrics>,
    pending: Arc<AtomicUsize>,
    failures: Arc<AtomicU32>,
    /// The thread has the other end.
    alive: watch::Receiver<()>,
}

impl Batcher {
    /// Starts the thread, which owns `predict` and ends when the handle is dropped.
    ///
    /// # Errors
    /// If the system allows no further thread.
    pub fn start(
        predict: impl Fn(Vec<u8>) -> Result<Predictions> + Send + 'static,
        limits: BatchLimits,
        metrics: &Arc<Metrics>,
        log: &AccessLog,
    ) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, receiver) = channel();
        let (running, alive) = watch::channel(());
        let (pending, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU32::new(0)));
        let mut queue = Queue { jobs: receiver, next: None, limits, pending: Arc::clone(&pending) };
        let (observed, failed, log) = (Arc::clone(metrics), Arc::clone(&failures), log.clone());
        let work = move || {
            // Dropped when the thread ends, also by a panic.
            let _running = running;
            while let Some(batch) = queue.collect() {
                observed.queued.dec_by(batch.len() as i64);
                match run(&predict, batch, &observed) {
                    Ok(()) => failed.store(0, Ordering::Relaxed),
                    Err(error) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        log.line(&format!("error: {error:#}"));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("model".into()).spawn(work).context("cannot start a thread")?;
        let batcher = Self { jobs, limits, metrics: Arc::clone(metrics), pending, failures, alive };
        Ok((batcher, thread))
    }

    /// Whether the thread runs; it ends early only by a panic.
    pub fn is_alive(&self) -> bool {
        self.alive.has_changed().is_ok()
    }

    /// Waits until the thread has ended.
    pub async fn ended(&self) {
        // No value is ever sent.
        while self.alive.clone().changed().await.is_ok() {}
    }

    /// Number of batches that failed since the last one that did not.
    pub fn failed_batches(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Announces images, for which a batch may wait.
    pub fn announce(&self) -> Option<Pending> {
        (!self.limits.wait.is_zero()).then(|| Pending::new(&self.pending, &self.jobs))
    }

    /// Predicts images, uint8 [N, 48, 48], which may have been announced; returns probabilities
    /// [N, classes]. Many images go in several batches, so that other requests come between.
    pub async fn predict(&self, pixels: Vec<u8>, pending: Option<Pending>) -> ApiResult<Vec<f32>> {
        let size = self.limits.images * PIXELS;
        if pixels.len() <= size {
            return self.predict_part(pixels, pending).await;
        }
        drop(pending);
        let mut all = Vec::new();
        for part in pixels.chunks(size) {
            all.extend(self.predict_part(part.to_vec(), None).await?);
        }
        Ok(all)
    }

    async fn predict_part(&self, pixels: Vec<u8>, pending: Option<Pending>) -> ApiResult<Vec<f32>> {
        if pixels.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, predicted) = oneshot::channel();
        self.metrics.queued.inc();
        let sent = self.jobs.send(Message::Job(Job { pixels, reply }));
        drop(pending);
        if sent.is_err() {
            self.metrics.queued.dec();
            return Err(ApiError::internal());
        }
        predicted.await.ok().flatten().ok_or_else(ApiError::internal)
    }
}

/// Predicts a batch and replies to its jobs.
///
/// # Errors
/// Those of `predict`; the jobs have a reply even so.
fn run(predict: impl Fn(Vec<u8>) -> Result<Predictions>, mut batch: Vec<Job>, metrics: &Metrics) -> Result<()> {
    // Clients that have gone.
    batch.retain(|job| !job.reply.is_closed());
    let counts: Vec<usize> = batch.iter().map(Job::images).collect();
    let images: usize = counts.iter().sum();
    if images == 0 {
        return Ok(());
    }
    let parts: Vec<Vec<u8>> = batch.iter_mut().map(|job| std::mem::take(&mut job.pixels)).collect();
    metrics.batch_images.observe(images as f64);
    let start = Instant::now();
    let found = predict_parts(predict, parts, images).with_context(|| format!("a batch of {images} images failed"));
    metrics.batch_seconds.observe(start.elapsed().as_secs_f64());
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            for job in batch {
                let _ = job.reply.send(None);
            }
            return Err(error);
        }
    };
    let mut rest = found.probabilities.as_slice();
    for (job, count) in batch.into_iter().zip(counts) {
        let (own, others) = rest.split_at_checked(count * found.classes).unwrap_or_default();
        rest = others;
        // Fails for a client that has gone meanwhile.
        let _ = job.reply.send(Some(own.to_vec()));
    }
    Ok(())
}

/// The predictions of a batch.
fn predict_parts(
    predict: impl Fn(Vec<u8>) -> Result<Predictions>,
    mut parts: Vec<Vec<u8>>,
    images: usize,
) -> Result<Predictions> {
    let pixels = if parts.len() == 1 { parts.swap_remove(0) } else { parts.concat() };
    let found = predict(pixels)?;
    ensure!(found.probabilities.len() == images * found.classes, "the model returned another number of predictions");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A model whose two probabilities of an image are its first pixel and that plus 0.5.
    fn first_pixels(pixels: Vec<u8>) -> Result<Predictions> {
        let firsts = pixels.iter().step_by(PIXELS).map(|pixel| f32::from(*pixel));
        let probabilities: Vec<f32> = firsts.flat_map(|first| [first, first + 0.5]).collect();
        Ok(Predictions { logits: probabilities.clone(), probabilities, classes: 2 })
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn start(predict: impl Fn(Vec<u8>) -> Result<Predictions> + Send + 'static, wait: u64) -> Batcher {
        let limits = BatchLimits { images: 4, wait: Duration::from_millis(wait) };
        let (log, _) = AccessLog::start(false).unwrap();
        Batcher::start(predict, limits, &Arc::new(Metrics::new()), &log).unwrap().0
    }

    #[test]
    fn each_job_gets_its_own_predictions() {
        let mut replies = Vec::new();
        let mut batch = Vec::new();
        for (first, images) in [(10, 1), (20, 2), (30, 1)] {
            let pixels = (0..images).flat_map(|image| vec![first + image; PIXELS]).collect();
            let (reply, receiver) = oneshot::channel();
            batch.push(Job { pixels, reply });
            replies.push(receiver);
        }
        // The client of the second job has gone.
        drop(replies.remove(1));
        run(first_pixels, batch, &Metrics::new()).unwrap();
        let found: Vec<_> = replies.into_iter().map(|reply| block_on(reply).unwrap().unwrap()).collect();
        assert_eq!(found, [[10.0, 10.5], [30.0, 30.5]]);
    }

    #[test]
    fn more_images_than_a_batch_come_back_in_their_order() {
        let batcher = start(first_pixels, 0);
        let pixels: Vec<u8> = (0..10).flat_map(|image| vec![image; PIXELS]).collect();
        let found = block_on(batcher.predict(pixels, None)).unwrap();
        let expected: Vec<f32> = (0..10).flat_map(|image| [image as f32, image as f32 + 0.5]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn announced_images_share_a_batch() {
        let batcher = start(first_pixels, 60_000);
        let (one, two) = (batcher.announce(), batcher.announce());
        block_on(async {
            let first = batcher.predict(vec![1; PIXELS], one);
            let second = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                batcher.predict(vec![2; PIXELS], two).await
            };
            let (first, second) = tokio::join!(first, second);
            assert_eq!((first.unwrap(), second.unwrap()), (vec![1.0, 1.5], vec![2.0, 2.5]));
        });
        let text = batcher.metrics.text();
        assert!(text.contains("grimace_batch_images_count 1\n"), "{text}");
    }

    #[test]
    fn failed_batches_are_counted_until_one_succeeds() {
        let batcher = start(|pixels| if pixels[0] == 0 { anyhow::bail!("broken") } else { first_pixels(pixels) }, 0);
        for failed in 1..=2 {
            assert_eq!(block_on(batcher.predict(vec![0; PIXELS], None)).unwrap_err().status, 500);
            // The reply comes before the count.
            while batcher.failed_batches() < failed {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        block_on(batcher.predict(vec![1; PIXELS], None)).unwrap();
        while batcher.failed_batches() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(batcher.is_alive());
    }

    #[test]
    fn the_end_of_the_thread_is_noticed() {
        let batcher = start(|_| panic!("a panic of the model"), 0);
        assert_eq!(block_on(batcher.predict(vec![0; PIXELS], None)).unwrap_err().status, 500);
        block_on(async { tokio::time::timeout(Duration::from_secs(30), batcher.ended()).await }).unwrap();
        assert!(!batcher.is_alive());
        assert_eq!(block_on(batcher.predict(vec![0; PIXELS], None)).unwrap_err().status, 500);
    }
}
