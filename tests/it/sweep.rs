//! `grimace sweep` and `grimace runs`.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Done, TINY, bad, bench, command, good, grimace, json, tensors, text, timeless_metrics, workshop};

/// The workshop's images, two configs, one whose training cannot even begin, and one of a forest.
fn field() -> TempDir {
    let folder = bench();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let tiny =
        TINY.replace("[model]", "test = \"data/my_emotion_test.csv\"\n[model]").replace("epochs = 3", "epochs = 2");
    write("tiny.toml", &tiny);
    write("other.toml", &tiny.replace("\"tiny\"", "\"other\"").replace("[16, 32]", "[16, 16]"));
    write("torn.toml", &tiny.replace("\"tiny\"", "\"torn\"").replace("my_emotion_train", "none"));
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 15\nfolds = 3\n";
    write("forest.toml", forest);
    folder
}

const MEMBERS: [&str; 4] = ["tiny-seed42", "tiny-seed43", "other-seed42", "other-seed43"];

fn rows(sweep: &Path) -> Vec<Vec<String>> {
    text(sweep.join("comparison.csv")).lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn every_config_and_seed_stands_in_one_comparison_with_the_forest() {
    let folder = field();
    let args = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--forest", "forest.toml", "--out", "s"];
    let done = good(folder.path(), &args);
    let sweep = folder.path().join("s");
    let rows = rows(&sweep);
    assert_eq!(rows[0][..4], ["Model", "Mean Accuracy", "Std Deviation", "Best Accuracy"]);
    let model =
        |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}: {}", done.all()));
    assert_eq!(rows.len(), 4);
    let summary = |member: &str| json(sweep.join(member).join("summary.json"));
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    for name in ["tiny", "other"] {
        let both = [42, 43].map(|seed| summary(&format!("{name}-seed{seed}")));
        let last = [0, 1].map(|place: usize| number(&both[place], "last_val_accuracy"));
        let (mean, half) = ((last[0] + last[1]) / 2.0, (last[0] - last[1]).abs() / 2.0);
        assert_eq!(model(name)[1..3], [format!("{mean:.6}"), format!("{half:.6}")]);
        let best = both.iter().map(|summary| number(summary, "best_val_accuracy")).fold(0.0, f64::max);
        assert_eq!(model(name)[3], format!("{best:.6}"));
        // One split for both seeds.
        assert_eq!(both[0]["provenance"]["split_hash"], both[1]["provenance"]["split_hash"]);
        assert_ne!(both[0]["seed"], both[1]["seed"]);
    }
    let woods = summary("woods-seed42");
    assert_eq!(model("woods")[1], format!("{:.6}", number(&woods, "cv_mean")));
    assert!(rows[3][0] == "woods", "the baseline comes last");

    // What is handed over is the best run.
    let found = json(sweep.join("summary.json"));
    let best_run = found["best_run"].as_str().unwrap();
    assert!(
        MEMBERS
            .iter()
            .all(|member| number(&summary(member), "best_val_accuracy")
                <= number(&summary(best_run), "best_val_accuracy"))
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
    assert!(markdown.contains("flatters it") && markdown.contains("| woods |"), "{markdown}");
    assert!(done.stdout.contains("comparison: s/comparison.md"), "{}", done.stdout);
    let report = text(sweep.join("report.html"));
    assert!(report.contains(best_run) && report.contains("woods") && report.contains("<svg"), "the report");

    // A member is the run that `train` makes of its config.
    good(folder.path(), &["train", "s/other-seed43/config.toml", "--out", "again"]);
    let again = folder.path().join("again");
    assert!(tensors(&again.join("best.safetensors")) == tensors(&sweep.join("other-seed43/best.safetensors")));
    assert_eq!(timeless_metrics(&again), timeless_metrics(&sweep.join("other-seed43")));
}

#[test]
fn a_member_that_fails_is_told_and_does_not_end_the_sweep() {
    let folder = field();
    let args = ["sweep", "tiny.toml", "torn.toml", "other.toml", "--out", "s"];
    let done =
        bad(folder.path(), &args, 1, &["torn-seed42: failed: data/none.csv: no such file", "1 of 3 runs did not come"]);
    assert!(
        done.stdout.contains("0 of 1 run; 1 failed") && done.stdout.contains("torn-seed42 failed:"),
        "{}",
        done.all()
    );
    let found = json(folder.path().join("s/summary.json"));
    assert_eq!(found["complete"], false);
    assert!(folder.path().join("s/submission.csv").exists(), "the others' best is handed over all the same");
    // Mended, it is trained, and nothing else.
    let before = tensors(&folder.path().join("s/tiny-seed42/last.safetensors"));
    std::os::unix::fs::symlink(workshop().join("data/my_emotion_train.csv"), folder.path().join("none.csv")).unwrap();
    fs_err::write(folder.path().join("torn.toml"), text(folder.path().join("torn.toml")).replace("data/none", "none"))
        .unwrap();
    // As a run leaves it that died just before its report.
    fs_err::remove_file(folder.path().join("s/tiny-seed42/report.html")).unwrap();
    let done = good(folder.path(), &[&args[..], &["--resume"]].concat());
    assert!(done.stderr.contains("1 of 3: tiny-seed42: finished before"), "{}", done.stderr);
    assert!(done.stderr.contains("report: s/tiny-seed42/report.html"), "{}", done.stderr);
    assert!(done.stderr.contains("2 of 3: torn-seed42: training"), "{}", done.stderr);
    assert!(tensors(&folder.path().join("s/tiny-seed42/last.safetensors")) == before);
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], true);
}

