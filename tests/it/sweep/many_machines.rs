//! `grimace sweep` with `--plan`, `--shard`, `--join` and `--collect`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{RUNS, rows, setup, wait_until};
use crate::common::{Done, bad, command, good, json, tensors, text, timeless_metrics};
use crate::process::send;

const SWEEP: [&str; 6] = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--out"];

/// The arguments of a sweep of four runs in `out`.
fn sweep<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&SWEEP[..], &[out], more].concat()
}

/// Runs the program with the variables of a scheduler.
fn with_variables(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Done {
    command(folder, args).envs(variables.iter().copied()).output().unwrap().into()
}

/// `comparison.csv` without the columns of times.
fn timeless_rows(sweep: &Path) -> Vec<Vec<String>> {
    let rows = rows(sweep);
    let is_time = |column: usize| ["Seconds", "Images Per Second"].contains(&rows[0][column].as_str());
    let kept = |row: &Vec<String>| {
        (0..row.len()).filter(|column| !is_time(*column)).map(|column| row[column].clone()).collect()
    };
    rows.iter().map(kept).collect()
}

#[test]
fn shards_collected_equal_a_sweep_on_one_machine() {
    let folder = setup();
    let forest = ["--forest", "forest.toml"];
    good(folder.path(), &sweep("one", &forest));
    let part = |more: &[&'static str]| sweep("s", &[&forest, more].concat());
    let planned = good(folder.path(), &part(&["--plan"]));
    assert_eq!(planned.stdout.lines().collect::<Vec<_>>(), RUNS);
    assert!(planned.stderr.contains("sweep: 4 runs in s"), "{}", planned.stderr);
    bad(folder.path(), &part(&["--plan"]), 2, &["s: holds a sweep", "--resume"]);

    // The second half, as the last task of a Slurm array that begins at 1.
    let slurm = [("ID", "2"), ("MIN", "1"), ("MAX", "2"), ("STEP", "1"), ("COUNT", "2")];
    let slurm = slurm.map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value));
    let variables: Vec<(&str, &str)> = slurm.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let done = with_variables(folder.path(), &part(&["--shard", "auto"]), &variables);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stderr.contains("sweep: shard 1/2 has 2 of 4 runs in s"), "{}", done.stderr);
    assert!(done.stdout.contains("tiny-seed43") && !done.stdout.contains("tiny-seed42"), "{}", done.stdout);
    assert!(!folder.path().join("s/comparison.csv").exists() && !folder.path().join("s/tiny-seed42").exists());

    let refused =
        "s: 2 of 4 runs are missing: tiny-seed42 unfinished, other-seed42 unfinished; train them with --shard";
    bad(folder.path(), &part(&["--collect"]), 1, &[refused, "--partial"]);
    assert!(!folder.path().join("s/comparison.csv").exists());
    let partial = good(folder.path(), &part(&["--collect", "--partial"]));
    assert!(partial.stdout.contains("Unfinished: tiny-seed42, other-seed42."), "{}", partial.stdout);
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], false);

    let index = [("JOB_COMPLETION_INDEX", "0"), ("GRIMACE_SHARD_COUNT", "2")];
    let done = with_variables(folder.path(), &part(&["--shard", "auto", "--json"]), &index);
    assert_eq!(done.json()["runs"][1]["folder"], "other-seed42");
    assert_eq!(done.json()["runs"][1]["state"], "done");
    let done = good(folder.path(), &part(&["--collect"]));
    assert!(done.stdout.contains("s/submission.csv: predictions"), "{}", done.stdout);

    let (one, many) = (folder.path().join("one"), folder.path().join("s"));
    assert_eq!(timeless_rows(&many), timeless_rows(&one));
    assert_eq!(json(many.join("summary.json"))["complete"], true);
    assert_eq!(json(many.join("summary.json"))["best_run"], json(one.join("summary.json"))["best_run"]);
    assert_eq!(text(many.join("submission.csv")), text(one.join("submission.csv")));
    for run in RUNS {
        for name in ["best.safetensors", "last.safetensors"] {
            assert!(tensors(&many.join(run).join(name)) == tensors(&one.join(run).join(name)), "{run}/{name}");
        }
        assert_eq!(timeless_metrics(&many.join(run)), timeless_metrics(&one.join(run)));
    }
    // A shard without runs is done.
    good(folder.path(), &part(&["--shard", "4/5"]));
}

