//! `grimace data preview`

use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

use super::ConfigArgs;
use super::common::{print, print_json};
use crate::config::{self, Config};
use crate::data::config::Validation;
use crate::data::dataset;
use crate::data::device_images::DeviceImages;
use crate::report::picture::Sheet;
use crate::transforms::{self, Augment, AugmentParams};
use crate::util::error::Outcome;
use crate::util::files::check_output_beside;

/// `grimace data preview`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data preview configs/notebook.toml --out sheet.png\n\nEach row: an original on the left, then what training makes of it in its first epochs, before images are mixed."
)]
pub struct DataPreviewArgs {
    /// Config and changes to it
    #[command(flatten)]
    pub config: ConfigArgs,
    /// PNG to write
    #[arg(long, value_name = "PNG")]
    pub out: PathBuf,
    /// Originals
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rows: u32,
    /// Augmented images beside each
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub columns: u32,
    /// Print what was done as one JSON object
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
    check_output_beside(&args.out, &inputs)?;
    let images = dataset::load(&config.data, config.seed)?.train;
    let augment = Augment::new(&config.augment, config.seed);
    let (rows, columns) = ((args.rows as usize).min(images.len()), args.columns as usize);
    let on_device = DeviceImages::new(&images, Device::Cpu)?;
    let mut sheet = Sheet::new(rows, &[1, columns], 2);
    for row in 0..rows {
        // Spread over the file, so that the sheet shows different people and classes.
        let position = row * images.len() / rows;
        let image = images.image(position);
        sheet.place(row, 0, image);
        let index = Tensor::f_from_slice(&[position as i64])?;
        for epoch in 0..columns {
            let params = AugmentParams::new(&augment, epoch as u64, &[position as i64], Device::Cpu)?;
            let drawn = transforms::images(&on_device, &index, &params, Kind::Float)?;
            let read = drawn.f_mul_scalar(255.0)?.f_round()?.f_to_dtype(Kind::Uint8, false, false)?;
            let pixels: Vec<u8> = Vec::try_from(read.f_flatten(0, -1)?)?;
            sheet.place(row, 1 + epoch, &pixels);
        }
    }
    sheet.write(&args.out)?;
    if args.json {
        print_json(&json!({"out": args.out.to_string_lossy(), "images": rows, "augmented_each": columns}))?;
        return Ok(Outcome::Done);
    }
    print(&format!("{rows} images, each with {columns} augmented, drawn in {}\n", args.out.display()))?;
    Ok(Outcome::Done)
}
