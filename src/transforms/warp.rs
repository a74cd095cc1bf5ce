//! Applying affine transforms to a batch of images, on the training device.

use anyhow::Result;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{op_profile, parallel, tensor_slice};

use super::THETA;
use crate::data::device_images::{DeviceImages, scale_to_unit};
use crate::data::images::SIDE;
use crate::device;

/// `grid_sampler`'s enum values for `mode="bilinear"` and `padding_mode="border"`.
const BILINEAR: i64 = 0;
const BORDER: i64 = 1;

/// Applies the affine transforms `theta` (float32 [B, 2, 3], see
/// [`Affine::theta`](super::Affine::theta)) to `images` (float32 [B, 1, 48, 48]) with one
/// `affine_grid` and one `grid_sample`, bilinear with border padding (Jaderberg et al. 2015,
/// "Spatial Transformer Networks").
pub fn warp(images: &Tensor, theta: &Tensor) -> Result<Tensor> {
    let grid = Tensor::f_affine_grid_generator(theta, images.size(), false)?;
    Ok(images.f_grid_sampler(&grid, BILINEAR, BORDER, false)?)
}

/// The identity grid of [`warp_with_grid`] on `device`, float32 [48 * 48, 3]: x, y and 1 of each
/// output pixel in row-major order, in `affine_grid`'s coordinates without `align_corners`.
pub fn base_grid(device: Device) -> Result<Tensor> {
    let theta = Tensor::f_from_slice(&[1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0])?.f_view([1, 2, 3])?;
    let side = SIDE as i64;
    let points = Tensor::f_affine_grid_generator(&theta, [1, 1, side, side], false)?.f_view([-1, 2])?;
    let ones = points.f_narrow(1, 0, 1)?.f_ones_like()?;
    Ok(Tensor::f_cat(&[points, ones], 1)?.f_to_device(device)?)
}

/// [`warp`] with the identity grid of [`base_grid`]: fewer operations than `affine_grid`.
fn warp_with_grid(images: &Tensor, theta: &Tensor, grid: &Tensor) -> Result<Tensor> {
    let (count, side) = (images.size().first().copied().unwrap_or(0), SIDE as i64);
    let points = grid.f_unsqueeze(0)?.f_expand([count, -1, -1], false)?.f_bmm(&theta.f_permute([0, 2, 1])?)?;
    Ok(images.f_grid_sampler(&points.f_view([count, side, side, 2])?, BILINEAR, BORDER, false)?)
}

/// Gathers the images `rows` (int64 `[B]`), applies `thetas` (see [`warp`]) and scales to 0..1:
/// [B, 1, 48, 48] of dtype `kind`. Runs a fused kernel on uint8 pixels on the CPU if it has one,
/// libtorch operations elsewhere, with `grid`, the identity grid of
/// [`AugmentParams::grid`](super::AugmentParams), if there is one.
pub fn gather_warp(
    images: &DeviceImages,
    rows: &Tensor,
    thetas: &Tensor,
    grid: Option<&Tensor>,
    kind: Kind,
) -> Result<Tensor> {
    op_profile::operation("grimace::gather_warp", || match kind {
        Kind::Float if has_kernel(images) => gather_warp_fused::<f32>(images, rows, thetas),
        Kind::BFloat16 if has_kernel(images) => gather_warp_fused::<bf16>(images, rows, thetas),
        _ => {
            let images = scale_to_unit(&images.gather(rows)?)?;
            let warped = match grid {
                Some(grid) => warp_with_grid(&images, thetas, grid)?,
                None => warp(&images, thetas)?,
            };
            Ok(warped.f_to_dtype(kind, false, false)?)
        }
    })
}

fn has_kernel(images: &DeviceImages) -> bool {
    images.device() == Device::Cpu && kernels::isa().is_some() && kernels::warp::has_warp(SIDE)
}

