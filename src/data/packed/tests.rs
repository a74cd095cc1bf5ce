use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::*;
use crate::data::config::OnBadRow;
use crate::data::images::{Images, PIXELS};
use crate::data::label_map::CLASSES;
use crate::data::read;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::data::soft_labels::SoftLabels;

fn classes() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

/// Five images with every column; row 3 of the file is not among them.
fn images() -> Images {
    let pixels: Vec<u8> = (0..5 * PIXELS).map(|index| (index * 7 % 251) as u8).collect();
    let texts = |texts: [&str; 5]| Some(texts.map(String::from).to_vec());
    Images {
        pixels: pixels.into(),
        labels: Some(vec![3, 0, 3, 6, 1]),
        ids: texts(["a", "b", "ä/\"c\"", "d", "e"]),
        usages: texts(["Training", "PublicTest", "Training", "Training", ""]),
        groups: texts(["young", "old", "", "old", "old"]),
        rows: vec![0, 1, 2, 4, 5],
        file_rows: 6,
        ..Images::default()
    }
    .with_hashes()
    .unwrap()
}

/// Writes images in two parts; the folder is removed on drop.
fn packed(images: &Images, votes: Option<&SoftLabels>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.faces");
    let mut writer = PackWriter::create(&path).unwrap();
    writer.append(images.select(&[0, 1])).unwrap();
    writer.append(images.select(&(2..images.len()).collect::<Vec<_>>())).unwrap();
    let classes = classes();
    let details = PackDetails { classes: &classes, group: Some("age"), votes, ..PackDetails::default() };
    writer.finish(images.file_rows, details).unwrap();
    (folder, path)
}

fn read_with(path: &Path, labels: LabelPolicy) -> anyhow::Result<Images> {
    let classes = classes();
    read::read(path, ReadOptions { group: Some("Age"), ..ReadOptions::new(&classes, labels) })
}

fn message(path: &Path) -> String {
    format!("{:#}", read_with(path, LabelPolicy::Required).unwrap_err())
}

#[test]
fn images_and_columns_round_trip() {
    let (_folder, path) = packed(&images(), None);
    let (expected, found) = (images(), read_with(&path, LabelPolicy::Required).unwrap());
    assert!(found.pixels.is_in_file() && found.pixels == expected.pixels);
    assert_eq!((&found.hashes, &found.rows, found.file_rows), (&expected.hashes, &expected.rows, 6));
    assert_eq!((&found.labels, &found.ids), (&expected.labels, &expected.ids));
    assert_eq!((&found.usages, &found.groups), (&expected.usages, &expected.groups));
    assert_eq!(found.content_hash(), expected.content_hash());
    assert_eq!(found.select(&[4, 0]).pixels, expected.select(&[4, 0]).pixels);
    assert_eq!(read_with(&path, LabelPolicy::Ignored).unwrap().labels, None);
    assert_eq!(default_classes(&path, &LabelNames::Classes), Some(classes()));
    // Without optional columns, as a file of test images.
    let plain = Images { labels: None, ids: None, usages: None, groups: None, rows: (0..5).collect(), ..images() };
    let (_folder, path) = packed(&plain, None);
    let options = ReadOptions { group: None, ..ReadOptions::new(&[], LabelPolicy::Optional) };
    let found = read::read(&path, options).unwrap();
    assert_eq!((found.labels, found.ids, found.usages, found.rows), (None, None, None, vec![0, 1, 2, 3, 4]));
    assert_eq!(default_classes(&path, &LabelNames::Classes), None);
    let error = read_with(&path, LabelPolicy::Optional).unwrap_err().to_string();
    assert!(error.contains("has no groups; expected \"Age\""), "{error}");
    let without_group = ReadOptions::new(&[], LabelPolicy::Required);
    let error = read::read(&path, without_group).unwrap_err().to_string();
    assert!(error.contains("has no labels; pack a CSV with the column emotion"), "{error}");
}

#[test]
fn labels_are_names_of_classes() {
    let (_folder, path) = packed(&images(), None);
    let read = |classes: &[&str], names: &str, on_bad_row: OnBadRow| {
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        let names = if names.is_empty() { LabelNames::Classes } else { LabelNames::parse(names).unwrap() };
        read::read(
            &path,
            ReadOptions { label_names: &names, on_bad_row, ..ReadOptions::new(&classes, LabelPolicy::Required) },
        )
    };
    // Packed with 3 happy, 0 angry, 6 neutral, 1 disgust.
    let other = read(&["neutral", "happiness", "anger", "disgust"], "", OnBadRow::Error).unwrap();
    assert_eq!(other.labels.as_deref(), Some(&[1, 2, 1, 0, 3][..]));
    let merged = read(&["good", "bad"], "happy=good,angry=bad,disgust=bad,neutral=skip", OnBadRow::Error).unwrap();
    assert_eq!((merged.labels.as_deref(), merged.rows.as_slice()), (Some(&[0, 1, 0, 1][..]), &[0, 1, 2, 5][..]));
    assert_eq!((merged.left_out, merged.len(), merged.hashes.len()), (1, 4, 4));
    assert!(merged.pixels.image(3).unwrap() == images().pixels.image(4).unwrap());
    let error = read(&["happy", "angry"], "", OnBadRow::Error).unwrap_err().to_string();
    assert!(error.contains("x.faces: row 4: unknown label \"neutral\"; expected 0..1 or a class name"), "{error}");
    let skipped = read(&["happy", "angry"], "", OnBadRow::Skip).unwrap();
    assert_eq!((skipped.rows, skipped.skipped.count()), (vec![0, 1, 2], 2));
}

