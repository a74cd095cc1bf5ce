//! Malformed files and arguments of every kind: each ends with the right exit code and a message that helps.
//!
//! Every case also ends by itself within a minute, takes little memory whatever the file claims, and says what is wrong
//! in a message that can be read. A table tells of all its failures at once.

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
const MOST_MEMORY: u64 = 2 << 30;
/// Bytes of the longest error that a person would read; a file's contents belong into it in short.
const LONGEST_MESSAGE: usize = 4000;
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
        if began.elapsed() > LONGEST || memory > MOST_MEMORY {
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
        if code != 0 && done.stderr.len() > LONGEST_MESSAGE {
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

/// The pixels of a face.
fn face(number: usize) -> String {
    (0..2304).map(|place| ((place * 7 + number) % 256).to_string()).collect::<Vec<_>>().join(" ")
}

/// A CSV with this header and these rows.
fn csv<Row: AsRef<str>>(header: &str, rows: &[Row]) -> Vec<u8> {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    format!("{header}{}\n", rows.join("\n")).into_bytes()
}

/// A CSV with one row: a label, and a face whose fifth pixel is `text`.
fn fifth_pixel(text: &str) -> Vec<u8> {
    let face = face(1);
    let mut pixels: Vec<&str> = face.split(' ').collect();
    pixels[4] = text;
    csv(HEADER, &[format!("0,{}", pixels.join(" "))])
}

/// A CSV of one good row with this label.
fn label(text: &str) -> Vec<u8> {
    csv(HEADER, &[format!("{text},{}", face(1))])
}

/// Behind a header five good rows and then one with the label 9, each followed by `end`.
fn bad_sixth_row(header: &str, end: &str) -> Vec<u8> {
    let rows = [0, 1, 2, 3, 4, 9].map(|label| format!("{label},{}{end}", face(label)));
    format!("{header}{}", rows.concat()).into_bytes()
}

fn utf16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// The arguments that predict the faces of a CSV.
fn predict(data: &str) -> [&str; 8] {
    ["predict", "run", "--data", data, "--out", "none.csv", "--device", "cpu"]
}

/// The arguments that score the workshop's test faces with a CSV of labels.
fn score(labels: &str) -> [&str; 8] {
    ["evaluate", "run", "--data", "data/my_emotion_test.csv", "--labels", labels, "--device", "cpu"]
}

// CSV files of faces.

/// Trains on a CSV, which must be refused with its name and every part, and leave no run behind.
fn refuse_training_on(cases: &mut Cases, file: &str, parts: &[&str]) {
    let set = format!("data.train={file}");
    cases.expect(&["train", "tiny.toml", "--out", "none", "--set", &set], 2, &[&[file], parts].concat());
    cases.no_run_begun();
}

/// Writes each CSV under its name and trains on it.
fn refuse_training(table: Vec<(&str, Vec<u8>, &[&str])>) {
    let mut cases = Cases::new();
    for (name, bytes, parts) in table {
        let file = format!("{name}.csv");
        cases.write(&file, bytes);
        refuse_training_on(&mut cases, &file, parts);
    }
    cases.finish();
}

#[test]
fn headers_that_name_no_faces() {
    let (a, row) = (face(1), format!("0,{}", face(1)));
    let twice = |header: &str| csv(header, &[format!("0,{a},{a}")]);
    refuse_training(vec![
        ("empty", vec![], &["is empty", "emotion and pixels"]),
        ("only-a-byte-order-mark", "\u{feff}".into(), &["is empty"]),
        ("only-a-header", HEADER.into(), &["no rows of faces"]),
        ("byte-order-mark-and-header", format!("\u{feff}{HEADER}").into(), &["no rows of faces"]),
        ("blank-first-line", csv("\n", &[&row]), &["line 1: no column pixels"]),
        ("no-pixels", csv("emotion,pixel\n", &[&row]), &["line 1: no column pixels", "\"emotion\", \"pixel\""]),
        ("no-emotion", csv("id,pixels\n", &[&row]), &["line 1: no column emotion", "\"id\", \"pixels\""]),
        ("capitals", csv("Emotion,Pixels\n", &[&row]), &["line 1: no column pixels", "\"Pixels\""]),
        // A row of a file without a header is 8,000 bytes long: only its beginning is worth showing.
        ("no-header", csv("", &[&row]), &["line 1: no column pixels", "\"0\""]),
        ("comment", csv("# faces\nemotion,pixels\n", &[&row]), &["line 1: no column pixels", "\"# faces\""]),
        ("semicolons", csv("emotion;pixels\n", &[row.replace(',', ";")]), &["line 1", "\"emotion;pixels\""]),
        ("tabs", csv("emotion\tpixels\n", &[row.replace(',', "\t")]), &["line 1", "\"emotion\\tpixels\""]),
        ("open-quote", csv("\"emotion,pixels\n", &[&row]), &["line 1: no column pixels"]),
        ("line-break-in-a-name", csv("\"emo\ntion\",pixels\n", &[&row]), &["line 1: no column pixels"]),
        ("two-pixels", twice("emotion,pixels,pixels\n"), &["line 1: two columns are named pixels"]),
        ("two-pixels-and-blanks", twice("emotion,pixels, pixels \n"), &["line 1: two columns are named pixels"]),
        ("two-usages", csv("emotion,pixels,Usage,Usage\n", &[format!("{row},,")]), &["two columns are named Usage"]),
        ("utf-16", utf16(&format!("{HEADER}{row}\n")), &["line 1: not UTF-8 at byte 1"]),
        ("latin-1", b"emotion,pixels,\xe9tat\n".to_vec(), &["line 1: not UTF-8 at byte 16"]),
        ("nul-in-the-header", csv("emo\0tion,pixels\n", &[&row]), &["line 1: no column emotion", "emo\\0tion"]),
        ("nuls", vec![0; 60_000], &["line 1: no column pixels", "\\0\\0"]),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\xcd\n".to_vec(), &["line 1: not UTF-8 at byte 2"]),
        ("zip", b"PK\x03\x04\x14\0\0\0\x08\0\xfe\x5a\n".to_vec(), &["line 1: not UTF-8 at byte 11"]),
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), &["line 1: not UTF-8 at byte 1"]),
        ("json", "[{\"emotion\":0,\"pixels\":\"1 2\"}]".into(), &["line 1: no column pixels"]),
        ("escapes", csv("\u{1b}]0;title\u{7},pixel\n", &[&row]), &["line 1: no column pixels", "\\u{1b}"]),
        (
            "training-in-small-letters",
            csv("emotion,pixels,Usage\n", &[format!("{row},training")]),
            &["no row has Usage \"Training\"", "\"training\""],
        ),
        ("no-usage-at-all", csv("emotion,pixels,Usage\n", &[format!("{row},")]), &["no row has Usage \"Training\""]),
    ]);
}

#[test]
fn rows_with_other_fields_than_the_header() {
    let (a, good) = (face(1), format!("0,{}", face(1)));
    let rows = |second: String| csv(HEADER, &[good.clone(), second]);
    let many = |first: &str, count: usize| {
        let rows = (0..count).map(|number| format!("{},{}", number % 7, face(number)));
        csv(HEADER, &[first.to_owned()].into_iter().chain(rows).collect::<Vec<_>>())
    };
    let torn = format!("1,{}", &a[..500]);
    let pixels = format!("line 3, column pixels: {} pixels; expected 2304", a[..500].split_whitespace().count());
    refuse_training(vec![
        ("one-field", rows("1".into()), &["line 3: 1 fields; the header has 2"]),
        ("no-label", rows(a.clone()), &["line 3: 1 fields; the header has 2"]),
        ("three-fields", rows(format!("1,{a},5")), &["line 3: 3 fields; the header has 2"]),
        ("comma-at-the-end", rows(format!("1,{a},")), &["line 3: 3 fields; the header has 2"]),
        ("torn", [&csv(HEADER, &[&good])[..], torn.as_bytes()].concat(), &[pixels.as_str()]),
        ("garbage-behind", [&csv(HEADER, &[&good])[..], b"\xde\xad\xbe\xef x\n"].concat(), &["line 3: 1 fields"]),
        ("commas-between-pixels", csv(HEADER, &[good.replace(' ', ",")]), &["line 2: 2305 fields; the header has 2"]),
        ("two-commas-between-pixels", csv(HEADER, &[good.replace(' ', ",,")]), &["line 2: 4608 fields"]),
        ("semicolons-in-rows", csv(HEADER, &[good.replace(',', ";")]), &["line 2: 1 fields; the header has 2"]),
        ("quote-before-a-comma", csv(HEADER, &[format!("0\",{a}")]), &["line 2, column emotion: unknown label"]),
        ("quote-among-pixels", csv(HEADER, &[format!("0,{}\"{}", &a[..40], &a[40..])]), &["line 2, column pixels"]),
        ("quote-behind-pixels", rows(format!("1,{a}\"")), &["line 3, column pixels: pixel 2304 is"]),
        ("lone-quote-at-the-end", [&csv(HEADER, &[&good])[..], b"\""].concat(), &["line 3"]),
        // An open quote swallows the rows behind it: the message must lead to it.
        ("unclosed-and-few-rows", many(&format!("0,\"{a}"), 20), &["line 2", "quote"]),
        ("unclosed-and-many-rows", many(&format!("0,\"{a}"), 600), &["line 2 is over 1048576 bytes long", "quote"]),
        ("unclosed-label", many(&format!("\"0,{a}"), 600), &["line 2 is over 1048576 bytes long", "quote"]),
    ]);
}

