//! Reading a packed file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::format::{self, Index, Kind, Section};
use super::text_section;
use crate::data::bad_rows::{BadRow, BadRows, Place};
use crate::data::config::OnBadRow;
use crate::data::images::{ImageHash, Images};
use crate::data::label_map::{LabelMap, LabelTarget};
use crate::data::pixel_store::{PixelFile, Pixels};
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::util::error::input;
use crate::util::files::open_input;
use crate::util::text::{count, short};

/// A packed file that is open. Only its index has been read.
#[derive(Debug)]
pub struct PackedFile {
    name: String,
    file: File,
    index: Index,
}

impl PackedFile {
    /// Opens the file at `path`, and checks its preamble, index and length, in a time that does not
    /// depend on its size.
    ///
    /// # Errors
    /// Input errors that say what to do: a file that is missing, of another kind, truncated, corrupt,
    /// or written by a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = open_input(path, "a packed file of images")?;
        let size = file.metadata().with_context(|| format!("{name}: cannot be read"))?.len();
        let index = format::read(&file, size).map_err(|error| input(format!("{name}: {error:#}")))?;
        Ok(Self { name, file, index })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.index.images as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes; empty without labels.
    pub fn classes(&self) -> &[String] {
        &self.index.classes
    }

    /// Name of the column with the groups, if there are groups.
    pub fn group(&self) -> Option<&str> {
        self.index.group.as_deref()
    }

    /// Whether there are soft labels.
    pub fn has_votes(&self) -> bool {
        self.index.section(Kind::Votes).is_some()
    }

    /// The bytes of a section, checked; `None` if the file does not have it.
    pub(super) fn section(&self, kind: Kind) -> Result<Option<Vec<u8>>> {
        let Some(Section { start, length, checksum, .. }) = self.index.section(kind) else { return Ok(None) };
        // The index has been checked: it is a section of this file.
        let mut bytes = vec![0; usize::try_from(*length)?];
        let read = self.file.read_exact_at(&mut bytes, *start);
        read.with_context(|| format!("{}: cannot be read", self.name))?;
        let mut hasher = blake3::Hasher::new();
        let found = hasher.update_rayon(&bytes).finalize().to_hex();
        if checksum.as_deref() != Some(found.as_str()) {
            return Err(self.corrupt(&format!("the section {kind:?} does not match its checksum")));
        }
        Ok(Some(bytes))
    }

    fn texts(&self, kind: Kind) -> Result<Option<Vec<String>>> {
        let decode = |bytes: Vec<u8>| {
            text_section::decode(&bytes, self.len()).map_err(|error| self.corrupt(&format!("{kind:?}: {error:#}")))
        };
        self.section(kind)?.map(decode).transpose()
    }

    pub(super) fn corrupt(&self, problem: &str) -> anyhow::Error {
        input(format!("{}: is corrupt: {problem}; restore it from a copy, or pack it again", self.name))
    }

    /// Name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The row of each image.
    ///
    /// # Errors
    /// A section that is corrupt.
    pub(super) fn rows(&self) -> Result<Vec<u32>> {
        let Some(bytes) = self.section(Kind::Rows)? else { return Ok((0..self.index.images).collect()) };
        let rows: Vec<u32> = bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let in_order = rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|last| *last < self.index.file_rows);
        if in_order { Ok(rows) } else { Err(self.corrupt("its rows are not in order")) }
    }

    /// The id of each image, if there are ids.
    ///
    /// # Errors
    /// A section that is corrupt.
    pub(super) fn ids(&self) -> Result<Option<Vec<String>>> {
        self.texts(Kind::Ids)
    }

    /// The images, all of them and without labels. Pixels stay in the file.
    fn into_images(self, group: Option<&str>) -> Result<Images> {
        let groups = match (group, &self.index.group) {
            (None, _) => None,
            (Some(group), Some(packed)) if packed.eq_ignore_ascii_case(group) => self.texts(Kind::Groups)?,
            (Some(group), packed) => {
                let found =
                    packed.as_ref().map_or("has no groups".to_owned(), |name| format!("has the groups {name:?}"));
                let (name, group) = (&self.name, short(group, 40));
                return Err(input(format!(
                    "{name}: {found}; expected {group:?}, as set by data.group: pack it with --group {group}, or remove \
                     data.group"
                )));
            }
        };
        let hashes = self.section(Kind::Hashes)?.unwrap_or_default();
        let hashes: Vec<ImageHash> = hashes.as_chunks().0.iter().map(|bytes| ImageHash::from_bytes(*bytes)).collect();
        let images = Images {
            ids: self.texts(Kind::Ids)?,
            usages: self.texts(Kind::Usages)?,
            groups,
            rows: self.rows()?,
            hashes: hashes.clone(),
            file_rows: self.index.file_rows,
            ..Images::default()
        };
        let start = self.index.section(Kind::Pixels).map_or(0, |section| section.start);
        let pixels = Pixels::from_file(PixelFile { file: self.file, name: self.name, start, hashes });
        Ok(Images { pixels, ..images })
    }
}

