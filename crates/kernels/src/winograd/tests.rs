use proptest::prelude::*;

use super::*;
use crate::Element;
use crate::bf16;
use crate::conv_pool::tests::pooled_from;
use crate::isa;
use crate::isa::tests::for_each_isa;

const TILES: [TileSize; 3] = [TileSize::Two, TileSize::Three, TileSize::Four];

/// Values from a normal-like distribution: sums of three uniform ones.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| 2.0 * (uniform() + uniform() + uniform())).collect()
}

/// Input, filters and gradient of the output.
struct Case {
    shape: Shape,
    images: usize,
    input: Vec<f32>,
    filters: Vec<f32>,
    gradient: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, images: usize) -> Self {
        let input = noise(images * shape.conv.input_len(), 1);
        let gradient = noise(images * shape.conv.conv_len(), 3);
        Self { shape, images, input, filters: noise(shape.conv.weights_len(), 2), gradient }
    }

    /// Calls `body` with the index of input, filter weight and output of every product.
    fn for_each_product(&self, mut body: impl FnMut(usize, usize, usize)) {
        let shape = &self.shape;
        let outputs = [shape.conv.conv_height(), shape.conv.conv_width()];
        for (image, y, x) in indices([self.images, outputs[0], outputs[1]]) {
            for (row, column, filter) in indices([KERNEL, KERNEL, shape.conv.filters]) {
                let (y_in, x_in) =
                    ((y + row).wrapping_sub(shape.conv.padding), (x + column).wrapping_sub(shape.conv.padding));
                if y_in >= shape.conv.height || x_in >= shape.conv.width {
                    continue;
                }
                let input = ((image * shape.conv.height + y_in) * shape.conv.width + x_in) * shape.conv.channels;
                let weight = ((filter * KERNEL + row) * KERNEL + column) * shape.conv.channels;
                let output = ((image * outputs[0] + y) * outputs[1] + x) * shape.conv.filters + filter;
                (0..shape.conv.channels).for_each(|channel| body(input + channel, weight + channel, output));
            }
        }
    }

    /// Output, gradient of the input and gradient of the filters in float64, by definition.
    fn reference(&self) -> [Vec<f64>; 3] {
        let mut all = [&self.gradient, &self.input, &self.filters].map(|like| vec![0.0; like.len()]);
        let [output, to_input, to_filters] = &mut all;
        self.for_each_product(|input, weight, at| {
            let [x, w, g] = [self.input[input], self.filters[weight], self.gradient[at]].map(f64::from);
            output[at] += x * w;
            to_input[input] += g * w;
            to_filters[weight] += g * x;
        });
        all
    }

    /// The same by the kernels.
    fn results(&self, bias: Option<&[f32]>) -> [Vec<f32>; 3] {
        let shape = &self.shape;
        let mut output = vec![f32::NAN; self.gradient.len()];
        forward(shape, &self.input, &packed(shape, Filters::Forward, &self.filters), bias, &mut output);
        let mut to_input = vec![f32::NAN; self.input.len()];
        let flipped = packed(shape, Filters::Flipped, &self.filters);
        forward(&shape.transposed(), &self.gradient, &flipped, None, &mut to_input);
        [output, to_input, self.weight_gradient(2)]
    }

    /// The gradient of the filters, with the images in chunks.
    fn weight_gradient(&self, chunk: usize) -> Vec<f32> {
        let shape = &self.shape;
        let mut sums = Vec::new();
        let gradients = self.gradient.chunks(chunk * shape.conv.conv_len());
        for (input, gradient) in self.input.chunks(chunk * shape.conv.input_len()).zip(gradients) {
            let mut part = vec![f32::NAN; shape.transformed_len()];
            weight_gradient::transformed(shape, input, gradient, &mut part);
            sums.extend(part);
        }
        let mut to = vec![f32::NAN; shape.conv.weights_len()];
        for (block, to) in to.chunks_exact_mut(BLOCK * TAPS * shape.conv.channels).enumerate() {
            weight_gradient::unpack(shape, &sums, block, to);
        }
        to
    }
}

