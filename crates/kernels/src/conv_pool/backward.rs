//! The gradient of convolution and pooling, from the pooled gradient's nonzero values alone.

use super::tile::{Tiling, repack, unpack};
use super::{BLOCK, KERNEL, Shape, TAPS};
use crate::Element;
use crate::lanes::{Isa, Lanes, isa};

/// Filters whose weights stay in the first-level cache together while the input's gradient is computed.
const FILTER_GROUP: usize = 32;

/// What the forward pass leaves for the backward pass, and the gradient that arrives; all of the same images.
#[derive(Debug)]
pub struct Saved<'a, E> {
    /// The input: images [height, width, channels].
    pub input: &'a [E],
    /// Which of the four pixels each pooled value came from, as [`pool`](super::pool) wrote it.
    pub winners: &'a [u8],
    /// The gradient of the loss by the pooled values: images [pooled rows, pooled columns, filters].
    pub gradient: &'a [E],
}

/// Where the results go. Filters and biases are added to, the input's gradient is overwritten.
#[derive(Debug)]
pub struct Gradients<'a, E> {
    /// [filters, 3, 3, channels]
    pub filters: &'a mut [f32],
    /// One for each filter.
    pub bias: &'a mut [f32],
    /// Images [height, width, channels], and the filters as [`pack_filters`] lays them out; `None` where nobody asks.
    pub input: Option<(&'a mut [E], &'a [f32])>,
}

/// A pooled value's gradient, where it is not zero.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Where it acts: a pixel of the tile, or a filter.
    at: u32,
    value: f32,
}

/// Filters [filters, 3, 3, channels] laid out for [`backward`]: [channel blocks, filters, 3, 3, 16].
///
/// # Panics
/// When a slice has another length than `shape` says.
pub fn pack_filters(shape: &Shape, filters: &[f32]) -> Vec<f32> {
    assert_eq!(filters.len(), shape.weights_len());
    let mut packed = Vec::with_capacity(filters.len());
    for block in 0..shape.blocks() {
        for tap in filters.chunks_exact(shape.channels) {
            packed.extend_from_slice(&tap[block * BLOCK..][..BLOCK]);
        }
    }
    packed
}

/// Adds the gradients of filters and biases, and writes that of the input. Sums are `f32`, in the order of the images.
///
/// # Panics
/// When a slice has another length than `shape` and the other slices say, or [`isa`] is `None`. Winners are 0 to 3.
pub fn backward<E: Element>(shape: &Shape, saved: &Saved<'_, E>, gradients: &mut Gradients<'_, E>) {
    let images = saved.input.len() / shape.input_len();
    assert!(shape.is_supported() && isa().is_some(), "this processor or shape has no backward kernel");
    assert_eq!(saved.input.len(), images * shape.input_len());
    assert_eq!(saved.gradient.len(), images * shape.pooled_len());
    assert_eq!(saved.winners.len(), saved.gradient.len());
    assert_eq!(gradients.filters.len(), shape.weights_len());
    assert_eq!(gradients.bias.len(), shape.filters);
    if let Some((input, packed)) = &gradients.input {
        assert_eq!(input.len(), saved.input.len());
        assert_eq!(packed.len(), shape.weights_len());
        assert!(shape.channels > 1, "the gradient of a one-channel input is not implemented");
    }
    match isa() {
        // SAFETY: the processor has these instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Some(Isa::Avx512) => unsafe { backward_avx512(shape, images, saved, gradients) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Some(Isa::Avx2) => unsafe { backward_avx2(shape, images, saved, gradients) },
        None => unreachable!("checked above"),
        #[cfg(not(target_arch = "x86_64"))]
        Some(_) => unreachable!("no such instruction set here"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn backward_avx512<E: Element>(shape: &Shape, images: usize, saved: &Saved<'_, E>, gradients: &mut Gradients<'_, E>) {
    backward_with::<crate::lanes::Avx512, E>(shape, images, saved, gradients);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn backward_avx2<E: Element>(shape: &Shape, images: usize, saved: &Saved<'_, E>, gradients: &mut Gradients<'_, E>) {
    backward_with::<crate::lanes::Avx2, E>(shape, images, saved, gradients);
}

#[inline(always)]
fn backward_with<V: Lanes, E: Element>(
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
    let mut by_place = ByPlace::new(shape, &tiling);
    let pixels = shape.padded_height() * shape.padded_width();
    let mut unpacked = vec![0.0; tiling.images * pixels * shape.blocks() * shape.channels.min(BLOCK)];
    let mut input_gradient = vec![0.0; if gradients.input.is_some() { unpacked.len() } else { 0 }];
    for first in (0..images).step_by(tiling.images) {
        let count = tiling.images.min(images - first);
        let pooled = first * shape.pooled_len()..(first + count) * shape.pooled_len();
        let tile = Tile { shape, count, gradient: &saved.gradient[pooled.clone()], winners: &saved.winners[pooled] };
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
                by_place.fill(&tile, filter..(filter + FILTER_GROUP).min(shape.filters));
                by_place.add::<V>(&tile, packed, &mut input_gradient);
            }
            repack(shape, count, &input_gradient, &mut input[of_input]);
        }
    }
}

/// The images that are handled together.
struct Tile<'a, E> {
    shape: &'a Shape,
    count: usize,
    gradient: &'a [E],
    winners: &'a [u8],
}

impl<E> Tile<'_, E> {
    /// The first of the four pixels that pooled value `column` of `row` is the maximum of, in an unpacked image.
    #[inline(always)]
    fn corner(&self, image: usize, row: usize, column: usize) -> usize {
        (image * self.shape.padded_height() + 2 * row) * self.shape.padded_width() + 2 * column
    }

    /// Where the filters of a pooled pixel begin in `gradient` and `winners`.
    #[inline(always)]
    fn pooled(&self, image: usize, row: usize, column: usize) -> usize {
        ((image * self.shape.pooled_height() + row) * self.shape.pooled_width() + column) * self.shape.filters
    }

    /// Where a block of channels begins in unpacked images.
    #[inline(always)]
    fn block(&self, block: usize) -> usize {
        block * self.count * self.shape.padded_height() * self.shape.padded_width() * BLOCK
    }
}

