//! safetensors files that prove to be whole and of this program: with a format, its version, and a BLAKE3 checksum over names,
//! shapes, bytes and metadata. Reading runs no code from the file, and takes memory only for what its header may claim.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use fs_err as fs;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use super::files::check_regular_file;
use super::text::short;

const CHECKSUM: &str = "checksum";

/// Bytes in front of a safetensors header that tell its length.
const LENGTH: u64 = 8;

/// Bytes of the longest header that the safetensors crate reads.
const MAX_HEADER: u64 = 100_000_000;

/// A kind of sealed file.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its name in the metadata.
    pub format: &'static str,
    /// Files of another version are refused.
    pub version: &'static str,
    /// What a person calls such a file.
    pub what: &'static str,
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct TensorData {
    /// Unique in the file.
    pub name: String,
    /// Number format.
    pub dtype: Dtype,
    /// Edges.
    pub shape: Vec<usize>,
    /// Little-endian values, row-major.
    pub bytes: Vec<u8>,
}

/// A file whose seal holds.
#[derive(Debug)]
pub struct Verified<'a> {
    /// Its tensors by name, sorted.
    pub tensors: Vec<(String, TensorView<'a>)>,
    metadata: HashMap<String, String>,
}

impl Verified<'_> {
    /// An entry of the metadata.
    ///
    /// # Errors
    /// When there is none.
    pub fn text(&self, key: &str) -> Result<&str> {
        text(&self.metadata, key)
    }
}

impl Format {
    /// The bytes of a file.
    ///
    /// # Errors
    /// Metadata too large for the header of a safetensors file (100 MB), shapes that do not fit their bytes.
    pub fn close(&self, mut metadata: HashMap<String, String>, mut parts: Vec<TensorData>) -> Result<Vec<u8>> {
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        metadata.insert("format".to_owned(), self.format.to_owned());
        metadata.insert("format_version".to_owned(), self.version.to_owned());
        metadata.insert("written_by".to_owned(), concat!("grimace ", env!("CARGO_PKG_VERSION")).to_owned());
        let sum = checksum(&metadata, parts.iter().map(|part| (&*part.name, &*part.shape, &*part.bytes)));
        metadata.insert(CHECKSUM.to_owned(), sum);
        let views = parts
            .iter()
            .map(|part| Ok((part.name.as_str(), TensorView::new(part.dtype, part.shape.clone(), &part.bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads a file; `largest` says how many bytes its tensors may take, given the config in its metadata. What is wrong with
    /// the file comes back as a value, for who has another to turn to.
    ///
    /// # Errors
    /// When it cannot be read at all: it is missing, no regular file, may not be opened.
    pub fn read(
        &self,
        path: &Path,
        largest: impl FnOnce(Option<&str>) -> u64,
    ) -> Result<Result<Vec<u8>, anyhow::Error>> {
        check_regular_file(path, self.what)?;
        let file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        // A bad sector is damage, too.
        Ok(read_bounded(file, size, largest))
    }

    /// Verifies the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<Verified<'a>> {
        let (_, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| anyhow!("it is damaged or no safetensors file: {error}"))?;
        let metadata = header.metadata().as_ref().context("it has no metadata")?;
        for (key, what, expected) in
            [("format", "format", self.format), ("format_version", "format version", self.version)]
        {
            let found = text(metadata, key)?;
            ensure!(found == expected, "its {what} is {:?}; this grimace reads {expected:?}", short(found, 40));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| anyhow!("it is damaged: {error}"))?;
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let sum = checksum(metadata, tensors.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
        if sum != text(metadata, CHECKSUM)? {
            return Err(anyhow!("it does not match its checksum: it is damaged"));
        }
        Ok(Verified { tensors, metadata: metadata.clone() })
    }
}

fn text<'a>(metadata: &'a HashMap<String, String>, key: &str) -> Result<&'a str> {
    metadata.get(key).map(String::as_str).with_context(|| format!("its metadata has no {key}"))
}

/// Reads a file of `size` bytes in steps: what a hostile one claims is checked before memory is taken for it.
fn read_bounded(mut file: fs::File, size: u64, largest: impl FnOnce(Option<&str>) -> u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.by_ref().take(LENGTH).read_to_end(&mut bytes)?;
    let header = header_length(&bytes, size)?;
    file.by_ref().take(header).read_to_end(&mut bytes)?;
    check_size(bytes.get(LENGTH as usize..).unwrap_or_default(), size, largest)?;
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
    if header > size.saturating_sub(LENGTH).min(MAX_HEADER) {
        return Err(anyhow!("it is damaged or no safetensors file: its header is said to be {header} bytes long"));
    }
    Ok(header)
}

/// Whether a file of `size` bytes may hold what the config in its header allows.
fn check_size(header: &[u8], size: u64, largest: impl FnOnce(Option<&str>) -> u64) -> Result<()> {
    let header: Metadata =
        serde_json::from_slice(header).map_err(|error| anyhow!("it is damaged or no safetensors file: {error}"))?;
    let metadata = header.metadata().as_ref().context("it has no metadata")?;
    let most = LENGTH + MAX_HEADER + largest(metadata.get("config").map(String::as_str));
    if size > most {
        return Err(anyhow!("it is damaged: it has {size} bytes, and with its config at most {most}"));
    }
    Ok(())
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
