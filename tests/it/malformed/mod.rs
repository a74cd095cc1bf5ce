//! Malformed files and arguments of every kind: each ends with the right exit code and a message that helps.
//!
//! Every case also ends by itself within a minute, takes little memory whatever the file claims, and says what is wrong
//! in a message that can be read. A table tells of all its failures at once.

mod configs;
mod images;
mod labels;
mod paths;
mod runs;

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Done, TINY, bench, command, text, workshop};

/// Whoever is given nonsense says so at once; a minute is for a machine that is busy with other tests.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of memory that no case comes near: libtorch alone takes a tenth of it.
const MAX_MEMORY: u64 = 2 << 30;
/// Bytes of the longest error that a person would read; a file's contents belong into it in short.
const MAX_MESSAGE: usize = 4000;
/// What no message may hold: a panic, an escape sequence from a file.
const NEVER: [&str; 2] = ["panicked", "\u{1b}"];
/// How messages name Rust's types; a config's reader does not know them.
const RUST_TYPES: [&str; 7] =
    ["expected u8", "expected u32", "expected u64", "expected usize", "expected i64", "expected f64", "unit variant"];

const GIB: u64 = 1 << 30;

// Running the program.

/// Runs the program to its end; what went wrong when that takes too long or too much memory.
fn run(folder: &Path, args: &[&str]) -> Result<Done, String> {
    // Into files: a full pipe would hold the program up, and nobody reads it before the end.
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut child = command(folder, args)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .expect("the program starts");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let memory = most_memory(child.id());
        if began.elapsed() > LONGEST || memory > MAX_MEMORY {
            child.kill().unwrap();
            child.wait().unwrap();
            let megabytes = memory >> 20;
            return Err(format!("stopped after {:.0} s with {megabytes} MB", began.elapsed().as_secs_f64()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Output { status, stdout: written(&mut stdout), stderr: written(&mut stderr) }.into())
}

/// The most memory that a process has had so far, where the system tells.
fn most_memory(process: u32) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.parse::<u64>().ok()).map_or(0, |number| number << 10)
}

/// What was written to a file from its beginning.
fn written(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The beginning of a text that may be long.
fn short(text: &str) -> String {
    text.chars().take(700).collect()
}

/// A folder with the workshop's data, config and trained run, and what went wrong with the cases that ran in it.
struct Cases {
    bench: TempDir,
    count: usize,
    failures: Vec<String>,
}

impl Cases {
    fn new() -> Self {
        let bench = bench();
        symlink(workshop().join("run"), bench.path().join("run")).expect("a link");
        Self { bench, count: 0, failures: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs_err::write(self.path(name), bytes).expect("a file");
    }

    /// A file that begins with `start` and goes on with zeros up to `size`; they take no room on the disk.
    fn write_sparse(&self, name: &str, start: impl AsRef<[u8]>, size: u64) {
        self.write(name, start);
        fs_err::OpenOptions::new().append(true).open(self.path(name)).unwrap().set_len(size).expect("a sparse file");
    }

    /// A file of `start` and then `piece`, many times.
    fn write_many(&self, name: &str, start: &str, piece: &str, times: usize) {
        let mut file = std::io::BufWriter::new(fs_err::File::create(self.path(name)).unwrap());
        file.write_all(start.as_bytes()).unwrap();
        for _ in 0..times {
            file.write_all(piece.as_bytes()).unwrap();
        }
        file.flush().unwrap();
    }

    /// Runs a case: it must end with this exit code and say every part on stderr. What it left, where it ended.
    fn expect(&mut self, args: &[&str], code: i32, parts: &[&str]) -> Option<Done> {
        self.count += 1;
        let shown = short(&args.join(" "));
        let done = match run(self.bench.path(), args) {
            Ok(done) => done,
            Err(trouble) => {
                self.failures.push(format!("grimace {shown}: {trouble}"));
                return None;
            }
        };
        let mut wrong = Vec::new();
        if done.code != code {
            wrong.push(format!("exit {}, expected {code}", done.code));
        }
        wrong.extend(parts.iter().filter(|part| !done.stderr.contains(**part)).map(|part| format!("no {part:?}")));
        wrong.extend(NEVER.iter().filter(|part| done.stderr.contains(**part)).map(|part| format!("{part:?} in it")));
        if code != 0 && done.stderr.len() > MAX_MESSAGE {
            wrong.push(format!("{} bytes, which nobody reads", done.stderr.len()));
        }
        if !wrong.is_empty() {
            self.failures.push(format!("grimace {shown}: {}: {}", wrong.join("; "), short(&done.stderr)));
        }
        Some(done)
    }

    /// Notes a failure of the last case unless something holds.
    fn also(&mut self, holds: bool, what: &str) {
        if !holds {
            self.failures.push(what.to_owned());
        }
    }

    /// The last case must not have begun a run in `none`; where it has, the next one finds it gone.
    fn no_run_begun(&mut self) {
        let begun = self.path("none");
        self.also(!begun.exists(), "that left a run behind");
        drop(fs_err::remove_dir_all(begun));
    }

    fn finish(self) {
        let (failed, all) = (self.failures.len(), self.count);
        assert!(failed == 0, "{failed} failures in {all} cases:\n{}", self.failures.join("\n"));
    }
}

// Making files.

const HEADER: &str = "emotion,pixels\n";

/// The pixels of an image.
fn image(number: usize) -> String {
    (0..2304).map(|place| ((place * 7 + number) % 256).to_string()).collect::<Vec<_>>().join(" ")
}

/// A CSV with this header and these rows.
fn csv<Row: AsRef<str>>(header: &str, rows: &[Row]) -> Vec<u8> {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    format!("{header}{}\n", rows.join("\n")).into_bytes()
}

/// A CSV with one row: a label, and an image whose fifth pixel is `text`.
fn fifth_pixel(text: &str) -> Vec<u8> {
    let image = image(1);
    let mut pixels: Vec<&str> = image.split(' ').collect();
    pixels[4] = text;
    csv(HEADER, &[format!("0,{}", pixels.join(" "))])
}

/// A CSV of one good row with this label.
fn label(text: &str) -> Vec<u8> {
    csv(HEADER, &[format!("{text},{}", image(1))])
}

/// Behind a header five good rows and then one with the label 9, each followed by `end`.
fn bad_sixth_row(header: &str, end: &str) -> Vec<u8> {
    let rows = [0, 1, 2, 3, 4, 9].map(|label| format!("{label},{}{end}", image(label)));
    format!("{header}{}", rows.concat()).into_bytes()
}

fn utf16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// The arguments that predict the images of a CSV.
fn predict(data: &str) -> [&str; 8] {
    ["predict", "run", "--data", data, "--out", "none.csv", "--device", "cpu"]
}

/// The arguments that score the workshop's test images with a CSV of labels.
fn score(labels: &str) -> [&str; 8] {
    ["evaluate", "run", "--data", "data/my_emotion_test.csv", "--labels", labels, "--device", "cpu"]
}
