//! Checkpoints and run directories.

use super::*;

/// A parsed safetensors file.
#[derive(Clone)]
struct Archive {
    header: Value,
    tensors: Vec<u8>,
}

impl Archive {
    fn read(path: &Path) -> Self {
        let bytes = fs_err::read(path).unwrap();
        let (length, rest) = bytes.split_first_chunk().unwrap();
        let (header, tensors) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
        Self { header: serde_json::from_slice(header).unwrap(), tensors: tensors.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        [with_length(self.header.to_string().as_bytes()), self.tensors.clone()].concat()
    }

    /// The file with a changed header.
    fn with_header(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut copy = self.clone();
        change(&mut copy.header);
        copy.bytes()
    }

    /// The file with a changed or removed metadata entry.
    fn with_metadata(&self, key: &str, value: Option<&str>) -> Vec<u8> {
        self.with_header(|header| {
            let metadata = header["__metadata__"].as_object_mut().unwrap();
            match value {
                Some(value) => metadata.insert(key.to_owned(), value.into()),
                None => metadata.remove(key),
            };
        })
    }

    /// The file with bytes appended.
    fn with_trailing(&self, more: &[u8]) -> Vec<u8> {
        [&self.bytes()[..], more].concat()
    }
}

/// A header with its length in front.
fn with_length(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header].concat()
}

/// Flips a bit of the byte after the first occurrence of `text`.
fn flip_bit_after(bytes: &[u8], text: &str) -> Vec<u8> {
    let start = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("text not found");
    let mut bytes = bytes.to_vec();
    bytes[start + text.len()] ^= 1;
    bytes
}

/// Flips a bit of the byte `distance` before the end.
fn flip_bit_before_end(bytes: &[u8], distance: usize) -> Vec<u8> {
    let (mut bytes, index) = (bytes.to_vec(), bytes.len() - distance);
    bytes[index] ^= 1;
    bytes
}

