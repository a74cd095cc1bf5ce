//! Output paths of an export: the model, and its description beside it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde_json::{Map, Value};

use crate::run_dir::RunDir;
use crate::util::error::input;
use crate::util::files::{Output, OutputRules, already_exists, exists, is_standard_output, read_small_text};

/// Key of the description that holds the BLAKE3 hash of the model file.
pub const HASH_KEY: &str = "model_blake3";

/// Key of the description with the name of the model file.
pub const FILE_KEY: &str = "model_file";

/// Key of the description with the name of the model card.
pub const CARD_KEY: &str = "model_card";

/// Key of the description that holds the BLAKE3 hash of the model card.
pub const CARD_HASH_KEY: &str = "model_card_blake3";

/// Name of the model card.
const CARD: &str = "MODEL_CARD.md";

/// Maximum size of a description in bytes.
const MAX_DESCRIPTION: u64 = 1 << 24;

/// Where an export goes.
#[derive(Debug, Clone)]
pub struct ExportPath {
    /// The model.
    pub model: Output,
    /// Its description.
    pub description: Output,
    /// Its card.
    pub card: Output,
}

impl ExportPath {
    /// The path of a model in a directory that the command owns.
    pub fn owned(model: &Path) -> Self {
        let [model, description, card] =
            [model.to_path_buf(), description_path(model), model.with_file_name(CARD)].map(Output::owned);
        Self { model, description, card }
    }
}

/// Checks the output path `out` of an export of `runs` before any work is done, and the path of the
/// description. Existing files are refused without `force`, unless they are an exported model with
/// its hash in its description, and a description.
///
/// # Errors
/// Input errors: standard output, an existing file. Even with
/// `force`: one of the `inputs`, a file of a run. Those of [`Output::check`].
pub fn check_export_path(out: &Path, inputs: &[&Path], runs: &[PathBuf], force: bool) -> Result<ExportPath> {
    if is_standard_output(out) {
        return Err(input(format!(
            "--out {}: an export writes two files, the model and its description; expected a file name such as model.pt",
            out.display()
        )));
    }
    let description = description_path(out);
    let check = |path: &Path| {
        runs.iter().try_for_each(|run| RunDir::open(run)?.check_not_owned(path))?;
        // Whether what is there may be replaced follows below; what comes later may not.
        Output::check(path, OutputRules { inputs, force: force || exists(path), json: false })
    };
    let found = read_description(&description);
    let card = card_path(out, found.as_ref(), force)?;
    let outputs = ExportPath { model: check(out)?, description: check(&description)?, card: check(&card)? };
    if force {
        return Ok(outputs);
    }
    let model_blocks = exists(out) && !is_exported(out);
    let description_blocks = exists(&description) && found.is_none();
    let other = found.as_ref().and_then(|found| found.get(FILE_KEY)?.as_str());
    if let Some(other) =
        other.filter(|other| Some(OsStr::new(other)) != out.file_name() && exists(&out.with_file_name(other)))
    {
        let description = description.display();
        return Err(input(format!(
            "{description}: describes {other:?}, and is where the description of {} goes; choose another --out, or \
             overwrite it with --force",
            out.display()
        )));
    }
    let (shown, description) = (out.display(), description.display());
    match (model_blocks, description_blocks) {
        (false, false) => Ok(outputs),
        (true, false) => Err(already_exists(out)),
        (true, true) => Err(input(format!(
            "{shown} and {description}: exist; choose another --out, or overwrite both with --force"
        ))),
        (false, true) => Err(input(format!(
            "{description}: exists, and is where the model's description goes; choose another --out, or overwrite it \
             with --force"
        ))),
    }
}

/// Refuses to replace an exported model that has other weights than the one of `new`: its run may be
/// gone. Both are descriptions, the old one in the file `description`.
///
/// # Errors
/// An input error.
pub fn check_replaced_model(description: &Path, new: &Map<String, Value>) -> Result<()> {
    let Some(old) = read_description(description) else { return Ok(()) };
    if old.as_object().is_none_or(|old| origins(old) == origins(new)) {
        return Ok(());
    }
    Err(input(format!(
        "{}: describes an export of other weights (of another run or epoch); choose another --out, or overwrite it with \
         --force",
        description.display()
    )))
}

/// What tells the weights of a description's models from others.
fn origins(description: &Map<String, Value>) -> Vec<Value> {
    let models = description.get("models").and_then(Value::as_array);
    let models =
        models.map_or_else(|| vec![description], |models| models.iter().filter_map(Value::as_object).collect());
    let origin = |model: &Map<String, Value>| {
        let mut origin = model.get("provenance").cloned().unwrap_or_default();
        if let Some(origin) = origin.as_object_mut() {
            // Of the export, not of the weights.
            ["grimace", "libtorch"].iter().for_each(|key| drop(origin.remove(*key)));
        }
        origin
    };
    models.into_iter().map(origin).collect()
}

