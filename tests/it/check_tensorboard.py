"""Reads a run's events with TensorBoard's own reader, before and after the run is resumed.

    python check_tensorboard.py RUN CONFIG COMMAND...

CONFIG is the run's resolved config as JSON; COMMAND resumes the run until it is finished.
"""
import json
import struct
import subprocess
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

run, config, command = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
TAGS = {"loss/train": "loss", "loss/validation": "val_loss", "accuracy/train": "accuracy", "accuracy/validation": "val_accuracy",
        "accuracy/validation_dedup": "val_accuracy_dedup", "macro_f1/validation": "val_macro_f1", "learning_rate": "lr",
        "images_per_second": "images_per_second"}
EXCLUDED = {"name", "data.train", "data.test", "data.classes"}
passed = 0


def check(condition, what):
    global passed
    if not condition:
        sys.exit(f"failed: {what}")
    passed += 1


def check_scalars(events, epochs, when):
    """Every tag has the metric of every line of metrics.jsonl, once."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    check(len(records) == epochs, f"{len(records)} epochs {when}")
    expected = {tag: [(record["epoch"], record[key]) for record in records if record[key] is not None]
                for tag, key in TAGS.items()}
    expected = {tag: values for tag, values in expected.items() if values}
    check(set(events.Tags()["scalars"]) == set(expected), f"tags {when}: {events.Tags()['scalars']}")
    for tag, values in expected.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        as_float32 = [(step, struct.unpack("f", struct.pack("f", value))[0]) for step, value in values]
        check(found == as_float32, f"{tag} {when}: {found}, not {as_float32}")
    times = [event.wall_time for event in events.Scalars("loss/train")]
    for record, before, after in zip(records[1:], times, times[1:]):
        check(abs(after - before - record["seconds"]) < 1e-4, f"times {when}: {times}")


def flat(table, folder=""):
    """A config as dotted keys, with arrays in TOML syntax."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{folder}{key}.")
        else:
            yield folder + key, json.dumps(value) if isinstance(value, list) else value


def check_hyperparameters(events, epochs):
    """Hyperparameters are those of the config."""
    content = lambda tag: events.SummaryMetadata(tag).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content(metadata.SESSION_START_INFO_TAG))
    found = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    expected = {key: value for key, value in flat(config) if key not in EXCLUDED} | {"train.epochs": epochs}
    check(found == expected, f"hyperparameters: {found}, not {expected}")
    check(len(found) > 20 and found["augment.flip"] is True and found["model.filters"] == "[16, 32]", f"values: {found}")
    check(len(start.group_name) == 64, f"group name: {start.group_name}")
    check(metadata.EXPERIMENT_TAG not in events.Tags()["tensors"], "no experiment tag, which TensorBoard would apply to all runs")
    end = metadata.parse_session_end_info_plugin_data(content(metadata.SESSION_END_INFO_TAG))
    last = events.Scalars("loss/train")[-1].wall_time
    check(end.status == api_pb2.STATUS_SUCCESS and end.end_time_secs == last, f"session end: {end}")
    check(start.start_time_secs < last, f"session start: {start.start_time_secs}")


def check_images(events):
    """Plots of a finished run."""
    names = ["confusion", "curves", "mistakes", "reliability", "roc"]
    check(sorted(events.Tags()["images"]) == names, f"images: {events.Tags()['images']}")
    for name in names:
        image = events.Images(name)[-1]
        data = (run / f"{name}.png").read_bytes()
        check(image.encoded_image_string == data and image.width > 200 and image.height > 100, f"image {name}")


# A reader that stays open, as in a running TensorBoard, and a new one.
open_reader = EventAccumulator(str(run)).Reload()
check_scalars(open_reader, 2, "before resuming")
check_hyperparameters(open_reader, 2)
subprocess.run(command, check=True)
check_scalars(open_reader.Reload(), 3, "in the open reader")
new_reader = EventAccumulator(str(run)).Reload()
check_scalars(new_reader, 3, "in a new reader")
check_hyperparameters(new_reader, 3)
check_images(new_reader)
print(f"{passed} checks passed")