/// Reads a packed file. Its labels are the names of its classes, as if they were words in a CSV; its
/// pixels are read when they are needed.
///
/// # Errors
/// Input errors: those of [`PackedFile::open`], a section that is corrupt, a class that
/// `data.classes` and `data.labels` do not have.
pub fn read_allow_empty(path: &Path, options: ReadOptions<'_>) -> Result<Images> {
    let packed = PackedFile::open(path)?;
    let name = packed.name.clone();
    let classes = packed.classes().to_vec();
    let labels = match options.labels {
        LabelPolicy::Ignored => None,
        LabelPolicy::Optional => packed.section(Kind::Labels)?,
        LabelPolicy::Required => Some(packed.section(Kind::Labels)?.ok_or_else(|| {
            input(format!("{name}: has no labels; pack a CSV with the column emotion, or a folder with class folders"))
        })?),
    };
    let images = packed.into_images(options.group)?;
    let Some(labels) = labels else { return Ok(images) };
    let map = LabelMap::new(options.classes, options.label_names);
    let (kept, labels, skipped, left_out) = resolve(&labels, &images.rows, &classes, &map, options);
    if options.on_bad_row == OnBadRow::Error && skipped.count() > 0 {
        return Err(skipped.to_error(&name, options.advice));
    }
    let all = images.len();
    let mut images = if kept.len() < all { images.select(&kept) } else { images };
    images.labels = Some(labels);
    (images.skipped, images.left_out, images.unused_labels) = (skipped, left_out, map.unused());
    if left_out > 0 {
        let (rule, rows) = (options.advice.label_rule(), count(all, "image"));
        images.notes.push(format!("{name}: {rule} leaves out {left_out} of {rows}"));
    }
    Ok(images)
}

/// The positions and the labels of the images that are kept, those without a class, and the number
/// of those that are left out. `labels` are positions in `classes`.
fn resolve(
    labels: &[u8],
    rows: &[u32],
    classes: &[String],
    map: &LabelMap,
    options: ReadOptions<'_>,
) -> (Vec<usize>, Vec<u8>, BadRows, usize) {
    // Each class once; one that no image has need not be known.
    let mut targets: Vec<Option<Option<LabelTarget>>> = vec![None; 256];
    let (mut kept, mut found) = (Vec::with_capacity(labels.len()), Vec::with_capacity(labels.len()));
    let (mut skipped, mut left_out) = (BadRows::default(), 0);
    for (position, (label, row)) in labels.iter().zip(rows).enumerate() {
        let class = classes.get(usize::from(*label));
        let slot = targets.get_mut(usize::from(*label));
        let target = slot.and_then(|slot| *slot.get_or_insert_with(|| class.and_then(|class| map.resolve(class))));
        match target {
            Some(LabelTarget::Class(class)) => {
                kept.push(position);
                found.push(class);
            }
            Some(LabelTarget::Skip) => left_out += 1,
            None => {
                let problem = match class {
                    Some(class) => map.describe_unknown(class, options.advice),
                    None => format!("label {label}, and the file has {}", count(classes.len(), "class")),
                };
                skipped.push(BadRow { place: Place::Image { row: *row }, problem });
            }
        }
    }
    (kept, found, skipped, left_out)
}
