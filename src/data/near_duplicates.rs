//! Near duplicates: copies of an image that differ in scale of gray, compression, a watermark or a
//! shift of a pixel, or that are mirrored.
//!
//! A 63-bit perceptual hash finds candidates: the signs of the low frequencies of the image's cosine
//! transform against their median (Zauner 2010, "Implementation and Benchmarking of Perceptual Image
//! Hash Functions"). An index over its four quarters finds all hashes within 10 bits, of which one
//! quarter differs in at most two (Norouzi, Punjani, Fleet 2012, "Fast Search in Hamming Space with
//! Multi-Index Hashing"), so that the time is far from that of all pairs. The correlation of the two
//! images, at 24x24 pixels, decides.

use std::borrow::Cow;
use std::f32::consts::PI;

use anyhow::Result;
use rayon::prelude::*;

use super::images::{PIXELS, SIDE};

/// Correlation from which images are near duplicates. In a sample of 32 pairs of FER2013 with 0.94 to
/// 0.96 all were the same photo; below, different people begin.
pub const MIN_CORRELATION: f32 = 0.94;

/// Side of the images that are correlated.
const SMALL: usize = 24;

/// Low frequencies of the hash in each direction.
const FREQUENCIES: usize = 8;

/// Bits in which the hashes of candidates differ at most.
const RADIUS: u32 = 10;

/// Quarters of a hash, and their bits.
const QUARTERS: u32 = 4;
const QUARTER_BITS: u32 = 16;

/// Bits in which one quarter differs at most: a quarter of the radius, rounded down.
const QUARTER_RADIUS: u32 = RADIUS / QUARTERS;

/// Two images that are nearly the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearPair {
    /// The first image.
    pub first: usize,
    /// The second one, after the first.
    pub second: usize,
    /// Correlation of their gray values, up to 1.
    pub correlation: f32,
    /// Whether one is the mirror image of the other.
    pub is_mirrored: bool,
}

/// Gives the 2304 pixels of image `index`.
pub type GetPixels<'a> = dyn Fn(usize) -> Result<Cow<'a, [u8]>> + Sync + 'a;

/// The pairs of near duplicates among `count` images, which should be distinct, with a correlation of
/// at least `min_correlation`. Images of one gray value have none.
///
/// # Errors
/// Those of `pixels`.
pub fn near_pairs(count: usize, pixels: &GetPixels<'_>, min_correlation: f32) -> Result<Vec<NearPair>> {
    let basis = basis();
    let hashes: Vec<Option<(u64, u64)>> = (0..count)
        .into_par_iter()
        .map(|index| Ok(small(&pixels(index)?).map(|image| hashes(&image, &basis))))
        .collect::<Result<_>>()?;
    let index = Index::new(&hashes);
    let found: Vec<Vec<NearPair>> = (0..count)
        .into_par_iter()
        .map(|first| pairs_of(first, &hashes, &index, pixels, min_correlation))
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The near duplicates of image `first` after it.
fn pairs_of(
    first: usize,
    hashes: &[Option<(u64, u64)>],
    index: &Index,
    pixels: &GetPixels<'_>,
    min_correlation: f32,
) -> Result<Vec<NearPair>> {
    let Some((hash, mirrored)) = hashes.get(first).copied().flatten() else { return Ok(Vec::new()) };
    let mut candidates: Vec<(usize, bool)> = Vec::new();
    for (query, is_mirrored) in [(hash, false), (mirrored, true)] {
        index.visit(query, |second| {
            let is_close = |(other, _): (u64, u64)| (other ^ query).count_ones() <= RADIUS;
            if second > first && hashes.get(second).copied().flatten().is_some_and(is_close) {
                candidates.push((second, is_mirrored));
            }
        });
    }
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    candidates.sort_unstable();
    candidates.dedup();
    let Some(own) = small(&pixels(first)?) else { return Ok(Vec::new()) };
    let flipped: Vec<f32> = own.chunks(SMALL).flat_map(|row| row.iter().rev().copied()).collect();
    let mut pairs: Vec<NearPair> = Vec::new();
    for (second, is_mirrored) in candidates {
        let Some(other) = small(&pixels(second)?) else { continue };
        let own = if is_mirrored { &flipped } else { &own };
        let correlation: f32 = own.iter().zip(&other).map(|(a, b)| a * b).sum();
        // A symmetric face is near its own mirror image too: one pair is enough.
        if correlation >= min_correlation && pairs.last().is_none_or(|last| last.second != second) {
            pairs.push(NearPair { first, second, correlation: correlation.min(1.0), is_mirrored });
        }
    }
    Ok(pairs)
}

/// The image at 24x24 pixels, minus its mean, with norm 1; `None` for one of a single gray value.
fn small(pixels: &[u8]) -> Option<Vec<f32>> {
    let at = |y: usize, x: usize| pixels.get(y * SIDE + x).copied().map_or(0.0, f32::from);
    let mut image: Vec<f32> = (0..SMALL * SMALL)
        .map(|place| (2 * (place / SMALL), 2 * (place % SMALL)))
        .map(|(y, x)| at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1))
        .collect();
    let mean = image.iter().sum::<f32>() / image.len() as f32;
    image.iter_mut().for_each(|value| *value -= mean);
    let norm = image.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm < 1.0 || pixels.len() != PIXELS {
        return None;
    }
    image.iter_mut().for_each(|value| *value /= norm);
    Some(image)
}

