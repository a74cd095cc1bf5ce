//! Split search for small nodes: sixteen features at once, one per SIMD lane. Sorting the rows and
//! scoring the splits are vector instructions without data-dependent branches.

use super::sorting_network::sorting_network;
use super::{Mark, midpoint};
use crate::dispatch::multiversion;

/// Features per vector.
const LANES: usize = 16;

/// Max number of classes. A key has the value in its upper byte, then three bits of class and five
/// of weight.
const MAX_CLASSES: usize = 8;
const CLASS_SHIFT: u32 = 5;
const MAX_WEIGHT: u32 = 31;

/// Split finder with buffers that are reused from node to node.
#[derive(Debug)]
pub struct SmallNodes {
    /// `[rows][LANES]`
    keys: Vec<[u16; LANES]>,
    /// Sorting network for each number of rows, built on first use.
    networks: Vec<Option<Vec<(u8, u8)>>>,
}

/// A node and the table that holds its rows.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Features, uint8 `[rows of the table, width]`.
    pub pixels: &'a [u8],
    /// Features per row.
    pub width: usize,
    /// Indices of the node's rows.
    pub rows: &'a [u32],
    /// Class and weight of each row of the node.
    pub marks: &'a [Mark],
    /// The node's weight per class.
    pub totals: &'a [u32],
}

impl SmallNodes {
    /// Max rows of a node; the histogram is faster for larger nodes.
    pub const MAX_ROWS: usize = 192;

    /// Max weight of a node: squares of its class weights are summed in 16 bits.
    pub const MAX_NODE_WEIGHT: u32 = 255;

    /// Creates a finder for nodes of up to [`MAX_ROWS`](Self::MAX_ROWS) rows.
    pub fn new() -> Self {
        Self { keys: vec![[0; LANES]; Self::MAX_ROWS], networks: vec![None; Self::MAX_ROWS + 1] }
    }

    /// Whether a node is small enough.
    pub fn supports(marks: &[Mark], totals: &[u32]) -> bool {
        marks.len() <= Self::MAX_ROWS
            && totals.len() <= MAX_CLASSES
            && totals.iter().sum::<u32>() <= Self::MAX_NODE_WEIGHT
            && marks.iter().all(|mark| mark.weight() <= MAX_WEIGHT)
    }

    /// Finds the best split of a node by one of `features`, the first of equals. Returns the index
    /// into `features` and the threshold; `None` if every feature is constant.
    ///
    /// # Panics
    /// If [`supports`](Self::supports) is false for the node, or `pixels` or a row of it is too
    /// short.
    pub fn best_split(&mut self, node: Node<'_>, features: &[u16]) -> Option<(usize, u8)> {
        assert!(Self::supports(node.marks, node.totals) && node.rows.len() == node.marks.len());
        let count = node.rows.len();
        let pairs = self.networks[count].get_or_insert_with(|| sorting_network(count));
        let keys = &mut self.keys[..count];
        let mut best: Option<Found> = None;
        for (number, features) in features.chunks(LANES).enumerate() {
            let mut found = None;
            run(keys, pairs, node, features, &mut found);
            if let Some(found) = found
                && best.is_none_or(|best| found.score > best.score)
            {
                best = Some(Found { place: number * LANES + found.place, ..found });
            }
        }
        best.map(|best| (best.place, best.threshold))
    }
}

impl Default for SmallNodes {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct Found {
    score: f32,
    place: usize,
    threshold: u8,
}

multiversion! {
    fn run(keys: &mut [[u16; LANES]], pairs: &[(u8, u8)], node: Node<'_>, features: &[u16], found: &mut Option<Found>) = body
}

#[inline(always)]
fn body(keys: &mut [[u16; LANES]], pairs: &[(u8, u8)], node: Node<'_>, features: &[u16], found: &mut Option<Found>) {
    // Unused lanes repeat the first feature. They come after it, so they are never the first of
    // equals.
    let mut columns = [features[0]; LANES];
    columns[..features.len()].copy_from_slice(features);
    for ((keys, row), mark) in keys.iter_mut().zip(node.rows).zip(node.marks) {
        let start = *row as usize * node.width;
        let line = &node.pixels[start..start + node.width];
        let tag = u16::from(mark.class()) << CLASS_SHIFT | mark.weight() as u16;
        for lane in 0..LANES {
            keys[lane] = u16::from(line[usize::from(columns[lane])]) << 8 | tag;
        }
    }
    for (low, high) in pairs {
        let (low, high) = (usize::from(*low), usize::from(*high));
        let (a, b) = (keys[low], keys[high]);
        for lane in 0..LANES {
            keys[low][lane] = a[lane].min(b[lane]);
            keys[high][lane] = a[lane].max(b[lane]);
        }
    }
    *found = scan(keys, node.totals);
}

/// Scores every split of sorted keys and returns the best.
#[inline(always)]
fn scan(keys: &[[u16; LANES]], totals: &[u32]) -> Option<Found> {
    let mut right = [[0u16; LANES]; MAX_CLASSES];
    let (mut weight, mut square) = (0u16, 0u16);
    for (right, total) in right.iter_mut().zip(totals) {
        let total = *total as u16;
        *right = [total; LANES];
        weight += total;
        square = square.wrapping_add(total * total);
    }
    let mut left = [[0u16; LANES]; MAX_CLASSES];
    let (mut on_left, mut sum_left, mut sum_right) = ([0u16; LANES], [0u16; LANES], [square; LANES]);
    let (mut best, mut at) = ([-1.0f32; LANES], [0u16; LANES]);
    for (place, (key, next)) in keys.iter().zip(keys.iter().skip(1)).enumerate() {
        let (mut here, mut there) = ([0u16; LANES], [0u16; LANES]);
        let mut moved = [0u16; LANES];
        for lane in 0..LANES {
            moved[lane] = key[lane] & MAX_WEIGHT as u16;
        }
        for class in 0..MAX_CLASSES {
            for lane in 0..LANES {
                let own = key[lane] >> CLASS_SHIFT & 7 == class as u16;
                let mask = if own { u16::MAX } else { 0 };
                here[lane] |= left[class][lane] & mask;
                there[lane] |= right[class][lane] & mask;
                left[class][lane] += moved[lane] & mask;
                right[class][lane] -= moved[lane] & mask;
            }
        }
        for lane in 0..LANES {
            let w = moved[lane];
            on_left[lane] += w;
            // Adds (h + w)² - h² and (t - w)² - t² with wrapping; the sums themselves stay below
            // 2^16.
            sum_left[lane] = sum_left[lane].wrapping_add(w.wrapping_mul(2 * here[lane] + w));
            sum_right[lane] = sum_right[lane].wrapping_sub(w.wrapping_mul(2 * there[lane] - w));
        }
        for lane in 0..LANES {
            let (l, r) = (f32::from(on_left[lane]), f32::from(weight - on_left[lane]));
            let score = f32::from(sum_left[lane]) / l + f32::from(sum_right[lane]) / r;
            let better = key[lane] >> 8 != next[lane] >> 8 && score > best[lane];
            best[lane] = if better { score } else { best[lane] };
            at[lane] = if better { place as u16 } else { at[lane] };
        }
    }
    let mut found: Option<Found> = None;
    for lane in 0..LANES {
        if best[lane] > found.map_or(-1.0, |found| found.score) {
            let place = usize::from(at[lane]);
            let (low, high) = ((keys[place][lane] >> 8) as u8, (keys[place + 1][lane] >> 8) as u8);
            found = Some(Found { score: best[lane], place: lane, threshold: midpoint(low, high) });
        }
    }
    found
}
