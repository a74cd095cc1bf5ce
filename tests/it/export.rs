//! `grimace export` and `grimace ensemble`: the exported file, checked in Python with torch alone.

use std::path::Path;

use crate::common::{bad, bench, check_exported, good, grimace, json, text, workshop};

/// Runs check_export.py on `model`, the export of `runs` with `tta`.
fn check(model: &Path, runs: &[&Path], tta: &str) {
    let done = check_exported("check_export.py", &[], model, runs, tta);
    let checks = if done.stdout.contains("skipped .to('cuda')") { 11 } else { 12 };
    assert!(done.stdout.contains(&format!("{checks} checks passed")), "{}", done.all());
}

#[test]
fn an_exported_model_works_in_python() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.pt");
    let run = workshop().join("run");
    for tta in ["none", "flip", "ten_crop"] {
        let done = good(workshop(), &["export", "run", "--out", model.to_str().unwrap(), "--tta", tta]);
        assert!(done.stdout.contains("compared on 256 images"), "{}", done.all());
        let description = json(folder.path().join("model.json"));
        assert_eq!((&description["labels"][3], &description["tta"]), (&"happy".into(), &tta.into()));
        check(&model, &[&run], tta);
    }
}

#[test]
fn an_exported_ensemble_works_in_python() {
    let bench = bench();
    let sets = ["--set", "train.epochs=1", "--set", "seed=43", "--set", "model.filters=[16]"];
    good(bench.path(), &[&["train", "tiny.toml", "--out", "other"], &sets[..]].concat());
    let (model, run, other) = (bench.path().join("model.pt"), workshop().join("run"), bench.path().join("other"));
    let args = ["ensemble", run.to_str().unwrap(), other.to_str().unwrap(), "--tta", "flip", "--out", "model.pt"];
    good(bench.path(), &[&args[..], &["--no-calibration"]].concat());
    check(&model, &[&run, &other], "flip");
}

#[test]
fn only_an_unchanged_exported_model_is_replaced_without_force() {
    let bench = bench();
    let folder = bench.path();
    let run = workshop().join("run");
    let export = ["export", run.to_str().unwrap(), "--out", "model.pt"];
    let exists = "model.pt: exists; choose another --out, or overwrite it with --force";
    fs_err::write(folder.join("model.pt"), "mine").unwrap();
    bad(folder, &export, 2, &[exists]);
    assert!(text(folder.join("model.pt")) == "mine" && !folder.join("model.json").exists());
    good(folder, &[&export[..], &["--force"]].concat());
    good(folder, &export);
    let description = json(folder.join("model.json"));
    let hash = blake3::hash(&fs_err::read(folder.join("model.pt")).unwrap()).to_hex().to_string();
    assert_eq!(description["model_blake3"], hash);
    // The model of another training may be all that is left of it.
    good(folder, &["train", "tiny.toml", "--set", "train.epochs=1", "--set", "seed=7", "--out", "other"]);
    let other = ["export", "other", "--out", "model.pt"];
    bad(folder, &other, 2, &["model.json: describes an export of other weights", "--force"]);
    assert_eq!(blake3::hash(&fs_err::read(folder.join("model.pt")).unwrap()).to_hex().to_string(), hash);
    good(folder, &[&other[..], &["--force"]].concat());
    good(folder, &[&export[..], &["--force"]].concat());
    // Another program's model in the place of the exported one.
    fs_err::write(folder.join("model.pt"), "mine").unwrap();
    bad(folder, &export, 2, &[exists]);

    let own = r#"{"labels": "mine"}"#;
    fs_err::write(folder.join("model.json"), own).unwrap();
    let both = "model.pt and model.json: exist; choose another --out, or overwrite both with --force";
    bad(folder, &export, 2, &[both]);
    fs_err::remove_file(folder.join("model.pt")).unwrap();
    bad(folder, &export, 2, &["model.json: exists, and is where the model's description goes", "--force"]);
    assert!(text(folder.join("model.json")) == own && !folder.join("model.pt").exists());
    good(folder, &[&export[..], &["--force"]].concat());
    assert_eq!(json(folder.join("model.json"))["tta"], "none");
}

#[test]
fn models_do_not_share_a_description() {
    let folder = tempfile::tempdir().unwrap();
    let run = workshop().join("run");
    let export = |out: &str, force: &[&str]| {
        grimace(folder.path(), &[&["export", run.to_str().unwrap(), "--out", out], force].concat())
    };
    assert_eq!(export("face.pt", &[]).code, 0);
    let refused = export("face.ts", &[]);
    let message =
        "face.json: describes \"face.pt\", and is where the description of face.ts goes; choose another --out";
    assert!(refused.code == 2 && refused.stderr.contains(message), "{}", refused.all());
    assert_eq!(export("face.pt", &[]).code, 0);
    fs_err::remove_file(folder.path().join("face.pt")).unwrap();
    assert_eq!(export("face.ts", &[]).code, 0, "the description of a model that was removed");
    assert_eq!(json(folder.path().join("face.json"))["model_file"], "face.ts");
}

#[test]
fn export_refuses_bad_paths() {
    let bench = bench();
    let run = workshop().join("run");
    std::os::unix::fs::symlink(run.join("best.safetensors"), bench.path().join("link.pt")).unwrap();
    let export = |out: &str, parts: &[&str]| {
        for force in [&[][..], &["--force"]] {
            bad(bench.path(), &[&["export", run.to_str().unwrap(), "--out", out], force].concat(), 2, parts);
        }
    };
    export("link.pt", &["link.pt: belongs to the run and would be overwritten"]);
    let summary = run.join("summary.pt");
    export(summary.to_str().unwrap(), &["run/summary.json: belongs to the run and would be overwritten"]);
    assert!(run.join("summary.json").exists() && !summary.exists());
    export("face.tflite", &["face.tflite: export writes TorchScript or ONNX; expected a name ending in .pt or .onnx"]);
    export("-", &["--out -: ", "two files", "model.pt"]);
    export("/dev/stdout", &["--out /dev/stdout: ", "two files"]);
    assert!(!bench.path().join("face.tflite").exists());

    bad(workshop(), &["export", "run", "--out", "nowhere/model.pt"], 1, &["nowhere: no such folder"]);
    bad(workshop(), &["export", "run", "--out", "data"], 1, &["data: is a folder"]);
    bad(workshop(), &["export", "data", "--out", "model.pt"], 2, &["data: is not a run directory"]);
}
