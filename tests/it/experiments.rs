//! The scripts that measure experiments, on a few synthetic images.

use std::path::Path;
use std::process::Command;

use crate::common::{Done, bench, json, text};

fn script(name: &str, args: &[&str], folder: &Path) -> Done {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("scripts").join(name)).args(args).args(["--program", env!("CARGO_BIN_EXE_grimace")]);
    command.current_dir(folder).env("OMP_NUM_THREADS", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command.env_remove("GRIMACE_FACES").output().expect("python3 starts").into()
}

/// Kaggle's file: 60 of the training images are PublicTest.
fn write_fer2013(folder: &Path) {
    let source = text(folder.join("data/my_emotion_train.csv"));
    let mut lines = source.lines();
    let mut csv = format!("{},Usage\n", lines.next().unwrap());
    for (row, line) in lines.take(300).enumerate() {
        csv += &format!("{line},{}\n", if row % 5 == 0 { "PublicTest" } else { "Training" });
    }
    fs_err::create_dir(folder.join("fer")).unwrap();
    fs_err::write(folder.join("fer/fer2013.csv"), csv).unwrap();
}

#[test]
fn speedrun_reports_the_last_epoch_of_each_seed() {
    let bench = bench();
    write_fer2013(bench.path());
    fs_err::copy(bench.path().join("tiny.toml"), bench.path().join("other.toml")).unwrap();
    let args = ["tiny.toml", "other.toml", "--data", "fer", "--out", "speed", "--seeds", "2", "--epochs", "2"];
    let done = script("speedrun.py", &args, bench.path());
    assert_eq!(done.code, 0, "{}", done.all());
    let results = json(bench.path().join("speed/results.json"));
    for config in ["tiny", "other"] {
        let found = &results["results"]["configs"][config];
        assert!(found["ensemble"]["ten_crop"].is_f64());
        for (seed, run) in ["42", "43"].into_iter().zip(found["runs"].as_array().unwrap()) {
            let folder = bench.path().join(format!("speed/{config}-seed{seed}"));
            let metrics = text(folder.join("metrics.jsonl"));
            let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
            assert_eq!((&run["last"], run["epochs"].as_u64()), (&last["val_accuracy"], Some(2)));
            assert_eq!(json(folder.join("summary.json"))["best_epoch"], 2, "the last epoch is kept");
            assert_eq!(json(folder.join("summary.json"))["validation_rows"], 60);
        }
    }
    let table = text(bench.path().join("speed/results.md"));
    assert!(table.contains("| tiny, 43 |") && done.stdout == table, "{table}");

    // Finished runs are kept.
    let again = script("speedrun.py", &args, bench.path());
    assert_eq!((again.code, text(bench.path().join("speed/results.md"))), (0, table), "{}", again.all());

    // Those of another machine do not mix with new ones.
    fs_err::write(bench.path().join("speed/machine.txt"), "another CPU\n").unwrap();
    let other = script("speedrun.py", &args, bench.path());
    assert!(other.code == 1 && other.stderr.contains("another machine: another CPU. This one is "), "{}", other.all());
}

#[test]
fn a_script_without_real_images_says_so() {
    let bench = bench();
    let done = script("speedrun.py", &["tiny.toml", "--out", "speed"], bench.path());
    assert!(done.code == 1 && done.stderr.contains("give its folder with --data or GRIMACE_FACES"), "{}", done.all());
    assert!(!bench.path().join("speed").exists());
}
