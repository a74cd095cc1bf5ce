//! The program on simulated CUDA devices, see the crate `cuda-sim`.

mod device_a;
mod device_b;
mod graphs;
mod streaming;

use std::path::Path;
use std::sync::OnceLock;

use cuda_sim::Device;
use serde_json::Value;

use crate::common::{Done, command, json, text, workshop};

/// Device A; prints that the test is skipped and why if it cannot be built.
fn device_a(test: &str) -> Option<&'static Device> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    found(test, DEVICE.get_or_init(|| cuda_sim::device_a(&cuda_sim::default_folder()).map_err(|e| format!("{e:#}"))))
}

/// Device B, as [`device_a`].
fn device_b(test: &str) -> Option<&'static Device> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    found(test, DEVICE.get_or_init(|| cuda_sim::device_b(&cuda_sim::default_folder()).map_err(|e| format!("{e:#}"))))
}

fn found(test: &str, device: &'static Result<Device, String>) -> Option<&'static Device> {
    device.as_ref().inspect_err(|reason| println!("skipped {test}: {reason}")).ok()
}

/// Runs the program on a device, with more variables of the environment.
fn run(device: &Device, folder: &Path, args: &[&str], more: &[(&str, &str)]) -> Done {
    let variables = device.environment().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut command = command(folder, args);
    command.envs(variables).envs(more.iter().copied());
    command.output().expect("the program starts").into()
}

/// Runs the program on a device and expects success; what the device has counted.
fn counted(device: &Device, folder: &Path, args: &[&str], more: &[(&str, &str)]) -> (Done, Report) {
    let report = folder.join("report.json");
    let more: Vec<(&str, &str)> =
        more.iter().copied().chain([("CUDA_SIM_REPORT", report.to_str().expect("UTF-8"))]).collect();
    let done = run(device, folder, args, &more);
    assert_eq!(done.code, 0, "grimace {}: {}", args.join(" "), done.all());
    (done, Report(json(report)))
}

/// What a simulated device has counted.
struct Report(Value);

impl Report {
    /// A count of each segment: one before the first step, then one for each step. The last has the
    /// end of the run too.
    fn counts(&self, key: &str) -> Vec<u64> {
        self.0["segments"].as_array().unwrap().iter().map(|segment| segment[key].as_u64().unwrap_or(0)).collect()
    }

    /// Nothing was wrong: no tensors on different devices, no invalid launches, no calls that the
    /// simulation does not know.
    fn assert_clean(&self, what: &str) {
        let is_empty = |key: &str| match &self.0[key] {
            Value::Array(list) => list.is_empty(),
            Value::Object(counts) => counts.is_empty(),
            other => panic!("the report has no {key}: {other}"),
        };
        let keys: &[&str] = if self.0["device"] == "a" { &["complaints"] } else { &["failures", "stubs"] };
        keys.iter().for_each(|key| assert!(is_empty(key), "{what}: {key} {}", self.0[*key]));
    }
}

/// The first `rows` training images of the workshop as `small.csv` in `folder`.
fn small_data(folder: &Path, rows: usize) {
    let all = text(workshop().join("data/my_emotion_train.csv"));
    let lines: String = all.split_inclusive('\n').take(rows + 1).collect();
    fs_err::write(folder.join("small.csv"), lines).unwrap();
}

/// A config of `model` and `train` keys on `small.csv`, without randomness that differs between
/// devices.
fn config(model: &str, train: &str, augment: &str) -> String {
    format!(
        "name = \"small\"\ndevice = \"cpu\"\nprecision = \"f32\"\n[data]\ntrain = \"small.csv\"\nvalidation = 0.25\n\
         [augment]\n{augment}\n[model]\n{model}\n[train]\nepochs = 2\nbatch = 1024\n\
         early_stop = {{ patience = 0 }}\n{train}\n"
    )
}

/// Losses and accuracies of each epoch.
fn metrics(run: &Path) -> Vec<[f64; 4]> {
    let numbers = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        ["loss", "val_loss", "accuracy", "val_accuracy"].map(|key| record[key].as_f64().unwrap())
    };
    text(run.join("metrics.jsonl")).lines().map(numbers).collect()
}

/// The largest difference of two runs in any loss of any epoch.
fn loss_difference(a: &Path, b: &Path) -> f64 {
    let (a, b) = (metrics(a), metrics(b));
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(&b).flat_map(|(a, b)| [(a[0], b[0]), (a[1], b[1])]);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
