//! What each fuzz target does with an input, and what must hold afterwards: a target panics where it does not.
//!
//! `fuzz_targets/` hands these functions to libFuzzer; `tests/it/fuzz.rs` runs them over the corpus and mutations of it
//! in every test run. Inputs are text wherever they can be, and short; README.md beside this file tells their forms.

mod made;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use grimace::config::{Checked, Config};
use grimace::data::config::OnBadRow;
use grimace::data::config::{CLASSES, check_classes};
use grimace::data::csv::columns::{Labels, ReadOptions};
use grimace::data::csv::read_any;
use grimace::data::images::{ImageHash, Images, PIXELS};
use grimace::data::{labels, soft_labels};
use grimace::forest::config::ForestConfig;
use grimace::inference::submission;
use grimace::metrics::predictions::Predictions;
use grimace::model::{Mode, Net};
use grimace::run_dir::checkpoint;
use grimace::run_dir::checkpoint::Checkpoint;
use grimace::util::error::is_input;
use grimace::{config, forest};
use tch::{Device, Kind, Tensor};

use made::{assembled, grown, with_checksum};

/// A CSV of images. The first byte is the mode, the rest the file.
///
/// Skipping bad rows never gives less than stopping at them, and both ways of reading a file agree on every row.
pub fn csv(data: &[u8]) {
    let Some((mode, text)) = data.split_first() else { return };
    let labels = [Labels::Needed, Labels::IfPresent, Labels::Ignored].into_iter().cycle().nth(usize::from(mode % 3));
    let labels = labels.unwrap_or(Labels::Needed);
    let text = if mode / 3 % 2 == 0 { with_images(text) } else { text.to_vec() };
    let strict = read_images(&text, labels, OnBadRow::Error);
    let lenient = read_images(&text, labels, OnBadRow::Skip);
    match (&strict, &lenient) {
        (Ok(strict), Ok(lenient)) => {
            assert_eq!((strict.skipped.count(), lenient.skipped.count()), (0, 0));
            assert!(content(strict) == content(lenient), "with skip a good file reads otherwise");
        }
        (Err(error), Ok(lenient)) => assert!(lenient.skipped.count() > 0, "no row is bad, and yet: {error:#}"),
        (Ok(_), Err(error)) => panic!("a good file is refused under skip: {error:#}"),
        (Err(strict), Err(lenient)) => assert_eq!(without_path(strict), without_path(lenient)),
    }
    // A file with a bad row is read row by row; without it polars may read the same rows.
    if let (Ok(strict), Some(spoilt)) = (&strict, with_bad_row(&text)) {
        let mut slow = read_images(&spoilt, labels, OnBadRow::Skip).expect("the header is the same");
        assert_eq!(slow.skipped.count(), 1, "{:?}", slow.skipped.kept());
        slow.rows.iter_mut().for_each(|row| *row -= 1);
        assert!(content(strict) == content(&slow), "fast {:.80?}\nslow {:.80?}", texts(strict), texts(&slow));
    }
}

/// A config and what `--set` lays over it: a text, and from each line that begins with `--set ` on a `key=value`.
///
/// A config that is accepted, as a network's or as a forest's, is the same after being written and read again, whatever the sets.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        let file = Scratch::new(data);
        return refused(&config::load::<Config>(&file.0, &[]).expect_err("a config is UTF-8"), &[&file.shown()]);
    };
    let mut parts = text.split("\n--set ");
    let text = parts.next().unwrap_or_default();
    let sets: Vec<String> = parts.map(str::to_owned).collect();
    config_of_a_kind(text, &sets, |config: &Config| config.to_toml());
    config_of_a_kind(text, &sets, |config: &ForestConfig| config.to_toml());
}

fn config_of_a_kind<C: Checked + PartialEq>(text: &str, sets: &[String], written: impl Fn(&C) -> Result<String>) {
    let comes_back = |config: C| {
        let text = written(&config).expect("a checked config can be written");
        assert!(config::from_text::<C>(&text, "again").expect(&text) == config, "{text}");
    };
    match config::from_text(text, "config.toml") {
        Ok(config) => comes_back(config),
        Err(error) => refused(&error, &["config.toml"]),
    }
    let file = Scratch::new(text.as_bytes());
    match config::load(&file.0, sets) {
        Ok(config) => comes_back(config),
        Err(error) => refused(&error, &[&file.shown(), "--set "]),
    }
}