#[test]
fn the_parts_of_a_sweep_must_have_its_plan() {
    let folder = setup();
    let bad = |args: &[&str], parts: &[&str]| drop(bad(folder.path(), args, 2, parts));
    for task in [&["--shard", "0/2"][..], &["--join"], &["--collect"]] {
        bad(&sweep("s", task), &["s: holds no planned sweep; plan it with the same arguments and --plan"]);
    }
    assert!(!folder.path().join("s").exists());
    bad(&["sweep", "broken.toml", "--out", "s", "--plan"], &["data/none.csv: no such file"]);
    assert!(!folder.path().join("s").exists());
    bad(&["sweep", "tiny.toml", "--plan"], &["--out <DIR>"]);
    bad(&sweep("s", &["--shard", "2/2"]), &["there is no shard 2 of 2; expected 0 to 1"]);
    bad(&sweep("s", &["--shard", "0/2", "--join"]), &["cannot be used with"]);
    bad(&sweep("s", &["--partial"]), &["--collect"]);
    bad(&sweep("s", &["--shard", "auto"]), &["--shard auto: this is no task of an array: none of SLURM_ARRAY_TASK_ID"]);

    good(folder.path(), &sweep("s", &["--plan"]));
    let fewer = ["sweep", "tiny.toml", "--out", "s", "--shard", "0/2"];
    bad(&fewer, &["s/sweep.json: lists 4 runs, but these arguments give 1: tiny-seed43 is missing"]);
    bad(&sweep("s", &["--join", "--set", "train.batch=32"]), &["tiny-seed42 was planned with another config"]);
    let edited = text(folder.path().join("other.toml")).replace("epochs = 2", "epochs = 3");
    fs_err::write(folder.path().join("other.toml"), edited).unwrap();
    bad(
        &sweep("s", &["--collect"]),
        &["s/sweep.json: other-seed42 was planned with another config", "--plan --resume"],
    );
    good(folder.path(), &sweep("s", &["--plan", "--resume"]));
    let missing = ["s: 4 of 4 runs are missing: tiny-seed42 unfinished, "];
    drop(crate::common::bad(folder.path(), &sweep("s", &["--collect"]), 1, &missing));
}

/// Starts the program, and waits until each of these runs has trained some epochs.
fn start(folder: &Path, args: &[&str], runs: &[&str]) -> Child {
    let child = command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let has_trained = |run: &&str| {
        let metrics = folder.join("s").join(run).join("metrics.jsonl");
        metrics.exists() && text(metrics).lines().count() > 2
    };
    wait_until("the runs do not train", || runs.iter().all(has_trained));
    child
}

const LONG: [&str; 4] = ["--set", "train.epochs=30", "--set", "train.early_stop={patience=0}"];

