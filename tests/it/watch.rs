//! `grimace watch`: as text, and in a pseudo-terminal.

use std::path::Path;
use std::process::Command;

use crate::common::{Done, bad, bench, good, python, workshop};

/// Runs `grimace watch` in a pseudo-terminal, waits for `expected`, and presses `keys`.
fn in_terminal(folder: &Path, args: &[&str], expected: &str, keys: &str, no_color: bool) -> Done {
    let mut command = Command::new(python());
    command.current_dir(folder).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/watch_terminal.py")).args([expected, keys]);
    command.arg(env!("CARGO_BIN_EXE_grimace")).arg("watch").args(args).output().unwrap().into()
}

#[test]
fn without_a_terminal_it_prints_once() {
    let text = good(workshop(), &["watch", "run"]).stdout;
    for part in ["run: tiny, done", "epochs   3 of 3 (100%)", "val_acc", "(95% CI ", "images/s", "val_loss"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains('\u{1b}'));
    assert_eq!(good(workshop(), &["watch", "run", "--once"]).stdout, text);
    // Nothing there yet is no error.
    assert_eq!(good(workshop(), &["watch", "later"]).stdout, "later: no run yet\n");
    assert_eq!(good(workshop(), &["watch"]).stdout, "runs: no run yet\n");
    bad(workshop(), &["watch", "tiny.toml"], 2, &["tiny.toml: is a file; expected a run directory"]);
}

#[test]
fn keys_and_signals_end_it_and_restore_the_terminal() {
    for (keys, code) in [("q", 0), ("\\x1b", 0), ("\\x03", 0), ("SIGTERM", 143)] {
        let done = in_terminal(workshop(), &["run"], "accuracy", keys, false);
        assert_eq!(done.code, code, "{keys}: {}", done.all());
        assert!(done.stdout.contains("\u{1b}[38;5;") || done.stdout.contains("\u{1b}[36m"), "{keys}: no color");
    }
    let plain = in_terminal(workshop(), &["run"], "accuracy", "q", true);
    assert_eq!(plain.code, 0, "{}", plain.all());
    assert!(!plain.stdout.contains("\u{1b}[38;5;") && !plain.stdout.contains("\u{1b}[36m"), "{}", plain.stdout);
    let waiting = in_terminal(workshop(), &["later"], "Waiting", "q", true);
    assert_eq!(waiting.code, 0, "{}", waiting.all());
    assert!(!workshop().join("later").exists());
}

#[test]
fn it_only_reads() {
    let bench = bench();
    good(bench.path(), &["sweep", "tiny.toml", "--seeds", "2", "--set", "train.epochs=1", "--out", "two"]);
    let state = || -> Vec<_> {
        let files = walk(&bench.path().join("two"));
        files.into_iter().map(|path| (fs_err::metadata(&path).unwrap().modified().unwrap(), path)).collect()
    };
    let before = state();
    let text = good(bench.path(), &["watch", "two"]).stdout;
    for part in ["two: 2 of 2 runs done", "tiny-seed42", "tiny-seed43", "1/1", "best val_acc (95% CI)"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let done = in_terminal(bench.path(), &["two"], "tiny-seed43", "q", true);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(before == state(), "a file has changed");
    assert!(before.len() > 10);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
