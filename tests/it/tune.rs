//! `grimace tune`: a study is a function of its journal and its seed, however often it is killed, and
//! its trials are ordinary runs.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{DIVERGING, TINY, bad, bench, command, good, json, tensors, text, timeless_metrics};

const SPACE: &str = "train.optimizer.lr = { log = [1e-4, 1e-1] }\ntrain.batch = { int = [16, 64] }\n[model]\n\
                     filters = { choice = [[4], [8]] }\ndropout = { uniform = [0, 0.5] }\n";

/// Rungs at 1, 2 and 4 epochs.
const STUDY: [&str; 14] = [
    "tune",
    "tiny.toml",
    "--space",
    "space.toml",
    "--trials",
    "6",
    "--max-epochs",
    "4",
    "--min-epochs",
    "1",
    "--eta",
    "2",
    "--out",
    "s",
];

/// A folder with a space and a config that trains an epoch in a moment. Its test images do not exist: a
/// search must not read them.
pub fn setup() -> TempDir {
    let bench = bench();
    let all = text(bench.path().join("data/my_emotion_train.csv"));
    let lines: String = all.split_inclusive('\n').take(161).collect();
    fs_err::write(bench.path().join("small.csv"), lines).unwrap();
    let data = "train = \"small.csv\"\ntest = \"none.csv\"";
    let tiny = TINY.replace("train = \"data/my_emotion_train.csv\"", data).replace("[16, 32]", "[8]");
    fs_err::write(bench.path().join("tiny.toml"), tiny).unwrap();
    fs_err::write(bench.path().join("space.toml"), SPACE).unwrap();
    bench
}

fn resumed<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--resume"]].concat()
}

/// Starts the study, waits until the journal has `lines` lines and `file` exists, and sends a signal.
/// Returns the exit code.
fn interrupt(folder: &Path, args: &[&str], lines: usize, file: &str, signal: &str) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let mut child = command(folder, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let has_come_far = || {
        let journal = fs_err::read_to_string(folder.join("s/study.jsonl")).unwrap_or_default();
        journal.lines().count() >= lines && folder.join(file).exists()
    };
    while !has_come_far() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited too long for {lines} lines and {file}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let killed = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    status.code().unwrap_or_else(|| -status.signal().unwrap())
}

#[test]
fn the_first_trial_is_the_config_itself() {
    let folder = setup();
    let folder = folder.path();
    let args = ["tune", "tiny.toml", "--trials", "1", "--max-epochs", "2", "--confirm", "1", "--json"];
    let own = good(folder, &[&args[..], &["--space", "space.toml", "--out", "own"]].concat());
    let config: toml::Table = text(folder.join("own/trial000/config.toml")).parse().unwrap();
    let found = (&config["train"]["optimizer"]["lr"], &config["train"]["batch"], &config["model"]["filters"]);
    assert_eq!(found, (&3e-3.into(), &64.into(), &vec![8].into()));
    assert!(!own.stderr.contains("the config itself is not a trial"), "{}", own.all());
    // 500 steps are more epochs than the training has.
    assert!(own.stderr.contains("study: up to 1 trial, each of 2 epochs, without halving, in own"), "{}", own.all());
    // It is trained with a fresh seed once, not twice.
    let confirmation = &own.json()["confirmation"];
    assert!(confirmation["difference"].is_null() && confirmation["base"] == confirmation["best"], "{confirmation}");
    let page = text(folder.join("own/report.html"));
    assert!(page.contains("It is the base config itself") && !page.contains("best minus base"));
    assert!(folder.join("own/confirm-base-seed43").exists() && !folder.join("own/confirm-trial000-seed43").exists());

    fs_err::write(folder.join("other.toml"), "train.batch = { int = [16, 32] }").unwrap();
    let other = good(folder, &[&args[..], &["--space", "other.toml", "--out", "other"]].concat());
    let note = "the config itself is not a trial: the space does not have its value of train.batch";
    assert!(other.stderr.contains(note), "{}", other.all());
    assert!(folder.join("other/confirm-trial000-seed43").exists());
}