/// The nonzero gradients of each filter, and the pixel that each came from.
struct ByFilter {
    capacity: usize,
    entries: Vec<Entry>,
    counts: Vec<usize>,
}

impl ByFilter {
    fn new(shape: &Shape, tiling: &Tiling) -> Self {
        let capacity = tiling.images * tiling.rows * shape.pooled_width();
        // One place more: a value that is zero is written and then overwritten.
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
                    let winners = &tile.winners[start..][..shape.filters];
                    let lists = self.entries.chunks_exact_mut(self.capacity).zip(&mut self.counts);
                    for ((gradient, winner), (list, count)) in gradient.iter().zip(winners).zip(lists) {
                        let value = gradient.to_f32();
                        list[*count] = Entry { at: (corner + steps[usize::from(*winner)]) as u32, value };
                        *count += usize::from(value != 0.0);
                    }
                }
            }
        }
    }

    /// Adds to each filter's gradient: the input around each pixel, times the gradient there.
    #[inline(always)]
    fn add<V: Lanes>(&self, tile: &Tile<'_, impl Element>, unpacked: &[f32], filters: &mut [f32]) {
        let shape = tile.shape;
        let row = shape.padded_width() * BLOCK;
        for block in 0..shape.blocks() {
            let unpacked = &unpacked[tile.block(block)..];
            let lists = self.entries.chunks_exact(self.capacity).zip(&self.counts);
            for ((list, count), filter) in lists.zip(filters.chunks_exact_mut(TAPS * shape.channels)) {
                for lane in (0..BLOCK).step_by(V::COUNT) {
                    let mut sums = [V::splat(0.0); TAPS];
                    for entry in &list[..*count] {
                        let value = V::splat(entry.value);
                        let start = entry.at as usize * BLOCK + lane;
                        for tap_row in 0..KERNEL {
                            let input = &unpacked[start + tap_row * row..][..(KERNEL - 1) * BLOCK + V::COUNT];
                            for tap in 0..KERNEL {
                                let sum = &mut sums[tap_row * KERNEL + tap];
                                *sum = V::load(&input[tap * BLOCK..]).mul_add(value, *sum);
                            }
                        }
                    }
                    for (tap, sum) in filter.chunks_exact_mut(shape.channels).zip(sums) {
                        let to = &mut tap[block * BLOCK + lane..][..V::COUNT];
                        V::load(to).add(sum).store(to);
                    }
                }
            }
        }
    }
}