#[test]
fn pixels_that_are_none() {
    let a = face(1);
    let cell = |pixels: &str| csv(HEADER, &[format!("0,{pixels}")]);
    let fifth = "line 2, column pixels: pixel 5 is";
    refuse_training(vec![
        ("one-too-few", cell(a.rsplit_once(' ').unwrap().0), &["line 2, column pixels: 2303 pixels; expected 2304"]),
        ("one-too-many", cell(&format!("{a} 9")), &["line 2, column pixels: 2305 pixels; expected 2304"]),
        ("none", cell(""), &["line 2, column pixels: no pixels; expected 2304 integers 0..255"]),
        ("blank", cell("    "), &["line 2, column pixels: no pixels"]),
        ("256", fifth_pixel("256"), &[fifth, "256; expected 0..255"]),
        ("negative", fifth_pixel("-1"), &[fifth, "\"-1\"; expected an integer 0..255"]),
        ("exponent", fifth_pixel("1e3"), &[fifth, "\"1e3\""]),
        ("fraction", fifth_pixel("3.5"), &[fifth, "\"3.5\""]),
        ("plus", fifth_pixel("+7"), &[fifth, "\"+7\""]),
        ("full-width-digits", fifth_pixel("１２"), &[fifth, "\"１２\""]),
        ("hexadecimal", fifth_pixel("0x1f"), &[fifth, "\"0x1f\""]),
        ("a-million-digits", fifth_pixel(&"9".repeat(1_000_000)), &[fifth, "9999...; expected 0..255"]),
        ("nul", fifth_pixel("1\0"), &[fifth, "\"1\\0\""]),
        ("escape", fifth_pixel("\u{1b}[2J"), &[fifth, "\\u{1b}"]),
        ("tabs-between", cell(&a.replace(' ', "\t")), &["line 2, column pixels: pixel 1 is \"1\\t8"]),
        ("no-break-space", cell(&a.replacen(' ', "\u{a0}", 1)), &["line 2, column pixels: pixel 1 is \"1\\u{a0}8\""]),
        ("quoted-commas", cell(&format!("\"{}\"", a.replace(' ', ","))), &["column pixels: pixel 1 is \"1,8,15"]),
        ("a-python-list", cell(&format!("\"[{}]\"", a.replace(' ', ", "))), &["column pixels: pixel 1 is \"[1,\""]),
        ("not-utf-8", [b"emotion,pixels\n0,1 2 \xff\xfe\n".to_vec()].concat(), &["column pixels: not UTF-8 at byte 5"]),
    ]);
}

#[test]
fn labels_that_are_none_and_the_line_they_stand_on() {
    let unknown = |text: &str| format!("line 2, column emotion: unknown label {text:?}; expected 0..6 (angry,");
    let texts = ["-1", "7", "3.0", "happy", "", "99999999999999999999", "３", "3 4", "0x3", "nan", "\0", "\u{1b}[31m"];
    let mut cases = Cases::new();
    for (number, text) in texts.into_iter().enumerate() {
        let file = format!("label{number}.csv");
        cases.write(&file, label(text));
        refuse_training_on(&mut cases, &file, &[&unknown(text)]);
    }
    cases.write("long.csv", label(&"x".repeat(100_000)));
    refuse_training_on(&mut cases, "long.csv", &["line 2, column emotion: unknown label \"xxx"]);

    // Six rows in six ways, the last of them with the label 9.
    let mixed = |text: Vec<u8>| {
        let text = String::from_utf8(text).unwrap();
        let ends = ["\n", "\r\n"].into_iter().cycle();
        text.lines().zip(ends).map(|(line, end)| format!("{line}{end}")).collect::<String>().into_bytes()
    };
    let files = [
        ("lf.csv", bad_sixth_row(HEADER, "\n"), "line 7, column emotion"),
        ("crlf.csv", bad_sixth_row("emotion,pixels\r\n", "\r\n"), "line 7, column emotion"),
        ("both.csv", mixed(bad_sixth_row(HEADER, "\n")), "line 7, column emotion"),
        ("mark.csv", bad_sixth_row("\u{feff}emotion,pixels\r\n", "\r\n"), "line 7, column emotion"),
        ("cr.csv", bad_sixth_row("emotion,pixels\r", "\r"), "line 7, column emotion"),
        ("blank-lines.csv", bad_sixth_row("emotion,pixels\n\n", "\n\n"), "line 13, column emotion"),
        ("quoted-breaks.csv", bad_sixth_row("emotion,pixels,note\n", ",\"a\nb\nc\"\n"), "line 17, column emotion"),
    ];
    for (file, bytes, line) in files {
        cases.write(file, bytes);
        refuse_training_on(&mut cases, file, &[line, "unknown label \"9\""]);
    }
    cases.write("all.csv", csv(HEADER, &["9,1", "happy,2"]));
    let skip = ["train", "tiny.toml", "--out", "none", "--set", "data.train=all.csv", "--set", "data.on_bad_row=skip"];
    cases.expect(&skip, 2, &["all.csv: no rows of faces: all 2 were skipped, the first at line 2"]);
    cases.finish();
}

#[test]
fn files_far_too_large() {
    let mut cases = Cases::new();
    let good = format!("{HEADER}0,{a}\n1,{a}\n", a = face(1));
    let over = |line: u32| format!("line {line} is over 1048576 bytes long");
    let sparse = [
        ("nuls.csv", String::new(), "line 1 is over 65536 bytes long".to_owned(), ""),
        ("line.csv", HEADER.to_owned(), over(2), ""),
        ("pixels.csv", format!("{HEADER}3,1 2 3"), over(2), ""),
        ("unclosed.csv", format!("{HEADER}3,\"1 2 3"), over(2), "quote"),
        ("header.csv", "emotion,pixels,\"no\n".to_owned(), over(1), "quote"),
        ("behind-rows.csv", good, over(4), ""),
    ];
    for (file, start, problem, quote) in sparse {
        cases.write_sparse(file, start, 10 * GIB);
        cases.expect(&["data", "check", file], 2, &[file, &problem, quote]);
    }
    refuse_training_on(&mut cases, "behind-rows.csv", &[&over(4)]);
    cases.expect(&predict("line.csv"), 2, &["line.csv", &over(2)]);

    cases.write_many("wide.csv", "pixels", ",a", 10_000_000);
    cases.expect(&["data", "check", "wide.csv"], 2, &["wide.csv: line 1 is over 65536 bytes long"]);
    cases.write_many("wide-row.csv", &format!("{HEADER}3"), ",", 10_000_000);
    cases.expect(&["data", "check", "wide-row.csv"], 2, &["wide-row.csv", &over(2)]);
    cases.write_many("long-id.csv", "id,pixels\n", "x", 2 << 20);
    cases.expect(&["data", "check", "long-id.csv"], 2, &["long-id.csv", &over(2)]);

    let header = format!("emotion,pixels{}\n", ",".repeat(60_000));
    cases.write_many("many-columns.csv", &header, &header.replace("emotion,pixels", "9,1"), 200);
    refuse_training_on(&mut cases, "many-columns.csv", &["line 2, column emotion", "and 195 further bad rows"]);
    // Lines that end with CR alone are one line to whoever counts LF.
    cases.write_many("carriage-returns.csv", "emotion,pixels\r", &format!("3,{}\r", face(3)), 20);
    refuse_training_on(&mut cases, "carriage-returns.csv", &["line 1 is over 65536 bytes long"]);
    cases.finish();
}