fn gather_warp_fused<E: Element + tensor_slice::TensorElement>(
    images: &DeviceImages,
    rows: &Tensor,
    thetas: &Tensor,
) -> Result<Tensor> {
    let (pixels, thetas) = (images.pixels()?, thetas.f_contiguous()?);
    let (pixels, rows, thetas) =
        (tensor_slice::slice::<u8>(pixels)?, tensor_slice::slice::<i64>(rows)?, tensor_slice::slice(&thetas)?);
    let side = SIDE as i64;
    let mut result = Tensor::f_empty([rows.len() as i64, 1, side, side], (E::KIND, Device::Cpu))?;
    let chunk = device::chunk_size(rows.len());
    let inputs = rows.chunks(chunk).zip(thetas.chunks(chunk * THETA));
    let work = inputs.zip(tensor_slice::slice_mut::<E>(&mut result)?.chunks_mut(chunk * SIDE * SIDE)).collect();
    parallel::for_each(work, |((rows, thetas), output)| kernels::warp::warp(pixels, SIDE, rows, thetas, output))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::testing::{golden, golden_image};
    use crate::transforms::affine::{Affine, flip, rotation, shift, zoom};

    fn one_image(pixels: Vec<u8>) -> DeviceImages {
        let images = Images { pixels: pixels.into(), rows: vec![0], ..Images::default() };
        DeviceImages::new(&images, Device::Cpu).unwrap()
    }

    /// Expected values: scripts/golden/keras_affine.py, `ImageDataGenerator.apply_transform` with
    /// `fill_mode="nearest"`.
    #[test]
    fn agrees_with_keras_at_every_pixel() {
        let golden = golden("keras_affine.json");
        let records = golden["records"].as_array().unwrap();
        assert!(records.len() >= 8);
        for record in records {
            let number = |key: &str| record["mapped"][key].as_f64().unwrap();
            let affine = flip(record["mapped"]["flip"].as_bool().unwrap())
                .then(zoom(number("zoom_x"), number("zoom_y")))
                .then(shift(number("shift_x_px"), number("shift_y_px")))
                .then(rotation(number("a_degrees")));
            let pixels: Vec<f32> =
                golden_image(record["image"].as_u64().unwrap()).iter().map(|v| f32::from(*v)).collect();
            let image = Tensor::from_slice(&pixels).view([1, 1, 48, 48]);
            let theta = Tensor::from_slice(&affine.theta()).view([1, 2, 3]);
            let expected = Tensor::from_slice(
                &record["result_x100"]
                    .as_str()
                    .unwrap()
                    .split(' ')
                    .map(|v| v.parse::<f32>().unwrap() / 100.0)
                    .collect::<Vec<_>>(),
            );
            let images = one_image(golden_image(record["image"].as_u64().unwrap()));
            let gathered = |kind| {
                gather_warp(&images, &Tensor::from_slice(&[0i64]), &theta, None, kind).unwrap().to_kind(Kind::Float)
                    * 255.0
            };
            // In gray levels of 255. The file is rounded to 0.005, and bf16 near white to half a
            // level.
            for (name, actual, tolerance) in [
                ("warp", warp(&image, &theta).unwrap(), 0.006),
                ("float32", gathered(Kind::Float), 0.006),
                ("bf16", gathered(Kind::BFloat16), 0.6),
            ] {
                let worst = (actual.flatten(0, -1) - &expected).abs().max().double_value(&[]);
                assert!(worst < tolerance, "{}, {name}: differs by {worst} gray levels", record["name"]);
            }
        }
    }

    #[test]
    fn fused_kernel_agrees_with_libtorch() {
        let pixels: Vec<u8> = (0..7).flat_map(golden_image).collect();
        let images = Images { pixels: pixels.into(), rows: (0..7).collect(), ..Images::default() };
        let images = DeviceImages::new(&images, Device::Cpu).unwrap();
        let rows = Tensor::from_slice(&[6i64, 0, 3, 3, 5]);
        let thetas = (0..5).map(|n| rotation(f64::from(n) - 2.0).then(shift(1.5, -0.5 * f64::from(n))).theta());
        let thetas = Tensor::from_slice(&thetas.flatten().collect::<Vec<f32>>()).view([5, 2, 3]);
        let reference = warp(&scale_to_unit(&images.gather(&rows).unwrap()).unwrap(), &thetas).unwrap();
        let fused = gather_warp(&images, &rows, &thetas, None, Kind::Float).unwrap();
        assert_eq!(fused.size(), reference.size());
        assert!((fused - reference).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn base_grid_agrees_with_affine_grid() {
        let images = Tensor::arange(2 * 48 * 48, (Kind::Float, Device::Cpu)).view([2, 1, 48, 48]) / 20.0;
        let thetas: Vec<f32> =
            [rotation(9.0), shift(3.5, -2.0).then(zoom(0.9, 1.1))].iter().flat_map(Affine::theta).collect();
        let thetas = Tensor::from_slice(&thetas).view([2, 2, 3]);
        let grid = base_grid(Device::Cpu).unwrap();
        let difference = warp_with_grid(&images, &thetas, &grid).unwrap() - warp(&images, &thetas).unwrap();
        assert!(difference.abs().max().double_value(&[]) < 1e-3, "of 230");
    }

    #[test]
    fn batch_agrees_with_single_images() {
        let images = Tensor::arange(3 * 48 * 48, (tch::Kind::Float, tch::Device::Cpu)).view([3, 1, 48, 48]) / 27.0;
        let transforms = [Affine::IDENTITY, rotation(9.0), shift(3.5, -2.0).then(zoom(0.9, 1.1))];
        let thetas: Vec<f32> = transforms.iter().flat_map(Affine::theta).collect();
        assert_eq!(thetas.len(), 3 * THETA);
        let batch = warp(&images, &Tensor::from_slice(&thetas).view([3, 2, 3])).unwrap();
        for (index, affine) in (0..).zip(&transforms) {
            let theta = Tensor::from_slice(&affine.theta()).view([1, 2, 3]);
            let single = warp(&images.narrow(0, index, 1), &theta).unwrap();
            assert!((batch.narrow(0, index, 1) - single).abs().max().double_value(&[]) < 1e-4);
        }
        assert!((batch.narrow(0, 0, 1) - images.narrow(0, 0, 1)).abs().max().double_value(&[]) < 1e-3);
    }
}
