//! Calibration of int8: the ranges of activations on training images, and what quantization costs
//! on validation images.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::Serialize;

use super::graph::Graph;
use super::quantize::{Range, quantized_layers, quantized_values, range_source};
use super::runtime::Runtime;
use crate::data::dataset;
use crate::data::images::{Images, SIDE};
use crate::device::DeviceChoice;
use crate::export::exported_model::ExportedModel;
use crate::inference::trained_run::TrainedNet;
use crate::metrics::paired_bootstrap::paired_bootstrap;
use crate::metrics::{accuracy, accuracy_interval, describe_accuracy};
use crate::transforms::tta::Tta;
use crate::util::error::input;
use crate::util::rng::{Rng, Stream};

/// Training images that the ranges are measured on.
const IMAGES: usize = 512;

/// Images that run at once.
const BATCH: usize = 32;

/// Bins of the histogram of a value.
const BINS: usize = 2048;

/// Candidates for the fraction of the range that is kept.
const STEPS: u32 = 40;

/// Training images that calibrate int8, and validation images that show its cost.
#[derive(Debug)]
pub struct Int8Calibration {
    images: Images,
    /// Validation images of the run.
    pub validation: Images,
    /// Their labels.
    pub validation_labels: Vec<u8>,
    /// Their predictions in float32, as `predict` computes them.
    predicted: Vec<u8>,
    seed: u64,
}

/// What quantization costs, on the validation images of the run.
#[derive(Debug, Clone, Serialize)]
pub struct Quantization {
    /// Training images that the ranges were measured on.
    pub calibration_images: usize,
    /// Validation images.
    pub validation_images: usize,
    /// Accuracy of `predict`.
    pub accuracy_float32: f64,
    /// Accuracy of the quantized graph.
    pub accuracy_int8: f64,
    /// The latter minus the former.
    pub difference: f64,
    /// Lower end of its 95% interval, by a paired bootstrap over the images.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Fraction of the images for which both predict the same class.
    pub agreement: f64,
    /// Size of the file in float32 in bytes.
    #[serde(skip)]
    pub float_size: usize,
    /// Size of the file in bytes.
    #[serde(skip)]
    pub size: usize,
}

impl Int8Calibration {
    /// Reads the data of `run`, or a copy of its `data.train` at `copy`, and predicts the validation
    /// images with `tta`, logits divided by `temperature`.
    ///
    /// # Errors
    /// Input errors: the file is missing, or is not what the run was trained on.
    pub fn from_run(run: &TrainedNet, copy: Option<&Path>, tta: Tta, temperature: f64) -> Result<Self> {
        let mut data = run.config.data.clone();
        if let Some(copy) = copy {
            copy.clone_into(&mut data.train);
        }
        let (dir, train) = (run.dir.path().display(), data.train.display());
        if copy.is_none() && !data.train.exists() {
            return Err(input(format!(
                "{dir}: --int8 is calibrated on the training images, and data.train = {train}: no such file; pass a copy \
                 of it with --calibration-data FILE"
            )));
        }
        let dataset = dataset::load(&data, run.config.seed)?;
        if dataset.data_hash != run.checkpoint.state.data_hash {
            return Err(input(format!(
                "{train}: is not the data that {dir} was trained on (hash mismatch); pass a copy of that with \
                 --calibration-data FILE"
            )));
        }
        let order = Rng::new(&[Stream::Calibration as u64, run.config.seed]).permutation(dataset.train.len());
        let chosen: Vec<usize> = order.into_iter().take(IMAGES).filter_map(|row| usize::try_from(row).ok()).collect();
        let predicted = run.predict(&dataset.validation, DeviceChoice::Cpu, tta)?.mean(temperature)?.predicted();
        Ok(Self {
            images: Images::select(&dataset.train, &chosen),
            validation_labels: dataset.validation_labels().to_vec(),
            validation: dataset.validation,
            predicted,
            seed: run.config.seed,
        })
    }

    /// Measures the ranges of the values of `graph` that are to be quantized.
    ///
    /// # Errors
    /// A network without a layer to quantize; those of the runtime.
    pub fn ranges(&self, graph: &Graph, model: &ExportedModel) -> Result<HashMap<String, Range>> {
        let values = quantized_values(graph);
        if quantized_layers(graph) == 0 {
            return Err(input("--int8: every layer of this network is too small to gain from int8; export it without"));
        }
        let sources: HashSet<&str> = values.iter().map(|value| range_source(graph, &values, value)).collect();
        let mut sources: Vec<&str> = sources.into_iter().collect();
        sources.sort_unstable();
        let runtime = Runtime::without_optimization(graph.encode(SIDE as i64, model.classes() as i64, &[]))?;
        let mut limits = vec![(0.0f32, 0.0f32); sources.len()];
        self.visit(&runtime, &sources, |number, values| {
            if let Some((min, max)) = limits.get_mut(number) {
                *min = values.iter().fold(*min, |min, value| min.min(*value));
                *max = values.iter().fold(*max, |max, value| max.max(*value));
            }
        })?;
        let mut histograms: Vec<Histogram> = limits.into_iter().map(Histogram::new).collect();
        self.visit(&runtime, &sources, |number, values| {
            if let Some(histogram) = histograms.get_mut(number) {
                values.iter().for_each(|value| histogram.add(*value));
            }
        })?;
        let ranges: Vec<Range> = histograms.par_iter().map(Histogram::best_range).collect();
        let by_source: HashMap<&str, Range> = sources.into_iter().zip(ranges).collect();
        let range = |value: &String| {
            let range = by_source.get(range_source(graph, &values, value)).copied();
            Ok((value.clone(), range.with_context(|| format!("{value} has no range"))?))
        };
        values.iter().map(range).collect()
    }

