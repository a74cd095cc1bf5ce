//! The target for packed files.

use grimace::data::config::{CLASSES, OnBadRow};
use grimace::data::images::{ImageHash, Images, PIXELS};
use grimace::data::label_map::LabelNames;
use grimace::data::packed::{PackDetails, PackWriter, PackedFile, default_classes, read_allow_empty, read_votes};
use grimace::data::read_options::{LabelPolicy, ReadOptions};
use serde_json::{Map, Value, json};

use super::images::content;
use super::{Scratch, assert_input_error};

/// A packed file: `0` and the file, or `1` and a text from which it is built with valid checksums.
///
/// A file that is read has every column for every image, and round-trips; one that is not is an input
/// error that names it.
pub fn packed(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = if mode % 2 == 0 { rest.to_vec() } else { packed_from_text(&String::from_utf8_lossy(rest)) };
    let file = Scratch::new(&bytes);
    let opened = PackedFile::open(&file.0);
    let classes = default_classes(&file.0, &LabelNames::Classes);
    assert!(classes.is_none() || opened.is_ok());
    let classes = classes.unwrap_or_else(|| CLASSES.map(String::from).to_vec());
    let group = bytes.windows(5).any(|word| word == b"\"age\"").then_some("age");
    let options =
        ReadOptions { group, on_bad_row: OnBadRow::Skip, ..ReadOptions::new(&classes, LabelPolicy::Optional) };
    match read_votes(&file.0) {
        Ok(votes) => assert_eq!(votes.weights.len(), votes.rows.len() * votes.classes.len()),
        Err(error) => assert_input_error(&error, &[&file.name()]),
    }
    let images = match read_allow_empty(&file.0, options) {
        Ok(images) => images,
        Err(error) => return assert_input_error(&error, &[&file.name()]),
    };
    assert!(opened.is_ok());
    if let Err(error) = images.pixels.all() {
        return assert_input_error(&error, &[&file.name()]);
    }
    let count = images.len();
    assert!((images.pixels.len(), images.hashes.len()) == (count, count) && images.rows.is_sorted());
    let texts = images.ids.iter().chain(&images.usages).chain(&images.groups);
    assert!(texts.into_iter().all(|texts| texts.len() == count));
    let labels = images.labels.as_ref();
    assert!(labels.is_none_or(|all| all.len() == count && all.iter().all(|l| usize::from(*l) < classes.len())));
    assert_round_trips(&images, options);
}

fn assert_round_trips(images: &Images, options: ReadOptions<'_>) {
    let file = Scratch::new(b"");
    let mut writer = PackWriter::create(&file.0).expect("a temporary file can be written");
    writer.append(images.clone()).expect("the images have been read");
    let details = PackDetails { classes: options.classes, group: options.group, ..PackDetails::default() };
    writer.finish(images.file_rows, details).expect("a temporary file can be written");
    let again = read_allow_empty(&file.0, options).expect("a file that was just written");
    assert!(content(&again) == content(images) && again.groups == images.groups);
}

/// Builds a packed file from the index in JSON, without its sections, and a line for each section: its
/// kind and its content. `!` before a kind makes its checksum wrong.
fn packed_from_text(text: &str) -> Vec<u8> {
    let mut lines = text.lines();
    let index = serde_json::from_str(lines.next().unwrap_or_default());
    let mut index: Map<String, Value> = index.unwrap_or_default();
    let mut bytes = vec![0; 4096];
    let mut sections = Vec::new();
    for line in lines {
        let (kind, words) = line.split_once(' ').unwrap_or((line, ""));
        let content: Vec<u8> = words.split(' ').flat_map(word).collect();
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let mut checksum = blake3::hash(&content).to_hex().to_string();
        if kind.starts_with('!') {
            checksum.replace_range(..1, "x");
        }
        let mut section = json!({"kind": kind.trim_start_matches('!'), "start": bytes.len(), "length": content.len()});
        if kind != "pixels" {
            section["checksum"] = checksum.into();
        }
        sections.push(section);
        bytes.extend(content);
    }
    index.entry("sections").or_insert(sections.into());
    let index = Value::from(index).to_string();
    let start = bytes.len();
    bytes.extend(index.as_bytes());
    let mut preamble = [&b"\x89FACES\r\n"[..], &1u32.to_le_bytes(), &(index.len() as u32).to_le_bytes()].concat();
    preamble.extend((start as u64).to_le_bytes());
    preamble.extend((bytes.len() as u64).to_le_bytes());
    let checksum = blake3::Hasher::new().update(&preamble).update(index.as_bytes()).finalize();
    preamble.extend(checksum.as_bytes());
    bytes.splice(..preamble.len(), preamble);
    bytes
}

/// The bytes of a word: `@7` an image of sevens, `#7` its hash, `u7` a uint32, `U7` a uint64, `f7` a
/// float32, `b7` a byte, and other words as they are.
fn word(word: &str) -> Vec<u8> {
    let image = |rest: &str| vec![rest.parse().unwrap_or(0u8); PIXELS];
    let known = word.split_at_checked(1).and_then(|(kind, rest)| match kind {
        "@" => Some(image(rest)),
        "#" => Some(ImageHash::new(&image(rest)).as_bytes().to_vec()),
        "u" => Some(rest.parse::<u32>().ok()?.to_le_bytes().to_vec()),
        "U" => Some(rest.parse::<u64>().ok()?.to_le_bytes().to_vec()),
        "f" => Some(rest.parse::<f32>().ok()?.to_le_bytes().to_vec()),
        "b" => Some(vec![rest.parse::<u8>().ok()?]),
        _ => None,
    });
    known.unwrap_or_else(|| word.as_bytes().to_vec())
}
