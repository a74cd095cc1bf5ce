//! Running a network over many faces.

use anyhow::{Context as _, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::views::View;
use super::{Mode, Net};
use crate::config::Views;
use crate::data::batches::{DeviceFaces, to_unit};

/// Faces in a batch of inference: large enough to keep a GPU busy; on a CPU what fits its caches is faster.
fn batch(device: Device) -> i64 {
    if device == Device::Cpu { CPU_BATCH as i64 } else { 2048 }
}

/// The batch on a CPU.
pub const CPU_BATCH: u64 = 128;

/// Logits of all faces as `view` shows them, float32 [N, classes] on the device; `None` when `stops` said so between two batches.
///
/// Always in float32, whatever precision training uses: what is reported is what the saved and exported weights give.
fn logits(net: &Net, faces: &DeviceFaces, view: View, stops: impl Fn() -> bool) -> Result<Option<Tensor>> {
    let size = batch(faces.device());
    let mut parts = Vec::new();
    for start in (0..faces.len()).step_by(usize::try_from(size)?) {
        if stops() {
            return Ok(None);
        }
        let pixels = view.of(&to_unit(&faces.slice(start, size)?)?)?;
        parts.push(tch::no_grad(|| net.forward(&pixels, Mode::Inference))?);
    }
    Ok(Some(Tensor::f_cat(&parts, 0)?))
}

/// Logits and probabilities of all faces, read back: each float32 [N, classes], row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// Before the softmax; of an average, the logarithm of its probabilities, whose softmax they are as well.
    pub logits: Vec<f32>,
    /// After it; of an average, the mean of the probabilities.
    pub probabilities: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

impl Outputs {
    /// Runs `net` over `faces` as they are.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(net: &Net, faces: &DeviceFaces) -> Result<Self> {
        Self::unless(net, faces, || false)?.context("running the network was stopped")
    }

    /// As [`of`](Self::of), asking `stops` between batches; `None` when it said yes.
    ///
    /// # Errors
    /// libtorch's.
    pub fn unless(net: &Net, faces: &DeviceFaces, stops: impl Fn() -> bool) -> Result<Option<Self>> {
        Self::through(net, faces, View::WHOLE, stops)
    }

    /// As [`of`](Self::of), averaged over `views` of each face, see [`average`](Self::average).
    ///
    /// # Errors
    /// libtorch's.
    pub fn over(net: &Net, faces: &DeviceFaces, views: Views) -> Result<Self> {
        let through = |view| Self::through(net, faces, view, || false)?.context("running the network was stopped");
        Self::average(&View::all(views).into_iter().map(through).collect::<Result<Vec<_>>>()?)
    }

    fn through(net: &Net, faces: &DeviceFaces, view: View, stops: impl Fn() -> bool) -> Result<Option<Self>> {
        let Some(logits) = logits(net, faces, view, stops)? else { return Ok(None) };
        let probabilities = logits.f_softmax(-1, Kind::Float)?;
        let read = |tensor: &Tensor| -> Result<Vec<f32>> {
            Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?)
        };
        Ok(Some(Self { logits: read(&logits)?, probabilities: read(&probabilities)?, classes: net.classes() }))
    }

    /// The mean of the probabilities of `parts`, all of the same faces and classes; one part comes back as it is.
    ///
    /// Probabilities and not logits: the softmax forgets a constant in a row of logits, and their scale differs from network
    /// to network, so a mean of them weighs those more that exaggerate. The mean of the probabilities is a distribution
    /// itself, whose cross entropy is never above the mean of the parts' (Jensen's inequality); it is how deep ensembles are
    /// combined (Lakshminarayanan, Pritzel, Blundell 2017). Its logits are its logarithm, taken as log-sum-exp in double
    /// precision, so that a probability too small for float32 does not make the loss infinite.
    ///
    /// # Errors
    /// When there are no parts, or they differ in faces or classes.
    pub fn average(parts: &[Self]) -> Result<Self> {
        let (first, others) = parts.split_first().context("an average needs at least one part")?;
        if others.is_empty() {
            return Ok(first.clone());
        }
        let fits = |part: &Self| part.classes == first.classes && part.logits.len() == first.logits.len();
        ensure!(others.iter().all(fits), "an average needs parts of the same faces and classes");
        let mut sums = vec![f64::NEG_INFINITY; first.logits.len()];
        for part in parts {
            let width = part.classes.max(1);
            for (sums, logits) in sums.chunks_mut(width).zip(part.logits.chunks(width)) {
                let total = logits.iter().fold(f64::NEG_INFINITY, |total, logit| log_add(total, f64::from(*logit)));
                sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum = log_add(*sum, f64::from(*logit) - total));
            }
        }
        let count = (parts.len() as f64).ln();
        Ok(Self {
            logits: sums.iter().map(|sum| (sum - count) as f32).collect(),
            probabilities: sums.iter().map(|sum| (sum - count).exp() as f32).collect(),
            classes: first.classes,
        })
    }

    /// The class of the greatest logit of each face; the lowest of equals.
    pub fn predicted(&self) -> Vec<u8> {
        self.logits.chunks(self.classes.max(1)).map(|row| greatest(row).0).collect()
    }
}

