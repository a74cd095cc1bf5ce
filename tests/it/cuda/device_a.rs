//! Results on device A against the CPU, and the life of a run on it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{config, counted, device_a, loss_difference, run, small_data};
use crate::common::{TORCHVISION, command, good, grimace, json, text, timeless_metrics, workshop};

const CNN: &str = "kind = \"cnn\"\nfilters = [8, 16]\ndense = [12]\ndropout = 0.0";
const VGG: &str = "kind = \"vgg\"\nfilters = [6, 8]\nconvolutions = 1\ndense = [10]\ndropout = 0.0";
const RESNET: &str = "kind = \"resnet\"\nstem = 6\nwidths = [8, 12]\nblocks = [1, 1]\nsqueeze = 4\ndropout = 0.0\nstochastic_depth = 0.0";

/// Plain SGD, whose update is proportional to the gradient: Adam's first steps are its signs, which
/// rounding changes.
const SGD: &str = "optimizer = { kind = \"sgd\", lr = 0.02, momentum = 0.0, nesterov = false }";

/// Name, model, training, augmentation. Every architecture, optimizer, loss and augmentation.
fn recipes() -> Vec<(&'static str, String, String, &'static str)> {
    let cnn = |more: &str| format!("{CNN}\n{more}");
    let sgd = |more: &str| format!("{SGD}\n{more}");
    let nesterov = "optimizer = { kind = \"sgd\", lr = 0.01, momentum = 0.9, nesterov = true, weight_decay = 1e-3 }";
    let adamw = "optimizer = { kind = \"adamw\", lr = 1e-3, weight_decay = 0.05 }\nema = 0.9";
    let off = "rotate = 0.0\nshift = 0.0\nzoom = 0.0\nflip = false";
    vec![
        ("adam", cnn(""), String::new(), ""),
        ("cnn", cnn(""), sgd(""), ""),
        ("two convolutions, average pooling", cnn("convolutions = 2\npooling = \"average\""), sgd(""), ""),
        ("no norm", cnn("normalization = false\npadding = \"same\"\nactivation = \"elu\""), sgd(""), ""),
        ("gelu", cnn("activation = \"gelu\""), sgd(""), ""),
        ("silu", cnn("activation = \"silu\""), sgd(""), ""),
        ("leaky_relu", cnn("activation = \"leaky_relu\""), sgd(""), ""),
        ("vgg", VGG.into(), nesterov.into(), ""),
        ("resnet, adamw", RESNET.into(), adamw.into(), ""),
        ("muon", RESNET.into(), "optimizer = { kind = \"muon\", lr = 1e-3 }".into(), ""),
        ("progressive", RESNET.into(), sgd("progressive = { from = 32, until = 0.9 }"), ""),
        ("torchvision, layer decay", TORCHVISION.into(), sgd("layer_decay = 0.5\nclip_norm = 0.5"), ""),
        ("frozen", RESNET.into(), format!("{adamw}\nfreeze = [\"stem\", \"stage1\"]\nlayer_decay = 0.5"), ""),
        ("frozen in the middle", cnn(""), sgd("freeze = [\"block2\"]"), ""),
        ("no augmentation, clipping", cnn(""), sgd("clip_norm = 0.5"), off),
        ("crop, erasing", cnn(""), sgd("label_smoothing = 0.1"), "crop = 0.5\nrandom_erasing = 1.0"),
        ("jitter", cnn(""), sgd(""), "brightness = 0.3\ncontrast = 0.3\ngamma = 0.2"),
        ("mixup, class weights", cnn(""), sgd("class_weights = \"balanced\""), "mixup = 0.4"),
        ("cutmix, balanced sampling", cnn(""), sgd("sampling = \"balanced\""), "cutmix = 1.0"),
        ("mixup or cutmix, smoothing", cnn(""), sgd("label_smoothing = 0.1"), "mixup = 0.4\ncutmix = 1.0"),
    ]
}