#[test]
fn a_million_lines_of_nothing() {
    let mut cases = Cases::new();
    let million = 1_000_000;
    cases.write_many("short.csv", HEADER, "a\n", million);
    refuse_training_on(&mut cases, "short.csv", &["line 2: 1 fields; the header has 2", "and 999995 further bad rows"]);
    cases.expect(&["data", "check", "short.csv"], 2, &["1,000,000 rows cannot be read"]);
    cases.write_many("commas.csv", HEADER, ",\n", million);
    refuse_training_on(&mut cases, "commas.csv", &["line 2, column emotion: unknown label \"\""]);
    cases.write_many("quotes.csv", HEADER, "\"\n", million);
    refuse_training_on(&mut cases, "quotes.csv", &["line 2: 1 fields", "and 499995 further bad rows"]);
    cases.write_many("blank.csv", HEADER, "\n", million);
    refuse_training_on(&mut cases, "blank.csv", &["no rows of faces"]);
    cases.write_many("blank-crlf.csv", HEADER, "\r\n", million);
    refuse_training_on(&mut cases, "blank-crlf.csv", &["no rows of faces"]);
    cases.write_many("blank-header.csv", "", "\n", million);
    refuse_training_on(&mut cases, "blank-header.csv", &["line 1: no column pixels"]);
    let bytes = fs_err::read(cases.path("blank.csv")).unwrap();
    cases.write("bad-row.csv", [&bytes[..], b"9,1\n"].concat());
    refuse_training_on(&mut cases, "bad-row.csv", &["line 1000002, column emotion: unknown label \"9\""]);
    cases.finish();
}

#[test]
fn data_check_tells_of_files_that_cannot_be_read() {
    let mut cases = Cases::new();
    let a = face(1);
    for (file, bytes, part) in [
        ("empty.csv", vec![], "empty.csv: is empty"),
        ("gzip.csv", b"\x1f\x8b\x08\0\n".to_vec(), "gzip.csv: line 1: not UTF-8 at byte 2"),
        ("semicolons.csv", csv("emotion;pixels\n", &[&a]), "semicolons.csv: line 1: no column pixels"),
        ("two.csv", csv("pixels,pixels\n", &[&a]), "two.csv: line 1: two columns are named pixels"),
    ] {
        cases.write(file, bytes);
        cases.expect(&["data", "check", file], 2, &[part]);
        cases.expect(&["data", "check", "data/my_emotion_test.csv", file], 2, &[part]);
    }
    // The rows are part of the report, which is the result; that there are any is the error.
    for (file, bytes, row) in [
        ("pixels.csv", csv("pixels\n", &["1 2 3"]), "line 2, column pixels: 3 pixels; expected 2304"),
        ("label.csv", label("7"), "line 2, column emotion: unknown label \"7\"; expected 0..6"),
        ("fields.csv", csv(HEADER, &["1"]), "line 2: 1 fields; the header has 2"),
        ("id.csv", csv("id,pixels\n", &[format!(",{a}")]), "line 2, column id: is empty"),
        ("unclosed.csv", csv(HEADER, &[format!("0,\"{a}"), format!("1,{a}")]), "quote"),
    ] {
        cases.write(file, bytes);
        let done = cases.expect(&["data", "check", file], 2, &["1 row cannot be read"]);
        cases.also(done.is_some_and(|done| done.stdout.contains(row)), &format!("{file}: no {row:?} in the report"));
    }
    // Not wrong, but wider than any table.
    cases.write("usage.csv", csv("emotion,pixels,Usage\n", &[format!("0,{a},{}", "u".repeat(70_000))]));
    cases.expect(&["data", "check", "usage.csv"], 0, &[]);
    let long = format!("{},b,c,d,e,f,g", "x".repeat(70_000));
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", &long], 2, &["--classes"]);
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", "a,a"], 2, &["--classes", "distinct"]);
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", ""], 2, &["--classes", "2 to 100 names"]);
    let hundred = (0..=100).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", &hundred], 2, &["2 to 100 names"]);
    cases.finish();
}

#[test]
fn odd_files_that_are_fine() {
    let mut cases = Cases::new();
    let (a, b) = (face(1), face(2));
    for (file, text) in [
        ("double-blanks.csv", format!("{HEADER}0,{}\n", a.replace(' ', "  "))),
        ("leading-zeros.csv", format!("{HEADER}0,{}\n", a.replacen("8", "008", 1))),
        ("byte-order-mark.csv", format!("\u{feff}{HEADER}0,{a}\n")),
        ("crlf.csv", format!("{HEADER}0,{a}\n").replace('\n', "\r\n")),
        ("both-line-ends.csv", format!("{HEADER}0,{a}\r\n1,{b}\n")),
        ("blank-lines.csv", format!("{HEADER}\n\n0,{a}\n\n\n1,{b}\n\n")),
        ("no-last-line-break.csv", format!("{HEADER}0,\"{a}\"")),
        ("inches.csv", format!("emotion,pixels,note\n0,{a},19\"\" screen\n1,{b},5\" disk\n")),
        ("line-break-in-a-note.csv", format!("emotion,pixels,note\n0,{a},\"one\ntwo \"\"three\"\"\"\n1,{b},x\n")),
    ] {
        cases.write(file, text);
        cases.expect(&["data", "check", file], 0, &[]);
    }
    cases.finish();
}

#[test]
fn what_predict_cannot_read() {
    let mut cases = Cases::new();
    let (a, b) = (face(1), face(2));
    for (file, bytes, parts) in [
        ("empty.csv", vec![], &["empty.csv: is empty"][..]),
        ("header.csv", b"id,pixels\n".to_vec(), &["header.csv: no rows of faces"]),
        ("labels.csv", b"id,emotion\n0,1\n".to_vec(), &["labels.csv: line 1: no column pixels"]),
        ("two-ids.csv", csv("id,id,pixels\n", &[format!("0,1,{a}")]), &["line 1: two columns are named id"]),
        ("no-id.csv", csv("id,pixels\n", &[format!("0,{a}"), format!(",{b}")]), &["line 3, column id: is empty"]),
        ("high.csv", fifth_pixel("256"), &["line 2, column pixels: pixel 5 is 256; expected 0..255"]),
        ("short.csv", csv("pixels\n", &[&a[..], "1 2"]), &["line 3, column pixels: 2 pixels; expected 2304"]),
        ("not-utf-8.csv", b"id,pixels\n\xff,1\n".to_vec(), &["not-utf-8.csv: line 2"]),
    ] {
        cases.write(file, bytes);
        cases.expect(&predict(file), 2, parts);
    }
    let usage = ["--usage", "PublicTest"];
    let test = [&predict("data/my_emotion_test.csv")[..], &usage].concat();
    cases.expect(&test, 2, &["my_emotion_test.csv: has no column Usage"]);
    cases.write("usage.csv", csv("pixels,Usage\n", &[format!("{a},Training"), format!("{b},PrivateTest")]));
    let usages = [&predict("usage.csv")[..], &usage].concat();
    cases.expect(&usages, 2, &["usage.csv: no row has Usage \"PublicTest\"", "\"PrivateTest\"", "\"Training\""]);
    cases.also(!cases.path("none.csv").exists(), "a file of predictions was left behind");
    cases.finish();
}

// Labels for scoring.

