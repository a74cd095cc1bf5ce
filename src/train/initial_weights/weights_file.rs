//! The file of `train.init`: a checkpoint, or safetensors of another program.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use fs_err as fs;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use tch::{Kind, Tensor};

use crate::config::{self, Config};
use crate::data::images::ImageHash;
use crate::inference::trained_run::read_split;
use crate::model::torchvision;
use crate::run_dir::RunDir;
use crate::run_dir::checkpoint::{self, Checkpoint};
use crate::train::snapshot::evaluation_weights;
use crate::util::error::input;
use crate::util::files::check_regular_file;

/// Maximum size in bytes: weights, two moments and EMA weights of the largest network.
const MAX_FILE: u64 = 4 << 30;

/// What `train.init` names, for messages.
const EXPECTED: &str = "a run directory or weights in safetensors";

/// Weights in a file.
#[derive(Debug)]
pub struct WeightsFile {
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of its bytes, in hex.
    pub hash: String,
    /// Whose weights they are.
    pub description: String,
    /// Its floating-point tensors.
    pub weights: Vec<Weight>,
    /// Names of its other tensors.
    pub others: Vec<String>,
    /// The names of the classes, if the file has them.
    pub classes: Option<Vec<String>>,
    /// The images that the weights were trained on, if they are known.
    pub training_images: Option<HashSet<ImageHash>>,
}

/// A tensor of a file.
#[derive(Debug)]
pub struct Weight {
    /// Its name in a network.
    pub name: String,
    /// Its name in the file.
    pub name_in_file: String,
    /// Its values, on the CPU.
    pub values: Tensor,
}

impl WeightsFile {
    /// Reads the weights at `path`: the best ones of a run directory, or those of a file.
    ///
    /// # Errors
    /// An input error for anything else, and for a corrupt file.
    pub fn open(path: &Path) -> Result<Self> {
        open(path).map_err(|error| error.context(format!("train.init = {:?}", path.display().to_string())))
    }
}

fn open(path: &Path) -> Result<WeightsFile> {
    let file = if path.is_dir() { best_of_run(path)? } else { path.to_path_buf() };
    check_regular_file(&file, EXPECTED)?;
    let size = fs::metadata(&file)?.len();
    if size > MAX_FILE {
        return Err(input(format!("{}: {size} bytes; {EXPECTED} has at most {MAX_FILE}", file.display())));
    }
    let bytes = fs::read(&file)?;
    let unusable = |problem: String| input(format!("{}: {problem}; expected {EXPECTED}", file.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes)
        .map_err(|error| unusable(format!("corrupt or not a safetensors file: {error}")))?;
    let format = header.metadata().as_ref().and_then(|metadata| metadata.get("format"));
    let hash = blake3::hash(&bytes).to_hex().to_string();
    match format.map(String::as_str) {
        Some(checkpoint::FORMAT_NAME) => {
            let checkpoint = checkpoint::from_bytes(&bytes).map_err(|error| checkpoint::unusable(&file, &error))?;
            from_checkpoint(file, hash, &checkpoint)
        }
        Some(other) if other.starts_with("grimace-") => Err(unusable(format!("its format is {other:?}"))),
        _ => from_tensors(&file, hash, &bytes).map_err(|error| unusable(format!("{error:#}"))),
    }
}

/// `best.safetensors` of the run at `path`.
fn best_of_run(path: &Path) -> Result<PathBuf> {
    let dir = RunDir::open(path)?;
    if dir.is_forest() {
        return Err(input(format!("{}: is a forest run, which has no weights; name a network's", path.display())));
    }
    let best = dir.best_safetensors();
    if !best.exists() {
        return Err(input(format!(
            "{}: has no best.safetensors: no epoch has finished; train it first, or name another run",
            path.display()
        )));
    }
    Ok(best)
}

/// The evaluation weights of a checkpoint: the EMA if its run has one.
fn from_checkpoint(path: PathBuf, hash: String, checkpoint: &Checkpoint) -> Result<WeightsFile> {
    let config: Config = config::from_text(&checkpoint.config, &format!("{}: its config", path.display()))?;
    let weight = |(name, values): (String, Tensor)| Weight { name_in_file: name.clone(), name, values };
    let state = &checkpoint.state;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The split is absent, or that of another run, if the file was copied to elsewhere.
    let split = RunDir::open(folder).ok().and_then(|dir| read_split(&dir, &state.split_hash).ok());
    let best = state.best.filter(|best| best.epoch == state.epoch);
    let accuracy = best.map_or_else(String::new, |best| format!(", {best}"));
    let ema = if config.train.ema > 0.0 { ", EMA weights" } else { "" };
    Ok(WeightsFile {
        path,
        hash,
        description: format!("run {:?}{ema}, epoch {}{accuracy}", config.name, state.epoch),
        weights: evaluation_weights(&checkpoint.tensors).into_iter().map(weight).collect(),
        others: Vec::new(),
        classes: Some(config.data.classes.clone()),
        training_images: split.map(|split| split.train),
    })
}

/// The tensors of a file by another program, with the names that they have in a network.
fn from_tensors(path: &Path, hash: String, bytes: &[u8]) -> Result<WeightsFile> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| anyhow!("it is corrupt: {error}"))?;
    let names = file.names();
    let is_torchvision = torchvision::is_resnet(names.iter().copied());
    let (mut weights, mut others) = (Vec::new(), Vec::new());
    for (name_in_file, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            _ => {
                others.push(name_in_file);
                continue;
            }
        };
        let name = if is_torchvision { torchvision::translate(&name_in_file) } else { Some(name_in_file.clone()) };
        let Some(name) = name else {
            others.push(name_in_file);
            continue;
        };
        let shape = view.shape().iter().map(|size| i64::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
        let values = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?;
        weights.push(Weight { name, name_in_file, values });
    }
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    others.sort();
    let description = if is_torchvision { "torchvision's ResNet" } else { "tensors of another program" }.to_owned();
    Ok(WeightsFile {
        path: path.to_path_buf(),
        hash,
        description,
        weights,
        others,
        classes: None,
        training_images: None,
    })
}
