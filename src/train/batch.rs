//! What a step trains on: faces as augmented, and what the network should say of them.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::epoch_schedule::Batch;
use crate::data::device_images::DeviceFaces;
use crate::optim::loss::Targets;
use crate::transforms;

/// The faces of a step and what the network should say of them.
#[derive(Debug)]
pub struct Input {
    /// [B, 1, 48, 48] in 0..1.
    pub x: Tensor,
    /// What the loss compares with: shares where faces are mixed or have soft labels.
    pub targets: Targets,
    /// int64 `[B]`: the class that counts as right: the face's own, or where faces are mixed, that of the greatest share.
    pub answers: Tensor,
}

/// The faces of `batch`, augmented, in `kind`, with their targets among `classes` classes.
///
/// # Errors
/// libtorch's.
pub fn of(faces: &DeviceFaces, batch: &Batch, kind: Kind, classes: usize) -> Result<Input> {
    let x = transforms::faces(faces, &batch.rows, &batch.draws, kind)?;
    let labels = faces.labels(&batch.rows)?;
    let targets = match faces.shares(&batch.rows)? {
        Some(shares) => Targets::Shares(shares),
        None => Targets::Classes(labels.shallow_clone()),
    };
    let Some(mix) = batch.mix else { return Ok(Input { x, targets, answers: labels }) };
    let targets = Targets::Shares(mix.shares(&targets.shares(classes)?)?);
    Ok(Input { x: mix.faces(x)?, answers: targets.greatest()?, targets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Faces;
    use crate::transforms::{Cut, Draws, Mix};
    use tch::Device;

    /// Three faces of one grey level each, classes 2, 0 and 1.
    fn three(mix: Option<Mix>) -> Input {
        let pixels = [0u8, 51, 102].into_iter().flat_map(|grey| vec![grey; 2304]).collect();
        let faces = Faces { pixels, labels: Some(vec![2, 0, 1]), rows: vec![0, 1, 2], ..Faces::default() };
        let draws = Draws { thetas: None, lights: None, patches: None };
        let batch = Batch { rows: Tensor::from_slice(&[2i64, 0, 1]), draws, mix };
        of(&DeviceFaces::new(&faces, Device::Cpu).unwrap(), &batch, Kind::Float, 3).unwrap()
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
        for mix in [Mix::Mixup { own: 0.75 }, Mix::Cutmix { cut }] {
            let Input { x, targets, answers } = three(Some(mix));
            let Targets::Shares(shares) = &targets else { panic!("{targets:?}") };
            assert_eq!(shares.kind(), Kind::Float);
            // Classes 1, 2, 0; each with the next one.
            let wanted = [0.0, 0.75, 0.25, 0.25, 0.0, 0.75, 0.75, 0.25, 0.0];
            assert!(numbers(shares).iter().zip(wanted).all(|(s, w)| (s - w).abs() < 1e-6), "{mix:?}: {shares:?}");
            // Greys 0.4, 0.0, 0.2: each face's mean is the same mixture.
            let means = numbers(&x.mean_dim(&[1i64, 2, 3][..], false, Kind::Float));
            let wanted = [0.75 * 0.4, 0.25 * 0.2, 0.75 * 0.2 + 0.25 * 0.4];
            assert!(means.iter().zip(wanted).all(|(m, w)| (m - w).abs() < 1e-6), "{mix:?}: {means:?}");
            assert_eq!(numbers(&answers), [1.0, 2.0, 0.0], "a hit is the face's own class");
        }
    }
}
