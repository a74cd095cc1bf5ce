//! Where the cells of a feature map lie in the image.

use crate::data::images::SIDE;

/// The cells of a square feature map of 48x48 images. Positions are in pixels of the image, in which
/// the center of the first pixel is at 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureGrid {
    /// Cells in a row and in a column.
    pub side: usize,
    /// Distance between the centers of the receptive fields of neighbors.
    pub stride: f64,
    /// Center of the receptive field of the first cell.
    pub offset: f64,
}

impl FeatureGrid {
    /// The image, each of whose pixels is a cell.
    pub const IMAGE: Self = Self { side: SIDE, stride: 1.0, offset: 0.0 };

    /// The cells after a convolution with stride 1.
    pub fn convolved(self, kernel: i64, padding: i64) -> Self {
        let border = usize::try_from(kernel - 1 - 2 * padding).unwrap_or(0);
        let shift = (kernel - 1) as f64 / 2.0 - padding as f64;
        Self { side: self.side.saturating_sub(border), offset: self.offset + shift * self.stride, ..self }
    }

    /// The cells after a convolution or a pooling with this stride, an odd kernel and a padding of
    /// half of it: every `stride`th one, from the first.
    pub fn strided(self, stride: i64) -> Self {
        let step = usize::try_from(stride).unwrap_or(1).max(1);
        Self { side: self.side.div_ceil(step), stride: self.stride * step as f64, ..self }
    }

    /// The cells after 2x2 pooling, which drops the last row and column of an odd number.
    pub fn pooled(self) -> Self {
        Self { side: self.side / 2, stride: 2.0 * self.stride, offset: self.offset + 0.5 * self.stride }
    }

    /// Interpolates `cells` [side, side] bilinearly between their centers: 48x48 values, row by row.
    ///
    /// A cell at the edge of the map keeps its value up to half a stride beyond its center, which is
    /// the area of a cell, then it fades to 0 within a stride. Where convolutions have no padding, the
    /// border of the image has no cells; with padding, this is PyTorch's
    /// `interpolate(mode="bilinear", align_corners=False)`.
    pub fn upsample(&self, cells: &[f32]) -> Vec<f32> {
        let axis: Vec<Neighbors> = (0..SIDE).map(|pixel| self.neighbors(pixel)).collect();
        let cell = |row: usize, column: usize| cells.get(row * self.side + column).copied().map_or(0.0, f64::from);
        let mut pixels = Vec::with_capacity(SIDE * SIDE);
        for y in &axis {
            for x in &axis {
                let along = |row: usize| cell(row, x.low) * (1.0 - x.fraction) + cell(row, x.high) * x.fraction;
                let value = along(y.low) * (1.0 - y.fraction) + along(y.high) * y.fraction;
                pixels.push((value * x.weight * y.weight) as f32);
            }
        }
        pixels
    }

    /// The cells on both sides of a pixel of a row or a column.
    fn neighbors(&self, pixel: usize) -> Neighbors {
        let last = self.side.saturating_sub(1);
        let place = (pixel as f64 - self.offset) / self.stride;
        let inside = place.clamp(0.0, last as f64);
        let low = (inside as usize).min(last);
        let beyond = ((place - inside).abs() - 0.5).max(0.0);
        Neighbors { low, high: (low + 1).min(last), fraction: inside - low as f64, weight: (1.0 - beyond).max(0.0) }
    }
}

/// The two cells between whose centers a pixel is.
struct Neighbors {
    low: usize,
    high: usize,
    /// Weight of `high`; that of `low` is the rest.
    fraction: f64,
    /// Weight of both: below 1 beyond the map.
    weight: f64,
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;
    use crate::model::cnn::CnnConfig;
    use crate::model::resnet::ResnetConfig;
    use crate::model::vgg::VggConfig;
    use crate::testing::noise;

    fn triple(grid: &FeatureGrid) -> (usize, f64, f64) {
        (grid.side, grid.stride, grid.offset)
    }

    #[test]
    fn grids_of_the_architectures() {
        let cnn: Vec<_> = CnnConfig::default().feature_grids().iter().map(triple).collect();
        assert_eq!(cnn, [(46, 1.0, 1.0), (21, 2.0, 3.5), (8, 4.0, 8.5)]);
        let vgg: Vec<_> = VggConfig::default().feature_grids().iter().map(triple).collect();
        assert_eq!(vgg, [(48, 1.0, 0.0), (24, 2.0, 0.5), (12, 4.0, 1.5), (6, 8.0, 3.5)]);
        let resnet: Vec<_> = ResnetConfig::default().feature_grids().iter().map(triple).collect();
        assert_eq!(resnet, [(24, 2.0, 0.5), (12, 4.0, 1.5), (6, 8.0, 3.5)]);
        let torchvision: Vec<_> = ResnetConfig::torchvision(&[2; 4]).feature_grids().iter().map(triple).collect();
        assert_eq!(torchvision, [(12, 4.0, 0.0), (6, 8.0, 0.0), (3, 16.0, 0.0), (2, 32.0, 0.0)]);
    }

