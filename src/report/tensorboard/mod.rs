//! Event files for TensorBoard. Field numbers are those of tensorboard/compat/proto/event.proto and
//! summary.proto.

mod hparams;
mod message;
mod tfrecord;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use self::message::Message;
use self::tfrecord::tfrecord;
use crate::metrics::epoch::EpochMetrics;
use crate::run_dir::{event_file_name, event_files};
use crate::util::files::check_output_file;

pub use hparams::{HparamValue, config_hparams};

const VALIDATION_LOSS: &str = "loss/validation";
const VALIDATION_ACCURACY: &str = "accuracy/validation";

/// `SessionLog.START`.
const START: i64 = 1;
/// `Summary.Image.colorspace`. TensorBoard ignores it and decodes the PNG.
const RGB: i64 = 3;

/// An event file that grows while TensorBoard reads it. Every event is one write.
#[derive(Debug)]
pub struct EventFile {
    file: fs::File,
    /// Start of the run, in seconds since 1970.
    start: f64,
    /// Time of the newest event, in seconds since 1970.
    time: f64,
}

impl EventFile {
    /// Creates an event file in `folder` for a run that started at `start`, in seconds since 1970.
    /// Clears the event files that earlier runs of this program left there, because this one will
    /// hold the complete run.
    ///
    /// # Errors
    /// I/O errors; a path of an earlier event file that is no regular file.
    pub fn create(folder: &Path, start: f64) -> Result<Self> {
        let mut earlier = event_files(folder)?;
        earlier.iter().try_for_each(|(_, path)| check_output_file(path))?;
        let mut seconds = start as u64;
        // A TensorBoard that has the newest file open moves on to a later name, but not from a
        // deleted file: truncate it.
        if let Some((newest, path)) = earlier.pop() {
            fs::OpenOptions::new().write(true).truncate(true).open(path)?;
            seconds = seconds.max(newest.saturating_add(1));
        }
        earlier.iter().try_for_each(|(_, path)| fs::remove_file(path))?;
        let path = folder.join(event_file_name(seconds));
        let file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut events = Self { file, start, time: start };
        events.write(&event(start, 0).text(3, "brain.Event:2"))?;
        // Makes TensorBoard discard what it has read from earlier files.
        events.write(&event(start, 0).message(7, &Message::default().int(1, START)))?;
        Ok(events)
    }

    /// Opens the newest event file in `folder` to append events of `time`; `None` if there is
    /// none.
    pub fn reopen(folder: &Path, time: f64) -> Result<Option<Self>> {
        let Some((_, path)) = event_files(folder)?.pop() else { return Ok(None) };
        check_output_file(&path)?;
        let file = fs::OpenOptions::new().append(true).open(path)?;
        Ok(Some(Self { file, start: time, time }))
    }

    /// Appends the metrics of an epoch that ended at `time`.
    pub fn epoch(&mut self, record: &EpochMetrics, time: f64) -> Result<()> {
        let metrics = [
            ("loss/train", Some(record.loss)),
            (VALIDATION_LOSS, Some(record.val_loss)),
            ("accuracy/train", Some(record.accuracy)),
            (VALIDATION_ACCURACY, Some(record.val_accuracy)),
            ("accuracy/validation_dedup", record.val_accuracy_dedup),
            ("macro_f1/validation", record.val_macro_f1),
            ("learning_rate", Some(record.lr)),
            ("images_per_second", Some(record.images_per_second)),
        ];
        let known = metrics.into_iter().filter_map(|(tag, value)| Some((tag, value?)));
        let values = known.map(|(tag, value)| Message::default().text(1, tag).float(2, value as f32));
        self.time = time;
        self.summary(i64::from(record.epoch), values)
    }

    /// Appends the hyperparameters of the run, for TensorBoard's HParams dashboard.
    pub fn hparams(&mut self, values: &[(String, HparamValue)]) -> Result<()> {
        self.summary(0, [hparams::session_start(values, self.start)])
    }

    /// Appends the end of the run.
    pub fn end(&mut self) -> Result<()> {
        self.summary(0, [hparams::session_end(self.time)])
    }

    /// Appends an image, a PNG.
    ///
    /// # Errors
    /// I/O errors; bytes that are not a PNG.
    pub fn image(&mut self, tag: &str, png: &[u8], step: i64) -> Result<()> {
        let (width, height) = png_size(png).context("an image for TensorBoard is not a PNG")?;
        let size = Message::default().int(1, i64::from(height)).int(2, i64::from(width));
        let image = size.int(3, RGB).bytes(4, png);
        self.summary(step, [Message::default().text(1, tag).message(4, &image)])
    }

    /// Appends an event with several `Summary.Value`s.
    fn summary(&mut self, step: i64, values: impl IntoIterator<Item = Message>) -> Result<()> {
        let add = |summary: Message, value: Message| summary.message(1, &value);
        let summary = values.into_iter().fold(Message::default(), add);
        self.write(&event(self.time, step).message(5, &summary))
    }

    fn write(&mut self, event: &Message) -> Result<()> {
        Ok(self.file.write_all(&tfrecord(event.encoded()))?)
    }
}

/// Width and height, from a PNG's first chunk.
fn png_size(png: &[u8]) -> Option<(u32, u32)> {
    let edge = |start| Some(u32::from_be_bytes(*png.get(start..)?.first_chunk()?));
    png.starts_with(b"\x89PNG").then(|| Some((edge(16)?, edge(20)?)))?
}

