//! `grimace evaluate` and `grimace predict` on a trained run.

use std::process::Command;
use std::time::Duration;

use crate::common::{Done, bad, bench, command, good, grimace, json, text, workshop};

/// Writes the validation rows of the workshop's run as a CSV.
fn validation_rows(path: &std::path::Path) {
    let split = text(workshop().join("run/split.csv"));
    let train = text(workshop().join("data/my_emotion_train.csv"));
    let rows: Vec<&str> = train.lines().skip(1).collect();
    let chosen = split.lines().filter(|line| line.contains(",validation,")).map(|line| {
        let row: usize = line.split(',').next().unwrap().parse().unwrap();
        *rows.get(row).unwrap()
    });
    let text: String = std::iter::once("emotion,pixels").chain(chosen).map(|line| format!("{line}\n")).collect();
    fs_err::write(path, text).unwrap();
}

#[test]
fn evaluate_repeats_the_accuracy_of_training() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("validation.csv");
    validation_rows(&csv);
    let csv = csv.to_str().unwrap();
    let found = good(workshop(), &["evaluate", "run", "--data", csv, "--json"]).json();
    let summary = json(workshop().join("run/summary.json"));
    assert_eq!(found["accuracy"], summary["best_val_accuracy"]);
    assert_eq!(found["accuracy_dedup"], summary["best_val_accuracy_dedup"]);
    let counted: u64 = found["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|v| v.as_u64().unwrap())
        .sum();
    assert_eq!(counted, 120);
    assert_eq!(found["per_class"].as_array().unwrap().len(), 7);
    for key in ["macro_f1", "ece"] {
        assert!((0.0..=1.0).contains(&found[key].as_f64().unwrap()), "{key}");
    }
    let stdout = good(workshop(), &["evaluate", "run", "--data", csv]).stdout;
    assert!(stdout.contains("macro F1") && stdout.contains("confusion") && stdout.contains("surprise"), "{stdout}");
}

#[test]
fn dedup_metrics_exclude_training_images() {
    let found = good(workshop(), &["evaluate", "run", "--data", "data/my_emotion_train.csv", "--json"]).json();
    assert_eq!((found["rows"].as_u64(), found["rows_dedup"].as_u64()), (Some(600), Some(120)));
    assert_eq!(found["accuracy_dedup"], json(workshop().join("run/summary.json"))["best_val_accuracy"]);
}

