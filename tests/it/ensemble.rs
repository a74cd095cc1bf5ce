//! `grimace ensemble`: several runs as one model.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{bad, bench, good, json, text, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// The workshop's data and three runs of one epoch: `a`; `b`, another network on the same split;
/// `c`, on another split.
pub fn trio() -> &'static Path {
    static TRIO: OnceLock<TempDir> = OnceLock::new();
    TRIO.get_or_init(|| {
        let folder = bench();
        let train = |out: &str, sets: &[&str]| {
            let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
            let once = ["train", "tiny.toml", "--set", "train.epochs=1", "--out", out];
            good(folder.path(), &[&once[..], &sets].concat());
        };
        train("a", &[]);
        train("b", &["name=other", "seed=43", "data.split_seed=42", "model.filters=[16]"]);
        train("c", &["seed=44"]);
        folder
    })
    .path()
}

fn score(runs: &[&str], more: &[&str]) -> Value {
    let data = ["--data", TEST, "--labels", LABELS, "--json"];
    good(trio(), &[&["ensemble"], runs, &data[..], more].concat()).json()
}

/// Output of `predict --probabilities` for the test images, one row per image, before calibration.
fn probabilities(run: &str, tta: &str) -> Vec<Vec<f64>> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let out = out.to_str().unwrap();
    let args = ["predict", run, "--data", TEST, "--out", out, "--probabilities", "--tta", tta, "--no-calibration"];
    good(trio(), &args);
    text(out).lines().skip(1).map(|line| line.split(',').skip(2).map(|v| v.parse().unwrap()).collect()).collect()
}

#[test]
fn the_ensemble_is_scored_on_mean_probabilities() {
    let truth: Vec<usize> = text(trio().join(LABELS))
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    for tta in ["none", "flip"] {
        let found = score(&["a", "b"], &["--tta", tta, "--no-calibration"]);
        let (a, b) = (probabilities("a", tta), probabilities("b", tta));
        let rows = a.iter().zip(&b).zip(&truth);
        let loss: f64 = rows.map(|((a, b), label)| -((a[*label] + b[*label]) / 2.0).ln()).sum();
        assert_eq!((&found["tta"], &found["one_split"], &found["out"]), (&tta.into(), &true.into(), &Value::Null));
        assert!((found["evaluation"]["loss"].as_f64().unwrap() - loss / 150.0).abs() < 1e-5, "{tta}: {found}");
        for (index, run) in ["a", "b"].into_iter().enumerate() {
            let args = ["evaluate", run, "--data", TEST, "--labels", LABELS, "--tta", tta, "--json"];
            let alone = good(trio(), &[&args[..], &["--no-calibration"]].concat()).json();
            let model = &found["models"][index];
            assert_eq!((model["run"].as_str(), &model["evaluation"]["loss"]), (Some(run), &alone["loss"]));
            assert_eq!(model["evaluation"]["accuracy"], alone["accuracy"]);
        }
    }
}

