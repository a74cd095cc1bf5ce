#!/usr/bin/env python3
"""Kills one rank of two at random, again and again, and requeues the training until it is finished.

Each run must come to the end that a run without kills has, bit for bit, and every kill must end both ranks in time.
A rank that is killed before they have met is not known to the other one; the launcher (torchrun, mpirun) ends that,
and here this script.
Uses synthetic images. Builds nothing; GRIMACE overrides target/release/grimace.

    scripts/scale/rank_kills.py --kills 20
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """name = "kills"
device = "cpu"
precision = "f32"
threads = 1
[data]
train = "data/my_emotion_train.csv"
[model]
kind = "cnn"
filters = [16, 32]
dense = [32]
[train]
epochs = 6
batch = 64
early_stop = { patience = 0 }
checkpoint_every = { steps = 5, epochs = 1 }
"""
RANKS = 2
# Seconds in which both ranks must have ended after a kill.
LIMIT = 10.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(program, folder, out):
    port = str(free_port())
    ranks = []
    for rank in range(RANKS):
        env = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_RANK=str(rank))
        env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        command = [program, "train", "config.toml", "--out", out, "--resume"]
        with open(folder / f"rank{rank}.log", "w") as log:
            ranks.append(subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=log))
    return ranks


def have_met(folder):
    return f"device: {RANKS} x cpu" in (folder / "rank0.log").read_text()


def finish(ranks, limit):
    """The exit codes of all ranks, and how many had to be killed because they did not end in time."""
    end = time.monotonic() + limit
    late = 0
    for rank in ranks:
        try:
            rank.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            late += 1
            rank.kill()
            rank.wait()
    return [rank.returncode for rank in ranks], late


def end_of(run):
    """metrics.jsonl without times, and the weights and optimizer of the last epoch."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line.split('"seconds"')[0] for line in lines], tensors((run / "last.safetensors").read_bytes())


def tensors(content):
    """The tensors of a safetensors file, without its metadata, which has times."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, content[8 + length :]


def train_with_kills(program, folder, out, kills, seconds, rng):
    """Trains to the end with `kills` kills; returns how many were done, and how many ranks did not end in time."""
    done = hangs = 0
    while True:
        ranks = start(program, folder, out)
        kill = done < kills
        if kill:
            time.sleep(rng.uniform(0.2, seconds))
            victim = ranks[rng.randrange(RANKS)]
            alive = victim.poll() is None
            victim.kill()
        began = time.monotonic()
        met = have_met(folder)
        if kill and not met:
            for rank in ranks:
                rank.kill()
        codes, late = finish(ranks, LIMIT if kill else 600.0)
        hangs += late
        if kill and alive:
            done += 1
            how = f"ended {time.monotonic() - began:.1f} s later" if met else "before the ranks had met"
            print(f"{out}: kill {done}, {how}: exit codes {codes}", flush=True)
        if codes == [0] * RANKS and not (kill and alive):
            return done, hangs
        if not kill:
            logs = [(folder / f"rank{rank}.log").read_text() for rank in range(RANKS)]
            sys.exit(f"{out}: failed without a kill: {codes}\n" + "\n".join(logs))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="number of kills [default: 20]")
    parser.add_argument("--per-run", type=int, default=5, help="kills of one run [default: 5]")
    parser.add_argument("--seed", type=int, default=1, help="of the times and ranks [default: 1]")
    args = parser.parse_args()
    program = os.environ.get("GRIMACE", str(ROOT / "target/release/grimace"))
    if not Path(program).exists():
        sys.exit(f"rank_kills: {program} not found; build it first: make build (or set GRIMACE)")
    program = str(Path(program).resolve())
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synth = [program, "data", "synth", "--out", "data", "--train", "2000", "--test", "10", "--seed", "7"]
        subprocess.run(synth, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "config.toml").write_text(CONFIG)
        began = time.monotonic()
        train_with_kills(program, folder, "unbroken", 0, 0.0, rng)
        seconds = time.monotonic() - began
        total = hangs = differing = runs = 0
        while total < args.kills:
            runs += 1
            kills = min(args.per_run, args.kills - total)
            done, hung = train_with_kills(program, folder, f"run{runs}", kills, seconds * 0.6, rng)
            total, hangs = total + done, hangs + hung
            differing += end_of(folder / f"run{runs}") != end_of(folder / "unbroken")
    print(f"{total} kills in {runs} runs: {hangs} hangs, {differing} runs that ended differently")
    sys.exit(1 if hangs or differing else 0)


if __name__ == "__main__":
    main()
