//! `data.soft_labels`: from `grimace predict --probabilities` and from votes, and what is refused.

use std::path::Path;

use serde_json::Value;

use crate::common::{bad, bench, good, tensors, text, timeless_metrics, workshop};

const TRAIN: &str = "data/my_emotion_train.csv";
const HEADER: &str = "id,angry,disgust,fear,happy,sad,surprise,neutral";

fn train(folder: &Path, out: &str, sets: &[&str], more: &[&str]) {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    good(folder, &[&["train", "tiny.toml", "--out", out], &sets[..], more].concat());
}

/// What the workshop's run makes of the training rows, written to `soft.csv`.
fn distil(folder: &Path) {
    let run = workshop().join("run");
    good(folder, &["predict", run.to_str().unwrap(), "--data", TRAIN, "--out", "soft.csv", "--probabilities"]);
}

fn first_record(run: &Path) -> Value {
    timeless_metrics(run)[0].clone()
}

#[test]
fn a_run_learns_from_the_probabilities_of_another() {
    let bench = bench();
    let folder = bench.path();
    distil(folder);
    let sets = ["data.soft_labels=soft.csv", "train.epochs=1"];
    train(folder, "soft", &sets, &[]);
    train(folder, "hard", &sets, &["--set", "train.soft_label_weight=0"]);
    train(folder, "half", &sets, &["--set", "train.soft_label_weight=0.5"]);
    let loss = |run: &Path| first_record(run)["loss"].as_f64().unwrap();
    let plain = loss(&workshop().join("run"));
    let [soft, hard, half] = ["soft", "hard", "half"].map(|out| loss(&folder.join(out)));
    assert!((hard - plain).abs() < 1e-3, "with no share of them they change nothing: {hard} and {plain}");
    assert!((soft - plain).abs() > 1e-2, "{soft} and {plain}");
    assert!((half - plain).abs() > 1e-3 && (half - soft).abs() > 1e-3, "{half}, {soft} and {plain}");
}

#[test]
fn votes_count_in_training_and_labels_in_figures() {
    let bench = bench();
    let folder = bench.path();
    let votes: String = (0..600).rev().map(|row| format!("{row},x,10,0,0,0,0,0,0,7\n")).collect();
    let header = HEADER.replacen(',', ",note,", 1);
    fs_err::write(folder.join("votes.csv"), format!("{header},unknown\n{votes}")).unwrap();
    train(folder, "run", &["data.soft_labels=votes.csv"], &[]);
    let last = timeless_metrics(&folder.join("run"))[2].clone();
    let number = |key: &str| last[key].as_f64().unwrap();
    let validation = text(folder.join("run/validation.csv"));
    let angry = validation.lines().skip(1).filter(|line| line.split(',').nth(2) == Some("0")).count();
    assert_eq!(number("val_accuracy"), angry as f64 / 120.0, "every image is taken for an angry one, and few are");
    assert!(angry < 40 && number("accuracy") < 0.5, "correct are of the labels: {last}");
    assert!(number("loss") < number("val_loss"), "the one is of the votes, the other of the labels: {last}");
}

#[test]
fn going_on_needs_the_same_soft_labels() {
    let bench = bench();
    let folder = bench.path();
    distil(folder);
    let soft = "data.soft_labels=soft.csv";
    train(folder, "whole", &[soft, "train.epochs=2"], &[]);
    train(folder, "parts", &[soft, "train.epochs=1"], &[]);
    let resume = ["train", "tiny.toml", "--out", "parts", "--resume", "--set", "train.epochs=2"];
    let refuse = |set: &[&str], parts: &[&str]| {
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
        bad(folder, &[&resume[..], &set].concat(), 2, parts);
    };
    let lines = text(folder.join("soft.csv"));
    let row = lines.lines().nth(1).unwrap();
    fs_err::write(folder.join("other.csv"), lines.replacen(row, "0,0,1,1,1,1,1,1,1", 1)).unwrap();
    refuse(
        &["data.soft_labels=other.csv"],
        &["cannot go on: the soft labels of other.csv are not those it was trained"],
    );
    refuse(&[], &["cannot go on: it was trained on soft labels, and data.soft_labels names none"]);
    refuse(&[soft, "train.soft_label_weight=0.5"], &["cannot go on: train.soft_label_weight was 1.0, now it is 0.5"]);
    // The same in another file are the same.
    fs_err::rename(folder.join("soft.csv"), folder.join("moved.csv")).unwrap();
    refuse(&[soft], &["soft.csv: no such file (a CSV of soft labels)"]);
    good(folder, &[&resume[..], &["--set", "data.soft_labels=moved.csv"]].concat());
    let result = |out: &str| (timeless_metrics(&folder.join(out)), tensors(&folder.join(out).join("last.safetensors")));
    assert_eq!(result("whole"), result("parts"));

    train(folder, "hard", &["train.epochs=1"], &[]);
    let resume = ["train", "tiny.toml", "--out", "hard", "--resume", "--set", "data.soft_labels=moved.csv"];
    bad(folder, &resume, 2, &["cannot go on: the soft labels of moved.csv are not those it was trained on"]);
}

