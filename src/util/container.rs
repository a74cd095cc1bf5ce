//! Checksummed containers: safetensors files with a format name, a version, and a BLAKE3 checksum
//! over names, shapes, bytes and metadata. Reading executes no code from the file, and allocates no
//! more than its config allows.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use fs_err as fs;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use super::files::check_regular_file;
use super::text::short;

const CHECKSUM: &str = "checksum";

/// Bytes of the header's length, at the start of a safetensors file.
const LENGTH: u64 = 8;

/// Maximum bytes of a header: the limit of the safetensors crate.
const MAX_HEADER: u64 = 100_000_000;

/// A kind of container.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Name in the metadata.
    pub name: &'static str,
    /// Version in the metadata; files of other versions are refused.
    pub version: &'static str,
    /// Name in error messages, with an article.
    pub description: &'static str,
}

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct TensorData {
    /// Name, unique in the file.
    pub name: String,
    /// Data type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values, little-endian and row-major.
    pub bytes: Vec<u8>,
}

/// A file whose checksum matches.
#[derive(Debug)]
pub struct Verified<'a> {
    /// Tensors, sorted by name.
    pub tensors: Vec<(String, TensorView<'a>)>,
    metadata: HashMap<String, String>,
}

impl Verified<'_> {
    /// A metadata entry.
    ///
    /// # Errors
    /// When the key is missing.
    pub fn text(&self, key: &str) -> Result<&str> {
        text(&self.metadata, key)
    }
}

impl Format {
    /// Serializes a file, with its checksum.
    ///
    /// # Errors
    /// When the metadata exceeds the header's limit (100 MB), or a shape does not match its bytes.
    pub fn serialize(&self, mut metadata: HashMap<String, String>, mut tensors: Vec<TensorData>) -> Result<Vec<u8>> {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        metadata.insert("format".to_owned(), self.name.to_owned());
        metadata.insert("format_version".to_owned(), self.version.to_owned());
        metadata.insert("written_by".to_owned(), concat!("grimace ", env!("CARGO_PKG_VERSION")).to_owned());
        let sum = checksum(&metadata, tensors.iter().map(|t| (&*t.name, &*t.shape, &*t.bytes)));
        metadata.insert(CHECKSUM.to_owned(), sum);
        let views = tensors
            .iter()
            .map(|t| Ok((t.name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads the bytes of a file, without verifying them. `max_tensor_bytes` computes the limit for
    /// the tensors from the config in the metadata.
    ///
    /// # Errors
    /// See [`LoadError`]; an I/O error while reading, such as a bad sector, counts as corruption.
    pub fn read(&self, path: &Path, max_tensor_bytes: impl FnOnce(Option<&str>) -> u64) -> Result<Vec<u8>, LoadError> {
        let open = || -> Result<_> {
            check_regular_file(path, self.description)?;
            let file = fs::File::open(path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (file, size) = open().map_err(LoadError::Open)?;
        read_bounded(self, file, size, max_tensor_bytes).map_err(LoadError::Unusable)
    }

    /// Checks format and version in the metadata of a file.
    fn check_format(&self, metadata: &HashMap<String, String>) -> Result<()> {
        let format = text(metadata, "format")?;
        ensure!(format == self.name, "its format is {:?}, expected {:?}", short(format, 40), self.name);
        let version = text(metadata, "format_version")?;
        if version != self.version {
            let written_by = text(metadata, "written_by").unwrap_or("an unknown version");
            return Err(VersionMismatch {
                found: short(version, 40),
                written_by: short(written_by, 40),
                expected: self.version,
            }
            .into());
        }
        Ok(())
    }

    /// Parses the bytes of a file and verifies format, version and checksum.
    ///
    /// # Errors
    /// What is wrong with the file, without its path.
    pub fn verify<'a>(&self, bytes: &'a [u8]) -> Result<Verified<'a>> {
        let (_, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| anyhow!("it is corrupt or not a safetensors file: {error}"))?;
        let metadata = header.metadata().as_ref().context("it has no metadata")?;
        self.check_format(metadata)?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| anyhow!("it is corrupt: {error}"))?;
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let sum = checksum(metadata, tensors.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
        if sum != text(metadata, CHECKSUM)? {
            return Err(anyhow!("it does not match its checksum: it is corrupt"));
        }
        Ok(Verified { tensors, metadata: metadata.clone() })
    }
}

/// Why a container could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing, not a regular file, or cannot be opened.
    #[error(transparent)]
    Open(anyhow::Error),
    /// The content is corrupt, or of another format or version. Another file may do.
    #[error(transparent)]
    Unusable(anyhow::Error),
}

/// A file of another format version. It need not be corrupt.
#[derive(Debug, thiserror::Error)]
#[error("it has format version {found:?}, written by {written_by}; this grimace ({}) reads version {expected:?}",
    env!("CARGO_PKG_VERSION"))]
pub struct VersionMismatch {
    found: String,
    written_by: String,
    expected: &'static str,
}

/// Whether [`Format::verify`] failed because of the file's format version.
pub fn is_version_mismatch(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<VersionMismatch>())
}