#[test]
fn evaluate_agrees_with_the_submission() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("submission.csv");
    let (out, test, labels) = (out.to_str().unwrap(), "data/my_emotion_test.csv", "data/my_emotion_test_labels.csv");
    good(workshop(), &["predict", "run", "--data", test, "--out", out]);
    let (predicted, truth) = (text(out), text(workshop().join(labels)));
    assert!(predicted.starts_with("id,emotion\n0,"));
    let correct = predicted.lines().skip(1).zip(truth.lines().skip(1)).filter(|(a, b)| a == b).count();
    let found = good(workshop(), &["evaluate", "run", "--data", test, "--labels", labels, "--json"]).json();
    assert_eq!(found["accuracy"].as_f64(), Some(correct as f64 / 150.0));

    good(workshop(), &["predict", "run", "--data", test, "--out", out, "--probabilities", "--force"]);
    let detailed = text(out);
    assert!(detailed.starts_with("id,emotion,angry,disgust,fear,happy,sad,surprise,neutral\n"));
    for (line, plain) in detailed.lines().zip(predicted.lines()).skip(1) {
        assert!(line.starts_with(&format!("{plain},")));
        let values: Vec<f64> = line.split(',').skip(2).map(|v| v.parse().unwrap()).collect();
        assert!((values.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        let label: usize = plain.split(',').nth(1).unwrap().parse().unwrap();
        assert!(values.iter().all(|v| *v <= values[label]), "the prediction is the most probable class");
    }
}

#[test]
fn bad_inputs_and_runs_are_named() {
    let (test, labels) = ("data/my_emotion_test.csv", "data/my_emotion_test_labels.csv");
    bad(workshop(), &["evaluate", "run", "--data", test], 2, &["no column emotion", "--labels"]);
    bad(workshop(), &["evaluate", "run", "--data", labels], 2, &["no column pixels"]);
    bad(workshop(), &["evaluate", "data", "--data", test], 2, &["data: is not a run directory"]);
    bad(workshop(), &["evaluate", "run", "--data", test, "--usage", "PublicTest"], 2, &["no column Usage"]);
    bad(workshop(), &["predict", "run", "--data", test, "--out", "nowhere/x.csv"], 1, &["nowhere: no such folder"]);
    bad(
        workshop(),
        &["predict", "run", "--data", test, "--out", "/dev/null"],
        1,
        &["/dev/null: is a pipe or a device"],
    );

    let folder = tempfile::tempdir().unwrap();
    let corrupt = folder.path().join("run");
    fs_err::create_dir(&corrupt).unwrap();
    for name in ["config.toml", "split.csv"] {
        fs_err::copy(workshop().join("run").join(name), corrupt.join(name)).unwrap();
    }
    let run = corrupt.to_str().unwrap();
    bad(workshop(), &["predict", run, "--data", test, "--out", "x.csv"], 2, &["no best.safetensors"]);
    fs_err::copy(workshop().join("run/best.safetensors"), corrupt.join("best.safetensors")).unwrap();
    let split = text(corrupt.join("split.csv"));
    fs_err::write(corrupt.join("split.csv"), split.replacen("train", "validation", 1)).unwrap();
    bad(
        workshop(),
        &["evaluate", run, "--data", test, "--labels", labels],
        2,
        &["split.csv: is not the split of this run"],
    );
    let mut bytes = fs_err::read(workshop().join("run/best.safetensors")).unwrap();
    let end = bytes.len() - 40;
    bytes[end] ^= 1;
    fs_err::write(corrupt.join("best.safetensors"), bytes).unwrap();
    bad(workshop(), &["evaluate", run, "--data", test, "--labels", labels], 2, &["best.safetensors", "checksum"]);
}

#[test]
fn inputs_are_never_overwritten() {
    let bench = bench();
    let run = bench.path().join("run");
    fs_err::create_dir(&run).unwrap();
    for name in ["config.toml", "split.csv", "best.safetensors", "report.html"] {
        fs_err::copy(workshop().join("run").join(name), run.join(name)).unwrap();
    }
    let test = text(bench.path().join("data/my_emotion_test.csv"));
    fs_err::write(bench.path().join("x.csv"), &test).unwrap();
    let predict = |out: &str, parts: &[&str]| {
        for force in [&[][..], &["--force"]] {
            let args = [&["predict", "run", "--data", "x.csv", "--out", out], force].concat();
            bad(bench.path(), &args, 2, parts);
        }
    };
    predict("./x.csv", &["x.csv: is read by this command and would be overwritten"]);
    for name in ["best.safetensors", "report.html"] {
        predict(&format!("run/{name}"), &[name, "belongs to the run and would be overwritten"]);
        let bytes = |run: &std::path::Path| fs_err::read(run.join(name)).unwrap();
        assert!(bytes(&run) == bytes(&workshop().join("run")), "{name}");
    }
    assert!(text(bench.path().join("x.csv")) == test);

    let row = test.lines().nth(1).unwrap();
    fs_err::write(bench.path().join("x.csv"), format!("id,pixels\n{row}\n{row}\n")).unwrap();
    predict("none.csv", &["x.csv: column id: duplicate id \"0\""]);
    assert!(!bench.path().join("none.csv").exists());
}

#[test]
fn other_files_are_overwritten_only_with_force() {
    let bench = bench();
    let (run, out) = (workshop().join("run"), bench.path().join("notes.csv"));
    fs_err::write(&out, "mine").unwrap();
    let predict = ["predict", run.to_str().unwrap(), "--data", "data/my_emotion_test.csv", "--out", "notes.csv"];
    let exists = "notes.csv: exists; choose another --out, or overwrite it with --force";
    bad(bench.path(), &predict, 2, &[exists]);
    // Before any work.
    let none = ["predict", run.to_str().unwrap(), "--data", "none.csv", "--out", "notes.csv"];
    bad(bench.path(), &none, 2, &[exists]);
    assert_eq!(text(&out), "mine");
    good(bench.path(), &[&predict[..], &["--force"]].concat());
    assert!(text(&out).starts_with("id,emotion\n0,"));
}

#[test]
fn predictions_go_to_standard_output() {
    let bench = bench();
    let run = workshop().join("run");
    let predict = ["predict", run.to_str().unwrap(), "--data", "data/my_emotion_test.csv", "--out"];
    good(bench.path(), &[&predict[..], &["x.csv"]].concat());
    let done = good(bench.path(), &[&predict[..], &["-"]].concat());
    assert_eq!(done.stdout, text(bench.path().join("x.csv")));
    assert!(done.stderr.contains("150 predictions written to standard output"), "{}", done.all());
    bad(bench.path(), &[&predict[..], &["-", "--json"]].concat(), 2, &["--out - and --json", "omit --json"]);
    assert_eq!(good(bench.path(), &[&predict[..], &["/dev/stdout"]].concat()).stdout, done.stdout);
    // A file of that name is neither read nor replaced.
    fs_err::write(bench.path().join("-"), "mine").unwrap();
    assert_eq!(good(bench.path(), &[&predict[..], &["-"]].concat()).stdout, done.stdout);
    assert_eq!(text(bench.path().join("-")), "mine");
}

#[test]
fn images_come_from_standard_input() {
    let bench = bench();
    let run = workshop().join("run");
    good(bench.path(), &["predict", run.to_str().unwrap(), "--data", "data/my_emotion_test.csv", "--out", "x.csv"]);
    let test = fs_err::File::open(bench.path().join("data/my_emotion_test.csv")).unwrap();
    let args = ["predict", run.to_str().unwrap(), "--data", "-", "--out", "-"];
    let done: Done = command(bench.path(), &args).stdin(test.into_parts().0).output().unwrap().into();
    assert_eq!((done.code, done.stdout.as_str()), (0, text(bench.path().join("x.csv")).as_str()), "{}", done.stderr);
}

#[test]
fn images_come_from_a_pipe() {
    let bench = bench();
    let run = workshop().join("run");
    let predict = |data: &str, out: &str| {
        good(bench.path(), &["predict", run.to_str().unwrap(), "--data", data, "--out", out]);
        text(bench.path().join(out))
    };
    let expected = predict("data/my_emotion_test.csv", "x.csv");
    // The pipe of a process substitution in a shell, and one that is compressed.
    for (number, filter) in ["cat", "gzip -c"].iter().enumerate() {
        let pipe = format!("pipe{number}.csv");
        let script = format!("mkfifo {pipe} && {filter} data/my_emotion_test.csv > {pipe}");
        let mut writer = Command::new("sh").args(["-c", &script]).current_dir(bench.path()).spawn().unwrap();
        while !bench.path().join(&pipe).exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(predict(&pipe, &format!("{number}.csv")), expected, "{filter}");
        assert!(writer.wait().unwrap().success());
    }
}

#[test]
fn labels_come_from_standard_input() {
    let (images, labels) = ("data/my_emotion_test.csv", "data/my_emotion_test_labels.csv");
    let evaluate = |data: &str, labels: &str, input: &str| {
        let args = ["evaluate", "run", "--data", data, "--labels", labels, "--json"];
        let input = fs_err::File::open(workshop().join(input)).unwrap();
        Done::from(command(workshop(), &args).stdin(input.into_parts().0).output().unwrap())
    };
    let expected = evaluate(images, labels, labels).json();
    assert_eq!(expected["skipped"], 0);
    assert_eq!(evaluate("-", labels, images).json(), expected);
    assert_eq!(evaluate(images, "-", labels).json(), expected);
    let both = evaluate("-", "-", images);
    assert!(both.code == 2 && both.stderr.contains("standard input can be read only once"), "{}", both.all());
    bad(workshop(), &["data", "check", "-", "-"], 2, &["standard input can be read only once"]);
}

#[test]
fn bad_rows_are_skipped_on_request() {
    let bench = bench();
    let run = workshop().join("run");
    let (run, labels) = (run.to_str().unwrap(), "data/my_emotion_test_labels.csv");
    let images = text(bench.path().join("data/my_emotion_test.csv"));
    fs_err::write(bench.path().join("bad.csv"), format!("{images}extra,1 2 3\n")).unwrap();
    let skip = ["--on-bad-row", "skip"];
    let problem: &[&str] = &["bad.csv: line 152, column pixels", "fix the file, or add --on-bad-row skip"];

    let predict = ["predict", run, "--data", "bad.csv", "--json", "--out", "x.csv"];
    bad(bench.path(), &predict, 2, problem);
    bad(bench.path(), &[&predict[..], &["--on-bad-row", "ignore"]].concat(), 2, &["possible values: error, skip"]);
    assert!(!bench.path().join("x.csv").exists());
    let done = good(bench.path(), &[&predict[..], &skip].concat());
    assert_eq!((&done.json()["rows"], &done.json()["skipped"]), (&150.into(), &1.into()));
    assert!(done.stderr.contains("bad.csv: skipped 1 bad row: line 152, column pixels"), "{}", done.all());
    good(bench.path(), &["predict", run, "--data", "data/my_emotion_test.csv", "--out", "clean.csv"]);
    assert_eq!(text(bench.path().join("x.csv")), text(bench.path().join("clean.csv")));

    let evaluate = |data| ["evaluate", run, "--data", data, "--labels", labels, "--json"];
    bad(bench.path(), &evaluate("bad.csv"), 2, problem);
    let mut found = good(bench.path(), &[&evaluate("bad.csv")[..], &skip].concat()).json();
    assert_eq!(found["skipped"], 1);
    found["skipped"] = 0.into();
    assert_eq!(found, good(bench.path(), &evaluate("data/my_emotion_test.csv")).json());
}

#[test]
fn the_option_overrides_the_config_of_the_run() {
    let bench = bench();
    let sets = ["--set", "data.on_bad_row=skip", "--set", "train.epochs=1"];
    good(bench.path(), &[&["train", "tiny.toml", "--out", "run"], &sets[..]].concat());
    let images = text(bench.path().join("data/my_emotion_test.csv"));
    fs_err::write(bench.path().join("bad.csv"), format!("{images}extra,1 2 3\n")).unwrap();
    let predict = ["predict", "run", "--data", "bad.csv", "--json", "--out", "x.csv"];
    assert_eq!(good(bench.path(), &predict).json()["skipped"], 1);
    bad(bench.path(), &[&predict[..], &["--force", "--on-bad-row", "error"]].concat(), 2, &["line 152"]);
}

#[test]
fn labels_of_other_names_are_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("words.csv");
    validation_rows(&csv);
    let csv_text = csv.to_str().unwrap();
    let evaluate = ["evaluate", "run", "--data", csv_text, "--json"];
    let expected = good(workshop(), &evaluate).json();
    let words: String = text(&csv)
        .lines()
        .map(|line| line.replacen("3,", "gleeful,", usize::from(line.starts_with("3,"))) + "\n")
        .collect();
    fs_err::write(&csv, words).unwrap();
    bad(workshop(), &evaluate, 2, &["unknown label \"gleeful\"", "--label-map 'gleeful=CLASS'"]);
    assert_eq!(good(workshop(), &[&evaluate[..], &["--label-map", "gleeful=happy"]].concat()).json(), expected);
    bad(workshop(), &[&evaluate[..], &["--label-map", "gleeful=glad"]].concat(), 2, &["--label-map", "glad"]);
}