/// The nonzero gradients at each pooled pixel, by which of the four pixels they go to; of one group of filters.
struct ByPlace {
    /// [pooled pixel][FILTER_GROUP], the four kinds one after another.
    entries: Vec<Entry>,
    /// [pooled pixel]: where each of the four kinds ends.
    ends: Vec<[u8; 4]>,
    group: std::ops::Range<usize>,
}

impl ByPlace {
    fn new(shape: &Shape, tiling: &Tiling) -> Self {
        let places = tiling.images * shape.pooled_height() * shape.pooled_width();
        Self { entries: vec![Entry::default(); places * FILTER_GROUP], ends: vec![[0; 4]; places], group: 0..0 }
    }

    #[inline(always)]
    fn fill<E: Element>(&mut self, tile: &Tile<'_, E>, group: std::ops::Range<usize>) {
        let shape = tile.shape;
        self.group = group.clone();
        let places = tile.gradient.chunks_exact(shape.filters).zip(tile.winners.chunks_exact(shape.filters));
        let lists = self.entries.chunks_exact_mut(FILTER_GROUP).zip(&mut self.ends);
        for ((gradient, winners), (list, ends)) in places.zip(lists) {
            let mut kinds = [[Entry::default(); FILTER_GROUP + 1]; 4];
            let mut counts = [0usize; 4];
            for (at, (gradient, winner)) in gradient[group.clone()].iter().zip(&winners[group.clone()]).enumerate() {
                let (value, kind) = (gradient.to_f32(), usize::from(*winner));
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

    /// Adds to the input's gradient around each pooled pixel: the filters, times their gradients there.
    #[inline(always)]
    fn add<V: Lanes>(&self, tile: &Tile<'_, impl Element>, packed: &[f32], input: &mut [f32]) {
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
                        for lane in (0..BLOCK).step_by(V::COUNT) {
                            patch::<V>(
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

/// Adds the filters of one pooled pixel to the 4x4 pixels that they reach.
#[inline(always)]
fn patch<V: Lanes>(list: &[Entry], ends: [u8; 4], filters: &[f32], input: &mut [f32], width: usize) {
    let mut sums = [[V::splat(0.0); 4]; 4];
    let mut start = 0;
    macro_rules! kind {
        ($kind:literal) => {
            let end = usize::from(ends[$kind]);
            for entry in &list[start..end] {
                let value = V::splat(entry.value);
                let filter = &filters[entry.at as usize * TAPS * BLOCK..][..(TAPS - 1) * BLOCK + V::COUNT];
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
        let to = &mut input[row * width * BLOCK..][..3 * BLOCK + V::COUNT];
        for (column, sum) in sums.iter().enumerate() {
            let to = &mut to[column * BLOCK..][..V::COUNT];
            V::load(to).add(*sum).store(to);
        }
    }
}

/// The filters' gradient where the input has one channel: sixteen filters side by side instead of sixteen channels.
#[inline(always)]
fn one_channel<V: Lanes, E: Element>(tile: &Tile<'_, E>, unpacked: &[f32], filters: &mut [f32]) {
    let shape = tile.shape;
    let width = shape.padded_width();
    for first in (0..shape.filters).step_by(V::COUNT) {
        let mut sums = [V::splat(0.0); TAPS];
        for image in 0..tile.count {
            for row in 0..shape.pooled_height() {
                for column in 0..shape.pooled_width() {
                    let corner = tile.corner(image, row, column);
                    let start = tile.pooled(image, row, column) + first;
                    let gradient = &tile.gradient[start..][..V::COUNT];
                    let winners = &tile.winners[start..][..V::COUNT];
                    let mut values = [0.0; BLOCK];
                    for (value, gradient) in values.iter_mut().zip(gradient) {
                        *value = gradient.to_f32();
                    }
                    let values = V::load(&values);
                    for kind in 0..4u8 {
                        let values = values.where_equal(winners, kind);
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
            for (lane, value) in values.iter().take(V::COUNT).enumerate() {
                filters[(first + lane) * TAPS + tap] += value;
            }
        }
    }
}
