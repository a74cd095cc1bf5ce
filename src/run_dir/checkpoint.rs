//! Checkpoints: safetensors files in a checksummed [`container`](crate::util::container).
//!
//! Tensors are float32, contiguous, and named as in the network. `last.safetensors` also holds the
//! optimizer state as `optimizer.<slot>.<name>` and EMA weights as `ema.<name>`. The metadata holds
//! the resolved config as TOML and the [`State`] of the run as JSON.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::tensor::Dtype;
use tch::{Device, Kind, Tensor};

use crate::config::{self, Config};
use crate::util::container::{Format, LoadError, TensorData, recovery_advice};
use crate::util::error::input;
use crate::util::files::write_atomically;
use crate::util::text::short;

pub use super::checkpoint_state::{BestEpoch, InitRecord, State};

const FORMAT: Format = Format { name: FORMAT_NAME, version: "3", description: "a checkpoint" };

/// `format` in the metadata of a checkpoint.
pub const FORMAT_NAME: &str = "grimace-checkpoint";

// safetensors is little-endian, and tensor bytes are copied as they are in memory.
const _: () = assert!(cfg!(target_endian = "little"), "checkpoints require a little-endian target");

/// CPU tensors with their names.
pub type NamedTensors = Vec<(String, Tensor)>;

/// A checkpoint that was read and verified.
#[derive(Debug)]
pub struct Checkpoint {
    /// The resolved config as TOML.
    pub config: String,
    /// The state of the run.
    pub state: State,
    /// All tensors.
    pub tensors: NamedTensors,
}

/// Writes a checkpoint atomically.
///
/// # Errors
/// An I/O error with the path; an existing file is kept.
pub fn save(path: &Path, config: &str, state: &State, tensors: &[(String, Tensor)]) -> Result<()> {
    write_atomically(path, &to_bytes(config, state, tensors)?)
}