fn indices(sizes: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..sizes[0]).flat_map(move |a| (0..sizes[1]).flat_map(move |b| (0..sizes[2]).map(move |c| (a, b, c))))
}

fn packed(shape: &Shape, direction: Filters, filters: &[f32]) -> Vec<f32> {
    let inputs = if direction == Filters::Forward { shape.conv.channels } else { shape.conv.filters };
    let mut all = vec![f32::NAN; shape.transformed_len()];
    for (block, to) in all.chunks_exact_mut(shape.tile.places() * inputs * BLOCK).enumerate() {
        pack(shape, direction, filters, block, to);
    }
    all
}

/// The largest error, relative to the largest value.
fn error(actual: &[f32], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    let differences = actual.iter().zip(expected).map(|(actual, expected)| (f64::from(*actual) - expected).abs());
    // `max` would ignore NaN.
    differences.fold(0.0, |max: f64, error| if error <= max { max } else { error }) / largest.max(1e-30)
}

#[test]
fn matches_its_definition() {
    for_each_isa(|_| {
        // Sizes that no tile divides, one pixel, more tiles than a block has, and every padding.
        let sizes = [(7, 5, 16, 16, 1), (1, 1, 16, 32, 1), (3, 4, 32, 16, 0), (13, 11, 48, 16, 2), (24, 24, 16, 48, 1)];
        for (tile, (height, width, channels, filters, padding)) in
            TILES.into_iter().flat_map(|tile| sizes.map(|size| (tile, size)))
        {
            let shape =
                Shape { conv: conv::Shape { height, width, channels, filters, padding }, tile, max_pool: false };
            let case = Case::new(shape, 3);
            for (result, (actual, expected)) in case.results(None).iter().zip(case.reference()).enumerate() {
                let error = error(actual, &expected);
                assert!(error < 4e-6, "{shape:?}, result {result}: {error:.1e}, {:?}", isa());
            }
        }
    });
}

/// The rounding errors that the documentation states, for a layer of 128 channels.
#[test]
fn rounding_errors_are_bounded() {
    for (tile, bounds) in TILES.into_iter().zip([[1e-6; 3], [3e-6; 3], [4e-6; 3]]) {
        let conv = conv::Shape { height: 12, width: 12, channels: 128, filters: 128, padding: 1 };
        let shape = Shape { conv, tile, max_pool: false };
        let case = Case::new(shape, 2);
        let errors: Vec<f64> = case
            .results(None)
            .iter()
            .zip(case.reference())
            .map(|(actual, expected)| error(actual, &expected))
            .collect();
        println!(
            "{tile:?}: output {:.1e}, input gradient {:.1e}, filter gradient {:.1e}",
            errors[0], errors[1], errors[2]
        );
        assert!(errors.iter().zip(bounds).all(|(error, bound)| *error < bound), "{tile:?}: {errors:?}");
    }
}

#[test]
fn adds_the_bias() {
    for_each_isa(|_| {
        let conv = conv::Shape { height: 5, width: 6, channels: 16, filters: 32, padding: 0 };
        let shape = Shape { conv, tile: TileSize::Four, max_pool: false };
        let case = Case::new(shape, 2);
        let bias = noise(32, 4);
        let [without, with] = [None, Some(&bias[..])].map(|bias| case.results(bias)[0].clone());
        let expected = without.iter().zip(bias.iter().cycle()).map(|(value, bias)| value + bias);
        assert!(with.iter().copied().eq(expected));
    });
}

#[test]
fn pooled_outputs_are_the_maxima() {
    for_each_isa(|_| {
        // Of the 11 rows and columns of the last two, the last is in a tile but not pooled.
        let sizes = [
            (23, 23, 32, 64, 0),
            (10, 10, 16, 32, 0),
            (6, 9, 16, 16, 1),
            (2, 3, 16, 16, 2),
            (12, 8, 32, 16, 1),
            (13, 13, 16, 16, 0),
            (9, 13, 16, 32, 0),
        ];
        for (tile, (height, width, channels, filters, padding)) in
            [TileSize::Two, TileSize::Four].into_iter().flat_map(|tile| sizes.map(|size| (tile, size)))
        {
            let conv = conv::Shape { height, width, channels, filters, padding };
            let error = pooling_error(&Case::new(Shape { conv, tile, max_pool: false }, 3));
            assert!(error < 4e-6, "{conv:?}, {tile:?}: {error:.1e}, {:?}", isa());
        }
    });
}