/// A checkpoint: raw, or put together here with a right checksum, so that what is behind the checksum is reached.
///
/// What is accepted is the same after being written and read again. Where its config is a small network, its tensors
/// make a network that runs, or are refused.
pub fn checkpoint(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => with_checksum(rest),
        _ => assembled(&String::from_utf8_lossy(rest)),
    };
    let read = checkpoint::from_bytes(&bytes);
    let file = Scratch::new(&bytes);
    match (checkpoint::load(&file.0), &read) {
        (Ok(_), Ok(_)) => {}
        (Err(error), Err(_)) => refused(&error, &[&file.shown()]),
        (file, bytes) => panic!("as a file {:?}, as bytes {:?}", file.map(drop), bytes.as_ref().map(drop)),
    }
    let Ok(checkpoint) = read else { return };
    let again = checkpoint::to_bytes(&checkpoint.config, &checkpoint.state, &checkpoint.tensors)
        .and_then(|bytes| checkpoint::from_bytes(&bytes))
        .expect("what was read can be written and read");
    assert!(again.config == checkpoint.config && again.state == checkpoint.state);
    assert!(bits(&again) == bits(&checkpoint));
    match config::from_text(&checkpoint.config, "best.safetensors") {
        Ok(config) if is_small(&config) => runs_or_is_refused(&config, &checkpoint),
        Ok(_) => {}
        Err(error) => refused(&error, &["best.safetensors"]),
    }
}

/// A fitted forest: raw, or put together here with a right checksum.
///
/// What is accepted is the same after being written and read again, and every walk through its trees ends at a leaf that has
/// a vote.
pub fn forest(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => with_checksum(rest),
        _ => grown(&String::from_utf8_lossy(rest)),
    };
    let read = forest::from_bytes(&bytes);
    let file = Scratch::new(&bytes);
    match (forest::load(&file.0), &read) {
        (Ok(_), Ok(_)) => {}
        (Err(error), Err(_)) => refused(&error, &[&file.shown()]),
        (file, bytes) => panic!("as a file {:?}, as bytes {:?}", file.map(drop), bytes.as_ref().map(drop)),
    }
    let Ok((forest, config, origin)) = read else { return };
    let text = config.to_toml().expect("a checked config can be written");
    let again = forest::to_bytes(&forest, &text, &origin).and_then(|bytes| forest::from_bytes(&bytes));
    assert!(again.expect("what was read can be written and read") == (forest.clone(), config, origin));
    let images: Vec<u8> =
        (0..3).flat_map(|image| (0..PIXELS).map(move |pixel| (image * 100 + pixel % 50) as u8)).collect();
    for votes in forest.probabilities(&images).chunks(forest.classes()) {
        let sum: f32 = votes.iter().sum();
        assert!((sum - 1.0).abs() < 1e-4 && votes.iter().all(|vote| *vote >= 0.0), "{votes:?}");
    }
}

/// A file of labels, and for which ids they are wanted: a byte with the number of classes, the ids with a `|` behind
/// each, a line break, the file.
///
/// There are as many labels as ids. A submission that was written for the ids reads back as it was.
pub fn labels(data: &[u8]) {
    let Some((classes, rest)) = data.split_first() else { return };
    let classes = usize::from(classes.wrapping_sub(b'0')).clamp(2, 100);
    let end = rest.windows(2).position(|pair| pair == b"|\n");
    let (ids, text) = end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 2..)?))).unwrap_or((b"", rest));
    let ids: Vec<String> = String::from_utf8_lossy(ids).split('|').map(|id| id.trim().to_owned()).collect();
    let file = Scratch::new(text);
    match labels::read_labels(&file.0, &ids, classes) {
        Ok(labels) => {
            assert_eq!(labels.len(), ids.len());
            assert!(labels.iter().all(|label| usize::from(*label) < classes), "{labels:?}");
        }
        Err(error) => refused(&error, &[&file.shown()]),
    }
    if ids.iter().collect::<BTreeSet<_>>().len() == ids.len() {
        submission_comes_back(&file, &ids, classes, None);
        if check_classes(&ids).is_ok() {
            submission_comes_back(&file, &ids, ids.len(), Some(&ids));
        }
    }
}