#[test]
fn label_maps_are_added_to_that_of_the_run() {
    let bench = bench();
    // Angry is 6 and neutral is 0, as in AffectNet; 7 is contempt.
    let order = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"];
    let fer2013 = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
    let numbers: Vec<String> =
        fer2013.iter().map(|class| order.iter().position(|other| other == class).unwrap().to_string()).collect();
    let renumbered = |path: &str| -> String {
        let csv = text(workshop().join("data").join(path));
        let mut lines = csv.lines();
        let header = lines.next().unwrap().to_owned() + "\n";
        let row = |line: &str| {
            let (label, pixels) = line.split_once(',').unwrap();
            format!("{},{pixels}\n", numbers[label.parse::<usize>().unwrap()])
        };
        header + &lines.map(row).collect::<String>()
    };
    let train = renumbered("my_emotion_train.csv");
    fs_err::write(bench.path().join("train.csv"), &train).unwrap();
    let list = format!("data.labels=[{}, \"skip\"]", order.map(|class| format!("{class:?}")).join(", "));
    let sets = ["--set", "data.train=train.csv", "--set", "train.epochs=1", "--set", &list];
    good(bench.path(), &[&["train", "tiny.toml", "--out", "run"], &sets[..]].concat());
    let evaluate = |data: &str, more: &[&str]| {
        good(bench.path(), &[&["evaluate", "run", "--data", data, "--json"], more].concat()).json()["accuracy"].clone()
    };
    let expected = evaluate("train.csv", &[]);
    // What the message of label 8 advises, with another map before it.
    let pixels = train.lines().nth(1).unwrap().split_once(',').unwrap().1;
    fs_err::write(bench.path().join("eight.csv"), format!("{train}8,{pixels}\nglee,{pixels}\n")).unwrap();
    let args = ["evaluate", "run", "--data", "eight.csv", "--label-map", "glee=skip"];
    bad(bench.path(), &args, 2, &["unknown label \"8\"", "add --label-map '8=CLASS'"]);
    assert_eq!(evaluate("eight.csv", &["--label-map", "glee=skip", "--label-map", "8=skip"]), expected);
    // A map that is a list stands alone.
    let other = evaluate("train.csv", &["--label-map", &fer2013.join(",")]);
    assert_ne!(other, expected);

    // In a config, a number of two meanings is refused.
    let classes = format!("data.classes=[{}]", order.map(|class| format!("{class:?}")).join(", "));
    let sets = ["--set", "data.train=train.csv", "--set", &classes, "--set", "data.labels={ 8 = \"skip\" }"];
    let two =
        "is \"neutral\" by its position in data.classes, and \"angry\" in FER2013; list every number in data.labels";
    bad(bench.path(), &[&["train", "tiny.toml", "--out", "two"], &sets[..]].concat(), 2, &[two]);
}