    /// Passes the values of these names, by number, to `visit` in batches.
    fn visit(&self, runtime: &Runtime, names: &[&str], mut visit: impl FnMut(usize, &[f32])) -> Result<()> {
        for batch in self.images.pixels.blocks(BATCH) {
            let values = runtime.values(batch?.iter().map(|pixel| f32::from(*pixel)).collect(), names)?;
            values.iter().enumerate().for_each(|(number, values)| visit(number, values));
        }
        Ok(())
    }

    /// Compares the classes that the quantized graph `predicted` for the validation images with
    /// those of `predict`.
    ///
    /// # Errors
    /// If there are no validation images.
    pub fn compare(&self, predicted: &[u8], float_size: usize) -> Result<Quantization> {
        let labels = &self.validation_labels;
        let correct = |predicted: &[u8]| predicted.iter().zip(labels).map(|(a, b)| a == b).collect::<Vec<bool>>();
        let found = paired_bootstrap(&correct(predicted), &correct(&self.predicted), self.seed)
            .context("there are no validation images")?;
        let equal = predicted.iter().zip(&self.predicted).filter(|(a, b)| a == b).count();
        Ok(Quantization {
            calibration_images: self.images.len(),
            validation_images: labels.len(),
            accuracy_float32: accuracy(labels, &self.predicted),
            accuracy_int8: accuracy(labels, predicted),
            difference: found.difference,
            low: found.low,
            high: found.high,
            agreement: equal as f64 / labels.len() as f64,
            float_size,
            size: 0,
        })
    }
}

impl Quantization {
    /// Describes the cost in a few lines.
    pub fn describe(&self) -> String {
        let points = |value: f64| format!("{:+.2}", 100.0 * value);
        let described =
            |accuracy: f64| describe_accuracy(accuracy, accuracy_interval(accuracy, self.validation_images));
        format!(
            "int8: calibrated on {} training images; {} KB, {:.0}% of {} KB in float32\n\
             validation accuracy {} -> {} on {} images: {} points, 95% CI {} to {}; {:.1}% have the same class",
            self.calibration_images,
            self.size.div_ceil(1024),
            100.0 * self.size as f64 / self.float_size as f64,
            self.float_size.div_ceil(1024),
            described(self.accuracy_float32),
            described(self.accuracy_int8),
            self.validation_images,
            points(self.difference),
            points(self.low),
            points(self.high),
            100.0 * self.agreement,
        )
    }
}

/// How often a value falls into each bin between two limits.
struct Histogram {
    min: f32,
    max: f32,
    counts: Vec<u64>,
}

impl Histogram {
    fn new((min, max): (f32, f32)) -> Self {
        Self { min, max, counts: vec![0; BINS] }
    }

    fn add(&mut self, value: f32) {
        let position = (value - self.min) / (self.max - self.min) * BINS as f32;
        // Out of range and NaN, if the limits are equal, go to the first or last bin.
        if let Some(count) = self.counts.get_mut((position as usize).min(BINS - 1)) {
            *count += 1;
        }
    }

    /// The range with the smallest mean squared error of its uint8 values: both limits times a
    /// fraction, of which small ones clip more and round less.
    fn best_range(&self) -> Range {
        let mut best = (f64::INFINITY, Range::new(self.min, self.max));
        for step in (1..=STEPS).rev() {
            let fraction = step as f32 / STEPS as f32;
            let range = Range::new(self.min * fraction, self.max * fraction);
            let error = self.squared_error(range);
            if error < best.0 {
                best = (error, range);
            }
        }
        best.1
    }

    fn squared_error(&self, range: Range) -> f64 {
        let width = f64::from(self.max - self.min) / BINS as f64;
        let (scale, zero_point) = (f64::from(range.scale), f64::from(range.zero_point));
        let error = |(count, bin): (&u64, u32)| {
            let value = f64::from(self.min) + (f64::from(bin) + 0.5) * width;
            let step = (value / scale + zero_point).round().clamp(0.0, 255.0);
            let difference = (step - zero_point) * scale - value;
            *count as f64 * difference * difference
        };
        self.counts.iter().zip(0u32..).map(error).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_clips_outliers_only() {
        let fill = |limits, values: &[(f32, u32)]| {
            let mut histogram = Histogram::new(limits);
            for (value, count) in values {
                (0..*count).for_each(|_| histogram.add(*value));
            }
            histogram.best_range()
        };
        let spread: Vec<(f32, u32)> = (0..100).map(|n| (n as f32 / 100.0, 10_000)).collect();
        let range = fill((0.0, 1.0), &spread);
        assert!((range.scale - 1.0 / 255.0).abs() < 2e-4 && range.zero_point == 0, "{range:?}");
        let clipped = fill((0.0, 10.0), &[&spread[..], &[(10.0, 1)]].concat());
        assert!(clipped.scale < 5.0 / 255.0, "one value of a million is clipped: {clipped:?}");
        let signed = fill((-1.0, 1.0), &[(-1.0, 500), (-0.5, 500), (0.5, 500), (1.0, 500)]);
        assert!((127..=128).contains(&signed.zero_point) && (signed.scale - 2.0 / 255.0).abs() < 4e-4, "{signed:?}");
        assert_eq!(fill((0.0, 0.0), &[(0.0, 9)]), Range { scale: 1.0, zero_point: 0 });
    }
}
