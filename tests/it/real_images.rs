//! Tests on real images, if `GRIMACE_FACES` names a folder with FER2013 as the notebook's CSV
//! files.

use crate::common::{TINY, good, json, real_images, tensors, timeless_metrics};

#[test]
fn fer2013_is_read_completely_and_its_duplicates_are_found() {
    let Some(images) = real_images("fer2013_is_read_completely_and_its_duplicates_are_found") else { return };
    let (train, test) = (images.join("my_emotion_train.csv"), images.join("my_emotion_test.csv"));
    let folder = tempfile::tempdir().unwrap();
    let args = ["data", "check", train.to_str().unwrap(), test.to_str().unwrap(), "--json"];
    let report = good(folder.path(), &args).json();
    assert_eq!(report["files"][0]["rows"], 28_709);
    assert_eq!(report["files"][1]["rows"], 3_589);
    assert_eq!(report["duplicates_across"][0]["rows"], 280, "PublicTest images that are also in Training");
    let classes: Vec<u64> =
        report["files"][0]["classes"].as_array().unwrap().iter().map(|c| c["rows"].as_u64().unwrap()).collect();
    assert_eq!(classes, [3995, 436, 4097, 7215, 4830, 3171, 4965]);
}

/// The images of a split as PNG folders: the same run, bit for bit.
#[test]
fn folders_of_fer2013_train_and_evaluate_as_its_csv() {
    let Some(images) = real_images("folders_of_fer2013_train_and_evaluate_as_its_csv") else { return };
    let csv = images.join("fer2013.csv");
    let csv = csv.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs_err::write(folder.join("tiny.toml"), TINY).unwrap();
    good(folder, &["data", "convert", csv, "public", "--usage", "PublicTest"]);
    good(folder, &["data", "convert", csv, "public.csv", "--usage", "PublicTest"]);
    for data in ["public", "public.csv"] {
        let (train, out) = (format!("data.train={data}"), format!("run-{data}"));
        good(folder, &["train", "tiny.toml", "--out", &out, "--set", &train, "--set", "train.epochs=2"]);
    }
    assert_eq!(timeless_metrics(&folder.join("run-public")), timeless_metrics(&folder.join("run-public.csv")));
    let best = |run: &str| tensors(&folder.join(run).join("best.safetensors"));
    assert!(best("run-public") == best("run-public.csv"), "the weights differ");
    let evaluate = |data: &str| good(folder, &["evaluate", "run-public", "--data", data, "--json"]).json();
    let whole = good(folder, &["evaluate", "run-public", "--data", csv, "--usage", "PublicTest", "--json"]).json();
    assert_eq!(evaluate("public"), whole);
    assert_eq!(evaluate("public.csv"), whole);
}

#[test]
fn stratified_split_keeps_duplicates_together() {
    let Some(images) = real_images("stratified_split_keeps_duplicates_together") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("tiny.toml"), TINY).unwrap();
    let train = format!("data.train={}", images.join("my_emotion_train.csv").display());
    let small = ["--set", "train.epochs=1", "--set", "model.filters=[2]", "--set", "train.batch=512", "--set", &train];
    let run = |out: &str, sets: &[&str]| {
        good(folder.path(), &[&["train", "tiny.toml", "--out", out], &small[..], sets].concat())
    };
    let stratified = run("stratified", &[]);
    assert!(!stratified.stderr.contains("exact duplicates"), "{}", stratified.all());
    let plain = run("plain", &["--set", "data.split=random", "--set", "data.group_duplicates=false"]);
    assert!(plain.stderr.contains("validation images are exact duplicates of training images"), "{}", plain.all());
    let summary = |out: &str| json(folder.path().join(out).join("summary.json"));
    assert_eq!(summary("plain")["validation_rows"], 5742, "ceil(0.2 * 28709), as scikit-learn");
    assert_eq!(summary("stratified")["best_val_accuracy"], summary("stratified")["best_val_accuracy_dedup"]);
    assert_ne!(summary("plain")["best_val_accuracy"], summary("plain")["best_val_accuracy_dedup"]);
}