#[test]
fn paths_may_be_non_utf_8() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = bench();
    let out = std::ffi::OsStr::from_bytes(b"\xff.csv");
    let done = command(workshop(), &["predict", "run", "--data", "data/my_emotion_test.csv", "--json", "--out"])
        .arg(bench.path().join(out))
        .output()
        .unwrap();
    let done = Done::from(done);
    assert_eq!((done.code, done.json()["rows"].as_u64()), (0, Some(150)), "{}", done.all());
    let done = command(bench.path(), &["data", "check", "--json"]).arg(bench.path().join(out)).output().unwrap();
    assert_eq!(Done::from(done).code, 2, "there is no such file");
    fs_err::copy(bench.path().join("data/my_emotion_test.csv"), bench.path().join(out)).unwrap();
    let done = command(bench.path(), &["data", "check", "--json"]).arg(bench.path().join(out)).output().unwrap();
    assert_eq!(Done::from(done).json()["files"][0]["rows"], 150);
}

#[test]
fn output_survives_a_closed_pipe() {
    for args in ["doctor", "predict run --data data/my_emotion_test.csv --out -", "data preview tiny.toml --out -"] {
        let line = format!("{} {args} | true; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_grimace"));
        let output = std::process::Command::new("bash").args(["-c", &line]).current_dir(workshop()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{args}");
    }
    assert!(grimace(workshop(), &["doctor"]).code == 0);
}

