//! Calibrated probabilities: `calibration.json`, and the commands that apply it.

use serde_json::Value;

use crate::common::{bad, bench, good, json, text, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// What `predict --probabilities` writes for the test images: their classes, and their probabilities.
fn predict(run: &str, more: &[&str]) -> (Vec<String>, Vec<Vec<f64>>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let args = ["predict", run, "--data", TEST, "--out", out.to_str().unwrap(), "--probabilities"];
    good(workshop(), &[&args[..], more].concat());
    let row = |line: &str| -> (String, Vec<f64>) {
        let mut cells = line.split(',').skip(1);
        (cells.next().unwrap().to_owned(), cells.map(|cell| cell.parse().unwrap()).collect())
    };
    text(&out).lines().skip(1).map(row).unzip()
}

/// The probabilities when logits are divided by `temperature`.
fn scaled(rows: &[Vec<f64>], temperature: f64) -> Vec<Vec<f64>> {
    let scale = |row: &Vec<f64>| -> Vec<f64> {
        let powers: Vec<f64> = row.iter().map(|p| p.powf(1.0 / temperature)).collect();
        let total: f64 = powers.iter().sum();
        powers.iter().map(|power| power / total).collect()
    };
    rows.iter().map(scale).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn max_difference(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    one.iter().flatten().zip(other.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn each_tta_has_a_temperature_that_predict_and_evaluate_apply() {
    let calibration = json(workshop().join("run/calibration.json"));
    assert_eq!(calibration["images"], 120);
    let ((classes, raw), (same, calibrated)) = (predict("run", &["--no-calibration"]), predict("run", &[]));
    let temperature = number(&calibration["temperature"]);
    assert!((temperature - 1.0).abs() > 1e-3, "{temperature}");
    assert_eq!(classes, same, "a temperature does not change classes");
    assert!(max_difference(&raw, &calibrated) > 1e-3);
    assert!(max_difference(&scaled(&raw, temperature), &calibrated) < 1e-5);
    let mut temperatures = vec![];
    for (tta, fitted) in
        [("none", &calibration), ("flip", &calibration["flip"]), ("ten_crop", &calibration["ten_crop"])]
    {
        let args = ["evaluate", "run", "--data", TEST, "--labels", LABELS, "--json", "--tta", tta];
        let found = good(workshop(), &args).json();
        assert_eq!(found["calibration"]["temperature"], fitted["temperature"], "{tta}");
        let raw = good(workshop(), &[&args[..], &["--no-calibration"]].concat()).json();
        assert_eq!(found["calibration"]["ece_before"], raw["ece"], "{tta}");
        assert_eq!(raw["calibration"], Value::Null);
        temperatures.push(number(&fitted["temperature"]));
    }
    assert!(temperatures[1] != temperatures[0] && temperatures[2] != temperatures[0], "{temperatures:?}");
}

#[test]
fn an_ensemble_has_a_temperature_for_the_mean_of_its_models() {
    let bench = bench();
    let here = bench.path();
    let sets = ["--set", "train.epochs=2", "--set", "seed=43", "--set", "data.split_seed=42"];
    good(here, &[&["train", "tiny.toml", "--out", "other"], &sets[..]].concat());
    let (run, other) = (workshop().join("run"), here.join("other"));
    let (run_name, other_name) = (run.to_str().unwrap(), other.to_str().unwrap());
    let data = ["--data", TEST, "--labels", LABELS];
    let args = [&["ensemble", run_name, other_name, "--out", "both.pt", "--json"], &data[..]].concat();
    let found = good(here, &args).json();
    assert_eq!(found["one_split"], true);
    let models = json(here.join("both.json"))["models"].clone();
    let temperatures: Vec<f64> = (0..2).map(|index| number(&models[index]["temperature"])).collect();
    let joint: Vec<f64> = [&run, &other]
        .into_iter()
        .zip(&temperatures)
        .map(|(run, used)| used / number(&json(run.join("calibration.json"))["temperature"]))
        .collect();
    assert!((joint[0] - joint[1]).abs() < 1e-9 && (joint[0] - 1.0).abs() > 1e-3, "{joint:?}");
    let parts: Vec<Vec<Vec<f64>>> = [run_name, other_name]
        .into_iter()
        .zip(&temperatures)
        .map(|(run, temperature)| scaled(&predict(run, &["--no-calibration"]).1, *temperature))
        .collect();
    let labels = text(workshop().join(LABELS));
    let labels = labels.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse::<usize>().unwrap());
    let loss: f64 =
        labels.enumerate().map(|(row, label)| -((parts[0][row][label] + parts[1][row][label]) / 2.0).ln()).sum();
    assert!((number(&found["evaluation"]["loss"]) - loss / 150.0).abs() < 1e-5, "{loss} {found}");
    // Models alone have their own temperature.
    let alone = good(here, &[&["evaluate", other_name, "--json"], &data[..]].concat()).json();
    assert_eq!(found["models"][1]["evaluation"]["loss"], alone["loss"]);
}

#[test]
fn a_corrupt_calibration_is_an_error_and_one_of_another_epoch_is_not_used() {
    let bench = bench();
    let here = bench.path();
    good(here, &["train", "tiny.toml", "--set", "train.epochs=1", "--out", "run"]);
    let evaluate = ["evaluate", "run", "--data", TEST, "--labels", LABELS, "--json"];
    let path = here.join("run/calibration.json");
    let found = text(&path);
    for (broken, problem) in [
        ("{".to_owned(), "EOF"),
        (found.replacen("\"temperature\": ", "\"temperature\": -", 1), "expected a number above 0"),
        (found.replace("\"temperature\": ", "\"temperature\": 1e999"), "number"),
    ] {
        fs_err::write(&path, broken).unwrap();
        bad(here, &evaluate, 2, &["run/calibration.json: ", problem, "remove it, or pass --no-calibration"]);
        good(here, &[&evaluate[..], &["--no-calibration"]].concat());
    }
    fs_err::write(&path, found.replace("\"epoch\": 1", "\"epoch\": 7")).unwrap();
    assert_eq!(good(here, &evaluate).json()["calibration"], Value::Null);
}
