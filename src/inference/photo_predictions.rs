//! The CSV of faces in photos.

use anyhow::{Context, Result};

use crate::data::photos::Photos;
use crate::metrics::Predictions;
use crate::metrics::predictions::argmax;

/// Columns before the probabilities.
const COLUMNS: [&str; 10] = ["id", "face", "x", "y", "width", "height", "score", "emotion", "class", "probability"];

/// A CSV with one row per face: the photo's id, the number of the face from 1, its box in pixels of
/// the photo, the detector's score, the predicted class by number and name, and its probability,
/// followed by one probability column per class if `probabilities`. A photo without a face has one
/// row, in which all but the id is empty.
///
/// # Errors
/// None in practice: the CSV is written to memory.
pub fn to_csv(photos: &Photos, predictions: &Predictions, classes: &[String], probabilities: bool) -> Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = if probabilities { classes } else { &[] };
    writer.write_record(COLUMNS.into_iter().chain(names.iter().map(String::as_str)))?;
    let mut rows = predictions.probabilities.chunks(predictions.classes.max(1));
    for photo in &photos.photos {
        if photo.faces.is_empty() {
            let empty = std::iter::repeat_n("", COLUMNS.len() - 1 + names.len());
            writer.write_record(std::iter::once(photo.id.as_str()).chain(empty))?;
        }
        for (number, face) in photo.faces.iter().enumerate() {
            let row = rows.next().context("a face has no prediction")?;
            let (class, probability) = argmax(row);
            let name = classes.get(usize::from(class)).map_or("", String::as_str);
            let pixels = [face.x, face.y, face.width, face.height].map(|value| format!("{:.0}", value));
            let first = [photo.id.clone(), (number + 1).to_string()];
            let last = [format!("{:.4}", face.score), class.to_string(), name.to_owned(), probability.to_string()];
            let all = row.iter().take(names.len()).map(ToString::to_string);
            writer.write_record(first.into_iter().chain(pixels).chain(last).chain(all))?;
        }
    }
    writer.into_inner().context("cannot build the CSV in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bad_rows::BadRows;
    use crate::data::images::Images;
    use crate::data::photos::{Photo, PhotoSource};

    #[test]
    fn every_face_and_every_photo_without_one_has_a_row() {
        let face = |x: f32| face_detect::Face { x, y: -2.4, width: 30.0, height: 40.6, score: 0.75 };
        let photo = |id: &str, faces: Vec<face_detect::Face>| Photo {
            id: id.into(),
            source: PhotoSource::Bytes(Vec::new()),
            faces,
        };
        let photos = Photos {
            photos: vec![photo("a.jpg", vec![face(1.0), face(99.6)]), photo("b, c.jpg", vec![])],
            crops: Images::default(),
            skipped: BadRows::default(),
            ignored_note: None,
        };
        let predictions = Predictions { logits: vec![0.0; 4], probabilities: vec![0.25, 0.75, 0.5, 0.5], classes: 2 };
        let classes = ["sad".to_owned(), "happy".to_owned()];
        let text = |all| String::from_utf8(to_csv(&photos, &predictions, &classes, all).unwrap()).unwrap();
        let expected = "id,face,x,y,width,height,score,emotion,class,probability\n\
                        a.jpg,1,1,-2,30,41,0.7500,1,happy,0.75\n\
                        a.jpg,2,100,-2,30,41,0.7500,0,sad,0.5\n\
                        \"b, c.jpg\",,,,,,,,,\n";
        assert_eq!(text(false), expected);
        assert!(text(true).lines().nth(1).unwrap().ends_with(",happy,0.75,0.25,0.75"), "{}", text(true));
        assert_eq!(text(true).lines().nth(3).unwrap(), "\"b, c.jpg\",,,,,,,,,,,");
    }
}
