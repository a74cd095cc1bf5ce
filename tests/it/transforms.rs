//! `[augment]` through the command line: every operation changes images and trainings, and each follows from the seed.

use crate::common::{bad, bench, good, json, tensors, text, timeless_metrics};

/// The small config with these keys, all else in `[augment]` off.
const OFF: [&str; 4] = ["augment.rotate=0", "augment.shift=0", "augment.zoom=0", "augment.flip=false"];

/// Operations on an image by itself, strong.
const FACE: [&str; 5] = [
    "augment.brightness=0.5",
    "augment.contrast=0.9",
    "augment.gamma=0.9",
    "augment.crop=0.6",
    "augment.random_erasing=1",
];

/// Operations on the images of a step together.
const MIX: [&str; 2] = ["augment.mixup=0.4", "augment.cutmix=1"];

fn with<'a>(args: &[&'a str], sets: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(sets.iter().flat_map(|set| ["--set", set])).collect()
}

#[test]
fn the_contact_sheet_shows_each_operation() {
    let bench = bench();
    let sheet = |out: &str, more: &[&str]| {
        let args = ["data", "preview", "tiny.toml", "--rows", "2", "--columns", "3", "--out", out];
        good(bench.path(), &with(&args, &[&OFF[..], more].concat()));
        fs_err::read(bench.path().join(out)).unwrap()
    };
    let plain = sheet("off.png", &[]);
    let mut seen = vec![plain];
    for (number, set) in FACE.iter().enumerate() {
        let picture = sheet(&format!("{number}.png"), &[set]);
        assert!(picture == sheet(&format!("{number}-again.png"), &[set]), "{set}: drawn from the seed alone");
        assert!(!seen.contains(&picture), "{set}: shows nothing of its own");
        seen.push(picture);
    }
}

#[test]
fn each_operation_trains_and_changes_the_training() {
    let bench = bench();
    let loss = |out: &str, sets: &[&str]| {
        good(bench.path(), &with(&["train", "tiny.toml", "--out", out, "--set", "train.epochs=1"], sets));
        timeless_metrics(&bench.path().join(out))[0]["loss"].as_f64().unwrap()
    };
    let mut losses = vec![loss("off", &[])];
    for (number, set) in FACE.iter().chain(&MIX).enumerate() {
        for precision in ["precision=f32", "precision=bf16"] {
            losses.push(loss(&format!("{number}-{precision}"), &[set, precision]));
        }
    }
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let distinct = losses.iter().enumerate().all(|(at, loss)| !losses[..at].contains(loss));
    assert!(distinct, "something changes nothing: {losses:?}");
}

#[test]
fn a_resumed_training_draws_what_an_unbroken_one_draws() {
    let bench = bench();
    let folder = bench.path();
    let train = |out: &'static str, more: &[&'static str]| {
        with(&["train", "tiny.toml", "--out", out], &[&FACE[..], &MIX, more].concat())
    };
    good(folder, &train("whole", &[]));
    good(folder, &train("parts", &["train.epochs=1"]));
    good(folder, &[&train("parts", &[])[..], &["--resume"]].concat());
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    assert_eq!(timeless_metrics(&parts), timeless_metrics(&whole));
    assert!(tensors(&parts.join("last.safetensors")) == tensors(&whole.join("last.safetensors")));
    assert_eq!(json(whole.join("summary.json"))["epochs"], 3);
    assert!(text(whole.join("config.toml")).contains("brightness = 0.5"));
    let other = [&train("whole", &["augment.gamma=0.1", "train.epochs=4"])[..], &["--resume"]].concat();
    bad(folder, &other, 2, &["augment.gamma was 0.9, now it is 0.1", "new --out"]);
}