#[test]
fn a_killed_study_ends_as_an_unbroken_one() {
    let (whole, broken) = (setup(), setup());
    let (whole, broken) = (whole.path(), broken.path());
    let done = good(whole, &STUDY);
    let reference = "the config itself (trial000), after 4 epochs: ";
    for part in
        ["Trial", "train.optimizer.lr", "which is optimistic", reference, "best: s/best.toml", "report: s/report.html"]
    {
        assert!(done.stdout.contains(part), "{part}: {}", done.all());
    }

    let again = resumed(&STUDY);
    interrupt(broken, &STUDY, 1, "s/study.jsonl", "-KILL");
    interrupt(broken, &again, 2, "s/trial000/last.safetensors", "-KILL");
    interrupt(broken, &again, 4, "s/trial001/summary.json", "-KILL");
    // The disk was full, or power was lost, within a line.
    let journal = broken.join("s/study.jsonl");
    fs_err::write(&journal, text(&journal) + "{\"event\":\"result\",\"tri").unwrap();
    interrupt(broken, &again, 8, "s/trial002/last.safetensors", "-KILL");
    let code = interrupt(broken, &again, 9, "s/trial003/summary.json", "-TERM");
    assert!([143, 0].contains(&code), "{code}");
    let done = good(broken, &again);
    for name in ["trials.csv", "best.toml", "study.jsonl"] {
        assert_eq!(text(broken.join("s").join(name)), text(whole.join("s").join(name)), "{name}: {}", done.all());
    }
    let rows = text(whole.join("s/trials.csv"));
    assert_eq!(rows.lines().count(), 7, "{rows}");
    let full = |row: &&str| row.contains(",full,2,4,");
    assert!(rows.lines().filter(full).count() >= 2, "the config itself, and the best of the others: {rows}");
    assert!(rows.lines().nth(1).filter(full).is_some_and(|row| row.starts_with("trial000,")), "{rows}");
    assert!(rows.lines().any(|row| row.contains(",stopped,0,1,")), "{rows}");

    // Once more changes nothing.
    good(broken, &again);
    let unbroken = text(whole.join("s/study.jsonl"));
    assert_eq!(text(broken.join("s/study.jsonl")), unbroken);
    // An older copy of the journal: its runs are ahead of it, and only the epochs up to a rung count.
    let older: String = unbroken.split_inclusive('\n').take(4).collect();
    fs_err::write(&journal, older + "\n").unwrap();
    let done = good(broken, &again);
    assert_eq!(text(&journal), unbroken, "{}", done.all());
    promoted_trials_equal_runs_trained_at_once(whole);
}

/// The best trial was stopped at 1 and 2 epochs; a run of its config was not.
fn promoted_trials_equal_runs_trained_at_once(folder: &Path) {
    let csv = text(folder.join("s/trials.csv"));
    let best = text(folder.join("s/best.toml"));
    let name = csv.lines().skip(1).find_map(|row| row.split(',').next().filter(|name| best.contains(*name))).unwrap();
    good(folder, &["train", "s/best.toml", "--out", "once"]);
    let (trial, once) = (folder.join("s").join(name), folder.join("once"));
    assert_eq!(json(trial.join("summary.json"))["provenance"]["resumed"].as_array().unwrap().len(), 2);
    for file in ["last.safetensors", "best.safetensors"] {
        assert!(tensors(&trial.join(file)) == tensors(&once.join(file)), "{file}");
    }
    assert_eq!(timeless_metrics(&trial), timeless_metrics(&once));
    assert_eq!(text(trial.join("validation.csv")), text(once.join("validation.csv")));
}

