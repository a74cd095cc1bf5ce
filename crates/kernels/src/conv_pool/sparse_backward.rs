//! Sparse backward pass of convolution and pooling, from the nonzero pooled gradients only.

use simd::{Task, Vector};

use super::tiling::{Tiling, repack, unpack};
use super::{BLOCK, KERNEL, Shape, TAPS};
use crate::{Element, isa};

/// Filters per group: their weights stay in the first-level cache while the input's gradient is
/// computed.
const FILTER_GROUP: usize = 32;

/// Tensors saved by the forward pass, and the gradient of the output, all of the same N images.
#[derive(Debug)]
pub struct Saved<'a, E> {
    /// Input, [N, H, W, C].
    pub input: &'a [E],
    /// Argmax of each pooled value, 0 to 3, as written by [`forward`](super::forward).
    pub argmax: &'a [u8],
    /// Gradient of the loss with respect to the pooled output, [N, pooled height, pooled width, F].
    pub gradient: &'a [E],
}

/// Gradients that [`backward`] computes. It accumulates into `filters` and `bias`, and overwrites
/// `input`.
#[derive(Debug)]
pub struct Gradients<'a, E> {
    /// Gradient of the filters, [F, 3, 3, C].
    pub filters: &'a mut [f32],
    /// Gradient of the bias, `[F]`.
    pub bias: &'a mut [f32],
    /// Gradient of the input, [N, H, W, C], and the filters from [`pack_for_backward`]; `None` if
    /// it is not required.
    pub input: Option<(&'a mut [E], &'a [f32])>,
}

/// A nonzero gradient of a pooled value.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Index of a pixel of the tile, or of a filter.
    at: u32,
    value: f32,
}

/// Packs filters [F, 3, 3, C] for [`backward`] as [channel blocks, F, 3, 3, 16].
///
/// # Panics
/// If the length of `filters` disagrees with `shape`.
pub fn pack_for_backward(shape: &Shape, filters: &[f32]) -> Vec<f32> {
    assert_eq!(filters.len(), shape.weights_len());
    let mut packed = Vec::with_capacity(filters.len());
    for block in 0..shape.blocks() {
        for tap in filters.chunks_exact(shape.channels) {
            packed.extend_from_slice(&tap[block * BLOCK..][..BLOCK]);
        }
    }
    packed
}

/// Accumulates the gradients of filters and bias, and writes that of the input. Sums are `f32`, in
/// the order of the images.
///
/// # Panics
/// If the lengths of the slices disagree with `shape` or with one another, the shape is not supported,
/// or an argmax is above 3.
pub fn backward<E: Element>(shape: &Shape, saved: &Saved<'_, E>, gradients: &mut Gradients<'_, E>) {
    let images = saved.input.len() / shape.input_len();
    assert!(shape.can_pool(), "no backward kernel for this shape");
    assert_eq!(saved.input.len(), images * shape.input_len());
    assert_eq!(saved.gradient.len(), images * shape.pooled_len());
    assert_eq!(saved.argmax.len(), saved.gradient.len());
    assert_eq!(gradients.filters.len(), shape.weights_len());
    assert_eq!(gradients.bias.len(), shape.filters);
    if let Some((input, packed)) = &gradients.input {
        assert_eq!(input.len(), saved.input.len());
        assert_eq!(packed.len(), shape.weights_len());
        assert!(shape.channels > 1, "the gradient of a one-channel input is not implemented");
    }
    simd::run(isa(), Backward { shape, images, saved, gradients });
}

struct Backward<'a, 'b, 'c, E> {
    shape: &'a Shape,
    images: usize,
    saved: &'a Saved<'b, E>,
    gradients: &'a mut Gradients<'c, E>,
}

impl<E: Element> Task for Backward<'_, '_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        backward_with::<V, E>(self.shape, self.images, self.saved, self.gradients);
    }
}