#[test]
fn files_of_another_run_are_never_overwritten() {
    let bench = bench();
    let (here, run) = (bench.path(), workshop().join("run"));
    fs_err::create_dir(here.join("other")).unwrap();
    for name in ["config.toml", "best.safetensors"] {
        fs_err::copy(run.join(name), here.join("other").join(name)).unwrap();
    }
    let before = fs_err::read(here.join("other/best.safetensors")).unwrap();
    let run = run.to_str().unwrap();
    let out = ["--out", "other/best.safetensors", "--force"];
    let test = "data/my_emotion_test.csv";
    bad(here, &[&["predict", run, "--data", test][..], &out].concat(), 2, &["belongs to the run"]);
    bad(here, &[&["data", "pack", test][..], &out[1..]].concat(), 2, &["belongs to the run"]);
    assert_eq!(fs_err::read(here.join("other/best.safetensors")).unwrap(), before);
    good(here, &["predict", run, "--data", test, "--out", "other/mine.csv"]);
}

#[test]
fn evaluate_notes_that_a_run_is_in_training() {
    let bench = bench();
    let here = bench.path();
    good(here, &["train", "tiny.toml", "--set", "train.epochs=1", "--out", "run"]);
    let args = ["evaluate", "run", "--data", "data/my_emotion_train.csv"];
    assert!(!good(here, &args).stderr.contains("in training"));
    let lock = std::fs::File::open(here.join("run/.lock")).unwrap();
    lock.lock().unwrap();
    assert!(
        good(here, &args).stderr.contains("note: run is in training; these are its best weights so far, of epoch 1")
    );
}

#[test]
fn a_sweep_on_a_missing_device_fails_before_its_first_run() {
    let bench = bench();
    let args = ["sweep", "tiny.toml", "--seeds", "2", "--set", "device=cuda:63", "--out", "sweep"];
    bad(bench.path(), &args, 2, &["cuda:63"]);
    assert!(!bench.path().join("sweep").exists());
}
