//! Runs the program; a small synthetic data set and a small trained run that tests share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// Exit code and output of a command.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Exit code and both streams, for assertion messages.
    pub fn all(&self) -> String {
        format!("exit {}\n{}{}", self.code, self.stdout, self.stderr)
    }

    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The program with these arguments in the working directory `folder`.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grimace"));
    // Small networks on small data: more threads only slow down parallel tests.
    command.current_dir(folder).args(args).env("OMP_NUM_THREADS", "1").env_remove("RUST_BACKTRACE");
    command
}

/// Runs the program.
pub fn grimace(folder: &Path, args: &[&str]) -> Done {
    command(folder, args).output().expect("the program starts").into()
}

/// Runs the program and expects success.
pub fn good(folder: &Path, args: &[&str]) -> Done {
    let done = grimace(folder, args);
    assert_eq!(done.code, 0, "grimace {}: {}", args.join(" "), done.all());
    done
}

/// Runs the program and expects this exit code, no panic, and every part on stderr.
pub fn bad(folder: &Path, args: &[&str], code: i32, parts: &[&str]) -> Done {
    let done = grimace(folder, args);
    assert_eq!(done.code, code, "grimace {}: {}", args.join(" "), done.all());
    assert!(!done.stderr.contains("panicked"), "{}", done.all());
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} is not in: {}", done.all());
    }
    done
}

/// A folder with 600 synthetic training images and 150 test images in `data/`, a config
/// `tiny.toml`, and a run of it in `run/`.
pub fn workshop() -> &'static Path {
    static WORKSHOP: OnceLock<TempDir> = OnceLock::new();
    WORKSHOP
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            good(folder.path(), &["data", "synth", "--out", "data", "--train", "600", "--test", "150", "--seed", "7"]);
            fs_err::write(folder.path().join("tiny.toml"), TINY).expect("a config");
            good(folder.path(), &["train", "tiny.toml", "--out", "run"]);
            folder
        })
        .path()
}

/// Arguments for [`TINY`] with which the loss is soon not finite.
pub const DIVERGING: [&str; 6] = [
    "--set",
    "train.optimizer={kind=\"sgd\",lr=100.0}",
    "--set",
    "model.normalization=false",
    "--set",
    "model.activation=leaky_relu",
];

/// A config that trains in a second, with the full recipe.
pub const TINY: &str = r#"name = "tiny"
device = "cpu"
precision = "f32"
[data]
train = "data/my_emotion_train.csv"
[model]
kind = "cnn"
filters = [16, 32]
dense = [16]
[train]
epochs = 3
batch = 64
optimizer = { kind = "adam", lr = 3e-3 }
"#;

/// `[model]` with the layers of torchvision's ResNet, small.
pub const TORCHVISION: &str = "kind = \"resnet\"\ninput = \"imagenet\"\nstem = 16\nstem_kernel = 7\nstem_stride = 2\nstem_pool = \"3x3\"\n\
                           widths = [16, 32]\nblocks = [1, 1]\ndownsample = \"stride\"\nsqueeze = 0";

/// A new temporary folder with a link to the workshop's data and a copy of its config.
pub fn bench() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::os::unix::fs::symlink(workshop().join("data"), folder.path().join("data")).expect("a link");
    fs_err::copy(workshop().join("tiny.toml"), folder.path().join("tiny.toml")).expect("a copy");
    folder
}

/// A file's text.
pub fn text(path: impl AsRef<Path>) -> String {
    fs_err::read_to_string(path.as_ref()).expect("a text file")
}

/// A JSON file.
pub fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&text(path)).expect("a JSON file")
}

/// The tensors of a checkpoint by name, bit for bit.
pub fn tensors(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs_err::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, Vec<u8>)> =
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    all.sort();
    all
}

/// The records of `metrics.jsonl` without timings.
pub fn timeless_metrics(run: &Path) -> Vec<Value> {
    let without_timings = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("a JSON line");
        let object = record.as_object_mut().expect("an object");
        assert!(object.remove("seconds").is_some() && object.remove("images_per_second").is_some());
        record
    };
    text(run.join("metrics.jsonl")).lines().map(without_timings).collect()
}

/// The Python that `make test` sets up. Compatibility tests need it, so a missing one is a failure.
pub fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("GRIMACE_PYTHON").map_or(own, PathBuf::from);
    assert!(
        python.exists(),
        "{} is missing: run `make test`, or set GRIMACE_PYTHON to a Python with torch 2.11 and tensorboard",
        python.display()
    );
    python
}

/// Runs `script` of tests/it in Python on `model`, the export of `runs` of the workshop with `tta`, and
/// on what `predict` gives for the images of its test CSV. Several runs are an ensemble that is not
/// calibrated.
pub fn check_exported(script: &str, first: &[&str], model: &Path, runs: &[&Path], tta: &str) -> Done {
    const TEST: &str = "data/my_emotion_test.csv";
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(script));
    command.args(first).arg(model).arg(workshop().join(TEST));
    for (index, run) in runs.iter().enumerate() {
        let predicted = folder.path().join(format!("{index}.csv"));
        let (run_text, out) = (run.to_str().unwrap(), predicted.to_str().unwrap());
        let args = ["predict", run_text, "--data", TEST, "--out", out, "--probabilities", "--tta", tta];
        let raw: &[&str] = if runs.len() > 1 { &["--no-calibration"] } else { &[] };
        good(workshop(), &[&args[..], raw].concat());
        command.arg(run.join("best.safetensors")).arg(predicted);
    }
    let done: Done = command.output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
    done
}

/// The folder of FER2013 in `GRIMACE_FACES`; prints that the test is skipped if it is not set.
pub fn real_images(test: &str) -> Option<PathBuf> {
    match std::env::var_os("GRIMACE_FACES") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => {
            println!("skipped {test}: set GRIMACE_FACES to a folder with FER2013 as my_emotion_train.csv and others");
            None
        }
    }
}

/// The warnings in the summary of a run, each of which must be in its log, on stderr and at the top of
/// its report.
pub fn shown_warnings(run: &Path, done: &Done) -> Vec<String> {
    let warnings = json(run.join("summary.json"))["warnings"].as_array().unwrap().clone();
    let warnings: Vec<String> = warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect();
    let (log, report) = (text(run.join("log.txt")), text(run.join("report.html")));
    let top = report.split("<svg").next().unwrap();
    for warning in &warnings {
        let line = format!("warning: {warning}\n");
        assert!(log.contains(&line) && done.stderr.contains(&line), "{line} is not in {log}");
        assert!(top.contains(&format!("Warning: {warning}")), "{warning} is not at the top of the report");
    }
    warnings
}
