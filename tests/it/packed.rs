//! Packed files wherever a CSV or a folder is accepted, and conversions between them.

use std::path::Path;

use fs_err as fs;

use crate::common::{bad, bench, good, json, tensors, text, timeless_metrics};

const TRAIN: &str = "data/my_emotion_train.csv";

/// Asserts that two runs have the same metrics, split, weights and hash of the data.
fn assert_same_run(folder: &Path, one: &str, other: &str) {
    let (one, other) = (folder.join(one), folder.join(other));
    assert_eq!(timeless_metrics(&one), timeless_metrics(&other));
    assert_eq!(text(one.join("split.csv")), text(other.join("split.csv")));
    assert!(tensors(&one.join("best.safetensors")) == tensors(&other.join("best.safetensors")), "the weights differ");
    let hash = |run: &Path| json(run.join("summary.json"))["data_hash"].clone();
    assert_eq!(hash(&one), hash(&other));
}

#[test]
fn every_command_accepts_a_packed_file() {
    let bench = bench();
    let folder = bench.path();
    let done = good(folder, &["data", "pack", TRAIN, "train.faces"]);
    assert!(done.stdout.contains("600 images written to train.faces"), "{}", done.all());
    bad(folder, &["data", "pack", TRAIN, "train.faces"], 2, &["train.faces: exists", "--force"]);
    good(folder, &["train", "tiny.toml", "--out", "csv"]);
    good(folder, &["train", "tiny.toml", "--out", "packed", "--set", "data.train=train.faces"]);
    assert_same_run(folder, "csv", "packed");
    let resumed = ["train", "tiny.toml", "--out", "packed", "--resume", "--set", "train.epochs=4"];
    good(folder, &[&resumed[..], &["--set", "data.train=train.faces"]].concat());
    // Also from the CSV: the data are the same.
    good(folder, &["train", "tiny.toml", "--out", "packed", "--resume", "--set", "train.epochs=5"]);

    let test = "data/my_emotion_test.csv";
    good(folder, &["data", "pack", test, "test.faces"]);
    let predict = |data: &str, out: &str| {
        good(folder, &["predict", "csv", "--data", data, "--out", out, "--probabilities"]);
        text(folder.join(out))
    };
    assert_eq!(predict(test, "a.csv"), predict("test.faces", "b.csv"));
    let labels = ["--labels", "data/my_emotion_test_labels.csv", "--json"];
    let evaluate = |data: &str| good(folder, &[&["evaluate", "csv", "--data", data][..], &labels].concat()).json();
    assert_eq!(evaluate(test)["accuracy"], evaluate("test.faces")["accuracy"]);
    bad(folder, &["evaluate", "csv", "--data", "test.faces"], 2, &["test.faces: has no labels", "--labels CSV"]);
    let check = good(folder, &["data", "check", TRAIN, "train.faces", "--json"]).json();
    assert_eq!(check["duplicates_across"][0]["rows"], 600, "{check}");
    assert_eq!(check["files"][0]["classes"], check["files"][1]["classes"]);
    let more = ["--set", "data.train=train.faces", "--out", "sheet.png"];
    good(folder, &[&["data", "preview", "tiny.toml"][..], &more].concat());
    good(folder, &["explain", "csv", "--data", "train.faces", "--limit", "3", "--out", "explained.png"]);
}

#[test]
fn synthetic_images_are_packed_as_the_csv_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let synth = ["data", "synth", "--train", "30", "--test", "10", "--seed", "1", "--out"];
    good(folder, &[&synth[..], &["csv"]].concat());
    good(folder, &[&synth[..], &["packed", "--packed"]].concat());
    for name in ["my_emotion_train", "my_emotion_test"] {
        good(folder, &["data", "pack", &format!("csv/{name}.csv"), &format!("csv/{name}.faces")]);
        let file = |out: &str| fs::read(folder.join(format!("{out}/{name}.faces"))).unwrap();
        assert!(file("csv") == file("packed"), "{name}");
    }
    assert_eq!(
        text(folder.join("csv/my_emotion_test_labels.csv")),
        text(folder.join("packed/my_emotion_test_labels.csv"))
    );
}