#[test]
fn dedup_metrics_exclude_training_images_of_any_model() {
    let train = ["--data", "data/my_emotion_train.csv", "--json"];
    let rows = |runs: &[&str]| good(trio(), &[&["ensemble"], runs, &train[..]].concat()).json();
    let trained_on = |run: &str| -> Vec<bool> {
        text(trio().join(run).join("split.csv")).lines().skip(1).map(|line| line.contains(",train,")).collect()
    };
    let (a, c) = (trained_on("a"), trained_on("c"));
    let unseen = a.iter().zip(&c).filter(|(a, c)| !**a && !**c).count();
    assert!(unseen > 0 && unseen < 120, "the splits differ: {unseen}");
    let found = rows(&["a", "c"]);
    assert_eq!(found["one_split"], false);
    assert_eq!(found["evaluation"]["rows_dedup"].as_u64(), Some(unseen as u64));
    assert_eq!(found["models"][0]["evaluation"]["rows_dedup"].as_u64(), Some(unseen as u64));
    assert_eq!(rows(&["a", "b"])["evaluation"]["rows_dedup"], 120);
    let stdout = good(trio(), &["ensemble", "a", "c", "--data", "data/my_emotion_train.csv"]).stdout;
    for part in ["2 networks", "different validation splits", "ensemble", "deduplicated", "ECE", "600 images"] {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
}

#[test]
fn networks_of_their_last_epochs_say_so() {
    let folder = bench();
    for seed in ["seed=1", "seed=2"] {
        let last = "train.early_stop={monitor=\"last_epoch\",patience=0}";
        let sets = ["--set", seed, "--set", last, "--set", "train.epochs=1", "--set", "data.split_seed=1"];
        good(folder.path(), &[&["train", "tiny.toml", "--out", seed], &sets[..]].concat());
    }
    let stdout = good(folder.path(), &["ensemble", "seed=1", "seed=2", "--data", "data/my_emotion_train.csv"]).stdout;
    assert!(stdout.contains("which also fitted their temperatures; evaluate on other data"), "{stdout}");
}

#[test]
fn export_lists_the_models_and_scores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.pt");
    let done = good(trio(), &["ensemble", "a", "b", "--out", out.to_str().unwrap()]);
    for part in ["compared on 256 images", "share one validation split", "not evaluated"] {
        assert!(done.stdout.contains(part), "{part} is not in {}", done.all());
    }
    // Replaces its own model.
    good(trio(), &["ensemble", "a", "b", "--out", out.to_str().unwrap()]);
    let description = json(folder.path().join("model.json"));
    assert_eq!(
        (&description["name"], &description["tta"], &description["labels"][3]),
        (&"tiny+other".into(), &"none".into(), &"happy".into())
    );
    let models = description["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    for (model, (run, seed)) in models.iter().zip([("a", 42), ("b", 43)]) {
        let summary = json(trio().join(run).join("summary.json"));
        assert_eq!((&model["run"], &model["provenance"]["seed"]), (&run.into(), &seed.into()));
        assert_eq!(model["provenance"]["val_accuracy"], summary["best_val_accuracy"]);
        assert_eq!(model["provenance"]["split_hash"], summary["provenance"]["split_hash"]);
        assert!(model["config"].as_str().unwrap().contains("[model]"));
    }
    let sum: u64 = models.iter().map(|model| model["parameters"].as_u64().unwrap()).sum();
    assert_eq!(description["parameters"].as_u64(), Some(sum));
}

#[test]
fn bad_rows_are_skipped_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("bad.csv");
    fs_err::write(&images, text(trio().join(TEST)) + "extra,1 2 3\n").unwrap();
    let args = ["ensemble", "a", "b", "--data", images.to_str().unwrap(), "--labels", LABELS, "--json"];
    bad(trio(), &args, 2, &["line 152, column pixels", "add --on-bad-row skip"]);
    let found = good(trio(), &[&args[..], &["--on-bad-row", "skip"]].concat()).json();
    assert_eq!((&found["skipped"], &found["evaluation"]["rows"]), (&1.into(), &150.into()));
    assert_eq!(found["evaluation"]["loss"], score(&["a", "b"], &[])["evaluation"]["loss"]);
    bad(trio(), &["ensemble", "a", "b", "--on-bad-row", "skip", "--out", "x.pt"], 2, &["--data"]);
}

#[test]
fn models_with_the_same_weights_or_seed_give_a_warning() {
    let twice = good(trio(), &["ensemble", "a", "./a", "--data", TEST, "--labels", LABELS]);
    assert!(twice.stderr.contains("warning: a and ./a have the same weights"), "{}", twice.all());
    // The same command as `a`, so the same weights.
    good(trio(), &["train", "tiny.toml", "--set", "train.epochs=1", "--out", "d"]);
    let same = good(trio(), &["ensemble", "a", "d", "--data", TEST, "--labels", LABELS]);
    assert!(same.stderr.contains("a and d have the same weights"), "{}", same.all());
    let longer = workshop().join("run");
    let close = good(trio(), &["ensemble", "a", longer.to_str().unwrap(), "--data", TEST, "--labels", LABELS]);
    assert!(close.stderr.contains("the same architecture and the same seed, 42"), "{}", close.all());
    let distinct = good(trio(), &["ensemble", "a", "b", "--data", TEST, "--labels", LABELS]);
    assert!(!distinct.stderr.contains("warning"), "{}", distinct.all());
}

