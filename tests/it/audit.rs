//! `grimace train --folds`, `data.exclude` and `grimace data audit`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::common::{bad, bench, good, json, text};

const TRAIN: &str = "data/my_emotion_train.csv";

/// The rows of a CSV by column name.
fn rows(path: &Path) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

/// Writes the first `count` training rows with changes to their cells (label, pixels).
fn changed(out: &Path, count: usize, change: impl Fn(usize, &str, &str, &[(String, String)]) -> (String, String)) {
    let source = text(crate::common::workshop().join(TRAIN));
    let cells: Vec<(String, String)> = source
        .lines()
        .skip(1)
        .take(count)
        .map(|line| line.split_once(',').unwrap())
        .map(|(label, pixels)| (label.to_owned(), pixels.to_owned()))
        .collect();
    let mut csv = String::from("emotion,pixels\n");
    for (row, (label, pixels)) in cells.iter().enumerate() {
        let (label, pixels) = change(row, label, pixels, &cells);
        csv += &format!("{label},{pixels}\n");
    }
    fs_err::write(out, csv).unwrap();
}

#[test]
fn folds_predict_every_image_and_labels_are_checked() {
    let folder = bench();
    let path = folder.path();
    changed(&path.join("few.csv"), 210, |_, label, pixels, _| (label.to_owned(), pixels.to_owned()));
    let args = ["train", "tiny.toml", "--set", "data.train=few.csv", "--set", "train.epochs=2", "--folds", "3"];
    let args = [&args[..], &["--out", "folds"]].concat();
    let summary = good(path, &[&args[..], &["--json"]].concat()).json();
    assert_eq!((&summary["folds"], &summary["rows"]), (&3.into(), &210.into()));
    assert_eq!(json(path.join("folds/summary.json"))["accuracy"], summary["accuracy"]);
    let predicted = rows(&path.join("folds/out_of_fold.csv"));
    let ids: Vec<usize> = predicted.iter().map(|row| row["id"].parse().unwrap()).collect();
    assert_eq!(ids, (0..210).collect::<Vec<_>>());
    let sums =
        predicted.iter().map(|row| ["angry", "happy", "neutral"].map(|class| row[class].parse::<f64>().unwrap()));
    assert!(sums.into_iter().all(|row| row.iter().sum::<f64>() <= 1.001));
    // A fold is an ordinary run; the whole is none.
    good(path, &["evaluate", "folds/fold2", "--data", "few.csv"]);
    bad(path, &["evaluate", "folds", "--data", "few.csv"], 2, &["is a cross-validation", "folds/fold1"]);
    assert!(good(path, &["runs", "folds"]).stdout.contains("fold3"));

    let audited = ["data", "audit", "few.csv", "--folds", "folds", "--out", "audit"];
    let report = good(path, &[&audited[..], &["--json"]].concat()).json()["audit"].clone();
    assert_eq!((&report["labels"]["checked"], &report["labels"]["unknown"]), (&210.into(), &0.into()), "{report}");
    // How good the list is, scripts/audit_precision.py measures on real images.
    let review = rows(&path.join("audit/review.csv"));
    let listed: Vec<_> = review.iter().filter(|row| row["reason"].contains("label error")).collect();
    assert_eq!(listed.len() as u64, report["labels"]["errors"].as_u64().unwrap());
    assert!(
        !listed.is_empty() && listed.iter().all(|row| row["label"] != row["suggested"] && row["exclude"].is_empty())
    );
    let scores: Vec<f64> = listed.iter().map(|row| row["score"].parse().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let proposing = [&audited[..], &["--force", "--propose-labels"]].concat();
    good(path, &proposing);
    let review = rows(&path.join("audit/review.csv"));
    assert_eq!(review.iter().filter(|row| row["exclude"] == "1").count(), listed.len());
    let page = text(path.join("audit/report.html"));
    assert!(page.contains("Probable label errors") && page.contains("data:image/png"), "{}", page.len());
    bad(path, &audited, 2, &["report.html: exists", "--force"]);
    // Of data that the folds know nothing of; of a run that was trained on all labels.
    let other = ["data", "audit", "data/my_emotion_test.csv", "--folds", "folds", "--out", "other"];
    bad(path, &other, 2, &["has no prediction for any of these images"]);
    let run = crate::common::workshop().join("run");
    // The report of a run is never overwritten.
    let own = ["data", "audit", TRAIN, "--run", "folds/fold1", "--out", "folds/fold1", "--force"];
    let before = text(path.join("folds/fold1/report.html"));
    bad(path, &own, 2, &["folds/fold1/report.html"]);
    assert_eq!(text(path.join("folds/fold1/report.html")), before);
    let by_run = ["data", "audit", TRAIN, "--run", run.to_str().unwrap(), "--out", "by-run"];
    let done = good(path, &by_run);
    assert!(done.stderr.contains("was trained on 480 of the labeled images"), "{}", done.all());
    assert!(done.stdout.contains("labels checked") && done.stdout.contains("120"), "{}", done.all());
}

#[test]
fn folds_predict_rows_that_are_not_trained_on_for_want_of_a_vote() {
    let folder = bench();
    let path = folder.path();
    let source = text(crate::common::workshop().join(TRAIN));
    let rows_with_ids = source.lines().skip(1).take(120).enumerate().map(|(row, line)| format!("face{row},{line}\n"));
    fs_err::write(path.join("few.csv"), format!("id,emotion,pixels\n{}", rows_with_ids.collect::<String>())).unwrap();
    let vote = |row: usize| {
        if row % 40 == 7 { "0,0,0,0,0,0,0" } else { ["1,0,0,1,0,0,0", "0,1,1,0,1,0,0", "1,0,0,0,0,3,1"][row % 3] }
    };
    let votes: String = (0..120).map(|row| format!("face{row},{}\n", vote(row))).collect();
    fs_err::write(path.join("votes.csv"), format!("id,angry,disgust,fear,happy,sad,surprise,neutral\n{votes}"))
        .unwrap();
    let sets = ["--set", "data.train=few.csv", "--set", "data.soft_labels=votes.csv", "--set", "train.epochs=1"];
    let args = [&["train", "tiny.toml", "--folds", "3", "--out", "folds"], &sets[..]].concat();
    good(path, &args);
    let ids: Vec<String> = rows(&path.join("folds/out_of_fold.csv")).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, (0..120).map(|row| format!("face{row}")).collect::<Vec<_>>());

    // Folds replace validation images of the config's own, and say so.
    let own = [&args[..5], &["own", "--set", "data.validation=data/my_emotion_train.csv"], &sets[..]].concat();
    let note = "each fold is validated on a part of the training rows; data.validation (data/my_emotion_train.csv)";
    assert!(good(path, &own).stderr.contains(note));
}

