//! The input of a training step: augmented images and their targets.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::epoch_schedule::ScheduledBatch;
use crate::data::device_images::DeviceImages;
use crate::optim::loss::Targets;
use crate::transforms;

/// Augmented images and their targets.
#[derive(Debug)]
pub struct TrainingBatch {
    /// `[B, 1, 48, 48]` in 0..1.
    pub x: Tensor,
    /// Targets of the loss: soft if images are mixed or have soft labels.
    pub targets: Targets,
    /// int64 `[B]`: the class that counts as correct, also with soft labels: the image's label. For
    /// mixed images, that of the larger weight, summed by class.
    pub labels: Tensor,
}

impl TrainingBatch {
    /// Gathers and augments the images of `batch`; targets over `classes` classes. Pixels are in
    /// `kind` on the CPU, and in float32 on a GPU, where a conversion is a launch. `pixels` are those of
    /// the batch, uint8 [B, 1, 48, 48], if they have been read on the host.
    pub fn new(
        images: &DeviceImages,
        pixels: Option<&Tensor>,
        batch: &ScheduledBatch,
        kind: Kind,
        classes: usize,
    ) -> Result<Self> {
        let kind = if images.device().is_cuda() { Kind::Float } else { kind };
        let x = match pixels {
            Some(pixels) => {
                let (staged, rows) = DeviceImages::staged(pixels, images.device())?;
                transforms::apply(&staged, &rows, &batch.params, kind)?
            }
            None => transforms::apply(images, &batch.rows, &batch.params, kind)?,
        };
        let labels = batch.labels.shallow_clone();
        let soft = images.soft_targets(&batch.rows)?;
        let Some(mix) = &batch.mix else {
            let targets = soft.map_or_else(|| Targets::Classes(labels.shallow_clone()), Targets::Soft);
            return Ok(Self { x, targets, labels });
        };
        let hard = Targets::Soft(mix.mix_targets(&images.one_hot(&batch.rows, &labels, classes)?)?);
        let labels = hard.argmax()?;
        let targets = match soft {
            Some(soft) => Targets::Soft(mix.mix_targets(&soft)?),
            None => hard,
        };
        Ok(Self { x: mix.mix_images(x)?, targets, labels })
    }
}

impl TrainingBatch {
    /// The first `count` images.
    pub fn first(self, count: i64) -> Result<Self> {
        let first = |all: &Tensor| all.f_narrow(0, 0, count);
        let targets = match &self.targets {
            Targets::Classes(classes) => Targets::Classes(first(classes)?),
            Targets::Soft(soft) => Targets::Soft(first(soft)?),
        };
        Ok(Self { x: first(&self.x)?, targets, labels: first(&self.labels)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::data::soft_labels::SoftLabels;
    use crate::transforms::{AugmentParams, BatchMix, CutBox, Mix};
    use tch::Device;

    /// Three images of one gray level each, classes 2, 0 and 1.
    fn three(mix: Option<Mix>) -> TrainingBatch {
        three_with(mix, None)
    }

    fn three_with(mix: Option<Mix>, soft: Option<&SoftLabels>) -> TrainingBatch {
        let pixels = [0u8, 51, 102].into_iter().flat_map(|gray| vec![gray; 2304]).collect::<Vec<u8>>();
        let images =
            Images { pixels: pixels.into(), labels: Some(vec![2, 0, 1]), rows: vec![0, 1, 2], ..Images::default() };
        let params = AugmentParams { thetas: None, grid: None, jitter: None, rectangles: None };
        let images = DeviceImages::new(&images, Device::Cpu).unwrap().with_soft_labels(soft, 1.0).unwrap();
        let rows = Tensor::from_slice(&[2i64, 0, 1]);
        let batch =
            ScheduledBatch { labels: images.labels(&rows).unwrap(), rows, params, mix: mix.map(BatchMix::Host) };
        TrainingBatch::new(&images, None, &batch, Kind::Float, 3).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
    }

    #[test]
    fn images_that_are_not_mixed_have_class_targets() {
        let TrainingBatch { x, targets, labels } = three(None);
        let Targets::Classes(classes) = targets else { panic!("{targets:?}") };
        assert_eq!(numbers(&classes), [1.0, 2.0, 0.0]);
        assert!(labels.equal(&classes));
        assert_eq!(x.size(), [3, 1, 48, 48]);
        assert!((x.mean(Kind::Double).double_value(&[]) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn mixed_targets_have_the_weights_of_the_pixels() {
        let cut = CutBox { top: 0, left: 12, height: 48, width: 12 };
        for mix in [Mix::Mixup { lambda: 0.75 }, Mix::Cutmix { cut }] {
            let TrainingBatch { x, targets, labels } = three(Some(mix));
            let Targets::Soft(soft) = &targets else { panic!("{targets:?}") };
            assert_eq!(soft.kind(), Kind::Float);
            // Classes 1, 2, 0, each mixed with the next one.
            let expected = [0.0, 0.75, 0.25, 0.25, 0.0, 0.75, 0.75, 0.25, 0.0];
            assert!(numbers(soft).iter().zip(expected).all(|(s, w)| (s - w).abs() < 1e-6), "{mix:?}: {soft:?}");
            // Gray levels 0.4, 0.0, 0.2: each mean is the same mixture.
            let means = numbers(&x.mean_dim(&[1i64, 2, 3][..], false, Kind::Float));
            let expected = [0.75 * 0.4, 0.25 * 0.2, 0.75 * 0.2 + 0.25 * 0.4];
            assert!(means.iter().zip(expected).all(|(m, w)| (m - w).abs() < 1e-6), "{mix:?}: {means:?}");
            assert_eq!(numbers(&labels), [1.0, 2.0, 0.0], "the image's own class has the larger weight");
        }
    }

    #[test]
    fn labels_are_those_of_the_images_whatever_the_soft_labels_are() {
        // Every vote is for class 0.
        let soft = SoftLabels { weights: [1.0f32, 0.0, 0.0].repeat(3), classes: 3 };
        let labels = |mix| {
            let TrainingBatch { targets, labels, .. } = three_with(mix, Some(&soft));
            assert_eq!(numbers(&targets.argmax().unwrap()), [0.0; 3], "the targets are the votes");
            numbers(&labels)
        };
        assert_eq!(labels(None), [1.0, 2.0, 0.0]);
        assert_eq!(labels(Some(Mix::Mixup { lambda: 0.75 })), [1.0, 2.0, 0.0]);
        assert_eq!(labels(Some(Mix::Mixup { lambda: 0.25 })), [2.0, 0.0, 1.0], "the next image has the larger weight");
    }
}
