//! Export of a page that runs the model in a browser: the page, the model, the face detector and ONNX
//! Runtime for WebAssembly, as files for any static web server.

mod centerface;
mod folder;
mod onnxruntime;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

use super::onnx::{Int8Calibration, Quantization};
use super::{ExportPath, Exported, ExportedModel, Format, export};
use crate::data::photos::detector_weights;
use crate::report::Console;
use crate::util::text::{count, shell_quoted};
use folder::WebFolder;
use onnxruntime::Package;

/// The page's files, by their paths in its folder.
pub type PageFiles = Vec<(String, Vec<u8>)>;

/// Files that an export writes beside the model.
const MODEL_FILES: [&str; 3] = ["model.onnx", "model.json", "MODEL_CARD.md"];

/// The face detector.
const DETECTOR: &str = "detector.onnx";

/// The licenses of the parts that others wrote.
const LICENSES: &str = "LICENSES.txt";

/// Where a web export goes, and what it is made of.
#[derive(Debug)]
pub struct WebSources {
    folder: WebFolder,
    page: PageFiles,
    onnxruntime: Package,
    detector: PathBuf,
}

/// Result of a web export.
#[derive(Debug)]
pub struct WebExported {
    /// Number of files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Size of `model.onnx` in bytes.
    pub model_bytes: u64,
    /// The export of the model in it.
    model: Exported,
}

impl WebExported {
    /// Max difference of a probability between the model and the checkpoint, in float32.
    pub fn difference(&self) -> f64 {
        self.model.difference
    }

    /// Number of images compared.
    pub fn images(&self) -> usize {
        self.model.images
    }

    /// What int8 costs, if the model was quantized.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.model.quantization.as_ref()
    }

    /// Describes the export in a few lines.
    pub fn describe(&self, folder: &Path) -> String {
        let size = self.bytes as f64 / 1e6;
        format!(
            "wrote a page to {}: {}, {size:.1} MB; {}\ntry it: python3 -m http.server --bind 127.0.0.1 --directory {}, \
             then open http://localhost:8000",
            folder.display(),
            count(self.files, "file"),
            self.model.describe_checks(),
            shell_quoted(folder)
        )
    }
}

/// Checks the folder of `--web` before any work is done, and finds what goes there beside the model.
/// An existing folder may have other files; files that the export writes are refused without `force`,
/// unless they are those of an earlier web export.
///
/// # Errors
/// Input errors: a file that exists; even with `force` one of a run, or one of the `inputs` of the command; ONNX Runtime or the detector is not installed.
pub fn check_web_folder(
    folder: &Path,
    inputs: &[&Path],
    runs: &[PathBuf],
    page: PageFiles,
    force: bool,
) -> Result<WebSources> {
    let onnxruntime = Package::find()?;
    onnxruntime.note().iter().try_for_each(|note| Console::default().line(note))?;
    let detector = detector_weights()?;
    let others = MODEL_FILES.into_iter().chain([DETECTOR, LICENSES]).chain(onnxruntime.names());
    let names = page.iter().map(|(name, _)| name.clone()).chain(others.map(str::to_owned));
    let names: Vec<String> = names.collect();
    Ok(WebSources { folder: WebFolder::check(folder, &names, inputs, runs, force)?, page, onnxruntime, detector })
}

/// Writes the page with `model` to the folder of `sources`. With `calibration`, the model is quantized
/// to int8. All files are written beside the folder first, and the model is compared with the networks
/// before anything is replaced.
///
/// # Errors
/// Those of [`export`]; another detector than expected; I/O errors with the path.
pub fn export_web(
    model: &ExportedModel,
    calibration: Option<&Int8Calibration>,
    sources: &WebSources,
) -> Result<WebExported> {
    let staged = sources.folder.stage()?;
    let write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = staged.path().join(name);
        fs::create_dir_all(path.parent().context("a file in a folder")?)?;
        Ok(fs::write(path, bytes)?)
    };
    for (name, bytes) in &sources.page {
        write(name, bytes)?;
    }
    for (name, bytes) in sources.onnxruntime.files()? {
        write(name, &bytes)?;
    }
    write(DETECTOR, &centerface::with_free_sizes(&sources.detector)?)?;
    write(LICENSES, licenses(&sources.onnxruntime.version).as_bytes())?;
    let out = ExportPath::owned(&staged.path().join("model.onnx"));
    let exported = export(model, Format::Onnx, calibration, &out)?;
    let model_bytes = fs::metadata(out.model.path())?.len();
    let (files, bytes) = sources.folder.publish(staged)?;
    Ok(WebExported { files, bytes, model_bytes, model: exported })
}

fn licenses(onnxruntime: &str) -> String {
    include_str!("licenses.txt").replace("{onnxruntime}", onnxruntime)
}
