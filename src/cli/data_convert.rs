//! `grimace data convert`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::common::{ClassArgs, RowArgs, check_run_output, print, print_json};
use super::data_pack::{PackExtras, pack_images};
use crate::data::advice::Advice;
use crate::data::config::OnBadRow;
use crate::data::convert::{check_folder, write_csv, write_folder};
use crate::data::read;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::report::Console;
use crate::report::text_table::thousands;
use crate::util::error::{Outcome, input};
use crate::util::files::{Output, OutputRules, input_name, is_standard_output};

/// `grimace data convert`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data convert data/my_emotion_train.csv faces\n  grimace data convert faces faces.csv\n\nThe folder has a folder for each class, in one for each Usage if there is that column: faces/train/happy/00012.png. Images are gray, 48x48 pixels. Reading the result gives the same images in the same order. A name that ends with .faces is a packed file, see grimace data pack."
)]
pub struct DataConvertArgs {
    /// CSV, folder or packed file of images; - reads a CSV from standard input
    pub data: PathBuf,
    /// A name that ends with .csv: CSV to write; with .faces: packed file; any other name: new folder
    /// of PNG files
    pub out: PathBuf,
    /// Classes and labels
    #[command(flatten)]
    pub classes: ClassArgs,
    /// Which images
    #[command(flatten)]
    pub rows: RowArgs,
    /// Overwrite an existing CSV or packed file
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DataConvertArgs) -> Result<Outcome> {
    let output = check_output(args)?;
    if let (Some(output), true) = (&output, has_extension(&args.out, "faces")) {
        pack_images(
            &args.data,
            output,
            &args.classes,
            &args.rows,
            PackExtras { json: args.json, ..PackExtras::default() },
        )?;
        return Ok(Outcome::Done);
    }
    let (classes, label_names) = args.classes.resolve(&[&args.data])?;
    let options = ReadOptions {
        label_names: &label_names,
        on_bad_row: args.rows.on_bad_row.unwrap_or(OnBadRow::Error),
        advice: Advice::CommandLine,
        ..ReadOptions::new(&classes, LabelPolicy::Optional)
    };
    let mut images = read::read(&args.data, options)?;
    let (mut console, name) = (Console::default(), input_name(&args.data));
    images.notes.iter().try_for_each(|note| console.line(note))?;
    if let Some(skipped) = images.skipped.describe() {
        console.line(&format!("{}: {skipped}", name.display()))?;
    }
    if let Some(usage) = &args.rows.usage {
        images = images.with_usage(usage, name)?;
        images.usages = None;
    }
    match &output {
        Some(output) => write_csv(&images, &classes, output)?,
        None => write_folder(&images, &classes, &args.out)?,
    }
    if args.json {
        print_json(&json!({
            "out": args.out.to_string_lossy(),
            "images": images.len(),
            "skipped": images.skipped.count(),
            "classes": classes,
        }))?;
    } else {
        print(&format!("{} images written to {}\n", thousands(images.len()), args.out.display()))?;
    }
    Ok(Outcome::Done)
}

/// The CSV or packed file to write, or `None` for a folder, which is checked.
fn check_output(args: &DataConvertArgs) -> Result<Option<Output>> {
    if is_standard_output(&args.out) {
        return Err(input("-: standard output is not written to; give the name of a CSV or of a folder"));
    }
    if has_extension(&args.out, "csv") || has_extension(&args.out, "faces") {
        let rules = OutputRules { inputs: &[&args.data], force: args.force, json: args.json };
        return Ok(Some(check_run_output(&args.out, &[], rules)?));
    }
    if args.force {
        return Err(input(
            "--force overwrites a file only; give the name of a new folder, or one that ends with .csv or .faces",
        ));
    }
    check_folder(&args.out)?;
    Ok(None)
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}
