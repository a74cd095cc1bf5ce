//! Starting from weights: `train.init`, `train.freeze` and `train.layer_decay` through the command
//! line.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Done, TINY, bad, bench, good, json, python, tensors, text, timeless_metrics, workshop};

/// A learning rate that changes no weight in float32, so that a run shows what it started from.
const STILL: &str = "train.optimizer={kind=\"adam\", lr=1e-30}";

/// torchvision's ResNet, with its number of blocks for each stage.
fn torchvision(blocks: &str) -> String {
    format!(
        "kind = \"resnet\"\ninput = \"imagenet\"\nstem = 64\nstem_kernel = 7\nstem_stride = 2\nstem_pool = \"3x3\"\n\
         widths = [64, 128, 256, 512]\nblocks = {blocks}\ndownsample = \"stride\"\nsqueeze = 0"
    )
}

/// [`TINY`] with another network and more keys of `[train]`.
fn config(model: &str, train: &str) -> String {
    let data = TINY.split("[model]").next().unwrap();
    format!("{data}[model]\n{model}\n[train]\nepochs = 1\nbatch = 64\n{train}\n")
}

/// Whether Python has torch; prints that the test is skipped if not.
fn has_torch(test: &str) -> bool {
    let found = Command::new(python()).args(["-c", "import torch"]).output().unwrap().status.success();
    if !found {
        println!("skipped {test}: {} has no torch; install it with pip", python().display());
    }
    found
}

/// Tensors of a checkpoint or of torchvision's file, by name.
fn tensor(all: &[(String, Vec<u8>)], name: &str) -> Vec<u8> {
    all.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The first `rows` training images as `small.csv`.
fn small_data(folder: &Path, rows: usize) {
    let all = text(folder.join("data/my_emotion_train.csv"));
    let lines: String = all.split_inclusive('\n').take(rows + 1).collect();
    fs_err::write(folder.join("small.csv"), lines).unwrap();
}

/// Logarithms of the probabilities of a CSV, whose first `skip` columns have none.
fn log_probabilities(csv: &str, skip: usize) -> Vec<f64> {
    let rows = csv.lines().filter(|line| !line.starts_with("id,"));
    rows.flat_map(|line| line.split(',').skip(skip).map(|cell| cell.parse::<f64>().unwrap().ln())).collect()
}

/// Initial weights from a file with random weights of torchvision's ResNet give PyTorch's outputs,
/// and a run that has trained only the last layer, without effect, is exported and explained.
fn gives_pytorchs_outputs(depth: &str, blocks: &str, parameters: &str) {
    let bench = bench();
    let folder = bench.path();
    small_data(folder, 40);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/torchvision_resnet.py");
    let mut command = Command::new(python());
    command.current_dir(folder).arg(script).args([depth, "7", "small.csv", "resnet.safetensors", "expected.csv"]);
    let done: Done = command.output().unwrap().into();
    assert_eq!((done.code, done.stdout.trim()), (0, parameters), "{}", done.all());

    let train = "init = \"resnet.safetensors\"\nfreeze = [\"stem\", \"stage1\", \"stage2\", \"stage3\", \"stage4\"]";
    fs_err::write(folder.join("resnet.toml"), config(&torchvision(blocks), train)).unwrap();
    let set = ["--set", "data.train=small.csv", "--set", STILL];
    let done = good(folder, &[&["train", "resnet.toml", "--out", "run"], &set[..]].concat());
    for part in
        ["(torchvision's ResNet), BLAKE3 ", "of the last layer all rows in their order", "num_batches_tracked of "]
    {
        assert!(done.stderr.contains(part), "{part}: {}", done.all());
    }
    assert!(!done.stderr.contains("so new"), "{}", done.all());
    assert_eq!(json(folder.join("run/summary.json"))["parameters"].to_string(), parameters);

    // Every tensor, bit for bit; the constants of the input are Grimace's own.
    let (theirs, ours) = (tensors(&folder.join("resnet.safetensors")), tensors(&folder.join("run/best.safetensors")));
    assert_eq!(ours.len() - 2, theirs.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).count());
    for (their_name, our_name) in [
        ("conv1.weight", "stem.conv.weight"),
        ("layer2.0.downsample.1.running_var", "stage2.block1.shortcut.norm.running_var"),
        ("layer4.1.bn2.bias", "stage4.block2.norm2.bias"),
        ("fc.weight", "output.weight"),
    ] {
        assert_eq!(tensor(&theirs, their_name), tensor(&ours, our_name), "{our_name}");
    }
    let predict =
        ["predict", "run", "--data", "small.csv", "--out", "found.csv", "--probabilities", "--no-calibration"];
    good(folder, &predict);
    let found = log_probabilities(&text(folder.join("found.csv")), 2);
    let expected = log_probabilities(&text(folder.join("expected.csv")), 0);
    assert_eq!((found.len(), expected.len()), (40 * 7, 40 * 7));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "the logits differ by {worst}");

    // Both formats are verified against the network before they are written.
    fs_err::create_dir(folder.join("onnx")).unwrap();
    good(folder, &["export", "run", "--out", "model.pt"]);
    good(folder, &["export", "run", "--out", "onnx/model.onnx"]);
    let exported = json(folder.join("model.json"));
    assert_eq!(exported["provenance"]["init"]["path"], "resnet.safetensors");
    let hash = exported["provenance"]["init"]["hash"].as_str().unwrap();
    let card = text(folder.join("MODEL_CARD.md"));
    assert!(card.contains(&format!("| initial weights | resnet.safetensors, BLAKE3 {hash}; ")), "{card}");
    let explain = ["explain", "run", "--data", "small.csv", "--out", "sheet.png", "--limit", "3"];
    good(folder, &explain);
}