#[test]
fn a_study_is_confirmed_with_fresh_seeds() {
    let folder = setup();
    let folder = folder.path();
    let args = [
        "tune",
        "tiny.toml",
        "--space",
        "space.toml",
        "--trials",
        "3",
        "--max-epochs",
        "2",
        "--min-epochs",
        "1",
        "--sampler",
        "random",
        "--metric",
        "macro_f1",
        "--json",
        "--out",
        "s",
    ];
    let found = good(folder, &[&args[..], &["--confirm", "2"]].concat()).json();
    assert_eq!(found["trials"].as_array().unwrap().len(), 3);
    // Three at one epoch. The config itself goes on to two, and so does one of the others.
    assert_eq!((&found["epochs"], &found["reference"]), (&5.into(), &"trial000".into()));
    let confirmation = &found["confirmation"];
    assert_eq!(confirmation["seeds"], serde_json::json!([43, 44]));
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let optimism = number(&found["score"]) - number(&confirmation["best"]["mean"]);
    assert_eq!(optimism, number(&confirmation["optimism"]));
    assert_eq!(confirmation["difference"]["half_width"], serde_json::Value::Null, "of two values");
    let base = json(folder.join("s/confirm-base-seed43/summary.json"));
    assert_eq!((base["seed"].as_u64(), base["epochs"].as_u64()), (Some(43), Some(2)));
    assert_eq!(base["best_monitor_value"], confirmation["base"]["values"][0]);
    assert_eq!(base["monitor"], "val_macro_f1");
    // The same validation images in every run.
    let best = found["best"].as_str().unwrap();
    let split = text(folder.join("s").join(best).join("split.csv"));
    assert_eq!(split, text(folder.join("s/confirm-base-seed44/split.csv")));
    assert!(text(folder.join("s/best.toml")).contains("monitor = \"val_macro_f1\""));

    let page = text(folder.join("s/report.html"));
    for part in ["Confirmation with fresh seeds", "best minus base", "Epochs in all trials", "epsilon squared", "<svg"]
    {
        assert!(page.contains(part), "{part}");
    }
    for name in ["progress", "coordinates", "importance"] {
        assert!(folder.join(format!("s/{name}.png")).exists() && folder.join(format!("s/{name}.svg")).exists());
    }
    // Resumed without the option, it keeps what was confirmed.
    assert_eq!(good(folder, &resumed(&args)).json()["confirmation"], *confirmation);
    assert_eq!(text(folder.join("s/report.html")).matches("best minus base").count(), 1);
    fs_err::remove_dir_all(folder.join("s/confirm-base-seed43")).unwrap();
    let note = "the fresh seeds of the best trial are not all trained; --confirm K trains the rest";
    assert!(good(folder, &resumed(&args)).stderr.contains(note));
    // Runs of a study are ordinary runs.
    assert!(good(folder, &["runs", "s"]).stdout.contains("paused"));
    bad(folder, &["evaluate", "s", "--data", "small.csv"], 2, &["s: is a study, expected one of its runs"]);
}

/// Schedules and learning rates that each fit the config, whose learning rate is 3e-3.
const CLASHING: &str = "train.optimizer.lr = { log = [1e-3, 2.9e-3] }\ntrain.schedule = { choice = [\
                        { kind = \"plateau\", min_lr = 2e-3 }, { kind = \"plateau\", min_lr = 1.5e-3 }] }\n";

#[test]
fn trials_that_fail_do_not_end_a_study() {
    let folder = setup();
    let folder = folder.path();
    fs_err::write(folder.join("space.toml"), CLASHING).unwrap();
    let study = |trials: &'static str, out: &'static str| {
        ["tune", "tiny.toml", "--space", "space.toml", "--trials", trials, "--max-epochs", "1", "--out", out]
    };
    let done = good(folder, &study("5", "s"));
    let rows = text(folder.join("s/trials.csv"));
    assert!(rows.contains(",failed,") && rows.contains(",full,"), "{rows}");
    assert!(done.stderr.contains(": failed: train.schedule.min_lr = "), "{}", done.all());
    // More trials of the same study; a failed trial is not tried again.
    let done = good(folder, &resumed(&study("7", "s")));
    assert!(!done.stderr.contains("trial004: up to"), "{}", done.all());
    assert!(text(folder.join("s/trials.csv")).starts_with(&rows));

    fs_err::write(folder.join("space.toml"), CLASHING.replace("2.9e-3", "1.4e-3")).unwrap();
    bad(folder, &study("2", "t"), 1, &["all 2 trials failed; the first: train.schedule.min_lr = "]);
    assert!(!folder.join("t/best.toml").exists());
}

