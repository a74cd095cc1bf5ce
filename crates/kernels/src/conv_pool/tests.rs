use proptest::prelude::*;

use super::*;
use crate::isa::tests::for_each_isa;
use crate::{Element, bf16};

/// Pseudorandom values in -1..1.
fn numbers(count: usize, salt: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| {
            let mixed =
                (i.wrapping_add(salt << 20)).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519);
            mixed as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

/// Reference implementation of the convolution, in `f64`.
fn reference_conv(shape: &Shape, input: &[f32], filters: &[f32]) -> Vec<f64> {
    let mut result = Vec::new();
    for image in input.chunks_exact(shape.input_len()) {
        for row in 0..shape.conv_height() {
            for column in 0..shape.conv_width() {
                for filter in filters.chunks_exact(TAPS * shape.channels) {
                    let mut sum = 0.0;
                    for_each_tap(shape, row, column, |tap, pixel| {
                        for channel in 0..shape.channels {
                            sum += f64::from(image[pixel * shape.channels + channel])
                                * f64::from(filter[tap * shape.channels + channel]);
                        }
                    });
                    result.push(sum);
                }
            }
        }
    }
    result
}

fn for_each_tap(shape: &Shape, row: usize, column: usize, mut visit: impl FnMut(usize, usize)) {
    for tap in 0..TAPS {
        let (y, x) = (row + tap / KERNEL, column + tap % KERNEL);
        let inside = |at: usize, side: usize| at >= shape.padding && at < side + shape.padding;
        if inside(y, shape.height) && inside(x, shape.width) {
            visit(tap, (y - shape.padding) * shape.width + x - shape.padding);
        }
    }
}

/// Indices of the four values that pooled value `index` is the maximum of.
pub(crate) fn pooled_from(shape: &Shape, index: usize) -> [usize; 4] {
    let (place, filter) = (index / shape.filters, index % shape.filters);
    let (place, column) = (place / shape.pooled_width(), place % shape.pooled_width());
    let (image, row) = (place / shape.pooled_height(), place % shape.pooled_height());
    [0, 1, 2, 3].map(|kind| {
        let pixel = (2 * row + kind / 2) * shape.conv_width() + 2 * column + kind % 2;
        image * shape.conv_len() + pixel * shape.filters + filter
    })
}

struct Expected {
    filters: Vec<f64>,
    bias: Vec<f64>,
    input: Vec<f64>,
}

/// Reference implementation of the gradients: the pooled gradient is scattered to the convolution's
/// output, then the dense backward pass runs.
fn reference_backward(shape: &Shape, input: &[f32], filters: &[f32], argmax: &[u8], gradient: &[f32]) -> Expected {
    let mut expected = Expected {
        filters: vec![0.0; shape.weights_len()],
        bias: vec![0.0; shape.filters],
        input: vec![0.0; input.len()],
    };
    for (index, (argmax, gradient)) in argmax.iter().zip(gradient).enumerate() {
        let (place, filter) = (index / shape.filters, index % shape.filters);
        let (place, column) = (place / shape.pooled_width(), place % shape.pooled_width());
        let (image, row) = (place / shape.pooled_height(), place % shape.pooled_height());
        let gradient = f64::from(*gradient);
        expected.bias[filter] += gradient;
        let (row, column) = (2 * row + usize::from(argmax / 2), 2 * column + usize::from(argmax % 2));
        for_each_tap(shape, row, column, |tap, pixel| {
            for channel in 0..shape.channels {
                let at_filter = (filter * TAPS + tap) * shape.channels + channel;
                let at_input = image * shape.input_len() + pixel * shape.channels + channel;
                expected.filters[at_filter] += gradient * f64::from(input[at_input]);
                expected.input[at_input] += gradient * f64::from(filters[at_filter]);
            }
        });
    }
    expected
}

fn close(ours: impl Iterator<Item = f32>, expected: &[f64], tolerance: f64) -> Result<(), TestCaseError> {
    let scale = expected.iter().fold(1e-3f64, |max, value| max.max(value.abs()));
    let mut count = 0;
    for (index, (ours, expected)) in ours.zip(expected).enumerate() {
        prop_assert!((f64::from(ours) - expected).abs() <= tolerance * scale, "{index}: {ours}, expected {expected}");
        count += 1;
    }
    prop_assert_eq!(count, expected.len());
    Ok(())
}

fn check<E: Element>(shape: &Shape, images: usize, tolerance: f64) -> Result<(), TestCaseError> {
    let element = |values: Vec<f32>| values.into_iter().map(E::from_f32).collect::<Vec<E>>();
    let float = |values: &[E]| values.iter().map(|value| value.to_f32()).collect::<Vec<f32>>();
    let input = element(numbers(images * shape.input_len(), 1));
    let filters = numbers(shape.weights_len(), 2);
    let bias = numbers(shape.filters, 3);

    let weights = element(filters.clone());
    let conv = reference_conv(shape, &float(&input), &float(&weights));
    let (mut pooled, mut argmax) =
        (vec![E::default(); images * shape.pooled_len()], vec![9; images * shape.pooled_len()]);
    forward(shape, &input, &pack_for_forward(shape, &weights), &bias, &mut pooled, &mut argmax);
    let mut expected = Vec::new();
    for (index, argmax) in argmax.iter().enumerate() {
        let four = pooled_from(shape, index).map(|at| conv[at]);
        let max = four.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        expected.push(max + f64::from(bias[index % shape.filters]));
        prop_assert!(four[usize::from(*argmax)] > max - 1e-4, "{index}: {argmax} of {four:?}");
    }
    close(float(&pooled).into_iter(), &expected, tolerance)?;

    // About half of the values are zero, as after ReLU.
    let gradient = element(numbers(pooled.len(), 4).into_iter().map(|value| value.max(0.0)).collect());
    let expected = reference_backward(shape, &float(&input), &filters, &argmax, &float(&gradient));
    let saved = Saved { input: &input, argmax: &argmax, gradient: &gradient };
    let mut filter_gradient = vec![0.0; shape.weights_len()];
    let mut bias_gradient = vec![0.0; shape.filters];
    let mut input_gradient = element(vec![7.0; input.len()]);
    let packed = if shape.channels > 1 { pack_for_backward(shape, &filters) } else { Vec::new() };
    let mut gradients = Gradients {
        filters: &mut filter_gradient,
        bias: &mut bias_gradient,
        input: (shape.channels > 1).then_some((&mut input_gradient[..], &packed[..])),
    };
    backward(shape, &saved, &mut gradients);
    close(filter_gradient.iter().copied(), &expected.filters, 1e-5)?;
    close(bias_gradient.iter().copied(), &expected.bias, 1e-5)?;
    if shape.channels > 1 {
        close(float(&input_gradient).into_iter(), &expected.input, tolerance)?;
    }
    Ok(())
}

/// An image of constant patches, so that pixels are equal, and a filter that copies its pixel.
#[test]
fn the_first_of_equal_pixels_is_the_argmax() {
    for_each_isa(|isa| {
        for channels in [1, 32] {
            let shape = Shape { height: 8, width: 8, channels, filters: 48, padding: 0 };
            let mut filters = vec![0.0; shape.weights_len()];
            filters.iter_mut().skip(TAPS / 2 * channels).step_by(TAPS * channels).for_each(|weight| *weight = 1.0);
            let mut input = vec![0.0; shape.input_len()];
            for (pixel, value) in input.iter_mut().step_by(channels).enumerate() {
                let (row, column) = (pixel / 8, pixel % 8);
                *value = if row == 2 && (3..5).contains(&column) { 1.0 } else { 0.5 };
            }
            let (mut pooled, mut argmax) = (vec![0.0; shape.pooled_len()], vec![9; shape.pooled_len()]);
            let packed = pack_for_forward(&shape, &filters);
            forward(&shape, &input, &packed, &[0.25; 48], &mut pooled, &mut argmax);
            for (index, (value, argmax)) in pooled.iter().zip(&argmax).enumerate() {
                let (row, column) = (index / 48 / 3, index / 48 % 3);
                // The filter's center is one pixel further down and right: the lower two of four are 1.
                let expected = match (row, column) {
                    (0, 1) => (1.25, 2),
                    _ => (0.75, 0),
                };
                assert_eq!((*value, *argmax), expected, "{isa:?}, {channels} channels, {row} {column}");
            }
        }
    });
}

#[test]
fn nan_is_the_maximum_and_propagates() {
    for_each_isa(|isa| {
        for channels in [1, 32] {
            let shape = Shape { height: 8, width: 8, channels, filters: 32, padding: 0 };
            let mut input = numbers(shape.input_len(), 2);
            input[(3 * 8 + 3) * channels] = f32::NAN;
            let weights = pack_for_forward(&shape, &numbers(shape.weights_len(), 3));
            let (mut pooled, mut argmax) = (vec![0.0; shape.pooled_len()], vec![0; shape.pooled_len()]);
            forward(&shape, &input, &weights, &[0.5; 32], &mut pooled, &mut argmax);
            // The NaN reaches rows and columns 1 to 3 of the convolution: two of three pooled ones
            // each way.
            let expected = |index: usize| index / 32 % 3 < 2 && index / 96 < 2;
            for (index, value) in pooled.iter().enumerate() {
                assert_eq!(value.is_nan(), expected(index), "{isa:?}: {index}");
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn matches_reference(
        height in 2usize..26, width in 2usize..26, channels in 0usize..4, filters in 1usize..5, padding in 0usize..2,
        many in 1usize..20,
    ) {
        let channels = if channels == 0 { 1 } else { 16 * channels };
        let shape = Shape { height, width, channels, filters: 16 * filters, padding };
        prop_assume!(shape.can_pool());
        // The reference is slow, so only small images come in large batches.
        let images = if height * width * channels * filters < 4000 { many } else { many.min(2) };
        let mut result = Ok(());
        for_each_isa(|isa| {
            let both = check::<f32>(&shape, images, 1e-5).and_then(|()| check::<bf16>(&shape, images, 4e-3));
            result = result.clone().and(both.map_err(|error| TestCaseError::fail(format!("{isa:?}: {error}"))));
        });
        result?;
    }
}