/// Unusable variants of a checkpoint: name, bytes, and what the error message must contain.
fn corruptions(good: &Archive) -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let bytes = good.bytes();
    let (first, second) = ("block1.conv.bias", "block1.conv.weight");
    let end = good.tensors.len();
    let offsets = |range: [u64; 2]| good.with_header(|header| header[first]["data_offsets"] = json!(range));
    let shape = |shape: Value| good.with_header(|header| header[first]["shape"] = shape);
    let dtype = |name: &str| good.with_header(|header| header[first]["dtype"] = name.into());
    let extra = json!({ "dtype": "F32", "shape": [1], "data_offsets": [end, end + 4] });
    let mut with_extra = good.clone();
    with_extra.header["extra"] = extra;
    let nested = |open: &str, times: usize| with_length(open.repeat(times).as_bytes());
    let shifted = good.with_header(|header| {
        for (_, tensor) in header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__") {
            let shift = |offset: &Value| offset.as_u64().unwrap() + 4;
            tensor["data_offsets"] = json!([shift(&tensor["data_offsets"][0]), shift(&tensor["data_offsets"][1])]);
        }
    });
    vec![
        ("empty", vec![], &["0 bytes"]),
        ("7 bytes", bytes[..7].to_vec(), &["7 bytes"]),
        ("8 bytes", vec![0; 8], &["corrupt"]),
        ("text", b"not a checkpoint, a text".to_vec(), &["corrupt"]),
        ("maximum header length", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &["18446744073709551615"]),
        ("header beyond the end", [&1000u64.to_le_bytes()[..], b"{}"].concat(), &["1000"]),
        ("header is not JSON", with_length(b"no JSON at all"), &["corrupt"]),
        ("header is a list", with_length(b"[1, 2]"), &["corrupt"]),
        ("deeply nested header", nested("{\"a\":", 100_000), &["corrupt"]),
        ("header of deeply nested lists", nested("[", 100_000), &["corrupt"]),
        ("no metadata", with_length(b"{}"), &["metadata"]),
        ("another format", good.with_metadata("format", Some("pt")), &["\"pt\"", "\"grimace-checkpoint\""]),
        (
            "an older version",
            good.with_metadata("format_version", Some("2")),
            &["version \"2\", written by grimace", "reads version \"3\"", "not converted"],
        ),
        (
            "a newer version",
            good.with_metadata("format_version", Some("4")),
            &["version \"4\", written by grimace", "reads version \"3\"", "not converted"],
        ),
        ("a long version", good.with_metadata("format_version", Some(&"9".repeat(100_000))), &["version", "\"3\""]),
        ("no format", good.with_metadata("format", None), &["no format"]),
        ("no version", good.with_metadata("format_version", None), &["no format_version"]),
        ("no checksum", good.with_metadata("checksum", None), &["no checksum"]),
        ("state is not JSON", good.with_metadata("state", Some("{")), &["checksum"]),
        ("another config", good.with_metadata("config", Some("name = \"x\"")), &["checksum"]),
        (
            "overlapping tensors",
            good.with_header(|header| header[second]["data_offsets"] = json!([0, 576])),
            &["corrupt"],
        ),
        ("a tensor beyond the end", offsets([0, 1 << 40]), &["corrupt"]),
        ("a tensor at the maximum offset", offsets([u64::MAX - 64, u64::MAX]), &["corrupt"]),
        ("a tensor with reversed offsets", offsets([64, 0]), &["corrupt"]),
        ("a gap before the tensors", [shifted, vec![0; 4]].concat(), &["corrupt"]),
        ("a shape that overflows", shape(json!([1u64 << 40, 1u64 << 40])), &["corrupt"]),
        ("a negative shape", shape(json!([-16])), &["corrupt"]),
        ("a shape of 100,000 dimensions", shape(json!(vec![1; 100_000])), &["corrupt"]),
        ("another shape of the same size", shape(json!([4, 4])), &["checksum"]),
        ("a tensor of F64", dtype("F64"), &["corrupt"]),
        ("a tensor of I32", dtype("I32"), &["block1.conv.bias is I32", "expected F32"]),
        (
            "a missing tensor",
            good.with_header(|header| drop(header.as_object_mut().unwrap().remove(first))),
            &["corrupt"],
        ),
        ("an extra tensor", with_extra.with_trailing(&[0; 4]), &["checksum"]),
        ("truncated by a byte", bytes[..bytes.len() - 1].to_vec(), &["corrupt"]),
        ("truncated to half", bytes[..bytes.len() / 2].to_vec(), &["corrupt"]),
        ("truncated in the header", bytes[..100].to_vec(), &["corrupt"]),
        ("a trailing byte", good.with_trailing(b"x"), &["corrupt"]),
        ("a bit of a tensor", flip_bit_before_end(&bytes, 40), &["checksum"]),
        ("a bit of the config", flip_bit_after(&bytes, "filters = ["), &["checksum"]),
        ("a bit of the state", flip_bit_after(&bytes, "\\\"seconds\\\":"), &["checksum"]),
    ]
}

