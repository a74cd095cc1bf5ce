//! Fuzz targets: each processes an input and panics when an invariant is violated.
//!
//! `fuzz_targets/` passes these functions to libFuzzer; `tests/it/fuzz.rs` runs them on the corpus
//! and on mutations of it in every test run. Inputs are short texts if possible; README.md
//! describes them.

mod assemble;
mod images;
mod packed;
mod picture;
mod weights;

use std::collections::BTreeSet;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use grimace::config::{Config, ConfigFile};
use grimace::data::advice::Advice;
use grimace::data::config::OnBadRow;
use grimace::data::config::{CLASSES, check_classes};
use grimace::data::images::{Images, PIXELS};
use grimace::data::label_map::{LabelMap, LabelNames};
use grimace::data::labels;
use grimace::data::read_options::LabelPolicy;
use grimace::data::soft_labels::VoteFile;
use grimace::forest::config::ForestConfig;
use grimace::inference::submission;
use grimace::metrics::predictions::Predictions;
use grimace::model::{Mode, Net};
use grimace::run_dir::checkpoint;
use grimace::run_dir::checkpoint::Checkpoint;
use grimace::util::error::is_input;
use grimace::{config, forest};
use tch::{Device, Kind, Tensor};

use assemble::{checkpoint_from_text, container_from_text, forest_from_text};
use images::{content, read_images, texts, with_bad_row, with_images};
pub use packed::packed;
pub use picture::picture;
pub use weights::weights;

/// A CSV of images. The first byte is the mode, then there may be a line `map ` with a label map; the
/// rest is the file.
///
/// A valid file reads the same with `skip`, and the fast and the row-by-row reader agree on every
/// row.
pub fn csv(data: &[u8]) {
    let Some((mode, text)) = data.split_first() else { return };
    let labels = [LabelPolicy::Required, LabelPolicy::Optional, LabelPolicy::Ignored]
        .into_iter()
        .cycle()
        .nth(usize::from(mode % 3));
    let labels = labels.unwrap_or(LabelPolicy::Required);
    let (names, text) = split_label_map(text, &CLASSES.map(String::from));
    let text = if mode / 3 % 2 == 0 { with_images(text) } else { text.to_vec() };
    let strict = read_images(&text, labels, OnBadRow::Error, &names);
    let lenient = read_images(&text, labels, OnBadRow::Skip, &names);
    match (&strict, &lenient) {
        (Ok(strict), Ok(lenient)) => {
            assert_eq!((strict.skipped.count(), lenient.skipped.count()), (0, 0));
            assert!(content(strict) == content(lenient), "a valid file reads differently with skip");
        }
        (Err(error), Ok(lenient)) => {
            assert!(lenient.skipped.count() > 0, "no row was skipped, but without skip: {error:#}")
        }
        (Ok(_), Err(error)) => panic!("a valid file is refused with skip: {error:#}"),
        (Err(strict), Err(lenient)) => assert_eq!(without_path(strict), without_path(lenient)),
    }
    // A file with a bad row is read row by row; polars may read the same rows without it.
    if let (Ok(strict), Some(with_bad)) = (&strict, with_bad_row(&text)) {
        let mut slow = read_images(&with_bad, labels, OnBadRow::Skip, &names).expect("the header is the same");
        assert_eq!(slow.skipped.count(), 1, "{:?}", slow.skipped.kept());
        slow.rows.iter_mut().for_each(|row| *row -= 1);
        assert!(content(strict) == content(&slow), "fast {:.80?}\nslow {:.80?}", texts(strict), texts(&slow));
    }
}