/// Path of the model card: `MODEL_CARD.md`, or `model.MODEL_CARD.md` if there is one of another
/// model, or one that was edited. An unchanged card of the model described by `found` is replaced.
///
/// # Errors
/// An input error if both names are taken, without `force`.
fn card_path(out: &Path, found: Option<&Value>, force: bool) -> Result<PathBuf> {
    let key = |key: &str| found.and_then(|found| found.get(key)?.as_str());
    let is_own = |path: &Path| {
        let is_named = path.file_name().zip(key(CARD_KEY)).is_some_and(|(name, card)| name == OsStr::new(card));
        is_named && key(CARD_HASH_KEY).is_some_and(|written| hash_file(path).is_ok_and(|hash| hash == written))
    };
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let paths = [out.with_file_name(CARD), out.with_file_name(format!("{stem}.{CARD}"))];
    let [_, last] = &paths;
    match paths.iter().find(|path| !exists(path) || is_own(path)) {
        Some(free) => Ok(free.clone()),
        None if force => Ok(last.clone()),
        None => Err(input(format!(
            "{}: exists, and is where the model card goes; choose another --out, or overwrite it with --force",
            last.display()
        ))),
    }
}

/// Path of the description: `model.pt` -> `model.json`, in the same folder.
pub fn description_path(out: &Path) -> PathBuf {
    out.with_extension("json")
}

/// The model description at `path`; `None` for any other file.
fn read_description(path: &Path) -> Option<Value> {
    let text = read_small_text(path, MAX_DESCRIPTION, "a description of an exported model").ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    let keys = ["name", "labels", "labels_are_fer2013", "input", "output", "tta"];
    keys.iter().all(|key| value.get(key).is_some()).then_some(value)
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
    use crate::transforms::tta::Tta;

    #[test]
    fn the_description_is_in_the_folder_of_the_model() {
        assert_eq!(description_path(Path::new("a/model.pt")), Path::new("a/model.json"));
        assert_eq!(description_path(Path::new("model")), Path::new("model.json"));
    }

    /// A description of a model with this hash.
    fn describe(hash: &str) -> String {
        let mut description = super::super::exported_model::describe_model("x", &["a".into(), "b".into()], Tta::None);
        description.insert(HASH_KEY.to_owned(), hash.into());
        serde_json::to_string(&description).unwrap()
    }

    #[test]
    fn only_an_unchanged_model_is_an_exported_one() {
        let folder = tempfile::tempdir().unwrap();
        let (model, description) = (folder.path().join("model.pt"), folder.path().join("model.json"));
        let check = |force| check_export_path(&model, &[], &[], force);
        let refused = |end: &str| {
            let message = check(false).unwrap_err().to_string();
            assert!(message.ends_with(end) && message.contains("--force") && check(true).is_ok(), "{message}");
        };
        assert!(check(false).is_ok(), "there is no file");
        fs::write(&model, "weights").unwrap();
        refused("model.pt: exists; choose another --out, or overwrite it with --force");
        let hash = hash_file(&model).unwrap();
        fs::write(&description, describe(&hash)).unwrap();
        assert!(check(false).is_ok());
        fs::write(&model, "other weights").unwrap();
        refused("model.pt: exists; choose another --out, or overwrite it with --force");
        for other in ["{}", r#"{"labels": [], "input": {}}"#, "[1]", "mine"] {
            fs::write(&description, other).unwrap();
            refused("model.json: exist; choose another --out, or overwrite both with --force");
        }
        fs::remove_file(&model).unwrap();
        refused("the model's description goes; choose another --out, or overwrite it with --force");
        fs::write(&description, describe("")).unwrap();
        assert!(check(false).is_ok(), "the description of a model that was removed");
    }

    #[test]
    fn standard_output_and_inputs_are_refused_with_force_too() {
        let folder = tempfile::tempdir().unwrap();
        let (model, labels) = (folder.path().join("x.pt"), folder.path().join("x.json"));
        fs::write(&labels, "id,emotion").unwrap();
        let message = check_export_path(&model, &[&labels], &[], true).unwrap_err().to_string();
        assert!(message.contains("x.json: is read by this command"), "{message}");
        for out in ["-", "/dev/stdout"] {
            let message = check_export_path(Path::new(out), &[], &[], true).unwrap_err().to_string();
            assert!(message.contains("writes two files"), "{message}");
        }
    }
}