/// The low frequencies of the cosine transform (DCT-II), [8, 24].
fn basis() -> Vec<f32> {
    let wave = |(frequency, place): (usize, usize)| {
        (PI * (2 * place + 1) as f32 * frequency as f32 / (2 * SMALL) as f32).cos()
    };
    (0..FREQUENCIES * SMALL).map(|index| wave((index / SMALL, index % SMALL))).collect()
}

/// The hash of an image, and of its mirror image.
fn hashes(image: &[f32], basis: &[f32]) -> (u64, u64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    // Horizontal frequencies of each row, then vertical ones of these.
    let rows: Vec<f32> =
        image.chunks(SMALL).flat_map(|row| basis.chunks(SMALL).map(move |wave| dot(row, wave))).collect();
    let coefficient = |(vertical, horizontal): (usize, usize)| -> f32 {
        let wave = basis.iter().skip(vertical * SMALL).take(SMALL);
        rows.iter().skip(horizontal).step_by(FREQUENCIES).zip(wave).map(|(value, wave)| value * wave).sum()
    };
    // Without the first: the mean, which is 0.
    let places = || (1..FREQUENCIES * FREQUENCIES).map(|place| (place / FREQUENCIES, place % FREQUENCIES));
    let plain: Vec<f32> = places().map(coefficient).collect();
    // In the mirror image the odd horizontal frequencies have the other sign.
    let sign = |(_, horizontal): (usize, usize)| if horizontal % 2 == 1 { -1.0 } else { 1.0 };
    let mirrored: Vec<f32> = plain.iter().zip(places()).map(|(value, place)| value * sign(place)).collect();
    (bits(&plain), bits(&mirrored))
}

/// A bit for each value that is above the median.
fn bits(values: &[f32]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    values.iter().fold(0, |bits, value| (bits << 1) | u64::from(*value > median))
}

/// The images by each quarter of their hashes.
struct Index {
    /// For each quarter: where the images of each value begin, and the images by value.
    tables: Vec<(Vec<u32>, Vec<u32>)>,
    /// The differences of a quarter that are searched.
    masks: Vec<u16>,
}