/// Advice for a file that cannot be read; `recreate` says how to create it again, such as
/// `train again`.
pub fn recovery_advice(error: &anyhow::Error, recreate: &str) -> String {
    if is_version_mismatch(error) {
        format!("{recreate}, or use the version that wrote it; files are not converted between format versions")
    } else {
        format!("restore it from a copy, or {recreate}")
    }
}

fn text<'a>(metadata: &'a HashMap<String, String>, key: &str) -> Result<&'a str> {
    metadata.get(key).map(String::as_str).with_context(|| format!("its metadata has no {key}"))
}

/// Reads a file of `size` bytes, and checks each size that it claims before allocating for it.
fn read_bounded(
    format: &Format,
    mut file: fs::File,
    size: u64,
    max_tensor_bytes: impl FnOnce(Option<&str>) -> u64,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.by_ref().take(LENGTH).read_to_end(&mut bytes)?;
    let header = header_length(&bytes, size)?;
    file.by_ref().take(header).read_to_end(&mut bytes)?;
    let metadata = read_metadata(bytes.get(LENGTH as usize..).unwrap_or_default())?;
    // Before the size: the config of another version may not give a limit.
    format.check_format(&metadata)?;
    check_size(&metadata, size, max_tensor_bytes)?;
    bytes.reserve_exact(usize::try_from(size)?.saturating_sub(bytes.len()));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Length of the header, from the first bytes of a file of `size` bytes.
fn header_length(start: &[u8], size: u64) -> Result<u64> {
    let Ok(length) = <[u8; LENGTH as usize]>::try_from(start) else {
        return Err(anyhow!("it is corrupt: it has {size} bytes"));
    };
    let header = u64::from_le_bytes(length);
    if header > size.saturating_sub(LENGTH).min(MAX_HEADER) {
        return Err(anyhow!("it is corrupt or not a safetensors file: it claims a header of {header} bytes"));
    }
    Ok(header)
}

/// Parses the metadata in a header.
fn read_metadata(header: &[u8]) -> Result<HashMap<String, String>> {
    let header: Metadata =
        serde_json::from_slice(header).map_err(|error| anyhow!("it is corrupt or not a safetensors file: {error}"))?;
    header.metadata().clone().context("it has no metadata")
}

/// Refuses a file larger than the config in its metadata allows.
fn check_size(
    metadata: &HashMap<String, String>,
    size: u64,
    max_tensor_bytes: impl FnOnce(Option<&str>) -> u64,
) -> Result<()> {
    let max = LENGTH + MAX_HEADER + max_tensor_bytes(metadata.get("config").map(String::as_str));
    if size > max {
        return Err(anyhow!("it is corrupt: it has {size} bytes, and with its config at most {max}"));
    }
    Ok(())
}

/// BLAKE3 over the metadata without the checksum, then over names, shapes and bytes of the tensors;
/// both sorted by name, each item preceded by its length.
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