/// A CSV that is stored in some way. The first byte is how: `0` a file, verbatim; `1` gzip, `2` zip
/// or `3` UTF-16 of the text in the rest, with images as in `csv`.
///
/// However it is stored, a text is read as the plain file is; a damaged archive is an input error.
pub fn archive(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let labels = LabelPolicy::Optional;
    let names = LabelNames::Classes;
    let text = with_images(rest);
    let stored = match mode % 4 {
        0 => return drop(read_images(rest, labels, OnBadRow::Error, &names)),
        1 => gzip(&text),
        2 => zip_with(&text),
        _ => match std::str::from_utf8(&text) {
            // Zeros may make the text look like UTF-16.
            Ok(text) if !text.contains('\0') => {
                std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
            }
            _ => return,
        },
    };
    match (read_images(&text, labels, OnBadRow::Error, &names), read_images(&stored, labels, OnBadRow::Error, &names)) {
        (Ok(plain), Ok(stored)) => assert!(content(&plain) == content(&stored), "stored differently, read differently"),
        (Err(_), Err(_)) => {}
        // The text may itself be an archive, and only one layer is read.
        (Ok(_), Err(error)) => assert!(format!("{error:#}").contains("twice"), "readable only when plain: {error:#}"),
        // The kind of a file is detected before UTF-16 is decoded.
        (Err(error), Ok(_)) => assert!(mode % 4 == 3, "readable only when stored: {error:#}"),
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory can be written to")
}

fn zip_with(text: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("x.csv", zip::write::SimpleFileOptions::default()).expect("memory can be written to");
    writer.write_all(text).expect("memory can be written to");
    writer.finish().expect("memory can be written to").into_inner()
}

/// The label map in a first line `map ...`, and the text after it. One that a config would refuse is
/// dropped.
fn split_label_map<'a>(text: &'a [u8], classes: &[String]) -> (LabelNames, &'a [u8]) {
    let split = || {
        let rest = text.strip_prefix(b"map ")?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let names = LabelNames::parse(std::str::from_utf8(rest.get(..end)?).ok()?).ok()?;
        names.check(classes, Advice::Config).ok()?;
        Some((names, rest.get(end + 1..)?))
    };
    split().unwrap_or((LabelNames::Classes, text))
}

/// A config and overrides: the text up to the first line that starts with `--set ` is the file, the
/// rest is one `key=value` per `--set `.
///
/// A config that is accepted, for a network or a forest, with or without overrides, round-trips.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        let file = Scratch::new(data);
        return assert_input_error(
            &config::load::<Config>(&file.0, &[]).expect_err("a config must be UTF-8"),
            &[&file.name()],
        );
    };
    let mut parts = text.split("\n--set ");
    let text = parts.next().unwrap_or_default();
    let sets: Vec<String> = parts.map(str::to_owned).collect();
    load_as(text, &sets, |config: &Config| config.to_toml());
    load_as(text, &sets, |config: &ForestConfig| config.to_toml());
}

fn load_as<C: ConfigFile + PartialEq>(text: &str, sets: &[String], to_toml: impl Fn(&C) -> Result<String>) {
    let assert_round_trip = |config: C| {
        let text = to_toml(&config).expect("a checked config can be serialized");
        assert!(config::from_text::<C>(&text, "again").expect(&text) == config, "{text}");
    };
    match config::from_text(text, "config.toml") {
        Ok(config) => assert_round_trip(config),
        Err(error) => assert_input_error(&error, &["config.toml"]),
    }
    let file = Scratch::new(text.as_bytes());
    match config::load(&file.0, sets) {
        Ok(config) => assert_round_trip(config),
        Err(error) => assert_input_error(&error, &[&file.name(), "--set "]),
    }
}

/// A checkpoint: raw, or built with a valid checksum.
///
/// A checkpoint that is accepted round-trips bit for bit. If its network is small, the network runs
/// with its tensors or refuses them.
pub fn checkpoint(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => container_from_text(rest),
        _ => checkpoint_from_text(&String::from_utf8_lossy(rest)),
    };
    let read = checkpoint::from_bytes(&bytes);
    let file = Scratch::new(&bytes);
    match (checkpoint::load(&file.0), &read) {
        (Ok(_), Ok(_)) => {}
        (Err(error), Err(_)) => assert_input_error(&error, &[&file.name()]),
        (file, bytes) => panic!("as a file {:?}, as bytes {:?}", file.map(drop), bytes.as_ref().map(drop)),
    }
    let Ok(checkpoint) = read else { return };
    let again = checkpoint::to_bytes(&checkpoint.config, &checkpoint.state, &checkpoint.tensors)
        .and_then(|bytes| checkpoint::from_bytes(&bytes))
        .expect("a valid file round-trips");
    assert!(again.config == checkpoint.config && again.state == checkpoint.state);
    assert!(bits(&again) == bits(&checkpoint));
    match config::from_text(&checkpoint.config, "best.safetensors") {
        Ok(config) if is_small(&config) => assert_runs_or_refuses(&config, &checkpoint),
        Ok(_) => {}
        Err(error) => assert_input_error(&error, &["best.safetensors"]),
    }
}