#[test]
fn a_trial_that_diverges_fails_and_a_run_that_confirms_may() {
    let folder = setup();
    let folder = folder.path();
    fs_err::write(folder.join("space.toml"), "train.optimizer.lr = { choice = [100.0, 1e-3, 2e-3] }\n").unwrap();
    let args = ["tune", "tiny.toml", "--space", "space.toml", "--trials", "5", "--max-epochs", "2", "--out", "s"];
    let args = [&args[..], &["--sampler", "random", "--confirm", "1"], &DIVERGING[..]].concat();
    let done = good(folder, &args);
    assert!(text(folder.join("s/study.jsonl")).contains("training diverged\""), "{}", done.all());
    assert!(!done.all().contains("max_rollbacks"), "advice for a run that is not one of a study: {}", done.all());
    assert!(text(folder.join("s/trials.csv")).contains(",failed,"));
    for part in ["base none", "difference none", "failed: confirm-base-seed43: ", "training diverged"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.all());
    }
    let page = text(folder.join("s/report.html"));
    assert!(page.contains("Failed, and not part of the means: confirm-base-seed43"), "{page}");
}

#[test]
fn a_small_space_is_tried_once() {
    let folder = setup();
    let folder = folder.path();
    fs_err::write(folder.join("space.toml"), "augment.flip = { choice = [true, false] }\n").unwrap();
    let args = ["tune", "tiny.toml", "--space", "space.toml", "--trials", "9", "--max-epochs", "1", "--out", "s"];
    let done = good(folder, &[&args[..], &["--json"]].concat());
    assert!(done.stderr.contains("note: the space has no other values, after 2 trials"), "{}", done.all());
    let found = done.json();
    let flips: Vec<&serde_json::Value> =
        found["trials"].as_array().unwrap().iter().map(|trial| &trial["values"]["augment.flip"]).collect();
    assert!(flips.len() == 2 && flips[0] != flips[1], "{found}");
    assert_eq!((&found["rungs"], &found["interrupted"]), (&serde_json::json!([1]), &false.into()));
    fs_err::remove_dir_all(folder.join("s").join(found["best"].as_str().unwrap())).unwrap();
    let again = good(folder, &resumed(&args));
    assert!(again.stdout.contains("is gone, with its weights; best.toml trains it again"), "{}", again.all());
}

#[test]
fn an_error_that_is_not_of_the_trial_is_not_recorded() {
    let folder = setup();
    let folder = folder.path();
    let args = ["tune", "tiny.toml", "--space", "space.toml", "--trials", "2", "--max-epochs", "1", "--out", "s"];
    // In the way of the first trial.
    fs_err::create_dir_all(folder.join("s")).unwrap();
    fs_err::write(folder.join("s/study.jsonl"), "").unwrap();
    fs_err::write(folder.join("s/trial000"), "mine").unwrap();
    let failed = bad(folder, &resumed(&args), 2, &["trial000: is a file; expected a run directory"]);
    assert!(failed.stderr.contains("s holds no study yet: starting a new one"), "{}", failed.all());
    assert!(!text(folder.join("s/study.jsonl")).contains("\"result\""));
    fs_err::remove_file(folder.join("s/trial000")).unwrap();
    good(folder, &resumed(&args));
    assert!(!text(folder.join("s/trials.csv")).contains("failed"));
}

