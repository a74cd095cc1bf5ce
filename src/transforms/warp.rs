//! Reading a batch of images through their maps, on the training device.

use anyhow::Result;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{parallel, profile, tensor_slice};

use super::THETA;
use crate::data::device_images::{DeviceImages, to_unit};
use crate::data::images::SIDE;
use crate::device;

/// Modes of `grid_sampler` by number: bilinear interpolation, and the nearest edge pixel outside the image.
const BILINEAR: i64 = 0;
const BORDER: i64 = 1;

/// Reads each image of `images` (float32 [B, 1, 48, 48]) through its map in `theta` (float32 [B, 2, 3], see
/// [`Affine::theta`](super::Affine::theta)): bilinear, edge pixels repeated outside. Shape and range stay.
///
/// One `affine_grid` and one `grid_sample` for the whole batch (Jaderberg et al. 2015, "Spatial Transformer Networks").
///
/// # Errors
/// libtorch's.
pub fn warp(images: &Tensor, theta: &Tensor) -> Result<Tensor> {
    let grid = Tensor::f_affine_grid_generator(theta, images.size(), false)?;
    Ok(images.f_grid_sampler(&grid, BILINEAR, BORDER, false)?)
}

/// Picks the images `rows` (int64 `[B]`), reads each through its map (see [`sample`]) and scales to 0..1: [B, 1, 48, 48] in
/// `kind`. On a CPU that has the kernel it is one pass from bytes; elsewhere libtorch's operations, one after another.
///
/// # Errors
/// libtorch's.
pub fn gather_warp(images: &DeviceImages, rows: &Tensor, thetas: &Tensor, kind: Kind) -> Result<Tensor> {
    profile::operation("grimace::pick", || match kind {
        Kind::Float if fits::<f32>(images) => pick_on_cpu::<f32>(images, rows, thetas),
        Kind::BFloat16 if fits::<bf16>(images) => pick_on_cpu::<bf16>(images, rows, thetas),
        _ => Ok(warp(&to_unit(&images.gather(rows)?)?, thetas)?.f_to_dtype(kind, false, false)?),
    })
}

fn fits<E: Element>(images: &DeviceImages) -> bool {
    images.device() == Device::Cpu && kernels::warp::has_warp::<E>(SIDE)
}

