//! Data-parallel training: processes that train together, on the CPU.

mod failures;
mod launchers;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Done, bench, command, good, grimace, json, tensors, timeless_metrics};

/// How much weights of several processes may differ from those of one, relative to their norm, or to
/// 0.1 if that is larger: float32 sums in another order. After few steps: a value beside 0 that a ReLU
/// cuts makes the difference grow, as it does between numbers of threads (docs/data-parallel.md).
const TOLERANCE: f64 = 1e-4;

/// Adam's steps have the sign of gradients that are nearly 0, so that rounding grows from step to step.
const SGD: &str = "train.optimizer={kind=\"sgd\",lr=1e-3}";

/// One epoch of two steps, of 240 images each.
const TWO_STEPS: [&str; 2] = ["train.epochs=1", "train.batch=240"];

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The command of one process of a group, with torchrun's variables.
fn rank_command(folder: &Path, args: &[&str], rank: usize, size: usize, port: u16) -> Command {
    let mut command = command(folder, args);
    let variables = [("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank), ("MASTER_PORT", usize::from(port))];
    command.envs(variables.map(|(name, value)| (name, value.to_string()))).env("MASTER_ADDR", "127.0.0.1");
    command
}

/// Starts the processes of a group.
fn spawn_group(folder: &Path, args: &[&str], size: usize) -> Vec<Child> {
    let port = free_port();
    let spawn = |rank| {
        let mut command = rank_command(folder, args, rank, size, port);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    (0..size).map(spawn).collect()
}

/// Waits for the processes of a group.
fn wait_all(group: Vec<Child>) -> Vec<Done> {
    group.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
}

/// Trains in a group of `size` processes, all of which succeed, and all but the first silently.
fn train_group(folder: &Path, args: &[&str], size: usize) -> Done {
    let mut done = wait_all(spawn_group(folder, args, size));
    for (rank, done) in done.iter().enumerate() {
        assert_eq!(done.code, 0, "rank {rank}: {}", done.all());
        assert!(rank == 0 || (done.stdout.is_empty() && done.stderr.is_empty()), "rank {rank}: {}", done.all());
    }
    done.swap_remove(0)
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect()
}

/// Asserts that two runs have equal weights and metrics up to rounding.
fn assert_close(run: &Path, expected: &Path, tolerance: f64) {
    let [found, wanted] = [run, expected].map(|run| tensors(&run.join("last.safetensors")));
    assert_eq!(found.len(), wanted.len());
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    for ((name, found), (other, wanted)) in found.iter().zip(&wanted) {
        let (found, wanted) = (floats(found), floats(wanted));
        let difference: Vec<f64> = found.iter().zip(&wanted).map(|(a, b)| a - b).collect();
        let error = norm(&difference) / norm(&wanted).max(0.1);
        // The moments of the optimizer are gradients, whose relative error is larger.
        assert!(
            name == other && (error < tolerance || name.starts_with("optimizer")),
            "{name}: differs by {error:.1e} of its norm"
        );
    }
    let [found, wanted] = [run, expected].map(timeless_metrics);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        for (key, tolerance) in [("loss", 1e-4), ("val_loss", 1e-3), ("accuracy", 1e-2), ("val_accuracy", 3e-2)] {
            let (a, b) = (found[key].as_f64().unwrap(), wanted[key].as_f64().unwrap());
            assert!((a - b).abs() < tolerance * b.abs().max(1.0), "{key}: {a} instead of {b}: {found}");
        }
    }
}

/// Trains with `sets` in one process and in `size`, and compares.
fn compare(sets: &[&str], size: usize) {
    let bench = bench();
    let args = |out: &'static str| {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let args = ["train", "tiny.toml", "--out", out, "--set", "train.early_stop.patience=0", "--set", SGD];
        args.into_iter().chain(sets).collect::<Vec<_>>()
    };
    good(bench.path(), &args("one"));
    let done = train_group(bench.path(), &args("several"), size);
    assert!(done.stderr.contains(&format!("device: {size} x cpu")), "{}", done.all());
    assert_close(&bench.path().join("several"), &bench.path().join("one"), TOLERANCE);
}

const RESNET: &str = "model={kind=\"resnet\",stem=16,widths=[16,32],blocks=[1,1],stochastic_depth=0.2,dropout=0.2}";

#[test]
fn two_processes_train_the_cnn_of_one() {
    // Dropout, augmentation, EMA, clipping.
    compare(&[&TWO_STEPS[..], &["train.ema=0.99", "train.clip_norm=1"]].concat(), 2);
}

#[test]
fn two_processes_train_the_resnet_of_one() {
    compare(&[&TWO_STEPS[..], &[RESNET, "augment.brightness=0.2", "augment.random_erasing=0.3"]].concat(), 2);
}

#[test]
fn batch_norm_without_kernels_is_synchronized_too() {
    // 24 channels and SiLU have no kernels.
    let sets = ["model.filters=[24]", "model.activation=\"silu\"", "augment.mixup=0.4"];
    compare(&[&TWO_STEPS[..], &sets].concat(), 2);
}

#[test]
fn three_processes_share_uneven_batches() {
    // 480 images: a second batch of 7, and with 4 processes one of 2.
    let weights = "train.class_weights=\"balanced\"";
    compare(&["train.epochs=1", "train.batch=473", weights, "augment.cutmix=0.5", "data.resident=\"host\""], 3);
    compare(&["train.epochs=1", "train.batch=478", "train.label_smoothing=0.1"], 4);
}

#[test]
fn a_group_repeats_its_results_bit_for_bit() {
    // Muon multiplies matrices in every process.
    for optimizer in ["train.optimizer={kind=\"adam\"}", "train.optimizer={kind=\"muon\",lr=1e-3}"] {
        let bench = bench();
        for out in ["first", "second"] {
            let sets = ["--set", "train.sync_batch_norm=false", "--set", optimizer];
            train_group(bench.path(), &[&["train", "tiny.toml", "--out", out], &sets[..]].concat(), 2);
        }
        let [first, second] = ["first", "second"].map(|run| bench.path().join(run));
        assert_eq!(tensors(&first.join("last.safetensors")), tensors(&second.join("last.safetensors")), "{optimizer}");
        assert_eq!(timeless_metrics(&first), timeless_metrics(&second), "{optimizer}");
        let summary = json(first.join("summary.json"));
        assert_eq!((summary["device"].as_str(), summary["stopped"].as_str()), (Some("2 x cpu"), Some("epochs")));
    }
}

#[test]
fn a_run_resumes_with_another_number_of_processes() {
    let bench = bench();
    let train = |out: &'static str, epochs: &'static str, resume: bool| {
        let mut args = vec!["train", "tiny.toml", "--out", out, "--set", epochs, "--set", SGD, "--set", RESNET];
        args.extend(resume.then_some("--resume"));
        args
    };
    good(bench.path(), &train("one", "train.epochs=3", false));
    train_group(bench.path(), &train("changed", "train.epochs=1", false), 2);
    train_group(bench.path(), &train("changed", "train.epochs=2", true), 3);
    good(bench.path(), &train("changed", "train.epochs=3", true));
    // Three epochs of eight steps.
    assert_close(&bench.path().join("changed"), &bench.path().join("one"), 20.0 * TOLERANCE);
}

#[test]
fn bfloat16_trains_too() {
    let bench = bench();
    let args = ["train", "tiny.toml", "--out", "run", "--set", "precision=\"bf16\"", "--set", "train.epochs=2"];
    train_group(bench.path(), &args, 2);
    let mut alone = args;
    alone[3] = "one";
    good(bench.path(), &alone);
    let [run, one] = ["run", "one"].map(|run| timeless_metrics(&bench.path().join(run))[0]["loss"].as_f64().unwrap());
    assert!((run - one).abs() < 0.02 * one, "{run} instead of {one}");
    // A group's run is a run.
    assert_eq!(grimace(bench.path(), &["evaluate", "run", "--data", "data/my_emotion_train.csv"]).code, 0);
}
