//! `data.resident`: images that stream from the host give the results of those on the device.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{bad, bench, command, good, json, tensors, text, timeless_metrics};
use crate::process::{send, wait_for_epochs};

const TRAIN: &str = "data/my_emotion_train.csv";

/// Every augmentation, and what is sampled or averaged besides.
const ALL: [&str; 14] = [
    "augment.crop=0.3",
    "augment.brightness=0.2",
    "augment.contrast=0.2",
    "augment.gamma=0.2",
    "augment.random_erasing=0.5",
    "augment.mixup=0.4",
    "augment.cutmix=1.0",
    "train.sampling=balanced",
    "train.ema=0.9",
    // Enough that a run does not end before it is killed.
    "train.epochs=30",
    "train.early_stop.patience=0",
    // The last batch of an epoch is smaller.
    "train.batch=50",
    "train.label_smoothing=0.1",
    "train.checkpoint_every={epochs=2,steps=3}",
];

fn train<'a>(out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let sets = ALL.iter().copied().chain(sets.iter().copied()).flat_map(|set| ["--set", set]);
    ["train", "tiny.toml", "--out", out].into_iter().chain(sets).collect()
}

fn assert_same_run(folder: &Path, one: &str, other: &str) {
    let (one, other) = (folder.join(one), folder.join(other));
    assert_eq!(timeless_metrics(&one), timeless_metrics(&other));
    for file in ["best.safetensors", "last.safetensors"] {
        assert!(tensors(&one.join(file)) == tensors(&other.join(file)), "{file} of {} differs", other.display());
    }
    for file in ["split.csv", "validation.csv"] {
        assert_eq!(text(one.join(file)), text(other.join(file)));
    }
}

#[test]
fn streamed_training_equals_resident_training_bit_for_bit() {
    let bench = bench();
    let folder = bench.path();
    good(folder, &["data", "pack", TRAIN, "train.faces"]);
    good(folder, &train("device", &["data.resident=device"]));
    good(folder, &train("host", &["data.resident=host"]));
    // On the CPU, a packed file streams unless it is told otherwise.
    good(folder, &train("packed", &["data.train=train.faces"]));
    good(folder, &train("packed-device", &["data.train=train.faces", "data.resident=device"]));
    for other in ["host", "packed", "packed-device"] {
        assert_same_run(folder, "device", other);
    }
    assert!(!text(folder.join("packed/config.toml")).contains("resident"), "the default is not written");
    // Without an affine transform, whose kernel gathers by itself.
    let plain = ["augment.rotate=0", "augment.shift=0", "augment.zoom=0", "augment.flip=false", "augment.crop=0"];
    let more = |data: &'static str| [&plain[..], &[data]].concat();
    good(folder, &train("plain", &more("data.resident=device")));
    good(folder, &train("plain-packed", &more("data.train=train.faces")));
    assert_same_run(folder, "plain", "plain-packed");
    bad(folder, &train("x", &["data.resident=disk"]), 2, &["data.resident", "auto", "device", "host"]);
}

#[test]
fn a_streamed_run_that_is_killed_and_stopped_equals_an_unbroken_resident_one() {
    let bench = bench();
    let folder = bench.path();
    good(folder, &["data", "pack", TRAIN, "train.faces"]);
    good(folder, &train("device", &["data.resident=device"]));
    let resumed = |set| [train("broken", &[set]), vec!["--resume"]].concat();
    let spawn = |set| {
        command(folder, &resumed(set))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    };
    for (epochs, delay, signal) in [(1, 5, "KILL"), (2, 12, "TERM"), (3, 20, "KILL"), (4, 3, "TERM")] {
        let mut child = spawn("data.train=train.faces");
        wait_for_epochs(&folder.join("broken"), epochs);
        std::thread::sleep(Duration::from_millis(delay));
        send(signal, &child);
        let status = child.wait().unwrap();
        // Killed, or stopped after saving.
        assert!(status.signal() == Some(9) || status.code() == Some(143), "{status:?}");
    }
    let done = good(folder, &resumed("data.train=train.faces"));
    assert!(done.stderr.contains("resuming"), "{}", done.all());
    assert_same_run(folder, "device", "broken");
    // The place of the images may change when a run is resumed.
    let longer = ["--set", "data.train=train.faces", "--set", "data.resident=device", "--set", "train.epochs=31"];
    let done = good(folder, &[resumed("data.train=train.faces"), longer.to_vec()].concat());
    assert!(done.stderr.contains("data.resident changed from"), "{}", done.all());
    assert_eq!(json(folder.join("broken/summary.json"))["epochs"], 31);
}

#[test]
fn an_image_that_cannot_be_read_ends_the_run_with_its_place() {
    let bench = bench();
    let folder = bench.path();
    good(folder, &["data", "pack", TRAIN, "train.faces"]);
    let mut bytes = fs_err::read(folder.join("train.faces")).unwrap();
    for image in 0..600 {
        bytes[4096 + image * 2304] ^= 1;
    }
    fs_err::write(folder.join("train.faces"), bytes).unwrap();
    let parts = ["train.faces: image ", "does not match its hash: the file is corrupt; restore it from a copy"];
    bad(folder, &train("run", &["data.train=train.faces"]), 2, &parts);
    bad(folder, &train("resident", &["data.train=train.faces", "data.resident=device"]), 2, &parts);
}