#[test]
fn a_shard_stopped_by_a_scheduler_resumes_where_it_stopped() {
    let folder = setup();
    let part = |more: &[&'static str]| sweep("s", &[&LONG, more].concat());
    good(folder.path(), &part(&["--plan"]));
    // Runs 0 and 2 of 4, each in a process of its own.
    let args = part(&["--shard", "0/2", "--parallel", "2"]);
    let child = start(folder.path(), &args, &["tiny-seed42", "other-seed42"]);
    send("USR1", &child);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 75, "{}", done.all());
    assert!(done.stderr.contains("resume with: ") && done.stderr.contains("--shard 0/2"), "{}", done.stderr);
    let stopped = |run: &str| json(folder.path().join("s").join(run).join("summary.json"))["stopped"].clone();
    assert_eq!((stopped("tiny-seed42"), stopped("other-seed42")), ("interrupted".into(), "interrupted".into()));
    // A scheduler signals all processes of a job: the parent's signal is no second one.
    let epochs = |run: &str| text(folder.path().join("s").join(run).join("metrics.jsonl")).lines().count();
    let before = epochs("tiny-seed42");
    let child = command(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it does not resume", || epochs("tiny-seed42") > before + 1);
    let lock = text(folder.path().join("s/tiny-seed42/.lock"));
    let worker = lock.strip_prefix("process ").unwrap().split(',').next().unwrap();
    assert!(Command::new("kill").args(["-TERM", worker, &child.id().to_string()]).status().unwrap().success());
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!((done.code, stopped("tiny-seed42")), (143, "interrupted".into()), "{}", done.all());
    good(folder.path(), &args);
    good(folder.path(), &part(&["--shard", "1/2"]));
    good(folder.path(), &part(&["--collect"]));

    good(folder.path(), &sweep("one", &LONG));
    let (one, many) = (folder.path().join("one"), folder.path().join("s"));
    assert_eq!(timeless_rows(&many), timeless_rows(&one));
    for run in RUNS {
        let last = |sweep: &Path| tensors(&sweep.join(run).join("last.safetensors"));
        assert!(last(&many) == last(&one), "{run}");
    }
}

#[test]
fn joining_processes_share_the_runs_and_take_over_unfinished_ones() {
    let folder = setup();
    let part = |more: &[&'static str]| sweep("s", &[&LONG, more].concat());
    good(folder.path(), &part(&["--plan"]));
    // The first process is killed in its first run, and the second trains that one, too.
    let mut first = start(folder.path(), &part(&["--join"]), &["tiny-seed42"]);
    // Stopped, it keeps its lock: the run is neither failed nor finished for a shard.
    send("STOP", &first);
    bad(folder.path(), &part(&["--shard", "0/4"]), 1, &["tiny-seed42 is missing: running; to retry: "]);
    let second = start(folder.path(), &part(&["--join"]), &["tiny-seed43"]);
    first.kill().unwrap();
    first.wait().unwrap();
    let third = good(folder.path(), &part(&["--join"]));
    let second: Done = second.wait_with_output().unwrap().into();
    assert_eq!(second.code, 0, "{}", second.all());
    let trained = |done: &Done, run: &str| done.stderr.contains(&format!("{run}: training"));
    for run in RUNS {
        assert!(trained(&second, run) != trained(&third, run), "{run} once\n{}{}", second.all(), third.all());
    }
    assert!(trained(&second, "tiny-seed43"), "{}", second.all());
    good(folder.path(), &part(&["--collect"]));
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], true);
}

#[test]
fn a_failed_run_is_tried_again_after_the_next_plan() {
    let folder = setup();
    let args = |more: &[&'static str]| {
        [&["sweep", "tiny.toml", "broken.toml", "--set", "train.epochs=1", "--out", "s"], more].concat()
    };
    good(folder.path(), &args(&["--plan"]));
    let failed = "1 of 2 runs are missing: broken-seed42 failed; ";
    bad(folder.path(), &args(&["--join", "--parallel", "2"]), 1, &["broken-seed42: failed: data/none.csv", failed]);
    let again = bad(folder.path(), &args(&["--join"]), 1, &[failed, "plan again with --plan --resume"]);
    assert!(!again.stderr.contains("none.csv"), "not tried again: {}", again.stderr);
    bad(folder.path(), &args(&["--collect"]), 1, &[failed]);
    // A shard tries its own failed runs again.
    bad(folder.path(), &args(&["--shard", "1/2"]), 1, &["data/none.csv", "broken-seed42 is missing: failed"]);
    good(folder.path(), &args(&["--plan", "--resume"]));
    bad(folder.path(), &args(&["--join"]), 1, &["broken-seed42: failed: data/none.csv", failed]);
}

#[test]
fn the_manifests_of_kubernetes_have_the_same_arguments() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kubernetes");
    let after = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {key} in {text}"))
    };
    let mut arguments = Vec::new();
    for (file, task) in [("plan", "--plan, --resume]"), ("sweep", "--shard, auto]"), ("collect", "--collect]")] {
        let args = after(&text(folder.join(format!("{file}.yaml"))), "args: ");
        arguments.push(args.strip_suffix(task).unwrap_or_else(|| panic!("{file}: {args}")).to_owned());
    }
    assert!(arguments.iter().all(|args| *args == arguments[0]), "{arguments:?}");
    let sweep = text(folder.join("sweep.yaml"));
    let (count, shards) = (after(&sweep, "completions: "), after(&sweep, "- { name: GRIMACE_SHARD_COUNT, value: "));
    assert_eq!(format!("\"{count}\" }}"), shards);
}