#[inline(always)]
fn backward_with<V: Vector, E: Element>(
    shape: &Shape,
    images: usize,
    saved: &Saved<'_, E>,
    gradients: &mut Gradients<'_, E>,
) {
    for gradient in saved.gradient.chunks_exact(shape.filters) {
        for (sum, value) in gradients.bias.iter_mut().zip(gradient) {
            *sum += value.to_f32();
        }
    }
    let tiling = Tiling::new(shape);
    let mut by_filter = ByFilter::new(shape, &tiling);
    let mut by_pixel = ByPixel::new(shape, &tiling);
    let pixels = shape.padded_height() * shape.padded_width();
    let mut unpacked = vec![0.0; tiling.images * pixels * shape.blocks() * shape.channels.min(BLOCK)];
    let mut input_gradient = vec![0.0; if gradients.input.is_some() { unpacked.len() } else { 0 }];
    for first in (0..images).step_by(tiling.images) {
        let count = tiling.images.min(images - first);
        let pooled = first * shape.pooled_len()..(first + count) * shape.pooled_len();
        let tile = Tile { shape, count, gradient: &saved.gradient[pooled.clone()], argmax: &saved.argmax[pooled] };
        let of_input = first * shape.input_len()..(first + count) * shape.input_len();
        unpack(shape, count, &saved.input[of_input.clone()], &mut unpacked);
        if shape.channels == 1 {
            one_channel::<V, E>(&tile, &unpacked, gradients.filters);
        } else {
            for row in (0..shape.pooled_height()).step_by(tiling.rows) {
                by_filter.fill(&tile, row..(row + tiling.rows).min(shape.pooled_height()));
                by_filter.add::<V>(&tile, &unpacked, gradients.filters);
            }
        }
        if let Some((input, packed)) = &mut gradients.input {
            input_gradient.fill(0.0);
            for filter in (0..shape.filters).step_by(FILTER_GROUP) {
                by_pixel.fill(&tile, filter..(filter + FILTER_GROUP).min(shape.filters));
                by_pixel.add::<V>(&tile, packed, &mut input_gradient);
            }
            repack(shape, count, &input_gradient, &mut input[of_input]);
        }
    }
}

/// Images of one tile: their gradients and argmax.
struct Tile<'a, E> {
    shape: &'a Shape,
    count: usize,
    gradient: &'a [E],
    argmax: &'a [u8],
}

impl<E> Tile<'_, E> {
    /// Index of the first of the four pixels under a pooled pixel, in an unpacked image.
    #[inline(always)]
    fn corner(&self, image: usize, row: usize, column: usize) -> usize {
        (image * self.shape.padded_height() + 2 * row) * self.shape.padded_width() + 2 * column
    }

    /// Start of a pooled pixel in `gradient` and `argmax`.
    #[inline(always)]
    fn pooled(&self, image: usize, row: usize, column: usize) -> usize {
        ((image * self.shape.pooled_height() + row) * self.shape.pooled_width() + column) * self.shape.filters
    }

    /// Start of a block of channels in unpacked images.
    #[inline(always)]
    fn block(&self, block: usize) -> usize {
        block * self.count * self.shape.padded_height() * self.shape.padded_width() * BLOCK
    }
}

/// Nonzero gradients of each filter with the pixel that each belongs to.
struct ByFilter {
    capacity: usize,
    entries: Vec<Entry>,
    counts: Vec<usize>,
}

impl ByFilter {
    fn new(shape: &Shape, tiling: &Tiling) -> Self {
        let capacity = tiling.images * tiling.rows * shape.pooled_width();
        // One more place: zero values are written without a branch and then overwritten.
        let capacity = capacity + 1;
        Self { capacity, entries: vec![Entry::default(); capacity * shape.filters], counts: vec![0; shape.filters] }
    }

    #[inline(always)]
    fn fill<E: Element>(&mut self, tile: &Tile<'_, E>, rows: std::ops::Range<usize>) {
        let shape = tile.shape;
        let width = shape.padded_width();
        let steps = [0, 1, width, width + 1];
        self.counts.fill(0);
        for image in 0..tile.count {
            for row in rows.clone() {
                for column in 0..shape.pooled_width() {
                    let corner = tile.corner(image, row, column);
                    let start = tile.pooled(image, row, column);
                    let gradient = &tile.gradient[start..][..shape.filters];
                    let argmax = &tile.argmax[start..][..shape.filters];
                    let lists = self.entries.chunks_exact_mut(self.capacity).zip(&mut self.counts);
                    for ((gradient, argmax), (list, count)) in gradient.iter().zip(argmax).zip(lists) {
                        let value = gradient.to_f32();
                        list[*count] = Entry { at: (corner + steps[usize::from(*argmax)]) as u32, value };
                        *count += usize::from(value != 0.0);
                    }
                }
            }
        }
    }