/// Serializes a checkpoint.
///
/// # Errors
/// If the state is invalid, or config and state exceed the header of a safetensors file (100 MB).
pub fn to_bytes(config: &str, state: &State, tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    state.check().context("cannot write an invalid state of the run")?;
    let parts = tensors
        .iter()
        .map(|(name, tensor)| -> Result<TensorData> {
            let shape = tensor.size().iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
            let flat =
                tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_dtype(Kind::Float, false, false)?.f_contiguous()?;
            let values: Vec<f32> = Vec::try_from(flat.f_flatten(0, -1)?)?;
            let bytes = bytemuck::cast_slice::<f32, u8>(&values).to_vec();
            Ok(TensorData { name: name.clone(), dtype: Dtype::F32, shape, bytes })
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([
        ("config".to_owned(), config.to_owned()),
        ("state".to_owned(), serde_json::to_string(state)?),
        ("epoch".to_owned(), state.epoch.to_string()),
        ("best_val_accuracy".to_owned(), state.best.map_or(String::new(), |best| best.val_accuracy.to_string())),
    ]);
    FORMAT.serialize(metadata, parts)
}

/// Reads and verifies a checkpoint.
///
/// # Errors
/// An input error that names the path if the file is missing, corrupt, or of another format
/// version.
pub fn load(path: &Path) -> Result<Checkpoint> {
    try_load(path).map_err(|error| match error {
        LoadError::Open(error) => error,
        LoadError::Unusable(error) => unusable(path, &error),
    })
}

/// As [`load`], for callers that can fall back to another file.
///
/// # Errors
/// See [`LoadError`].
pub fn try_load(path: &Path) -> Result<Checkpoint, LoadError> {
    let bytes = FORMAT.read(path, max_tensor_bytes)?;
    from_bytes(&bytes).map_err(LoadError::Unusable)
}

/// Upper limit on the tensor bytes of a checkpoint with this config: weights, two optimizer moments
/// and EMA weights.
fn max_tensor_bytes(config: Option<&str>) -> u64 {
    // An unreadable config gives no network, thus 0; the checksum reports the cause.
    let config = config.and_then(|text| config::from_text::<Config>(text, "").ok());
    let values = config.map_or(0, |config| config.model.values(config.data.classes.len()));
    4 * size_of::<f32>() as u64 * values
}

/// An input error for a checkpoint that cannot be used, with the cause and what to do.
pub fn unusable(path: &Path, error: &anyhow::Error) -> anyhow::Error {
    input(format!("{}; {}", describe_unusable(path, error), recovery_advice(error, "train again")))
}

/// States that a checkpoint cannot be used, and why.
pub fn describe_unusable(path: &Path, error: &anyhow::Error) -> String {
    format!("{}: not a usable checkpoint: {error:#}", path.display())
}

/// Parses and verifies the bytes of a checkpoint.
///
/// # Errors
/// What is wrong with them.
pub fn from_bytes(bytes: &[u8]) -> Result<Checkpoint> {
    let file = FORMAT.verify(bytes)?;
    let tensors = file
        .tensors
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(anyhow!("tensor {} is {:?}, expected F32", short(name, 100), view.dtype()));
            }
            let shape = view.shape().iter().map(|size| i64::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
            let tensor = Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?;
            ensure!(
                bool::try_from(tensor.f_isfinite()?.f_all()?)?,
                "tensor {} has values that are not finite",
                short(name, 100)
            );
            Ok((name.clone(), tensor))
        })
        .collect::<Result<Vec<_>>>()?;
    let state: State = serde_json::from_str(file.text("state")?).context("its state cannot be read")?;
    state.check()?;
    Ok(Checkpoint { config: file.text("config")?.to_owned(), state, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::EpochMetrics;
    use fs_err as fs;

    const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";

    fn example() -> (State, NamedTensors) {
        let metrics = |epoch| EpochMetrics {
            epoch,
            lr: 1e-3,
            loss: 1.0 / 3.0,
            accuracy: 0.5,
            val_loss: 2.0,
            val_accuracy: 0.25,
            val_accuracy_dedup: None,
            val_macro_f1: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        let state = State {
            epoch: 3,
            records: (1..=3).map(metrics).collect(),
            loss_sum: 0.1 + 0.2,
            best: Some(BestEpoch { epoch: 2, val_accuracy: 0.5, val_accuracy_dedup: None, monitored: None }),
            ..State::default()
        };
        let base = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
        (
            state,
            vec![("b.weight".into(), base.permute([0, 3, 1, 2])), ("a".into(), Tensor::from_slice(&[0.1f32, -0.0]))],
        )
    }

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (state, tensors) = example();
        save(&path, CONFIG, &state, &tensors).unwrap();
        let back = load(&path).unwrap();
        assert_eq!((back.config.as_str(), &back.state), (CONFIG, &state));
        for (name, tensor) in &tensors {
            let (_, read) = back.tensors.iter().find(|(n, _)| n == name).unwrap();
            assert!(read.equal(tensor) && read.size() == tensor.size(), "{name}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        let (state, tensors) = example();
        save(&path, CONFIG, &state, &tensors).unwrap();
        let complete = fs::read(&path).unwrap();
        assert!(from_bytes(&complete).is_ok());
        for index in 0..complete.len() {
            for bit in 0..8 {
                let mut bytes = complete.clone();
                bytes[index] ^= 1 << bit;
                assert!(from_bytes(&bytes).is_err(), "bit {bit} of byte {index} flipped");
            }
            assert!(from_bytes(&complete[..index]).is_err(), "truncated to {index} bytes");
        }
        fs::write(&path, "not a checkpoint").unwrap();
        let message = load(&path).unwrap_err().to_string();
        assert!(message.contains("best.safetensors") && message.contains("not a usable checkpoint"), "{message}");
    }

    #[test]
    fn an_invalid_state_is_neither_written_nor_read() {
        let (state, tensors) = example();
        let message = |change: fn(&mut State)| {
            let mut state = state.clone();
            change(&mut state);
            format!("{:#}", to_bytes(CONFIG, &state, &tensors).unwrap_err())
        };
        assert!(message(|state| state.epoch = 4).contains("its records"));
        assert!(message(|state| state.seconds = -1e9).contains("its times"));
        assert!(message(|state| state.correct = 1 << 62).contains("correct predictions"));
        assert!(message(|state| state.rollbacks = u32::MAX).contains("rolled back"));
        assert!(
            message(|state| state.best = state.best.map(|best| BestEpoch { epoch: 0, ..best })).contains("best epoch")
        );
        assert!(message(|state| state.monitor = Some((0.5, 9))).contains("best epoch"));
        let newer_best = State { best: state.best.map(|best| BestEpoch { epoch: 9, ..best }), ..state.clone() };
        assert!(
            from_bytes(&to_bytes(CONFIG, &newer_best, &tensors).unwrap()).is_ok(),
            "best.safetensors may be newer than the checkpoint"
        );
        let infinite = vec![("a".to_owned(), Tensor::from_slice(&[f32::INFINITY]))];
        assert!(from_bytes(&to_bytes(CONFIG, &state, &infinite).unwrap()).is_err());
    }

    #[test]
    fn another_format_version_is_not_reported_as_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        // A config of that version, which this one cannot parse, and a file over the limit that a
        // config gives.
        let config = CONFIG.replace("train = ", "keep_copies_together = true\ntrain = ");
        let metadata = HashMap::from([("config".to_owned(), config)]);
        fs::write(&path, Format { version: "2", ..FORMAT }.serialize(metadata, Vec::new()).unwrap()).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(200 << 20).unwrap();
        let message = load(&path).unwrap_err().to_string();
        let written_by = concat!("version \"2\", written by grimace ", env!("CARGO_PKG_VERSION"));
        for part in [written_by, "reads version \"3\"", "train again", "not converted"] {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
        assert!(!message.contains("corrupt") && !message.contains("restore"), "{message}");
    }

    #[test]
    fn an_oversized_file_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile.safetensors");
        let message = |start: &[u8], size: u64| {
            fs::write(&path, start).unwrap();
            fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(size).unwrap();
            load(&path).unwrap_err().to_string()
        };
        assert!(message(&u64::MAX.to_le_bytes(), 100).contains("it claims a header of 18446744073709551615 bytes"));
        assert!(message(&(1u64 << 30).to_le_bytes(), 1 << 40).contains("it claims a header of 1073741824 bytes"));
        let (state, tensors) = example();
        let complete = to_bytes(CONFIG, &state, &tensors).unwrap();
        assert!(message(&complete, 1 << 40).contains("1099511627776 bytes, and with its config at most 10"));
        assert!(message(b"1234", 4).contains("it has 4 bytes"));
    }
}
