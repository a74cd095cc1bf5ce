//! `grimace data synth`

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;
use fs_err as fs;
use rayon::prelude::*;
use serde_json::json;

use super::common::{print, print_json};
use crate::data::images::Images;
use crate::data::label_map::CLASSES;
use crate::data::packed::{PackDetails, PackWriter};
use crate::report::text_table::thousands;
use crate::synthetic::{generate, label};
use crate::util::error::Outcome;
use crate::util::files::{Output, OutputRules, exists};

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
    /// Write images as packed files: my_emotion_train.faces and my_emotion_test.faces
    #[arg(long)]
    pub packed: bool,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DataSynthArgs) -> Result<Outcome> {
    let out = &args.out;
    let [train_out, test_out, labels_csv] = check_outputs(out, args)?;
    let (seed, train, test) = (args.seed, u64::from(args.train), u64::from(args.test));
    // Test images continue the sequence of the training images, so the two sets are disjoint.
    if args.packed {
        write_packed(&train_out, seed, 0..train, true)?;
        write_packed(&test_out, seed, train..train + test, false)?;
    } else {
        write_csv(&train_out, "emotion,pixels", train, |i| image_row(seed, i, &label(seed, i).to_string()))?;
        write_csv(&test_out, "id,pixels", test, |i| image_row(seed, train + i, &i.to_string()))?;
    }
    write_csv(&labels_csv, "id,emotion", test, |i| format!("{i},{}\n", label(seed, train + i)))?;
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

/// Checks the three files in the folder `out`, and creates the folder.
fn check_outputs(out: &Path, args: &DataSynthArgs) -> Result<[Output; 3]> {
    if exists(out) && !out.is_dir() {
        return Err(anyhow!("{}: is not a folder; expected an output folder", out.display()));
    }
    fs::create_dir_all(out)?;
    let rules = OutputRules { force: args.force, ..OutputRules::default() };
    let check = |name: &str, ending: &str| Output::check(&out.join(format!("{name}.{ending}")), rules);
    let images = if args.packed { "faces" } else { "csv" };
    Ok([check("my_emotion_train", images)?, check("my_emotion_test", images)?, check("my_emotion_test_labels", "csv")?])
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

/// Packs the images `range` atomically: with labels, or with ids from 0.
fn write_packed(output: &Output, seed: u64, range: Range<u64>, has_labels: bool) -> Result<()> {
    let classes = CLASSES.map(String::from);
    let rows = u32::try_from(range.end - range.start)?;
    output.replace(|temporary| {
        let mut writer = PackWriter::create(temporary)?;
        for start in range.clone().step_by(CHUNK as usize) {
            let part: Vec<u64> = (start..range.end.min(start + CHUNK)).collect();
            let pixels: Vec<u8> = part.par_iter().flat_map_iter(|i| generate(seed, *i, label(seed, *i))).collect();
            let labels = || part.iter().map(|i| label(seed, *i) as u8).collect();
            let ids = || part.iter().map(|i| (i - range.start).to_string()).collect();
            let first = u32::try_from(start - range.start)?;
            let images = Images {
                pixels: pixels.into(),
                labels: has_labels.then(labels),
                ids: (!has_labels).then(ids),
                rows: (first..).take(part.len()).collect(),
                ..Images::default()
            };
            writer.append(images.with_hashes()?)?;
        }
        writer.finish(rows, PackDetails { classes: &classes, ..PackDetails::default() })
    })
}

/// Writes a CSV of `count` rows atomically.
fn write_csv(output: &Output, header: &str, count: u64, row: impl Fn(u64) -> String + Sync) -> Result<()> {
    output.replace(|temporary| write_rows(BufWriter::new(fs::File::create(temporary)?), header, count, CHUNK, row))
}

/// Writes a CSV of `count` rows, `chunk` of which are in memory at a time.
fn write_rows(
    mut file: impl Write,
    header: &str,
    count: u64,
    chunk: u64,
    row: impl Fn(u64) -> String + Sync,
) -> Result<()> {
    writeln!(file, "{header}")?;
    let mut start = 0;
    while start < count {
        let end = count.min(start + chunk);
        let rows: Vec<String> = (start..end).into_par_iter().map(&row).collect();
        rows.iter().try_for_each(|row| file.write_all(row.as_bytes()))?;
        start = end;
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_do_not_depend_on_the_size_of_a_chunk() {
        let write = |count, chunk| {
            let mut bytes = Vec::new();
            write_rows(&mut bytes, "emotion,pixels", count, chunk, |i| image_row(5, i, &label(5, i).to_string()))
                .unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let rows = write(9, 4);
        assert!([1, 3, 9, CHUNK].into_iter().all(|chunk| write(9, chunk) == rows));
        assert_eq!(rows.lines().count(), 10);
        let third = format!("{},{}", label(5, 2), generate(5, 2, label(5, 2)).map(|pixel| pixel.to_string()).join(" "));
        assert_eq!(rows.lines().nth(3), Some(third.as_str()));
        assert!(rows.starts_with(&write(8, 4)) && write(0, 4) == "emotion,pixels\n");
    }
}
