//! The part of each batch that a process of a group computes.

use std::sync::Arc;

use crate::device::ProcessGroup;
use crate::model::shard::Shard;

/// A range of the images of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first image in the batch.
    pub start: i64,
    /// Number of its images.
    pub len: i64,
    /// Images of the batch.
    pub total: i64,
    /// Whether other processes compute the rest of the batch. Otherwise this is all of it, which every
    /// process computes.
    pub is_shared: bool,
    /// Whether the results of this process count: in a batch that is not shared, only those of rank 0.
    pub counts: bool,
}

impl Part {
    /// The part of `rank` of a batch of `total` images, in the order of the ranks; sizes differ by at
    /// most one image. A batch with fewer images than processes is not shared.
    pub fn new(total: i64, rank: usize, size: usize) -> Self {
        let (rank, size) = (rank as i64, size as i64);
        if total < size {
            return Self { start: 0, len: total, total, is_shared: false, counts: rank == 0 };
        }
        let start = total * rank / size;
        let len = total * (rank + 1) / size - start;
        Self { start, len, total, is_shared: true, counts: true }
    }

    /// The part with the image after it, which its last image is mixed with: indices in the batch.
    pub fn with_next(self) -> impl Iterator<Item = i64> {
        let next = (self.is_shared).then_some((self.start + self.len) % self.total.max(1));
        (self.start..self.start + self.len).chain(next)
    }

    /// The part for layers, if it is shared.
    pub fn shard(self, group: &Arc<ProcessGroup>, sync_norms: bool) -> Option<Arc<Shard>> {
        let Self { start, len, total, .. } = self;
        self.is_shared.then(|| Arc::new(Shard { group: Arc::clone(group), start, len, total, sync_norms }))
    }

    /// The weight of statistics of this part in their mean over all parts.
    pub fn weight(self) -> f64 {
        self.len as f64 / self.total.max(1) as f64
    }
}

/// The rows of a batch that this process needs as (rank, processes): its part, with one more if images
/// are mixed.
pub fn select_rows(rows: &[i64], place: Option<(usize, usize)>, is_mixed: bool) -> Vec<i64> {
    let Some((rank, size)) = place else { return rows.to_vec() };
    let part = Part::new(rows.len() as i64, rank, size);
    let count = usize::try_from(part.len).unwrap_or(0) + usize::from(is_mixed && part.is_shared);
    let row = |index: i64| usize::try_from(index).ok().and_then(|index| rows.get(index)).copied();
    part.with_next().take(count).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_each_batch_once() {
        for total in 1..70 {
            for size in 2..9 {
                let parts: Vec<Part> = (0..size).map(|rank| Part::new(total, rank, size)).collect();
                let counted: Vec<&Part> = parts.iter().filter(|part| part.counts).collect();
                let images: Vec<i64> = counted.iter().flat_map(|part| part.start..part.start + part.len).collect();
                assert_eq!(images, (0..total).collect::<Vec<_>>(), "{total} images, {size} processes");
                assert!((counted.iter().map(|part| part.weight()).sum::<f64>() - 1.0).abs() < 1e-12);
                let sizes: Vec<i64> = parts.iter().map(|part| part.len).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1 && sizes[0] > 0);
                assert_eq!(parts[0].is_shared, total >= size as i64);
            }
        }
    }

    #[test]
    fn the_last_image_of_a_part_is_mixed_with_the_next_of_the_batch() {
        let indices = |rank| Part::new(5, rank, 2).with_next().collect::<Vec<_>>();
        assert_eq!((indices(0), indices(1)), (vec![0, 1, 2], vec![2, 3, 4, 0]));
        assert_eq!(Part::new(1, 1, 2).with_next().collect::<Vec<_>>(), [0], "a whole batch mixes with itself");
    }
}