    /// The receptive field of a cell far from the edges, after torchvision's stem and a strided
    /// convolution.
    #[test]
    fn strided_cells_are_at_the_centers_of_their_receptive_fields() {
        let ones = |kernel: i64| Tensor::ones([1, 1, kernel, kernel], (Kind::Float, tch::Device::Cpu));
        let grid = FeatureGrid::IMAGE.strided(2).strided(2).strided(2);
        let images = Tensor::zeros([1, 1, 48, 48], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let stem = images.conv2d(&ones(7), None::<Tensor>, 2, 3, 1, 1);
        let pooled = stem.avg_pool2d([3, 3], [2, 2], [1, 1], false, true, None::<i64>);
        let cells = pooled.conv2d(&ones(3), None::<Tensor>, 2, 1, 1, 1);
        assert_eq!(cells.size(), [1, 1, grid.side as i64, grid.side as i64]);
        cells.get(0).get(0).get(3).get(3).backward();
        let profile: Vec<f32> =
            Vec::try_from(images.grad().view([48, 48]).sum_dim_intlist(0i64, false, Kind::Float)).unwrap();
        let center =
            profile.iter().zip(0u8..).map(|(v, p)| v * f32::from(p)).sum::<f32>() / profile.iter().sum::<f32>();
        assert!((f64::from(center) - (grid.offset + 3.0 * grid.stride)).abs() < 1e-3, "{center}");
    }

    #[test]
    fn upsampling_with_padding_is_that_of_pytorch() {
        for grid in VggConfig::default().feature_grids() {
            let side = grid.side as i64;
            let cells = noise(&[1, 1, side, side], 5);
            let expected = cells.upsample_bilinear2d([48, 48], false, None::<f64>, None::<f64>);
            let found = grid.upsample(&Vec::try_from(cells.flatten(0, -1)).unwrap());
            let found = Tensor::from_slice(&found).view([1, 1, 48, 48]);
            let error = (found - expected).abs().max().double_value(&[]);
            assert!(error < 1e-5, "{side}: {error}");
        }
    }

    /// The receptive field of each cell of the notebook's CNN, measured by the gradient of the cell
    /// with respect to the image, is centered where the grid says.
    #[test]
    fn a_cell_is_at_the_center_of_its_receptive_field() {
        let layers = |images: &Tensor| {
            let ones = |kernel: i64| Tensor::ones([1, 1, kernel, kernel], (Kind::Float, tch::Device::Cpu));
            let conv = |x: &Tensor| x.conv2d(&ones(3), None::<Tensor>, 1, 0, 1, 1);
            let pool = |x: &Tensor| x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
            conv(&pool(&conv(&pool(&conv(images)))))
        };
        let grid = CnnConfig::default().feature_grids()[2];
        for (row, column) in [(0, 0), (3, 5), (7, 7)] {
            let images = Tensor::zeros([1, 1, 48, 48], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
            let cells = layers(&images);
            assert_eq!(cells.size(), [1, 1, grid.side as i64, grid.side as i64]);
            cells.get(0).get(0).get(row).get(column).backward();
            let gradient = images.grad().view([48, 48]);
            for (dim, index) in [(1i64, row), (0, column)] {
                let profile: Vec<f32> = Vec::try_from(gradient.sum_dim_intlist(dim, false, Kind::Float)).unwrap();
                let total: f32 = profile.iter().sum();
                let center = profile.iter().zip(0u8..).map(|(v, p)| v * f32::from(p)).sum::<f32>() / total;
                let expected = grid.offset + grid.stride * index as f64;
                assert!((f64::from(center) - expected).abs() < 1e-3, "{center} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_hot_cell_is_bright_around_its_center_only() {
        let grid = CnnConfig::default().feature_grids()[2];
        let mut cells = vec![0.0; 64];
        cells[2 * 8 + 5] = 1.0;
        let pixels = grid.upsample(&cells);
        // The center is between pixels 16 and 17, and 28 and 29.
        for (row, column) in [(16, 28), (17, 29), (16, 29), (17, 28)] {
            assert!((pixels[row * SIDE + column] - 0.765_625).abs() < 1e-6, "{}", pixels[row * SIDE + column]);
        }
        let total: f32 = pixels.iter().sum();
        assert!((total - 16.0).abs() < 1e-4, "the area of a cell: {total}");
        assert_eq!(pixels[12 * SIDE + 28], 0.0);
        // A corner cell keeps its value to the edge of its area, 6.5, and fades within 4 pixels.
        cells = vec![0.0; 64];
        cells[0] = 1.0;
        let pixels = grid.upsample(&cells);
        let row: Vec<f32> = pixels[8 * SIDE..8 * SIDE + 14].to_vec();
        assert_eq!(row, [0.0, 0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0, 0.875, 0.625, 0.375, 0.125, 0.0]);
        // A map of one cell.
        let one = FeatureGrid { side: 1, stride: 16.0, offset: 23.5 };
        assert_eq!(one.upsample(&[2.0])[24 * SIDE + 24], 2.0);
        assert!(FeatureGrid { side: 0, ..one }.upsample(&[]).iter().all(|value| *value == 0.0));
    }
}