impl Index {
    fn new(hashes: &[Option<(u64, u64)>]) -> Self {
        let table = |number: u32| {
            let mut keys: Vec<(u16, u32)> = (0..)
                .zip(hashes)
                .filter_map(|(index, hash)| Some((quarter(hash.as_ref()?.0, number), index)))
                .collect();
            keys.sort_unstable();
            let mut starts = vec![0; (1 << QUARTER_BITS) + 1];
            for (key, _) in &keys {
                if let Some(count) = starts.get_mut(usize::from(*key) + 1) {
                    *count += 1;
                }
            }
            let mut sum = 0;
            starts.iter_mut().for_each(|start| {
                sum += *start;
                *start = sum;
            });
            (starts, keys.into_iter().map(|(_, index)| index).collect())
        };
        let masks = (0..=u16::MAX).filter(|mask| mask.count_ones() <= QUARTER_RADIUS).collect();
        Self { tables: (0..QUARTERS).map(table).collect(), masks }
    }

    /// Visits every image with a quarter that is near that of `hash`; one may be visited repeatedly.
    fn visit(&self, hash: u64, mut visit: impl FnMut(usize)) {
        for (number, (starts, images)) in (0..QUARTERS).zip(&self.tables) {
            for mask in &self.masks {
                let key = usize::from(quarter(hash, number) ^ mask);
                if let (Some(start), Some(end)) = (starts.get(key), starts.get(key + 1)) {
                    let found = images.get(*start as usize..*end as usize).unwrap_or_default();
                    found.iter().for_each(|image| visit(*image as usize));
                }
            }
        }
    }
}

fn quarter(hash: u64, number: u32) -> u16 {
    (hash >> (number * QUARTER_BITS)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    /// A smooth random image.
    fn image(seed: u64) -> Vec<u8> {
        let mut rng = Rng::new(&[seed]);
        let waves: Vec<[f64; 4]> = (0..6)
            .map(|_| [rng.between(-0.2, 0.2), rng.between(-0.2, 0.2), rng.between(0.0, 6.0), rng.between(10.0, 25.0)])
            .collect();
        let value = |place: usize| {
            let (y, x) = ((place / SIDE) as f64, (place % SIDE) as f64);
            128.0 + waves.iter().map(|[a, b, c, d]| d * (a * x + b * y + c).sin()).sum::<f64>()
        };
        (0..PIXELS).map(|place| value(place) as u8).collect()
    }

    fn pairs(images: &[Vec<u8>]) -> Vec<NearPair> {
        near_pairs(images.len(), &|index| Ok(Cow::Borrowed(&images[index][..])), MIN_CORRELATION).unwrap()
    }

    #[test]
    fn changed_copies_are_found_and_other_images_are_not() {
        let mut images: Vec<Vec<u8>> = (0..60).map(image).collect();
        assert_eq!(pairs(&images), []);
        let noisy: Vec<u8> = images[3].iter().enumerate().map(|(i, v)| v.saturating_add((i % 7) as u8)).collect();
        let darker: Vec<u8> = images[5].iter().map(|v| v / 2).collect();
        let shifted: Vec<u8> = (0..PIXELS).map(|i| images[7][(i + 1).min(PIXELS - 1)]).collect();
        let mirrored: Vec<u8> = images[9].chunks(SIDE).flat_map(|row| row.iter().rev().copied()).collect();
        images.extend([noisy, darker, shifted, mirrored, vec![0; PIXELS], vec![9; PIXELS]]);
        let found: Vec<_> = pairs(&images).iter().map(|pair| (pair.first, pair.second, pair.is_mirrored)).collect();
        assert_eq!(found, [(3, 60, false), (5, 61, false), (7, 62, false), (9, 63, true)]);
    }

    #[test]
    fn the_index_finds_every_hash_within_the_radius() {
        let mut rng = Rng::new(&[1]);
        let base = rng.next_u64() >> 1;
        let near = |rng: &mut Rng| (0..RADIUS).fold(base, |hash, _| hash ^ (1 << rng.below(63)));
        let hashes: Vec<Option<(u64, u64)>> = (0..500).map(|_| Some((near(&mut rng), 0))).collect();
        let index = Index::new(&hashes);
        let mut found = vec![false; 500];
        index.visit(base, |image| found[image] = true);
        assert!(found.iter().all(|found| *found));
        assert_eq!(index.masks.len(), 137);
    }
}