#[test]
fn labels_for_scoring() {
    let mut cases = Cases::new();
    let good = text(cases.path("data/my_emotion_test_labels.csv"));
    let lines: Vec<&str> = good.lines().collect();
    // The row of id 6 stands on line 8.
    let row = |new: &str| [&lines[..7], &[new], &lines[8..]].concat().join("\n");
    let repeated = format!("{good}4,1\n");
    let missing = lines[..150].join("\n");
    let columns = |header: &str, more: &str| {
        lines[1..].iter().fold(header.to_owned(), |text, line| text + &format!("\n{line}{more}"))
    };
    let unknown = |text: &str| format!("labels.csv: line 8, column emotion: unknown label {text:?}; expected 0..6");
    let quote_open = format!("id,emotion\n\"0,1\n{}", "1,1\n".repeat(400_000));
    let mut table: Vec<(Vec<u8>, Vec<String>)> = vec![
        (vec![], vec!["labels.csv: is empty".into()]),
        ("id,emotion\n".into(), vec!["labels.csv: no label for id \"0\"".into()]),
        (missing.into(), vec!["labels.csv: no label for id \"149\"".into()]),
        (repeated.into(), vec!["labels.csv: line 152, column id: \"4\" stands there twice".into()]),
        (row("6\0,1").into(), vec!["labels.csv: no label for id \"6\"".into()]),
        (good.replace("emotion", "label").into(), vec!["labels.csv: line 1: no column emotion".into()]),
        (good.replace("id,", "face,").into(), vec!["labels.csv: line 1: no column id".into()]),
        (good.replace(',', ";").into(), vec!["labels.csv: line 1: no column id; expected id,emotion".into()]),
        (columns("id,emotion,emotion", ",1").into(), vec!["line 1: two columns are named emotion".into()]),
        (columns("id,emotion,id", ",1").into(), vec!["line 1: two columns are named id".into()]),
        (row("6,1,1").into(), vec!["labels.csv: line 8".into(), "3 fields".into()]),
        (row("6").into(), vec!["labels.csv: line 8".into(), "1 fields".into()]),
        (format!("{good}garbage\n").into(), vec!["labels.csv: line 152".into(), "1 fields".into()]),
        (row("6,9").replace('\n', "\r\n").into(), vec![unknown("9")]),
        (row("\n\n6,9").into(), vec!["labels.csv: line 10, column emotion: unknown label \"9\"".into()]),
        (utf16(&good), vec!["labels.csv: line 1".into(), "UTF-8".into()]),
        ([good.as_bytes(), b"\xe9,1\n"].concat(), vec!["labels.csv".into(), "line 152".into(), "UTF-8".into()]),
        (vec![0; 1000], vec!["labels.csv: line 1: no column id".into()]),
        (b"\x1f\x8b\x08\0\n".to_vec(), vec!["labels.csv: line 1".into(), "UTF-8".into()]),
        (quote_open.into(), vec!["labels.csv: line 2 is over 1048576 bytes long".into(), "quote".into()]),
    ];
    for text in ["7", "-1", "happy", "3.0", "", "99999999999999999999", "\0"] {
        table.push((row(&format!("6,{text}")).into(), vec![unknown(text)]));
    }
    table.push((row(&format!("6,{}", "x".repeat(100_000))).into(), vec!["line 8, column emotion".into()]));
    let score = score("labels.csv");
    for (bytes, parts) in table {
        cases.write("labels.csv", bytes);
        cases.expect(&score, 2, &parts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for (start, line) in [("", 1), ("id,emotion\n0,1\n", 3), ("id,emotion\n0,\"1", 2)] {
        cases.write_sparse("labels.csv", start, 10 * GIB);
        cases.expect(&score, 2, &[&format!("labels.csv: line {line} is over 1048576 bytes long")]);
    }
    cases.write_many("labels.csv", "id,emotion\n0,1", ",a", 10_000_000);
    cases.expect(&score, 2, &["labels.csv: line 2 is over 1048576 bytes long"]);
    cases.write_many("labels.csv", "id,emotion\n", "a\n", 1_000_000);
    cases.expect(&score, 2, &["labels.csv: line 2", "1 fields"]);
    cases.write_many("labels.csv", "id,emotion\n", "\n", 1_000_000);
    cases.expect(&score, 2, &["labels.csv: no label for id \"0\""]);
    let swapped = ["evaluate", "run", "--data", "data/my_emotion_test_labels.csv"];
    cases.expect(&swapped, 2, &["my_emotion_test_labels.csv: line 1: no column pixels"]);
    cases.finish();
}

// Configs.

/// The small config with one place changed.
fn tiny(old: &str, new: &str) -> String {
    assert!(TINY.contains(old), "{old} is not in the config");
    TINY.replacen(old, new, 1)
}

/// The small config with a line more at the beginning of a section.
fn in_section(section: &str, line: &str) -> String {
    tiny(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n"))
}

/// The small config with an `[augment]` section of one line, which is line 15.
fn augment(line: &str) -> String {
    format!("{TINY}[augment]\n{line}\n")
}

/// The small config with another optimizer, which stands on line 13.
fn optimizer(table: &str) -> String {
    tiny("{ kind = \"adam\", lr = 3e-3 }", table)
}

/// Runs a case of a config or of `--set`, whose message is for people who know no Rust.
fn refuse_config(cases: &mut Cases, args: &[&str], parts: &[&str]) {
    if let Some(done) = cases.expect(args, 2, parts) {
        for name in RUST_TYPES {
            let what = format!("{}: {name:?} in: {}", short(&args.join(" ")), short(&done.stderr));
            cases.also(!done.stderr.contains(name), &what);
        }
    }
    cases.no_run_begun();
}

fn refuse_configs<Text: AsRef<[u8]>>(table: &[(Text, &[&str])]) {
    let mut cases = Cases::new();
    for (text, parts) in table {
        cases.write("c.toml", text);
        refuse_config(&mut cases, &["train", "c.toml", "--out", "none"], parts);
    }
    cases.finish();
}

#[test]
fn configs_that_are_no_toml() {
    let nested = |open: &str, times: usize| format!("seed = {}\n{TINY}", open.repeat(times));
    let dots = vec!["a"; 10_000].join(".");
    let too_large = format!("{TINY}#{}", "x".repeat(2 << 20));
    let nesting: &[&str] = &["c.toml", "not valid TOML", "recur"];
    refuse_configs::<Vec<u8>>(&[
        (vec![], &["c.toml: missing field `name`"]),
        (b"\n# nothing\n\n".to_vec(), &["c.toml: missing field `name`"]),
        (b"hello world\n".to_vec(), &["c.toml:1: not valid TOML"]),
        (b"{\"name\": \"x\"}\n".to_vec(), &["c.toml:1: not valid TOML"]),
        (b"[data]\ntrain=data/x.csv\n".to_vec(), &["c.toml:2: not valid TOML", "quoted"]),
        (format!("{TINY}\0").into(), &["c.toml:14: not valid TOML"]),
        (vec![0; 3000], &["c.toml:1: not valid TOML"]),
        ((0..=255).rev().cycle().take(3000).collect(), &["c.toml: not UTF-8"]),
        (utf16(TINY), &["c.toml: not UTF-8", "a config file in TOML"]),
        (TINY.replace('\n', "\r").into(), &["c.toml:1: not valid TOML"]),
        (tiny("epochs = 3", "epochs = 0").replace('\n', "\r\n").into(), &["c.toml:11: train.epochs = 0"]),
        (format!("\u{feff}{}", tiny("epochs = 3", "epochs = 0")).into(), &["c.toml:11: train.epochs = 0"]),
        (tiny("batch = 64", "batch = 64\nbatch = 32").into(), &["c.toml:13: not valid TOML: duplicate key"]),
        (format!("{TINY}[data]\ntrain = \"x\"\n").into(), &["c.toml:14: not valid TOML: duplicate key"]),
        (too_large.into(), &["c.toml: 20", "at most 1048576"]),
        (format!("{dots} = 1\n{TINY}").into(), nesting),
        (format!("{TINY}[{dots}]\nx = 1\n").into(), nesting),
        (format!("{TINY}[[{dots}]]\nx = 1\n").into(), nesting),
        (nested("[", 100_000).into(), nesting),
        (nested("{a=", 50_000).into(), nesting),
    ]);
}

#[test]
fn configs_with_unknown_and_missing_keys() {
    let without = |section: &str| {
        let begin = TINY.find(&format!("[{section}]")).unwrap();
        let end = TINY[begin..].find("\n[").map_or(TINY.len(), |next| begin + next + 1);
        format!("{}{}", &TINY[..begin], &TINY[end..])
    };
    refuse_configs::<String>(&[
        (format!("nmae = \"x\"\n{TINY}"), &["c.toml:1: nmae: unknown field", "`name`, `seed`"]),
        (in_section("data", "trian = \"x\""), &["c.toml:5: data.trian: unknown field", "`train`, `test`"]),
        (in_section("model", "filter = [1]"), &["c.toml:7: model.filter: unknown field", "`filters`"]),
        (in_section("train", "epoch = 3"), &["c.toml:11: train.epoch: unknown field", "`epochs`"]),
        (augment("rotat = 3"), &["c.toml:15: augment.rotat: unknown field", "`rotate`"]),
        (optimizer("{ momentum = 0.9 }"), &["c.toml:13: train.optimizer.momentum: unknown field", "`beta1`"]),
        (format!("{TINY}[traning]\nepochs = 3\n"), &["c.toml:14: traning: unknown field"]),
        (format!("{TINY}[train.early_stop]\npatence = 3\n"), &["c.toml:15: train.early_stop.patence: unknown field"]),
        (format!("{TINY}[train.checkpoint_every]\nepoch = 3\n"), &["c.toml:15: train.checkpoint_every.epoch: unknown"]),
        (
            in_section("train", "schedule = { kind = \"constant\", hold = 3 }"),
            &["c.toml:11: train.schedule.hold: unkn"],
        ),
        // A name in quotes is one name, whatever stands in it.
        (format!("\"train.batch\" = 3\n{TINY}"), &["c.toml:1: ", "unknown field `train.batch`"]),
        (format!("\"a\\u001b[31m\" = 3\n{TINY}"), &["c.toml", "unknown field"]),
        (format!("{} = 3\n{TINY}", "x".repeat(100_000)), &["c.toml:1: xxx", "unknown field"]),
        (tiny("name = \"tiny\"\n", ""), &["c.toml: missing field `name`"]),
        (tiny("train = \"data/my_emotion_train.csv\"\n", ""), &["c.toml:4: data: missing field `train`"]),
        (without("data"), &["c.toml: missing field `data`"]),
        (without("model"), &["c.toml: missing field `model`"]),
        (tiny("kind = \"cnn\"\n", ""), &["c.toml:6: model: missing field `kind`"]),
    ]);
}

#[test]
fn configs_with_values_of_other_types() {
    let no_train = TINY.split("[train]").next().unwrap();
    refuse_configs::<String>(&[
        (tiny("name = \"tiny\"", "name = 3"), &["c.toml:1: name: invalid type: integer `3`, expected a string"]),
        (tiny("device = \"cpu\"", "device = 0"), &["c.toml:2: device: invalid type: integer `0`"]),
        (tiny("precision = \"f32\"", "precision = 32"), &["c.toml:3: precision: invalid type: integer `32`"]),
        (format!("seed = 1.5\n{TINY}"), &["c.toml:1: seed: invalid type: floating point `1.5`"]),
        ("name = \"x\"\ndata = 3\nmodel = 3\n".into(), &["c.toml:2: data: invalid type", "expected a table"]),
        ("name = \"x\"\nmodel = 3\n[data]\ntrain = \"x\"\n".into(), &["c.toml:2: model: invalid type", "a table"]),
        // A list is no table, even where its values would fit.
        (format!("train = []\n{no_train}"), &["c.toml:1: train: invalid type", "expected a table"]),
        (format!("augment = [1, 0.1, 0.1, true]\n{TINY}"), &["c.toml:1: augment: invalid type", "expected a table"]),
        (format!("{TINY}[[augment]]\nrotate = 1\n"), &["c.toml", "augment: invalid type", "expected a table"]),
        (tiny("\"data/my_emotion_train.csv\"", "3"), &["c.toml:5: data.train: invalid type: integer `3`"]),
        (in_section("data", "validation = true"), &["c.toml:5: data.validation: invalid type", "a fraction above 0"]),
        (in_section("data", "classes = \"a,b\""), &["c.toml:5: data.classes: invalid type: string \"a,b\""]),
        (in_section("data", "classes = [1, 2]"), &["c.toml:5: data.classes[0]: invalid type: integer `1`"]),
        (tiny("[16, 32]", "\"16\""), &["c.toml:8: model.filters: invalid type: string \"16\""]),
        (tiny("[16, 32]", "[16, \"32\"]"), &["c.toml:8: model.filters[1]: invalid type: string \"32\""]),
        (tiny("kind = \"cnn\"", "kind = 3"), &["c.toml:7: model.kind: invalid type: integer `3`"]),
        (tiny("epochs = 3", "epochs = \"3\""), &["c.toml:11: train.epochs: invalid type: string \"3\""]),
        (tiny("epochs = 3", "epochs = nan"), &["c.toml:11: train.epochs: invalid type"]),
        (tiny("epochs = 3", "epochs = 2024-01-01"), &["c.toml:11: train.epochs: invalid type"]),
        (optimizer("\"adam\""), &["c.toml:13: train.optimizer: invalid type: string \"adam\", expected a table"]),
        (optimizer("{ lr = \"3e-3\" }"), &["c.toml:13: train.optimizer.lr: invalid type: string \"3e-3\""]),
        (augment("flip = 1"), &["c.toml:15: augment.flip: invalid type: integer `1`, expected a boolean"]),
    ]);
}

#[test]
fn configs_with_data_names_and_networks_out_of_range() {
    let name = |text: &str| tiny("name = \"tiny\"", &format!("name = {text:?}"));
    let classes = |list: &str| in_section("data", &format!("classes = {list}"));
    let hundred = format!("{:?}", (0..=100).map(|number| format!("c{number}")).collect::<Vec<_>>());
    let long = format!("[\"{}\", \"b\"]", "x".repeat(70_000));
    let distinct: &[&str] = &["c.toml:5: data.classes", "distinct names without quotes"];
    refuse_configs::<String>(&[
        (name("a/b"), &["c.toml:1: name", "a/b", "letters, digits or -_.+"]),
        (name(".hidden"), &["c.toml:1: name", "not starting with a dot"]),
        (name(&"x".repeat(100_000)), &["c.toml:1: name", "1 to 100 letters"]),
        (tiny("\"tiny\"", "\"a\\u001b[31m\""), &["c.toml:1: name", "letters, digits"]),
        (format!("seed = -1\n{TINY}"), &["c.toml:1: seed", "-1"]),
        (format!("seed = 99999999999999999999999\n{TINY}"), &["c.toml:1"]),
        (format!("threads = 1025\n{TINY}"), &["c.toml:1: threads = 1025", "0 (one per core) to 1024"]),
        (tiny("\"f32\"", "\"f64\""), &["c.toml:3: precision: unknown variant `f64`", "`bf16`"]),
        (tiny("\"cpu\"", "\"gpu\""), &["c.toml:2: device: unknown device \"gpu\"", "cuda:N"]),
        (tiny("\"data/my_emotion_train.csv\"", "\"\""), &["data.train"]),
        (in_section("data", "validation = 0"), &["c.toml:5: data.validation = 0", "a fraction above 0 and below 1"]),
        (in_section("data", "validation = nan"), &["c.toml:5: data.validation = NaN", "a fraction above 0"]),
        (in_section("data", "validation = \"Training\""), &["data.validation = \"Training\"", "the training rows"]),
        (in_section("data", "validation = \"PublicTest\""), &["my_emotion_train.csv: has no column Usage"]),
        (in_section("data", "split = \"kfold\""), &["c.toml:5: data.split: unknown variant `kfold`", "`stratified`"]),
        (in_section("data", "on_bad_row = \"ignore\""), &["c.toml:5: data.on_bad_row: unknown variant", "`skip`"]),
        (classes("[]"), &["c.toml:5: data.classes = 0", "2 to 100 names"]),
        (classes(&hundred), &["c.toml:5: data.classes = 101", "2 to 100 names"]),
        (classes("[\"a\", \"a\"]"), distinct),
        (classes("[\"a,b\", \"c\"]"), distinct),
        (classes("[\"a\", \"\\u001b[31m\"]"), &["c.toml:5: data.classes"]),
        (classes(&long), &["c.toml:5: data.classes"]),
        (tiny("[16, 32]", "[]"), &["c.toml:8: model.filters = []", "1 to 8 numbers of 1 to 4096"]),
        (tiny("[16, 32]", "[9223372036854775807]"), &["c.toml:8: model.filters = [9223372036854775807]"]),
        (tiny("[16, 32]", &format!("[{}]", "1,".repeat(300_000))), &["c.toml:8: model.filters", "1 to 8 numbers"]),
        (tiny("[16, 32]", "[1, 1, 1, 1, 1, 1]"), &["c.toml:8: model.filters", "at least one pixel of 48x48"]),
        (tiny("[16]", "[65537]"), &["c.toml:9: model.dense = [65537]", "up to 8 numbers of 1 to 65536"]),
        (in_section("model", "kernel = 2"), &["c.toml:7: model.kernel = 2", "an odd number, 1 to 15"]),
        (in_section("model", "kernel = 9223372036854775807"), &["c.toml:7: model.kernel", "an odd number, 1 to 15"]),
        (in_section("model", "dropout = nan"), &["c.toml:7: model.dropout = NaN", "0 to below 1"]),
        (in_section("model", "padding = \"full\""), &["c.toml:7: model.padding: unknown variant `full`", "`same`"]),
        (tiny("\"cnn\"", "\"rnn\""), &["c.toml:7: model.kind: unknown variant `rnn`", "`cnn`"]),
        (
            tiny("[16, 32]", "[4096, 4096, 4096]").replace("[16]", "[65536, 65536]"),
            &["c.toml", "model: 8892104704 parameters; expected at most 268435456"],
        ),
        (
            tiny("[16, 32]", "[4096, 4096, 4096, 4096, 4096]\nconvolutions = 8\nkernel = 15\npadding = \"same\""),
            &["c.toml", "parameters; expected at most 268435456"],
        ),
    ]);
}

#[test]
fn configs_with_a_training_out_of_range() {
    let epochs = |value: &str| tiny("epochs = 3", &format!("epochs = {value}"));
    let batch = |value: &str| tiny("batch = 64", &format!("batch = {value}"));
    let lr = |value: &str| tiny("3e-3", value);
    let train = |line: &str| in_section("train", line);
    let every: &[&str] = &["c.toml:11: train.checkpoint_every", "at least one of epochs, steps, seconds"];
    refuse_configs::<String>(&[
        (epochs("0"), &["c.toml:11: train.epochs = 0", "1 to 100000"]),
        (epochs("-1"), &["c.toml:11: train.epochs", "-1"]),
        (epochs("9223372036854775808"), &["c.toml:11: not valid TOML"]),
        (batch("0"), &["c.toml:12: train.batch = 0", "1 to 65536"]),
        (batch("-64"), &["c.toml:12: train.batch", "-64"]),
        (lr("0"), &["c.toml:13: train.optimizer.lr = 0", "above 0, at most 100"]),
        (lr("nan"), &["c.toml:13: train.optimizer.lr = NaN", "above 0, at most 100"]),
        (lr("1e400"), &["c.toml:13: not valid TOML"]),
        (optimizer("{ beta1 = 1 }"), &["c.toml:13: train.optimizer.beta1 = 1", "0 to below 1"]),
        (optimizer("{ eps = inf }"), &["c.toml:13: train.optimizer.eps = inf", "above 0, at most 1"]),
        (optimizer("{ kind = \"adamw\", weight_decay = 11 }"), &["c.toml:13: train.optimizer.weight_decay = 11"]),
        (optimizer("{ kind = \"sgd\", momentum = 1 }"), &["c.toml:13: train.optimizer.momentum = 1", "0 to below 1"]),
        (optimizer("{ kind = \"sgd\", momentum = 0 }"), &["c.toml:13: train.optimizer.nesterov", "momentum is 0"]),
        (optimizer("{ kind = \"rmsprop\" }"), &["c.toml:13: train.optimizer.kind: unknown variant", "`adamw`"]),
        (train("schedule = { rate = inf }"), &["c.toml:11: train.schedule.rate = inf", "0 to 100"]),
        (train("schedule = { hold = -1 }"), &["c.toml:11: train.schedule.hold", "-1"]),
        (train("schedule = { kind = \"cosine\" }"), &["c.toml:11: train.schedule.kind: unknown variant `cosine`"]),
        (train("early_stop = { monitor = \"loss\" }"), &["c.toml:11: train.early_stop.monitor: unknown variant"]),
        (train("checkpoint_every = {}"), every),
        (train("checkpoint_every = { seconds = nan }"), every),
        (train("max_rollbacks = 101"), &["c.toml:11: train.max_rollbacks = 101", "0 to 100"]),
        (augment("rotate = 181"), &["c.toml:15: augment.rotate = 181", "0 to 180 degrees"]),
        (augment("shift = inf"), &["c.toml:15: augment.shift = inf", "0 to 1"]),
        (augment("zoom = nan"), &["c.toml:15: augment.zoom = NaN", "0 to below 1"]),
    ]);
}

#[test]
fn sets_that_change_no_config() {
    let parts = |count: usize| format!("{}=1", vec!["a"; count].join("."));
    let (seventeen, ten_thousand) = (parts(17), parts(10_000));
    let brackets = format!("seed={}", "[".repeat(50_000));
    let (long_key, long_value) = (format!("{}=1", "x".repeat(50_000)), format!("name={}", "x".repeat(50_000)));
    let network = "model={kind=\"cnn\",filters=[4096,4096,4096],dense=[65536,65536]}";
    let table: Vec<(&str, &[&str])> = vec![
        ("train", &["--set train: expected key=value, such as train.batch=128"]),
        ("", &["expected key=value, such as train.batch=128"]),
        ("=3", &["--set =3: the key is empty"]),
        ("train..batch=3", &["--set train..batch=3: the key is empty or has an empty part"]),
        (&seventeen, &["has more than 16 parts"]),
        (&ten_thousand, &["has more than 16 parts"]),
        ("name.x=1", &["--set name.x=1: name is not a table"]),
        ("model.filters.0=3", &["--set model.filters.0=3: filters is not a table"]),
        ("train.batch=0", &["--set train.batch=0: train.batch = 0", "1 to 65536"]),
        ("train.batch=-1", &["--set train.batch=-1: train.batch", "-1"]),
        ("train.batch=many", &["--set train.batch=many: train.batch: invalid type: string \"many\""]),
        ("train.batch=", &["--set train.batch=: train.batch: invalid type: string \"\""]),
        ("train.epochs=99999999999999999999999", &["train.epochs", "99999999999999999999999"]),
        ("train.optimizer.lr=nan", &["--set train.optimizer.lr=nan: train.optimizer.lr = NaN", "at most 100"]),
        ("train.optimizer={kind=\"sdg\"}", &["train.optimizer.kind: unknown variant `sdg`", "`sgd`"]),
        ("train=[]", &["--set train=[]: train: invalid type", "expected a table"]),
        ("augment=[1,0.1,0.1,true]", &["augment: invalid type", "expected a table"]),
        ("model.filters=[4096", &["--set model.filters=[4096: model.filters: invalid type: string \"[4096\""]),
        ("seed=3\nname=\"x\"", &["seed: invalid type: string"]),
        ("seed=-1", &["--set seed=-1: seed", "-1"]),
        ("TRAIN.batch=3", &["--set TRAIN.batch=3: TRAIN: unknown field"]),
        ("\u{1b}[31m=1", &["unknown field"]),
        ("data.classes=[]", &["--set data.classes=[]: data.classes = 0", "2 to 100 names"]),
        ("data.train=", &["data.train"]),
        ("precision=f16", &["--set precision=f16: precision: unknown variant `f16`"]),
        (network, &["--set model=", "8892104704 parameters; expected at most 268435456"]),
        (&brackets, &["seed: invalid type"]),
        (&long_key, &["unknown field"]),
        (&long_value, &["name = xxx", "1 to 100 letters"]),
    ];
    let mut cases = Cases::new();
    for (set, parts) in table {
        refuse_config(&mut cases, &["train", "tiny.toml", "--out", "none", "--set", set], parts);
    }
    let two = ["train", "tiny.toml", "--out", "none", "--set", "train.epochs=0", "--set", "train.epochs=1"];
    let three = [&two[..], &["--set", "train.batch=0"]].concat();
    refuse_config(&mut cases, &three, &["--set train.batch=0: train.batch = 0"]);
    let sheet = ["data", "augment", "--config", "tiny.toml", "--out", "none.png", "--set", "augment.zoom=2"];
    refuse_config(&mut cases, &sheet, &["--set augment.zoom=2: augment.zoom = 2", "0 to below 1"]);
    cases.finish();
}

// Checkpoints and run directories.

/// A safetensors file taken apart.
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

    /// The file with another header.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut copy = self.clone();
        change(&mut copy.header);
        copy.bytes()
    }

    /// The file with another value in its metadata, or without it.
    fn with_metadata(&self, key: &str, value: Option<&str>) -> Vec<u8> {
        self.with(|header| {
            let metadata = header["__metadata__"].as_object_mut().unwrap();
            match value {
                Some(value) => metadata.insert(key.to_owned(), value.into()),
                None => metadata.remove(key),
            };
        })
    }

    /// The file with bytes behind its tensors.
    fn and(&self, more: &[u8]) -> Vec<u8> {
        [&self.bytes()[..], more].concat()
    }
}

/// A header behind its length.
fn with_length(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header].concat()
}