/// One step an epoch: over more steps rounding grows. Differences of the losses are at most 1e-5
/// with SGD and 1e-4 with Adam.
#[test]
fn every_recipe_trains_as_on_the_cpu() {
    let Some(device) = device_a("every_recipe_trains_as_on_the_cpu") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    let mut differences = Vec::new();
    for (number, (name, model, train, augment)) in recipes().into_iter().enumerate() {
        fs_err::write(folder.join("small.toml"), config(&model, &train, augment)).unwrap();
        let (cpu, cuda) = (format!("cpu{number}"), format!("cuda{number}"));
        let args = ["train", "small.toml", "--out", &cpu];
        let done = command(folder, &args).env("GRIMACE_KERNELS", "none").output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let args = ["train", "small.toml", "--set", "device=cuda:0", "--out", &cuda];
        let (_, report) = counted(device, folder, &args, &[]);
        report.assert_clean(name);
        differences.push((name, loss_difference(&folder.join(&cpu), &folder.join(&cuda))));
        assert_eq!(json(folder.join(&cuda).join("summary.json"))["device"], "cuda:0");
    }
    println!("{differences:?}");
    for (name, difference) in &differences {
        // Most differ by 1e-6. With Adam, or when rounding decides a max pooling, it is more.
        assert!(*difference <= 1e-4, "{name}: the losses differ by {difference}; {differences:?}");
    }
}

/// Soft labels replace the targets, alone and mixed.
#[test]
fn soft_labels_train_as_on_the_cpu() {
    let Some(device) = device_a("soft_labels_train_as_on_the_cpu") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    let labels = workshop().join("run");
    let predict = ["predict", labels.to_str().unwrap(), "--data", "small.csv", "--out", "soft.csv", "--probabilities"];
    good(folder, &predict);
    for (name, augment) in [("alone", ""), ("mixed", "mixup = 0.4\ncutmix = 1.0")] {
        let train = format!("{SGD}\nsoft_label_weight = 0.7");
        fs_err::write(folder.join("small.toml"), config(CNN, &train, augment)).unwrap();
        let (cpu, cuda, graph) = (format!("{name}-cpu"), format!("{name}-cuda"), format!("{name}-graph"));
        let soft = ["train", "small.toml", "--set", "data.soft_labels=soft.csv", "--out"];
        let done = command(folder, &[&soft[..], &[&cpu]].concat()).env("GRIMACE_KERNELS", "none").output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let on_device = [&soft[..], &[&cuda, "--set", "device=cuda:0"]].concat();
        let (_, report) = counted(device, folder, &on_device, &[]);
        report.assert_clean(name);
        let difference = loss_difference(&folder.join(&cpu), &folder.join(&cuda));
        // The rounding of the first step changes the second.
        assert!(difference <= 5e-5, "{name}: the losses differ by {difference}");
        // Several steps an epoch, as a graph and without.
        let batch = ["--set", "device=cuda:0", "--set", "train.batch=32", "--set", "train.epochs=4"];
        let eager = format!("{name}-eager");
        counted(device, folder, &[&soft[..], &[&eager], &batch[..]].concat(), &[]);
        let on = ["--set", "train.cuda_graph=true"];
        let (done, _) = counted(device, folder, &[&soft[..], &[&graph], &batch[..], &on[..]].concat(), &[]);
        assert!(!done.stderr.contains("CUDA graphs are not used"), "{name}: {}", done.all());
        assert_eq!(timeless_metrics(&folder.join(&graph)), timeless_metrics(&folder.join(&eager)), "{name}");
    }
}

