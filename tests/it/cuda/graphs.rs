//! Training steps as CUDA graphs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Report, config, counted, device_a, device_b, loss_difference, run, small_data};
use crate::common::{command, tensors, timeless_metrics};

const RESNET: &str = "kind = \"resnet\"\nstem = 6\nwidths = [8, 12]\nblocks = [1, 1]\nsqueeze = 4\ndropout = 0.2\nstochastic_depth = 0.3";
const CNN: &str = "kind = \"cnn\"\nfilters = [8, 16]\ndense = [12]\ndropout = 0.5";

/// Four epochs at smaller sizes and four at full size; five steps an epoch, the last one smaller.
const SIZES: &str = "progressive = { from = 44, until = 0.5 }\nema = 0.9\nclip_norm = 1.0";

/// Frozen layers, and learning rates that differ by layer.
const FINE_TUNING: &str =
    "freeze = [\"stem\"]\nlayer_decay = 0.5\nema = 0.9\noptimizer = { kind = \"adamw\", lr = 1e-3 }";

fn train<'a>(out: &'a str, graph: &'a str) -> [&'a str; 12] {
    let device = "device=cuda:0";
    [
        "train",
        "small.toml",
        "--set",
        device,
        "--set",
        "train.batch=32",
        "--set",
        "train.epochs=8",
        "--set",
        graph,
        "--out",
        out,
    ]
}

#[test]
fn a_graph_trains_bit_for_bit_as_without() {
    let Some(device) = device_a("a_graph_trains_bit_for_bit_as_without") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    for (name, model, recipe, augment) in [
        ("cnn", CNN, "optimizer = { kind = \"adam\" }", "random_erasing = 0.5\nbrightness = 0.2"),
        ("resnet", RESNET, SIZES, "mixup = 0.2\ncutmix = 1.0"),
        ("fine-tuning", RESNET, FINE_TUNING, ""),
        ("muon", RESNET, "optimizer = { kind = \"muon\", lr = 1e-3 }", ""),
    ] {
        fs_err::write(folder.join("small.toml"), config(model, recipe, augment)).unwrap();
        let (eager, graph) = (format!("{name}-eager"), format!("{name}-graph"));
        let (_, _) = counted(device, folder, &train(&eager, "train.cuda_graph=false"), &[]);
        let (done, report) = counted(device, folder, &train(&graph, "train.cuda_graph=true"), &[]);
        assert!(!done.stderr.contains("CUDA graphs are not used"), "{name}: {}", done.all());
        report.assert_clean(name);
        assert_eq!(timeless_metrics(&folder.join(&graph)), timeless_metrics(&folder.join(&eager)), "{name}");
        let weights = |run: &str| tensors(&folder.join(run).join("last.safetensors"));
        assert_eq!(weights(&graph), weights(&eager), "{name}");
        assert!(graph_steps(&report) >= 12, "{name}: {:?}", report.counts("launches"));
    }
}

/// A graph has memory of its own; without it, the run fits.
#[test]
fn a_graph_that_does_not_fit_is_not_used() {
    let Some(device) = device_a("a_graph_that_does_not_fit_is_not_used") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    // Half more than is enough without a graph: the stream of graphs has blocks of its own.
    let mut memory = 1u64 << 20;
    let memory = loop {
        let text = memory.to_string();
        let out = format!("eager-{memory}");
        if run(device, folder, &train(&out, "train.cuda_graph=false"), &[("CUDA_SIM_MEMORY", &text)]).code == 0 {
            fs_err::rename(folder.join(&out), folder.join("eager")).unwrap();
            break (memory + memory / 2).to_string();
        }
        assert!(memory < 1 << 30, "the network never fits");
        memory += memory / 10;
    };
    let done = run(device, folder, &train("graph", "train.cuda_graph=true"), &[("CUDA_SIM_MEMORY", &memory)]);
    assert_eq!(done.code, 0, "{memory} bytes: {}", done.all());
    assert!(
        done.stderr.contains("CUDA graphs are not used") && done.stderr.contains("out of memory"),
        "{}",
        done.all()
    );
    assert_eq!(timeless_metrics(&folder.join("graph")), timeless_metrics(&folder.join("eager")));
}

/// Steps that are only a launch of a graph, with the two of its random numbers.
fn graph_steps(report: &Report) -> usize {
    report.counts("launches").into_iter().filter(|launches| (1..=3).contains(launches)).count()
}

/// The graph of an interrupted run is recorded anew, and it continues exactly.
#[test]
fn a_run_with_graphs_resumes_exactly() {
    let Some(device) = device_a("a_run_with_graphs_resumes_exactly") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    let on = "train.cuda_graph=true";
    assert_eq!(run(device, folder, &train("whole", on), &[]).code, 0);
    let part = [&train("parts", on)[..], &["--set", "train.epochs=3"]].concat();
    assert_eq!(run(device, folder, &part, &[]).code, 0);
    assert_eq!(run(device, folder, &[&train("parts", on)[..], &["--resume"]].concat(), &[]).code, 0);
    assert_eq!(timeless_metrics(&folder.join("parts")), timeless_metrics(&folder.join("whole")));
}

