//! `grimace data synth`

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;
use fs_err as fs;
use rayon::prelude::*;
use serde_json::json;

use super::common::{print, print_json};
use crate::report::text_table::thousands;
use crate::synthetic::{generate, label};
use crate::util::error::Outcome;
use crate::util::files::{check_overwrite, replace_atomically};

/// Rows generated in parallel before they are written; about 9 KB each.
const CHUNK: u64 = 4096;

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
    let [train_csv, test_csv, labels_csv] =
        ["my_emotion_train.csv", "my_emotion_test.csv", "my_emotion_test_labels.csv"].map(|name| out.join(name));
    [&train_csv, &test_csv, &labels_csv].into_iter().try_for_each(|path| check_overwrite(path, args.force))?;
    fs::create_dir_all(out)?;
    let (seed, train, test) = (args.seed, u64::from(args.train), u64::from(args.test));
    // Test images continue the sequence of the training images, so the two sets are disjoint.
    write_rows(&train_csv, "emotion,pixels", train, |i| image_row(seed, i, &label(seed, i).to_string()))?;
    write_rows(&test_csv, "id,pixels", test, |i| image_row(seed, train + i, &i.to_string()))?;
    write_rows(&labels_csv, "id,emotion", test, |i| format!("{i},{}\n", label(seed, train + i)))?;
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

/// A row of a CSV of images: `first`, and the pixels of image `index`.
fn image_row(seed: u64, index: u64, first: &str) -> String {
    let mut row = first.to_owned();
    for (position, pixel) in generate(seed, index, label(seed, index)).iter().enumerate() {
        let separator = if position == 0 { ',' } else { ' ' };
        // Writing to a string cannot fail.
        let _ = write!(row, "{separator}{pixel}");
    }
    row.push('\n');
    row
}

/// Writes a CSV of `count` rows atomically. Holds [`CHUNK`] of them in memory at a time.
fn write_rows(path: &Path, header: &str, count: u64, row: impl Fn(u64) -> String + Sync) -> Result<()> {
    replace_atomically(path, |temporary| {
        let mut file = BufWriter::new(fs::File::create(temporary)?);
        writeln!(file, "{header}")?;
        for start in (0..count).step_by(CHUNK as usize) {
            let rows: Vec<String> = (start..count.min(start + CHUNK)).into_par_iter().map(&row).collect();
            rows.iter().try_for_each(|row| file.write_all(row.as_bytes()))?;
        }
        Ok(file.flush()?)
    })
}