#[test]
fn mistakes_are_found_before_anything_is_written() {
    let folder = setup();
    let folder = folder.path();
    for (space, parts) in [
        ("[train]\nbacth = { int = [1, 2] }", &["space.toml:2: train.bacth: unknown key; expected one of"][..]),
        ("train.batch = { uniform = [16, 32] }", &["space.toml:1: train.batch = 16.0 is not allowed", "an integer"]),
        ("\n\ntrain.ema = { uniform = [0, 1] }", &["space.toml:3: train.ema = 1 is not allowed", "below 1"]),
        ("train.epochs = { int = [1, 2] }", &["space.toml:1: train.epochs: a search does not vary this key"]),
        (
            "train.batch = 16",
            &["space.toml:1: train.batch = 16: is not a set of values; expected one of { log = [LOW, HIGH] }"],
        ),
        ("train.batch = [", &["space.toml:1: not valid TOML"]),
        ("", &["space.toml: varies no key"]),
        (
            "train.init = { choice = [\"none\", \"runs\"] }",
            &["space.toml:1: train.init = \"none\": none: no such file"],
        ),
    ] {
        fs_err::write(folder.join("space.toml"), space).unwrap();
        bad(folder, &STUDY, 2, parts);
        assert!(!folder.join("s").exists(), "{space}");
    }
    fs_err::remove_file(folder.join("space.toml")).unwrap();
    bad(folder, &STUDY, 2, &["space.toml"]);
    fs_err::write(folder.join("space.toml"), SPACE).unwrap();
    let long: Vec<&str> = STUDY.iter().map(|word| if *word == "1" { "5" } else { *word }).collect();
    bad(folder, &long, 2, &["--min-epochs 5: expected 1 to 4"]);
    bad(folder, &[&STUDY[..], &["--set", "train.schedule={kind=\"cosine\",warmup=5}"]].concat(), 2, &["warmup"]);
    bad(folder, &[&STUDY[..], &["--set", "data.train=none.csv"]].concat(), 2, &["none.csv"]);
    bad(folder, &[&STUDY[..], &["--confirm", "-1"]].concat(), 2, &["invalid value '-1' for '--confirm <K>'"]);
    assert!(!folder.join("s").exists());
}

#[test]
fn a_study_is_neither_overwritten_nor_resumed_as_another() {
    let folder = setup();
    let folder = folder.path();
    fs_err::create_dir(folder.join("s")).unwrap();
    fs_err::write(folder.join("s/notes.txt"), "mine").unwrap();
    bad(folder, &STUDY, 2, &["s: exists and is not a study; choose another --out"]);
    fs_err::remove_file(folder.join("s/notes.txt")).unwrap();

    let args = ["tune", "tiny.toml", "--space", "space.toml", "--trials", "1", "--max-epochs", "1", "--out", "s"];
    good(folder, &args);
    bad(folder, &args, 2, &["s: holds a study; choose another --out, or resume it with --resume"]);
    let with = |more: &[&'static str]| [&resumed(&args)[..], more].concat();
    bad(folder, &with(&["--seed", "7"]), 2, &["s: was started with --seed 42, but is resumed with 7"]);
    bad(folder, &with(&["--sampler", "random"]), 2, &["is resumed with random; give --sampler tpe, or choose"]);
    bad(folder, &with(&["--set", "train.clip_norm=1"]), 2, &["train.clip_norm"]);
    bad(folder, &with(&["--set", "train.early_stop.patience=9"]), 2, &["train.early_stop.patience"]);
    let images = text(folder.join("small.csv"));
    fs_err::write(folder.join("fewer.csv"), images.split_inclusive('\n').take(151).collect::<String>()).unwrap();
    bad(folder, &with(&["--set", "data.train=fewer.csv"]), 2, &["s: was started with images of hash "]);
    fs_err::rename(folder.join("small.csv"), folder.join("moved.csv")).unwrap();
    good(folder, &with(&["--set", "data.train=moved.csv"]));
    fs_err::rename(folder.join("moved.csv"), folder.join("small.csv")).unwrap();
    fs_err::write(folder.join("space.toml"), SPACE.replace("[16, 64]", "[16, 65]")).unwrap();
    bad(folder, &resumed(&args), 2, &["the space train.batch = { int = [16, 64] }, but is resumed with"]);
    fs_err::write(folder.join("space.toml"), SPACE).unwrap();
    fs_err::write(folder.join("s/study.jsonl"), "{}\n").unwrap();
    bad(folder, &resumed(&args), 2, &["s/study.jsonl:1: is not a record of a study"]);
}
