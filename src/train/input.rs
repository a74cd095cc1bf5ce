//! What a step trains on: faces as augmented, and what the network should say of them.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::loss::Targets;
use super::plan::Batch;
use crate::augment;
use crate::data::batches::DeviceFaces;

/// The faces of `batch`, augmented: [B, 1, 48, 48] in 0..1, in `kind`; and their targets among `classes` classes: shares where
/// faces are mixed.
///
/// # Errors
/// libtorch's.
pub fn of(faces: &DeviceFaces, batch: &Batch, kind: Kind, classes: usize) -> Result<(Tensor, Targets)> {
    let x = augment::faces(faces, &batch.rows, &batch.draws, kind)?;
    let targets = Targets::Classes(faces.labels(&batch.rows)?);
    match batch.mix {
        Some(mix) => Ok((mix.faces(x)?, Targets::Shares(mix.shares(&targets.shares(classes)?)?))),
        None => Ok((x, targets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{Cut, Draws, Mix};
    use crate::data::faces::Faces;
    use tch::Device;

    /// Three faces of one grey level each, classes 2, 0 and 1.
    fn three(mix: Option<Mix>) -> (Tensor, Targets) {
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
        let (x, targets) = three(None);
        let Targets::Classes(classes) = targets else { panic!("{targets:?}") };
        assert_eq!(numbers(&classes), [1.0, 2.0, 0.0]);
        assert_eq!(x.size(), [3, 1, 48, 48]);
        assert!((x.mean(Kind::Double).double_value(&[]) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn shares_are_those_of_the_pixels() {
        let cut = Cut { top: 0, left: 12, height: 48, width: 12 };
        for mix in [Mix::Mixup { own: 0.75 }, Mix::Cutmix { cut }] {
            let (x, targets) = three(Some(mix));
            let Targets::Shares(shares) = &targets else { panic!("{targets:?}") };
            assert_eq!(shares.kind(), Kind::Float);
            // Classes 1, 2, 0; each with the next one.
            let wanted = [0.0, 0.75, 0.25, 0.25, 0.0, 0.75, 0.75, 0.25, 0.0];
            assert!(numbers(shares).iter().zip(wanted).all(|(s, w)| (s - w).abs() < 1e-6), "{mix:?}: {shares:?}");
            // Greys 0.4, 0.0, 0.2: each face's mean is the same mixture.
            let means = numbers(&x.mean_dim(&[1i64, 2, 3][..], false, Kind::Float));
            let wanted = [0.75 * 0.4, 0.25 * 0.2, 0.75 * 0.2 + 0.25 * 0.4];
            assert!(means.iter().zip(wanted).all(|(m, w)| (m - w).abs() < 1e-6), "{mix:?}: {means:?}");
            assert_eq!(numbers(&targets.greatest().unwrap()), [1.0, 2.0, 0.0], "a hit is the face's own class");
        }
    }
}
