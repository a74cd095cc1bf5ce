//! Writes checkpoints and metrics: at once on the CPU, in a thread while a GPU trains on.
//!
//! Either way the files are written one after another in the order in which they are submitted, and
//! none after one that failed, so a process that dies leaves the same states behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use tch::Device;

use super::event_log::EventLog;
use crate::config::Config;
use crate::metrics::epoch::EpochMetrics;
use crate::run_dir::RunDir;
use crate::run_dir::checkpoint::{self, NamedTensors, State};

/// Files that may wait for the thread: those of one epoch, which share their tensors. With shorter
/// intervals as many states may wait in the memory of the host. Then training waits.
const QUEUE: usize = 4;

/// A file of a run, or several.
#[derive(Debug)]
pub enum Write {
    /// `best.safetensors`
    Best(State, NamedTensors),
    /// `last.safetensors` and `previous.safetensors`
    Last(State, NamedTensors),
    /// `rollback.safetensors`
    KeepForRollback,
    /// `metrics.jsonl` and TensorBoard: the metrics in the state, then those of epochs still to be
    /// replayed.
    Metrics(State, Vec<EpochMetrics>),
    /// The end of the TensorBoard log of a finished run.
    Finish,
}

/// Writes the files of a run.
#[derive(Debug)]
struct Files {
    dir: RunDir,
    config: Config,
    config_toml: String,
    events: EventLog,
}

impl Files {
    fn write(&mut self, write: &Write) -> Result<()> {
        match write {
            Write::Best(state, tensors) => {
                checkpoint::save(&self.dir.best_safetensors(), &self.config_toml, state, tensors)
            }
            Write::Last(state, tensors) => self.dir.save_last(&self.config_toml, state, tensors),
            Write::KeepForRollback => self.dir.keep_for_rollback(),
            Write::Metrics(state, replayed) => {
                self.dir.write_metrics(state.records.iter().chain(replayed))?;
                self.events.sync(self.dir.path(), &self.config, state)
            }
            Write::Finish => self.events.finish(),
        }
    }
}

/// What the thread receives.
enum Message {
    Write(Box<Write>),
    /// Asks for an answer when all before it is written.
    Flush(SyncSender<()>),
}

/// Writes the files of a run in order.
#[derive(Debug)]
pub enum CheckpointWriter {
    /// In the calling thread.
    Inline(Box<Inline>),
    /// In a thread of its own.
    Background(Background),
}

/// Writes at once.
#[derive(Debug)]
pub struct Inline(Files);

/// The thread that writes, and the way to it. Dropping it waits for the files.
#[derive(Debug)]
pub struct Background {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    /// Set by the thread when it ends because of an error.
    failure: Arc<Failure>,
}

#[derive(Debug, Default)]
struct Failure {
    has_failed: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

impl CheckpointWriter {
    /// Prepares to write the run in `dir`, which this process has locked, while `device` trains.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(dir: &RunDir, config: &Config, device: Device) -> Result<Self> {
        let (dir, config_toml) = (dir.without_lock(), config.to_toml()?);
        let files = Files { dir, config: config.clone(), config_toml, events: EventLog::default() };
        if device == Device::Cpu {
            return Ok(Self::Inline(Box::new(Inline(files))));
        }
        Background::start(files).map(Self::Background)
    }

    /// Writes a file, or has it written. Waits if too many files are waiting.
    ///
    /// # Errors
    /// An I/O error with the path, of this file or one submitted before.
    pub fn submit(&mut self, write: Write) -> Result<()> {
        match self {
            Self::Inline(inline) => inline.0.write(&write),
            Self::Background(background) => background.send(Message::Write(Box::new(write))),
        }
    }

    /// Whether all files that the thread has got to could be written. Costs nothing.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Inline(_) => Ok(()),
            Self::Background(background) => background.check(),
        }
    }

    /// Waits until all files are on disk.
    ///
    /// # Errors
    /// The first I/O error, with the path.
    pub fn flush(&self) -> Result<()> {
        match self {
            Self::Inline(_) => Ok(()),
            Self::Background(background) => background.flush(),
        }
    }
}