#[test]
fn a_step_never_waits_for_the_device() {
    let Some(device) = device_a("a_step_never_waits_for_the_device") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_data(folder.path(), 200);
    let recipe = "clip_norm = 1.0\nema = 0.9\nclass_weights = \"balanced\"";
    let augment = "brightness = 0.2\nrandom_erasing = 0.5\ncrop = 0.3\nmixup = 0.2\ncutmix = 1.0";
    let resnet = RESNET.replace("stochastic_depth = 0.0", "stochastic_depth = 0.3");
    for precision in ["f32", "bf16"] {
        fs_err::write(folder.path().join("small.toml"), config(&resnet, recipe, augment)).unwrap();
        let sets = format!("--set device=cuda:0 --set precision={precision} --set train.batch=32 --out {precision}");
        let args: Vec<&str> = ["train", "small.toml"].into_iter().chain(sets.split(' ')).collect();
        let (_, report) = counted(device, folder.path(), &args, &[]);
        report.assert_clean(precision);
        let syncs = report.counts("syncs");
        // Five steps an epoch: the fifth has the end of the epoch.
        assert_eq!(syncs.len(), 11, "one segment before the first step, then one for each");
        let within: Vec<u64> = (1..10).filter(|step| *step != 5).map(|step| syncs[step]).collect();
        assert_eq!(within, [0; 8], "{precision}: {syncs:?}");
        assert!(syncs[5] <= 10, "{precision}: the end of an epoch waits {} times", syncs[5]);
    }
}

/// Trains until two epochs are finished, and kills the process.
fn start_and_kill(device: &cuda_sim::Device, folder: &Path, args: &[&str], run_dir: &str) {
    let variables = device.environment().iter().map(|(name, value)| (name, value));
    let mut child = command(folder, args).envs(variables).stderr(std::process::Stdio::null()).spawn().unwrap();
    let metrics = folder.join(run_dir).join("metrics.jsonl");
    let start = Instant::now();
    while fs_err::read_to_string(&metrics).unwrap_or_default().lines().count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(120), "no epoch finishes");
        assert!(child.try_wait().unwrap().is_none(), "it finished before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_run_resumes_and_its_weights_serve_on_both_devices() {
    let Some(device) = device_a("a_killed_run_resumes_and_its_weights_serve_on_both_devices") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 200);
    let model = CNN.replace("dropout = 0.0", "dropout = 0.3");
    let train = "ema = 0.9\ncheckpoint_every = { epochs = 1, steps = 2 }\nmax_rollbacks = 1";
    fs_err::write(folder.join("small.toml"), config(&model, train, "mixup = 0.2")).unwrap();
    let sets = ["--set", "device=cuda:0", "--set", "train.batch=32", "--set", "train.epochs=8"];
    let train = |out: &'static str| [&["train", "small.toml", "--out", out], &sets[..]].concat();
    let done = run(device, folder, &train("whole"), &[]);
    assert_eq!(done.code, 0, "{}", done.all());
    start_and_kill(device, folder, &train("killed"), "killed");
    let done = run(device, folder, &[&train("killed")[..], &["--resume"]].concat(), &[]);
    assert_eq!(done.code, 0, "{}", done.all());
    assert_eq!(timeless_metrics(&folder.join("killed")), timeless_metrics(&folder.join("whole")));
    let weights = |run: &str| crate::common::tensors(&folder.join(run).join("last.safetensors"));
    assert_eq!(weights("killed"), weights("whole"), "bit for bit");
    // Inference.
    let predict = |out: &'static str, device_name: &'static str| {
        ["predict", "whole", "--data", "small.csv", "--tta", "ten_crop", "--out", out, "--device", device_name]
    };
    assert_eq!(grimace(folder, &predict("cpu.csv", "cpu")).code, 0);
    let done = run(device, folder, &predict("cuda.csv", "cuda:0"), &[]);
    assert_eq!(done.code, 0, "{}", done.all());
    assert_eq!(text(folder.join("cpu.csv")), text(folder.join("cuda.csv")));
    let evaluate = ["evaluate", "whole", "--data", "small.csv", "--json", "--device"];
    let cpu = grimace(folder, &[&evaluate[..], &["cpu"]].concat()).json();
    let cuda = run(device, folder, &[&evaluate[..], &["cuda:0"]].concat(), &[]).json();
    assert_eq!(cpu["accuracy"], cuda["accuracy"]);
    let done = run(device, folder, &["export", "whole", "--out", "model.pt"], &[]);
    assert_eq!(done.code, 0, "{}", done.all());
    // On the CPU a run of a GPU continues.
    let more =
        ["train", "small.toml", "--out", "whole", "--resume", "--set", "train.epochs=9", "--set", "train.batch=32"];
    let done = grimace(folder, &more);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stderr.contains("cuda:0, f32 before, cpu, f32 now"), "{}", done.all());
}

