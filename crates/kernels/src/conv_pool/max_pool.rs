//! 2x2 max-pooling that also returns the argmax.

use super::Shape;
use crate::dispatch::multiversion;
use crate::{Element, conv_pool::BLOCK};

/// Pools `conv` ([N, conv height, conv width, filters]) 2x2 with stride 2, adds `bias`
/// (`[filters]`), and writes `pooled` and `argmax` (both [N, pooled height, pooled width,
/// filters]).
///
/// The argmax is 0 to 3 in row-major order of the four pixels, the first of equal values. NaN
/// counts as the maximum, as in PyTorch's `max_pool2d`.
///
/// # Panics
/// If the lengths of the slices disagree with `shape` or with one another.
pub fn max_pool<E: Element>(shape: &Shape, conv: &[E], bias: &[f32], pooled: &mut [E], argmax: &mut [u8]) {
    let images = conv.len() / shape.conv_len();
    assert_eq!(conv.len(), images * shape.conv_len());
    assert_eq!(pooled.len(), images * shape.pooled_len());
    assert_eq!(argmax.len(), pooled.len());
    assert_eq!(bias.len(), shape.filters);
    run(shape, conv, bias, pooled, argmax);
}

multiversion! {
    fn run<E: Element>(shape: &Shape, conv: &[E], bias: &[f32], pooled: &mut [E], argmax: &mut [u8]) = body
}

#[inline(always)]
fn body<E: Element>(shape: &Shape, conv: &[E], bias: &[f32], pooled: &mut [E], argmax: &mut [u8]) {
    let (filters, columns) = (shape.filters, shape.pooled_width());
    let row_len = shape.conv_width() * filters;
    let rows = pooled.chunks_exact_mut(columns * filters).zip(argmax.chunks_exact_mut(columns * filters));
    for (index, (pooled, argmax)) in rows.enumerate() {
        let (image, row) = (index / shape.pooled_height(), index % shape.pooled_height());
        let top = &conv[image * shape.conv_len() + 2 * row * row_len..][..2 * row_len];
        let (top, bottom) = top.split_at(row_len);
        for column in 0..columns {
            let pair = 2 * column * filters..(2 * column + 2) * filters;
            let (top, bottom) = (&top[pair.clone()], &bottom[pair]);
            let out = column * filters..(column + 1) * filters;
            let (pooled, argmax) = (&mut pooled[out.clone()], &mut argmax[out]);
            for start in (0..filters).step_by(BLOCK) {
                let block = |from: &[E], at: usize| -> [f32; BLOCK] {
                    let from = &from[at..][..BLOCK];
                    std::array::from_fn(|lane| from[lane].to_f32())
                };
                let mut best = block(top, start);
                let mut index = [0u32; BLOCK];
                for (number, from, at) in [(1, top, start + filters), (2, bottom, start), (3, bottom, start + filters)]
                {
                    let other = block(from, at);
                    for lane in 0..BLOCK {
                        let is_max = other[lane] > best[lane] || other[lane].is_nan();
                        best[lane] = if is_max { other[lane] } else { best[lane] };
                        index[lane] = if is_max { number } else { index[lane] };
                    }
                }
                let bias = &bias[start..][..BLOCK];
                let (pooled, argmax) = (&mut pooled[start..][..BLOCK], &mut argmax[start..][..BLOCK]);
                for lane in 0..BLOCK {
                    pooled[lane] = E::from_f32(best[lane] + bias[lane]);
                    argmax[lane] = index[lane] as u8;
                }
            }
        }
    }
}
