//! Reading a batch of faces through their maps, on the training device.

use anyhow::Result;
use tch::Tensor;

/// Modes of `grid_sampler` by number: bilinear interpolation, and the nearest edge pixel outside the image.
const BILINEAR: i64 = 0;
const BORDER: i64 = 1;

/// Reads each face of `faces` (float32 [B, 1, 48, 48]) through its map in `theta` (float32 [B, 2, 3], see
/// [`Affine::theta`](super::Affine::theta)): bilinear, edge pixels repeated outside. Shape and range stay.
///
/// One `affine_grid` and one `grid_sample` for the whole batch (Jaderberg et al. 2015, "Spatial Transformer Networks").
///
/// # Errors
/// libtorch's.
pub fn sample(faces: &Tensor, theta: &Tensor) -> Result<Tensor> {
    let grid = Tensor::f_affine_grid_generator(theta, faces.size(), false)?;
    Ok(faces.f_grid_sampler(&grid, BILINEAR, BORDER, false)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Affine, THETA, flip, rotate, shift, zoom};
    use super::*;
    use crate::testing::{golden, golden_face};

    /// Expected values: scripts/golden/keras_affine.py, `ImageDataGenerator.apply_transform` with `fill_mode="nearest"`.
    #[test]
    fn agrees_with_keras_at_every_pixel() {
        let golden = golden("keras_affine.json");
        let records = golden["records"].as_array().unwrap();
        assert!(records.len() >= 8);
        for record in records {
            let number = |key: &str| record["mapped"][key].as_f64().unwrap();
            let map = flip::by(record["mapped"]["flip"].as_bool().unwrap())
                .then(zoom::by(number("zoom_x"), number("zoom_y")))
                .then(shift::by(number("shift_x_px"), number("shift_y_px")))
                .then(rotate::by(number("a_degrees")));
            let pixels: Vec<f32> =
                golden_face(record["face"].as_u64().unwrap()).iter().map(|v| f32::from(*v)).collect();
            let face = Tensor::from_slice(&pixels).view([1, 1, 48, 48]);
            let theta = Tensor::from_slice(&map.theta()).view([1, 2, 3]);
            let ours: Vec<f32> = Vec::try_from(sample(&face, &theta).unwrap().flatten(0, -1)).unwrap();
            let theirs = record["result_x100"].as_str().unwrap().split(' ').map(|v| v.parse::<f32>().unwrap() / 100.0);
            let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // In grey levels of 255; the file is rounded to 0.005. The target is one grey level.
            assert!(worst < 0.006, "{}: differs by {worst} grey levels", record["name"]);
        }
    }

    #[test]
    fn a_batch_is_each_face_by_itself() {
        let faces = Tensor::arange(3 * 48 * 48, (tch::Kind::Float, tch::Device::Cpu)).view([3, 1, 48, 48]) / 27.0;
        let maps = [Affine::IDENTITY, rotate::by(9.0), shift::by(3.5, -2.0).then(zoom::by(0.9, 1.1))];
        let thetas: Vec<f32> = maps.iter().flat_map(Affine::theta).collect();
        assert_eq!(thetas.len(), 3 * THETA);
        let together = sample(&faces, &Tensor::from_slice(&thetas).view([3, 2, 3])).unwrap();
        for (index, map) in maps.iter().enumerate() {
            let alone =
                sample(&faces.narrow(0, index as i64, 1), &Tensor::from_slice(&map.theta()).view([1, 2, 3])).unwrap();
            assert!((together.narrow(0, index as i64, 1) - alone).abs().max().double_value(&[]) < 1e-4);
        }
        assert!((together.narrow(0, 0, 1) - faces.narrow(0, 0, 1)).abs().max().double_value(&[]) < 1e-3);
    }
}