/// A file of soft labels, and for which images they are wanted: a byte with the number of classes, which are called `a`, `b`, ...,
/// the ids with a `|` behind each, a line break, the file.
///
/// There is a share of each class for each image, and those of an image sum to 1. Written as numbers they read back as they were, but
/// for rounding.
pub fn soft_labels(data: &[u8]) {
    let Some((classes, rest)) = data.split_first() else { return };
    let count = usize::from(classes.wrapping_sub(b'0')).clamp(2, 20);
    let classes: Vec<String> = ('a'..).take(count).map(String::from).collect();
    let end = rest.windows(2).position(|pair| pair == b"|\n");
    let (ids, text) = end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 2..)?))).unwrap_or((b"", rest));
    let ids: Vec<String> = String::from_utf8_lossy(ids).split('|').map(|id| id.trim().to_owned()).collect();
    let images = Images { rows: (0..).take(ids.len()).collect(), ids: Some(ids.clone()), ..Images::default() };
    let (file, train) = (Scratch::new(text), Path::new("train.csv"));
    let soft = match soft_labels::read(&file.0, &classes, &images, train) {
        Ok(soft) => soft,
        Err(error) => return refused(&error, &[&file.shown(), "train.csv"]),
    };
    assert_eq!((soft.shares.len(), soft.classes), (ids.len() * count, count));
    for shares in soft.shares.chunks(count) {
        let sum: f32 = shares.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5 && shares.iter().all(|share| *share >= 0.0), "{shares:?}");
    }
    let predictions = Predictions { logits: soft.shares.clone(), probabilities: soft.shares.clone(), classes: count };
    submission::write(&file.0, &images, &predictions, Some(&classes)).expect("predictions are written");
    let again = soft_labels::read(&file.0, &classes, &images, train).expect("they were just written");
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    assert!(again.shares.iter().zip(&soft.shares).all(is_near), "{again:?} instead of {soft:?}");
}

/// A file of its own for an input, in memory where the system has a place for that; gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let name = format!("grimace-fuzz-{}-{}", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        let file = Self(folder.join(name));
        fs_err::write(&file.0, bytes).expect("there is room for a small file");
        file
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs_err::remove_file(&self.0));
    }
}

/// What must hold of an error: it is the user's turn (exit code 2), and it says where to look.
fn refused(error: &anyhow::Error, names: &[&str]) {
    let message = format!("{error:#}");
    assert!(is_input(error), "no input error: {message}");
    assert!(names.iter().any(|name| message.contains(name)), "none of {names:?} is in: {message}");
}

/// A letter that stands for an image: its cell is 4607 bytes long at least, and a fuzzer would change little else.
const FACE: u8 = b'@';

/// Images that are put in: enough for a header that is too long, and few enough to be fast.
const MAX_FACES: usize = 20;

/// `text` with a cell of 2304 equal digits for each `@` with that digit behind it.
fn with_images(text: &[u8]) -> Vec<u8> {
    let (mut whole, mut images, mut rest) = (Vec::new(), 0, text.iter());
    while let Some(&byte) = rest.next() {
        match rest.as_slice().first() {
            Some(digit) if byte == FACE && digit.is_ascii_digit() && images < MAX_FACES => {
                whole.extend([*digit, b' '].repeat(PIXELS));
                whole.pop();
                images += 1;
                rest.next();
            }
            _ => whole.push(byte),
        }
    }
    whole
}

/// The same file with a bad row in front; `None` where it cannot be told where the header ends.
fn with_bad_row(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let (header, rows) = text.split_at_checked(end + 1)?;
    let plain = header.strip_suffix(b"\r\n").or_else(|| header.strip_suffix(b"\n"))?;
    (!plain.contains(&b'"') && !plain.contains(&b'\r')).then(|| [header, b"x\n", rows].concat())
}