/// Pools the images of `case`, checks every argmax, and returns the largest error of the maxima, relative
/// to the largest value.
fn pooling_error(case: &Case) -> f64 {
    let [output, ..] = case.reference();
    let conv = case.shape.conv;
    let bias = noise(conv.filters, 4);
    let (pooled, argmax) = pooled(case, &case.input, &bias);
    let expected: Vec<f64> = argmax
        .iter()
        .enumerate()
        .map(|(index, argmax)| {
            let four = pooled_from(&conv, index).map(|at| output[at]);
            let max = four.into_iter().fold(f64::NEG_INFINITY, f64::max);
            assert!(four[usize::from(*argmax)] > max - 1e-4, "{:?}, {index}: {argmax} of {four:?}", case.shape);
            max + f64::from(bias[index % conv.filters])
        })
        .collect();
    error(&pooled, &expected)
}

/// The maxima of the convolution of `input` with the filters of `case`, and their argmax.
fn pooled<E: Element>(case: &Case, input: &[E], bias: &[f32]) -> (Vec<E>, Vec<u8>) {
    let shape = Shape { max_pool: true, ..case.shape };
    let count = input.len() / shape.conv.input_len() * shape.conv.pooled_len();
    let (mut pooled, mut argmax) = (vec![E::from_f32(f32::NAN); count], vec![9; count]);
    let packed = packed(&shape, Filters::Forward, &case.filters);
    forward_max_pool(&shape, input, &packed, bias, &mut pooled, &mut argmax);
    (pooled, argmax)
}

#[test]
fn rows_that_are_not_pooled_need_no_tiles() {
    let conv = conv::Shape { height: 23, width: 23, channels: 16, filters: 16, padding: 0 };
    let tiles = [false, true].map(|max_pool| Shape { conv, tile: TileSize::Four, max_pool }.tiles_per_image());
    assert_eq!(tiles, [36, 25], "21 outputs, of which 20 are pooled");
}

#[test]
fn of_equal_outputs_the_first_is_the_maximum() {
    for_each_isa(|_| {
        let conv = conv::Shape { height: 10, width: 10, channels: 16, filters: 16, padding: 0 };
        let case = Case::new(Shape { conv, tile: TileSize::Four, max_pool: false }, 1);
        let (maxima, argmax) = pooled(&case, &vec![0.0f32; conv.input_len()], &[0.5; 16]);
        assert!(maxima.iter().all(|max| *max == 0.5) && argmax.iter().all(|argmax| *argmax == 0));
    });
}

/// As PyTorch's `max_pool2d`, and the direct kernel.
#[test]
fn nan_is_the_maximum() {
    for_each_isa(|_| {
        let conv = conv::Shape { height: 6, width: 6, channels: 16, filters: 16, padding: 0 };
        let mut case = Case::new(Shape { conv, tile: TileSize::Four, max_pool: false }, 1);
        // The last pixel reaches only the last output, which is the fourth of the last maximum.
        *case.input.last_mut().unwrap() = f32::NAN;
        let (maxima, argmax) = pooled(&case, &case.input, &[0.0; 16]);
        let (others, last) = maxima.split_at(3 * 16);
        assert!(others.iter().all(|max| max.is_finite()) && last.iter().all(|max| max.is_nan()), "{maxima:?}");
        assert!(argmax[3 * 16..].iter().all(|argmax| *argmax == 3), "{argmax:?}");
    });
}

