//! `grimace export` and `grimace ensemble` to ONNX: the file, checked in Python with onnx and
//! onnxruntime.

use std::path::Path;
use std::process::Command;

use crate::common::{TINY, TORCHVISION, bad, bench, check_exported, good, grimace, json, python, text, workshop};

/// Checks of check_onnx.py.
const CHECKS: usize = 15;

/// Whether Python has onnx and onnxruntime; prints that the test is skipped if not.
fn has_onnx(test: &str) -> bool {
    let found = Command::new(python()).args(["-c", "import onnx, onnxruntime"]).output().unwrap().status.success();
    if !found {
        println!("skipped {test}: {} has no onnx and onnxruntime; install them with pip", python().display());
    }
    found
}

/// Runs check_onnx.py on `model`, the export of `runs` with `tta`.
fn check(kind: &str, model: &Path, runs: &[&Path], tta: &str) {
    let done = check_exported("check_onnx.py", &[kind], model, runs, tta);
    let checks = if kind == "int8" { CHECKS + 1 } else { CHECKS };
    assert!(done.stdout.contains(&format!("{checks} checks passed")), "{}", done.all());
}

/// Trains a network of one epoch as `name` in `folder`.
fn train(folder: &Path, name: &str, model: &str) {
    let config = TINY.split("[model]").next().unwrap().to_owned()
        + &format!("[model]\n{model}\n[train]\nepochs = 1\nbatch = 64\noptimizer = {{ kind = \"adam\", lr = 3e-3 }}\n");
    fs_err::write(folder.join(format!("{name}.toml")), config).unwrap();
    good(folder, &["train", &format!("{name}.toml"), "--out", name]);
}

#[test]
fn every_architecture_and_tta_runs_in_onnxruntime() {
    if !has_onnx("every_architecture_and_tta_runs_in_onnxruntime") {
        return;
    }
    let bench = bench();
    let folder = bench.path();
    for (name, model) in [
        (
            "cnn",
            "kind = \"cnn\"\nfilters = [16]\nconvolutions = 2\npadding = \"same\"\nactivation = \"gelu\"\ndense = [16]",
        ),
        ("vgg", "kind = \"vgg\"\nfilters = [8, 16]\nconvolutions = 1\ndense = [16]"),
        ("resnet", "kind = \"resnet\"\nstem = 16\nwidths = [16, 32]\nblocks = [1, 1]\nsqueeze = 4"),
        ("torchvision", TORCHVISION),
    ] {
        train(folder, name, model);
        good(folder, &["export", name, "--force", "--out", "model.onnx", "--tta", "none"]);
        check("float32", &folder.join("model.onnx"), &[&folder.join(name)], "none");
    }
    let run = workshop().join("run");
    for tta in ["none", "flip", "ten_crop"] {
        let done = good(workshop(), &["export", "run", "--out", folder.join("x.onnx").to_str().unwrap(), "--tta", tta]);
        assert!(done.stdout.contains("reloaded and compared on 256 images"), "{}", done.all());
        let description = json(folder.join("x.json"));
        assert_eq!((&description["format"], &description["tta"]), (&"onnx".into(), &tta.into()));
        assert_eq!(description["input"]["dtype"], serde_json::json!(["float32"]));
        check("float32", &folder.join("x.onnx"), &[&run], tta);
    }
    let args = ["ensemble", run.to_str().unwrap(), "resnet", "--tta", "flip", "--out", "both.onnx"];
    good(folder, &[&args[..], &["--no-calibration"]].concat());
    check("float32", &folder.join("both.onnx"), &[&run, &folder.join("resnet")], "flip");
}

#[test]
fn int8_prints_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small.onnx");
    let args = ["export", "run", "--int8", "--out", out.to_str().unwrap()];
    let done = good(workshop(), &args);
    for part in ["calibrated on 480 training images", "validation accuracy", "on 120 images: ", "95% CI"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.all());
    }
    let found = good(workshop(), &[&args[..], &["--json"]].concat()).json();
    let quantization = &found["quantization"];
    assert_eq!(quantization["validation_images"], 120);
    let number = |key: &str| quantization[key].as_f64().unwrap();
    assert!(number("low") <= number("difference") && number("difference") <= number("high"), "{quantization}");
    assert!(number("agreement") > 0.9, "{quantization}");
    let (int8, float32) = (found["bytes"]["int8"].as_u64().unwrap(), found["bytes"]["float32"].as_u64().unwrap());
    assert!(int8 == fs_err::metadata(&out).unwrap().len() && int8 < float32, "{int8} of {float32}");
    assert_eq!(json(folder.path().join("small.json"))["quantization"]["validation_images"], 120);
    if has_onnx("int8_prints_what_it_costs") {
        check("int8", &out, &[&workshop().join("run")], "none");
    }
}

#[test]
fn int8_needs_the_data_of_the_run() {
    let bench = bench();
    let folder = bench.path();
    fs_err::copy(workshop().join("data/my_emotion_train.csv"), folder.join("train.csv")).unwrap();
    let sets = ["--set", "data.train=train.csv", "--set", "train.epochs=1"];
    good(folder, &[&["train", "tiny.toml", "--out", "run"], &sets[..]].concat());
    fs_err::rename(folder.join("train.csv"), folder.join("moved.csv")).unwrap();
    let export = ["export", "run", "--out", "small.onnx", "--int8"];
    bad(folder, &export, 2, &["run: --int8 is calibrated", "train.csv: no such file", "--calibration-data FILE"]);
    let other = ["--calibration-data", "other.csv"];
    let first_rows: String =
        text(folder.join("moved.csv")).lines().take(300).map(|line| line.to_owned() + "\n").collect();
    fs_err::write(folder.join("other.csv"), first_rows).unwrap();
    bad(folder, &[&export[..], &other].concat(), 2, &["other.csv: is not the data that run was trained on"]);
    assert!(!folder.join("small.onnx").exists() && !folder.join("small.json").exists());
    good(folder, &[&export[..], &["--calibration-data", "moved.csv"]].concat());
    bad(folder, &["export", "run", "--out", "x.pt", "--int8"], 2, &["--int8: only an ONNX model is quantized"]);
}

#[test]
fn the_extension_chooses_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let run = workshop().join("run");
    let export = |args: &[&str]| grimace(folder.path(), &[&["export", run.to_str().unwrap(), "--out"], args].concat());
    let refused = |args: &[&str], part: &str| {
        let done = export(args);
        assert!(done.code == 2 && done.stderr.contains(part), "{part}: {}", done.all());
    };
    refused(&["face.tflite"], "face.tflite: export writes TorchScript or ONNX; expected a name ending in .pt or .onnx");
    refused(&["face.pt", "--format", "onnx"], "face.pt: .pt is not an extension of --format onnx");
    assert_eq!(export(&["face", "--format", "onnx"]).code, 0);
    assert_eq!(json(folder.path().join("face.json"))["format"], "onnx");
    // A model of the other format does not replace the description of this one.
    refused(&["face.pt"], "face.json: describes \"face\"");
    // An exported model is replaced, another file is not.
    assert_eq!(export(&["other.onnx"]).code, 0);
    assert_eq!(export(&["other.onnx"]).code, 0);
    fs_err::write(folder.path().join("other.onnx"), "mine").unwrap();
    refused(&["other.onnx"], "other.onnx: exists; choose another --out, or overwrite it with --force");
    assert_eq!(export(&["other.onnx", "--force"]).code, 0);
}
