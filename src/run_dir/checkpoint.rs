//! Checkpoints: safetensors files that are whole, carry all they need, and are checked when read.
//!
//! Tensors are float32, contiguous and dense, under the network's names; in `last.safetensors` the optimizer's state stands
//! beside them as `optimizer.<slot>.<name>`, and averages as `average.<name>`. The metadata holds the resolved config and the state of the run as JSON; the
//! file is [`sealed`](crate::util::container).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::tensor::Dtype;
use tch::{Device, Kind, Tensor};

use crate::config::{self, Config};
use crate::util::container::{Format, TensorData};
use crate::util::error::input;
use crate::util::files::write_atomically;
use crate::util::text::short;

pub use super::checkpoint_state::{Best, State};

const SEAL: Format = Format { format: "grimace-checkpoint", version: "3", what: "a checkpoint" };

/// A named tensor on the CPU.
pub type NamedTensors = Vec<(String, Tensor)>;

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
    write_atomically(path, &to_bytes(config, state, tensors)?)
}

/// A checkpoint as the bytes of its file.
///
/// # Errors
/// libtorch's; a config and state too large for the header of a safetensors file (100 MB).
pub fn to_bytes(config: &str, state: &State, tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    state.check().context("the state of the run cannot be written")?;
    let parts = tensors
        .iter()
        .map(|(name, tensor)| -> Result<TensorData> {
            let shape = tensor.size().iter().map(|edge| usize::try_from(*edge)).collect::<Result<Vec<_>, _>>()?;
            let flat =
                tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_dtype(Kind::Float, false, false)?.f_contiguous()?;
            let values: Vec<f32> = Vec::try_from(flat.f_flatten(0, -1)?)?;
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Ok(TensorData { name: name.clone(), dtype: Dtype::F32, shape, bytes })
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([
        ("config".to_owned(), config.to_owned()),
        ("state".to_owned(), serde_json::to_string(state)?),
        ("epoch".to_owned(), state.epoch.to_string()),
        ("best_val_accuracy".to_owned(), state.best.map_or(String::new(), |best| best.val_accuracy.to_string())),
    ]);
    SEAL.close(metadata, parts)
}

/// Reads a checkpoint and verifies it.
///
/// # Errors
/// An input error that names the path when the file is missing, damaged or not a checkpoint of this version.
pub fn load(path: &Path) -> Result<Checkpoint> {
    match load_unless_damaged(path)? {
        Ok(checkpoint) => Ok(checkpoint),
        Err(damage) => Err(input(format!("{}; {DAMAGED_ADVICE}", not_usable(path, &damage)))),
    }
}

/// As [`load`], for who has another file to turn to: what is wrong with the file comes back as a value.
///
/// # Errors
/// When it cannot be read at all: it is missing, no regular file, may not be opened.
pub fn load_unless_damaged(path: &Path) -> Result<Result<Checkpoint, anyhow::Error>> {
    let bytes = match SEAL.read(path, largest)? {
        Ok(bytes) => bytes,
        Err(damage) => return Ok(Err(damage)),
    };
    Ok(from_bytes(&bytes))
}

/// Bytes that the tensors of a checkpoint with this config take at most: the network, an optimizer's state, an average.
fn largest(config: Option<&str>) -> u64 {
    // Without a config that can be read there is no network; the checksum will tell why.
    let config = config.and_then(|text| config::from_text::<Config>(text, "").ok());
    let values = config.map_or(0, |config| config.model.values(config.data.classes.len()));
    4 * size_of::<f32>() as u64 * values
}

/// What to do about a damaged checkpoint.
pub const DAMAGED_ADVICE: &str = "restore it from a copy, or train again";

/// That a checkpoint cannot be used, and why.
pub fn not_usable(path: &Path, damage: &anyhow::Error) -> String {
    format!("{}: not a usable checkpoint: {damage:#}", path.display())
}

/// Reads the bytes of a checkpoint's file and verifies them.
///
/// # Errors
/// What is wrong with them.
pub fn from_bytes(bytes: &[u8]) -> Result<Checkpoint> {
    let opened = SEAL.open(bytes)?;
    let tensors = opened
        .tensors
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(anyhow!("tensor {} is {:?}, expected F32", short(name, 100), view.dtype()));
            }
            let shape = view.shape().iter().map(|edge| i64::try_from(*edge)).collect::<Result<Vec<_>, _>>()?;
            let tensor = Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?;
            ensure!(
                bool::try_from(tensor.f_isfinite()?.f_all()?)?,
                "tensor {} holds what is not a finite number",
                short(name, 100)
            );
            Ok((name.clone(), tensor))
        })
        .collect::<Result<Vec<_>>>()?;
    let state: State = serde_json::from_str(opened.text("state")?).context("its state cannot be read")?;
    state.check()?;
    Ok(Checkpoint { config: opened.text("config")?.to_owned(), state, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::EpochMetrics;
    use fs_err as fs;

    const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";

    fn example() -> (State, NamedTensors) {
        let record = |epoch| EpochMetrics {
            epoch,
            lr: 1e-3,
            loss: 1.0 / 3.0,
            accuracy: 0.5,
            val_loss: 2.0,
            val_accuracy: 0.25,
            val_accuracy_dedup: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        let state = State {
            epoch: 3,
            records: (1..=3).map(record).collect(),
            loss_sum: 0.1 + 0.2,
            best: Some(Best { epoch: 2, val_accuracy: 0.5, val_accuracy_dedup: None }),
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
        save(&path, CONFIG, &state, &tensors).unwrap();
        let back = load(&path).unwrap();
        assert_eq!((back.config.as_str(), &back.state), (CONFIG, &state));
        for (name, tensor) in &tensors {
            let (_, read) = back.tensors.iter().find(|(n, _)| n == name).unwrap();
            assert!(read.equal(tensor) && read.size() == tensor.size(), "{name}");
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        let (state, tensors) = example();
        save(&path, CONFIG, &state, &tensors).unwrap();
        let whole = fs::read(&path).unwrap();
        assert!(from_bytes(&whole).is_ok());
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << bit;
                assert!(from_bytes(&bytes).is_err(), "bit {bit} of byte {place} was flipped");
            }
            assert!(from_bytes(&whole[..place]).is_err(), "cut to {place} bytes");
        }
        fs::write(&path, "not a checkpoint").unwrap();
        let message = load(&path).unwrap_err().to_string();
        assert!(message.contains("best.safetensors") && message.contains("not a usable checkpoint"), "{message}");
    }

    #[test]
    fn an_impossible_state_is_neither_written_nor_read() {
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
        assert!(message(|state| state.best = state.best.map(|best| Best { epoch: 0, ..best })).contains("best epoch"));
        assert!(message(|state| state.monitor = Some((0.5, 9))).contains("best epoch"));
        let ahead = State { best: state.best.map(|best| Best { epoch: 9, ..best }), ..state.clone() };
        assert!(from_bytes(&to_bytes(CONFIG, &ahead, &tensors).unwrap()).is_ok(), "a best newer than the checkpoint");
        let infinite = vec![("a".to_owned(), Tensor::from_slice(&[f32::INFINITY]))];
        assert!(from_bytes(&to_bytes(CONFIG, &state, &infinite).unwrap()).is_err());
    }

    #[test]
    fn a_file_that_claims_too_much_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile.safetensors");
        let message = |start: &[u8], size: u64| {
            fs::write(&path, start).unwrap();
            fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(size).unwrap();
            load(&path).unwrap_err().to_string()
        };
        assert!(message(&u64::MAX.to_le_bytes(), 100).contains("its header is said to be 18446744073709551615 bytes"));
        assert!(message(&(1u64 << 30).to_le_bytes(), 1 << 40).contains("its header is said to be 1073741824 bytes"));
        let (state, tensors) = example();
        let whole = to_bytes(CONFIG, &state, &tensors).unwrap();
        assert!(message(&whole, 1 << 40).contains("1099511627776 bytes, and with its config at most 10"));
        assert!(message(b"1234", 4).contains("it has 4 bytes"));
    }
}
