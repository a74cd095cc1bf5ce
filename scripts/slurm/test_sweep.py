#!/usr/bin/env python3
"""Tests scripts/slurm/sweep.sbatch on a Slurm cluster of one node that this script starts on loopback.

A sweep whose tasks are preempted, signaled, killed, requeued and cancelled must end with the results
of an unbroken one on one machine, bit for bit; and srun trains in two processes. Takes some minutes.
Exit code 0: passed, or there is no Slurm here, which is printed; 1: failed. --require: that there is
none is a failure, too.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_sweeps import differences, table  # noqa: E402
from one_node import CPUS, Cluster, why_not  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/slurm/sweep.sbatch"
WAIT_S = 240.0
REQUEUED_S = 2.5
# Long enough to be stopped in the middle, a few seconds in all.
CONFIG = """\
name = "{name}"
device = "cpu"
precision = "f32"
threads = 1
[data]
train = "data/my_emotion_train.csv"
test = "data/my_emotion_test.csv"
[model]
kind = "cnn"
filters = [16, {filters}]
dense = [16]
[train]
epochs = {epochs}
batch = 32
early_stop = {{ patience = 0 }}
"""
FOREST = 'name = "woods"\n[data]\ntrain = "data/my_emotion_train.csv"\n[forest]\ntrees = 10\nfolds = 2\n'
RUNS = ["a-seed42", "a-seed43", "b-seed42", "b-seed43"]
SWEEP = ["a.toml", "b.toml", "--seeds", "2", "--forest", "forest.toml"]
FINISHED = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY")


class Test:
    """A folder with images and configs, and the cluster."""

    def __init__(self, folder: Path, grimace: Path, cluster: Cluster, all_epochs: int) -> None:
        self.folder, self.grimace, self.cluster, self.all_epochs = folder, grimace, cluster, all_epochs
        self.pending_since: dict[str, float] = {}
        cluster.environment |= {"GRIMACE": str(grimace), "OMP_NUM_THREADS": "1"}

    def event(self, text: str) -> None:
        print(f"slurm: {text}", file=sys.stderr, flush=True)

    def check(self, is_true: object, what: str) -> None:
        if not is_true:
            logs = "".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.folder.glob("slurm-logs/*")))
            raise AssertionError(f"{what}\n{logs}{self.cluster.logs()}")

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.grimace, *arguments], cwd=self.folder, env=self.cluster.environment,
                              capture_output=True, text=True, timeout=600)

    def submit(self, *arguments: str) -> tuple[str, str]:
        """Runs sweep.sbatch; the IDs of the array and of the comparison."""
        done = subprocess.run(["bash", SCRIPT, *SWEEP, *arguments], cwd=self.folder, env=self.cluster.environment,
                              capture_output=True, text=True, timeout=600)
        self.check(done.returncode == 0, f"sweep.sbatch: {done.stdout}{done.stderr}")
        array, collect = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("sweep: job ")]
        return array, collect

    def wait(self, is_done, what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not is_done():
            self.check(time.monotonic() < end, f"waited too long: {what}")
            self.start_requeued()
            time.sleep(0.1)

    def start_requeued(self) -> None:
        """Slurm waits two minutes before it starts a requeued job again: here some seconds, because slurmd
        takes a job for killed that starts in the second in which it was requeued."""
        pending = self.cluster.run("squeue", "--noheader", "--array", "--states=PD", "-o", "%i %r").splitlines()
        waiting = [line.split()[0] for line in pending if line.endswith(" BeginTime")]
        self.pending_since = {job: self.pending_since.get(job, time.monotonic()) for job in waiting}
        for job, since in self.pending_since.items():
            if time.monotonic() - since > REQUEUED_S:
                self.cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)

    def state(self, job: str) -> str:
        return self.cluster.job(job).get("JobState", "")

    def restarts(self, job: str) -> int:
        return int(self.cluster.job(job).get("Restarts", 0))

    def epochs(self, sweep: str, run: str) -> int:
        path = self.folder / sweep / run / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def wait_for_training(self, sweep: str, runs: list[str], more: int = 3) -> None:
        """Waits until each run has trained some epochs from now on."""
        before = {run: self.epochs(sweep, run) for run in runs}
        self.wait(lambda: all(self.epochs(sweep, run) >= before[run] + more for run in runs), f"{runs} do not train")
        finished = [run for run in runs if self.epochs(sweep, run) >= self.all_epochs]
        self.check(not finished, f"{finished} ended before they could be stopped")

    def kill(self, sweep: str, run: str) -> None:
        """SIGKILL to the process that trains a run: its lock names it."""
        owner = (self.folder / sweep / run / ".lock").read_text()
        os.kill(int(owner.removeprefix("process ").split(",")[0]), signal.SIGKILL)

    def wait_for_end(self, jobs: list[str]) -> dict[str, str]:
        self.wait(lambda: all(self.state(job) in FINISHED for job in jobs), f"{jobs} do not end")
        return {job: self.state(job) for job in jobs}

    def log(self, array: str, task: int) -> str:
        return (self.folder / f"slurm-logs/{array}_{task}.log").read_text()


def prepare(test: Test) -> None:
    for name, filters in (("a", 16), ("b", 32)):
        (test.folder / f"{name}.toml").write_text(CONFIG.format(name=name, filters=filters, epochs=test.all_epochs))
    (test.folder / "forest.toml").write_text(FOREST)
    done = test.program("data", "synth", "--out", "data", "--train", "400", "--test", "60", "--seed", "3")
    test.check(done.returncode == 0, done.stderr)
    start = time.monotonic()
    done = test.program("sweep", *SWEEP, "--out", "unbroken")
    test.check(done.returncode == 0, f"the unbroken sweep: {done.stderr}")
    test.event(f"the unbroken sweep on one machine took {time.monotonic() - start:.0f} s")


def disturbed_array(test: Test) -> None:
    """Every task is preempted; then one gets SIGUSR1, one SIGKILL and one is requeued."""
    array, collect = test.submit("--out", "disturbed")
    tasks = [f"{array}_{index}" for index in range(len(RUNS))]
    test.wait_for_training("disturbed", RUNS)
    # Needs all cores, which the partition `low` has to give up.
    high = test.cluster.run("sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null",
                            "--wrap=sleep 1").strip()
    test.wait(lambda: test.state(high) in FINISHED, "the job of high priority does not end")
    test.check(test.state(high) == "COMPLETED", f"the job of high priority: {test.state(high)}")
    test.wait(lambda: all(test.restarts(task) >= 1 for task in tasks), "the tasks were not requeued")
    test.event(f"preempted: {', '.join(tasks)}; each saved and went back into the queue")

    test.wait_for_training("disturbed", RUNS[:3])
    test.cluster.run("scancel", "--signal=USR1", tasks[0])
    test.kill("disturbed", RUNS[1])
    test.cluster.run("scontrol", "requeue", tasks[2])
    test.wait(lambda: test.state(tasks[1]) == "FAILED", "the killed task does not end")
    test.event(f"SIGUSR1 to {tasks[0]}, SIGKILL to {tasks[1]} (now FAILED), scontrol requeue of {tasks[2]}")
    test.cluster.run("scontrol", "requeue", tasks[1])
    states = test.wait_for_end([*tasks, collect])
    restarts = {task: test.restarts(task) for task in tasks}
    test.event(f"ended: {states}, restarts {restarts}")
    test.check(all(state == "COMPLETED" for state in states.values()), f"{states}")
    test.check(restarts[tasks[0]] >= 2 and restarts[tasks[1]] >= 2 and restarts[tasks[2]] >= 2, f"{restarts}")
    test.check("stopped after saving (exit code 75)" in test.log(array, 0), "task 0 did not end with 75")
    compare(test, "disturbed")


def requeued_array(test: Test, rounds: int) -> None:
    """Every task goes back into the queue again and again, at random moments."""
    rng = random.Random(20)
    array, collect = test.submit("--out", "requeued")
    tasks = [f"{array}_{index}" for index in range(len(RUNS))]
    for number in range(rounds):
        test.wait_for_training("requeued", RUNS, more=1)
        before = [test.restarts(task) for task in tasks]
        for task in tasks:
            time.sleep(rng.uniform(0, 0.3))
            command = rng.choice([("scancel", "--signal=USR1"), ("scancel", "--signal=USR2"), ("scontrol", "requeue")])
            test.cluster.run(*command, task)
        now = f"round {number + 1}: the tasks do not go back into the queue"
        test.wait(lambda: all(test.restarts(task) > old for task, old in zip(tasks, before)), now)
    states = test.wait_for_end([*tasks, collect])
    restarts = sum(test.restarts(task) for task in tasks)
    test.event(f"{restarts} requeues at random moments by SIGUSR1, SIGUSR2 and scontrol requeue: {states}")
    test.check(all(state == "COMPLETED" for state in states.values()), f"{states}")
    test.check(restarts == rounds * len(tasks), f"{restarts} requeues")
    compare(test, "requeued")


def cancelled_task(test: Test) -> None:
    """A cancelled task stays cancelled, the comparison is refused and names its run; --resume ends it."""
    array, collect = test.submit("--out", "cancelled")
    test.wait_for_training("cancelled", RUNS)
    test.cluster.run("scancel", f"{array}_3")
    states = test.wait_for_end([*(f"{array}_{index}" for index in range(len(RUNS))), collect])
    log = (test.folder / f"slurm-logs/{collect}.log").read_text()
    test.event(f"scancel of {array}_3: {states}; {log.strip().splitlines()[-1]}")
    test.check(states[f"{array}_3"] == "CANCELLED" and states[collect] == "FAILED", f"{states}")
    test.check(test.restarts(f"{array}_3") == 0, "a cancelled task was requeued")
    test.check("1 of 4 runs are missing: b-seed43 unfinished" in log, "the comparison does not name the run")
    partial = test.program("sweep", *SWEEP, "--out", "cancelled", "--collect", "--partial")
    test.check(partial.returncode == 0 and "Unfinished: b-seed43." in partial.stdout, partial.stdout + partial.stderr)
    array, collect = test.submit("--out", "cancelled", "--resume")
    states = test.wait_for_end([collect])
    test.check(states[collect] == "COMPLETED", f"{states}")
    kept = [index for index in range(len(RUNS)) if "already finished" in test.log(array, index)]
    test.check(kept == [0, 1, 2], f"tasks {kept} kept their runs")
    test.event("submitted again with --resume: only the missing run was trained")
    compare(test, "cancelled")


def processes_of_srun(test: Test) -> None:
    """srun starts the two processes of one training."""
    train = [str(test.grimace), "train", "a.toml", "--set", "train.epochs=2", "--out", "processes"]
    test.cluster.run("srun", "--ntasks=2", f"--chdir={test.folder}", *train)
    log = (test.folder / "processes/log.txt").read_text()
    test.check("device: 2 x cpu" in log and "epoch   2/2" in log, f"two processes did not train: {log}")
    test.event("srun trained a config in two processes")


def compare(test: Test, sweep: str) -> None:
    found = differences(test.folder / "unbroken", test.folder / sweep, RUNS)
    test.check(not found, f"{sweep} differs from the unbroken sweep in {found}")
    rows = len(table(test.folder / sweep / "comparison.csv"))
    test.check(rows == 3, f"{rows} rows")
    complete = json.loads((test.folder / sweep / "summary.json").read_text())["complete"]
    test.check(complete is True, "the comparison is not complete")
    test.event(f"{sweep}: comparison, submission, weights, metrics and splits of {len(RUNS)} runs equal the unbroken sweep's")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grimace", type=Path, default=Path(os.environ.get("GRIMACE", ROOT / "target/release/grimace")))
    parser.add_argument("--epochs", type=int, default=300, metavar="N",
                        help="epochs of a run: enough to be stopped twice; default 300, a few seconds in a release build")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="requeues of each of 4 tasks; default 2")
    parser.add_argument("--require", action="store_true", help="fail where there is no Slurm")
    args = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"slurm: skipped: {reason}", file=sys.stderr)
        return int(args.require)
    assert len(RUNS) <= CPUS
    folder = Path(tempfile.mkdtemp(prefix="grimace-slurm-"))
    folder.chmod(0o755)             # munged demands that other users reach its socket
    start = time.monotonic()
    # The daemons end with this script.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with Cluster(folder / "slurm") as cluster:
            test = Test(folder, args.grimace.resolve(), cluster, args.epochs)
            prepare(test)
            processes_of_srun(test)
            disturbed_array(test)
            requeued_array(test, args.rounds)
            cancelled_task(test)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"slurm: passed in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
