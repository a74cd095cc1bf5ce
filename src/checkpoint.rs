//! Checkpoints: safetensors files that are whole, carry all they need, and are checked when read.
//!
//! Tensors are float32, contiguous and dense, under the network's names; in `last.safetensors` the optimizer's state stands
//! beside them as `optimizer.<slot>.<name>`. The metadata holds the format's version, the resolved config, the state of the
//! run as JSON, and a BLAKE3 checksum over names, shapes and bytes. Reading runs no code from the file.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use fs_err as fs;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::input;
use crate::files::{check_regular_file, write_atomically};

const FORMAT: &str = "grimace-checkpoint";
const VERSION: &str = "1";

/// A named tensor on the CPU.
pub type NamedTensors = Vec<(String, Tensor)>;

/// Where a run stands: everything that is not a tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Finished epochs.
    pub epoch: u32,
    /// Finished steps of the running epoch.
    pub step: u64,
    /// Sum over the faces of those steps of their loss.
    pub loss_sum: f64,
    /// Correct predictions in those steps.
    pub hits: i64,
    /// Seconds spent in those steps.
    pub epoch_seconds: f64,
    /// Seconds spent in training and validation so far, over all resumptions.
    pub seconds: f64,
    /// The best epoch by validation accuracy.
    pub best: Option<Best>,
    /// The best value of the monitored figure, and its epoch (from 1).
    pub monitor: Option<(f64, u32)>,
    /// Validation accuracy of the last finished epoch.
    pub last_val_accuracy: Option<f64>,
    /// Hash of the faces trained on.
    pub data_hash: String,
    /// Hash of their split.
    pub split_hash: String,
    /// CPU threads used.
    pub threads: usize,
    /// Number format used, `f32` or `bf16`.
    pub precision: String,
    /// Device used.
    pub device: String,
    /// Our own CPU kernels used, as `grimace doctor` says it.
    #[serde(default)]
    pub kernels: String,
    /// The command that began the run, then those that went on with it.
    pub commands: Vec<String>,
}

/// The best epoch by validation accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1.
    pub epoch: u32,
    /// Over all validation faces.
    pub val_accuracy: f64,
    /// Over those that do not also stand among the training rows.
    pub val_accuracy_without_copies: Option<f64>,
}

/// A checkpoint as read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The resolved config as TOML.
    pub config: String,
    /// Where the run stood.
    pub state: State,
    /// All tensors, by name.
    pub tensors: NamedTensors,
}