/// An `Event` with time and step only.
fn event(time: f64, step: i64) -> Message {
    Message::default().double(1, time).int(2, step)
}

#[cfg(test)]
mod tests {
    use super::message::reader::{Field, all, fields, one};
    use super::tfrecord::tfrecords;
    use super::*;

    fn example(epoch: u32) -> EpochMetrics {
        EpochMetrics {
            epoch,
            lr: 1e-3,
            loss: 1.5,
            accuracy: 0.5,
            val_loss: 1.25,
            val_accuracy: 0.0,
            val_accuracy_dedup: (epoch > 1).then_some(0.375),
            val_macro_f1: (epoch > 1).then_some(0.25),
            seconds: 2.0,
            images_per_second: 100.0,
        }
    }

    /// The events of the only event file in a folder.
    fn events(folder: &Path) -> Vec<Vec<(u32, Field)>> {
        let files = event_files(folder).unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        tfrecords(&fs::read(&files[0].1).unwrap()).iter().map(|record| fields(record)).collect()
    }

    /// Tags and values of an event.
    fn values(event: &[(u32, Field)]) -> Vec<(String, Vec<(u32, Field)>)> {
        let summary = one(event, 5).message();
        let read = all(&summary, 1).into_iter().map(Field::message);
        read.map(|value| (one(&value, 1).text().to_owned(), value)).collect()
    }

    #[test]
    fn written_events_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 1.7e9).unwrap();
        file.hparams(&[("a.b".into(), HparamValue::Number(0.0)), ("c".into(), HparamValue::Flag(false))]).unwrap();
        file.epoch(&example(1), 1.7e9 + 2.0).unwrap();
        file.epoch(&example(2), 1.7e9 + 4.0).unwrap();
        let png = crate::report::png_encoding::encode_rgb(30, 20, &[7; 30 * 20 * 3]).unwrap();
        file.image("sheet", &png, 2).unwrap();
        assert!(file.image("sheet", b"GIF89a", 2).is_err());
        file.end().unwrap();

        let events = events(folder.path());
        assert_eq!(events.len(), 7);
        assert_eq!(one(&events[0], 3).text(), "brain.Event:2");
        assert_eq!(one(&events[1], 7).message(), [(1, Field::Number(1))]);
        let times: Vec<f64> = events.iter().map(|event| f64::from_bits(one(event, 1).number()) - 1.7e9).collect();
        assert_eq!(times, [0.0, 0.0, 0.0, 2.0, 4.0, 4.0, 4.0]);
        let steps: Vec<u64> = events.iter().map(|event| one(event, 2).number()).collect();
        assert_eq!(steps, [0, 0, 0, 1, 2, 2, 0]);

        let first: Vec<(String, f32)> = values(&events[3])
            .into_iter()
            .map(|(tag, value)| (tag, f32::from_bits(one(&value, 2).number() as u32)))
            .collect();
        let wanted = [
            ("loss/train", 1.5),
            ("loss/validation", 1.25),
            ("accuracy/train", 0.5),
            ("accuracy/validation", 0.0),
            ("learning_rate", 1e-3),
            ("images_per_second", 100.0),
        ];
        assert_eq!(first, wanted.map(|(tag, value)| (tag.to_owned(), value)));
        let second = values(&events[4]);
        let is_written = |name: &str| second.iter().any(|(tag, _)| tag == name);
        assert!(is_written("accuracy/validation_dedup") && is_written("macro_f1/validation") && second.len() == 8);

        let (tag, image) = values(&events[5]).remove(0);
        assert_eq!(tag, "sheet");
        let numbers = [(1, Field::Number(20)), (2, Field::Number(30)), (3, Field::Number(3))];
        assert_eq!(one(&image, 4).message(), [&numbers[..], &[(4, Field::Bytes(png))]].concat());

        let tags: Vec<String> = values(&events[2]).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["_hparams_/session_start_info"]);
    }

    #[test]
    fn an_earlier_file_is_replaced_by_one_with_a_later_name() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("events.out.tfevents.1700000000.host.1.0");
        fs::write(&foreign, "theirs").unwrap();
        // The seconds in the names of event files, and whether there is something in them.
        let create = |start| {
            drop(EventFile::create(folder.path(), start).unwrap());
            let files = event_files(folder.path()).unwrap().into_iter();
            files.map(|(seconds, path)| (seconds, fs::metadata(path).unwrap().len() > 0)).collect::<Vec<_>>()
        };
        assert_eq!(create(1.7e9), [(1_700_000_000, true)]);
        assert_eq!(create(1.7e9), [(1_700_000_000, false), (1_700_000_001, true)], "truncated, for its readers");
        assert_eq!(
            create(1.6e9),
            [(1_700_000_001, false), (1_700_000_002, true)],
            "also with a clock that went backwards"
        );
        assert!(foreign.exists(), "another program's file stays");

        fs::create_dir(folder.path().join(event_file_name(5))).unwrap();
        let message = format!("{:#}", EventFile::create(folder.path(), 1.7e9).unwrap_err());
        assert!(message.contains(&event_file_name(5)) && message.contains("is a folder"), "{message}");
    }
}
