//! Failed runs, failed forests and bad arguments.

use super::setup;
use crate::common::{bad, good, json, tensors, text, workshop};

#[test]
fn a_failed_run_is_reported_and_does_not_end_the_sweep() {
    let folder = setup();
    let args = ["sweep", "tiny.toml", "broken.toml", "other.toml", "--out", "s"];
    let done = bad(
        folder.path(),
        &args,
        1,
        &["broken-seed42: failed: data/none.csv: no such file", "1 of 3 runs did not finish"],
    );
    assert!(
        done.stdout.contains("0 of 1 run; 1 failed") && done.stdout.contains("broken-seed42 failed:"),
        "{}",
        done.all()
    );
    let found = json(folder.path().join("s/summary.json"));
    assert_eq!(found["complete"], false);
    assert!(folder.path().join("s/submission.csv").exists(), "the best of the other runs is exported");
    // With its images, only the failed run is trained.
    let before = tensors(&folder.path().join("s/tiny-seed42/last.safetensors"));
    std::os::unix::fs::symlink(workshop().join("data/my_emotion_train.csv"), folder.path().join("none.csv")).unwrap();
    fs_err::write(
        folder.path().join("broken.toml"),
        text(folder.path().join("broken.toml")).replace("data/none", "none"),
    )
    .unwrap();
    // As after a kill just before the report.
    fs_err::remove_file(folder.path().join("s/tiny-seed42/report.html")).unwrap();
    let done = good(folder.path(), &[&args[..], &["--resume"]].concat());
    assert!(done.stderr.contains("1 of 3: tiny-seed42: already finished"), "{}", done.stderr);
    assert!(done.stderr.contains("report: s/tiny-seed42/report.html"), "{}", done.stderr);
    assert!(done.stderr.contains("2 of 3: broken-seed42: training"), "{}", done.stderr);
    assert!(tensors(&folder.path().join("s/tiny-seed42/last.safetensors")) == before);
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], true);
}

#[test]
fn a_forest_is_checked_first_and_its_failure_keeps_the_comparison() {
    let folder = setup();
    fn run<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["sweep", "tiny.toml", "other.toml", "--out", "s"], args].concat()
    }
    let write = |name: &str, from: &str, to: &str| {
        fs_err::write(folder.path().join(name), text(folder.path().join("forest.toml")).replace(from, to)).unwrap();
    };
    write("clash.toml", "woods", "tiny");
    write("broken-forest.toml", "my_emotion_train", "none");
    write("folds.toml", "folds = 3", "folds = 99");
    write("larger.toml", "trees = 15", "trees = 16");
    bad(folder.path(), &run(&["--forest", "clash.toml"]), 2, &["name \"tiny\" is already used by a network"]);
    bad(folder.path(), &run(&["--forest", "broken-forest.toml"]), 2, &["data/none.csv: no such file"]);
    bad(folder.path(), &run(&["--forest", "data"]), 2, &["--forest data: is not the run of a fitted forest"]);
    let test = ["--set", "data.test=tiny.toml"];
    bad(folder.path(), &run(&test), 2, &["tiny.toml: line 1: no column pixels"]);
    assert!(!folder.path().join("s").exists(), "nothing was started");

    good(folder.path(), &run(&["--forest", "forest.toml"]));
    let again = run(&["--resume", "--forest", "forest.toml"]);
    bad(
        folder.path(),
        &run(&["--resume", "--forest", "larger.toml"]),
        2,
        &["is finished with forest.trees = 15, but the config now has 16"],
    );
    // As after a kill before the summary: the forest is fitted again.
    fs_err::remove_file(folder.path().join("s/woods-seed42/summary.json")).unwrap();
    assert!(good(folder.path(), &again).stderr.contains("fit: 15 trees"));
    // Without the forest, the networks are still compared.
    fs_err::remove_file(folder.path().join("s/woods-seed42/summary.json")).unwrap();
    fs_err::create_dir(folder.path().join("s/woods-seed42/summary.json")).unwrap();
    let retry = concat!("the forest failed; to retry: ", env!("CARGO_BIN_EXE_grimace"), " sweep");
    let done = bad(folder.path(), &again, 1, &[retry]);
    assert!(done.stdout.contains("The forest failed:") && done.stdout.contains("Best run:"), "{}", done.all());
    // Without test images the submission of the earlier sweep is removed.
    assert!(folder.path().join("s/submission.csv").exists());
    good(folder.path(), &run(&["--resume", "--set", "data.test=nowhere.csv"]));
    assert!(!folder.path().join("s/submission.csv").exists());
}

#[test]
fn bad_arguments_are_input_errors() {
    let folder = setup();
    let bad = |args: &[&str], parts: &[&str]| drop(bad(folder.path(), args, 2, parts));
    bad(&["sweep", "tiny.toml", "tiny.toml"], &["name \"tiny\" is already used by tiny.toml"]);
    bad(&["sweep", "broken.toml", "--out", "s"], &["data/none.csv: no such file"]);
    assert!(!folder.path().join("s").exists(), "nothing is left behind");
    bad(&["sweep", "tiny.toml", "--forest", "tiny.toml"], &["this is a network's config"]);
    bad(&["sweep", "tiny.toml", "--out", "data"], &["data: exists and is not a sweep"]);
    bad(&["sweep", "tiny.toml", "--resume"], &["there is no runs/sweep-<time>"]);
    bad(&["runs", "nowhere"], &["nowhere: no such folder of runs"]);
    bad(&["runs", "tiny.toml"], &["tiny.toml: is a file"]);
    good(folder.path(), &["sweep", "tiny.toml", "--out", "s"]);
    bad(&["sweep", "tiny.toml", "--out", "s"], &["s: holds a sweep", "--resume"]);
    bad(&["evaluate", "s", "--data", "data/my_emotion_train.csv"], &["s: is a sweep, expected one of its runs"]);
    let other = ["sweep", "tiny.toml", "--set", "train.batch=32", "--out", "s", "--resume"];
    bad(&other, &["s/tiny-seed42: is finished with train.batch = 64, but the config now has 32"]);
}