#[test]
fn a_diverging_run_rolls_back() {
    let Some(device) = device_a("a_diverging_run_rolls_back") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_data(folder.path(), 200);
    let train = "optimizer = { kind = \"sgd\", lr = 100.0, momentum = 0.99 }\nmax_rollbacks = 2";
    fs_err::write(
        folder.path().join("small.toml"),
        config(&format!("{CNN}\nnormalization = false\nactivation = \"leaky_relu\""), train, ""),
    )
    .unwrap();
    let sets = ["--set", "device=cuda:0", "--set", "train.batch=4", "--set", "train.epochs=40"];
    let done = run(device, folder.path(), &[&["train", "small.toml", "--out", "run"], &sets[..]].concat(), &[]);
    assert_eq!(done.code, 1, "{}", done.all());
    for part in ["rolled back to the start", "rollback 2 of 2", "2 rollbacks did not help"] {
        assert!(done.stderr.contains(part), "{part:?}: {}", done.all());
    }
}

#[test]
fn a_sweep_uses_every_device_and_keeps_those_that_are_set() {
    let Some(device) = device_a("a_sweep_uses_every_device_and_keeps_those_that_are_set") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    for (name, placed) in [("one", "cpu"), ("two", "cuda:1"), ("three", "auto"), ("four", "auto")] {
        let text =
            config(CNN, "", "").replace("\"small\"", &format!("{name:?}")).replace("\"cpu\"", &format!("{placed:?}"));
        fs_err::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
    let configs = ["one.toml", "two.toml", "three.toml", "four.toml"];
    let devices = |out: &str| {
        ["one", "two", "three", "four"].map(|name| {
            let summary = json(folder.join(out).join(format!("{name}-seed42")).join("summary.json"));
            summary["device"].as_str().unwrap().to_owned()
        })
    };
    let done = run(device, folder, &[&["sweep", "--out", "two"], &configs[..]].concat(), &[("CUDA_SIM_DEVICES", "2")]);
    assert_eq!(done.code, 0, "{}", done.all());
    let found = devices("two");
    assert_eq!((found[0].as_str(), found[1].as_str()), ("cpu", "cuda:1"));
    assert!(found[2..].iter().all(|name| name.starts_with("cuda:")), "{found:?}");
    // In one process: training on the CPU first must not lose CUDA.
    let done = run(
        device,
        folder,
        &[&["sweep", "--out", "one", "--parallel", "1"], &configs[..1], &configs[2..]].concat(),
        &[],
    );
    assert_eq!(done.code, 0, "{}", done.all());
    let summary = json(folder.join("one/three-seed42/summary.json"));
    assert_eq!(summary["device"], "cuda:0", "{}", done.all());
}

/// The export uses the CPU, and libtorch looks for CUDA only once.
#[test]
fn an_ensemble_is_evaluated_on_the_device_and_exported() {
    let Some(device) = device_a("an_ensemble_is_evaluated_on_the_device_and_exported") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    for (out, seed) in [("one", "seed=1"), ("two", "seed=2")] {
        assert_eq!(run(device, folder, &["train", "small.toml", "--set", seed, "--out", out], &[]).code, 0);
    }
    let ensemble = ["ensemble", "one", "two", "--data", "small.csv", "--device", "cuda:0", "--out", "model.pt"];
    let (done, report) = counted(device, folder, &ensemble, &[]);
    assert!(folder.join("model.pt").is_file() && done.stdout.contains("120 images"), "{}", done.all());
    assert!(report.counts("launches").iter().sum::<u64>() > 0, "it ran on the CPU");
    let wrong = ensemble.map(|word| word.replace("cuda:0", "cuda:5").replace("model", "other"));
    assert_eq!(run(device, folder, &wrong.each_ref().map(String::as_str), &[]).code, 2);
    assert!(!folder.join("other.pt").exists() && !folder.join("other.json").exists(), "it was written");
}

#[test]
fn float32_is_tf32_only_on_request_and_never_in_validation() {
    let Some(device) = device_a("float32_is_tf32_only_on_request_and_never_in_validation") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    let train = |out: &str, precision: &str, tf32: &str| {
        let set = format!("precision={precision}");
        let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", &set, "--out", out];
        let done = run(device, folder, &args, &[("CUDA_SIM_TF32", tf32)]);
        assert_eq!(done.code, 0, "{}", done.all());
    };
    train("exact", "f32", "0");
    train("f32", "f32", "1");
    train("tf32", "tf32", "1");
    let path = |name: &str| folder.join(name);
    assert_eq!(loss_difference(&path("exact"), &path("f32")), 0.0, "f32 does not round");
    let difference = loss_difference(&path("exact"), &path("tf32"));
    assert!(difference > 1e-7 && difference < 1e-2, "training in TF32 rounds: {difference}");
    assert_eq!(json(path("tf32").join("summary.json"))["precision"], "tf32");
    // Validation of the same weights without TF32.
    let last = ["evaluate", "tf32", "--data", "small.csv", "--json", "--device"];
    let exact = run(device, folder, &[&last[..], &["cuda:0"]].concat(), &[]).json();
    let rounded = run(device, folder, &[&last[..], &["cuda:0"]].concat(), &[("CUDA_SIM_TF32", "1")]).json();
    assert_eq!(exact["loss"], rounded["loss"]);
    let refused = grimace(folder, &["train", "small.toml", "--set", "precision=tf32", "--out", "no"]);
    assert!(refused.code == 2 && refused.stderr.contains("cpu has no TF32"), "{}", refused.all());
    let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", "precision=tf32", "--out", "no"];
    let refused = run(device, folder, &args, &[("CUDA_SIM_CAPABILITY", "75")]);
    assert!(refused.code == 2 && refused.stderr.contains("cuda:0 has no TF32"), "{}", refused.all());
}

#[test]
fn too_little_memory_is_an_error_without_a_stack_trace() {
    let Some(device) = device_a("too_little_memory_is_an_error_without_a_stack_trace") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 200);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    // 5 MB: the images fit, a step does not.
    let args = ["train", "small.toml", "--set", "device=cuda:0", "--out", "run"];
    let done = run(device, folder, &args, &[("CUDA_SIM_MEMORY", "5000000")]);
    assert_eq!(done.code, 1, "{}", done.all());
    assert!(
        done.stderr.contains("use a smaller train.batch") && done.stderr.contains("out of memory"),
        "{}",
        done.all()
    );
    assert!(
        !done.stderr.contains("frame #") && !text(folder.join("run/log.txt")).contains("frame #"),
        "{}",
        done.all()
    );
    // Smaller batches train; validation, of all 50 images at once, is halved until it fits.
    let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", "train.batch=2", "--out", "two"];
    let (_, report) = counted(device, folder, &args, &[]);
    let peak = report.0["peak_bytes"][0].as_u64().unwrap();
    let tight = (peak - peak / 8).to_string();
    let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", "train.batch=2", "--out", "tight"];
    let done = run(device, folder, &args, &[("CUDA_SIM_MEMORY", tight.as_str())]);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(loss_difference(&folder.join("two"), &folder.join("tight")) < 1e-6);
}

