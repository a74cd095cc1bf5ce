//! `--vary`.

use super::{rows, setup};
use crate::common::{bad, good, json, text};

#[test]
fn each_varied_config_is_a_model_of_the_comparison() {
    let folder = setup();
    let args = |out: &'static str| {
        let vary = ["--vary", "train.ema=0,0.9", "--vary", "model.filters=[8, 16],[16]"];
        [&["sweep", "tiny.toml", "--seeds", "2", "--set", "train.epochs=1"], &vary[..], &["--out", out]].concat()
    };
    let done = good(folder.path(), &args("s"));
    let sweep = folder.path().join("s");
    let mut models: Vec<String> = rows(&sweep).into_iter().skip(1).map(|row| row[0].clone()).collect();
    models.sort();
    let filters = |ema: &str| ["8-16", "16"].map(|filters| format!("tiny-train.ema-{ema}-model.filters-{filters}"));
    let mut expected = [filters("0"), filters("0.9")].concat();
    expected.sort();
    assert_eq!(models, expected, "{}", done.all());
    let runs = json(sweep.join("sweep.json"))["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 8);
    assert_eq!(runs[0], "tiny-train.ema-0-model.filters-8-16-seed42");
    let config = text(sweep.join("tiny-train.ema-0.9-model.filters-16-seed43/config.toml"));
    for line in ["name = \"tiny-train.ema-0.9-model.filters-16\"", "seed = 43", "ema = 0.9", "filters = [16]"] {
        assert!(config.contains(line), "{line} is not in {config}");
    }

    // Finished runs are kept; workers get the option.
    fs_err::remove_dir_all(sweep.join("tiny-train.ema-0.9-model.filters-16-seed43")).unwrap();
    let done = good(folder.path(), &[&args("s")[..], &["--resume", "--parallel", "2"]].concat());
    assert_eq!(done.stderr.matches("] epoch   1/1").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("[tiny-train.ema-0.9-model.filters-16-seed43] epoch"), "{}", done.stderr);
    assert_eq!(json(sweep.join("summary.json"))["complete"], true);

    for (vary, part) in [
        ("train.ema=0,2", "tiny.toml with --vary train.ema=2: train.ema = 2"),
        ("train.ama=0", "--vary train.ama=0: train.ama: unknown key"),
        ("train.ema=", "--vary train.ema=: a value is empty"),
        ("model.filters=[8,16", "--vary model.filters=[8,16: a bracket or quote is not closed"),
        ("seed=1,2", "--vary seed=1,2: use --seeds N"),
    ] {
        bad(folder.path(), &["sweep", "tiny.toml", "--vary", vary, "--out", "none"], 2, &[part]);
    }
    assert!(!folder.path().join("none").exists());
}

#[test]
fn a_sweep_is_not_replaced_by_one_with_other_values() {
    let folder = setup();
    let sweep = |vary: &[&'static str], more: &[&'static str]| -> Vec<&'static str> {
        let vary = vary.iter().flat_map(|vary| ["--vary", *vary]);
        let args = ["sweep", "tiny.toml", "--set", "train.epochs=1", "--out", "s"].into_iter();
        args.chain(vary).chain(more.iter().copied()).collect()
    };
    good(folder.path(), &sweep(&["train.ema=0,0.9"], &[]));
    let before = text(folder.path().join("s/comparison.csv"));
    for (vary, now) in [(&["train.ema=0.5"][..], "--vary train.ema=0.5"), (&[], "no --vary")] {
        let part =
            format!("s: is a sweep with --vary train.ema=0,0.9, but is resumed with {now}; tiny-train.ema-0-seed42");
        bad(folder.path(), &sweep(vary, &["--resume"]), 2, &[&part]);
    }
    assert_eq!(text(folder.path().join("s/comparison.csv")), before);
    // A further value adds a row.
    good(folder.path(), &sweep(&["train.ema=0,0.9,0.5"], &["--resume"]));
    assert_eq!(rows(&folder.path().join("s")).len(), 4);
}