impl Background {
    fn start(mut files: Files) -> Result<Self> {
        let (sender, receiver) = sync_channel::<Message>(QUEUE);
        let failure = Arc::new(Failure::default());
        let own = Arc::clone(&failure);
        let work = move || {
            for message in receiver {
                match message {
                    Message::Write(write) => {
                        if let Err(error) = files.write(&write) {
                            own.fail(error);
                            // Nothing is written after a failure, and nothing can be sent.
                            return;
                        }
                    }
                    // The one who asked may be gone.
                    Message::Flush(answer) => drop(answer.send(())),
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(work)?;
        Ok(Self { sender: Some(sender), thread: Some(thread), failure })
    }

    fn check(&self) -> Result<()> {
        if self.failure.has_failed.load(Ordering::Acquire) { Err(self.failure.take()) } else { Ok(()) }
    }

    fn send(&self, message: Message) -> Result<()> {
        self.check()?;
        let sender = self.sender.as_ref().ok_or_else(|| self.failure.take())?;
        sender.send(message).map_err(|_| self.failure.take())
    }

    fn flush(&self) -> Result<()> {
        let (answer, result) = sync_channel(1);
        self.send(Message::Flush(answer))?;
        result.recv().map_err(|_| self.failure.take())
    }
}

impl Failure {
    fn fail(&self, error: anyhow::Error) {
        if let Ok(mut own) = self.error.lock() {
            *own = Some(error);
        }
        self.has_failed.store(true, Ordering::Release);
    }

    /// The error for which the thread has ended; the first caller gets it with its cause.
    fn take(&self) -> anyhow::Error {
        let error = self.error.lock().ok().and_then(|mut error| error.take());
        error.unwrap_or_else(|| anyhow!("the thread that writes checkpoints has stopped"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;
    use tch::{Kind, Tensor};

    const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";

    fn last(step: u64) -> Write {
        let tensors = vec![("a".to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu)))];
        Write::Last(State { step, ..State::default() }, tensors)
    }

    #[test]
    fn a_thread_writes_the_same_files_in_order() {
        for device in [Device::Cpu, Device::Cuda(0)] {
            let folder = tempfile::tempdir().unwrap();
            let dir = RunDir::create(&folder.path().join("run")).unwrap();
            let config: Config = from_text(CONFIG, "x.toml").unwrap();
            let mut writer = CheckpointWriter::new(&dir, &config, device).unwrap();
            assert_eq!(matches!(writer, CheckpointWriter::Background(_)), device != Device::Cpu);
            (1..=20).for_each(|step| writer.submit(last(step)).unwrap());
            writer.submit(Write::KeepForRollback).unwrap();
            writer.flush().unwrap();
            let step = |path: &std::path::Path| checkpoint::load(path).unwrap().state.step;
            assert_eq!(step(&dir.last_safetensors()), 20, "{device:?}");
            assert_eq!(step(&dir.previous_safetensors()), 19, "{device:?}");
            assert_eq!(step(&dir.rollback_safetensors()), 20, "{device:?}");
            // Dropping waits for what was submitted.
            writer.submit(last(21)).unwrap();
            drop(writer);
            assert_eq!(step(&dir.last_safetensors()), 21, "{device:?}");
        }
    }

    #[test]
    fn an_error_of_the_thread_is_reported_and_nothing_is_written_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(&folder.path().join("run")).unwrap();
        let config: Config = from_text(CONFIG, "x.toml").unwrap();
        let mut writer = CheckpointWriter::new(&dir, &config, Device::Cuda(0)).unwrap();
        // A state that is invalid, since it has no records of its epochs.
        writer.submit(Write::Best(State { epoch: 3, ..State::default() }, Vec::new())).unwrap();
        let message = format!("{:#}", writer.flush().unwrap_err());
        assert!(message.contains("its records do not match its epochs"), "{message}");
        assert!(writer.check().is_err() && writer.submit(last(1)).is_err() && writer.flush().is_err());
        assert!(!dir.last_safetensors().exists(), "it would refer to the best that failed");
        // Without waiting for the file either.
        let mut writer = CheckpointWriter::new(&dir, &config, Device::Cuda(0)).unwrap();
        assert!(writer.check().is_ok());
        writer.submit(Write::Best(State { epoch: 3, ..State::default() }, Vec::new())).unwrap();
        let start = std::time::Instant::now();
        while writer.check().is_ok() {
            assert!(start.elapsed().as_secs() < 60, "the error is never reported");
            std::thread::yield_now();
        }
    }
}
