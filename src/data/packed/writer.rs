//! Writing a packed file: pixels as they come, all else at the end.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use super::format::{self, ALIGNMENT, FIRST_SECTION, Index, Kind, Section};
use super::text_section;
use crate::data::images::{Images, PIXELS};
use crate::data::soft_labels::SoftLabels;

/// Images that are copied at a time.
const BLOCK: usize = 1024;

/// A packed file that is being written.
pub struct PackWriter {
    pixels: BufWriter<fs::File>,
    /// The columns of the images so far, without pixels.
    columns: Images,
}

/// What a packed file has besides its images.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackDetails<'a> {
    /// Names of the classes that labels and soft labels number.
    pub classes: &'a [String],
    /// Name of the column with the groups, if the images have some.
    pub group: Option<&'a str>,
    /// The soft label of each image, or zeros.
    pub votes: Option<&'a SoftLabels>,
    /// Leave out the usages.
    pub without_usages: bool,
}

impl PackWriter {
    /// Begins a file at `path`, usually a temporary one: it is complete after [`finish`](Self::finish).
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = fs::File::create(path)?;
        // The preamble comes last; until then there are zeros.
        file.write_all(&[0; FIRST_SECTION as usize])?;
        Ok(Self { pixels: BufWriter::with_capacity(1 << 20, file), columns: Images::default() })
    }

    /// Adds images, with the columns of the first ones.
    ///
    /// # Errors
    /// An I/O error with the path; an image that cannot be read.
    pub fn append(&mut self, images: Images) -> Result<()> {
        for block in images.pixels.blocks(BLOCK) {
            self.pixels.write_all(&block?)?;
        }
        self.columns.append(Images { pixels: Vec::new().into(), ..images })
    }

    /// The columns of the images so far, without pixels.
    pub fn columns(&self) -> &Images {
        &self.columns
    }

    /// Writes the columns and the index. `file_rows` is the number of rows of the packed data.
    ///
    /// # Errors
    /// An I/O error with the path; more than 4 billion images.
    pub fn finish(self, file_rows: u32, details: PackDetails<'_>) -> Result<()> {
        let Self { pixels, columns } = self;
        let images = u32::try_from(columns.len()).context("too many images")?;
        let file = pixels.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let length = u64::from(images) * PIXELS as u64;
        let sections = vec![Section { kind: Kind::Pixels, start: FIRST_SECTION, length, checksum: None }];
        let mut writer = SectionWriter { file: file.file(), end: FIRST_SECTION + length, sections };
        writer.write(Kind::Hashes, columns.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect())?;
        if let Some(labels) = columns.labels {
            writer.write(Kind::Labels, labels)?;
        }
        if !columns.rows.iter().copied().eq(0..images) {
            writer.write(Kind::Rows, columns.rows.iter().flat_map(|row| row.to_le_bytes()).collect())?;
        }
        let group = details.group.filter(|_| columns.groups.is_some()).map(str::to_owned);
        for (kind, texts) in [
            (Kind::Ids, columns.ids),
            (Kind::Usages, columns.usages.filter(|_| !details.without_usages)),
            (Kind::Groups, columns.groups.filter(|_| group.is_some())),
        ] {
            if let Some(texts) = texts {
                writer.write(kind, text_section::encode(&texts))?;
            }
        }
        if let Some(votes) = details.votes {
            ensure!(votes.weights.len() == columns.rows.len() * details.classes.len(), "a soft label is missing");
            writer.write(Kind::Votes, votes.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect())?;
        }
        let SectionWriter { file, end, sections } = writer;
        let needs_classes = sections.iter().any(|section| matches!(section.kind, Kind::Labels | Kind::Votes));
        let classes = if needs_classes { details.classes.to_vec() } else { Vec::new() };
        let written_by = concat!("grimace ", env!("CARGO_PKG_VERSION")).to_owned();
        let index = Index { written_by, images, file_rows, classes, group, sections };
        format::write(file, &index, aligned(end))
    }
}

/// Writes sections one after the other.
struct SectionWriter<'a> {
    file: &'a File,
    /// The end of the last section.
    end: u64,
    sections: Vec<Section>,
}

impl SectionWriter<'_> {
    fn write(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<()> {
        let (start, length) = (aligned(self.end), bytes.len() as u64);
        self.file.write_all_at(&bytes, start)?;
        let checksum = Some(blake3::hash(&bytes).to_hex().to_string());
        self.sections.push(Section { kind, start, length, checksum });
        self.end = start + length;
        Ok(())
    }
}

fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}