    /// Adds the input around each pixel times its gradient to the gradient of each filter.
    #[inline(always)]
    fn add<V: Vector>(&self, tile: &Tile<'_, impl Element>, unpacked: &[f32], filters: &mut [f32]) {
        let shape = tile.shape;
        let row = shape.padded_width() * BLOCK;
        for block in 0..shape.blocks() {
            let unpacked = &unpacked[tile.block(block)..];
            let lists = self.entries.chunks_exact(self.capacity).zip(&self.counts);
            for ((list, count), filter) in lists.zip(filters.chunks_exact_mut(TAPS * shape.channels)) {
                for lane in (0..BLOCK).step_by(V::LANES) {
                    let mut sums = [V::splat(0.0); TAPS];
                    for entry in &list[..*count] {
                        let value = V::splat(entry.value);
                        let start = entry.at as usize * BLOCK + lane;
                        for tap_row in 0..KERNEL {
                            let input = &unpacked[start + tap_row * row..][..(KERNEL - 1) * BLOCK + V::LANES];
                            for tap in 0..KERNEL {
                                let sum = &mut sums[tap_row * KERNEL + tap];
                                *sum = V::load(&input[tap * BLOCK..]).mul_add(value, *sum);
                            }
                        }
                    }
                    for (tap, sum) in filter.chunks_exact_mut(shape.channels).zip(sums) {
                        let to = &mut tap[block * BLOCK + lane..][..V::LANES];
                        V::load(to).add(sum).store(to);
                    }
                }
            }
        }
    }
}

/// Nonzero gradients of a group of filters at each pooled pixel, sorted by argmax.
struct ByPixel {
    /// [pooled pixel][FILTER_GROUP], sorted by argmax.
    entries: Vec<Entry>,
    /// [pooled pixel]: the end of the entries of each argmax.
    ends: Vec<[u8; 4]>,
    group: std::ops::Range<usize>,
}

impl ByPixel {
    fn new(shape: &Shape, tiling: &Tiling) -> Self {
        let pixels = tiling.images * shape.pooled_height() * shape.pooled_width();
        Self { entries: vec![Entry::default(); pixels * FILTER_GROUP], ends: vec![[0; 4]; pixels], group: 0..0 }
    }

    #[inline(always)]
    fn fill<E: Element>(&mut self, tile: &Tile<'_, E>, group: std::ops::Range<usize>) {
        let shape = tile.shape;
        self.group = group.clone();
        let pixels = tile.gradient.chunks_exact(shape.filters).zip(tile.argmax.chunks_exact(shape.filters));
        let lists = self.entries.chunks_exact_mut(FILTER_GROUP).zip(&mut self.ends);
        for ((gradient, argmax), (list, ends)) in pixels.zip(lists) {
            let mut kinds = [[Entry::default(); FILTER_GROUP + 1]; 4];
            let mut counts = [0usize; 4];
            for (at, (gradient, argmax)) in gradient[group.clone()].iter().zip(&argmax[group.clone()]).enumerate() {
                let (value, kind) = (gradient.to_f32(), usize::from(*argmax));
                kinds[kind][counts[kind]] = Entry { at: at as u32, value };
                counts[kind] += usize::from(value != 0.0);
            }
            let mut end = 0;
            for (kind, count) in kinds.iter().zip(counts) {
                list[end..end + count].copy_from_slice(&kind[..count]);
                end += count;
            }
            let mut end = 0;
            for (to, count) in ends.iter_mut().zip(counts) {
                end += count;
                *to = end as u8;
            }
        }
    }

