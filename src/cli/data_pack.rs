//! `grimace data pack`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::common::{ClassArgs, RowArgs, check_run_output, check_standard_input, print, print_json};
use crate::data::advice::Advice;
use crate::data::config::OnBadRow;
use crate::data::pack::{PackRequest, pack};
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::report::Console;
use crate::report::text_table::thousands;
use crate::util::error::{Outcome, input};
use crate::util::files::{Output, OutputRules, input_name, is_standard_output};
use crate::util::text::count;

/// `grimace data pack`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data pack data/my_emotion_train.csv train.faces\n  grimace train configs/notebook.toml --set data.train=train.faces --out runs/packed\n\nA packed file has the pixels, labels, ids, usages, groups and soft labels of its images. Every command accepts it where it accepts a CSV or a folder. It opens at once, its pixels are read when they are needed, and each image is checked when it is read."
)]
pub struct DataPackArgs {
    /// CSV, folder or packed file of images; - reads a CSV from standard input
    pub data: PathBuf,
    /// File to write, such as train.faces
    pub out: PathBuf,
    /// Classes and labels
    #[command(flatten)]
    pub classes: ClassArgs,
    /// Which images
    #[command(flatten)]
    pub rows: RowArgs,
    /// Also pack this column of the CSV, for data.group
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// Also pack these soft labels, for data.soft_labels
    #[arg(long, value_name = "CSV")]
    pub soft_labels: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DataPackArgs) -> Result<Outcome> {
    if is_standard_output(&args.out) {
        return Err(input("-: a packed file is not written to standard output; give the name of a file"));
    }
    let inputs: Vec<_> = [Some(args.data.as_path()), args.soft_labels.as_deref()].into_iter().flatten().collect();
    check_standard_input(&inputs)?;
    let output = check_run_output(&args.out, &[], OutputRules { inputs: &inputs, force: args.force, json: args.json })?;
    let extras = PackExtras { group: args.group.as_deref(), soft_labels: args.soft_labels.as_deref(), json: args.json };
    pack_images(&args.data, &output, &args.classes, &args.rows, extras)?;
    Ok(Outcome::Done)
}

/// What to pack besides images and labels, and how to print the result.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackExtras<'a> {
    /// Column with the groups.
    pub group: Option<&'a str>,
    /// CSV of soft labels.
    pub soft_labels: Option<&'a Path>,
    /// Print JSON.
    pub json: bool,
}

/// Packs the images at `data` into `output`, and prints the result.
pub fn pack_images(
    data: &Path,
    output: &Output,
    classes: &ClassArgs,
    rows: &RowArgs,
    extras: PackExtras<'_>,
) -> Result<()> {
    let (classes, label_names) = classes.resolve(&[data])?;
    let options = ReadOptions {
        label_names: &label_names,
        on_bad_row: rows.on_bad_row.unwrap_or(OnBadRow::Error),
        group: extras.group,
        advice: Advice::CommandLine,
        ..ReadOptions::new(&classes, LabelPolicy::Optional)
    };
    let PackExtras { soft_labels, json, .. } = extras;
    let packed = pack(PackRequest { data, options, usage: rows.usage.as_deref(), soft_labels }, output)?;
    let (mut console, name) = (Console::default(), input_name(data).display());
    packed.whole.notes.iter().try_for_each(|note| console.line(note))?;
    if let Some(skipped) = packed.whole.skipped.describe() {
        console.line(&format!("{name}: {skipped}"))?;
    }
    if let (1.., Some(path)) = (packed.without_votes, soft_labels) {
        let images = count(packed.without_votes, "image");
        console.line(&format!("{}: no vote for a class for {images}", path.display()))?;
    }
    if json {
        return print_json(&json!({
            "out": output.path().to_string_lossy(),
            "images": packed.images,
            "skipped": packed.whole.skipped.count(),
            "classes": classes,
        }));
    }
    print(&format!("{} images written to {output}\n", thousands(packed.images)))
}
