//! What is compared of images and predictions: one number for each image.

use anyhow::Result;
use rayon::prelude::*;

use crate::data::images::{Images, PIXELS, SIDE};
use crate::metrics::Predictions;
use crate::metrics::predictions::argmax;

/// Images whose pixels are in memory at once, if they are in a file.
const BLOCK: usize = 4096;

/// The numbers of N images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signals {
    /// `[N]` mean pixel, 0 to 255.
    pub brightness: Vec<f64>,
    /// `[N]` standard deviation of the pixels.
    pub contrast: Vec<f64>,
    /// `[N]` standard deviation of the Laplacian of the pixels, divided by the contrast: falls with
    /// blur, but not with contrast; 0 for a blank image.
    pub sharpness: Vec<f64>,
    /// `[N]` probability of the predicted class.
    pub confidence: Vec<f64>,
    /// `[N]` predicted class.
    pub predicted: Vec<u8>,
}

impl Signals {
    /// Computes the numbers of `images` and of their `predictions`.
    ///
    /// # Errors
    /// Those of images in a file.
    pub fn new(images: &Images, predictions: &Predictions) -> Result<Self> {
        let mut pixels: Vec<[f64; 3]> = Vec::with_capacity(images.len());
        for block in images.pixels.blocks(BLOCK) {
            pixels.par_extend(block?.par_chunks_exact(PIXELS).map(of_pixels));
        }
        let column = |index: usize| pixels.iter().filter_map(|values| values.get(index).copied()).collect();
        let rows = predictions.probabilities.chunks(predictions.classes.max(1));
        let (predicted, confidence) = rows.map(argmax).map(|(class, value)| (class, f64::from(value))).unzip();
        Ok(Self { brightness: column(0), contrast: column(1), sharpness: column(2), confidence, predicted })
    }

    /// The numbers of the images at `positions`.
    pub fn select(&self, positions: &[usize]) -> Self {
        let pick = |values: &[f64]| positions.iter().filter_map(|position| values.get(*position).copied()).collect();
        Self {
            brightness: pick(&self.brightness),
            contrast: pick(&self.contrast),
            sharpness: pick(&self.sharpness),
            confidence: pick(&self.confidence),
            predicted: positions.iter().filter_map(|position| self.predicted.get(*position).copied()).collect(),
        }
    }

    /// Images of each of `classes` predicted classes.
    pub fn class_counts(&self, classes: usize) -> Vec<u64> {
        let mut counts = vec![0; classes];
        for class in &self.predicted {
            if let Some(count) = counts.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
        counts
    }

    /// Name, unit and values of each continuous number.
    pub fn continuous(&self) -> [(&'static str, &[f64]); 4] {
        [
            ("brightness", &self.brightness),
            ("contrast", &self.contrast),
            ("sharpness", &self.sharpness),
            ("confidence", &self.confidence),
        ]
    }
}

/// Brightness, contrast and sharpness of one image, uint8 [48, 48].
fn of_pixels(image: &[u8]) -> [f64; 3] {
    let (brightness, contrast) = moments(image.iter().map(|pixel| f64::from(*pixel)));
    let pixel = |x: usize, y: usize| image.get(y * SIDE + x).map_or(0.0, |pixel| f64::from(*pixel));
    let inner = (1..SIDE - 1).flat_map(|y| (1..SIDE - 1).map(move |x| (x, y)));
    let laplacian =
        inner.map(|(x, y)| pixel(x - 1, y) + pixel(x + 1, y) + pixel(x, y - 1) + pixel(x, y + 1) - 4.0 * pixel(x, y));
    let (_, edges) = moments(laplacian);
    [brightness, contrast, if contrast > 0.0 { edges / contrast } else { 0.0 }]
}

/// Mean and standard deviation.
fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (count, sum, squares) = values
        .fold((0.0f64, 0.0, 0.0), |(count, sum, squares), value| (count + 1.0, sum + value, squares + value * value));
    let mean = sum / count.max(1.0);
    (mean, (squares / count.max(1.0) - mean * mean).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_image;

    #[test]
    fn a_darker_or_blurred_image_has_other_numbers() {
        let image = golden_image(1);
        let [brightness, contrast, sharpness] = of_pixels(&image);
        assert!((0.0..255.0).contains(&brightness) && contrast > 1.0 && sharpness > 0.0);
        let dark: Vec<u8> = image.iter().map(|pixel| pixel / 2).collect();
        let [darker, flatter, same] = of_pixels(&dark);
        assert!((darker / brightness - 0.5).abs() < 0.02 && (flatter / contrast - 0.5).abs() < 0.02);
        assert!((same / sharpness - 1.0).abs() < 0.1, "{same} {sharpness}");
        let blurred: Vec<u8> = (0..PIXELS)
            .map(|at| {
                let (x, y) = (at % SIDE, at / SIDE);
                let near = |value: usize| value.saturating_sub(1)..(value + 2).min(SIDE);
                let around: Vec<u32> = near(y)
                    .flat_map(|y| near(x).map(move |x| (x, y)))
                    .map(|(x, y)| u32::from(image[y * SIDE + x]))
                    .collect();
                (around.iter().sum::<u32>() / around.len() as u32) as u8
            })
            .collect();
        assert!(of_pixels(&blurred)[2] < 0.7 * sharpness);
        assert_eq!(of_pixels(&[7; PIXELS]), [7.0, 0.0, 0.0]);
    }

    #[test]
    fn predictions_give_confidence_and_class() {
        let images = Images { pixels: vec![9; 2 * PIXELS].into(), rows: vec![0, 1], ..Images::default() };
        let predictions = Predictions { logits: vec![0.0; 4], probabilities: vec![0.25, 0.75, 0.5, 0.5], classes: 2 };
        let found = Signals::new(&images, &predictions).unwrap();
        assert_eq!((found.confidence.clone(), found.predicted.clone()), (vec![0.75, 0.5], vec![1, 0]));
        assert_eq!(found.class_counts(2), [1, 1]);
        assert_eq!(found.select(&[0]).predicted, [1]);
    }
}