#[test]
fn a_resnet_18_of_torchvision_gives_pytorchs_outputs() {
    if has_torch("a_resnet_18_of_torchvision_gives_pytorchs_outputs") {
        // torchvision's 11,689,512 with 7 classes instead of 1000.
        gives_pytorchs_outputs("18", "[2, 2, 2, 2]", "11180103");
    }
}

#[test]
fn a_resnet_34_of_torchvision_gives_pytorchs_outputs() {
    if has_torch("a_resnet_34_of_torchvision_gives_pytorchs_outputs") {
        gives_pytorchs_outputs("34", "[3, 4, 6, 3]", "21288263");
    }
}

/// Class 6 has another name, so its row is new; frozen layers keep every value.
#[test]
fn a_run_gives_its_weights_and_the_rows_of_its_classes() {
    let bench = bench();
    let folder = bench.path();
    let run = workshop().join("run");
    let set_init = format!("train.init={}", run.display());
    let classes = "data.classes=[\"angry\", \"disgust\", \"fear\", \"happy\", \"sad\", \"surprise\", \"calm\"]";
    let freeze = "train.freeze=[\"block1\", \"block2\"]";
    let sets = ["--set", &set_init, "--set", classes, "--set", freeze, "--set", "train.ema=0.9"];
    let train = ["train", "tiny.toml", "--set", "train.epochs=2", "--out"];
    let done = good(folder, &[&train[..], &["tuned"], &sets[..]].concat());
    let log = text(folder.join("tuned/log.txt"));
    for part in [
        "took 14 tensors and of the last layer the rows of angry, disgust, fear, happy, sad, surprise; those of calm are new",
        "(run \"tiny\", epoch ",
        "frozen: block1, block2, ",
    ] {
        assert!(log.contains(part) && done.stderr.contains(part), "{part}: {log}");
    }
    let best = tensors(&run.join("best.safetensors"));
    let last = tensors(&folder.join("tuned/last.safetensors"));
    for (name, values) in &best {
        let is_frozen = name.starts_with("block");
        assert_eq!(tensor(&last, name) == *values, is_frozen, "{name}");
        assert_eq!(tensor(&last, &format!("ema.{name}")) == *values, is_frozen, "the EMA of {name}");
        let has_state = last.iter().any(|(other, _)| *other == format!("optimizer.first_moment.{name}"));
        assert_eq!(has_state, !is_frozen, "{name}");
    }

    // Without an effect of training: what the run started from.
    good(folder, &[&train[..], &["still"], &sets[..], &["--set", STILL]].concat());
    let still = tensors(&folder.join("still/last.safetensors"));
    let (before, after) = (tensor(&best, "output.weight"), tensor(&still, "output.weight"));
    let split = before.len() * 6 / 7;
    assert!(before[..split] == after[..split] && before[split..] != after[split..]);
    assert_eq!(tensor(&best, "dense1.weight"), tensor(&still, "dense1.weight"));
    assert!(floats(&tensor(&still, "output.bias"))[6].abs() < 1e-20);

    // The run records the file, and its split is that of the other run.
    let hash = blake3::hash(&fs_err::read(run.join("best.safetensors")).unwrap()).to_hex().to_string();
    let summary = json(folder.join("tuned/summary.json"));
    let init = &summary["provenance"]["init"];
    assert_eq!((&init["hash"], &init["seen_validation_images"]), (&Value::from(hash), &Value::from(0)));
    assert_eq!(summary["warnings"], serde_json::json!([]));
    // Another split validates on images that the weights were trained on.
    let other = ["--set", "data.split_seed=9", "--set", &set_init];
    let done = good(folder, &[&train[..], &["other"], &other[..]].concat());
    let warning = json(folder.join("other/summary.json"))["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("best.safetensors were trained on ") && warning.contains(" of the 120 validation images"));
    assert!(done.stderr.contains(&format!("warning: {warning}")), "{}", done.all());
}

/// A resumed run neither reads the initial weights again nor needs them.
#[test]
fn a_resumed_run_is_exact_without_the_initial_weights() {
    let bench = bench();
    let folder = bench.path();
    fs_err::create_dir(folder.join("source")).unwrap();
    fs_err::copy(workshop().join("run/best.safetensors"), folder.join("source/best.safetensors")).unwrap();
    let recipe = "init = \"source/best.safetensors\"\nfreeze = [\"block1\"]\nlayer_decay = 0.6\nema = 0.9\n\
                  optimizer = { kind = \"adamw\", lr = 3e-3 }\nearly_stop = { patience = 0 }";
    let model = "kind = \"cnn\"\nfilters = [16, 32]\ndense = [16]";
    fs_err::write(folder.join("tune.toml"), config(model, recipe)).unwrap();
    let train = |out: &str, epochs: &str, more: &[&str]| {
        let args = ["train", "tune.toml", "--out", out, "--set", epochs];
        good(folder, &[&args[..], more].concat())
    };
    train("unbroken", "train.epochs=4", &[]);
    train("broken", "train.epochs=2", &[]);
    fs_err::rename(folder.join("source"), folder.join("gone")).unwrap();
    let done = train("broken", "train.epochs=4", &["--resume"]);
    assert!(!done.stderr.contains("initial weights"), "{}", done.all());
    assert!(done.stderr.contains("frozen: block1, "), "{}", done.all());
    assert_eq!(timeless_metrics(&folder.join("broken")), timeless_metrics(&folder.join("unbroken")));
    for name in ["last.safetensors", "best.safetensors"] {
        let read = |run: &str| tensors(&folder.join(run).join(name));
        assert!(read("broken") == read("unbroken"), "{name}");
    }
    let init = |run: &str| json(folder.join(run).join("summary.json"))["provenance"]["init"].clone();
    assert!(init("broken") == init("unbroken") && init("broken")["hash"].as_str().unwrap().len() == 64);
    let resume = ["train", "tune.toml", "--out", "broken", "--resume", "--set", "train.epochs=5", "--set"];
    for (set, part) in [
        ("train.init=gone/best.safetensors", "train.init was \"source/best.safetensors\", now it is \"gone"),
        ("train.freeze=[]", "train.freeze was"),
        ("train.layer_decay=0.5", "train.layer_decay was 0.6, now it is 0.5"),
    ] {
        bad(folder, &[&resume[..], &[set]].concat(), 2, &["cannot resume", part]);
    }
    // A new run needs them.
    bad(folder, &["train", "tune.toml", "--out", "new"], 2, &["train.init = \"source/best", "no such file"]);
    assert!(!folder.join("new").exists());
}

/// With layer-wise decay 0.5 and plain SGD, the first step of each layer is half of the next one's.
#[test]
fn the_learning_rate_decays_by_layer() {
    let bench = bench();
    let folder = bench.path();
    let recipe = "optimizer = { kind = \"sgd\", lr = 1e-3, momentum = 0.0, nesterov = false }\n\
                  schedule = { kind = \"constant\" }\nema = 0.0";
    let model = "kind = \"resnet\"\nstem = 16\nwidths = [16]\nblocks = [2]\nstem_pool = false";
    fs_err::write(folder.join("decay.toml"), config(model, recipe)).unwrap();
    // Of one step, from the same initial weights.
    let weights = |out: &str, lr: &str, decay: &str| {
        let sets = ["--set", lr, "--set", decay, "--set", "train.batch=1024", "--out", out];
        good(folder, &[&["train", "decay.toml"], &sets[..]].concat());
        tensors(&folder.join(out).join("last.safetensors"))
    };
    let start = weights("start", "train.optimizer.lr=1e-30", "train.layer_decay=1");
    let full = weights("full", "train.optimizer.lr=1e-3", "train.layer_decay=1");
    let decayed = weights("decayed", "train.optimizer.lr=1e-3", "train.layer_decay=0.5");
    for (name, factor) in [
        ("output.weight", 1.0),
        ("stage1.block2.conv2.weight", 0.5),
        ("stage1.block1.norm1.bias", 0.25),
        ("stem.conv.weight", 0.125),
    ] {
        let of = |all: &[(String, Vec<u8>)]| floats(&tensor(all, name));
        let distance =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        let ratio = distance(&of(&decayed), &of(&start)) / distance(&of(&full), &of(&start));
        assert!((ratio - factor).abs() < 0.01, "{name}: {ratio} instead of {factor}");
    }
}

#[test]
fn what_cannot_be_started_from_is_an_input_error() {
    let bench = bench();
    let folder = bench.path();
    let train = ["train", "tiny.toml", "--out", "run", "--set"];
    let run = workshop().join("run");
    let init = format!("train.init={}", run.display());
    fs_err::write(folder.join("text.safetensors"), "not safetensors").unwrap();
    fs_err::write(folder.join("empty.safetensors"), "").unwrap();
    fs_err::write(
        folder.join("forest.toml"),
        "name = \"f\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 2\nfolds = 0\n",
    )
    .unwrap();
    good(folder, &["forest", "forest.toml", "--out", "forest"]);
    let cut = fs_err::read(run.join("best.safetensors")).unwrap();
    fs_err::write(folder.join("cut.safetensors"), &cut[..cut.len() - 9]).unwrap();
    let cases: [(&[&str], &[&str]); 13] = [
        (&["train.freeze=[\"block1\", \"stem\"]"], &["train.freeze = [\"stem\"]", "block1, block2, dense1, output"]),
        (&["train.freeze=[\"block1\",\"block2\",\"dense1\",\"output\"]"], &["train.freeze", "one must train"]),
        (&["train.layer_decay=0"], &["train.layer_decay = 0", "above 0, at most 1 (off)"]),
        (&["train.layer_decay=1.5"], &["train.layer_decay = 1.5"]),
        (&["train.init="], &["train.init = \"\"", "a run directory or a file of weights"]),
        (&["train.init=nowhere"], &["train.init = \"nowhere\"", "no such file"]),
        (&["train.init=data"], &["train.init = \"data\"", "data"]),
        (&["train.init=text.safetensors"], &["text.safetensors: corrupt or not a safetensors file"]),
        (&["train.init=empty.safetensors"], &["empty.safetensors: corrupt or not a safetensors file"]),
        (&["train.init=cut.safetensors"], &["cut.safetensors: corrupt or not a safetensors file"]),
        (&["train.init=forest"], &["forest: is a forest run, which has no weights"]),
        (&["train.init=forest/forest.safetensors"], &["its format is \"grimace-forest\""]),
        (&[&init, "--set", "model.filters=[16, 24]"], &["block2.conv.bias has the shape [32]", "of this network [24]"]),
    ];
    for (sets, parts) in cases {
        bad(folder, &[&train[..], sets].concat(), 2, parts);
        assert!(!folder.join("run").exists(), "{sets:?}");
    }
    let other = ["--set", "model={kind=\"resnet\", stem=8, widths=[8], blocks=[1]}"];
    bad(
        folder,
        &[&train[..], &[&init], &other[..]].concat(),
        2,
        &["it has no tensor of this network", "check model.kind"],
    );
}