fn pick_on_cpu<E: Element + tensor_slice::TensorElement>(
    images: &DeviceImages,
    rows: &Tensor,
    thetas: &Tensor,
) -> Result<Tensor> {
    let (pixels, thetas) = (images.pixels(), thetas.f_contiguous()?);
    let (pixels, rows, thetas) =
        (tensor_slice::slice::<u8>(pixels)?, tensor_slice::slice::<i64>(rows)?, tensor_slice::slice(&thetas)?);
    let side = SIDE as i64;
    let mut result = Tensor::f_empty([rows.len() as i64, 1, side, side], (E::KIND, Device::Cpu))?;
    let each = device::chunk_size(rows.len());
    let parts = rows.chunks(each).zip(thetas.chunks(each * THETA));
    let work = parts.zip(tensor_slice::slice_mut::<E>(&mut result)?.chunks_mut(each * SIDE * SIDE)).collect();
    parallel::for_each(work, |((rows, thetas), to)| kernels::warp::warp(pixels, SIDE, rows, thetas, to))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::testing::{golden, golden_image};
    use crate::transforms::affine::{Affine, flip, rotation, shift, zoom};

    fn one_image(pixels: Vec<u8>) -> DeviceImages {
        let images = Images { pixels, rows: vec![0], ..Images::default() };
        DeviceImages::new(&images, Device::Cpu).unwrap()
    }

    /// Expected values: scripts/golden/keras_affine.py, `ImageDataGenerator.apply_transform` with `fill_mode="nearest"`.
    #[test]
    fn agrees_with_keras_at_every_pixel() {
        let golden = golden("keras_affine.json");
        let records = golden["records"].as_array().unwrap();
        assert!(records.len() >= 8);
        for record in records {
            let number = |key: &str| record["mapped"][key].as_f64().unwrap();
            let map = flip(record["mapped"]["flip"].as_bool().unwrap())
                .then(zoom(number("zoom_x"), number("zoom_y")))
                .then(shift(number("shift_x_px"), number("shift_y_px")))
                .then(rotation(number("a_degrees")));
            let pixels: Vec<f32> =
                golden_image(record["image"].as_u64().unwrap()).iter().map(|v| f32::from(*v)).collect();
            let image = Tensor::from_slice(&pixels).view([1, 1, 48, 48]);
            let theta = Tensor::from_slice(&map.theta()).view([1, 2, 3]);
            let theirs = Tensor::from_slice(
                &record["result_x100"]
                    .as_str()
                    .unwrap()
                    .split(' ')
                    .map(|v| v.parse::<f32>().unwrap() / 100.0)
                    .collect::<Vec<_>>(),
            );
            let images = one_image(golden_image(record["image"].as_u64().unwrap()));
            let picked = |kind| {
                gather_warp(&images, &Tensor::from_slice(&[0i64]), &theta, kind).unwrap().to_kind(Kind::Float) * 255.0
            };
            // In gray levels of 255; the file is rounded to 0.005. The target is one gray level; rounding to bf16 near white
            // moves a value by half of one.
            let results =
                [(warp(&image, &theta).unwrap(), 0.006), (picked(Kind::Float), 0.006), (picked(Kind::BFloat16), 0.6)];
            for (way, (ours, tolerance)) in results.into_iter().enumerate() {
                let worst = (ours.flatten(0, -1) - &theirs).abs().max().double_value(&[]);
                assert!(worst < tolerance, "{}, way {way}: differs by {worst} gray levels", record["name"]);
            }
        }
    }

    #[test]
    fn picking_in_one_pass_agrees_with_libtorch() {
        let pixels: Vec<u8> = (0..7).flat_map(golden_image).collect();
        let images = Images { pixels, rows: (0..7).collect(), ..Images::default() };
        let images = DeviceImages::new(&images, Device::Cpu).unwrap();
        let rows = Tensor::from_slice(&[6i64, 0, 3, 3, 5]);
        let maps = (0..5).map(|n| rotation(f64::from(n) - 2.0).then(shift(1.5, -0.5 * f64::from(n))).theta());
        let thetas = Tensor::from_slice(&maps.flatten().collect::<Vec<f32>>()).view([5, 2, 3]);
        let plain = warp(&to_unit(&images.gather(&rows).unwrap()).unwrap(), &thetas).unwrap();
        let ours = gather_warp(&images, &rows, &thetas, Kind::Float).unwrap();
        assert_eq!(ours.size(), plain.size());
        assert!((ours - plain).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn a_batch_is_each_image_by_itself() {
        let images = Tensor::arange(3 * 48 * 48, (tch::Kind::Float, tch::Device::Cpu)).view([3, 1, 48, 48]) / 27.0;
        let maps = [Affine::IDENTITY, rotation(9.0), shift(3.5, -2.0).then(zoom(0.9, 1.1))];
        let thetas: Vec<f32> = maps.iter().flat_map(Affine::theta).collect();
        assert_eq!(thetas.len(), 3 * THETA);
        let together = warp(&images, &Tensor::from_slice(&thetas).view([3, 2, 3])).unwrap();
        for (index, map) in maps.iter().enumerate() {
            let alone =
                warp(&images.narrow(0, index as i64, 1), &Tensor::from_slice(&map.theta()).view([1, 2, 3])).unwrap();
            assert!((together.narrow(0, index as i64, 1) - alone).abs().max().double_value(&[]) < 1e-4);
        }
        assert!((together.narrow(0, 0, 1) - images.narrow(0, 0, 1)).abs().max().double_value(&[]) < 1e-3);
    }
}
