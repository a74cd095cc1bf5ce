//! `[augment]` end to end: every transform changes images as a function of the seed, also in a resumed
//! run. The unit tests in `src/transforms` check their values.

use crate::common::{bad, bench, good, json, tensors, text, timeless_metrics};

/// Turns off the transforms that are on by default.
const OFF: [&str; 4] = ["augment.rotate=0", "augment.shift=0", "augment.zoom=0", "augment.flip=false"];

/// Strong transforms of single images.
const PER_IMAGE: [&str; 5] = [
    "augment.brightness=0.5",
    "augment.contrast=0.9",
    "augment.gamma=0.9",
    "augment.crop=0.6",
    "augment.random_erasing=1",
];

/// Transforms of the images of a batch.
const MIX: [&str; 2] = ["augment.mixup=0.4", "augment.cutmix=1"];

fn with<'a>(args: &[&'a str], sets: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(sets.iter().flat_map(|set| ["--set", set])).collect()
}

#[test]
fn preview_shows_each_transform() {
    let bench = bench();
    let sheet = |out: &str, more: &[&str]| {
        let args = ["data", "preview", "tiny.toml", "--rows", "2", "--columns", "3", "--out", out];
        good(bench.path(), &with(&args, &[&OFF[..], more].concat()));
        fs_err::read(bench.path().join(out)).unwrap()
    };
    let mut sheets = vec![sheet("off.png", &[])];
    for (number, set) in PER_IMAGE.iter().enumerate() {
        let image = sheet(&format!("{number}.png"), &[set]);
        assert!(image == sheet(&format!("{number}-repeated.png"), &[set]), "{set}: depends on the seed alone");
        assert!(!sheets.contains(&image), "{set}: has no effect");
        sheets.push(image);
    }
}

#[test]
fn resumed_run_samples_the_same_transforms_as_an_uninterrupted_run() {
    let bench = bench();
    let folder = bench.path();
    let train = |out: &'static str, more: &[&'static str]| {
        with(&["train", "tiny.toml", "--out", out], &[&PER_IMAGE[..], &MIX, more].concat())
    };
    good(folder, &train("uninterrupted", &[]));
    good(folder, &train("resumed", &["train.epochs=1"]));
    good(folder, &[&train("resumed", &[])[..], &["--resume"]].concat());
    let (uninterrupted, resumed) = (folder.join("uninterrupted"), folder.join("resumed"));
    assert_eq!(timeless_metrics(&resumed), timeless_metrics(&uninterrupted));
    assert!(tensors(&resumed.join("last.safetensors")) == tensors(&uninterrupted.join("last.safetensors")));
    assert_eq!(json(uninterrupted.join("summary.json"))["epochs"], 3);
    assert!(text(uninterrupted.join("config.toml")).contains("brightness = 0.5"));
    let other = [&train("uninterrupted", &["augment.gamma=0.1", "train.epochs=4"])[..], &["--resume"]].concat();
    bad(folder, &other, 2, &["augment.gamma was 0.9, now it is 0.1", "another --out"]);
}

#[test]
fn mixing_ends_after_a_fraction_of_the_epochs() {
    let bench = bench();
    let metrics = |out: &'static str, until: &'static str| {
        good(bench.path(), &with(&["train", "tiny.toml", "--out", out], &["augment.mixup=0.4", until]));
        timeless_metrics(&bench.path().join(out))
    };
    let (whole, half) = (metrics("whole", "augment.mix_until=1"), metrics("half", "augment.mix_until=0.5"));
    // Of three epochs, two begin in the first half.
    assert_eq!(half[..2], whole[..2]);
    assert_ne!(half[2], whole[2]);
    let args = with(&["train", "tiny.toml", "--out", "bad"], &["augment.mix_until=1.5"]);
    bad(bench.path(), &args, 2, &["augment.mix_until = 1.5 is not allowed", "a fraction of the epochs"]);
}
