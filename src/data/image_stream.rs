//! Images of an epoch that are not on the device: a thread reads the batches of the next steps while
//! a step is computed.

use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};
use torch_ext::tensor_slice;

use super::images::{PIXELS, SIDE};
use super::pixel_store::Pixels;

/// Batches that are read ahead.
const DEPTH: usize = 4;

/// Images that a thread reads at a time for a GPU, whose steps leave the other processors idle.
const PARALLEL: usize = 64;

/// The batches of an epoch, in order.
#[derive(Debug)]
pub struct ImageStream {
    batches: Receiver<Result<Tensor>>,
    /// Step of the next batch.
    next: u64,
}

impl ImageStream {
    /// Starts to read the batches of `batch` images in `order`, from step `first` on, for `device`: of
    /// each batch the rows that `select` returns.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        pixels: Pixels,
        order: Vec<i64>,
        batch: usize,
        first: u64,
        device: Device,
        select: impl Fn(&[i64]) -> Vec<i64> + Send + 'static,
    ) -> Result<Self> {
        let (sender, batches) = sync_channel(DEPTH);
        let skipped = usize::try_from(first)?;
        let read = move || {
            for rows in order.chunks(batch.max(1)).skip(skipped) {
                let read = read_rows(&pixels, &select(rows), device).and_then(|images| pinned(images, device));
                let is_last = read.is_err();
                // An error ends the epoch; without a receiver, the epoch has ended.
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("images".into()).spawn(read).context("cannot start a thread")?;
        Ok(Self { batches, next: first })
    }

    /// The images of `step`, which follows that of the last call: uint8 [B, 1, 48, 48] on the CPU, in
    /// pinned memory for a CUDA device. Waits until they have been read.
    ///
    /// # Errors
    /// An image that cannot be read; a step out of order or after the last one.
    pub fn take(&mut self, step: u64) -> Result<Tensor> {
        ensure!(step == self.next, "step {step} follows step {}", self.next);
        self.next += 1;
        self.batches.recv().context("the epoch has no more images")?
    }
}

/// Reads the images `rows`: uint8 [B, 1, 48, 48] on the CPU. For a GPU, several threads read.
pub(super) fn read_rows(pixels: &Pixels, rows: &[i64], device: Device) -> Result<Tensor> {
    let side = SIDE as i64;
    let mut images = Tensor::f_empty([rows.len() as i64, 1, side, side], (Kind::Uint8, Device::Cpu))?;
    let out = tensor_slice::slice_mut::<u8>(&mut images)?;
    // A negative row is out of range, too.
    let copy = |rows: &[i64], out: &mut [u8]| {
        pixels.copy(rows.iter().map(|row| usize::try_from(*row).unwrap_or(usize::MAX)), out)
    };
    if device == Device::Cpu {
        copy(rows, out)?;
    } else {
        let parts = rows.par_chunks(PARALLEL).zip(out.par_chunks_mut(PARALLEL * PIXELS));
        parts.try_for_each(|(rows, out)| copy(rows, out))?;
    }
    Ok(images)
}

/// The tensor in pinned memory if `device` is a CUDA device, which copies from there without waiting.
fn pinned(images: Tensor, device: Device) -> Result<Tensor> {
    if device.is_cuda() { Ok(images.f_pin_memory(device)?) } else { Ok(images) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_in_order_from_any_step() {
        let pixels: Pixels = (0..10u8).flat_map(|image| vec![image; PIXELS]).collect::<Vec<u8>>().into();
        let order = vec![3, 1, 4, 1, 5, 9, 2];
        let first = |images: Tensor| -> Vec<i64> {
            let values = images.view([-1, PIXELS as i64]).select(1, 7).to_kind(Kind::Int64);
            Vec::try_from(values).unwrap()
        };
        for start in [0, 1, 2] {
            let mut stream =
                ImageStream::start(pixels.clone(), order.clone(), 3, start, Device::Cpu, <[i64]>::to_vec).unwrap();
            for step in start..3 {
                let expected: Vec<i64> = order.chunks(3).nth(step as usize).unwrap().to_vec();
                assert_eq!(first(stream.take(step).unwrap()), expected, "step {step}");
            }
            assert!(stream.take(3).unwrap_err().to_string().contains("no more images"));
        }
        let mut stream = ImageStream::start(pixels.clone(), order.clone(), 3, 0, Device::Cpu, <[i64]>::to_vec).unwrap();
        assert!(stream.take(1).unwrap_err().to_string().contains("follows step 0"));
        // More steps than are read ahead, and an end before they are.
        let many = ImageStream::start(pixels.clone(), vec![0; 100], 1, 0, Device::Cpu, <[i64]>::to_vec).unwrap();
        drop(many);
        let mut broken = ImageStream::start(pixels, vec![1, 10], 1, 0, Device::Cpu, <[i64]>::to_vec).unwrap();
        assert!(broken.take(0).is_ok());
        assert!(format!("{:#}", broken.take(1).unwrap_err()).contains("there is no image 10 of 10"));
    }
}