/// The bytes with a bit flipped behind the first place where `text` stands.
fn flipped_behind(bytes: &[u8], text: &str) -> Vec<u8> {
    let place = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the text stands there");
    let mut bytes = bytes.to_vec();
    bytes[place + text.len()] ^= 1;
    bytes
}

/// The bytes with a bit flipped this far from the end.
fn flipped_before_the_end(bytes: &[u8], back: usize) -> Vec<u8> {
    let (mut bytes, place) = (bytes.to_vec(), bytes.len() - back);
    bytes[place] ^= 1;
    bytes
}

/// Ways to damage a checkpoint: its bytes, and what a message about it must say.
fn damages(good: &Archive) -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let bytes = good.bytes();
    let (first, second) = ("block1.conv.bias", "block1.conv.weight");
    let end = good.tensors.len();
    let offsets = |range: [u64; 2]| good.with(|header| header[first]["data_offsets"] = json!(range));
    let shape = |edges: Value| good.with(|header| header[first]["shape"] = edges);
    let dtype = |name: &str| good.with(|header| header[first]["dtype"] = name.into());
    let extra = json!({ "dtype": "F32", "shape": [1], "data_offsets": [end, end + 4] });
    let mut with_extra = good.clone();
    with_extra.header["extra"] = extra;
    let nested = |open: &str, times: usize| with_length(open.repeat(times).as_bytes());
    let all_later = good.with(|header| {
        for (_, tensor) in header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__") {
            let later = |place: &Value| place.as_u64().unwrap() + 4;
            tensor["data_offsets"] = json!([later(&tensor["data_offsets"][0]), later(&tensor["data_offsets"][1])]);
        }
    });
    vec![
        ("empty", vec![], &["0 bytes"]),
        ("7 bytes", bytes[..7].to_vec(), &["7 bytes"]),
        ("8 bytes", vec![0; 8], &["damaged"]),
        ("text", b"not a checkpoint, a text".to_vec(), &["damaged"]),
        ("longest header", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &["18446744073709551615"]),
        ("header beyond the end", [&1000u64.to_le_bytes()[..], b"{}"].concat(), &["1000"]),
        ("header no JSON", with_length(b"no JSON at all"), &["damaged"]),
        ("header a list", with_length(b"[1, 2]"), &["damaged"]),
        ("header nested deeply", nested("{\"a\":", 100_000), &["damaged"]),
        ("header lists nested deeply", nested("[", 100_000), &["damaged"]),
        ("no metadata", with_length(b"{}"), &["metadata"]),
        ("another format", good.with_metadata("format", Some("pt")), &["\"pt\"", "\"grimace-checkpoint\""]),
        ("an older version", good.with_metadata("format_version", Some("1")), &["version", "\"1\"", "\"2\""]),
        ("a newer version", good.with_metadata("format_version", Some("3")), &["version", "\"3\"", "\"2\""]),
        ("a long version", good.with_metadata("format_version", Some(&"9".repeat(100_000))), &["version", "\"2\""]),
        ("no format", good.with_metadata("format", None), &["no format"]),
        ("no version", good.with_metadata("format_version", None), &["no format_version"]),
        ("no checksum", good.with_metadata("checksum", None), &["no checksum"]),
        ("state no JSON", good.with_metadata("state", Some("{")), &["checksum"]),
        ("another config", good.with_metadata("config", Some("name = \"x\"")), &["checksum"]),
        ("overlapping tensors", good.with(|header| header[second]["data_offsets"] = json!([0, 576])), &["damaged"]),
        ("a tensor beyond the end", offsets([0, 1 << 40]), &["damaged"]),
        ("a tensor at the end of numbers", offsets([u64::MAX - 64, u64::MAX]), &["damaged"]),
        ("a tensor backwards", offsets([64, 0]), &["damaged"]),
        ("a gap before the tensors", [all_later, vec![0; 4]].concat(), &["damaged"]),
        ("a shape too large for numbers", shape(json!([1u64 << 40, 1u64 << 40])), &["damaged"]),
        ("a shape below zero", shape(json!([-16])), &["damaged"]),
        ("a shape of 100,000 edges", shape(json!(vec![1; 100_000])), &["damaged"]),
        ("another shape of the same size", shape(json!([4, 4])), &["checksum"]),
        ("a tensor of F64", dtype("F64"), &["damaged"]),
        ("a tensor of I32", dtype("I32"), &["block1.conv.bias is I32", "expected F32"]),
        ("a missing tensor", good.with(|header| drop(header.as_object_mut().unwrap().remove(first))), &["damaged"]),
        ("one tensor more", with_extra.and(&[0; 4]), &["checksum"]),
        ("cut by a byte", bytes[..bytes.len() - 1].to_vec(), &["damaged"]),
        ("cut in half", bytes[..bytes.len() / 2].to_vec(), &["damaged"]),
        ("cut in the header", bytes[..100].to_vec(), &["damaged"]),
        ("one byte more", good.and(b"x"), &["damaged"]),
        ("a bit of a tensor", flipped_before_the_end(&bytes, 40), &["checksum"]),
        ("a bit of the config", flipped_behind(&bytes, "filters = ["), &["checksum"]),
        ("a bit of the state", flipped_behind(&bytes, "\\\"seconds\\\":"), &["checksum"]),
    ]
}

