//! The images that wait for the model, and which of them make a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::data::images::PIXELS;

/// What the thread of the model receives.
#[derive(Debug)]
pub(super) enum Message {
    Job(Job),
    /// Images that were announced have arrived, or will not come.
    Arrived,
}

/// Images of one request, and where their probabilities go. `None` is a failure, which is logged.
#[derive(Debug)]
pub(super) struct Job {
    pub pixels: Vec<u8>,
    pub reply: oneshot::Sender<Option<Vec<f32>>>,
}

impl Job {
    pub fn images(&self) -> usize {
        self.pixels.len() / PIXELS
    }
}

/// When a batch is complete.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Maximum number of images.
    pub images: usize,
    /// Maximum wait for images that are being decoded.
    pub wait: Duration,
}

/// Images that are about to come. On drop, the model stops waiting for them.
#[derive(Debug)]
pub(super) struct Pending {
    count: Arc<AtomicUsize>,
    jobs: Sender<Message>,
}

impl Pending {
    pub fn new(count: &Arc<AtomicUsize>, jobs: &Sender<Message>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(count), jobs: jobs.clone() }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        // Without the thread, nobody waits.
        let _ = self.jobs.send(Message::Arrived);
    }
}

/// The jobs that wait.
#[derive(Debug)]
pub(super) struct Queue {
    pub jobs: Receiver<Message>,
    /// A job that did not fit into the last batch.
    pub next: Option<Job>,
    pub limits: BatchLimits,
    pub pending: Arc<AtomicUsize>,
}

impl Queue {
    /// The jobs of the next batch; waits for the first one. `None` after the last job, when no handle
    /// is left.
    pub fn collect(&mut self) -> Option<Vec<Job>> {
        let first = match self.next.take() {
            Some(job) => job,
            None => self.first()?,
        };
        let mut images = first.images();
        let mut batch = vec![first];
        let deadline = Instant::now() + self.limits.wait;
        while images < self.limits.images {
            let Some(job) = self.receive(deadline) else { break };
            images += job.images();
            if images > self.limits.images {
                self.next = Some(job);
                break;
            }
            batch.push(job);
        }
        Some(batch)
    }

    /// Waits for a job.
    fn first(&self) -> Option<Job> {
        loop {
            if let Message::Job(job) = self.jobs.recv().ok()? {
                return Some(job);
            }
        }
    }

    /// A further job: one that is there, or, until `deadline`, one that was announced.
    fn receive(&self, deadline: Instant) -> Option<Job> {
        loop {
            match self.jobs.try_recv() {
                Ok(Message::Job(job)) => return Some(job),
                Ok(Message::Arrived) => continue,
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.pending.load(Ordering::Relaxed) == 0 {
                return None;
            }
            match self.jobs.recv_timeout(left) {
                Ok(Message::Job(job)) => return Some(job),
                Ok(Message::Arrived) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn queue(images: usize, wait: u64) -> (Sender<Message>, Queue) {
        let (sender, jobs) = channel();
        let limits = BatchLimits { images, wait: Duration::from_millis(wait) };
        (sender, Queue { jobs, next: None, limits, pending: Arc::default() })
    }

    fn job(images: usize) -> Message {
        Message::Job(Job { pixels: vec![0; images * PIXELS], reply: oneshot::channel().0 })
    }

    #[test]
    fn batches_take_what_is_there_up_to_their_size() {
        let (sender, mut queue) = queue(4, 60_000);
        for images in [1, 2, 2, 9, 1] {
            sender.send(job(images)).unwrap();
        }
        drop(sender);
        let mut sizes = || queue.collect().map(|batch| batch.iter().map(Job::images).collect::<Vec<_>>());
        // A job is never split here, and one of more images than a batch is alone.
        assert_eq!(sizes(), Some(vec![1, 2]));
        assert_eq!(sizes(), Some(vec![2]));
        assert_eq!(sizes(), Some(vec![9]));
        assert_eq!(sizes(), Some(vec![1]));
        assert_eq!(sizes(), None);
    }

    #[test]
    fn a_batch_waits_only_for_images_that_are_pending() {
        let (sender, mut queue) = queue(4, 60_000);
        sender.send(job(1)).unwrap();
        let start = Instant::now();
        assert_eq!(queue.collect().unwrap().len(), 1);
        let pending = Pending::new(&queue.pending, &sender);
        sender.send(job(1)).unwrap();
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            sender.send(job(1)).unwrap();
            drop(pending);
            sender
        });
        assert_eq!(queue.collect().unwrap().len(), 2);
        let sender = later.join().unwrap();
        // An image that turns out not to come ends the wait.
        let pending = Pending::new(&queue.pending, &sender);
        sender.send(job(1)).unwrap();
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(pending);
        });
        assert_eq!(queue.collect().unwrap().len(), 1);
        later.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "a batch waits for nothing");
    }
}
