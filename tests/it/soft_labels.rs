//! `data.soft_labels`: from `grimace predict --probabilities`, from votes, and invalid files.

use std::path::Path;

use serde_json::Value;

use crate::common::{bad, bench, good, tensors, text, timeless_metrics, workshop};

const TRAIN: &str = "data/my_emotion_train.csv";
const HEADER: &str = "id,angry,disgust,fear,happy,sad,surprise,neutral";

fn train(folder: &Path, out: &str, sets: &[&str], more: &[&str]) {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    good(folder, &[&["train", "tiny.toml", "--out", out], &sets[..], more].concat());
}

/// Writes the probabilities of the workshop's run for the training rows to `soft.csv`.
fn write_soft_labels(folder: &Path) {
    let run = workshop().join("run");
    good(folder, &["predict", run.to_str().unwrap(), "--data", TRAIN, "--out", "soft.csv", "--probabilities"]);
}

fn first_record(run: &Path) -> Value {
    timeless_metrics(run)[0].clone()
}

#[test]
fn soft_label_weight_interpolates_between_labels_and_probabilities() {
    let bench = bench();
    let folder = bench.path();
    write_soft_labels(folder);
    let sets = ["data.soft_labels=soft.csv", "train.epochs=1"];
    train(folder, "soft", &sets, &[]);
    train(folder, "hard", &sets, &["--set", "train.soft_label_weight=0"]);
    train(folder, "half", &sets, &["--set", "train.soft_label_weight=0.5"]);
    let loss = |run: &Path| first_record(run)["loss"].as_f64().unwrap();
    let plain = loss(&workshop().join("run"));
    let [soft, hard, half] = ["soft", "hard", "half"].map(|out| loss(&folder.join(out)));
    assert!((hard - plain).abs() < 1e-3, "weight 0 equals training on labels: {hard} and {plain}");
    assert!((soft - plain).abs() > 1e-2, "{soft} and {plain}");
    assert!((half - plain).abs() > 1e-3 && (half - soft).abs() > 1e-3, "{half}, {soft} and {plain}");
}

#[test]
fn loss_uses_votes_and_metrics_use_labels() {
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
    assert_eq!(number("val_accuracy"), angry as f64 / 120.0, "every image is predicted as angry");
    assert!(angry < 40 && number("accuracy") < 0.5, "accuracy is of the labels: {last}");
    assert!(number("loss") < number("val_loss"), "loss is of the votes, val_loss of the labels: {last}");
}

#[test]
fn resume_requires_the_same_soft_labels() {
    let bench = bench();
    let folder = bench.path();
    write_soft_labels(folder);
    let soft = "data.soft_labels=soft.csv";
    train(folder, "uninterrupted", &[soft, "train.epochs=2"], &[]);
    train(folder, "resumed", &[soft, "train.epochs=1"], &[]);
    let resume = ["train", "tiny.toml", "--out", "resumed", "--resume", "--set", "train.epochs=2"];
    let refuse = |set: &[&str], parts: &[&str]| {
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
        bad(folder, &[&resume[..], &set].concat(), 2, parts);
    };
    let lines = text(folder.join("soft.csv"));
    let row = lines.lines().nth(1).unwrap();
    fs_err::write(folder.join("other.csv"), lines.replacen(row, "0,0,1,1,1,1,1,1,1", 1)).unwrap();
    refuse(
        &["data.soft_labels=other.csv"],
        &["cannot resume: the soft labels in other.csv differ from those it was trained"],
    );
    refuse(&[], &["cannot resume: it was trained on soft labels, and data.soft_labels is not set"]);
    refuse(&[soft, "train.soft_label_weight=0.5"], &["cannot resume: train.soft_label_weight was 1.0, now it is 0.5"]);
    // The file name does not matter.
    fs_err::rename(folder.join("soft.csv"), folder.join("moved.csv")).unwrap();
    refuse(&[soft], &["soft.csv: no such file; expected a CSV of soft labels"]);
    good(folder, &[&resume[..], &["--set", "data.soft_labels=moved.csv"]].concat());
    let result = |out: &str| (timeless_metrics(&folder.join(out)), tensors(&folder.join(out).join("last.safetensors")));
    assert_eq!(result("uninterrupted"), result("resumed"));

    train(folder, "hard", &["train.epochs=1"], &[]);
    let resume = ["train", "tiny.toml", "--out", "hard", "--resume", "--set", "data.soft_labels=moved.csv"];
    bad(folder, &resume, 2, &["cannot resume: the soft labels in moved.csv differ from those it was trained on"]);
}

/// Rows of other usages and skipped rows do not shift the row indices that `predict` writes.
#[test]
fn row_indices_are_those_of_predict() {
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
    let missing_row = soft.replacen("\n151,", "\n0,", 1);
    fs_err::write(folder.join("soft.csv"), missing_row).unwrap();
    let sets: Vec<&str> = skip.iter().chain([&"data.soft_labels=soft.csv"]).flat_map(|set| ["--set", set]).collect();
    let args = [&["train", "tiny.toml", "--out", "none"], &sets[..]].concat();
    bad(folder, &args, 2, &["soft.csv: no row for id \"151\", a training image of fer2013.csv", "grimace predict RUN"]);
}

