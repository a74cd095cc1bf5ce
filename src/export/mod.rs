//! Export of trained models. Each format writes what [`ExportedModel`] computes.

mod card_metrics;
mod exported_model;
mod format;
pub mod model_card;
mod onnx;
mod output_path;
mod torchscript;
mod verification;
mod web;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

pub use exported_model::ExportedModel;
pub use format::Format;
pub use onnx::{Int8Calibration, Quantization};
pub use output_path::{ExportPath, check_export_path, check_replaced_model};
pub use torchscript::EXTRA_FILE;
pub use web::{PageFiles, WebExported, WebSources, check_web_folder, export_web};

use output_path::{CARD_HASH_KEY, CARD_KEY, FILE_KEY, HASH_KEY, hash_file};
use verification::CHECKED_IMAGES;

/// Result of an export.
#[derive(Debug)]
pub struct Exported {
    /// Path of the description.
    pub description: PathBuf,
    /// Path of the model card.
    pub card: PathBuf,
    /// Max difference of a probability between the file and the checkpoint, in float32.
    pub difference: f64,
    /// Number of images compared.
    pub images: usize,
    /// What int8 costs, if the model was quantized.
    pub quantization: Option<Quantization>,
}

impl Exported {
    /// Describes the export in a sentence, and quantization in a few lines.
    pub fn describe(&self, out: &Path) -> String {
        let files = format!("{}, {} and {}", out.display(), self.description.display(), self.card.display());
        let link = if self.quantization.is_none() { "reloaded and " } else { "" };
        format!("wrote {files}; {link}{}", self.describe_checks())
    }

    /// What the model was compared with, and what quantization costs.
    fn describe_checks(&self) -> String {
        let difference = if self.difference == 0.0 { "0".to_owned() } else { format!("{:.0e}", self.difference) };
        let compared = format!("compared on {} images: max probability difference {difference}", self.images);
        match &self.quantization {
            None => compared,
            Some(quantization) => format!("before quantization {compared}\n{}", quantization.describe()),
        }
    }
}

/// Writes `model` to `out` in `format`, and its description, with the hash of the file, and its card
/// beside it.
/// Commands check both paths first ([`check_export_path`]). With `calibration`, an ONNX model is
/// quantized to int8.
///
/// `out` is replaced only after a temporary file was reloaded and agreed with the networks.
///
/// # Errors
/// A file that disagrees with the networks; I/O errors with the path.
pub fn export(
    model: &ExportedModel,
    format: Format,
    calibration: Option<&Int8Calibration>,
    out: &ExportPath,
) -> Result<Exported> {
    let mut description = model.description(format);
    let (mut difference, mut quantization) = (0.0, None);
    out.model.replace(|temporary| {
        match (format, calibration) {
            (Format::TorchScript, _) => {
                difference = torchscript::write(model, &serde_json::to_string_pretty(&description)?, temporary)?;
            }
            (Format::Onnx, None) => difference = onnx::write(model, &mut description, temporary)?,
            (Format::Onnx, Some(calibration)) => {
                let done = onnx::write_int8(model, calibration, &mut description, temporary)?;
                (difference, quantization) = (done.0, Some(done.1));
            }
        }
        Ok(())
    })?;
    let name = out.model.path().file_name().map(|name| name.to_string_lossy());
    let card = model.card.to_markdown(&name.clone().unwrap_or_default(), format, quantization.as_ref());
    out.card.write(card.as_bytes())?;
    let card_name = out.card.path().file_name().map(|name| name.to_string_lossy());
    description.insert(CARD_KEY.to_owned(), json!(card_name));
    description.insert(CARD_HASH_KEY.to_owned(), json!(hash_file(out.card.path())?));
    description.insert(FILE_KEY.to_owned(), json!(name));
    description.insert(HASH_KEY.to_owned(), json!(hash_file(out.model.path())?));
    out.description.write((serde_json::to_string_pretty(&description)? + "\n").as_bytes())?;
    let (path, card) = (out.description.path().to_path_buf(), out.card.path().to_path_buf());
    Ok(Exported { description: path, card, difference, images: CHECKED_IMAGES, quantization })
}
