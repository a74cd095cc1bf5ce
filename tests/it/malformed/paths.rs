//! Paths of the wrong kind.

use super::images::refuse_training_on;
use super::*;

/// Creates paths that are not regular files. Returns each with a part of the expected error
/// message.
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
        if !["none.csv", "folder.csv", "pipe.csv", "/dev/zero", "loop.csv"].contains(&path) {
            continue;
        }
        cases.expect(&["train", path, "--out", "none"], 2, &[path, problem]);
        refuse_training_on(&mut cases, path, &[problem]);
        cases.expect(&predict(path), 2, &[path, problem]);
        cases.expect(&score(path), 2, &[path, problem]);
    }
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