#[test]
fn bf16_is_rounded_once() {
    for_each_isa(|_| {
        for tile in TILES {
            let conv = conv::Shape { height: 7, width: 9, channels: 32, filters: 16, padding: 1 };
            let shape = Shape { conv, tile, max_pool: false };
            let mut case = Case::new(shape, 3);
            let [input, gradient] = [&case.input, &case.gradient]
                .map(|values| values.iter().map(|value| bf16::from_f32(*value)).collect::<Vec<bf16>>());
            case.input = input.iter().map(|value| value.to_f32()).collect();
            case.gradient = gradient.iter().map(|value| value.to_f32()).collect();
            let mut output = vec![bf16::NAN; gradient.len()];
            forward(&shape, &input, &packed(&shape, Filters::Forward, &case.filters), None, &mut output);
            let expected = &case.results(None)[0];
            assert!(output.iter().zip(expected).all(|(one, other)| *one == bf16::from_f32(*other)), "{tile:?}");
            let [mut sums, mut expected] = [(); 2].map(|()| vec![f32::NAN; shape.transformed_len()]);
            weight_gradient::transformed(&shape, &input, &gradient, &mut sums);
            weight_gradient::transformed(&shape, &case.input, &case.gradient, &mut expected);
            assert!(sums == expected, "{tile:?}");
            if tile == TileSize::Three {
                continue;
            }
            let bias = noise(16, 4);
            let ((maxima, argmax), expected) = (pooled(&case, &input, &bias), pooled(&case, &case.input, &bias));
            assert!(maxima.iter().zip(&expected.0).all(|(one, other)| *one == bf16::from_f32(*other)), "{tile:?}");
            assert!(argmax == expected.1, "{tile:?}");
        }
    });
}

#[test]
fn an_image_has_the_same_output_in_any_batch() {
    for_each_isa(|_| {
        for tile in TILES {
            let conv = conv::Shape { height: 12, width: 10, channels: 32, filters: 16, padding: 1 };
            let shape = Shape { conv, tile, max_pool: false };
            let case = Case::new(shape, 30);
            assert!(case.weight_gradient(7) == case.weight_gradient(7), "{tile:?}");
            let one = Case { images: 1, input: case.input[..shape.conv.input_len()].to_vec(), ..Case::new(shape, 1) };
            let [all, first] = [&case, &one].map(|case| case.results(None)[0].clone());
            assert!(all[..shape.conv.conv_len()] == first, "{tile:?}");
            if tile != TileSize::Three {
                let [all, first] = [&case, &one].map(|case| pooled(case, &case.input, &[0.5; 16]));
                assert!(all.0[..conv.pooled_len()] == first.0 && all.1[..conv.pooled_len()] == first.1, "{tile:?}");
            }
        }
    });
}

#[test]
fn unsupported_shapes() {
    let good = conv::Shape { height: 6, width: 6, channels: 16, filters: 16, padding: 1 };
    let is_supported = |conv| Shape { conv, tile: TileSize::Two, max_pool: false }.is_supported();
    assert!(is_supported(good));
    for (tile, can_pool) in [(TileSize::Two, true), (TileSize::Three, false), (TileSize::Four, true)] {
        assert_eq!(Shape { conv: good, tile, max_pool: true }.is_supported(), can_pool, "{tile:?}");
    }
    let one_pixel = conv::Shape { height: 3, padding: 0, ..good };
    assert!(is_supported(one_pixel) && !Shape { conv: one_pixel, tile: TileSize::Two, max_pool: true }.is_supported());
    for bad in [
        conv::Shape { height: 0, ..good },
        conv::Shape { channels: 24, ..good },
        conv::Shape { filters: 0, ..good },
        conv::Shape { padding: 3, ..good },
        conv::Shape { width: 2, padding: 0, ..good },
    ] {
        assert!(!is_supported(bad), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_size_matches_its_definition(
        height in 1usize..20, width in 1usize..20, blocks in (1usize..4, 1usize..4), padding in 0usize..3,
        tile in 0usize..3, images in 1usize..4,
    ) {
        let (channels, filters) = (blocks.0 * BLOCK, blocks.1 * BLOCK);
        let conv = conv::Shape { height, width, channels, filters, padding };
        let shape = Shape { conv, tile: TILES[tile], max_pool: false };
        prop_assume!(shape.is_supported());
        let case = Case::new(shape, images);
        for (actual, expected) in case.results(None).iter().zip(case.reference()) {
            prop_assert!(error(actual, &expected) < 1e-5);
        }
        let pooling = Shape { max_pool: true, ..shape };
        if pooling.is_supported() {
            prop_assert!(pooling_error(&case) < 1e-5);
        }
    }
}
