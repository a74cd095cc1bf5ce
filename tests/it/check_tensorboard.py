"""Reads a run's events with TensorBoard's own reader, before and after the run goes on.

    python check_tensorboard.py RUN CONFIG COMMAND...

CONFIG is the run's resolved config as JSON; COMMAND goes on with the run to its end.
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
        "accuracy/validation_dedup": "val_accuracy_dedup", "learning_rate": "lr",
        "images_per_second": "images_per_second"}
LEFT_OUT = {"name", "data.train", "data.test", "data.classes"}
passed = 0


def check(holds, what):
    global passed
    if not holds:
        sys.exit(f"failed: {what}")
    passed += 1


def check_scalars(events, epochs, when):
    """Every tag has the figure of every line of metrics.jsonl, once."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    check(len(records) == epochs, f"{len(records)} epochs {when}")
    wanted = {tag: [(record["epoch"], record[key]) for record in records if record[key] is not None]
              for tag, key in TAGS.items()}
    wanted = {tag: values for tag, values in wanted.items() if values}
    check(set(events.Tags()["scalars"]) == set(wanted), f"tags {when}: {events.Tags()['scalars']}")
    for tag, values in wanted.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        as_float32 = [(step, struct.unpack("f", struct.pack("f", value))[0]) for step, value in values]
        check(found == as_float32, f"{tag} {when}: {found}, not {as_float32}")
    times = [event.wall_time for event in events.Scalars("loss/train")]
    for record, before, after in zip(records[1:], times, times[1:]):
        check(abs(after - before - record["seconds"]) < 1e-4, f"times {when}: {times}")


def flat(table, folder=""):
    """A config as dotted keys, arrays as TOML writes them."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{folder}{key}.")
        else:
            yield folder + key, json.dumps(value) if isinstance(value, list) else value


def check_hyperparameters(events, epochs):
    """They are the config's."""
    content = lambda tag: events.SummaryMetadata(tag).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content(metadata.SESSION_START_INFO_TAG))
    found = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    wanted = {key: value for key, value in flat(config) if key not in LEFT_OUT} | {"train.epochs": epochs}
    check(found == wanted, f"hyperparameters: {found}, not {wanted}")
    check(len(found) > 20 and found["augment.flip"] is True and found["model.filters"] == "[16, 32]", f"values: {found}")
    check(len(start.group_name) == 64, f"the group's name: {start.group_name}")
    check(metadata.EXPERIMENT_TAG not in events.Tags()["tensors"], "TensorBoard would take one run's experiment for all")
    end = metadata.parse_session_end_info_plugin_data(content(metadata.SESSION_END_INFO_TAG))
    last = events.Scalars("loss/train")[-1].wall_time
    check(end.status == api_pb2.STATUS_SUCCESS and end.end_time_secs == last, f"the end: {end}")
    check(start.start_time_secs < last, f"the start: {start.start_time_secs}")


def check_images(events):
    """The pictures of a finished run."""
    names = ["confusion", "curves", "mistakes", "reliability"]
    check(sorted(events.Tags()["images"]) == names, f"images: {events.Tags()['images']}")
    for name in names:
        image = events.Images(name)[-1]
        data = (run / f"{name}.png").read_bytes()
        check(image.encoded_image_string == data and image.width > 200 and image.height > 100, f"the image {name}")


# One reader that stays, as in a TensorBoard that runs, and one that begins anew.
staying = EventAccumulator(str(run)).Reload()
check_scalars(staying, 2, "before going on")
check_hyperparameters(staying, 2)
subprocess.run(command, check=True)
check_scalars(staying.Reload(), 3, "for a reader that stayed")
fresh = EventAccumulator(str(run)).Reload()
check_scalars(fresh, 3, "for a reader that begins")
check_hyperparameters(fresh, 3)
check_images(fresh)
print(f"{passed} checks passed")