/// A fitted forest: raw, or built with a valid checksum.
///
/// A forest that is accepted round-trips, and every path through its trees ends at a leaf with
/// votes.
pub fn forest(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => container_from_text(rest),
        _ => forest_from_text(&String::from_utf8_lossy(rest)),
    };
    let read = forest::from_bytes(&bytes);
    let file = Scratch::new(&bytes);
    match (forest::load(&file.0), &read) {
        (Ok(_), Ok(_)) => {}
        (Err(error), Err(_)) => assert_input_error(&error, &[&file.name()]),
        (file, bytes) => panic!("as a file {:?}, as bytes {:?}", file.map(drop), bytes.as_ref().map(drop)),
    }
    let Ok((forest, config, origin)) = read else { return };
    let text = config.to_toml().expect("a checked config can be serialized");
    let again = forest::to_bytes(&forest, &text, &origin).and_then(|bytes| forest::from_bytes(&bytes));
    assert!(again.expect("a valid file round-trips") == (forest.clone(), config, origin));
    let images: Vec<u8> =
        (0..3).flat_map(|image| (0..PIXELS).map(move |pixel| (image * 100 + pixel % 50) as u8)).collect();
    for votes in forest.probabilities(&images).chunks(forest.classes()) {
        let sum: f32 = votes.iter().sum();
        assert!((sum - 1.0).abs() < 1e-4 && votes.iter().all(|vote| *vote >= 0.0), "{votes:?}");
    }
}

/// A file of labels and the requested ids: a byte with the number of classes, the ids with a `|`
/// after each, a line break, the file. Classes are named `class 0`, `class 1` and so on. The file may
/// start with a label map, as in `csv`.
///
/// There are as many labels as ids, and without a map none is left out. A submission written for the ids round-trips.
pub fn labels(data: &[u8]) {
    let Some((classes, rest)) = data.split_first() else { return };
    let classes = usize::from(classes.wrapping_sub(b'0')).clamp(2, 100);
    let end = rest.windows(2).position(|pair| pair == b"|\n");
    let (ids, text) = end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 2..)?))).unwrap_or((b"", rest));
    let ids: Vec<String> = String::from_utf8_lossy(ids).split('|').map(|id| id.trim().to_owned()).collect();
    let names = class_names(classes);
    let (map, text) = split_label_map(text, &names);
    let file = Scratch::new(text);
    match labels::read_labels(&file.0, &ids, &LabelMap::new(&names, &map)) {
        Ok(labels) => {
            assert_eq!(labels.len(), ids.len());
            let is_valid = |label: &Option<u8>| label.map_or(!map.is_classes(), |label| usize::from(label) < classes);
            assert!(labels.iter().all(is_valid), "{labels:?}");
        }
        Err(error) => assert_input_error(&error, &[&file.name()]),
    }
    if ids.iter().collect::<BTreeSet<_>>().len() == ids.len() {
        assert_submission_round_trips(&file, &ids, classes, None);
        if check_classes(&ids).is_ok() {
            assert_submission_round_trips(&file, &ids, ids.len(), Some(&ids));
        }
    }
}

fn class_names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// A file of soft labels and the requested images: a byte with the number of classes, named `a`,
/// `b`, ..., the ids with a `|` after each, a line break, the file. An id may be followed by `@` and
/// a Usage. The file may start with a label map, as in `csv`.
///
/// Each image that is kept has a weight per class, and they sum to 1. Written as probabilities they round-trip,
/// except for rounding.
pub fn soft_labels(data: &[u8]) {
    let Some((classes, rest)) = data.split_first() else { return };
    let count = usize::from(classes.wrapping_sub(b'0')).clamp(2, 20);
    let classes: Vec<String> = ('a'..).take(count).map(String::from).collect();
    let end = rest.windows(2).position(|pair| pair == b"|\n");
    let (ids, text) = end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 2..)?))).unwrap_or((b"", rest));
    let ids = String::from_utf8_lossy(ids);
    let parts: Vec<(&str, Option<&str>)> =
        ids.split('|').map(|id| id.split_once('@').map_or((id, None), |(id, usage)| (id, Some(usage)))).collect();
    let rows: Vec<u32> = (0..).take(parts.len()).collect();
    let ids = Some(parts.iter().map(|(id, _)| id.trim().to_owned()).collect());
    let usages = parts.iter().map(|(_, usage)| usage.map(|usage| usage.trim().to_owned())).collect();
    let images = Images { file_rows: rows.len() as u32, rows, ids, usages, ..Images::default() };
    let (names, text) = split_label_map(text, &classes);
    let (file, train) = (Scratch::new(text), Path::new("train.csv"));
    let map = LabelMap::new(&classes, &names);
    let read = || VoteFile::read(&file.0, &map, &images, train);
    let (kept, soft) = match read().and_then(|votes| votes.select(&images, train)) {
        Ok(labeled) => (labeled.kept, labeled.soft),
        Err(error) => return assert_input_error(&error, &[&file.name(), "train.csv"]),
    };
    assert_eq!((soft.weights.len(), soft.classes), (kept.len() * count, count));
    assert!(kept.is_sorted_by(|a, b| a < b) && kept.iter().all(|row| *row < images.len()), "{kept:?}");
    for weights in soft.weights.chunks(count) {
        let sum: f32 = weights.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5 && weights.iter().all(|weight| *weight >= 0.0), "{weights:?}");
    }
    let predictions = Predictions { logits: soft.weights.clone(), probabilities: soft.weights.clone(), classes: count };
    let images = images.select(&kept);
    submission::write(&file.0, &images, &predictions, Some(&classes)).expect("predictions can be written");
    let map = LabelMap::new(&classes, &LabelNames::Classes);
    let again = VoteFile::read(&file.0, &map, &images, train).and_then(|votes| votes.select(&images, train));
    let again = again.expect("they were just written").soft;
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    assert!(again.weights.iter().zip(&soft.weights).all(is_near), "{again:?} instead of {soft:?}");
}

