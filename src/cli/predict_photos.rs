//! `grimace predict --faces detect`

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use face_detect::Options;
use fs_err as fs;
use image::ImageFormat;
use image::codecs::jpeg::JpegEncoder;
use serde_json::json;

use super::common::{check_run_output, print, print_json};
use super::predict::PredictArgs;
use crate::data::photos::{Photo, PhotoOptions, PhotoSource, Photos, find_faces, open_detector};
use crate::inference::photo_predictions;
use crate::inference::trained_run::TrainedRun;
use crate::metrics::Predictions;
use crate::metrics::predictions::argmax;
use crate::report::Console;
use crate::report::annotation::{LabeledBox, annotate};
use crate::report::text_table::thousands;
use crate::run_dir::RunDir;
use crate::util::error::{Outcome, input};
use crate::util::files::{Output, OutputRules, STANDARD_STREAM, already_exists, exists, input_name};
use crate::util::text::count;

/// Quality of annotated JPEGs.
const QUALITY: u8 = 92;

pub fn run(args: &PredictArgs) -> Result<Outcome> {
    let rules = OutputRules { inputs: &[&args.data], force: args.force, json: args.json };
    let output = check_run_output(&args.out, std::slice::from_ref(&args.run), rules)?;
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.inference.model.tta)?;
    let temperature = args.inference.temperature(&run, tta)?;
    let options = PhotoOptions {
        usage: args.inference.rows.usage.as_deref(),
        on_bad_row: args.inference.rows.on_bad_row.unwrap_or(run.data().on_bad_row),
        search: args.min_face.map_or_else(Options::default, |min_face| Options { min_face, ..Options::default() }),
    };
    let photos = find_faces(&args.data, &open_detector()?, &options)?;
    let annotated = match &args.annotate {
        Some(folder) => Some(check_outputs(folder, &photos, args)?),
        None => None,
    };
    if let Some(note) = &photos.ignored_note {
        Console::default().line(note)?;
    }
    if let Some(skipped) = photos.skipped.describe() {
        Console::default().line(&format!("{}: {skipped}", input_name(&args.data).display()))?;
    }
    let classes = &run.data().classes;
    let predictions = if photos.crops.is_empty() {
        Predictions { logits: Vec::new(), probabilities: Vec::new(), classes: classes.len() }
    } else {
        run.predict(&photos.crops, args.inference.device, tta)?.mean(temperature)?
    };
    if let Some(outputs) = &annotated {
        write_annotated(&photos, outputs, &predictions, classes)?;
    }
    output.write(&photo_predictions::to_csv(&photos, &predictions, classes, args.probabilities)?)?;
    let without = photos.photos.iter().filter(|photo| photo.faces.is_empty()).count();
    let (faces, all) = (photos.crops.len(), photos.photos.len());
    if args.json {
        print_json(&json!({
            "out": args.out.to_string_lossy(),
            "photos": all,
            "faces": faces,
            "photos_without_faces": without,
            "skipped": photos.skipped.count(),
            "tta": tta,
            "temperature": temperature,
        }))?;
        return Ok(Outcome::Done);
    }
    let found = count(faces, "face").replacen(&faces.to_string(), &thousands(faces), 1);
    let message = format!("{found} in {} of {} written to {output}", thousands(all - without), count(all, "photo"));
    if output.is_standard_output() {
        Console::default().line(&message)?;
    } else {
        print(&(message + "\n"))?;
    }
    Ok(Outcome::Done)
}

/// Where each photo goes in the folder of `--annotate`, checked before anything is written: no photo
/// and no file of the run is overwritten, and no two photos go to the same file.
fn check_outputs(folder: &Path, photos: &Photos, args: &PredictArgs) -> Result<Vec<Output>> {
    let run = RunDir::open(&args.run)?;
    if let (Ok(inner), Ok(outer)) = (folder.canonicalize(), args.data.canonicalize())
        && inner.starts_with(outer)
    {
        return Err(input(format!(
            "{}: is in the folder of photos, and the next command would read it too; choose another for --annotate",
            folder.display()
        )));
    }
    let real = |photo: &Photo| match &photo.source {
        PhotoSource::File(path) => path.canonicalize().ok(),
        PhotoSource::Bytes(_) => None,
    };
    let sources: HashSet<PathBuf> = photos.photos.iter().filter_map(real).collect();
    let mut ids: HashMap<PathBuf, &str> = HashMap::new();
    for photo in &photos.photos {
        let path = annotated_path(folder, &photo.id);
        let shown = path.display();
        if path.canonicalize().is_ok_and(|path| sources.contains(&path)) {
            return Err(input(format!("{shown}: is a photo that is read; choose another folder for --annotate")));
        }
        run.check_not_owned(&path)?;
        if let Some(other) = ids.insert(path.clone(), &photo.id) {
            return Err(input(format!("{shown}: {other} and {} would both be written to it; rename one", photo.id)));
        }
        if !args.force && exists(&path) {
            return Err(already_exists(&path));
        }
    }
    let check = |photo: &Photo| {
        let path = annotated_path(folder, &photo.id);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Output::check(&path, OutputRules { inputs: &[], force: args.force, json: false })
    };
    photos.photos.iter().map(check).collect()
}

/// JPEG and PNG files keep their names; others become JPEG files.
fn annotated_path(folder: &Path, id: &str) -> PathBuf {
    let id = if id == STANDARD_STREAM { "stdin" } else { id };
    let path = folder.join(id);
    let extension = path.extension().map_or_else(String::new, |found| found.to_string_lossy().to_lowercase());
    if ["jpg", "jpeg", "png"].contains(&extension.as_str()) { path } else { folder.join(format!("{id}.jpg")) }
}

fn write_annotated(photos: &Photos, outputs: &[Output], predictions: &Predictions, classes: &[String]) -> Result<()> {
    let mut rows = predictions.probabilities.chunks(predictions.classes.max(1));
    for (photo, output) in photos.photos.iter().zip(outputs) {
        let boxes: Vec<LabeledBox> = photo
            .faces
            .iter()
            .zip(&mut rows)
            .map(|(face, row)| {
                let (class, probability) = argmax(row);
                let name = classes.get(usize::from(class)).map_or("?", String::as_str);
                let label = format!("{name} {:.0}%", 100.0 * probability);
                LabeledBox { x: face.x, y: face.y, width: face.width, height: face.height, label }
            })
            .collect();
        let mut picture =
            photo.source.decode().with_context(|| format!("{}: cannot be read again", photo.id))?.into_rgb();
        annotate(&mut picture, &boxes)?;
        let mut bytes = Cursor::new(Vec::new());
        if output.path().extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            picture.write_to(&mut bytes, ImageFormat::Png)?;
        } else {
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
        }
        output.write(&bytes.into_inner())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotated_photos_keep_names_that_fit_their_format() {
        let path = |id| annotated_path(Path::new("out"), id);
        assert_eq!(path("a/b.JPG"), Path::new("out/a/b.JPG"));
        assert_eq!(path("b.png"), Path::new("out/b.png"));
        assert_eq!(path("b.webp"), Path::new("out/b.webp.jpg"));
        assert_eq!(path("-"), Path::new("out/stdin.jpg"));
    }
}
