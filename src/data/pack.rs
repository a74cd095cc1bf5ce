//! Packing images: from any format that is read into a packed file.

use std::path::Path;

use anyhow::Result;

use super::images::Images;
use super::label_map::LabelMap;
use super::packed::{self, PackDetails, PackWriter, PackedFile};
use super::read;
use super::read_options::ReadOptions;
use super::soft_labels::{SoftLabels, VoteFile};
use crate::util::error::input;
use crate::util::files::{Output, input_name};
use crate::util::text::short;

/// What to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackRequest<'a> {
    /// A CSV, a folder or a packed file.
    pub data: &'a Path,
    /// How it is read.
    pub options: ReadOptions<'a>,
    /// Only images with this Usage, without the column.
    pub usage: Option<&'a str>,
    /// A CSV of soft labels to add, instead of those of a packed file.
    pub soft_labels: Option<&'a Path>,
}

/// The outcome of packing.
#[derive(Debug)]
pub struct Packed {
    /// Number of images.
    pub images: usize,
    /// Images without a vote for a class, if soft labels were packed.
    pub without_votes: usize,
    /// What concerns the data as a whole, without images.
    pub whole: Images,
}

/// Packs images into `output`. A CSV is read in parts, and need not fit into memory.
///
/// # Errors
/// Those of [`read::read_parts`], [`VoteFile::read`] and [`Output::replace`]; the output is then as it
/// was.
pub fn pack(request: PackRequest<'_>, output: &Output) -> Result<Packed> {
    let mut packed = None;
    output.replace(|temporary| {
        packed = Some(write(request, temporary)?);
        Ok(())
    })?;
    packed.ok_or_else(|| anyhow::anyhow!("{output}: was not written"))
}

fn write(request: PackRequest<'_>, path: &Path) -> Result<Packed> {
    let PackRequest { data, usage, .. } = request;
    let name = input_name(data);
    // What a packed file has stays, unless another is given.
    let packed = if packed::is_packed(data) { Some(PackedFile::open(data)?) } else { None };
    let group = request.options.group.or(packed.as_ref().and_then(PackedFile::group));
    let has_votes = packed.as_ref().is_some_and(PackedFile::has_votes);
    let soft_labels = request.soft_labels.or(has_votes.then_some(data));
    let options = ReadOptions { group, ..request.options };
    let mut writer = PackWriter::create(path)?;
    let whole = read::read_parts(data, options, &mut |part| match usage {
        None => writer.append(part),
        Some(usage) if part.usages.is_none() => {
            Err(input(format!("{}: no column Usage, so no rows with Usage {usage:?} can be selected", name.display())))
        }
        Some(usage) => writer.append(part.select(&part.positions_of_usage(usage))),
    })?;
    let images = writer.columns().len();
    if images == 0 {
        let usage = short(usage.unwrap_or_default(), 40);
        return Err(input(format!("{}: no row has Usage {usage:?}; omit --usage to pack all rows", name.display())));
    }
    let votes = match soft_labels {
        Some(path) => Some(read_votes(path, &writer, whole.file_rows, (data, options))?),
        None => None,
    };
    let votes_of = |votes: &SoftLabels| {
        votes.weights.chunks(votes.classes.max(1)).filter(|row| row.iter().all(|w| *w == 0.0)).count()
    };
    let without_votes = votes.as_ref().map_or(0, votes_of);
    let details = PackDetails {
        classes: options.classes,
        group: options.group,
        votes: votes.as_ref(),
        without_usages: usage.is_some(),
    };
    writer.finish(whole.file_rows, details)?;
    Ok(Packed { images, without_votes, whole })
}

/// The soft labels of all images, in their order; zeros for those without a vote for a class.
fn read_votes(
    path: &Path,
    writer: &PackWriter,
    file_rows: u32,
    (data, options): (&Path, ReadOptions<'_>),
) -> Result<SoftLabels> {
    let map = LabelMap::new(options.classes, options.label_names);
    let images = Images { file_rows, ..writer.columns().clone() };
    let labeled = VoteFile::read(path, &map, &images, data)?.select(&images, data)?;
    let classes = labeled.soft.classes;
    let mut weights = vec![0.0; images.len() * classes];
    for (position, row) in labeled.kept.iter().zip(labeled.soft.weights.chunks(classes.max(1))) {
        if let Some(to) = weights.get_mut(position * classes..(position + 1) * classes) {
            to.copy_from_slice(row);
        }
    }
    Ok(SoftLabels { weights, classes })
}