    /// Adds the filters times their gradients at each pooled pixel to the input's gradient around
    /// it.
    #[inline(always)]
    fn add<V: Vector>(&self, tile: &Tile<'_, impl Element>, packed: &[f32], input: &mut [f32]) {
        let shape = tile.shape;
        for block in 0..shape.blocks() {
            let filters = &packed[(block * shape.filters + self.group.start) * TAPS * BLOCK..];
            let filters = &filters[..self.group.len() * TAPS * BLOCK];
            let input = &mut input[tile.block(block)..];
            let mut lists = self.entries.chunks_exact(FILTER_GROUP).zip(&self.ends);
            for image in 0..tile.count {
                for row in 0..shape.pooled_height() {
                    for column in 0..shape.pooled_width() {
                        let Some((list, ends)) = lists.next() else { return };
                        let corner = tile.corner(image, row, column) * BLOCK;
                        for lane in (0..BLOCK).step_by(V::LANES) {
                            scatter_filters::<V>(
                                list,
                                *ends,
                                &filters[lane..],
                                &mut input[corner + lane..],
                                shape.padded_width(),
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Adds the weighted filters of one pooled pixel to the 4x4 pixels that they overlap.
#[inline(always)]
fn scatter_filters<V: Vector>(list: &[Entry], ends: [u8; 4], filters: &[f32], input: &mut [f32], width: usize) {
    let mut sums = [[V::splat(0.0); 4]; 4];
    let mut start = 0;
    macro_rules! kind {
        ($kind:literal) => {
            let end = usize::from(ends[$kind]);
            for entry in &list[start..end] {
                let value = V::splat(entry.value);
                let filter = &filters[entry.at as usize * TAPS * BLOCK..][..(TAPS - 1) * BLOCK + V::LANES];
                for row in 0..KERNEL {
                    for column in 0..KERNEL {
                        let sum = &mut sums[row + $kind / 2][column + $kind % 2];
                        *sum = V::load(&filter[(row * KERNEL + column) * BLOCK..]).mul_add(value, *sum);
                    }
                }
            }
            start = end;
        };
    }
    kind!(0);
    kind!(1);
    kind!(2);
    kind!(3);
    let _ = start;
    for (row, sums) in sums.iter().enumerate() {
        let to = &mut input[row * width * BLOCK..][..3 * BLOCK + V::LANES];
        for (column, sum) in sums.iter().enumerate() {
            let to = &mut to[column * BLOCK..][..V::LANES];
            V::load(to).add(*sum).store(to);
        }
    }
}

/// Computes the filters' gradient for one input channel, with lanes over filters instead of
/// channels.
#[inline(always)]
fn one_channel<V: Vector, E: Element>(tile: &Tile<'_, E>, unpacked: &[f32], filters: &mut [f32]) {
    let shape = tile.shape;
    let width = shape.padded_width();
    for first in (0..shape.filters).step_by(V::LANES) {
        let mut sums = [V::splat(0.0); TAPS];
        for image in 0..tile.count {
            for row in 0..shape.pooled_height() {
                for column in 0..shape.pooled_width() {
                    let corner = tile.corner(image, row, column);
                    let start = tile.pooled(image, row, column) + first;
                    let gradient = &tile.gradient[start..][..V::LANES];
                    let argmax = &tile.argmax[start..][..V::LANES];
                    let mut values = [0.0; BLOCK];
                    for (value, gradient) in values.iter_mut().zip(gradient) {
                        *value = gradient.to_f32();
                    }
                    let values = V::load(&values);
                    for kind in 0..4u8 {
                        let values = values.mask_equal(argmax, kind);
                        let pixel = corner + usize::from(kind / 2) * width + usize::from(kind % 2);
                        for tap_row in 0..KERNEL {
                            let input = &unpacked[pixel + tap_row * width..][..KERNEL];
                            for tap in 0..KERNEL {
                                let sum = &mut sums[tap_row * KERNEL + tap];
                                *sum = V::splat(input[tap]).mul_add(values, *sum);
                            }
                        }
                    }
                }
            }
        }
        for (tap, sum) in sums.iter().enumerate() {
            let mut values = [0.0; BLOCK];
            sum.store(&mut values);
            for (lane, value) in values.iter().take(V::LANES).enumerate() {
                filters[(first + lane) * TAPS + tap] += value;
            }
        }
    }
}