/// Copies the workshop's run, without the files in `excluded`.
fn copy_run(cases: &Cases, name: &str, excluded: &[&str]) {
    let folder = cases.path(name);
    if folder.exists() {
        fs_err::remove_dir_all(&folder).unwrap();
    }
    fs_err::create_dir(&folder).unwrap();
    for entry in fs_err::read_dir(workshop().join("run")).unwrap() {
        let entry = entry.unwrap();
        if !excluded.iter().any(|name| entry.file_name() == *name) {
            fs_err::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
}

const EVALUATE: [&str; 6] = ["evaluate", "copy", "--data", "data/my_emotion_train.csv", "--device", "cpu"];
const PREDICT: [&str; 8] =
    ["predict", "copy", "--data", "data/my_emotion_test.csv", "--out", "none.csv", "--device", "cpu"];
const EXPORT: [&str; 4] = ["export", "copy", "--out", "none.pt"];
const RESUME: [&str; 7] = ["train", "tiny.toml", "--out", "copy", "--resume", "--set", "train.epochs=4"];

#[test]
fn corrupt_best_weights() {
    let mut cases = Cases::new();
    copy_run(&cases, "copy", &[]);
    let good = Archive::read(&workshop().join("run/best.safetensors"));
    for (name, bytes, reason) in corruptions(&good) {
        cases.write("copy/best.safetensors", bytes);
        let parts = [&["copy/best.safetensors: not a usable checkpoint: "], reason].concat();
        if cases.expect(&EVALUATE, 2, &parts).is_none_or(|done| done.code != 2) {
            cases.check(false, &format!("case: {name}"));
        }
    }
    cases.finish();
}

#[test]
fn corrupt_best_weights_stop_every_command() {
    let mut cases = Cases::new();
    copy_run(&cases, "copy", &[]);
    let good = Archive::read(&workshop().join("run/best.safetensors"));
    let chosen = ["empty", "a newer version", "truncated to half", "a bit of a tensor", "a bit of the config"];
    let unusable = "copy/best.safetensors: not a usable checkpoint: ";
    for (_, bytes, reason) in corruptions(&good).into_iter().filter(|(name, ..)| chosen.contains(name)) {
        cases.write("copy/best.safetensors", &bytes);
        for command in [&PREDICT[..], &EXPORT, &RESUME] {
            cases.expect(command, 2, &[&[unusable], reason].concat());
        }
        let same = fs_err::read(cases.path("copy/best.safetensors")).unwrap() == bytes;
        cases.check(same, "a corrupt best.safetensors was replaced");
    }
    for (size, reason) in [(100 * GIB, "107374182400 bytes"), (3 * GIB, "corrupt")] {
        // Data after a valid file is not read: the header says that it does not belong there.
        cases.write_sparse("copy/best.safetensors", good.bytes(), size);
        for command in [&EVALUATE[..], &RESUME] {
            cases.expect(command, 2, &[unusable, reason]);
        }
    }
    cases.check(!cases.path("none.csv").exists() && !cases.path("none.pt").exists(), "an output file was created");

    let best = cases.path("copy/best.safetensors");
    fs_err::remove_file(&best).unwrap();
    fs_err::create_dir(&best).unwrap();
    for command in [&EVALUATE[..], &PREDICT, &EXPORT] {
        cases.expect(command, 2, &["copy/best.safetensors: is a folder; expected a checkpoint"]);
    }
    cases.expect(&RESUME, 1, &["copy/best.safetensors: is a folder; expected the path of a file"]);
    fs_err::remove_dir(&best).unwrap();
    make_fifo(&best);
    cases.expect(&EVALUATE, 2, &["copy/best.safetensors: is not a regular file", "expected a checkpoint"]);
    cases.expect(&RESUME, 1, &["copy/best.safetensors: is a pipe or a device"]);
    fs_err::remove_file(&best).unwrap();
    symlink("best.safetensors", &best).unwrap();
    cases.expect(&EVALUATE, 2, &["best.safetensors"]);
    cases.finish();
}

#[test]
fn a_corrupt_newest_checkpoint_falls_back_to_the_previous() {
    let mut cases = Cases::new();
    let good = Archive::read(&workshop().join("run/last.safetensors"));
    let chosen =
        ["empty", "8 bytes", "maximum header length", "truncated by a byte", "a bit of a tensor", "a bit of the state"];
    for (_, bytes, _) in corruptions(&good).into_iter().filter(|(name, ..)| chosen.contains(name)) {
        copy_run(&cases, "copy", &[]);
        cases.write("copy/last.safetensors", &bytes);
        cases.expect(&RESUME, 0, &["warning", "copy/last.safetensors", "copy/previous.safetensors", "4/4"]);
        cases.expect(&EVALUATE, 0, &[]);
    }
    copy_run(&cases, "copy", &["last.safetensors"]);
    cases.expect(&RESUME, 0, &["warning", "copy/last.safetensors", "copy/previous.safetensors", "4/4"]);
    copy_run(&cases, "copy", &[]);
    cases.write_sparse("copy/last.safetensors", good.bytes(), 100 * GIB);
    cases.expect(&RESUME, 0, &["warning", "copy/last.safetensors", "copy/previous.safetensors", "4/4"]);

    for (_, bytes, _) in corruptions(&good).into_iter().filter(|(name, ..)| chosen[..3].contains(name)) {
        copy_run(&cases, "copy", &[]);
        cases.write("copy/last.safetensors", &bytes);
        cases.write("copy/previous.safetensors", &bytes);
        let both = ["copy/last.safetensors: not a usable checkpoint: ", "copy/previous.safetensors: not a usable"];
        cases.expect(&RESUME, 2, &both);
    }
    copy_run(&cases, "copy", &["previous.safetensors"]);
    cases.write("copy/last.safetensors", &good.bytes()[..1000]);
    cases.expect(&RESUME, 2, &["copy/last.safetensors: not a usable checkpoint: "]);
    copy_run(&cases, "copy", &["last.safetensors", "previous.safetensors"]);
    cases.expect(&RESUME, 2, &["copy: holds results but no last.safetensors"]);
    fs_err::create_dir(cases.path("copy/last.safetensors")).unwrap();
    cases.expect(&RESUME, 1, &["copy/last.safetensors: is a folder; expected the path of a file"]);
    fs_err::remove_dir(cases.path("copy/last.safetensors")).unwrap();
    make_fifo(&cases.path("copy/last.safetensors"));
    cases.expect(&RESUME, 1, &["copy/last.safetensors: is a pipe or a device"]);
    cases.finish();
}

#[test]
fn other_files_of_a_run() {
    let mut cases = Cases::new();
    let split = text(workshop().join("run/split.csv"));
    copy_run(&cases, "copy", &[]);
    for changed in
        ["".to_owned(), "garbage\n".into(), split[..split.len() / 2].into(), split.replacen("train", "validation", 1)]
    {
        cases.write("copy/split.csv", changed);
        cases.expect(&EVALUATE, 2, &["copy/split.csv: is not the split of this run"]);
    }
    cases.write("copy/split.csv", [0xff; 100]);
    cases.expect(&EVALUATE, 2, &["copy/split.csv: not UTF-8", "cannot determine the training images"]);
    cases.write_sparse("copy/split.csv", &split, 100 * GIB);
    cases.expect(&EVALUATE, 2, &["copy/split.csv: 107374182400 bytes", "cannot determine the training images"]);
    fs_err::remove_file(cases.path("copy/split.csv")).unwrap();
    cases.expect(&EVALUATE, 2, &["copy/split.csv: no such file", "cannot determine the training images"]);
    make_fifo(&cases.path("copy/split.csv"));
    cases.expect(&EVALUATE, 2, &["copy/split.csv: is not a regular file", "cannot determine the training images"]);

    // Resuming computes the split again, verifies its hash, and restores the file.
    copy_run(&cases, "copy", &[]);
    cases.write("copy/split.csv", &split[..split.len() / 2]);
    cases.expect(&RESUME, 0, &["4/4"]);
    cases.expect(&EVALUATE, 0, &[]);

    let metrics = text(workshop().join("run/metrics.jsonl"));
    let truncated = metrics.as_bytes()[..metrics.len() - 40].to_vec();
    for corrupt in [vec![], truncated, b"garbage\n".to_vec(), vec![0xff; 500], vec![0; 500], vec![b'['; 1_000_000]] {
        copy_run(&cases, "copy", &[]);
        cases.write("copy/metrics.jsonl", corrupt);
        cases.expect(&RESUME, 0, &["4/4"]);
        let lines = text(cases.path("copy/metrics.jsonl"));
        let valid = lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        cases.check(valid == 4 && lines.lines().count() == 4, "metrics.jsonl does not have one line per epoch");
    }
    copy_run(&cases, "copy", &["metrics.jsonl"]);
    cases.expect(&RESUME, 0, &["4/4"]);
    copy_run(&cases, "copy", &["metrics.jsonl"]);
    make_fifo(&cases.path("copy/metrics.jsonl"));
    cases.expect(&RESUME, 1, &["copy/metrics.jsonl: is a pipe or a device"]);

    let checkpoints = ["best.safetensors", "last.safetensors", "previous.safetensors"];
    copy_run(&cases, "copy", &[&["config.toml"], &checkpoints[..]].concat());
    for command in [&EVALUATE[..], &PREDICT, &EXPORT, &RESUME] {
        cases.expect(command, 2, &["copy: is not a run directory"]);
    }
    // The config in the checkpoint is used, not config.toml.
    copy_run(&cases, "copy", &["config.toml"]);
    cases.expect(&RESUME, 0, &["4/4"]);
    cases.write("copy/config.toml", "garbage");
    cases.expect(&EVALUATE, 0, &[]);
    copy_run(&cases, "copy", &checkpoints);
    cases.expect(&EVALUATE, 2, &["copy: has no best.safetensors", "--resume"]);
    cases.expect(&["evaluate", "tiny.toml", "--data", "x.csv"], 2, &["tiny.toml: is a file; expected a run directory"]);
    cases.expect(&["evaluate", "nowhere", "--data", "x.csv"], 2, &["nowhere: no such run directory"]);
    cases.finish();
}
