//! Writing images as a CSV or as a folder of PNG files.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use fs_err as fs;
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;

use super::config::CLASSES;
use super::images::{Images, SIDE, is_split};
use crate::util::error::input;
use crate::util::files::Output;

/// Maximum length of an id in a file name.
const MAX_ID: usize = 100;

/// Writes `images` as CSV: `emotion,pixels`, with the columns `Usage` and `id` if there are such.
/// Labels are class numbers if the classes are FER2013's, else names: a number would mean another
/// class to a reader with other classes.
///
/// # Errors
/// Those of [`Output::replace`].
pub fn write_csv(images: &Images, classes: &[String], output: &Output) -> Result<()> {
    output.replace(|temporary| write_rows(images, classes, BufWriter::new(fs::File::create(temporary)?)))
}

fn write_rows(images: &Images, classes: &[String], file: impl Write) -> Result<()> {
    // A class named 3 would be read as the class of that number.
    let has_names = classes != CLASSES && classes.iter().all(|class| class.parse::<f64>().is_err());
    let mut writer = ::csv::Writer::from_writer(file);
    let columns = [
        ("emotion", images.labels.is_some()),
        ("pixels", true),
        ("Usage", images.usages.is_some()),
        ("id", images.ids.is_some()),
    ];
    writer.write_record(columns.iter().filter(|(_, is_present)| *is_present).map(|(name, _)| name))?;
    for index in 0..images.len() {
        if let Some(label) = images.labels.as_ref().and_then(|labels| labels.get(index)) {
            match classes.get(usize::from(*label)).filter(|_| has_names) {
                Some(name) => writer.write_field(name)?,
                None => writer.write_field(label.to_string())?,
            }
        }
        let mut pixels = String::new();
        for (position, pixel) in images.image(index)?.iter().enumerate() {
            let separator = if position == 0 { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(pixels, "{separator}{pixel}");
        }
        writer.write_field(pixels)?;
        for column in [&images.usages, &images.ids].into_iter().flatten() {
            writer.write_field(column.get(index).map_or("", String::as_str))?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(writer.flush()?)
}

/// Writes `images` as PNG files: `happy/00012.png`, in a folder for each Usage if there are such, or
/// without folders if there are no labels. The name is the row, from 0, and the id if it is plain,
/// so that reading the folder gives the images in the same order.
///
/// # Errors
/// An input error if `out` exists and is no empty folder, or if a Usage is not one that a folder is
/// recognized by; I/O errors with the path. `out` is then as it was.
pub fn write_folder(images: &Images, classes: &[String], out: &Path) -> Result<()> {
    check_folder(out)?;
    check_usages(images)?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".grimace-").suffix(".tmp").tempdir_in(parent);
    let temporary = temporary.with_context(|| format!("cannot write {}", out.display()))?;
    // Temporary folders are private; one in it has the permissions of a new folder.
    let complete = temporary.path().join("complete");
    fs::create_dir(&complete)?;
    let digits = images.file_rows.saturating_sub(1).to_string().len();
    let files =
        (0..images.len()).map(|index| relative_path(images, classes, index, digits)).collect::<Result<Vec<_>>>()?;
    let mut folders: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.into_iter().try_for_each(|folder| fs::create_dir_all(complete.join(folder)))?;
    files
        .par_iter()
        .enumerate()
        .try_for_each(|(index, file)| write_png(&images.image(index)?, &complete.join(file)))?;
    // The folder that a user made empty is replaced.
    if out.is_dir() {
        fs::remove_dir(out)?;
    }
    Ok(fs::rename(&complete, out)?)
}

/// Checks that `out` can become a folder of images.
///
/// # Errors
/// An input error with what is there.
pub fn check_folder(out: &Path) -> Result<()> {
    let shown = out.display();
    if out.is_dir() && !out.is_symlink() {
        let is_empty = fs::read_dir(out)?.next().is_none();
        return if is_empty {
            Ok(())
        } else {
            Err(input(format!("{shown}: is a folder that is not empty; choose another")))
        };
    }
    if crate::util::files::exists(out) {
        return Err(input(format!("{shown}: exists; expected a new folder, or a file name that ends with .csv")));
    }
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(anyhow!("{}: no such folder; create it first", parent.display()))
        }
        _ => Ok(()),
    }
}

fn check_usages(images: &Images) -> Result<()> {
    match images.usages.iter().flatten().find(|usage| !is_split(usage)) {
        Some(usage) if images.labels.is_some() => Err(input(format!(
            "Usage {usage:?} is not recognized as the name of a folder; select the rows of one with --usage, which leaves \
             the folder out"
        ))),
        _ => Ok(()),
    }
}

