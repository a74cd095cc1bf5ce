//! Images in which the detector finds no face.

use std::path::PathBuf;

use anyhow::Result;
use face_detect::{Detector, Options, Picture};
use rayon::prelude::*;

use super::{Finding, Problem};
use crate::data::images::{Images, PIXELS, SIDE};

/// Score of the detector below which an image has no face: that of `predict --faces detect`.
pub const MIN_FACE_SCORE: f32 = 0.32;

/// Pixels of mean gray around an image. The detector expects some of the surroundings of a face, and
/// these images have next to none.
///
/// Chosen, with [`MIN_SIDE`], on 300 images of FER2013 and 480 parts of photos and textures without a
/// face: of the former 1.3% have a score below 0.32, of the latter 97.7%. Without a margin it is 1.3%
/// and 94.8%, with repeated edge pixels 17.4% and 99.2%.
const MARGIN: usize = 16;
const FRAMED: usize = SIDE + 2 * MARGIN;

/// Smallest face to look for, in pixels: the network sees the framed image at 128x128.
const MIN_SIDE: f32 = 20.0;

/// Lowest score to tell apart; an image without any such face scores 0.
const LOWEST: f32 = 0.01;

/// The images whose best face scores less than [`MIN_FACE_SCORE`]; their score is that of the face.
/// Images of a single gray value are left out.
///
/// # Errors
/// An image in a packed file that cannot be read.
pub fn without_face(files: &[(PathBuf, Images)], detector: &Detector) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (file, (_, images)) in files.iter().enumerate() {
        let check = |position: usize| -> Result<Option<Finding>> {
            let pixels = images.image(position)?;
            if pixels.iter().all(|pixel| Some(pixel) == pixels.first()) {
                return Ok(None);
            }
            let score = face_score(&pixels, detector)?;
            let finding = Finding {
                place: (file, position),
                problem: Problem::NoFace,
                group: None,
                suggested: None,
                score: f64::from(score),
                exclude: false,
            };
            Ok((score < MIN_FACE_SCORE).then_some(finding))
        };
        let found: Vec<Option<Finding>> = (0..images.len()).into_par_iter().map(check).collect::<Result<_>>()?;
        findings.extend(found.into_iter().flatten());
    }
    Ok(findings)
}

/// Score of the surest face of an image (uint8 [48, 48]), 0 to 1.
fn face_score(pixels: &[u8], detector: &Detector) -> Result<f32> {
    let framed = framed(pixels);
    let picture = Picture::gray(&framed, FRAMED, FRAMED)?;
    let faces = detector.detect(picture, &Options { min_face: MIN_SIDE, threshold: LOWEST })?;
    Ok(faces.first().map_or(0.0, |face| face.score))
}

/// The image in the middle of its mean gray: uint8 [80, 80].
fn framed(pixels: &[u8]) -> Vec<u8> {
    let sum: usize = pixels.iter().map(|pixel| usize::from(*pixel)).sum();
    let mean = u8::try_from(sum / PIXELS).unwrap_or(u8::MAX);
    let mut framed = vec![mean; FRAMED * FRAMED];
    let rows = framed.chunks_exact_mut(FRAMED).skip(MARGIN);
    for (target, row) in rows.zip(pixels.chunks_exact(SIDE)) {
        if let Some(middle) = target.get_mut(MARGIN..MARGIN + SIDE) {
            middle.copy_from_slice(row);
        }
    }
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_framed_by_its_mean() {
        let pixels: Vec<u8> = (0..PIXELS).map(|i| if i % 2 == 0 { 10 } else { 20 }).collect();
        let framed = framed(&pixels);
        assert_eq!((framed.len(), framed[0], framed[FRAMED * FRAMED - 1]), (6400, 15, 15));
        let first = MARGIN * FRAMED + MARGIN;
        assert_eq!(framed[first - 1..=first + 1], [15, 10, 20]);
        assert_eq!(framed[first..first + SIDE], pixels[..SIDE]);
        let last = (MARGIN + SIDE - 1) * FRAMED + MARGIN + SIDE - 1;
        assert_eq!(framed[last..=last + 1], [20, 15]);
    }
}
