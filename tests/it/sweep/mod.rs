//! `grimace sweep` and `grimace runs`.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{Done, TINY, bad, bench, command, text};

mod comparison;
mod failures;
mod interruption;
mod many_machines;
mod runs;
mod vary;

/// A folder with the workshop's images, two configs, one whose images are missing, and one of a
/// forest.
pub fn setup() -> TempDir {
    let folder = bench();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let tiny =
        TINY.replace("[model]", "test = \"data/my_emotion_test.csv\"\n[model]").replace("epochs = 3", "epochs = 2");
    write("tiny.toml", &tiny);
    write("other.toml", &tiny.replace("\"tiny\"", "\"other\"").replace("[16, 32]", "[16, 16]"));
    write("broken.toml", &tiny.replace("\"tiny\"", "\"broken\"").replace("my_emotion_train", "none"));
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 15\nfolds = 3\n";
    write("forest.toml", forest);
    folder
}

pub const RUNS: [&str; 4] = ["tiny-seed42", "tiny-seed43", "other-seed42", "other-seed43"];

pub fn rows(sweep: &Path) -> Vec<Vec<String>> {
    text(sweep.join("comparison.csv")).lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

pub fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a sweep of long trainings and sends it a signal after a few epochs of these `runs`, and
/// once each has a `summary.json`: from then on, it handles signals.
pub fn interrupt(folder: &Path, args: &[&str], runs: &[&str], signal: &str) -> Done {
    let mut child = command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lock = folder.join("s/.lock");
    // A resumed sweep has metrics from before; the lock shows that this one has started.
    let holder = format!("process {},", child.id());
    let has_trained = |run: &&str| {
        let (metrics, summary) = (format!("s/{run}/metrics.jsonl"), format!("s/{run}/summary.json"));
        let metrics = folder.join(metrics);
        folder.join(summary).exists() && metrics.exists() && text(&metrics).lines().count() > 2
    };
    wait_until("it did not start", || {
        lock.exists() && text(&lock).starts_with(&holder) && runs.iter().all(has_trained)
    });
    let resumed: Vec<&str> = args.iter().copied().filter(|word| *word != "--resume").chain(["--resume"]).collect();
    bad(folder, &resumed, 1, &["s: is in use by process"]);
    assert!(std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let _ = child.wait().unwrap();
    child.wait_with_output().unwrap().into()
}