#[test]
fn data_are_converted_between_all_formats() {
    let bench = bench();
    let folder = bench.path();
    good(folder, &["data", "convert", TRAIN, "a.faces"]);
    good(folder, &["data", "convert", "a.faces", "folder"]);
    good(folder, &["data", "convert", "folder", "b.faces"]);
    good(folder, &["data", "convert", "b.faces", "c.csv"]);
    good(folder, &["data", "pack", "b.faces", "d.faces", "--json"]);
    let images = |file: &str| {
        let lines = text(folder.join(file));
        // The paths in the folder became ids.
        lines.lines().skip(1).map(|line| line.split(',').take(2).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!(images(TRAIN), images("c.csv"));
    assert!(fs::read(folder.join("b.faces")).unwrap() == fs::read(folder.join("d.faces")).unwrap());
    bad(folder, &["data", "convert", TRAIN, "a.faces"], 2, &["a.faces: exists"]);
    good(folder, &["data", "convert", TRAIN, "a.faces", "--force"]);
    bad(folder, &["data", "convert", "a.faces", "a.faces", "--force"], 2, &["a.faces"]);
    bad(folder, &["data", "pack", TRAIN, "-"], 2, &["not written to standard output"]);
    // A bad row ends packing, and nothing is left behind.
    fs::write(folder.join("bad.csv"), format!("{}9,1 2\n", text(folder.join(TRAIN)))).unwrap();
    bad(folder, &["data", "pack", "bad.csv", "bad.faces"], 2, &["bad.csv: line 602, column emotion"]);
    let names = || fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names().all(|name| !name.contains("bad.faces")), "{:?}", names().collect::<Vec<_>>());
    let done = good(folder, &["data", "pack", "bad.csv", "bad.faces", "--on-bad-row", "skip", "--json"]);
    assert_eq!((&done.json()["images"], &done.json()["skipped"]), (&600.into(), &1.into()));
    let done = bad(folder, &["data", "pack", "none.csv", "x.faces"], 2, &["none.csv: no such file"]);
    assert!(!folder.join("x.faces").exists(), "{}", done.all());
}

#[test]
fn usages_groups_classes_and_soft_labels_are_packed() {
    let bench = bench();
    let folder = bench.path();
    let rows = text(folder.join(TRAIN));
    let usage = |row: usize| if row.is_multiple_of(5) { "PublicTest" } else { "Training" };
    let rows: Vec<&str> = rows.lines().skip(1).collect();
    let lines = rows.iter().enumerate().map(|(row, line)| format!("{line},{},{}\n", usage(row), row % 3));
    fs::write(folder.join("all.csv"), format!("emotion,pixels,Usage,age\n{}", lines.collect::<String>())).unwrap();
    let votes = |row: usize| (0..7).map(|class| (row * class % 4).to_string()).collect::<Vec<_>>().join(",");
    let votes: String = (0..rows.len()).map(|row| format!("{row},{}\n", votes(row))).collect();
    let header = "id,angry,disgust,fear,happy,sad,surprise,neutral\n";
    fs::write(folder.join("votes.csv"), format!("{header}{votes}")).unwrap();
    let pack = ["data", "pack", "all.csv", "all.faces", "--group", "age", "--soft-labels", "votes.csv"];
    let done = good(folder, &pack);
    assert!(done.stderr.contains("votes.csv: no vote for a class for 150 images"), "{}", done.all());
    let train = |out: &str, data: &str, votes: &str| {
        let sets = [
            format!("data.train={data}"),
            format!("data.soft_labels={votes}"),
            "data.validation=PublicTest".to_owned(),
            "data.group=age".to_owned(),
        ];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        good(folder, &[&["train", "tiny.toml", "--out", out][..], &sets].concat());
        text(folder.join(out).join("validation.csv"))
    };
    assert_eq!(train("csv", "all.csv", "votes.csv"), train("packed", "all.faces", "all.faces"));
    assert_same_run(folder, "csv", "packed");
    // Packed again, it keeps what it has.
    good(folder, &["data", "pack", "all.faces", "again.faces"]);
    assert!(fs::read(folder.join("all.faces")).unwrap() == fs::read(folder.join("again.faces")).unwrap());
    let sets = ["--set", "data.train=all.faces", "--set", "data.group=sex"];
    bad(
        folder,
        &[&["train", "tiny.toml", "--out", "x"][..], &sets].concat(),
        2,
        &["all.faces: has the groups \"age\""],
    );
    good(folder, &["data", "pack", "all.csv", "public.faces", "--usage", "publictest"]);
    let check = good(folder, &["data", "check", "public.faces", "--json"]).json();
    assert_eq!((&check["files"][0]["rows"], check["files"][0]["usages"].as_object().unwrap().len()), (&120.into(), 0));
    let sets = ["--set", "data.soft_labels=public.faces"];
    let parts = ["public.faces: has no soft labels; pack it again with --soft-labels CSV"];
    bad(folder, &[&["train", "tiny.toml", "--out", "x"][..], &sets].concat(), 2, &parts);
    bad(folder, &["data", "pack", "all.csv", "x.faces", "--usage", "Dev"], 2, &["no row has Usage \"Dev\""]);

    // Other classes are those of the file.
    let map = "0=bad,1=bad,2=bad,3=good,4=bad,5=good,6=skip";
    good(folder, &["data", "pack", TRAIN, "two.faces", "--label-map", map]);
    good(folder, &["train", "tiny.toml", "--out", "two", "--set", "data.train=two.faces"]);
    assert!(text(folder.join("two/config.toml")).contains("classes = [\"bad\", \"good\"]"));
    let check = good(folder, &["data", "check", "two.faces", "--json"]).json();
    assert_eq!(check["files"][0]["classes"][1]["class"], "good");
    bad(folder, &["evaluate", "csv", "--data", "two.faces"], 2, &["two.faces: row 0: unknown label", "--label-map"]);
}

#[test]
fn damaged_and_foreign_files_are_errors() {
    let bench = bench();
    let folder = bench.path();
    good(folder, &["data", "pack", TRAIN, "good.faces"]);
    let bytes = fs::read(folder.join("good.faces")).unwrap();
    let check = |bytes: &[u8], parts: &[&str]| {
        fs::write(folder.join("x.faces"), bytes).unwrap();
        bad(folder, &["data", "check", "x.faces"], 2, parts);
        // An image is read when training has begun.
        let _ = fs::remove_dir_all(folder.join("x"));
        bad(folder, &["train", "tiny.toml", "--set", "data.train=x.faces", "--out", "x"], 2, parts);
    };
    let changed = |at: usize| [&bytes[..at], &[bytes[at] ^ 1], &bytes[at + 1..]].concat();
    check(&bytes[..bytes.len() / 2], &["x.faces: is truncated: it has", "restore it from a copy, or pack it again"]);
    check(&changed(bytes.len() - 3), &["x.faces: is corrupt: its index does not match its checksum; restore"]);
    check(&changed(4096 + 600 * 2304 + 5), &["x.faces: is corrupt: the section Hashes does not match its checksum"]);
    let pixel = changed(4096 + 7 * 2304 + 100);
    check(&pixel, &["x.faces: image 7 does not match its hash: the file is corrupt; restore it"]);
    check(&[&bytes[..8], &[9, 0, 0, 0], &bytes[12..]].concat(), &["has format version 9", "update this one"]);
    check(b"emotion,pixels\n0,1 2 3\n", &["x.faces: is not a packed file of images; expected one written by"]);
    // Under another name, it is recognized by its content.
    fs::write(folder.join("odd.csv"), &bytes).unwrap();
    good(folder, &["data", "check", "odd.csv"]);
}
