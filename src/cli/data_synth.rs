//! `grimace data synth`

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use fs_err as fs;
use rayon::prelude::*;
use serde_json::json;

use super::common::{print, print_json};
use crate::report::text_table::thousands;
use crate::synthetic::{generate, label};
use crate::util::error::{Outcome, input};
use crate::util::files::write_atomically;

/// `grimace data synth`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data synth --out synthetic\n\nWrites my_emotion_train.csv (emotion,pixels), my_emotion_test.csv (id,pixels) and my_emotion_test_labels.csv (id,emotion)."
)]
pub struct DataSynthArgs {
    /// Output folder; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Training images
    #[arg(long, default_value_t = 12_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub train: u32,
    /// Test images
    #[arg(long, default_value_t = 3_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub test: u32,
    /// Random seed
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DataSynthArgs) -> Result<Outcome> {
    let out = &args.out;
    if out.exists() && !out.is_dir() {
        return Err(anyhow!("{}: is not a folder; expected an output folder", out.display()));
    }
    let names = ["my_emotion_train.csv", "my_emotion_test.csv", "my_emotion_test_labels.csv"];
    if let Some(name) = names.iter().find(|name| out.join(name).exists()).filter(|_| !args.force) {
        let path = out.join(name);
        return Err(input(format!("{}: exists; choose another --out, or overwrite it with --force", path.display())));
    }
    fs::create_dir_all(out)?;
    let (train, test) = (u64::from(args.train), u64::from(args.test));
    let row = |index: u64, first: String| {
        let image = generate(args.seed, index, label(args.seed, index));
        let pixels: Vec<String> = image.iter().map(ToString::to_string).collect();
        format!("{first},{}\n", pixels.join(" "))
    };
    let emotion = |index: u64| label(args.seed, index).to_string();
    // Test images continue the sequence of the training images, so the two sets are disjoint.
    let file = |name: &str, header: &str, rows: Vec<String>| {
        write_atomically(&out.join(name), (header.to_owned() + &rows.concat()).as_bytes())
    };
    file("my_emotion_train.csv", "emotion,pixels\n", (0..train).into_par_iter().map(|i| row(i, emotion(i))).collect())?;
    file(
        "my_emotion_test.csv",
        "id,pixels\n",
        (0..test).into_par_iter().map(|i| row(train + i, i.to_string())).collect(),
    )?;
    file(
        "my_emotion_test_labels.csv",
        "id,emotion\n",
        (0..test).map(|i| format!("{i},{}\n", emotion(train + i))).collect(),
    )?;
    if args.json {
        print_json(&json!({"out": out.to_string_lossy(), "train": train, "test": test, "seed": args.seed}))?;
        return Ok(Outcome::Done);
    }
    print(&format!(
        "{} training and {} test images written to {}\n",
        thousands(train as usize),
        thousands(test as usize),
        out.display()
    ))?;
    Ok(Outcome::Done)
}
