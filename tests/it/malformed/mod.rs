//! Malformed files and arguments: each ends with the right exit code and a helpful message.
//!
//! Every case also ends within a minute, and uses little memory whatever size the file claims. A
//! table reports all its failures together.

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

/// Time limit of a case. Errors take milliseconds; the rest is for a busy machine.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Memory limit of a case in bytes. libtorch alone needs a tenth of it.
const MAX_MEMORY: u64 = 2 << 30;
/// Maximum bytes of an error message; contents of a file are shortened.
const MAX_MESSAGE: usize = 4000;
/// Text that no message may contain: a panic, an escape sequence from a file.
const FORBIDDEN: [&str; 2] = ["panicked", "\u{1b}"];
/// Rust types in serde's messages, which users do not know.
const RUST_TYPES: [&str; 7] =
    ["expected u8", "expected u32", "expected u64", "expected usize", "expected i64", "expected f64", "unit variant"];

const GIB: u64 = 1 << 30;

// Running the program.

/// Runs the program. An error if it takes too long or too much memory.
fn run(folder: &Path, args: &[&str]) -> Result<Done, String> {
    // Into files: a full pipe would block the program, because nobody reads it before the end.
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut child = command(folder, args)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .expect("the program starts");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let memory = peak_memory(child.id());
        if start.elapsed() > MAX_TIME || memory > MAX_MEMORY {
            child.kill().unwrap();
            child.wait().unwrap();
            let megabytes = memory >> 20;
            return Err(format!("stopped after {:.0} s with {megabytes} MB", start.elapsed().as_secs_f64()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Output { status, stdout: read_all(&mut stdout), stderr: read_all(&mut stderr) }.into())
}

/// Peak memory of a process in bytes; 0 if `/proc` is missing.
fn peak_memory(process: u32) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.parse::<u64>().ok()).map_or(0, |number| number << 10)
}

/// The whole content of an open file.
fn read_all(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The first 700 characters of a text.
fn short(text: &str) -> String {
    text.chars().take(700).collect()
}

/// A folder with the workshop's data, config and trained run, and the failures of the cases that
/// ran in it.
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

    /// Writes a sparse file of `size` bytes: `start`, then zeros.
    fn write_sparse(&self, name: &str, start: impl AsRef<[u8]>, size: u64) {
        self.write(name, start);
        fs_err::OpenOptions::new().append(true).open(self.path(name)).unwrap().set_len(size).expect("a sparse file");
    }

    /// Writes `start` and then `piece` many times.
    fn write_many(&self, name: &str, start: &str, piece: &str, times: usize) {
        let mut file = std::io::BufWriter::new(fs_err::File::create(self.path(name)).unwrap());
        file.write_all(start.as_bytes()).unwrap();
        for _ in 0..times {
            file.write_all(piece.as_bytes()).unwrap();
        }
        file.flush().unwrap();
    }

    /// Runs a case, which must end with this exit code and every part on stderr. Returns its
    /// output, unless it was stopped.
    fn expect(&mut self, args: &[&str], code: i32, parts: &[&str]) -> Option<Done> {
        self.count += 1;
        let arguments = short(&args.join(" "));
        let done = match run(self.bench.path(), args) {
            Ok(done) => done,
            Err(trouble) => {
                self.failures.push(format!("grimace {arguments}: {trouble}"));
                return None;
            }
        };
        let mut wrong = Vec::new();
        if done.code != code {
            wrong.push(format!("exit {}, expected {code}", done.code));
        }
        wrong.extend(parts.iter().filter(|part| !done.stderr.contains(**part)).map(|part| format!("no {part:?}")));
        let forbidden = FORBIDDEN.iter().filter(|part| done.stderr.contains(**part));
        wrong.extend(forbidden.map(|part| format!("{part:?} in it")));
        if code != 0 && done.stderr.len() > MAX_MESSAGE {
            wrong.push(format!("{} bytes, too long to read", done.stderr.len()));
        }
        if !wrong.is_empty() {
            self.failures.push(format!("grimace {arguments}: {}: {}", wrong.join("; "), short(&done.stderr)));
        }
        Some(done)
    }

    /// Records a failure of the last case unless the condition holds.
    fn check(&mut self, holds: bool, message: &str) {
        if !holds {
            self.failures.push(message.to_owned());
        }
    }

    /// Checks that the last case did not create a run in `none`, and removes it for the next.
    fn check_no_run(&mut self) {
        let run = self.path("none");
        self.check(!run.exists(), "that left a run behind");
        drop(fs_err::remove_dir_all(run));
    }

    fn finish(self) {
        let (failed, all) = (self.failures.len(), self.count);
        assert!(failed == 0, "{failed} failures in {all} cases:\n{}", self.failures.join("\n"));
    }
}

// Creating files.

const HEADER: &str = "emotion,pixels\n";

/// The pixels of an image.
fn image(number: usize) -> String {
    (0..2304).map(|place| ((place * 7 + number) % 256).to_string()).collect::<Vec<_>>().join(" ")
}

/// A CSV of a header and rows.
fn csv<Row: AsRef<str>>(header: &str, rows: &[Row]) -> Vec<u8> {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    format!("{header}{}\n", rows.join("\n")).into_bytes()
}

/// A CSV of one image with `text` as its fifth pixel.
fn fifth_pixel(text: &str) -> Vec<u8> {
    let image = image(1);
    let mut pixels: Vec<&str> = image.split(' ').collect();
    pixels[4] = text;
    csv(HEADER, &[format!("0,{}", pixels.join(" "))])
}

/// A CSV of one valid image with this label.
fn label(text: &str) -> Vec<u8> {
    csv(HEADER, &[format!("{text},{}", image(1))])
}

/// Five valid rows after a header, then one with the label 9, each followed by `end`.
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

/// Arguments to predict the images of a CSV.
fn predict(data: &str) -> [&str; 8] {
    ["predict", "run", "--data", data, "--out", "none.csv", "--device", "cpu"]
}

/// Arguments to evaluate on the workshop's test images with a CSV of labels.
fn score(labels: &str) -> [&str; 8] {
    ["evaluate", "run", "--data", "data/my_emotion_test.csv", "--labels", labels, "--device", "cpu"]
}
