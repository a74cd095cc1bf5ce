//! Output paths of an export: the model, and its description beside it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde_json::Value;

use crate::run_dir::RunDir;
use crate::util::error::input;
use crate::util::files::{
    check_output_beside, check_output_file, check_overwrite, is_standard_stream, read_small_text,
};

/// Extensions of a TorchScript file; a name without one is accepted too.
const EXTENSIONS: [&str; 5] = ["pt", "pth", "ts", "torchscript", "jit"];

/// Key of the description that holds the BLAKE3 hash of the model file.
pub const HASH_KEY: &str = "model_blake3";

/// Maximum size of a description in bytes.
const MAX_DESCRIPTION: u64 = 1 << 24;

/// Checks the output path `out` of an export of `runs` before any work is done. An existing file is
/// refused without `force`, unless it is an exported model and its description names its hash.
///
/// # Errors
/// Input errors: `-`, the extension of another format, an existing file, one of the `inputs`, a file
/// of a run, a description that would replace another file. Those of [`check_output_file`].
pub fn check_export_path(out: &Path, inputs: &[&Path], runs: &[PathBuf], force: bool) -> Result<()> {
    if is_standard_stream(out) {
        return Err(input(
            "--out -: the model and its description are two files, which standard output cannot take; give a name such as model.pt",
        ));
    }
    check_extension(out)?;
    check_output_beside(out, inputs)?;
    runs.iter().try_for_each(|run| RunDir::open(run)?.check_not_owned(out))?;
    check_description_path(&description_path(out))?;
    if is_exported(out) { Ok(()) } else { check_overwrite(out, force) }
}

/// Refuses the extension of another format.
fn check_extension(out: &Path) -> Result<()> {
    let Some(extension) = out.extension() else { return Ok(()) };
    if EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(input(format!("{}: export writes TorchScript; expected a name ending in .pt", out.display())))
}

/// Path of the description: `model.pt` -> `model.json`, in the same folder.
pub fn description_path(out: &Path) -> PathBuf {
    out.with_extension("json")
}

/// Refuses to overwrite a JSON file that is not a model description, such as a run's summary.json,
/// even with `--force`, which applies to the model.
pub fn check_description_path(path: &Path) -> Result<()> {
    check_output_file(path)?;
    if std::fs::symlink_metadata(path).is_err() || read_description(path).is_some() {
        return Ok(());
    }
    let path = path.display();
    Err(input(format!("{path}: would be overwritten by the model's description, but is not one; choose another --out")))
}

/// The model description at `path`; `None` for any other file.
fn read_description(path: &Path) -> Option<Value> {
    let text = read_small_text(path, MAX_DESCRIPTION, "a description of an exported model").ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    (value.get("labels").is_some() && value.get("input").is_some()).then_some(value)
}

/// Whether the file at `out` is the model that the description beside it was written for.
fn is_exported(out: &Path) -> bool {
    let description = read_description(&description_path(out));
    let written = description.as_ref().and_then(|value| value.get(HASH_KEY)?.as_str());
    written.is_some_and(|written| hash_file(out).is_ok_and(|hash| hash == written))
}

/// The BLAKE3 hash of a file, in hexadecimal.
///
/// # Errors
/// An I/O error with the path.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_in_the_folder_of_the_model() {
        assert_eq!(description_path(Path::new("a/model.pt")), Path::new("a/model.json"));
        assert_eq!(description_path(Path::new("model")), Path::new("model.json"));
    }

    #[test]
    fn only_names_of_torchscript_files_are_accepted() {
        for name in ["model.pt", "a.b/model", "MODEL.PTH", "x.ts", "x.torchscript", "x.jit", "face.onnx.pt"] {
            assert!(check_extension(Path::new(name)).is_ok(), "{name}");
        }
        for name in ["face.onnx", "model.json", "model.safetensors", "model.csv", "model.", "-.x"] {
            let message = check_extension(Path::new(name)).unwrap_err().to_string();
            assert!(message.ends_with("expected a name ending in .pt"), "{message}");
        }
    }

    #[test]
    fn only_an_unchanged_model_is_an_exported_one() {
        let folder = tempfile::tempdir().unwrap();
        let (model, description) = (folder.path().join("model.pt"), folder.path().join("model.json"));
        let message = || check_export_path(&model, &[], &[], false).unwrap_err().to_string();
        assert!(check_export_path(&model, &[], &[], false).is_ok(), "there is no file");
        fs::write(&model, "weights").unwrap();
        assert!(message().contains("model.pt: exists; choose another --out, or overwrite it with --force"));
        let hash = hash_file(&model).unwrap();
        fs::write(&description, format!(r#"{{"labels": [], "input": {{}}, "{HASH_KEY}": "{hash}"}}"#)).unwrap();
        assert!(check_export_path(&model, &[], &[], false).is_ok());
        fs::write(&model, "other weights").unwrap();
        assert!(message().contains("model.pt: exists") && check_export_path(&model, &[], &[], true).is_ok());
        fs::write(&description, "{}").unwrap();
        assert!(message().contains("model.json: would be overwritten"));
        let forced = check_export_path(&model, &[], &[], true).unwrap_err().to_string();
        assert!(forced.contains("model.json: would be overwritten"), "{forced}");
    }
}
