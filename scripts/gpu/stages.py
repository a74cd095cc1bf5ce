"""The stages. Each adds to its record what it measured, and raises OutOfTime or Failed."""
from __future__ import annotations

import json
from typing import Callable

from gpu import peers
from gpu.session import Failed, OutOfTime, Session, Training, attempt, log

TOLERANCE = 1e-3                # relative difference of losses, CPU to CUDA
TARGET_ACCURACY = 0.6324        # the notebook's best validation accuracy
AGREE_BATCH = 128               # two steps of the few images of `agree`
ROUNDS = 3

# Architecture: config, overrides that make CPU and CUDA comparable, and the small network of --quick.
ARCHITECTURES = {
    "cnn": ("notebook.toml", {"model.dropout": 0}, {}),
    "vgg": ("best/vgg.toml", {"model.dropout": 0}, {"model.filters": [8, 16], "model.dense": [32]}),
    "resnet": ("best/cpu.toml", {"model.dropout": 0, "model.stochastic_depth": 0, "train.schedule.warmup": 0},
               {"model.stem": 8, "model.widths": [8, 16], "model.blocks": [1, 1]}),
}
# The small network of --quick for the record config.
SMALL_RECORD = {"model.stem": 8, "model.widths": [8, 16], "model.blocks": [1, 1]}


def doctor(session: Session, record: dict) -> None:
    """`grimace doctor`: devices, and the comparison of a few steps with the CPU."""
    child = session.run([session.grimace, "doctor", "--device", session.device, "--json"], "doctor", 90)
    record["text"] = child.stdout.strip()
    print(record["text"], flush=True)
    try:
        record["rows"] = json.loads(child.stdout)["comparison"]
        record["report"] = json.loads(child.stdout)
    except (ValueError, KeyError, TypeError):
        pass                    # the exit code tells the problem; if it is 0, the check below does
    if child.code != 0:
        raise Failed(child.reason())
    if not record["rows"]:
        raise Failed("grimace doctor printed no comparison")


def agree(session: Session, record: dict) -> None:
    """Two steps of each architecture on the CPU and on the device, in f32: their losses.

    Few steps, and the CPU without its custom kernels: differences of rounding grow with each step,
    and those of the kernels would hide those of the device.
    """
    record["tolerance"] = TOLERANCE
    for name, (config, overrides, small) in ARCHITECTURES.items():
        attempt(record, name, lambda name=name, config=config, overrides={**overrides, **(small if session.quick else {})}:
                agree_on(session, record, name, config, overrides))


def agree_on(session: Session, record: dict, name: str, config: str, overrides: dict) -> None:
    """Adds the row of one architecture."""
    overrides = {"data.train": str(session.data.few), "data.validation": 0.2, "train.epochs": 1,
                 "train.batch": AGREE_BATCH, "precision": "f32", **overrides}
    losses = {}
    for device in ("cpu", session.device):
        training = session.train(config, {**overrides, "device": device}, f"agree-{name}-{device.partition(':')[0]}", 90,
                                 extra={"GRIMACE_KERNELS": "none"})
        losses[device] = training.metrics[-1]
    cpu, cuda = losses["cpu"], losses[session.device]
    row = {"name": name, "config": config, "images": training.summary["train_rows"], "batch": AGREE_BATCH}
    for key in ("loss", "val_loss"):
        difference = abs(cuda[key] - cpu[key]) / max(abs(cpu[key]), 1e-12)
        row[key] = {"cpu": cpu[key], "device": cuda[key], "difference": difference}
    row["ok"] = all(row[key]["difference"] <= TOLERANCE for key in ("loss", "val_loss"))
    record["rows"].append(row)
    log(f"{name}: relative difference of the loss {row['loss']['difference']:.1e}, "
        f"of the validation loss {row['val_loss']['difference']:.1e}")
    if not row["ok"]:
        raise Failed(f"losses differ by more than {TOLERANCE:g}")