fn read_images(text: &[u8], labels: Labels, on_bad_row: OnBadRow) -> Result<Images> {
    let file = Scratch::new(text);
    let classes = CLASSES.map(String::from);
    let read = read_any(&file.0, ReadOptions { classes: &classes, labels, on_bad_row });
    match &read {
        Ok(images) => is_whole(images, labels),
        Err(error) => refused(error, &[&file.shown()]),
    }
    read
}

/// Every column has a value for every image.
fn is_whole(images: &Images, labels: Labels) {
    let count = images.rows.len();
    assert_eq!(images.pixels.len(), count * PIXELS);
    assert!(images.rows.is_sorted_by(|a, b| a < b), "{:?}", images.rows);
    assert!(images.hashes.iter().copied().eq(images.pixels.chunks(PIXELS).map(ImageHash::of)));
    assert!(labels == Labels::IfPresent || images.labels.is_some() == (labels == Labels::Needed));
    assert!(images.labels.iter().all(|all| all.len() == count && all.iter().all(|label| *label < 7)));
    assert!(images.ids.iter().chain(&images.usages).all(|texts| texts.len() == count));
}

/// Ids and usages, where there are any.
type Texts<'a> = (&'a Option<Vec<String>>, &'a Option<Vec<String>>);

fn texts(images: &Images) -> (&[u32], Texts<'_>) {
    (&images.rows, (&images.ids, &images.usages))
}

/// What a file says of its good rows.
fn content(images: &Images) -> (&[u8], &Option<Vec<u8>>, Texts<'_>, &[u32]) {
    (&images.pixels, &images.labels, (&images.ids, &images.usages), &images.rows)
}

/// An error's text without the name of the scratch file, which is another one each time.
fn without_path(error: &anyhow::Error) -> String {
    format!("{error:#}").split_once(": ").map(|(_, text)| text.to_owned()).unwrap_or_default()
}

/// The tensors of a checkpoint bit for bit; a NaN equals itself here.
fn bits(checkpoint: &Checkpoint) -> Vec<(&str, Vec<i64>, Vec<u32>)> {
    let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).expect("float32 on the CPU");
    let bits = |tensor: &Tensor| values(tensor).into_iter().map(f32::to_bits).collect();
    checkpoint.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size(), bits(tensor))).collect()
}

/// Whether a config's network is made in a moment.
fn is_small(config: &Config) -> bool {
    let classes = config.data.classes.len();
    config.model.values(classes) < 1 << 16 && config.model.activations() < 1 << 19
}

fn network(config: &Config) -> Net {
    Net::new(&config.model, config.data.classes.len(), 0, Device::Cpu).expect("a small network")
}

/// With the tensors of the checkpoint the network gives logits; or there is a reason why it does not take them.
fn runs_or_is_refused(config: &Config, checkpoint: &Checkpoint) {
    let net = network(config);
    if let Err(error) = net.load(&checkpoint.tensors) {
        return assert!(error.to_string().contains("tensor "), "{error:#}");
    }
    net.use_channels_last().expect("it lies in memory otherwise");
    let images = Tensor::ones([2, 1, 48, 48], (Kind::Float, Device::Cpu));
    let logits = tch::no_grad(|| net.forward(&images, Mode::Inference)).expect("a loaded network runs");
    assert_eq!(logits.size(), [2, config.data.classes.len() as i64]);
}

/// Writes a submission for these ids and reads it back.
fn submission_comes_back(file: &Scratch, ids: &[String], classes: usize, names: Option<&[String]>) {
    let labels: Vec<u8> = (0..ids.len()).map(|row| ((row * 7 + 1) % classes) as u8).collect();
    let mut probabilities = vec![0.0; ids.len() * classes];
    for (row, label) in probabilities.chunks_mut(classes).zip(&labels) {
        row.iter_mut().skip(usize::from(*label)).take(1).for_each(|likely| *likely = 1.0);
    }
    let images = Images { ids: Some(ids.to_vec()), rows: (0..).take(ids.len()).collect(), ..Images::default() };
    let predictions = Predictions { logits: probabilities.clone(), probabilities, classes };
    submission::write(&file.0, &images, &predictions, names).expect("a submission is written");
    assert_eq!(labels::read_labels(&file.0, ids, classes).expect("it was just written"), labels, "{ids:?}");
}