/// The path of an image in the folder.
fn relative_path(images: &Images, classes: &[String], index: usize, digits: usize) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    if let Some(label) = images.labels.as_ref().and_then(|labels| labels.get(index)) {
        path.extend(images.usages.as_ref().and_then(|usages| usages.get(index)));
        let class = classes.get(usize::from(*label)).context("a label has no class")?;
        if class.contains(['/', '\\']) || class.starts_with('.') {
            return Err(input(format!("class {class:?} cannot be the name of a folder; rename it with --classes")));
        }
        path.push(class);
    }
    let row = images.rows.get(index).copied().unwrap_or_default();
    let id = images.ids.as_ref().and_then(|ids| ids.get(index)).filter(|id| is_plain(id));
    path.push(match id {
        Some(id) => format!("{row:0digits$}-{id}.png"),
        None => format!("{row:0digits$}.png"),
    });
    Ok(path)
}

fn is_plain(id: &str) -> bool {
    id.len() <= MAX_ID && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn write_png(image: &[u8], path: &Path) -> Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    let side = SIDE as u32;
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    encoder
        .write_image(image, side, side, ExtendedColorType::L8)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::PIXELS;
    use crate::data::read::read;
    use crate::data::read_options::{LabelPolicy, ReadOptions};
    use crate::util::files::OutputRules;

    fn images() -> Images {
        let pixels = (0..3 * PIXELS).map(|index| (index * 7 % 251) as u8).collect::<Vec<u8>>();
        Images {
            pixels: pixels.into(),
            labels: Some(vec![3, 0, 3]),
            usages: Some(["Training", "PublicTest", "Training"].map(String::from).to_vec()),
            rows: vec![0, 2, 11],
            file_rows: 12,
            ..Images::default()
        }
        .with_hashes()
        .unwrap()
    }

    #[test]
    fn a_folder_and_a_csv_give_the_same_images() {
        let data = tempfile::tempdir().unwrap();
        let classes = CLASSES.map(String::from);
        let options = ReadOptions::new(&classes, LabelPolicy::Required);
        let (folder, csv) = (data.path().join("faces"), data.path().join("faces.csv"));
        write_folder(&images(), &classes, &folder).unwrap();
        assert!(folder.join("Training/happy/00.png").is_file() && folder.join("PublicTest/angry/02.png").is_file());
        write_csv(&images(), &classes, &Output::check(&csv, OutputRules::default()).unwrap()).unwrap();
        for path in [&folder, &csv] {
            let found = read(path, options).unwrap();
            assert_eq!(
                (&found.pixels, &found.labels, &found.usages),
                (&images().pixels, &images().labels, &images().usages)
            );
        }
        // Back to a CSV, with the paths as ids.
        let found = read(&folder, options).unwrap();
        let mut text = Vec::new();
        write_rows(&found, &classes, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("emotion,pixels,Usage,id\n3,0 7 14"), "{:.40}", text);
        assert!(text.trim_end().ends_with(",Training,Training/happy/11.png"), "{text}");
        assert!(write_folder(&images(), &classes, &folder).unwrap_err().to_string().contains("is not empty"));
    }

    #[test]
    fn other_classes_are_written_as_names() {
        let text = |classes: &[&str]| {
            let mut text = Vec::new();
            write_rows(&images(), &classes.iter().map(ToString::to_string).collect::<Vec<_>>(), &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert!(text(&["smile", "b", "c", "frown, deep"]).starts_with("emotion,pixels,Usage\n\"frown, deep\",0 7"));
        assert!(text(&["1", "2", "3", "0"]).starts_with("emotion,pixels,Usage\n3,0 7"));
    }

    #[test]
    fn names_keep_plain_ids_and_unknown_usages_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let classes = CLASSES.map(String::from);
        let ids = |ids: [&str; 3]| Some(ids.map(String::from).to_vec());
        let without_labels = Images { labels: None, usages: None, ids: ids(["a_1", "x/y", "b"]), ..images() };
        let out = data.path().join("flat");
        fs::create_dir(&out).unwrap();
        write_folder(&without_labels, &classes, &out).unwrap();
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["00-a_1.png", "02.png", "11-b.png"]);
        let folds = Images { usages: ids(["Training", "3", "Training"]), ..images() };
        let out = data.path().join("folds");
        let error = write_folder(&folds, &classes, &out).unwrap_err().to_string();
        assert!(error.contains("Usage \"3\"") && error.contains("--usage"), "{error}");
        let slash: Vec<String> = (0..7).map(|number| format!("a/{number}")).collect();
        assert!(
            write_folder(&images(), &slash, &out).unwrap_err().to_string().contains("cannot be the name of a folder")
        );
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
