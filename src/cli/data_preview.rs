//! `grimace data preview`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::ConfigArgs;
use super::common::{check_run_output, print, print_json};
use crate::config::{self, Config};
use crate::data::config::Validation;
use crate::data::dataset;
use crate::data::device_images::{DeviceImages, Resident};
use crate::data::images::Images;
use crate::report::Console;
use crate::report::contact_sheet::ContactSheet;
use crate::transforms::{self, Augment, AugmentParams};
use crate::util::error::Outcome;
use crate::util::files::OutputRules;

/// `grimace data preview`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data preview configs/notebook.toml --out preview.png\n\nEach row is a training image, then its augmentations in the first epochs, before mixup and CutMix."
)]
pub struct DataPreviewArgs {
    /// Config and overrides
    #[command(flatten)]
    pub config: ConfigArgs,
    /// PNG to write; - writes to standard output
    #[arg(long, value_name = "PNG")]
    pub out: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Training images
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rows: u32,
    /// Augmentations of each
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub columns: u32,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DataPreviewArgs) -> Result<Outcome> {
    let config = config::load::<Config>(&args.config.config, &args.config.sets)?;
    let mut inputs = vec![args.config.config.as_path(), config.data.train.as_path()];
    if let Validation::Path(path) = &config.data.validation {
        inputs.push(path);
    }
    inputs.extend(config.data.soft_labels.as_deref());
    inputs.extend(config.data.exclude.as_deref());
    let output = check_run_output(&args.out, &[], OutputRules { inputs: &inputs, force: args.force, json: args.json })?;
    let images = dataset::load(&config.data, config.seed)?.train;
    let (rows, columns) = ((args.rows as usize).min(images.len()), args.columns as usize);
    output.write(&contact_sheet(&config, &images, rows, columns)?.to_png()?)?;
    let message = format!("{rows} images with {columns} augmentations each, written to {output}");
    if args.json {
        print_json(&json!({"out": args.out.to_string_lossy(), "images": rows, "augmented_each": columns}))?;
    } else if output.is_standard_output() {
        Console::default().line(&message)?;
    } else {
        print(&(message + "\n"))?;
    }
    Ok(Outcome::Done)
}

/// `rows` training images, each beside its augmentations in the first `columns` epochs.
fn contact_sheet(config: &Config, images: &Images, rows: usize, columns: usize) -> Result<ContactSheet> {
    let augment = Augment::new(&config.augment, config.seed, config.train.epochs);
    let on_device = DeviceImages::place(images, Device::Cpu, Resident::Host)?;
    let mut sheet = ContactSheet::new(rows, &[1, columns], 2);
    for row in 0..rows {
        // Spread over the file, to show different people and classes.
        let position = row * images.len() / rows;
        let image = &images.image(position)?;
        sheet.place(row, 0, image);
        let index = Tensor::f_from_slice(&[position as i64])?;
        for epoch in 0..columns {
            let params = AugmentParams::new(&augment, epoch as u64, &[position as i64], Device::Cpu)?;
            let augmented = transforms::apply(&on_device, &index, &params, Kind::Float)?;
            let scaled = augmented.f_mul_scalar(255.0)?.f_round()?.f_to_dtype(Kind::Uint8, false, false)?;
            let pixels: Vec<u8> = Vec::try_from(scaled.f_flatten(0, -1)?)?;
            sheet.place(row, 1 + epoch, &pixels);
        }
    }
    Ok(sheet)
}