/// Starts a sweep of long trainings and sends it a signal when the first lines of an epoch are there.
fn interrupted(folder: &Path, args: &[&str], signal: &str) -> Done {
    let mut child = command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let (metrics, lock) = (folder.join("s/tiny-seed42/metrics.jsonl"), folder.join("s/.lock"));
    // A sweep that goes on finds metrics; the lock tells that this one is at work.
    let own = format!("process {},", child.id());
    let works = || lock.exists() && text(&lock).starts_with(&own) && metrics.exists();
    while !(works() && text(&metrics).lines().count() > 2) {
        assert!(began.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    let resumed: Vec<&str> = args.iter().copied().filter(|word| *word != "--resume").chain(["--resume"]).collect();
    bad(folder, &resumed, 1, &["s: is in use by process"]);
    assert!(std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let _ = child.wait().unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_stopped() {
    let (folder, whole) = (field(), field());
    let long = ["--set", "train.epochs=40", "--set", "train.early_stop={patience=0}"];
    let args = [&["sweep", "tiny.toml", "other.toml"], &long[..], &["--out", "s"]].concat();
    let done = interrupted(folder.path(), &args, "-INT");
    assert_eq!(done.code, 130, "{}", done.all());
    assert!(
        done.stderr.contains("to go on: grimace sweep tiny.toml other.toml --set train.epochs=40"),
        "{}",
        done.stderr
    );
    assert!(done.stdout.contains("Unfinished: tiny-seed42, other-seed42."), "{}", done.stdout);
    let shown = good(folder.path(), &["runs", "s"]).stdout;
    assert!(shown.contains("s/tiny-seed42") && shown.contains("interrupted"), "{shown}");
    good(folder.path(), &[&args[..], &["--resume"]].concat());
    good(whole.path(), &args);
    for member in ["tiny-seed42", "other-seed42"] {
        let of = |folder: &TempDir| folder.path().join("s").join(member);
        assert!(
            tensors(&of(&folder).join("last.safetensors")) == tensors(&of(&whole).join("last.safetensors")),
            "{member}"
        );
    }
}

#[test]
fn a_forest_is_checked_first_and_never_costs_the_comparison() {
    let folder = field();
    fn run<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["sweep", "tiny.toml", "other.toml", "--out", "s"], args].concat()
    }
    let write = |name: &str, from: &str, to: &str| {
        fs_err::write(folder.path().join(name), text(folder.path().join("forest.toml")).replace(from, to)).unwrap();
    };
    write("clash.toml", "woods", "tiny");
    write("torn-forest.toml", "my_emotion_train", "none");
    write("folds.toml", "folds = 3", "folds = 99");
    write("larger.toml", "trees = 15", "trees = 16");
    bad(folder.path(), &run(&["--forest", "clash.toml"]), 2, &["its name is \"tiny\", as that of a network"]);
    bad(folder.path(), &run(&["--forest", "torn-forest.toml"]), 2, &["data/none.csv: no such file"]);
    bad(folder.path(), &run(&["--forest", "data"]), 2, &["--forest data: is not the run of a fitted forest"]);
    let test = ["--set", "data.test=tiny.toml"];
    bad(folder.path(), &run(&test), 2, &["tiny.toml: line 1: no column pixels"]);
    assert!(!folder.path().join("s").exists(), "nothing was begun");

    good(folder.path(), &run(&["--forest", "forest.toml"]));
    let again = run(&["--resume", "--forest", "forest.toml"]);
    bad(folder.path(), &run(&["--resume", "--forest", "larger.toml"]), 2, &["forest.trees was 15 there, now it is 16"]);
    // As a forest leaves it that died before its summary: it is fitted again.
    fs_err::remove_file(folder.path().join("s/woods-seed42/summary.json")).unwrap();
    assert!(good(folder.path(), &again).stderr.contains("fit: 15 trees"));
    // Where it cannot be fitted, the networks are compared all the same.
    fs_err::remove_file(folder.path().join("s/woods-seed42/summary.json")).unwrap();
    fs_err::create_dir(folder.path().join("s/woods-seed42/summary.json")).unwrap();
    let done = bad(folder.path(), &again, 1, &["the forest failed; to try again"]);
    assert!(done.stdout.contains("The forest failed:") && done.stdout.contains("Best run:"), "{}", done.all());
    // Without test images no submission of an earlier sweep stays.
    assert!(folder.path().join("s/submission.csv").exists());
    good(folder.path(), &run(&["--resume", "--set", "data.test=nowhere.csv"]));
    assert!(!folder.path().join("s/submission.csv").exists());
}

#[test]
fn runs_on_other_images_are_told_apart() {
    let folder = field();
    let wide = text(folder.path().join("other.toml")).replace("test = ", "validation = 0.4\ntest = ");
    fs_err::write(folder.path().join("wide.toml"), wide).unwrap();
    let done = good(folder.path(), &["sweep", "tiny.toml", "wide.toml", "--out", "s"]);
    assert!(done.stdout.contains("they were not validated on the same images"), "{}", done.stdout);
    assert!(
        done.stdout.contains("on other images than the best run, so that accuracies do not compare: "),
        "{}",
        done.stdout
    );
}

#[test]
fn members_are_spread_over_processes() {
    let folder = field();
    let args = ["sweep", "tiny.toml", "torn.toml", "other.toml", "--parallel", "2", "--out", "f"];
    let done = bad(folder.path(), &args, 1, &["torn-seed42: failed"]);
    assert_eq!(done.stderr.matches("torn-seed42: failed").count(), 1, "one try is enough: {}", done.stderr);

    let args = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--parallel", "2", "--out", "s"];
    let done = good(folder.path(), &args);
    for member in MEMBERS {
        assert!(done.stderr.contains(&format!("[{member}] epoch   2/2")), "{}", done.stderr);
    }
    assert_eq!(done.stderr.matches("epoch   1/2").count(), 4, "each is trained once: {}", done.stderr);
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], true);
}

