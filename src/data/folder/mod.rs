//! Reading a folder of pictures: one folder for each class, or one for each split with these.

mod listing;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use super::bad_rows::{BadRow, BadRows, Place};
use super::config::OnBadRow;
use super::images::{Images, PIXELS, SIDE};
use super::label_map::{CLASSES, LabelMap, LabelNames, LabelTarget};
use super::picture::{self, Picture};
use super::read_options::{LabelPolicy, ReadOptions};
use crate::util::error::input;
use crate::util::text::{count, short};
use listing::Entry;
pub(super) use listing::Listing;

/// Reads the pictures in `root`, at most one per file: gray, 48x48 pixels. Labels are the names of
/// the class folders, ids are paths in `root`, and usages the folders `train`, `test` and the like,
/// if all pictures are in such.
///
/// # Errors
/// Input errors that name files: one that cannot be read or decoded, one without a class.
pub fn read_allow_empty(root: &Path, options: ReadOptions<'_>) -> Result<Images> {
    let listing = Listing::new(root);
    if listing.files.is_empty() && listing.problems.count() == 0 {
        return Err(input(format!(
            "{}: is a folder without pictures; expected a CSV, or a folder with {} files",
            root.display(),
            picture::FORMATS
        )));
    }
    let map = LabelMap::new(options.classes, options.label_names);
    let has_labels = match options.labels {
        LabelPolicy::Required => true,
        LabelPolicy::Optional => listing.files.iter().any(|entry| entry.class.is_some()),
        LabelPolicy::Ignored => false,
    };
    let rows = u32::try_from(listing.files.len()).map_err(|_| input(format!("{}: too many files", root.display())))?;
    let mut skipped = listing.problems.clone();
    let mut kept = Vec::new();
    for (row, entry) in (0..rows).zip(&listing.files) {
        match label_of(entry, has_labels, &map, options) {
            Ok(target) => kept.push((row, entry, target)),
            Err(problem) => skipped.push(BadRow { place: Place::File(entry.id.clone()), problem }),
        }
    }
    let labeled = kept.len();
    kept.retain(|(_, _, target)| *target != Some(LabelTarget::Skip));
    // Before anything is decoded.
    let name = root.display().to_string();
    check(&skipped, &name, options)?;
    let left_out = labeled - kept.len();
    let (images, resized) = decode(&kept, &mut skipped);
    check(&skipped, &name, options)?;
    let mut images = Images { file_rows: rows, skipped, left_out, ..images };
    images.notes = notes(&name, &listing, &map, has_labels, resized);
    if has_labels {
        images.unused_labels = map.unused();
    } else {
        images.labels = None;
    }
    if left_out > 0 {
        let rule = options.advice.label_rule();
        images.notes.push(format!("{name}: {rule} leaves out {left_out} of {}", count(rows as usize, "image")));
    }
    images.with_hashes()
}

fn check(skipped: &BadRows, name: &str, options: ReadOptions<'_>) -> Result<()> {
    match options.on_bad_row {
        OnBadRow::Error if skipped.count() > 0 => Err(skipped.to_error(name, options.advice)),
        _ => Ok(()),
    }
}

/// The label of a picture; `None` if labels are not read.
fn label_of(
    entry: &Entry,
    has_labels: bool,
    map: &LabelMap,
    options: ReadOptions<'_>,
) -> Result<Option<LabelTarget>, String> {
    if !has_labels {
        return Ok(None);
    }
    let Some(class) = &entry.class else {
        return Err("is in no class folder; expected a folder with the name of its class, such as happy".to_owned());
    };
    match map.resolve(class) {
        Some(target) => Ok(Some(target)),
        None => Err(format!("its folder is no class: {}", map.describe_unknown(class, options.advice))),
    }
}

type Kept<'a> = (u32, &'a Entry, Option<LabelTarget>);

