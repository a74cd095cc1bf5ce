//! `grimace sweep` and `grimace runs`.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Done, TINY, bad, bench, command, good, grimace, json, tensors, text, timeless_metrics, workshop};

/// A folder with the workshop's images, two configs, one whose images are missing, and one of a
/// forest.
fn setup() -> TempDir {
    let folder = bench();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let tiny =
        TINY.replace("[model]", "test = \"data/my_emotion_test.csv\"\n[model]").replace("epochs = 3", "epochs = 2");
    write("tiny.toml", &tiny);
    write("other.toml", &tiny.replace("\"tiny\"", "\"other\"").replace("[16, 32]", "[16, 16]"));
    write("broken.toml", &tiny.replace("\"tiny\"", "\"broken\"").replace("my_emotion_train", "none"));
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 15\nfolds = 3\n";
    write("forest.toml", forest);
    folder
}

const RUNS: [&str; 4] = ["tiny-seed42", "tiny-seed43", "other-seed42", "other-seed43"];

fn rows(sweep: &Path) -> Vec<Vec<String>> {
    text(sweep.join("comparison.csv")).lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn every_config_and_seed_is_compared_with_the_forest() {
    let folder = setup();
    let args = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--forest", "forest.toml", "--out", "s"];
    let done = good(folder.path(), &args);
    let sweep = folder.path().join("s");
    let rows = rows(&sweep);
    let header = ["Model", "Mean Accuracy", "Std Deviation", "Best Accuracy", "Best Accuracy (Deduplicated)"];
    assert_eq!(rows[0][..5], header);
    let model =
        |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}: {}", done.all()));
    assert_eq!(rows.len(), 4);
    let summary = |run: &str| json(sweep.join(run).join("summary.json"));
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    for name in ["tiny", "other"] {
        let both = [42, 43].map(|seed| summary(&format!("{name}-seed{seed}")));
        let last = [0, 1].map(|index: usize| number(&both[index], "last_val_accuracy"));
        let (mean, half) = ((last[0] + last[1]) / 2.0, (last[0] - last[1]).abs() / 2.0);
        assert_eq!(model(name)[1..3], [format!("{mean:.6}"), format!("{half:.6}")]);
        let best = both.iter().map(|summary| number(summary, "best_val_accuracy")).fold(0.0, f64::max);
        assert_eq!(model(name)[3], format!("{best:.6}"));
        // Both seeds share a split.
        assert_eq!(both[0]["provenance"]["split_hash"], both[1]["provenance"]["split_hash"]);
        assert_ne!(both[0]["seed"], both[1]["seed"]);
    }
    let woods = summary("woods-seed42");
    assert_eq!(model("woods")[1], format!("{:.6}", number(&woods, "cv_mean")));
    assert!(rows[3][0] == "woods", "the baseline comes last");

    // The exported model and submission are of the best run.
    let found = json(sweep.join("summary.json"));
    let best_run = found["best_run"].as_str().unwrap();
    assert!(
        RUNS.iter()
            .all(|run| number(&summary(run), "best_val_accuracy") <= number(&summary(best_run), "best_val_accuracy"))
    );
    good(
        folder.path(),
        &["predict", &format!("s/{best_run}"), "--data", "data/my_emotion_test.csv", "--out", "by-hand.csv"],
    );
    assert_eq!(text(sweep.join("submission.csv")), text(folder.path().join("by-hand.csv")));
    assert!(sweep.join("model.pt").exists() && sweep.join("model.json").exists());
    let difference = &found["comparison"]["against_next"]["difference"];
    assert_eq!(difference["rows"], 120);
    assert!(number(difference, "low") <= number(difference, "difference"));
    assert!(number(difference, "high") >= number(difference, "difference"));
    let markdown = text(sweep.join("comparison.md"));
    assert!(markdown.contains("optimistic") && markdown.contains("| woods |"), "{markdown}");
    assert!(done.stdout.contains("comparison: s/comparison.md"), "{}", done.stdout);
    let report = text(sweep.join("report.html"));
    assert!(report.contains(best_run) && report.contains("woods") && report.contains("<svg"), "the report");

    // `train` repeats a run of the sweep from its config.
    good(folder.path(), &["train", "s/other-seed43/config.toml", "--out", "again"]);
    let again = folder.path().join("again");
    assert!(tensors(&again.join("best.safetensors")) == tensors(&sweep.join("other-seed43/best.safetensors")));
    assert_eq!(timeless_metrics(&again), timeless_metrics(&sweep.join("other-seed43")));
}

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

fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a sweep of long trainings and sends it a signal after a few epochs of these `runs`, and
/// once each has a `summary.json`: from then on, it handles signals.
fn interrupt(folder: &Path, args: &[&str], runs: &[&str], signal: &str) -> Done {
    let mut child = command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lock = folder.join("s/.lock");
    // A resumed sweep has metrics from before; the lock shows that this one has started.
    let holder = format!("process {},", child.id());
    let has_trained = |run: &&str| {
        let (metrics, summary) = (format!("s/{run}/metrics.jsonl"), format!("s/{run}/summary.json"));
        let metrics = folder.join(metrics);
        folder.join(summary).exists() && metrics.exists() && text(&metrics).lines().count() > 2
    };
    wait_until("it did not start", || {
        lock.exists() && text(&lock).starts_with(&holder) && runs.iter().all(has_trained)
    });
    let resumed: Vec<&str> = args.iter().copied().filter(|word| *word != "--resume").chain(["--resume"]).collect();
    bad(folder, &resumed, 1, &["s: is in use by process"]);
    assert!(std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let _ = child.wait().unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn an_interrupted_sweep_resumes_where_it_stopped() {
    let (folder, uninterrupted) = (setup(), setup());
    let long = ["--set", "train.epochs=40", "--set", "train.early_stop={patience=0}"];
    let args = [&["sweep", "tiny.toml", "other.toml"], &long[..], &["--out", "s"]].concat();
    let done = interrupt(folder.path(), &args, &["tiny-seed42"], "-INT");
    assert_eq!(done.code, 130, "{}", done.all());
    assert!(
        done.stderr.contains(concat!(
            "resume with: ",
            env!("CARGO_BIN_EXE_grimace"),
            " sweep tiny.toml other.toml --set 'train.epochs=40'"
        )),
        "{}",
        done.stderr
    );
    assert!(done.stdout.contains("Unfinished: tiny-seed42, other-seed42."), "{}", done.stdout);
    let stdout = good(folder.path(), &["runs", "s"]).stdout;
    assert!(stdout.contains("s/tiny-seed42") && stdout.contains("interrupted"), "{stdout}");
    good(folder.path(), &[&args[..], &["--resume"]].concat());
    good(uninterrupted.path(), &args);
    for run in ["tiny-seed42", "other-seed42"] {
        let last = |folder: &TempDir| tensors(&folder.path().join("s").join(run).join("last.safetensors"));
        assert!(last(&folder) == last(&uninterrupted), "{run}");
    }
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
fn runs_on_other_images_are_reported() {
    let folder = setup();
    let wide = text(folder.path().join("other.toml")).replace("test = ", "validation = 0.4\ntest = ");
    fs_err::write(folder.path().join("wide.toml"), wide).unwrap();
    let done = good(folder.path(), &["sweep", "tiny.toml", "wide.toml", "--out", "s"]);
    assert!(done.stdout.contains("they were not validated on the same images"), "{}", done.stdout);
    assert!(
        done.stdout.contains("on other images than the best run, so the accuracies cannot be compared: "),
        "{}",
        done.stdout
    );
}

#[test]
fn notes_and_skipped_rows_of_the_test_images_are_reported() {
    let folder = setup();
    let images = text(folder.path().join("data/my_emotion_test.csv"));
    let images = images.replacen("id,pixels", "Image_ID,pixels", 1);
    fs_err::write(folder.path().join("bad.csv"), format!("{images}extra,1 2 3\n")).unwrap();
    let sweep = ["sweep", "tiny.toml", "--set", "train.epochs=1", "--set", "data.test=bad.csv", "--out"];
    let done = good(folder.path(), &[&sweep[..], &["s", "--set", "data.on_bad_row=skip"]].concat());
    let line =
        "s/submission.csv: predictions for the 150 images of bad.csv; skipped 1 bad row: line 152, column pixels";
    assert!(done.stdout.contains(line), "{}", done.all());
    assert_eq!(text(folder.path().join("s/submission.csv")).lines().count(), 151);
    let note = "bad.csv: column \"Image_ID\" is ignored; if it is id, rename it to id";
    assert!(done.stderr.contains(note) && done.stdout.contains(note), "at the start and at the end: {}", done.all());
    // Without skipping, the row is an error before anything is trained.
    bad(folder.path(), &[&sweep[..], &["t"]].concat(), 2, &["bad.csv: line 152, column pixels"]);
    assert!(!folder.path().join("t").exists());
}

#[test]
fn a_warning_of_several_runs_is_listed_once() {
    let folder = setup();
    // The tests limit the program to one core.
    let sets = ["--set", "threads=2", "--set", "train.epochs=1"];
    let done = good(folder.path(), &[&["sweep", "tiny.toml", "other.toml", "--out", "s"], &sets[..]].concat());
    let found = json(folder.path().join("s/summary.json"));
    let warnings = found["comparison"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected = "Warning of tiny-seed42, other-seed42: threads = 2 is more than the 1 core ";
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with(expected), "{warning}");
    for shown in [done.stdout, text(folder.path().join("s/comparison.md")), text(folder.path().join("s/report.html"))] {
        assert_eq!(shown.matches(warning).count(), 1, "{shown}");
    }
}

#[test]
fn runs_are_distributed_over_processes() {
    let folder = setup();
    let args = ["sweep", "tiny.toml", "broken.toml", "other.toml", "--parallel", "2", "--out", "f"];
    let done = bad(folder.path(), &args, 1, &["broken-seed42: failed"]);
    assert_eq!(done.stderr.matches("broken-seed42: failed").count(), 1, "it is tried once: {}", done.stderr);

    let args = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--parallel", "2", "--out", "s"];
    let done = good(folder.path(), &args);
    for run in RUNS {
        assert!(done.stderr.contains(&format!("[{run}] epoch   2/2")), "{}", done.stderr);
    }
    assert_eq!(done.stderr.matches("epoch   1/2").count(), 4, "each is trained once: {}", done.stderr);
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], true);
}

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
fn a_signal_reaches_every_process_once() {
    let folder = setup();
    let long = ["--set", "train.epochs=4000", "--set", "train.early_stop={patience=0}"];
    let args = [&["sweep", "tiny.toml", "other.toml", "--parallel", "2"], &long[..], &["--out", "s"]].concat();
    let names = ["tiny-seed42", "other-seed42"];
    let done = interrupt(folder.path(), &args, &names, "-TERM");
    assert_eq!(done.code, 143, "{}", done.all());
    let states = || -> Vec<Value> {
        let runs = good(folder.path(), &["runs", "s", "--json"]).json();
        runs.as_array().unwrap().iter().map(|run| run["state"].clone()).collect()
    };
    assert_eq!(states(), ["interrupted"; 2]);
    // When the parent is killed, its workers save and exit. Without the summaries from before,
    // `interrupted` is in those of these workers.
    for run in names {
        fs_err::remove_file(folder.path().join("s").join(run).join("summary.json")).unwrap();
    }
    assert_eq!(states(), ["died"; 2]);
    let resumed = [&args[..], &["--resume"]].concat();
    interrupt(folder.path(), &resumed, &names, "-KILL");
    wait_until("the workers did not end", || states() == ["interrupted"; 2]);
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

#[test]
fn runs_are_listed_newest_first_with_their_state() {
    let folder = setup();
    fs_err::create_dir(folder.path().join("runs")).unwrap();
    assert_eq!(good(folder.path(), &["runs"]).stdout, "runs: no runs\n");
    good(folder.path(), &["train", "tiny.toml", "--out", "runs/one"]);
    good(folder.path(), &["forest", "forest.toml", "--out", "runs/two"]);
    let done = grimace(
        folder.path(),
        &[
            "train",
            "other.toml",
            "--set",
            "train.optimizer.lr=100",
            "--set",
            "train.epochs=60",
            "--set",
            "train.early_stop={patience=0}",
            "--out",
            "runs/three",
        ],
    );
    let stdout = good(folder.path(), &["runs"]).stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("run") && lines.len() == 4, "{stdout}");
    assert!(
        lines[1].contains("runs/three") && lines[2].contains("runs/two") && lines[3].contains("runs/one"),
        "{stdout}"
    );
    assert!(lines[3].contains("tiny") && lines[3].ends_with("done"), "{stdout}");
    assert!(lines[1].ends_with(if done.code == 0 { "done" } else { "diverged" }), "{stdout}");
    let found = good(folder.path(), &["runs", "--json"]).json();
    assert_eq!(found[2]["epochs"], 2);
    assert_eq!(found[2]["best"], json(folder.path().join("runs/one/summary.json"))["best_val_accuracy"]);
    assert_eq!(found[1]["best"], json(folder.path().join("runs/two/summary.json"))["val_accuracy"]);
}
