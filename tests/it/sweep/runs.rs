//! `grimace runs`.

use super::setup;
use crate::common::{good, grimace, json};

#[test]
fn runs_are_listed_newest_first_with_their_state() {
    let folder = setup();
    fs_err::create_dir(folder.path().join("runs")).unwrap();
    assert_eq!(good(folder.path(), &["runs"]).stdout, "runs: no runs\n");
    good(folder.path(), &["train", "tiny.toml", "--out", "runs/one"]);
    good(folder.path(), &["forest", "forest.toml", "--out", "runs/two"]);
    let done = grimace(
        folder.path(),
        &[
            "train",
            "other.toml",
            "--set",
            "train.optimizer.lr=100",
            "--set",
            "train.epochs=60",
            "--set",
            "train.early_stop={patience=0}",
            "--out",
            "runs/three",
        ],
    );
    let stdout = good(folder.path(), &["runs"]).stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("run") && lines.len() == 4, "{stdout}");
    assert!(
        lines[1].contains("runs/three") && lines[2].contains("runs/two") && lines[3].contains("runs/one"),
        "{stdout}"
    );
    assert!(lines[3].contains("tiny") && lines[3].ends_with("done"), "{stdout}");
    assert!(lines[1].ends_with(if done.code == 0 { "done" } else { "diverged" }), "{stdout}");
    let found = good(folder.path(), &["runs", "--json"]).json();
    assert_eq!(found[2]["epochs"], 2);
    assert_eq!(found[2]["best"], json(folder.path().join("runs/one/summary.json"))["best_val_accuracy"]);
    assert_eq!(found[1]["best"], json(folder.path().join("runs/two/summary.json"))["val_accuracy"]);
}
