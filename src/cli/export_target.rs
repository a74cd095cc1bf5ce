//! Where `grimace export` and `grimace ensemble` write a model: a file, or a page with it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::export::{
    ExportPath, ExportedModel, Format, Int8Calibration, WebSources, check_export_path, check_replaced_model,
    check_web_folder, export, export_web,
};
use crate::serve::page;

/// Where a model is exported to.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// File to write; its description goes beside it with the extension .json (model.pt ->
    /// model.json), and a model card, MODEL_CARD.md
    #[arg(long, value_name = "FILE", group = "target")]
    pub out: Option<PathBuf>,
    /// Folder to write a page to, which finds and classifies faces in photos and the webcam, in the
    /// browser, without a server of its own; needs the npm package onnxruntime-web
    #[arg(long, value_name = "FOLDER", group = "target")]
    pub web: Option<PathBuf>,
    /// Format [default: that of the extension of --out, TorchScript without one]
    #[arg(long, requires = "out", conflicts_with = "web")]
    pub format: Option<Format>,
    /// Overwrite existing files; not required for an exported model or page with the same weights
    #[arg(long, requires = "target")]
    pub force: bool,
}

impl TargetArgs {
    /// Format of the model.
    ///
    /// # Errors
    /// Those of [`Format::of_file`].
    pub fn format(&self) -> Result<Format> {
        self.out.as_deref().map_or(Ok(Format::Onnx), |out| Format::of_file(out, self.format))
    }

    /// Checks the target of an export of `runs` by a command that reads `inputs`, before any work is
    /// done; none if there is neither `--out` nor `--web`.
    ///
    /// # Errors
    /// Those of [`check_export_path`] and [`check_web_folder`].
    pub fn check(&self, inputs: &[&Path], runs: &[PathBuf]) -> Result<Option<Target>> {
        if let Some(out) = &self.out {
            let format = self.format()?;
            return Ok(Some(Target::File { format, path: check_export_path(out, inputs, runs, self.force)? }));
        }
        let Some(folder) = &self.web else { return Ok(None) };
        let sources = check_web_folder(folder, inputs, runs, page::web_files(), self.force)?;
        Ok(Some(Target::Page { folder: folder.clone(), sources }))
    }
}

/// A target that has passed the checks.
#[derive(Debug)]
pub enum Target {
    File { format: Format, path: ExportPath },
    Page { folder: PathBuf, sources: WebSources },
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// As JSON: an object.
    pub json: Value,
    /// In a few lines.
    pub description: String,
}

impl Target {
    /// Exports `model`; with `calibration`, quantized to int8.
    ///
    /// # Errors
    /// Those of [`export`] and [`export_web`]; without `force`, an input error for a target that holds an
    /// export of other weights.
    pub fn write(&self, model: &ExportedModel, calibration: Option<&Int8Calibration>, force: bool) -> Result<Written> {
        let described = match self {
            Self::File { path, .. } => path.description.path().to_path_buf(),
            Self::Page { folder, .. } => folder.join("model.json"),
        };
        if !force {
            check_replaced_model(&described, &model.description(Format::Onnx))?;
        }
        match self {
            Self::File { format, path } => {
                let out = path.model.path();
                let done = export(model, *format, calibration, path)?;
                let sizes = done.quantization.as_ref();
                let sizes = sizes.map(|found| json!({"float32": found.float_size, "int8": found.size}));
                let json = json!({
                    "out": out.to_string_lossy(),
                    "description": done.description.to_string_lossy(),
                    "card": done.card.to_string_lossy(),
                    "format": format,
                    "checked_images": done.images,
                    "max_difference": done.difference,
                    "quantization": done.quantization,
                    "bytes": sizes,
                });
                Ok(Written { json, description: done.describe(out) })
            }
            Self::Page { folder, sources } => {
                let done = export_web(model, calibration, sources)?;
                let json = json!({
                    "web": folder.to_string_lossy(),
                    "files": done.files,
                    "bytes": {"page": done.bytes, "model": done.model_bytes},
                    "checked_images": done.images(),
                    "max_difference": done.difference(),
                    "quantization": done.quantization(),
                });
                Ok(Written { json, description: done.describe(folder) })
            }
        }
    }
}