#[test]
fn invalid_ensembles_are_refused() {
    let bench = bench();
    let here = bench.path();
    let run = trio().join("a");
    let a = run.to_str().unwrap();
    bad(here, &["ensemble", a], 2, &["RUN"]);
    bad(here, &["ensemble", a, a], 2, &["nothing to do", "--out FILE", "--web FOLDER", "--data DATA"]);
    bad(here, &["ensemble", a, a, "--labels", LABELS], 2, &["--data"]);
    bad(here, &["ensemble", a, a, "--data", TEST, "--force"], 2, &["--out <FILE>|--web <FOLDER>"]);
    bad(here, &["ensemble", a, a, "--out", "x.onnx", "--web", "page"], 2, &["--out", "cannot be used with", "--web"]);
    bad(here, &["ensemble", a, a, "--web", "page", "--format", "onnx"], 2, &["--format", "--web"]);
    bad(here, &["ensemble", a, "none", "--data", TEST], 2, &["none: no such run directory"]);
    bad(here, &["ensemble", a, "data", "--data", TEST], 2, &["data: is not a run directory"]);
    bad(here, &["ensemble", a, a, "--data", TEST], 2, &["no column emotion", "--labels"]);
    bad(here, &["ensemble", a, a, "--out", "nowhere/model.pt"], 1, &["nowhere: no such folder"]);
    let data = ["--data", TEST, "--labels", LABELS];
    let refuse = |out: &str, parts: &[&str]| {
        for force in [&[][..], &["--force"]] {
            bad(here, &[&["ensemble", a, a, "--out", out], &data[..], force].concat(), 2, parts);
        }
    };
    for (target, link) in [(run.join("best.safetensors"), "best.pt"), (here.join(LABELS), "labels.pt")] {
        std::os::unix::fs::symlink(target, here.join(link)).unwrap();
    }
    refuse("best.pt", &["best.pt: belongs to the run"]);
    refuse("labels.pt", &["labels.pt: is read by this command"]);
    refuse(LABELS, &["export writes TorchScript or ONNX; expected a name ending in .pt or .onnx"]);
    refuse("-", &["--out -: ", "two files"]);
    fs_err::write(here.join("mine.pt"), "mine").unwrap();
    bad(here, &["ensemble", a, a, "--out", "mine.pt"], 2, &["mine.pt: exists; choose another --out", "--force"]);
    assert_eq!(text(here.join("mine.pt")), "mine");
    good(here, &["ensemble", a, a, "--out", "mine.pt", "--force"]);
    assert!(fs_err::read(here.join("mine.pt")).unwrap().starts_with(b"PK"));
    // Its own file is replaced without.
    good(here, &["ensemble", a, a, "--out", "mine.pt"]);
    let twice = ["ensemble", a, a, "--data", "-", "--labels", "-"];
    bad(here, &twice, 2, &["-: standard input can be read only once"]);

    let train = |out: &str, set: &str| {
        good(here, &["train", "tiny.toml", "--set", "train.epochs=1", "--set", set, "--out", out]);
    };
    train("flip", "predict.tta=flip");
    let tta: &[&str] = &["predict.tta is none in", "and flip in flip", "--tta"];
    bad(here, &[&["ensemble", a, "flip"], &data[..]].concat(), 2, tta);
    good(here, &[&["ensemble", a, "flip", "--tta", "none"], &data[..]].concat());
    train("renamed", r#"data.classes=["sad","b","c","d","e","f","g"]"#);
    let classes: &[&str] = &["angry,disgust", "renamed has sad,b,c,d,e,f,g", "the same classes in the same order"];
    bad(here, &[&["ensemble", a, "renamed"], &data[..]].concat(), 2, classes);

    train("mapped", "data.labels={ joy = \"happy\" }");
    let differ: &[&str] = &["data.labels is not the same in", "and mapped", "with --label-map"];
    bad(here, &[&["ensemble", a, "mapped"], &data[..]].concat(), 2, differ);
    good(here, &[&["ensemble", a, "mapped", "--label-map", "joy=happy"], &data[..]].concat());
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 3\nfolds = 0\n";
    fs_err::write(here.join("forest.toml"), forest).unwrap();
    good(here, &["forest", "forest.toml", "--out", "wood"]);
    bad(
        here,
        &["ensemble", a, "wood", "--out", "x.pt"],
        2,
        &["wood: is a forest run; only networks can be exported or ensembled"],
    );
    assert!(!here.join("x.pt").exists());
}