#[test]
fn a_device_that_does_not_exist_is_an_input_error() {
    let Some(device) = device_a("a_device_that_does_not_exist_is_an_input_error") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_data(folder.path(), 120);
    fs_err::write(folder.path().join("small.toml"), config(CNN, "", "")).unwrap();
    for name in ["cuda:1", "cuda:18446744073709551615"] {
        let set = format!("device={name}");
        let done = run(device, folder.path(), &["train", "small.toml", "--set", &set, "--out", "run"], &[]);
        assert_eq!(done.code, 2, "{name}: {}", done.all());
        assert!(done.stderr.contains(name) && done.stderr.contains("1 CUDA device, cuda:0"), "{name}: {}", done.all());
    }
    let none =
        run(device, folder.path(), &["train", "small.toml", "--set", "device=cuda:0"], &[("CUDA_SIM_DEVICES", "0")]);
    assert!(none.code == 2 && none.stderr.contains("reports no device"), "{}", none.all());
    let missing = [("GRIMACE_CUDA_LIBRARY", "/nonexistent/libtorch_cuda.so")];
    let none = run(device, folder.path(), &["train", "small.toml", "--set", "device=cuda:0"], &missing);
    assert!(none.code == 2 && none.stderr.contains("GRIMACE_CUDA_LIBRARY=/nonexistent"), "{}", none.all());
}