#[test]
fn an_interrupted_cross_validation_goes_on() {
    let folder = bench();
    let path = folder.path();
    changed(&path.join("few.csv"), 120, |_, label, pixels, _| (label.to_owned(), pixels.to_owned()));
    let args =
        ["train", "tiny.toml", "--set", "data.train=few.csv", "--set", "train.epochs=1", "--folds", "3", "--out"];
    good(path, &[&args[..], &["whole"]].concat());
    good(path, &[&args[..], &["parts"]].concat());
    // As after a kill in the second fold, before its first checkpoint.
    for gone in ["parts/fold2", "parts/fold3"] {
        fs_err::remove_dir_all(path.join(gone)).unwrap();
    }
    for gone in ["parts/out_of_fold.csv", "parts/summary.json"] {
        fs_err::remove_file(path.join(gone)).unwrap();
    }
    bad(path, &["data", "audit", "few.csv", "--folds", "parts", "--out", "a"], 2, &["has 1 of 3 folds", "--resume"]);
    bad(path, &[&args[..], &["parts"]].concat(), 2, &["--resume"]);
    let done = good(path, &[&args[..], &["parts", "--resume"]].concat());
    assert!(done.stderr.contains("1 of 3: fold1: already finished"), "{}", done.all());
    assert!(done.stdout.contains("mean accuracy") && done.stdout.contains("parts/out_of_fold.csv"), "{}", done.all());
    assert_eq!(text(path.join("parts/out_of_fold.csv")), text(path.join("whole/out_of_fold.csv")));
    let other = [&args[..4], &["--folds", "4", "--out", "parts", "--resume"]].concat();
    bad(path, &other, 2, &["a cross-validation with 3 folds", "resumed as a cross-validation with 4"]);
    bad(path, &["train", "tiny.toml", "--folds", "1"], 2, &["--folds"]);
    bad(path, &["train", "tiny.toml", "--folds", "3", "--profile"], 2, &["--profile"]);
}

