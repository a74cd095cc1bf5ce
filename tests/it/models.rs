//! Networks beside the seed's, and the recipe's parts that keep state of their own, through the command line.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{bad, bench, command, good, json, tensors, text, timeless_metrics};

/// The small config with another network and recipe.
fn config(model: &str, train: &str) -> String {
    format!(
        "name = \"small\"\ndevice = \"cpu\"\nprecision = \"f32\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[model]\n{model}\n\
         [train]\nepochs = 4\nbatch = 64\nearly_stop = {{ patience = 0 }}\ncheckpoint_every = {{ epochs = 1, steps = 3 }}\n{train}\n"
    )
}

const VGG: &str = "kind = \"vgg\"\nfilters = [16, 32]\nconvolutions = 2\ndense = [16]\ndropout = 0.2";
const RESNET: &str =
    "kind = \"resnet\"\nstem = 16\nwidths = [16, 32]\nblocks = [1, 1]\nstochastic_depth = 0.3\ndropout = 0.1";
/// All that hangs on the step or has a state.
const RECIPE: &str = "optimizer = { kind = \"sgd\", lr = 0.05, weight_decay = 5e-4 }\nschedule = { kind = \"cosine\", warmup = 0.5 }\n\
                      label_smoothing = 0.1\nema = 0.9\nclip_norm = 1.0";

/// Trains the config once in one go and once killed in between, and compares; then uses what came out.
fn trains_resumes_and_exports(model: &str, train: &str) {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(model, train)).unwrap();
    good(folder, &["train", "small.toml", "--out", "whole"]);

    let args = ["train", "small.toml", "--out", "killed", "--resume"];
    let mut child = command(folder, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (began, metrics) = (Instant::now(), folder.join("killed/metrics.jsonl"));
    while !metrics.exists() || text(&metrics).lines().count() < 1 {
        assert!(began.elapsed() < Duration::from_secs(60), "no epoch after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.join("killed/summary.json").exists(), "it was to be killed before its end");
    good(folder, &args);
    assert_eq!(timeless_metrics(&folder.join("killed")), timeless_metrics(&folder.join("whole")));
    for name in ["best.safetensors", "last.safetensors"] {
        let of = |run: &str| tensors(&folder.join(run).join(name));
        assert!(of("killed") == of("whole"), "{name} differs from that of an unbroken run");
    }

    // Validation, the best weights and whoever reads them agree on what counts: the averages, where there are any. What is not
    // among the training images of the training file is the validation part.
    let best = &json(folder.join("whole/summary.json"))["best_val_accuracy_dedup"];
    let done = good(folder, &["evaluate", "whole", "--data", "data/my_emotion_train.csv", "--json"]);
    assert_eq!(done.json()["accuracy_dedup"], *best);
    good(folder, &["export", "whole", "--out", "model.pt"]);
    assert!(folder.join("model.pt").exists());
}

#[test]
fn a_vgg_trains_resumes_and_exports() {
    trains_resumes_and_exports(VGG, RECIPE);
}

#[test]
fn a_residual_network_trains_resumes_and_exports() {
    trains_resumes_and_exports(RESNET, &format!("{RECIPE}\nprogressive = {{ from = 32, until = 1.0 }}"));
}

#[test]
fn each_part_of_the_recipe_changes_the_training() {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(RESNET, "")).unwrap();
    let parts = [
        "train.epochs=2",
        "train.label_smoothing=0.2",
        "train.ema=0.5",
        "train.clip_norm=0.01",
        "train.schedule={kind=\"cosine\"}",
        "train.progressive={from=16,until=1}",
        "model.stochastic_depth=0",
        "model.squeeze=0",
        "model.stem_pool=false",
    ];
    let losses: Vec<f64> = parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let out = format!("run{number}");
            good(folder, &["train", "small.toml", "--out", &out, "--set", "train.epochs=2", "--set", part]);
            timeless_metrics(&folder.join(out))[1]["val_loss"].as_f64().unwrap()
        })
        .collect();
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let distinct = losses.iter().enumerate().all(|(at, loss)| !losses[..at].contains(loss));
    assert!(distinct, "something changes nothing: {losses:?}");
}

#[test]
fn averages_are_kept_beside_the_weights_and_are_the_best() {
    let bench = bench();
    let folder = bench.path();
    fs_err::write(folder.join("small.toml"), config(RESNET, RECIPE)).unwrap();
    // After one epoch the best is the last.
    let train = ["train", "small.toml", "--out", "run", "--set", "train.epochs=1"];
    good(folder, &train);
    let last = tensors(&folder.join("run/last.safetensors"));
    let averaged: Vec<_> = last.iter().filter_map(|(name, bytes)| Some((name.strip_prefix("ema.")?, bytes))).collect();
    let best = tensors(&folder.join("run/best.safetensors"));
    assert!(averaged.iter().copied().eq(best.iter().map(|(name, bytes)| (name.as_str(), bytes))), "all of them");
    let raw = last.iter().find(|(name, _)| name == "output.weight").unwrap();
    let own = averaged.iter().find(|(name, _)| *name == "output.weight").unwrap();
    assert!(raw.1 != *own.1, "the average goes its own way");
    let resume = [&train[..], &["--resume", "--set"]].concat();
    bad(folder, &[&resume[..], &["train.epochs=9"]].concat(), 2, &["train.epochs was 1, now it is 9", "learning rate"]);
    bad(folder, &[&resume[..], &["train.ema=0.5"]].concat(), 2, &["train.ema was 0.9, now it is 0.5"]);
    // A best that is lost is made again of the averages.
    fs_err::remove_file(folder.join("run/best.safetensors")).unwrap();
    good(folder, &[&train[..], &["--resume"]].concat());
    assert!(tensors(&folder.join("run/best.safetensors")) == best);
}
