//! What a step trains on: images as augmented, and what the network should say of them.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::epoch_schedule::Batch;
use crate::data::device_images::DeviceImages;
use crate::optim::loss::Targets;
use crate::transforms;

/// The images of a step and what the network should say of them.
#[derive(Debug)]
pub struct Input {
    /// [B, 1, 48, 48] in 0..1.
    pub x: Tensor,
    /// What the loss compares with: soft where images are mixed or have soft labels.
    pub targets: Targets,
    /// int64 `[B]`: the class that counts as right: the image's own, or where images are mixed, that of the greatest weight.
    pub answers: Tensor,
}

/// The images of `batch`, augmented, in `kind`, with their targets among `classes` classes.
///
/// # Errors
/// libtorch's.
pub fn of(images: &DeviceImages, batch: &Batch, kind: Kind, classes: usize) -> Result<Input> {
    let x = transforms::images(images, &batch.rows, &batch.params, kind)?;
    let labels = images.labels(&batch.rows)?;
    let targets = match images.soft_targets(&batch.rows)? {
        Some(soft) => Targets::Soft(soft),
        None => Targets::Classes(labels.shallow_clone()),
    };
    let Some(mix) = batch.mix else { return Ok(Input { x, targets, answers: labels }) };
    let targets = Targets::Soft(mix.soft_targets(&targets.soft_targets(classes)?)?);
    Ok(Input { x: mix.images(x)?, answers: targets.argmax()?, targets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::transforms::{AugmentParams, Cut, Mix};
    use tch::Device;

    /// Three images of one gray level each, classes 2, 0 and 1.
    fn three(mix: Option<Mix>) -> Input {
        let pixels = [0u8, 51, 102].into_iter().flat_map(|gray| vec![gray; 2304]).collect();
        let images = Images { pixels, labels: Some(vec![2, 0, 1]), rows: vec![0, 1, 2], ..Images::default() };
        let params = AugmentParams { thetas: None, jitter: None, rectangles: None };
        let batch = Batch { rows: Tensor::from_slice(&[2i64, 0, 1]), params, mix };
        of(&DeviceImages::new(&images, Device::Cpu).unwrap(), &batch, Kind::Float, 3).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
    }

    #[test]
    fn what_is_not_mixed_has_classes() {
        let Input { x, targets, answers } = three(None);
        let Targets::Classes(classes) = targets else { panic!("{targets:?}") };
        assert_eq!(numbers(&classes), [1.0, 2.0, 0.0]);
        assert!(answers.equal(&classes));
        assert_eq!(x.size(), [3, 1, 48, 48]);
        assert!((x.mean(Kind::Double).double_value(&[]) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn shares_are_those_of_the_pixels() {
        let cut = Cut { top: 0, left: 12, height: 48, width: 12 };
        for mix in [Mix::Mixup { lambda: 0.75 }, Mix::Cutmix { cut }] {
            let Input { x, targets, answers } = three(Some(mix));
            let Targets::Soft(soft) = &targets else { panic!("{targets:?}") };
            assert_eq!(soft.kind(), Kind::Float);
            // Classes 1, 2, 0; each with the next one.
            let wanted = [0.0, 0.75, 0.25, 0.25, 0.0, 0.75, 0.75, 0.25, 0.0];
            assert!(numbers(soft).iter().zip(wanted).all(|(s, w)| (s - w).abs() < 1e-6), "{mix:?}: {soft:?}");
            // Grays 0.4, 0.0, 0.2: each image's mean is the same mixture.
            let means = numbers(&x.mean_dim(&[1i64, 2, 3][..], false, Kind::Float));
            let wanted = [0.75 * 0.4, 0.25 * 0.2, 0.75 * 0.2 + 0.25 * 0.4];
            assert!(means.iter().zip(wanted).all(|(m, w)| (m - w).abs() < 1e-6), "{mix:?}: {means:?}");
            assert_eq!(numbers(&answers), [1.0, 2.0, 0.0], "a hit is the image's own class");
        }
    }
}