/// Rows of other usages and rows left out do not shift the numbers by which `predict` and `data.soft_labels` know an image.
#[test]
fn rows_are_numbered_as_predict_numbers_them() {
    let bench = bench();
    let folder = bench.path();
    let rows = text(folder.join(TRAIN));
    let usage = |row: usize| if row < 150 { "PublicTest" } else { "Training" };
    let rows: String = (0..).zip(rows.lines().skip(1)).map(|(row, line)| format!("{line},{}\n", usage(row))).collect();
    let rows = rows.replacen("\n", "\n0,1 2 3,Training\n", 1);
    fs_err::write(folder.join("fer2013.csv"), format!("emotion,pixels,Usage\n{rows}")).unwrap();
    let skip = ["data.train=fer2013.csv", "data.validation=PublicTest", "data.on_bad_row=skip", "train.epochs=1"];
    train(folder, "teacher", &skip, &[]);
    let predict = ["predict", "teacher", "--data", "fer2013.csv", "--usage", "Training", "--out", "soft.csv"];
    good(folder, &[&predict[..], &["--probabilities"]].concat());
    let soft = text(folder.join("soft.csv"));
    assert!(soft.lines().nth(1).unwrap().starts_with("151,") && soft.lines().count() == 451, "{soft:.200}");
    train(folder, "student", &skip, &["--set", "data.soft_labels=soft.csv"]);
    assert_ne!(first_record(&folder.join("student"))["loss"], first_record(&folder.join("teacher"))["loss"]);
    let of_others = soft.replacen("\n151,", "\n0,", 1);
    fs_err::write(folder.join("soft.csv"), of_others).unwrap();
    let sets: Vec<&str> = skip.iter().chain([&"data.soft_labels=soft.csv"]).flat_map(|set| ["--set", set]).collect();
    let args = [&["train", "tiny.toml", "--out", "none"], &sets[..]].concat();
    bad(folder, &args, 2, &["soft.csv: no row for id \"151\", a training image of fer2013.csv", "grimace predict RUN"]);
}

#[test]
fn soft_labels_that_are_none_are_refused() {
    let bench = bench();
    let folder = bench.path();
    let rows = |line_9: &str| {
        let row = |row: usize| if row == 7 { format!("{line_9}\n") } else { format!("{row},1,0,0,0,0,0,1\n") };
        format!("{HEADER}\n{}", (0..600).map(row).collect::<String>())
    };
    let whole = rows("7,1,0,0,0,0,0,1");
    let split = text(workshop().join("run/split.csv"));
    assert!(split.contains("\n4,train,") && split.contains("\n7,train,"), "the rows that go wrong below are wanted");
    let number = "expected a vote or a probability, 0 to 1e9";
    let cell =
        |text: &str| (rows(&format!("7,1,0,0,{text},0,0,1")), format!("soft.csv: line 9, column happy: {text:?}"));
    let mut table: Vec<(String, String)> = ["nan", "inf", "-1", "", "many", "1e10"].map(cell).to_vec();
    table.extend([
        (rows("7,1,0,0,-1,0,0,1"), number.to_owned()),
        (rows("7,0,0,0,0,0,0,0"), "soft.csv: line 9: no class has a vote".to_owned()),
        (rows("4,1,0,0,0,0,0,1"), "soft.csv: line 9, column id: \"4\" stands there twice".to_owned()),
        (rows("600,1,0,0,0,0,0,1"), "soft.csv: no row for id \"7\", a training image of data/my_emot".to_owned()),
        (rows("7,1,0,0,0,0,0"), "soft.csv: line 9: 7 fields; the header has 8".to_owned()),
        (whole.replace("fear", "happy"), "soft.csv: line 1: no column fear; expected id,angry,disgust".to_owned()),
        (whole.replace("id,", "image,"), "soft.csv: line 1: no column id; expected id,angry".to_owned()),
        (whole.replace("fear,happy", "fear,fear,happy"), "soft.csv: line 1: two columns are named fear".to_owned()),
        (String::new(), "soft.csv: is empty; expected a CSV with the columns id,angry".to_owned()),
        (format!("{whole}\"8,1\n{}", "1,1\n".repeat(300_000)), "soft.csv: line 602 is over 1048576 bytes".to_owned()),
    ]);
    let args = ["train", "tiny.toml", "--out", "none", "--set", "data.soft_labels=soft.csv"];
    for (text, wanted) in table {
        fs_err::write(folder.join("soft.csv"), text).unwrap();
        bad(folder, &args, 2, &[&wanted]);
    }
    fs_err::write(folder.join("soft.csv"), whole).unwrap();
    let set = |set: &str, parts: &[&str]| drop(bad(folder, &[&args[..], &["--set", set]].concat(), 2, parts));
    set("train.soft_label_weight=1.5", &["train.soft_label_weight = 1.5", "0 to 1"]);
    set("train.soft_label_weight=nan", &["train.soft_label_weight = NaN", "0 to 1"]);
    set("data.soft_labels=data", &["data: is a folder; expected a CSV of soft labels"]);
    set("data.soft_labels=3", &["data.soft_labels: invalid type: integer `3`"]);
    let without = ["train", "tiny.toml", "--out", "none", "--set", "train.soft_label_weight=0.5"];
    bad(folder, &without, 2, &["train.soft_label_weight = 0.5", "data.soft_labels beside it"]);
    assert!(!folder.join("none").exists());
}
