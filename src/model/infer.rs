//! Running a network over many faces.

use anyhow::{Context as _, Result};
use tch::{Device, Kind, Tensor};

use super::{Mode, Net};
use crate::data::batches::{DeviceFaces, to_unit};

/// Faces in a batch of inference: large enough to keep a GPU busy; on a CPU what fits its caches is faster.
fn batch(device: Device) -> i64 {
    if device == Device::Cpu { CPU_BATCH as i64 } else { 2048 }
}

/// The batch on a CPU.
pub const CPU_BATCH: u64 = 128;

/// Logits of all faces, float32 [N, classes] on the device; `None` when `stops` said so between two batches.
///
/// Always in float32, whatever precision training uses: what is reported is what the saved and exported weights give.
fn logits(net: &Net, faces: &DeviceFaces, stops: impl Fn() -> bool) -> Result<Option<Tensor>> {
    let size = batch(faces.device());
    let mut parts = Vec::new();
    for start in (0..faces.len()).step_by(usize::try_from(size)?) {
        if stops() {
            return Ok(None);
        }
        let pixels = to_unit(&faces.slice(start, size)?)?;
        parts.push(tch::no_grad(|| net.forward(&pixels, Mode::Inference))?);
    }
    Ok(Some(Tensor::f_cat(&parts, 0)?))
}

/// Logits and probabilities of all faces, read back: each float32 [N, classes], row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// Before the softmax.
    pub logits: Vec<f32>,
    /// After it.
    pub probabilities: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

impl Outputs {
    /// Runs `net` over `faces`.
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
        let Some(logits) = logits(net, faces, stops)? else { return Ok(None) };
        let probabilities = logits.f_softmax(-1, Kind::Float)?;
        let read = |tensor: &Tensor| -> Result<Vec<f32>> {
            Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?)
        };
        Ok(Some(Self { logits: read(&logits)?, probabilities: read(&probabilities)?, classes: net.classes() }))
    }

    /// The class of the greatest logit of each face; the lowest of equals.
    pub fn predicted(&self) -> Vec<u8> {
        self.logits.chunks(self.classes.max(1)).map(|row| greatest(row).0).collect()
    }
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
