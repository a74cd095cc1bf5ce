//! Small nodes: sixteen features side by side, each in a lane, so that sorting and looking through them are vector
//! instructions without a branch on the data.

use super::network::network;
use super::{Mark, middle};
use crate::dispatch::compiled;

/// Features side by side.
const LANES: usize = 16;

/// A key has the value in its upper byte, then three bits of class, then five of weight.
const CLASSES: usize = 8;
const CLASS_SHIFT: u32 = 5;
const MOST_WEIGHT: u32 = 31;

/// Room for one node after another.
#[derive(Debug)]
pub struct Small {
    /// `[rows][LANES]`
    keys: Vec<[u16; LANES]>,
    /// The network for each number of rows, made when first wanted.
    networks: Vec<Option<Vec<(u8, u8)>>>,
}

/// A node: the rows' values stand in `pixels`, `width` for each row.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// `[rows of the table, width]`
    pub pixels: &'a [u8],
    /// Values of a row.
    pub width: usize,
    /// The node's rows.
    pub rows: &'a [u32],
    /// Class and weight of each.
    pub marks: &'a [Mark],
    /// The node's weight of each class.
    pub totals: &'a [u32],
}

impl Small {
    /// Rows of the largest node: beyond it, counting by value is faster.
    pub const MOST_ROWS: usize = 192;

    /// Weight of the heaviest node: squares of its classes' weights are added up in 16 bits.
    pub const MOST_NODE_WEIGHT: u32 = 255;

    /// Room for nodes up to [`MOST_ROWS`](Self::MOST_ROWS).
    pub fn new() -> Self {
        Self { keys: vec![[0; LANES]; Self::MOST_ROWS], networks: vec![None; Self::MOST_ROWS + 1] }
    }

    /// Whether a node is small enough.
    pub fn takes(marks: &[Mark], totals: &[u32]) -> bool {
        marks.len() <= Self::MOST_ROWS
            && totals.len() <= CLASSES
            && totals.iter().sum::<u32>() <= Self::MOST_NODE_WEIGHT
            && marks.iter().all(|mark| mark.weight() <= MOST_WEIGHT)
    }

    /// The best split of a node among `features`: its place among them, and the threshold. The first of equals; `None` when
    /// each feature has one value alone.
    ///
    /// # Panics
    /// When the node is not one that [`takes`](Self::takes) allows, or `pixels` or a row of it is too short.
    pub fn best(&mut self, node: Node<'_>, features: &[u16]) -> Option<(usize, u8)> {
        assert!(Self::takes(node.marks, node.totals) && node.rows.len() == node.marks.len());
        let count = node.rows.len();
        let pairs = self.networks[count].get_or_insert_with(|| network(count));
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

impl Default for Small {
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

compiled! {
    fn run(keys: &mut [[u16; LANES]], pairs: &[(u8, u8)], node: Node<'_>, features: &[u16], found: &mut Option<Found>) = body
}

#[inline(always)]
fn body(keys: &mut [[u16; LANES]], pairs: &[(u8, u8)], node: Node<'_>, features: &[u16], found: &mut Option<Found>) {
    // The last lanes repeat a feature where there are fewer; they come after it, so they are never the first of equals.
    let mut places = [features[0]; LANES];
    places[..features.len()].copy_from_slice(features);
    for ((keys, row), mark) in keys.iter_mut().zip(node.rows).zip(node.marks) {
        let start = *row as usize * node.width;
        let line = &node.pixels[start..start + node.width];
        let tag = u16::from(mark.class()) << CLASS_SHIFT | mark.weight() as u16;
        for lane in 0..LANES {
            keys[lane] = u16::from(line[usize::from(places[lane])]) << 8 | tag;
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

/// The best split of sorted keys.
#[inline(always)]
fn scan(keys: &[[u16; LANES]], totals: &[u32]) -> Option<Found> {
    let mut right = [[0u16; LANES]; CLASSES];
    let (mut weight, mut square) = (0u16, 0u16);
    for (right, total) in right.iter_mut().zip(totals) {
        let total = *total as u16;
        *right = [total; LANES];
        weight += total;
        square = square.wrapping_add(total * total);
    }
    let mut left = [[0u16; LANES]; CLASSES];
    let (mut on_left, mut sum_left, mut sum_right) = ([0u16; LANES], [0u16; LANES], [square; LANES]);
    let (mut best, mut at) = ([-1.0f32; LANES], [0u16; LANES]);
    for (place, (key, next)) in keys.iter().zip(keys.iter().skip(1)).enumerate() {
        let (mut here, mut there) = ([0u16; LANES], [0u16; LANES]);
        let mut moved = [0u16; LANES];
        for lane in 0..LANES {
            moved[lane] = key[lane] & MOST_WEIGHT as u16;
        }
        for class in 0..CLASSES {
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
            // (h + w)² - h² and (t - w)² - t², in numbers that wrap around; the sums themselves stay below 2^16.
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
            found = Some(Found { score: best[lane], place: lane, threshold: middle(low, high) });
        }
    }
    found
}
