//! Max-pooling of a convolution's result, which remembers the winners.

use super::Shape;
use crate::dispatch::compiled;
use crate::{Element, conv_pool::BLOCK};

/// Pools `conv` (images [conv rows, conv columns, filters]) 2x2, adds `bias` (one for each filter) and writes `pooled`
/// ([pooled rows, pooled columns, filters]) and the `winners`: 0 to 3, row by row, the first of equals.
///
/// A NaN among the four wins, as in PyTorch's `max_pool2d`.
///
/// # Panics
/// When a slice has another length than `shape` and the other slices say.
pub fn pool<E: Element>(shape: &Shape, conv: &[E], bias: &[f32], pooled: &mut [E], winners: &mut [u8]) {
    let images = conv.len() / shape.conv_len();
    assert_eq!(conv.len(), images * shape.conv_len());
    assert_eq!(pooled.len(), images * shape.pooled_len());
    assert_eq!(winners.len(), pooled.len());
    assert_eq!(bias.len(), shape.filters);
    run(shape, conv, bias, pooled, winners);
}

compiled! {
    fn run<E: Element>(shape: &Shape, conv: &[E], bias: &[f32], pooled: &mut [E], winners: &mut [u8]) = body
}

#[inline(always)]
fn body<E: Element>(shape: &Shape, conv: &[E], bias: &[f32], pooled: &mut [E], winners: &mut [u8]) {
    let (filters, columns) = (shape.filters, shape.pooled_width());
    let row_len = shape.conv_width() * filters;
    let rows = pooled.chunks_exact_mut(columns * filters).zip(winners.chunks_exact_mut(columns * filters));
    for (index, (pooled, winners)) in rows.enumerate() {
        let (image, row) = (index / shape.pooled_height(), index % shape.pooled_height());
        let top = &conv[image * shape.conv_len() + 2 * row * row_len..][..2 * row_len];
        let (top, bottom) = top.split_at(row_len);
        for column in 0..columns {
            let pair = 2 * column * filters..(2 * column + 2) * filters;
            let (top, bottom) = (&top[pair.clone()], &bottom[pair]);
            let out = column * filters..(column + 1) * filters;
            let (pooled, winners) = (&mut pooled[out.clone()], &mut winners[out]);
            for start in (0..filters).step_by(BLOCK) {
                let block = |from: &[E], at: usize| -> [f32; BLOCK] {
                    let from = &from[at..][..BLOCK];
                    std::array::from_fn(|lane| from[lane].to_f32())
                };
                let mut best = block(top, start);
                let mut winner = [0u32; BLOCK];
                for (number, from, at) in [(1, top, start + filters), (2, bottom, start), (3, bottom, start + filters)]
                {
                    let other = block(from, at);
                    for lane in 0..BLOCK {
                        let wins = other[lane] > best[lane] || other[lane].is_nan();
                        best[lane] = if wins { other[lane] } else { best[lane] };
                        winner[lane] = if wins { number } else { winner[lane] };
                    }
                }
                let bias = &bias[start..][..BLOCK];
                let (pooled, winners) = (&mut pooled[start..][..BLOCK], &mut winners[start..][..BLOCK]);
                for lane in 0..BLOCK {
                    pooled[lane] = E::from_f32(best[lane] + bias[lane]);
                    winners[lane] = winner[lane] as u8;
                }
            }
        }
    }
}
