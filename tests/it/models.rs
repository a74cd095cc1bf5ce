//! VGG, ResNet and the parts of a training recipe that have state, through the command line.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{Done, TORCHVISION, bad, bench, command, good, json, tensors, text, timeless_metrics};

/// A small config with the given `[model]` and additions to `[train]`.
fn config(model: &str, train: &str) -> String {
    format!(
        "name = \"small\"\ndevice = \"cpu\"\nprecision = \"f32\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[model]\n{model}\n\
         [train]\nepochs = 4\nbatch = 64\nearly_stop = {{ patience = 0 }}\ncheckpoint_every = {{ epochs = 1, steps = 3 }}\n{train}\n"
    )
}

const VGG: &str = "kind = \"vgg\"\nfilters = [16, 32]\nconvolutions = 2\ndense = [16]\ndropout = 0.2";
const RESNET: &str =
    "kind = \"resnet\"\nstem = 16\nwidths = [16, 32]\nblocks = [1, 1]\nstochastic_depth = 0.3\ndropout = 0.1";
/// Everything that depends on the step or has state.
const RECIPE: &str = "optimizer = { kind = \"sgd\", lr = 0.05, weight_decay = 5e-4 }\nschedule = { kind = \"cosine\", warmup = 0.5 }\n\
                      label_smoothing = 0.1\nema = 0.9\nclip_norm = 1.0";

/// Trains without interruption and with a kill, compares the runs, then evaluates and exports.
fn trains_resumes_and_exports(model: &str, train: &str) {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(model, train)).unwrap();
    good(folder, &["train", "small.toml", "--out", "uninterrupted"]);

    let args = ["train", "small.toml", "--out", "killed", "--resume"];
    let mut child = command(folder, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (start, metrics) = (Instant::now(), folder.join("killed/metrics.jsonl"));
    while !metrics.exists() || text(&metrics).lines().count() < 1 {
        assert!(start.elapsed() < Duration::from_secs(60), "no epoch after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let stopped = json(folder.join("killed/summary.json"))["stopped"].clone();
    assert_eq!(stopped, "running", "killed too late: the run has finished");
    good(folder, &args);
    assert_eq!(timeless_metrics(&folder.join("killed")), timeless_metrics(&folder.join("uninterrupted")));
    for name in ["best.safetensors", "last.safetensors"] {
        let read = |run: &str| tensors(&folder.join(run).join(name));
        assert!(read("killed") == read("uninterrupted"), "{name} differs from the uninterrupted run");
    }

    // Validation and evaluate use the same weights: the EMA, if there is one. Deduplicated rows of
    // the training file are the validation rows.
    let best = &json(folder.join("uninterrupted/summary.json"))["best_val_accuracy_dedup"];
    let done = good(folder, &["evaluate", "uninterrupted", "--data", "data/my_emotion_train.csv", "--json"]);
    assert_eq!(done.json()["accuracy_dedup"], *best);
    good(folder, &["export", "uninterrupted", "--out", "model.pt"]);
    assert!(folder.join("model.pt").exists());
}

#[test]
fn a_vgg_trains_resumes_and_exports() {
    trains_resumes_and_exports(VGG, RECIPE);
}

#[test]
fn a_resnet_trains_on_crops() {
    let crops = "progressive = { from = 40, to = 40, method = \"crop\" }";
    trains_resumes_and_exports(RESNET, &format!("{RECIPE}\n{crops}"));
}

#[test]
fn muon_trains_and_resumes() {
    let optimizer = "optimizer = { kind = \"muon\", lr = 5e-3 }\nema = 0.9\nclip_norm = 1.0\nlayer_decay = 0.8";
    trains_resumes_and_exports(VGG, optimizer);
}

#[test]
fn a_resnet_trains_resumes_and_exports() {
    trains_resumes_and_exports(RESNET, &format!("{RECIPE}\nprogressive = {{ from = 32, to = 44, until = 1.0 }}"));
}

#[test]
fn a_resnet_with_torchvisions_layers_trains_resumes_and_exports() {
    trains_resumes_and_exports(TORCHVISION, &format!("{RECIPE}\nfreeze = [\"stem\"]\nlayer_decay = 0.7"));
}

/// Compares a run with Winograd convolutions to runs with libtorch's: equal up to rounding.
#[test]
fn winograd_convolutions_match_libtorch() {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(RESNET, RECIPE)).unwrap();
    let doctor = good(folder, &["doctor", "--json"]).json();
    let loss = |kernels: &str, precision: &str| {
        let (out, precision) = (format!("{kernels}-{precision}"), format!("precision={precision}"));
        let sets = ["--set", "train.epochs=1", "--set", &precision];
        let args = [&["train", "small.toml", "--out", &out, "--profile"], &sets[..]].concat();
        let done: Done = command(folder, &args).env("GRIMACE_KERNELS", kernels).output().unwrap().into();
        assert_eq!(done.code, 0, "{}", done.all());
        let is_profiled = done.stderr.contains("grimace::winograd backward");
        // In bf16 where that is not the faster precision.
        let is_faster = precision == "precision=f32" || doctor["cpu_bf16_fast"] == false;
        assert_eq!(is_profiled, kernels == "auto" && has_kernels(folder) && is_faster, "{}", done.all());
        let line = text(folder.join(out).join("metrics.jsonl"));
        serde_json::from_str::<serde_json::Value>(line.lines().next().unwrap()).unwrap()["loss"].as_f64().unwrap()
    };
    for (precision, tolerance) in [("f32", 0.02), ("bf16", 0.05)] {
        let [auto, libtorch, none] = ["auto", "no-winograd", "none"].map(|kernels| loss(kernels, precision));
        let is_equal = (auto - libtorch).abs() < tolerance && (auto - none).abs() < tolerance;
        assert!(is_equal, "{precision}: {auto}, {libtorch}, {none}");
    }
}

/// Whether this processor has the custom kernels.
fn has_kernels(folder: &Path) -> bool {
    let kernels = good(folder, &["doctor", "--json"]).json()["custom_kernels"].clone();
    assert!(kernels == "none" || kernels.as_str().unwrap().contains("Winograd"), "{kernels}");
    kernels != "none"
}

/// The learning rates of the first steps of epochs 1 to 4, by the formulas of the schedules.
#[test]
fn the_learning_rate_follows_the_schedule() {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(VGG, "optimizer = { kind = \"sgd\", lr = 0.01 }")).unwrap();
    let cosine = |progress: f64| 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    let expected: [(&str, [f64; 4]); 3] = [
        ("{kind=\"constant\"}", [1.0; 4]),
        // Decays from the third epoch on.
        ("{kind=\"hold_then_decay\", hold=2, rate=0.5}", [1.0, 1.0, (-0.5f64).exp(), (-1.0f64).exp()]),
        ("{kind=\"cosine\", warmup=0, floor=0.1}", [0.0, 0.25, 0.5, 0.75].map(|progress| 0.1 + 0.9 * cosine(progress))),
    ];
    for (number, (schedule, factors)) in expected.into_iter().enumerate() {
        let (out, set) = (format!("run{number}"), format!("train.schedule={schedule}"));
        good(folder, &["train", "small.toml", "--out", &out, "--set", &set]);
        let metrics = timeless_metrics(&folder.join(out));
        let rates: Vec<f64> = metrics.iter().map(|record| record["lr"].as_f64().unwrap()).collect();
        let is_close = rates.iter().zip(factors).all(|(rate, factor)| (rate - 0.01 * factor).abs() < 1e-9);
        assert!(rates.len() == 4 && is_close, "{schedule}: {rates:?}, factors {factors:?}");
    }
}

