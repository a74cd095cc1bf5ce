//! Checkpoints: safetensors files that are whole, carry all they need, and are checked when read.
//!
//! Tensors are float32, contiguous and dense, under the network's names; in `last.safetensors` the optimizer's state stands
//! beside them as `optimizer.<slot>.<name>`. The metadata holds the format's version, the resolved config, the state of the
//! run as JSON, and a BLAKE3 checksum over all of it. Reading runs no code from the file.

mod state;

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use fs_err as fs;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::config::{self, ModelConfig};
use crate::error::input;
use crate::files::{check_regular_file, write_atomically};
use crate::text::short;

pub use state::{Best, EpochRecord, State};

const FORMAT: &str = "grimace-checkpoint";
const VERSION: &str = "2";
const CHECKSUM: &str = "checksum";

/// Bytes in front of a safetensors header that tell its length.
const LENGTH: u64 = 8;

/// Bytes of the longest header that the safetensors crate reads.
const LONGEST_HEADER: u64 = 100_000_000;

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
    let mut metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("format_version".to_owned(), VERSION.to_owned()),
        ("written_by".to_owned(), concat!("grimace ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("config".to_owned(), config.to_owned()),
        ("state".to_owned(), serde_json::to_string(state)?),
        ("epoch".to_owned(), state.epoch.to_string()),
        ("best_val_accuracy".to_owned(), state.best.map_or(String::new(), |best| best.val_accuracy.to_string())),
    ]);
    let sum = checksum(&metadata, dense.iter().map(|(name, shape, bytes)| (name.as_str(), &shape[..], &bytes[..])));
    metadata.insert(CHECKSUM.to_owned(), sum);
    let views = dense
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, Some(metadata))?)
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
    check_regular_file(path, "a checkpoint")?;
    let file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    // A bad sector is damage, too.
    Ok(read_bounded(file, size).and_then(|bytes| from_bytes(&bytes)))
}

/// Reads a file of `size` bytes in steps: what a hostile one claims is checked before memory is taken for it.
fn read_bounded(mut file: fs::File, size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.by_ref().take(LENGTH).read_to_end(&mut bytes)?;
    let header = header_length(&bytes, size)?;
    file.by_ref().take(header).read_to_end(&mut bytes)?;
    check_size(bytes.get(LENGTH as usize..).unwrap_or_default(), size)?;
    bytes.reserve_exact(usize::try_from(size)?.saturating_sub(bytes.len()));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The length of the header, which the first bytes of a file of `size` bytes tell.
fn header_length(start: &[u8], size: u64) -> Result<u64> {
    let Ok(length) = <[u8; LENGTH as usize]>::try_from(start) else {
        return Err(anyhow!("it is damaged: it has {size} bytes"));
    };
    let header = u64::from_le_bytes(length);
    if header > size.saturating_sub(LENGTH).min(LONGEST_HEADER) {
        return Err(anyhow!("it is damaged or no safetensors file: its header is said to be {header} bytes long"));
    }
    Ok(header)
}

/// Whether a file of `size` bytes may hold the network of the config in its header, with an optimizer's state.
fn check_size(header: &[u8], size: u64) -> Result<()> {
    let header: Metadata =
        serde_json::from_slice(header).map_err(|error| anyhow!("it is damaged or no safetensors file: {error}"))?;
    let metadata = header.metadata().as_ref().context("it has no metadata")?;
    // Without a config that can be read there is no network; the checksum will tell why.
    let config = metadata.get("config").and_then(|text| config::from_text(text, "").ok());
    let values = config.map_or(0, |config| match &config.model {
        ModelConfig::Cnn(cnn) => cnn.values(config.data.classes.len()),
    });
    let most = LENGTH + LONGEST_HEADER + 3 * size_of::<f32>() as u64 * values;
    if size > most {
        return Err(anyhow!("it is damaged: it has {size} bytes, and with its network at most {most}"));
    }
    Ok(())
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
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| anyhow!("it is damaged or no safetensors file: {error}"))?;
    let metadata = header.metadata().as_ref().context("it has no metadata")?;
    let text = |key: &str| metadata.get(key).with_context(|| format!("its metadata has no {key}"));
    for (key, what, expected) in [("format", "format", FORMAT), ("format_version", "format version", VERSION)] {
        let found = text(key)?;
        ensure!(found == expected, "its {what} is {:?}; this grimace reads {expected:?}", short(found, 40));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| anyhow!("it is damaged: {error}"))?;
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let sum = checksum(metadata, views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
    if sum != *text(CHECKSUM)? {
        return Err(anyhow!("it does not match its checksum: it is damaged"));
    }
    let tensors = views
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
    let state: State = serde_json::from_str(text("state")?).context("its state cannot be read")?;
    state.check()?;
    Ok(Checkpoint { config: text("config")?.clone(), state, tensors })
}

/// BLAKE3 over all metadata but the checksum itself, then over names, shapes and bytes of the tensors, each with its
/// length; both sorted by name.
fn checksum<'a>(
    metadata: &HashMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (key, text) in metadata.iter().collect::<BTreeMap<_, _>>() {
        if key != CHECKSUM {
            add(key.as_bytes());
            add(text.as_bytes());
        }
    }
    for (name, shape, bytes) in tensors {
        add(name.as_bytes());
        let edges: Vec<u8> = shape.iter().flat_map(|edge| (*edge as u64).to_le_bytes()).collect();
        add(&edges);
        add(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";

    fn example() -> (State, NamedTensors) {
        let record = |epoch| EpochRecord {
            epoch,
            lr: 1e-3,
            loss: 1.0 / 3.0,
            accuracy: 0.5,
            val_loss: 2.0,
            val_accuracy: 0.25,
            val_accuracy_without_copies: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        let state = State {
            epoch: 3,
            records: (1..=3).map(record).collect(),
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
        assert!(message(|state| state.hits = 1 << 62).contains("correct predictions"));
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
        assert!(message(&whole, 1 << 40).contains("1099511627776 bytes, and with its network at most 10"));
        assert!(message(b"1234", 4).contains("it has 4 bytes"));
    }
}