/// Killed within an epoch, and by a divergence rolled back, a run with graphs resumes at the right
/// step.
#[test]
fn graphs_follow_a_resumed_and_a_rolled_back_run() {
    let Some(device) = device_a("graphs_follow_a_resumed_and_a_rolled_back_run") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    let recipe = "checkpoint_every = { steps = 3 }\nema = 0.9";
    fs_err::write(folder.join("small.toml"), config(CNN, recipe, "mixup = 0.2")).unwrap();
    let on = "train.cuda_graph=true";
    assert_eq!(run(device, folder, &train("whole", on), &[]).code, 0);
    // Some step within an epoch: the newest checkpoint is at most three steps old.
    let variables = device.environment().iter().map(|(name, value)| (name, value));
    let mut child = command(folder, &train("killed", on)).envs(variables).stderr(Stdio::null()).spawn().unwrap();
    let metrics = folder.join("killed/metrics.jsonl");
    let start = Instant::now();
    while fs_err::read_to_string(&metrics).unwrap_or_default().lines().count() < 4 {
        assert!(start.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = run(device, folder, &[&train("killed", on)[..], &["--resume"]].concat(), &[]);
    assert_eq!(done.code, 0, "{}", done.all());
    assert_eq!(timeless_metrics(&folder.join("killed")), timeless_metrics(&folder.join("whole")));
    // Diverges, and is rolled back as without graphs.
    let diverging = "optimizer = { kind = \"sgd\", lr = 100.0, momentum = 0.99 }\nmax_rollbacks = 8";
    let model = format!("{}\nnormalization = false\nactivation = \"leaky_relu\"", CNN.replace("0.5", "0.0"));
    fs_err::write(folder.join("small.toml"), config(&model, diverging, "")).unwrap();
    let [with, without] = ["true", "false"].map(|graph| {
        let set = format!("train.cuda_graph={graph}");
        let done = run(device, folder, &train(graph, &set), &[]);
        let lines: Vec<String> =
            done.stderr.lines().filter(|line| line.contains("rolled back to")).map(str::to_owned).collect();
        (done.code, lines)
    });
    assert!(with.1.len() > 4, "{with:?}");
    assert_eq!(with, without);
}

#[test]
fn graphs_work_on_every_device_and_not_with_a_profile() {
    let Some(device) = device_a("graphs_work_on_every_device_and_not_with_a_profile") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    let second = train("second", "train.cuda_graph=true")
        .map(|word| if word == "device=cuda:0" { "device=cuda:1" } else { word });
    let (done, report) = counted(device, folder, &second, &[("CUDA_SIM_DEVICES", "2")]);
    assert!(!done.stderr.contains("CUDA graphs are not used"), "{}", done.all());
    assert!(graph_steps(&report) >= 12, "{:?}", report.counts("launches"));
    let profiled = [&train("profiled", "train.cuda_graph=true")[..], &["--profile"]].concat();
    let done = run(device, folder, &profiled, &[]);
    assert!(done.code == 0 && done.stderr.contains("--profile times the phases of a step"), "{}", done.all());
    assert!(!done.stderr.contains("panicked"), "{}", done.all());
}

#[test]
fn a_graph_that_fails_or_computes_something_else_is_not_used() {
    let Some(device) = device_a("a_graph_that_fails_or_computes_something_else_is_not_used") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    assert_eq!(run(device, folder, &train("eager", "train.cuda_graph=false"), &[]).code, 0);
    for (fault, reason) in [
        ("refuse", "a step cannot be recorded: CUDA error: operation not supported"),
        ("wrong", "the results of a graph differ from those of a step without one by"),
    ] {
        let done = run(device, folder, &train(fault, "train.cuda_graph=true"), &[("CUDA_SIM_GRAPH", fault)]);
        assert_eq!(done.code, 0, "{fault}: {}", done.all());
        assert_eq!(done.stderr.matches("warning: CUDA graphs are not used: ").count(), 1, "{}", done.all());
        assert!(done.stderr.contains(reason), "{fault}: {}", done.all());
        assert_eq!(loss_difference(&folder.join(fault), &folder.join("eager")), 0.0, "{fault}");
    }
}

#[test]
fn a_step_is_three_launches_on_libtorchs_own_graphs() {
    let Some(device) = device_b("a_step_is_three_launches_on_libtorchs_own_graphs") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 190);
    for (model, precision) in [(CNN, "f32"), (RESNET, "bf16")] {
        fs_err::write(folder.join("small.toml"), config(model, SIZES.split_once('\n').unwrap().1, "mixup = 0.2"))
            .unwrap();
        let set = format!("precision={precision}");
        let args = [&train(precision, "train.cuda_graph=true")[..], &["--set", &set]].concat();
        let (done, report) = counted(device, folder, &args, &[]);
        assert!(!done.stderr.contains("CUDA graphs are not used"), "{precision}: {}", done.all());
        report.assert_clean(precision);
        let (launches, syncs) = (report.counts("launches"), report.counts("syncs"));
        // 32 steps of full batches and 8 smaller ones; each shape has two steps without a graph and
        // three that are computed both ways; ends of epochs belong to the smaller steps.
        let replays = launches.iter().zip(&syncs).filter(|(launches, syncs)| **launches <= 3 && **syncs == 0).count();
        assert!(replays >= 20, "{precision}: {launches:?}");
    }
    let done = run(device, folder, &train("refused", "train.cuda_graph=true"), &[("CUDA_SIM_GRAPH", "refuse")]);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stderr.contains("a step cannot be recorded"), "{}", done.all());
}