#[test]
fn rows_without_a_vote_are_left_out() {
    let bench = bench();
    let folder = bench.path();
    let votes = |row: usize| if row == 7 { "0,0,0,0,0,0,0" } else { "1,0,0,0,0,0,1" };
    let rows: String = (0..600).map(|row| format!("{row},{}\n", votes(row))).collect();
    fs_err::write(folder.join("soft.csv"), format!("{HEADER}\n{rows}")).unwrap();
    let sets = ["data.soft_labels=soft.csv", "train.epochs=1"];
    train(folder, "run", &sets, &[]);
    let log = text(folder.join("run/log.txt"));
    assert!(log.contains("soft.csv: leaves out 1 training row without a vote for a class"), "{log}");
    assert!(log.contains("479 training and 120 validation images"), "{log}");
    let split = text(folder.join("run/split.csv"));
    assert!(!split.contains("\n7,") && split.lines().count() == 600, "a header and 599 rows");
}

/// As in FER+'s fer2013new.csv.
#[test]
fn a_file_without_ids_is_read_by_position() {
    let bench = bench();
    let folder = bench.path();
    write_soft_labels(folder);
    let with_ids = text(folder.join("soft.csv"));
    let without_id = |line: &str| line.split_once(',').map(|(_, rest)| format!("{rest}\n")).unwrap();
    fs_err::write(folder.join("plain.csv"), with_ids.lines().map(without_id).collect::<String>()).unwrap();
    for (file, out) in [("soft.csv", "ids"), ("plain.csv", "plain")] {
        train(folder, out, &[&format!("data.soft_labels={file}"), "train.epochs=1"], &[]);
    }
    assert_eq!(first_record(&folder.join("ids")), first_record(&folder.join("plain")));
}

#[test]
fn invalid_soft_labels_are_rejected() {
    let bench = bench();
    let folder = bench.path();
    let rows = |line_9: &str| {
        let row = |row: usize| if row == 7 { format!("{line_9}\n") } else { format!("{row},1,0,0,0,0,0,1\n") };
        format!("{HEADER}\n{}", (0..600).map(row).collect::<String>())
    };
    let valid = rows("7,1,0,0,0,0,0,1");
    let split = text(workshop().join("run/split.csv"));
    assert!(split.contains("\n4,train,") && split.contains("\n7,train,"), "the rows changed below are training rows");
    let number = "expected a vote or a probability, 0 to 1e9";
    let cell =
        |text: &str| (rows(&format!("7,1,0,0,{text},0,0,1")), format!("soft.csv: line 9, column happy: {text:?}"));
    let mut table: Vec<(String, String)> = ["nan", "inf", "-1", "", "many", "1e10"].map(cell).to_vec();
    table.extend([
        (rows("7,1,0,0,-1,0,0,1"), number.to_owned()),
        (rows("4,1,0,0,0,0,0,1"), "soft.csv: line 9, column id: duplicate id \"4\"".to_owned()),
        (rows("600,1,0,0,0,0,0,1"), "soft.csv: no row for id \"7\", a training image of data/my_emot".to_owned()),
        (rows("7,1,0,0,0,0,0"), "soft.csv: line 9: 7 fields; the header has 8".to_owned()),
        (valid.replace("fear", "x1"), "soft.csv: line 1: no column fear; found \"id\", \"angry\"".to_owned()),
        (valid.replace("fear", "x1"), format!("; expected {HEADER}; rename its column, or set data.labels = ")),
        (
            valid.replace("id,", "image,") + "600,1,0,0,0,0,0,1\n",
            "soft.csv: 601 rows without a column id, but data/my_emotion_train.csv has 600".to_owned(),
        ),
        (valid.replace("fear,happy", "fear,fear,happy"), "soft.csv: line 1: duplicate column fear".to_owned()),
        (String::new(), "soft.csv: is empty; expected a CSV with the columns id,angry".to_owned()),
        (
            format!("{valid}\"8,1\n{}", "1,1\n".repeat(300_000)),
            "soft.csv: line 602 is longer than 1048576 bytes".to_owned(),
        ),
    ]);
    let args = ["train", "tiny.toml", "--out", "none", "--set", "data.soft_labels=soft.csv"];
    for (text, expected) in table {
        fs_err::write(folder.join("soft.csv"), text).unwrap();
        bad(folder, &args, 2, &[&expected]);
    }
    fs_err::write(folder.join("soft.csv"), valid).unwrap();
    let set = |set: &str, parts: &[&str]| drop(bad(folder, &[&args[..], &["--set", set]].concat(), 2, parts));
    set("train.soft_label_weight=1.5", &["train.soft_label_weight = 1.5", "0 to 1"]);
    set("train.soft_label_weight=nan", &["train.soft_label_weight = NaN", "0 to 1"]);
    set("data.soft_labels=data", &["data: is a folder; expected a CSV of soft labels"]);
    set("data.soft_labels=3", &["data.soft_labels = 3 is not allowed"]);
    let without = ["train", "tiny.toml", "--out", "none", "--set", "train.soft_label_weight=0.5"];
    bad(folder, &without, 2, &["train.soft_label_weight = 0.5", "1 without data.soft_labels"]);
    assert!(!folder.join("none").exists());
}
