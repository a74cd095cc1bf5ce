//! torchrun and mpirun start the processes.

use std::path::Path;
use std::process::Command;

use super::{SGD, TOLERANCE, TWO_STEPS, assert_close, rank_command};
use crate::common::{Done, bench, command, good};

/// Trains with `launcher` and compares with one process.
fn launch(mut launcher: Command) {
    let bench = bench();
    let [epochs, batch] = TWO_STEPS;
    let args = ["train", "tiny.toml", "--set", epochs, "--set", batch, "--set", SGD, "--out"];
    good(bench.path(), &[&args[..], &["one"]].concat());
    launcher.arg(env!("CARGO_BIN_EXE_grimace")).args(args).arg("several").current_dir(bench.path());
    let done: Done = launcher.env("OMP_NUM_THREADS", "1").output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stderr.contains("device: 2 x cpu"), "{}", done.all());
    assert_close(&bench.path().join("several"), &bench.path().join("one"), TOLERANCE);
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn mpirun_starts_the_processes() {
    if !is_there("mpirun") {
        println!("skipped mpirun_starts_the_processes: mpirun is missing (apt install openmpi-bin)");
        return;
    }
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["-n", "2", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none"]);
    launch(mpirun);
}

#[test]
fn torchrun_starts_the_processes() {
    let torchrun = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/torchrun");
    if !torchrun.exists() {
        println!("skipped torchrun_starts_the_processes: .venv/bin/torchrun is missing (make test)");
        return;
    }
    let mut command = Command::new(torchrun);
    command.args(["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--no-python"]);
    launch(command);
}

#[test]
fn a_batch_script_without_srun_trains_alone() {
    let bench = bench();
    let args = ["train", "tiny.toml", "--set", "train.epochs=1", "--out", "run"];
    let variables = [("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_LOCALID", "0")];
    let done: Done = command(bench.path(), &args).envs(variables).output().unwrap().into();
    assert!(done.code == 0 && done.stderr.contains("device: cpu,"), "{}", done.all());
    // Nor does another command, or one for which it is turned off, wait for others.
    let mut off =
        rank_command(bench.path(), &["train", "tiny.toml", "--set", "train.epochs=1", "--out", "off"], 0, 2, 1);
    let done: Done = off.env("GRIMACE_DISTRIBUTED", "0").output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
    // Processes that each cross-validate would do the same.
    let folds = ["train", "tiny.toml", "--folds", "2", "--out", "folds"];
    let done: Done = rank_command(bench.path(), &folds, 0, 2, 1).output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("--folds: trains in one process"), "{}", done.all());
    let sweep = ["sweep", "tiny.toml", "--set", "train.epochs=1", "--out", "sweep", "--parallel", "2", "--seeds", "2"];
    let done: Done = rank_command(bench.path(), &sweep, 0, 2, 1).output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
}
