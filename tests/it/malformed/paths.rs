//! Paths of the wrong kind.

use super::images::refuse_training_on;
use super::*;

/// Creates paths that are not readable CSVs. Returns each with a part of the expected error message
/// of commands that read pipes and devices too.
fn odd_paths(cases: &Cases) -> Vec<(String, &'static str)> {
    fs_err::create_dir(cases.path("folder.csv")).unwrap();
    for (to, link) in [("loop.csv", "loop.csv"), ("b.csv", "a.csv"), ("a.csv", "b.csv"), ("gone", "dangling.csv")] {
        symlink(to, cases.path(link)).unwrap();
    }
    let mut odd: Vec<(String, &str)> = [
        ("none.csv", "no such file"),
        ("dangling.csv", "no such file"),
        ("nowhere/none.csv", "no such file"),
        ("tiny.toml/none.csv", "Not a directory"),
        ("folder.csv", "is a folder"),
        ("/dev/zero", "line 1 is longer than 65536 bytes"),
        ("/dev/null", "is empty"),
        ("loop.csv", "symbolic links"),
        ("a.csv", "symbolic links"),
    ]
    .map(|(path, problem)| (path.to_owned(), problem))
    .to_vec();
    odd.push((format!("{}.csv", "x".repeat(300)), "name too long"));
    cases.write("secret.csv", HEADER);
    fs_err::set_permissions(cases.path("secret.csv"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(cases.path("secret.csv")).is_ok() {
        println!("skipped: a file without permissions, which this user (root?) can read");
    } else {
        odd.push(("secret.csv".into(), "cannot be opened"));
    }
    odd
}

#[test]
fn input_paths_that_are_not_files() {
    let mut cases = Cases::new();
    for (path, problem) in odd_paths(&cases) {
        let path = path.as_str();
        cases.expect(&["data", "check", path], 2, &[path, problem]);
        // All commands check their files in the same way.
        if !["none.csv", "folder.csv", "/dev/null", "/dev/zero", "loop.csv"].contains(&path) {
            continue;
        }
        cases.expect(&predict(path), 2, &[path, problem]);
        cases.expect(&score(path), 2, &[path, problem]);
        // A config and the files that it names are read again when a run is resumed.
        let problem = if path.starts_with("/dev") { "is not a regular file" } else { problem };
        cases.expect(&["train", path, "--out", "none"], 2, &[path, problem]);
        refuse_training_on(&mut cases, path, &[problem]);
    }
    make_fifo(&cases.path("pipe.csv"));
    cases.expect(&["train", "pipe.csv", "--out", "none"], 2, &["pipe.csv", "is not a regular file"]);
    refuse_training_on(&mut cases, "pipe.csv", &["is not a regular file"]);
    cases.expect(&["data", "preview", "pipe.csv", "--out", "none.png"], 2, &["pipe.csv", "a config file"]);
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
        cases.expect(&["data", "preview", "tiny.toml", "--out", path], 1, &[problem]);
    }
    for path in ["tiny.toml", "tiny.toml/out", "/dev/null", "pipe"] {
        cases.expect(&["train", "tiny.toml", "--out", path], 1, &[path]);
        cases.expect(&["data", "synth", "--out", path, "--train", "1", "--test", "1"], 1, &[path]);
    }
    cases.check(text(cases.path("tiny.toml")) == TINY, "an output replaced the config");
    let left = fs_err::read_dir(cases.path("folder")).unwrap().count();
    cases.check(left == 0 && !cases.path("nowhere").exists(), "files were left behind");
    cases.finish();
}