/// The decoded pictures, and how many of them had another size. Those that cannot be decoded are
/// added to `skipped`.
fn decode(kept: &[Kept<'_>], skipped: &mut BadRows) -> (Images, usize) {
    let mut pixels = vec![0; kept.len() * PIXELS];
    let results: Vec<Result<bool>> = kept
        .par_iter()
        .zip(pixels.par_chunks_exact_mut(PIXELS))
        .map(|((_, entry, _), image)| decode_into(&entry.path, image))
        .collect();
    let label = |target: &Option<LabelTarget>| match target {
        Some(LabelTarget::Class(class)) => *class,
        _ => 0,
    };
    let mut images = Images {
        pixels: pixels.into(),
        labels: Some(kept.iter().map(|(_, _, target)| label(target)).collect()),
        ids: Some(kept.iter().map(|(_, entry, _)| entry.id.clone()).collect()),
        usages: kept.iter().map(|(_, entry, _)| entry.usage.clone()).collect(),
        rows: kept.iter().map(|(row, _, _)| *row).collect(),
        ..Images::default()
    };
    let mut good = Vec::new();
    let mut resized = 0;
    for (position, (result, (_, entry, _))) in results.into_iter().zip(kept).enumerate() {
        match result {
            Ok(was_resized) => {
                good.push(position);
                resized += usize::from(was_resized);
            }
            Err(error) => {
                skipped.push(BadRow { place: Place::File(entry.id.clone()), problem: format!("{error:#}") });
            }
        }
    }
    if good.len() < kept.len() {
        images = images.select(&good);
    }
    (images, resized)
}

/// Writes the pixels of a picture to `image`, 2304 bytes. Returns whether it had another size.
fn decode_into(path: &Path, image: &mut [u8]) -> Result<bool> {
    let gray = Picture::open(path)?.into_gray();
    let resized = gray.dimensions() != (SIDE as u32, SIDE as u32);
    image.copy_from_slice(&picture::to_face(gray)?);
    Ok(resized)
}

fn notes(name: &str, listing: &Listing, map: &LabelMap, has_labels: bool, resized: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if has_labels {
        let class = |folder: &String| match map.resolve(folder)? {
            LabelTarget::Class(number) => {
                Some(format!("{folder} -> {number} {}", map.classes().get(usize::from(number))?))
            }
            LabelTarget::Skip => Some(format!("{folder} -> left out")),
        };
        let classes: Vec<String> =
            listing.class_folders().iter().filter_map(class).map(|text| short(&text, 60)).collect();
        notes.push(format!("{name}: class folders: {}", classes.join(", ")));
        notes.extend(nearly_fer2013(map.classes()).map(|note| format!("{name}: {note}")));
    }
    if resized > 0 {
        let all = count(listing.files.len(), "image");
        notes.push(format!("{name}: {resized} of {all} resized to {SIDE}x{SIDE}"));
    }
    notes.extend(listing.ignored_note(name));
    notes
}

/// The classes of a folder of pictures if a config lists none: FER2013's if the class folders are
/// these, in any spelling that `names` or [`LabelMap`] knows; else those that the folders go to, in
/// alphabetical order. `None` if `root` has no class folders.
pub fn default_classes(root: &Path, names: &LabelNames) -> Option<Vec<String>> {
    classes_of_labels(Listing::new(root).class_folders(), names)
}

/// [`default_classes`] of data with these labels; `None` if there are none.
pub fn classes_of_labels(labels: Vec<String>, names: &LabelNames) -> Option<Vec<String>> {
    if labels.is_empty() {
        return None;
    }
    let mut classes = without_synonyms(classes_of(labels, names));
    if are_fer2013(&classes) {
        return Some(CLASSES.map(String::from).to_vec());
    }
    classes.sort_by_key(|class| (class.parse::<usize>().ok(), class.to_lowercase()));
    classes.dedup();
    Some(classes)
}

/// The names without those that mean the same as another, such as `Happiness` beside `happy`.
fn without_synonyms(mut classes: Vec<String>) -> Vec<String> {
    // FER2013's names stay.
    classes.sort_by_key(|class| !CLASSES.contains(&class.to_lowercase().as_str()));
    let mut kept: Vec<String> = Vec::new();
    for class in classes {
        let is_number = class.parse::<usize>().is_ok();
        if is_number || LabelMap::new(&kept, &LabelNames::Classes).resolve(&class).is_none() {
            kept.push(class);
        }
    }
    kept
}

/// A note on classes that are some of FER2013's and others: a folder may have a typing error.
fn nearly_fer2013(classes: &[String]) -> Option<String> {
    let (known, other): (Vec<&String>, Vec<&String>) =
        classes.iter().partition(|class| CLASSES.contains(&class.to_lowercase().as_str()));
    let quoted = |names: Vec<&str>| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let missing: Vec<&str> =
        CLASSES.into_iter().filter(|name| !known.iter().any(|class| class.to_lowercase() == *name)).collect();
    let is_near = known.len() >= 3 && !missing.is_empty();
    let (missing, other) = (quoted(missing), quoted(other.into_iter().map(String::as_str).collect()));
    let beside = if other.is_empty() { String::new() } else { format!(", and {other} is none of them") };
    is_near.then(|| {
        format!(
            "warning: these are not FER2013's seven classes: {missing} is missing{beside}; numbers of classes differ"
        )
    })
}

/// The classes that folders go to: their own names, unless `names` has another.
fn classes_of(folders: Vec<String>, names: &LabelNames) -> Vec<String> {
    if names.is_classes() {
        return folders;
    }
    let mut candidates = names.default_classes();
    for folder in &folders {
        if !candidates.iter().any(|class| class.to_lowercase() == folder.to_lowercase()) {
            candidates.push(folder.clone());
        }
    }
    let map = LabelMap::new(&candidates, names);
    let class = |folder: &String| match map.resolve(folder)? {
        LabelTarget::Class(number) => candidates.get(usize::from(number)).cloned(),
        LabelTarget::Skip => None,
    };
    folders.iter().filter_map(class).collect()
}

/// Whether the names are those of FER2013's classes, or synonyms, or their numbers 0 to 6, each once.
fn are_fer2013(classes: &[String]) -> bool {
    let fer2013 = CLASSES.map(String::from);
    let map = LabelMap::new(&fer2013, &LabelNames::Classes);
    let numbers: BTreeSet<u8> = classes
        .iter()
        .filter_map(|class| match map.resolve(class)? {
            LabelTarget::Class(number) => Some(number),
            LabelTarget::Skip => None,
        })
        .collect();
    let count_numbers = classes.iter().filter(|class| class.parse::<usize>().is_ok()).count();
    // Some numbers among words mean something else.
    let is_uniform = count_numbers == 0 || count_numbers == classes.len();
    is_uniform && numbers.len() == fer2013.len() && classes.len() == fer2013.len()
}

#[cfg(test)]
mod tests;