#[test]
fn a_signal_reaches_every_process_once() {
    let folder = field();
    let long = ["--set", "train.epochs=4000", "--set", "train.early_stop={patience=0}"];
    let args = [&["sweep", "tiny.toml", "other.toml", "--parallel", "2"], &long[..], &["--out", "s"]].concat();
    let done = interrupted(folder.path(), &args, "-TERM");
    assert_eq!(done.code, 143, "{}", done.all());
    for run in good(folder.path(), &["runs", "s", "--json"]).json().as_array().unwrap() {
        assert_eq!(run["state"], "interrupted", "{run}");
    }
    // A parent that is killed takes its workers along; they save first.
    let resumed = [&args[..], &["--resume"]].concat();
    interrupted(folder.path(), &resumed, "-KILL");
    let began = Instant::now();
    loop {
        let runs = good(folder.path(), &["runs", "s", "--json"]).json();
        if runs.as_array().unwrap().iter().all(|run| run["state"] == "interrupted") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{runs}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let folder = field();
    let bad = |args: &[&str], parts: &[&str]| drop(bad(folder.path(), args, 2, parts));
    bad(&["sweep", "tiny.toml", "tiny.toml"], &["its name is \"tiny\", as that of tiny.toml"]);
    bad(&["sweep", "torn.toml", "--out", "s"], &["data/none.csv: no such file"]);
    assert!(!folder.path().join("s").exists(), "nothing is left behind");
    bad(&["sweep", "tiny.toml", "--forest", "tiny.toml"], &["this is a network's config"]);
    bad(&["sweep", "tiny.toml", "--out", "data"], &["data: exists and is no sweep"]);
    bad(&["sweep", "tiny.toml", "--resume"], &["there is no runs/sweep-<time>"]);
    bad(&["runs", "nowhere"], &["nowhere: no such folder of runs"]);
    bad(&["runs", "tiny.toml"], &["tiny.toml: is a file"]);
    good(folder.path(), &["sweep", "tiny.toml", "--out", "s"]);
    bad(&["sweep", "tiny.toml", "--out", "s"], &["s: holds a sweep", "--resume"]);
    bad(&["evaluate", "s", "--data", "data/my_emotion_train.csv"], &["s: is a sweep, expected one of its runs"]);
    let other = ["sweep", "tiny.toml", "--set", "train.batch=32", "--out", "s", "--resume"];
    bad(&other, &["s/tiny-seed42: is finished, but train.batch was 64 there, now it is 32"]);
}

#[test]
fn runs_are_listed_newest_first_with_their_state() {
    let folder = field();
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
    let shown = good(folder.path(), &["runs"]).stdout;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("run") && lines.len() == 4, "{shown}");
    assert!(
        lines[1].contains("runs/three") && lines[2].contains("runs/two") && lines[3].contains("runs/one"),
        "{shown}"
    );
    assert!(lines[3].contains("tiny") && lines[3].ends_with("done"), "{shown}");
    assert!(lines[1].ends_with(if done.code == 0 { "done" } else { "diverged" }), "{shown}");
    let found = good(folder.path(), &["runs", "--json"]).json();
    assert_eq!(found[2]["epochs"], 2);
    assert_eq!(found[2]["best"], json(folder.path().join("runs/one/summary.json"))["best_val_accuracy"]);
    assert_eq!(found[1]["best"], json(folder.path().join("runs/two/summary.json"))["val_accuracy"]);
}