def notebook(session: Session, record: dict) -> None:
    """The notebook's recipe to its early stop."""
    epochs = {"train.epochs": 2} if session.quick else {}
    for seed in range(session.seeds):
        for precision in ("bf16", "f32"):
            name = f"notebook-{precision}-{42 + seed}"
            attempt(record, name, lambda name=name, precision=precision, seed=42 + seed: record["rows"].append(
                notebook_row(session, session.train("notebook.toml", {**epochs, "precision": precision, "seed": seed},
                                                    name, 180, monitor=True), precision, seed)))


def notebook_row(session: Session, training: Training, precision: str, seed: int) -> dict:
    """Speed, accuracy, time to the target and use of the GPU."""
    reached = next((epoch["epoch"] for epoch in training.metrics if epoch["val_accuracy"] >= TARGET_ACCURACY), None)
    row = {"precision": precision, "seed": seed, **result_of(training), "target_epoch": reached,
           "target_seconds": training.shown_at.get(reached) if reached else None}
    log(f"notebook, {precision}, seed {seed}: {row['images_per_second']:,.0f} images/s, "
        f"best validation accuracy {row['best_val_accuracy']:.4f}, {training.seconds:.1f} s")
    return row


def result_of(training: Training) -> dict:
    """What the page shows of a whole run."""
    return {"images_per_second": peers.median(training.speeds()), "speeds": training.speeds(),
            "epochs": len(training.metrics), "train_rows": training.summary["train_rows"],
            "best_val_accuracy": training.summary["best_val_accuracy"],
            "best_val_accuracy_dedup": training.summary.get("best_val_accuracy_dedup"),
            "best_epoch": training.summary["best_epoch"], "last_val_accuracy": training.metrics[-1]["val_accuracy"],
            "stopped": training.summary["stopped"], "seconds": round(training.seconds, 3),
            "first_epoch_seconds": training.shown_at.get(1), **training.gpu}


def graph(session: Session, record: dict) -> None:
    """Steps recorded as a CUDA graph against eager ones, in turn."""
    for round_ in range(1 if session.quick else ROUNDS):
        for cuda_graph in ((True, False) if round_ % 2 == 0 else (False, True)):
            name = f"graph-{'on' if cuda_graph else 'off'}-{round_}"
            attempt(record, name, lambda name=name, cuda_graph=cuda_graph, round_=round_: record["rows"].append(
                peers.grimace_row(session, name, 64, cuda_graph, round_, epochs=2 if session.quick else 3)))


def record_config(session: Session, record: dict) -> None:
    """configs/best/gpu.toml, for as many epochs as there is time for."""
    common: dict[str, object] = {} if session.data.public_test and not session.quick else {"data.validation": 0.2}
    if session.quick:
        common |= SMALL_RECORD | {"data.train": str(session.data.few)}
    probe = session.train("best/gpu.toml", {**common, "train.epochs": 2, "train.schedule.warmup": 1}, "record-probe",
                          240)
    if not {1, 2} <= probe.shown_at.keys():
        raise Failed("grimace train printed no line per epoch")
    epoch = probe.shown_at[2] - probe.shown_at[1]
    rest = max(0.0, probe.seconds - 2 * epoch)
    # A twentieth and two seconds of slack: epochs vary.
    affordable = int((session.left() * 0.95 - rest - 2) / max(epoch, 1e-3))
    epochs = min(2 if session.quick else 200, affordable)
    record |= {"epoch_seconds": round(epoch, 3), "affordable_epochs": affordable}
    if epochs < 1:
        raise OutOfTime
    if epochs <= 2:
        common["train.schedule.warmup"] = 0                        # must be below the number of epochs; the config's is 2
    log(f"best/gpu.toml: an epoch takes {epoch:.2f} s, so {epochs} of 200 epochs")
    training = session.train("best/gpu.toml", {**common, "train.epochs": epochs}, "record", session.left() + 1,
                             monitor=True)
    record["rows"].append({**result_of(training), "precision": training.summary["precision"]})


# In order: name, function, and the seconds that it needs at least.
STAGES: dict[str, tuple[Callable[[Session, dict], None], float]] = {
    "doctor": (doctor, 5), "agree": (agree, 15), "notebook": (notebook, 20), "graph": (graph, 20),
    "peers": (peers.compare, 30), "record": (record_config, 30),
}