/// An update with SGD and without momentum is at most lr times the clipped norm of the gradients.
#[test]
fn clipped_gradients_bound_the_update() {
    let bench = bench();
    let folder = bench.path();
    let train = "optimizer = { kind = \"sgd\", lr = 1.0, momentum = 0.0, nesterov = false, weight_decay = 0.0 }\n\
                 schedule = { kind = \"constant\" }\nclip_norm = 1e-3";
    fs_err::write(folder.join("small.toml"), config(RESNET, train)).unwrap();
    let weights = |out: &str, epochs: &str| -> Vec<f32> {
        good(folder, &["train", "small.toml", "--out", out, "--set", epochs]);
        let last = tensors(&folder.join(out).join("last.safetensors"));
        let parameters = last.into_iter().filter(|(name, _)| {
            !name.contains("running_") && !name.starts_with("optimizer.") && !name.starts_with("ema.")
        });
        let bytes: Vec<u8> = parameters.flat_map(|(_, bytes)| bytes).collect();
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (one, two) = (weights("one", "train.epochs=1"), weights("two", "train.epochs=2"));
    let distance = one.iter().zip(&two).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    // 480 training images in batches of 64 are 8 steps.
    assert!(one.len() == two.len() && distance > 1e-3 && distance < 8.0 * 1e-3 * 1.01, "{distance}");
}

#[test]
fn the_ema_is_in_the_last_checkpoint_and_is_the_best() {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(RESNET, RECIPE)).unwrap();
    // After one epoch best and last are the same epoch.
    let train = ["train", "small.toml", "--out", "run", "--set", "train.epochs=1"];
    good(folder, &train);
    let last = tensors(&folder.join("run/last.safetensors"));
    let ema: Vec<_> = last.iter().filter_map(|(name, bytes)| Some((name.strip_prefix("ema.")?, bytes))).collect();
    let best = tensors(&folder.join("run/best.safetensors"));
    assert!(
        ema.iter().copied().eq(best.iter().map(|(name, bytes)| (name.as_str(), bytes))),
        "best.safetensors is the EMA"
    );
    let raw = last.iter().find(|(name, _)| name == "output.weight").unwrap();
    let averaged = ema.iter().find(|(name, _)| *name == "output.weight").unwrap();
    assert!(raw.1 != *averaged.1, "the EMA differs from the weights");
    let resume = [&train[..], &["--resume", "--set"]].concat();
    bad(folder, &[&resume[..], &["train.epochs=9"]].concat(), 2, &["train.epochs was 1, now it is 9", "learning rate"]);
    bad(folder, &[&resume[..], &["train.ema=0.5"]].concat(), 2, &["train.ema was 0.9, now it is 0.5"]);
    // A lost best checkpoint is restored from the EMA.
    fs_err::remove_file(folder.join("run/best.safetensors")).unwrap();
    good(folder, &[&train[..], &["--resume"]].concat());
    assert!(tensors(&folder.join("run/best.safetensors")) == best);
}
