//! Running a network over many images.

use anyhow::{Context as _, Result};
use tch::{Device, Kind, Tensor};

use crate::data::device_images::{DeviceFaces, to_unit};
use crate::metrics::predictions::Outputs;
use crate::model::{Mode, Net};
use crate::transforms::tta::{View, Views};

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

/// Runs `net` over `faces` as they are.
///
/// # Errors
/// libtorch's.
pub fn predict(net: &Net, faces: &DeviceFaces) -> Result<Outputs> {
    predict_interruptible(net, faces, || false)?.context("running the network was stopped")
}

/// As [`predict`], asking `stops` between batches; `None` when it said yes.
///
/// # Errors
/// libtorch's.
pub fn predict_interruptible(net: &Net, faces: &DeviceFaces, stops: impl Fn() -> bool) -> Result<Option<Outputs>> {
    run(net, faces, View::WHOLE, stops)
}

/// As [`predict`], averaged over `views` of each face, see [`average`](Outputs::average).
///
/// # Errors
/// libtorch's.
pub fn predict_with_tta(net: &Net, faces: &DeviceFaces, views: Views) -> Result<Outputs> {
    let through = |view| run(net, faces, view, || false)?.context("running the network was stopped");
    Outputs::average(&View::all(views).into_iter().map(through).collect::<Result<Vec<_>>>()?)
}

fn run(net: &Net, faces: &DeviceFaces, view: View, stops: impl Fn() -> bool) -> Result<Option<Outputs>> {
    let Some(logits) = logits(net, faces, view, stops)? else { return Ok(None) };
    let probabilities = logits.f_softmax(-1, Kind::Float)?;
    let read = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?)
    };
    Ok(Some(Outputs { logits: read(&logits)?, probabilities: read(&probabilities)?, classes: net.classes() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Faces;
    use crate::testing::{golden_face, networks};

    #[test]
    fn a_mirrored_face_has_the_same_average() {
        let net = Net::new(&networks().swap_remove(0), 5, 3, Device::Cpu).unwrap();
        let pixels = [golden_face(1), golden_face(2)].concat();
        let mirrored: Vec<u8> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        let run = |pixels: &[u8], views| {
            let faces = Faces { pixels: pixels.to_vec(), rows: vec![0, 1], ..Faces::default() };
            predict_with_tta(&net, &DeviceFaces::new(&faces, Device::Cpu).unwrap(), views).unwrap().probabilities
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