#[test]
fn doctor_compares_a_device_with_the_cpu() {
    let Some(device) = device_a("doctor_compares_a_device_with_the_cpu") else { return };
    let folder = tempfile::tempdir().unwrap();
    let done = run(device, folder.path(), &["doctor", "--device", "cuda:0"], &[]);
    assert_eq!(done.code, 0, "{}", done.all());
    for part in ["Simulated CUDA device (A)", "compute capability 9.0, bf16", "cuda:0 against the CPU", "13.0, 13.0"] {
        assert!(done.stdout.contains(part), "{part:?}: {}", done.all());
    }
    let done =
        run(device, folder.path(), &["doctor", "--device", "cuda:0", "--json"], &[("CUDA_SIM_CAPABILITY", "75")]);
    assert_eq!(done.code, 0, "{}", done.all());
    let found = done.json();
    assert_eq!(found["cuda_devices"][0]["capability"], "7.5");
    let precisions: Vec<&str> =
        found["comparison"].as_array().unwrap().iter().map(|one| one["precision"].as_str().unwrap()).collect();
    assert_eq!(precisions, ["f32"], "no bf16 on this device");
    let done = run(device, folder.path(), &["doctor", "--device", "cuda:1"], &[]);
    assert!(done.code == 2 && done.stderr.contains("1 CUDA device"), "{}", done.all());
    for (name, reason) in [("cpu", "give a GPU"), ("auto", "there is no GPU to compare with the CPU")] {
        let done = run(device, folder.path(), &["doctor", "--device", name], &[("CUDA_SIM_DEVICES", "0")]);
        assert!(done.code == 2 && done.stderr.contains(reason), "{}", done.all());
    }
}

/// A full disk stops training when the thread that writes checkpoints notices, and the first
/// checkpoint is on disk before training starts.
#[test]
fn a_checkpoint_that_cannot_be_written_stops_the_run() {
    let Some(device) = device_a("a_checkpoint_that_cannot_be_written_stops_the_run") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 200);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    let program = env!("CARGO_BIN_EXE_grimace");
    // Files of at most 16 blocks of 512 bytes.
    let script =
        format!("ulimit -f 16; exec {program} train small.toml --set device=cuda:0 --set train.epochs=50 --out full");
    let mut shell = std::process::Command::new("bash");
    shell.current_dir(folder).args(["-c", &script]);
    shell.envs(device.environment().iter().map(|(name, value)| (name, value)));
    let done: crate::common::Done = shell.output().unwrap().into();
    assert_eq!(done.code, 1, "{}", done.all());
    assert!(done.stderr.contains("last.safetensors") && !done.stderr.contains("epoch   1/50"), "{}", done.all());
    // The directory can be used again.
    let again = ["train", "small.toml", "--set", "device=cuda:0", "--out", "full"];
    let done = run(device, folder, &again, &[]);
    assert_eq!(done.code, 0, "{}", done.all());
}