/// ln(exp(a) + exp(b)), whatever their size; minus infinity stands for ln 0.
fn log_add(a: f64, b: f64) -> f64 {
    let (less, greater) = if a < b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY { greater } else { greater + (less - greater).exp().ln_1p() }
}

/// The class with the greatest value of a row, the lowest of equals, and that value. Configs allow at most 100 classes.
pub fn greatest(row: &[f32]) -> (u8, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, value) in (0u8..).zip(row) {
        if *value > best.1 {
            best = (class, *value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::faces::Faces;
    use crate::metrics::cross_entropy;
    use crate::testing::{golden_face, networks};

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / sum).collect()
    }

    fn outputs(logits: &[f32]) -> Outputs {
        let rows = logits.chunks(3);
        let probabilities =
            rows.flat_map(|row| softmax(&row.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>()));
        Outputs { logits: logits.to_vec(), probabilities: probabilities.map(|p| p as f32).collect(), classes: 3 }
    }

    #[test]
    fn the_average_is_the_mean_of_probabilities() {
        let parts = [outputs(&[1.0, 2.0, 3.0, 50.0, 51.0, 49.0]), outputs(&[0.5, -1.0, 0.0, 2.0, 0.0, 2.0])];
        let mean = Outputs::average(&parts).unwrap();
        for place in 0..6 {
            let wanted = (parts[0].probabilities[place] + parts[1].probabilities[place]) / 2.0;
            assert!((mean.probabilities[place] - wanted).abs() < 1e-6, "{place}");
            assert!((mean.logits[place] - wanted.ln()).abs() < 1e-5, "{place}");
        }
        assert_eq!(Outputs::average(&parts[..1]).unwrap(), parts[0], "one part stays, bit for bit");
        assert!(Outputs::average(&[]).is_err() && Outputs::average(&[outputs(&[0.0; 3]), outputs(&[0.0; 6])]).is_err());
    }

    #[test]
    fn a_probability_below_float32_leaves_the_loss_finite() {
        // Softmax gives exp(-300) here, which is 0 as a float32.
        let parts = [outputs(&[300.0, 0.0, 0.0]), outputs(&[300.0, 0.0, 0.0])];
        let mean = Outputs::average(&parts).unwrap();
        assert_eq!(mean.probabilities[1], 0.0);
        assert!((cross_entropy(&mean.logits, 3, &[1]) - 300.0).abs() < 1e-4);
        let sure = outputs(&[0.0, f32::NEG_INFINITY, 0.0]);
        let mean = Outputs::average(&[sure.clone(), sure]).unwrap();
        assert_eq!(mean.probabilities, [0.5, 0.0, 0.5], "a class that nobody thinks possible is no NaN");
    }

    #[test]
    fn a_mirrored_face_has_the_same_average() {
        let net = Net::new(&networks().swap_remove(0), 5, 3, Device::Cpu).unwrap();
        let pixels = [golden_face(1), golden_face(2)].concat();
        let mirrored: Vec<u8> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        let run = |pixels: &[u8], views| {
            let faces = Faces { pixels: pixels.to_vec(), rows: vec![0, 1], ..Faces::default() };
            Outputs::over(&net, &DeviceFaces::new(&faces, Device::Cpu).unwrap(), views).unwrap().probabilities
        };
        let difference = |views| {
            let pairs = run(&pixels, views).into_iter().zip(run(&mirrored, views));
            pairs.map(|(own, other)| (own - other).abs()).fold(0.0, f32::max)
        };
        assert!(difference(Views::One) > 1e-4, "the network tells the two apart: {}", difference(Views::One));
        assert!(difference(Views::Flip) < 1e-6 && difference(Views::TenCrops) < 1e-6);
        let mean = |number: usize| (run(&pixels, Views::One)[number] + run(&mirrored, Views::One)[number]) / 2.0;
        assert!(run(&pixels, Views::Flip).iter().enumerate().all(|(number, got)| (got - mean(number)).abs() < 1e-6));
    }
}