#[test]
fn soft_labels_are_those_of_the_file_they_were_packed_from() {
    let weights: Vec<f32> =
        (0..5).flat_map(|row| if row == 2 { [0.0; 7] } else { [0.1, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1] }).collect();
    let votes = SoftLabels { weights, classes: 7 };
    let (_folder, path) = packed(&images(), Some(&votes));
    let found = read_votes(&path).unwrap();
    assert_eq!((&found.weights, found.classes), (&votes.weights, classes()));
    assert_eq!((found.rows, found.ids), (images().rows, images().ids));
    let (_folder, without) = packed(&images(), None);
    let error = read_votes(&without).unwrap_err().to_string();
    assert!(error.contains("has no soft labels; pack it again with --soft-labels CSV"), "{error}");
}

#[test]
fn every_changed_byte_and_every_length_is_an_error() {
    let (_folder, path) = packed(&images(), None);
    let bytes = fs_err::read(&path).unwrap();
    let change = |at: usize| {
        let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
        file.file().write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();
        let found = read_with(&path, LabelPolicy::Required).and_then(|images| images.pixels.all().map(drop));
        file.file().write_all_at(&bytes[at..=at], at as u64).unwrap();
        found.err().map(|error| format!("{error:#}"))
    };
    // All of the preamble and what follows the pixels; some pixels. Between sections are gaps.
    let end = 4096 + 5 * PIXELS;
    let changed = (0..64).chain((4096..end).step_by(997)).chain(end.next_multiple_of(64)..bytes.len());
    let unnoticed: Vec<usize> = changed.filter(|at| change(*at).is_none()).collect();
    assert!(unnoticed.len() < 64 * 6 && unnoticed.iter().all(|at| bytes[*at] == 0), "only gaps: {unnoticed:?}");
    let error = change(4096 + 3 * PIXELS).unwrap();
    assert!(error.contains("x.faces: image 3 does not match its hash: the file is corrupt; restore it"), "{error}");
    for length in [0, 3, 8, 63, 64, 4096, 9000, bytes.len() - 1] {
        fs_err::write(&path, &bytes[..length]).unwrap();
        let expected = match length {
            0 | 3 => "is not a packed file of images; expected one written by grimace data pack",
            _ => "is truncated: it has",
        };
        assert!(message(&path).contains(expected), "{length}: {}", message(&path));
    }
    fs_err::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(message(&path).contains("is corrupt"), "{}", message(&path));
    fs_err::write(&path, vec![0; bytes.len()]).unwrap();
    assert!(message(&path).contains("is incomplete: its first bytes are zeros; restore"), "{}", message(&path));
    fs_err::write(&path, "emotion,pixels\n").unwrap();
    assert!(message(&path).contains("is not a packed file of images; expected"), "{}", message(&path));
    let mut newer = bytes.clone();
    newer[8] = 2;
    fs_err::write(&path, &newer).unwrap();
    let text = message(&path);
    assert!(
        text.contains("has format version 2") && text.contains("a newer grimace wrote it: update this one"),
        "{text}"
    );
    newer[8] = 0;
    fs_err::write(&path, &newer).unwrap();
    assert!(message(&path).contains("has format version 0"), "{}", message(&path));
}

#[test]
fn a_file_of_any_size_opens_at_once() {
    // Ten million images, of which the system stores only the index.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.faces");
    let images = 10_000_000u32;
    let file = fs_err::File::create(&path).unwrap();
    let pixels = u64::from(images) * PIXELS as u64;
    let hashes = (4096 + pixels).next_multiple_of(64);
    let section = |kind, start, length, checksum| format::Section { kind, start, length, checksum };
    let index = format::Index {
        written_by: "a test".into(),
        images,
        file_rows: images,
        classes: Vec::new(),
        group: None,
        sections: vec![
            section(format::Kind::Pixels, 4096, pixels, None),
            section(format::Kind::Hashes, hashes, 16 * u64::from(images), Some("-".into())),
        ],
    };
    format::write(file.file(), &index, hashes + 16 * u64::from(images)).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(PackedFile::open(&path).unwrap().len(), 10_000_000);
    // 10 ms is the aim; a busy machine may take longer, but not as long as reading it.
    assert!(start.elapsed().as_secs_f64() < 2.0, "{:?}", start.elapsed());
}