/// Copies the workshop's run, without what `but` names.
fn copy_run(cases: &Cases, name: &str, but: &[&str]) {
    let folder = cases.path(name);
    if folder.exists() {
        fs_err::remove_dir_all(&folder).unwrap();
    }
    fs_err::create_dir(&folder).unwrap();
    for entry in fs_err::read_dir(workshop().join("run")).unwrap() {
        let entry = entry.unwrap();
        if !but.iter().any(|name| entry.file_name() == *name) {
            fs_err::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
}

const EVALUATE: [&str; 6] = ["evaluate", "copy", "--data", "data/my_emotion_train.csv", "--device", "cpu"];
const PREDICT: [&str; 8] =
    ["predict", "copy", "--data", "data/my_emotion_test.csv", "--out", "none.csv", "--device", "cpu"];
const EXPORT: [&str; 4] = ["export", "copy", "--out", "none.pt"];
const GO_ON: [&str; 7] = ["train", "tiny.toml", "--out", "copy", "--resume", "--set", "train.epochs=4"];

#[test]
fn damaged_best_weights() {
    let mut cases = Cases::new();
    copy_run(&cases, "copy", &[]);
    let good = Archive::read(&workshop().join("run/best.safetensors"));
    for (name, bytes, reason) in damages(&good) {
        cases.write("copy/best.safetensors", bytes);
        let parts = [&["copy/best.safetensors: not a usable checkpoint: "], reason].concat();
        if cases.expect(&EVALUATE, 2, &parts).is_none_or(|done| done.code != 2) {
            cases.also(false, &format!("that was: {name}"));
        }
    }
    cases.finish();
}

#[test]
fn damaged_best_weights_stop_every_command() {
    let mut cases = Cases::new();
    copy_run(&cases, "copy", &[]);
    let good = Archive::read(&workshop().join("run/best.safetensors"));
    let chosen = ["empty", "a newer version", "cut in half", "a bit of a tensor", "a bit of the config"];
    let damaged = "copy/best.safetensors: not a usable checkpoint: ";
    for (_, bytes, reason) in damages(&good).into_iter().filter(|(name, ..)| chosen.contains(name)) {
        cases.write("copy/best.safetensors", &bytes);
        for command in [&PREDICT[..], &EXPORT, &GO_ON] {
            cases.expect(command, 2, &[&[damaged], reason].concat());
        }
        let same = fs_err::read(cases.path("copy/best.safetensors")).unwrap() == bytes;
        cases.also(same, "a damaged best.safetensors was replaced");
    }
    for (size, reason) in [(100 * GIB, "107374182400 bytes"), (3 * GIB, "damaged")] {
        // Whatever stands behind a valid file is not read: the header tells that it does not belong there.
        cases.write_sparse("copy/best.safetensors", good.bytes(), size);
        for command in [&EVALUATE[..], &GO_ON] {
            cases.expect(command, 2, &[damaged, reason]);
        }
    }
    cases.also(!cases.path("none.csv").exists() && !cases.path("none.pt").exists(), "an output was left behind");

    let best = cases.path("copy/best.safetensors");
    fs_err::remove_file(&best).unwrap();
    fs_err::create_dir(&best).unwrap();
    for command in [&EVALUATE[..], &PREDICT, &EXPORT, &GO_ON] {
        cases.expect(command, 2, &["copy/best.safetensors: is a folder; expected a checkpoint"]);
    }
    fs_err::remove_dir(&best).unwrap();
    make_fifo(&best);
    for command in [&EVALUATE[..], &GO_ON] {
        cases.expect(command, 2, &["copy/best.safetensors: is not a regular file", "expected a checkpoint"]);
    }
    fs_err::remove_file(&best).unwrap();
    symlink("best.safetensors", &best).unwrap();
    cases.expect(&EVALUATE, 2, &["best.safetensors"]);
    cases.finish();
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over() {
    let mut cases = Cases::new();
    let good = Archive::read(&workshop().join("run/last.safetensors"));
    let chosen = ["empty", "8 bytes", "longest header", "cut by a byte", "a bit of a tensor", "a bit of the state"];
    for (_, bytes, _) in damages(&good).into_iter().filter(|(name, ..)| chosen.contains(name)) {
        copy_run(&cases, "copy", &[]);
        cases.write("copy/last.safetensors", &bytes);
        cases.expect(&GO_ON, 0, &["warning", "copy/last.safetensors", "copy/previous.safetensors", "4/4"]);
        cases.expect(&EVALUATE, 0, &[]);
    }
    copy_run(&cases, "copy", &["last.safetensors"]);
    cases.expect(&GO_ON, 0, &["warning", "copy/last.safetensors", "copy/previous.safetensors", "4/4"]);
    copy_run(&cases, "copy", &[]);
    cases.write_sparse("copy/last.safetensors", good.bytes(), 100 * GIB);
    cases.expect(&GO_ON, 0, &["warning", "copy/last.safetensors", "copy/previous.safetensors", "4/4"]);

    for (_, bytes, _) in damages(&good).into_iter().filter(|(name, ..)| chosen[..3].contains(name)) {
        copy_run(&cases, "copy", &[]);
        cases.write("copy/last.safetensors", &bytes);
        cases.write("copy/previous.safetensors", &bytes);
        let both = ["copy/last.safetensors: not a usable checkpoint: ", "copy/previous.safetensors: not a usable"];
        cases.expect(&GO_ON, 2, &both);
    }
    copy_run(&cases, "copy", &["previous.safetensors"]);
    cases.write("copy/last.safetensors", &good.bytes()[..1000]);
    cases.expect(&GO_ON, 2, &["copy/last.safetensors: not a usable checkpoint: "]);
    copy_run(&cases, "copy", &["last.safetensors", "previous.safetensors"]);
    cases.expect(&GO_ON, 2, &["copy: holds results but no last.safetensors"]);
    fs_err::create_dir(cases.path("copy/last.safetensors")).unwrap();
    cases.expect(&GO_ON, 2, &["copy/last.safetensors: is a folder; expected a checkpoint"]);
    fs_err::remove_dir(cases.path("copy/last.safetensors")).unwrap();
    make_fifo(&cases.path("copy/last.safetensors"));
    cases.expect(&GO_ON, 2, &["copy/last.safetensors: is not a regular file", "expected a checkpoint"]);
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
    cases.expect(&EVALUATE, 2, &["copy/split.csv: not UTF-8", "cannot be told"]);
    cases.write_sparse("copy/split.csv", &split, 100 * GIB);
    cases.expect(&EVALUATE, 2, &["copy/split.csv: 107374182400 bytes", "cannot be told"]);
    fs_err::remove_file(cases.path("copy/split.csv")).unwrap();
    cases.expect(&EVALUATE, 2, &["copy/split.csv: no such file", "cannot be told"]);
    make_fifo(&cases.path("copy/split.csv"));
    cases.expect(&EVALUATE, 2, &["copy/split.csv: is not a regular file", "cannot be told"]);

    // Going on draws the split again and knows that it is the same: then the file can be mended.
    copy_run(&cases, "copy", &[]);
    cases.write("copy/split.csv", &split[..split.len() / 2]);
    cases.expect(&GO_ON, 0, &["4/4"]);
    cases.expect(&EVALUATE, 0, &[]);

    let metrics = text(workshop().join("run/metrics.jsonl"));
    let torn = metrics.as_bytes()[..metrics.len() - 40].to_vec();
    for damaged in [vec![], torn, b"garbage\n".to_vec(), vec![0xff; 500], vec![0; 500], vec![b'['; 1_000_000]] {
        copy_run(&cases, "copy", &[]);
        cases.write("copy/metrics.jsonl", damaged);
        cases.expect(&GO_ON, 0, &["4/4"]);
        let lines = text(cases.path("copy/metrics.jsonl"));
        let whole = lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        cases.also(whole == 4 && lines.lines().count() == 4, "metrics.jsonl has not a line an epoch");
    }
    copy_run(&cases, "copy", &["metrics.jsonl"]);
    cases.expect(&GO_ON, 0, &["4/4"]);
    copy_run(&cases, "copy", &["metrics.jsonl"]);
    make_fifo(&cases.path("copy/metrics.jsonl"));
    cases.expect(&GO_ON, 2, &["copy/metrics.jsonl: is not a regular file"]);

    let checkpoints = ["best.safetensors", "last.safetensors", "previous.safetensors"];
    copy_run(&cases, "copy", &[&["config.toml"], &checkpoints[..]].concat());
    for command in [&EVALUATE[..], &PREDICT, &EXPORT, &GO_ON] {
        cases.expect(command, 2, &["copy: is not a run directory"]);
    }
    // Checkpoints hold the config that counts.
    copy_run(&cases, "copy", &["config.toml"]);
    cases.expect(&GO_ON, 0, &["4/4"]);
    cases.write("copy/config.toml", "garbage");
    cases.expect(&EVALUATE, 0, &[]);
    copy_run(&cases, "copy", &checkpoints);
    cases.expect(&EVALUATE, 2, &["copy: holds no best.safetensors", "--resume"]);
    cases.expect(&["evaluate", "tiny.toml", "--data", "x.csv"], 2, &["tiny.toml: no such run directory"]);
    cases.expect(&["evaluate", "nowhere", "--data", "x.csv"], 2, &["nowhere: no such run directory"]);
    cases.finish();
}

// Paths.

/// Makes things that are no regular files; their names, and what a message about each must say.
fn odd_paths(cases: &Cases) -> Vec<(String, &'static str)> {
    fs_err::create_dir(cases.path("folder.csv")).unwrap();
    make_fifo(&cases.path("pipe.csv"));
    for (to, link) in [("loop.csv", "loop.csv"), ("b.csv", "a.csv"), ("a.csv", "b.csv"), ("gone", "dangling.csv")] {
        symlink(to, cases.path(link)).unwrap();
    }
    let mut odd: Vec<(String, &str)> = [
        ("none.csv", "no such file"),
        ("dangling.csv", "no such file"),
        ("nowhere/none.csv", "no such file"),
        ("tiny.toml/none.csv", "Not a directory"),
        ("folder.csv", "is a folder; expected"),
        ("pipe.csv", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        ("loop.csv", "symbolic links"),
        ("a.csv", "symbolic links"),
    ]
    .map(|(path, problem)| (path.to_owned(), problem))
    .to_vec();
    odd.push((format!("{}.csv", "x".repeat(300)), "name too long"));
    cases.write("secret.csv", HEADER);
    fs_err::set_permissions(cases.path("secret.csv"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(cases.path("secret.csv")).is_ok() {
        println!("skipped: a file without permissions, which this user (root?) may read all the same");
    } else {
        odd.push(("secret.csv".into(), "cannot be opened"));
    }
    odd
}

#[test]
fn input_paths_that_are_no_files() {
    let mut cases = Cases::new();
    for (path, problem) in odd_paths(&cases) {
        let path = path.as_str();
        cases.expect(&["data", "check", path], 2, &[path, problem]);
        // Every command looks at its files in the same way.
        if !["none.csv", "folder.csv", "pipe.csv", "/dev/zero", "loop.csv"].contains(&path) {
            continue;
        }
        cases.expect(&["train", path, "--out", "none"], 2, &[path, problem]);
        refuse_training_on(&mut cases, path, &[problem]);
        cases.expect(&predict(path), 2, &[path, problem]);
        cases.expect(&score(path), 2, &[path, problem]);
    }
    cases.expect(&["data", "augment", "--config", "pipe.csv", "--out", "none.png"], 2, &["pipe.csv", "a config file"]);
    cases.write_sparse("large.toml", TINY, 10 * GIB);
    cases.expect(&["train", "large.toml", "--out", "none"], 2, &["large.toml: 10737418240 bytes", "at most 1048576"]);
    cases.finish();
}

#[test]
fn output_paths_that_cannot_be_written() {
    let mut cases = Cases::new();
    make_fifo(&cases.path("pipe"));
    fs_err::create_dir(cases.path("folder")).unwrap();
    for (path, problem) in [
        ("nowhere/out", "nowhere: no such folder"),
        ("tiny.toml/out", "tiny.toml: is a file; expected the folder"),
        ("folder", "folder: is a folder; expected the path of a file"),
        ("/dev/null", "/dev/null: is a pipe or a device"),
        ("pipe", "pipe: is a pipe or a device"),
    ] {
        cases.expect(&["predict", "run", "--data", "data/my_emotion_test.csv", "--out", path], 1, &[problem]);
        cases.expect(&["export", "run", "--out", path], 1, &[problem]);
        cases.expect(&["data", "augment", "--config", "tiny.toml", "--out", path], 1, &[problem]);
    }
    for path in ["tiny.toml", "tiny.toml/out", "/dev/null", "pipe"] {
        cases.expect(&["train", "tiny.toml", "--out", path], 1, &[path]);
        cases.expect(&["data", "synth", "--out", path, "--train", "1", "--test", "1"], 1, &[path]);
    }
    cases.also(text(cases.path("tiny.toml")) == TINY, "an output replaced the config");
    let left = fs_err::read_dir(cases.path("folder")).unwrap().count();
    cases.also(left == 0 && !cases.path("nowhere").exists(), "something was left behind");
    cases.finish();
}