#[test]
fn duplicates_are_found_and_left_out_of_a_training() {
    let folder = bench();
    let path = folder.path();
    // Row 5 is a copy of row 2, row 9 a darker copy of row 3, row 11 is black.
    changed(&path.join("train.csv"), 120, |row, label, pixels, all| match row {
        5 => all[2].clone(),
        9 => {
            let darker = all[3].1.split(' ').map(|pixel| (pixel.parse::<u32>().unwrap() * 9 / 10).to_string());
            (all[3].0.clone(), darker.collect::<Vec<_>>().join(" "))
        }
        11 => (label.to_owned(), vec!["0"; 48 * 48].join(" ")),
        _ => (label.to_owned(), pixels.to_owned()),
    });
    // Row 1 of the test images is row 20 of the training images.
    changed(&path.join("test.csv"), 140, |row, label, pixels, all| match row {
        1 => all[20].clone(),
        0 => (label.to_owned(), pixels.to_owned()),
        _ => all[120 + row % 20].clone(),
    });
    let source = text(path.join("test.csv"));
    let lines: Vec<&str> = source.lines().collect();
    fs_err::write(path.join("test.csv"), [lines[0], lines[125], lines[2]].join("\n")).unwrap();
    let report = good(path, &["data", "audit", "train.csv", "test.csv", "--out", "audit", "--json"]).json();
    let report = &report["audit"];
    assert_eq!((&report["blank"], &report["exact_duplicates"]), (&1.into(), &2.into()), "{report}");
    assert_eq!(report["near_duplicates"], 1, "{report}");
    let across = &report["across_splits"][0];
    assert_eq!((&across["from"], &across["exact"], &across["near"]), (&"train.csv".into(), &1.into(), &0.into()));
    let proposed = |rows: &[HashMap<String, String>]| -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = rows
            .iter()
            .filter(|row| row["exclude"] == "1")
            .map(|row| (row["file"].clone(), row["row"].clone()))
            .collect();
        found.sort();
        found
    };
    let review = rows(&path.join("audit/review.csv"));
    let expected = [("train.csv", "11"), ("train.csv", "20"), ("train.csv", "5")];
    assert_eq!(proposed(&review), expected.map(|(file, row)| (file.to_owned(), row.to_owned())));
    assert_eq!(report["proposed"], 3);
    assert!(
        review.iter().any(|row| row["row"] == "9" && row["reason"] == "near duplicate" && row["exclude"].is_empty())
    );

    // The CSV leaves the rows out of a training, and the run cannot be resumed without.
    let args = ["train", "tiny.toml", "--set", "train.epochs=1", "--out", "run", "--set"];
    let data = ["data.train=train.csv", "--set", "data.exclude=audit/review.csv"];
    let done = good(path, &[&args[..], &data[..]].concat());
    assert!(done.stderr.contains("audit/review.csv: leaves out 3 rows of train.csv"), "{}", done.all());
    let split = text(path.join("run/split.csv"));
    assert_eq!(split.lines().count(), 1 + 117);
    assert!(["5,", "11,", "20,"].iter().all(|row| !split.lines().any(|line| line.starts_with(row))), "{split}");
    let resumed = [&args[..], &["data.train=train.csv", "--resume", "--set", "train.epochs=2"]].concat();
    bad(path, &resumed, 2, &["the images or labels in train.csv differ"]);
    fs_err::copy(path.join("audit/review.csv"), path.join("moved.csv")).unwrap();
    good(path, &[&args[..], &data[..2], &["data.exclude=moved.csv", "--resume", "--set", "train.epochs=2"]].concat());

    // From a packed file and a folder, whose images have ids; pixels may be streamed.
    good(path, &["data", "pack", "train.csv", "train.faces"]);
    good(path, &["data", "convert", "train.csv", "pictures"]);
    fs_err::write(path.join("rows.csv"), "row\n5\n20\n").unwrap();
    for data in ["train.faces", "pictures"] {
        let train = format!("data.train={data}");
        let out = format!("run-{data}");
        let args = ["train", "tiny.toml", "--set", "train.epochs=1", "--set", &train, "--set", "data.exclude=rows.csv"];
        let more = ["--set", "data.resident=host", "--out", &out];
        let done = good(path, &[&args[..], &more[..]].concat());
        assert!(done.stderr.contains(&format!("leaves out 2 rows of {data}")), "{}", done.all());
    }
    fs_err::write(path.join("bad.csv"), "row,exclude\n1,1\n120,1\n").unwrap();
    let args = ["train", "tiny.toml", "--set", "data.train=train.csv", "--set", "data.exclude=bad.csv"];
    bad(path, &args, 2, &["bad.csv: line 3, column row: \"120\"; train.csv has the rows 0 to 119"]);
    let missing = ["train", "tiny.toml", "--set", "data.exclude=none.csv"];
    bad(path, &missing, 2, &["none.csv"]);
    fs_err::write(path.join("other.csv"), "file,row\nolder.csv,1\n").unwrap();
    let args = ["train", "tiny.toml", "--set", "data.train=train.csv", "--set", "data.exclude=other.csv"];
    bad(path, &args, 2, &["other.csv: has no row of train.csv: its column file has older.csv"]);
}