/// Writes a checkpoint atomically.
///
/// # Errors
/// An I/O error with the path; the file that was there before stays.
pub fn save(path: &Path, config: &str, state: &State, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut dense = tensors
        .iter()
        .map(|(name, tensor)| -> Result<(String, Vec<usize>, Vec<u8>)> {
            let shape = tensor.size().iter().map(|edge| usize::try_from(*edge)).collect::<Result<Vec<_>, _>>()?;
            let flat =
                tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_dtype(Kind::Float, false, false)?.f_contiguous()?;
            let values: Vec<f32> = Vec::try_from(flat.f_flatten(0, -1)?)?;
            Ok((name.clone(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        })
        .collect::<Result<Vec<_>>>()?;
    dense.sort_by(|a, b| a.0.cmp(&b.0));
    let metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("format_version".to_owned(), VERSION.to_owned()),
        ("written_by".to_owned(), concat!("grimace ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("config".to_owned(), config.to_owned()),
        ("state".to_owned(), serde_json::to_string(state)?),
        ("epoch".to_owned(), state.epoch.to_string()),
        ("best_val_accuracy".to_owned(), state.best.map_or(String::new(), |best| best.val_accuracy.to_string())),
        (
            "checksum".to_owned(),
            checksum(dense.iter().map(|(name, shape, bytes)| (name.as_str(), &shape[..], &bytes[..]))),
        ),
    ]);
    let views = dense
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, Some(metadata))?;
    write_atomically(path, &bytes)
}

/// Reads a checkpoint and verifies it.
///
/// # Errors
/// An input error that names the path when the file is missing, damaged or not a checkpoint of this version.
pub fn load(path: &Path) -> Result<Checkpoint> {
    check_regular_file(path, "a checkpoint")?;
    let bytes = fs::read(path)?;
    parse(&bytes).map_err(|error| {
        input(format!("{}: not a usable checkpoint: {error:#}; restore it from a copy, or train again", path.display()))
    })
}

fn parse(bytes: &[u8]) -> Result<Checkpoint> {
    let (_, header) = SafeTensors::read_metadata(bytes).context("it is damaged or no safetensors file")?;
    let metadata = header.metadata().as_ref().context("it has no metadata")?;
    let text = |key: &str| metadata.get(key).with_context(|| format!("its metadata has no {key}"));
    if text("format")? != FORMAT {
        return Err(anyhow!("its format is {:?}, expected {FORMAT:?}", text("format")?));
    }
    if text("format_version")? != VERSION {
        return Err(anyhow!("its format version is {:?}; this grimace reads {VERSION:?}", text("format_version")?));
    }
    let file = SafeTensors::deserialize(bytes).context("it is damaged")?;
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let sum = checksum(views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
    if sum != *text("checksum")? {
        return Err(anyhow!("its tensors do not match its checksum: it is damaged"));
    }
    let tensors = views
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(anyhow!("tensor {name} is {:?}, expected F32", view.dtype()));
            }
            let shape = view.shape().iter().map(|edge| i64::try_from(*edge)).collect::<Result<Vec<_>, _>>()?;
            Ok((name.clone(), Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let state = serde_json::from_str(text("state")?).context("its state cannot be read")?;
    Ok(Checkpoint { config: text("config")?.clone(), state, tensors })
}

/// BLAKE3 over names, shapes and bytes, each with its length.
fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, shape, bytes) in tensors {
        let lengths = [name.len(), bytes.len(), shape.len()];
        for number in lengths.iter().chain(shape) {
            hasher.update(&(*number as u64).to_le_bytes());
        }
        hasher.update(name.as_bytes());
        hasher.update(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (State, NamedTensors) {
        let state = State {
            epoch: 3,
            loss_sum: 0.1 + 0.2,
            best: Some(Best { epoch: 2, val_accuracy: 0.5, val_accuracy_without_copies: None }),
            ..State::default()
        };
        let base = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
        (
            state,
            vec![("b.weight".into(), base.permute([0, 3, 1, 2])), ("a".into(), Tensor::from_slice(&[0.1f32, -0.0]))],
        )
    }

    #[test]
    fn everything_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (state, tensors) = example();
        save(&path, "name = \"x\"", &state, &tensors).unwrap();
        let back = load(&path).unwrap();
        assert_eq!((back.config.as_str(), &back.state), ("name = \"x\"", &state));
        for (name, tensor) in &tensors {
            let (_, read) = back.tensors.iter().find(|(n, _)| n == name).unwrap();
            assert!(read.equal(tensor) && read.size() == tensor.size(), "{name}");
        }
    }

    #[test]
    fn any_flipped_byte_of_a_tensor_and_any_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        let (state, tensors) = example();
        save(&path, "", &state, &tensors).unwrap();
        let whole = fs::read(&path).unwrap();
        for back in 1..=104 {
            let mut bytes = whole.clone();
            let place = bytes.len() - back;
            bytes[place] ^= 0x10;
            assert!(parse(&bytes).is_err(), "byte {back} from the end was flipped");
        }
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut to {length} bytes");
        }
        let mut hostile = u64::MAX.to_le_bytes().to_vec();
        hostile.extend_from_slice(b"{}");
        assert!(parse(&hostile).is_err());
        fs::write(&path, "not a checkpoint").unwrap();
        let message = load(&path).unwrap_err().to_string();
        assert!(message.contains("best.safetensors") && message.contains("not a usable checkpoint"), "{message}");
    }
}