/// A temporary file for an input, in memory if possible; removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let name = format!("grimace-fuzz-{}-{}", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        let file = Self(folder.join(name));
        fs_err::write(&file.0, bytes).expect("a small file can be written");
        file
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs_err::remove_file(&self.0));
    }
}

/// Asserts that an error has exit code 2 and contains one of `names`.
fn assert_input_error(error: &anyhow::Error, names: &[&str]) {
    let message = format!("{error:#}");
    assert!(is_input(error), "not an input error: {message}");
    assert!(names.iter().any(|name| message.contains(name)), "none of {names:?} is in: {message}");
}

/// An error message without the name of the temporary file, which differs each time; a command in
/// it may repeat the name.
fn without_path(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    message.split_once(": ").map(|(path, text)| text.replace(path, "PATH")).unwrap_or_default()
}

/// The tensors of a checkpoint as bits, so that a NaN equals itself.
fn bits(checkpoint: &Checkpoint) -> Vec<(&str, Vec<i64>, Vec<u32>)> {
    let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).expect("float32 on the CPU");
    let bits = |tensor: &Tensor| values(tensor).into_iter().map(f32::to_bits).collect();
    checkpoint.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size(), bits(tensor))).collect()
}

/// Whether the network of a config is small enough to run.
fn is_small(config: &Config) -> bool {
    let classes = config.data.classes.len();
    config.model.values(classes) < 1 << 16 && config.model.activations() < 1 << 19
}

fn network(config: &Config) -> Net {
    Net::new(&config.model, config.data.classes.len(), 0, Device::Cpu).expect("a small network")
}

/// Asserts that the network computes logits with the tensors of the checkpoint, or that it names
/// the tensor that it refuses.
fn assert_runs_or_refuses(config: &Config, checkpoint: &Checkpoint) {
    let net = network(config);
    if let Err(error) = net.load_state_dict(&checkpoint.tensors) {
        return assert!(error.to_string().contains("tensor "), "{error:#}");
    }
    net.use_channels_last().expect("the memory format can be changed");
    let images = Tensor::ones([2, 1, 48, 48], (Kind::Float, Device::Cpu));
    let logits = tch::no_grad(|| net.forward(&images, Mode::Inference)).expect("a loaded network runs");
    assert_eq!(logits.size(), [2, config.data.classes.len() as i64]);
}

/// Asserts that a submission for these ids round-trips.
fn assert_submission_round_trips(file: &Scratch, ids: &[String], classes: usize, names: Option<&[String]>) {
    let labels: Vec<u8> = (0..ids.len()).map(|row| ((row * 7 + 1) % classes) as u8).collect();
    let mut probabilities = vec![0.0; ids.len() * classes];
    for (row, label) in probabilities.chunks_mut(classes).zip(&labels) {
        row.iter_mut().skip(usize::from(*label)).take(1).for_each(|likely| *likely = 1.0);
    }
    let images = Images { ids: Some(ids.to_vec()), rows: (0..).take(ids.len()).collect(), ..Images::default() };
    let predictions = Predictions { logits: probabilities.clone(), probabilities, classes };
    submission::write(&file.0, &images, &predictions, names).expect("a submission can be written");
    let labels: Vec<Option<u8>> = labels.into_iter().map(Some).collect();
    let read = labels::read_labels(&file.0, ids, &LabelMap::new(&class_names(classes), &LabelNames::Classes));
    assert_eq!(read.expect("a submission can be read"), labels, "{ids:?}");
}