/// An image without a face as cells of pixels: stripes of a width, or a gradient.
fn no_face(kind: usize) -> String {
    let pixel = |i: usize| match kind {
        0 => 5 * (i % 48),
        1 => 255 * (i / 48 / 4 % 2),
        _ => 255 * ((i % 48 / 6 + i / 48 / 6) % 2),
    };
    (0..48 * 48).map(|i| pixel(i).to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn images_without_a_face_are_found() {
    let folder = bench();
    let path = folder.path();
    let faces = crate::common::real_images("images_without_a_face_are_found");
    let real = faces.map(|faces| text(faces.join("my_emotion_train.csv"))).unwrap_or_default();
    let mut csv = String::from("emotion,pixels\n");
    csv.extend(real.lines().skip(1).take(100).map(|line| format!("{line}\n")));
    let first = csv.lines().count() - 1;
    csv.extend((0..3).map(|kind| format!("0,{}\n", no_face(kind))));
    csv += &format!("0,{}\n", vec!["7"; 48 * 48].join(" "));
    fs_err::write(path.join("mixed.csv"), csv).unwrap();
    let audit = ["data", "audit", "mixed.csv", "--faces", "--out", "audit"];
    let report = good(path, &[&audit[..], &["--json"]].concat()).json()["audit"].clone();
    let review = rows(&path.join("audit/review.csv"));
    let found: Vec<usize> =
        review.iter().filter(|row| row["reason"].contains("no face")).map(|row| row["row"].parse().unwrap()).collect();
    assert_eq!(report["without_face"], found.len(), "{report}");
    assert!((first..first + 3).all(|row| found.contains(&row)), "{found:?}");
    // The one of a single gray value is blank, which says enough.
    assert!(!found.contains(&(first + 3)) && report["blank"] == 1, "{report}");
    assert!(found.len() <= 3 + first / 20, "{found:?}");
    assert!(review.iter().all(|row| !row["reason"].contains("no face") || row["exclude"].is_empty()));
    assert!(text(path.join("audit/report.html")).contains("Images without a face"));
    // Without the option nothing is said of faces.
    let without = good(path, &["data", "audit", "mixed.csv", "--out", "other"]);
    assert!(!without.stdout.contains("without a face"), "{}", without.all());
}

#[test]
fn options_of_an_audit_are_checked() {
    let folder = bench();
    let path = folder.path();
    let audit = ["data", "audit", TRAIN, "--out", "audit"];
    let more = |more: &[&'static str]| [&audit[..], more].concat();
    bad(path, &more(&["--min-correlation", "1.5"]), 2, &["from 0.5, below 1"]);
    for value in ["--min-contrast=nan", "--min-contrast=-1", "--min-contrast=129"] {
        bad(path, &more(&[value]), 2, &["expected a number from 0 to 128"]);
    }
    bad(path, &["data", "audit", "none.csv", "--out", "audit"], 2, &["none.csv"]);
    bad(path, &more(&["--folds", "none"]), 2, &["none: holds no folds", "--folds 5"]);
    assert!(!path.join("audit").exists(), "a mistake leaves no empty folder");
    bad(path, &more(&["--folds", "a", "--run", "b"]), 2, &["cannot be used with"]);
    let run = crate::common::workshop().join("run");
    let classes = ["--run", run.to_str().unwrap(), "--classes", "a,b"];
    bad(path, &[&audit[..], &classes[..]].concat(), 2, &["--classes: the classes are those of"]);
    fs_err::write(path.join("file"), "").unwrap();
    bad(path, &["data", "audit", TRAIN, "--out", "file"], 1, &["is not a folder"]);
    let found: Value = good(path, &more(&["--json"])).json();
    assert_eq!(found["audit"]["labels"], Value::Null);
}
