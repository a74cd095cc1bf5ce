//! The random parts of a tree: its sample of rows, and the features looked at in a node.

use kernels::gini::Mark;

use crate::util::rng::Rng;

/// A bootstrap sample: as many rows drawn as there are labels, with replacement; each row drawn once stands there once,
/// marked with its label and how often it was drawn, in ascending order.
pub(super) fn bootstrap(rng: &mut Rng, labels: &[u8]) -> (Vec<u32>, Vec<Mark>) {
    let mut counts = vec![0u32; labels.len()];
    for _ in labels {
        if let Some(count) = counts.get_mut(rng.below(labels.len() as u64) as usize) {
            *count += 1;
        }
    }
    let drawn = (0u32..).zip(labels).zip(counts).filter(|(_, count)| *count > 0);
    drawn.map(|((row, label), count)| (row, Mark::new(*label, count))).unzip()
}

/// Features drawn one after another without replacement, anew for each node.
#[derive(Debug)]
pub(super) struct FeatureDraw {
    /// All features; the drawn ones first.
    order: Vec<u16>,
    drawn: usize,
}

impl FeatureDraw {
    pub(super) fn new(width: usize) -> Self {
        Self { order: (0..width as u16).collect(), drawn: 0 }
    }

    /// The first `count` features of another node; all of them where there are fewer.
    pub(super) fn first(&mut self, rng: &mut Rng, count: usize) -> &[u16] {
        self.drawn = 0;
        for _ in 0..count {
            self.next(rng);
        }
        self.order.get(..self.drawn).unwrap_or_default()
    }

    /// A further feature; `None` when all are drawn.
    pub(super) fn next(&mut self, rng: &mut Rng) -> Option<u16> {
        let left = self.order.len() - self.drawn;
        if left == 0 {
            return None;
        }
        self.order.swap(self.drawn, self.drawn + rng.below(left as u64) as usize);
        self.drawn += 1;
        self.order.get(self.drawn - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_as_many_rows_as_it_is_drawn_from() {
        let labels: Vec<u8> = (0..5000).map(|row| (row % 7) as u8).collect();
        let (rows, marks) = bootstrap(&mut Rng::new(&[1]), &labels);
        assert_eq!(marks.iter().map(|mark| mark.weight()).sum::<u32>(), 5000);
        assert!(rows.is_sorted_by(|a, b| a < b));
        assert!(rows.iter().zip(&marks).all(|(row, mark)| mark.class() == (row % 7) as u8));
        // 1 - 1/e of the rows are drawn.
        assert!((3100..3220).contains(&rows.len()), "{} distinct rows", rows.len());
    }

    #[test]
    fn features_are_drawn_without_replacement_and_evenly() {
        let (mut rng, mut draw) = (Rng::new(&[2]), FeatureDraw::new(10));
        let mut counts = [0; 10];
        for _ in 0..3000 {
            let mut first = draw.first(&mut rng, 3).to_vec();
            first.extend(std::iter::from_fn(|| draw.next(&mut rng)));
            first.iter().take(3).for_each(|feature| counts[usize::from(*feature)] += 1);
            first.sort_unstable();
            assert_eq!(first, (0..10).collect::<Vec<_>>());
        }
        assert!(counts.iter().all(|count| (780..1020).contains(count)), "expected about 900 each: {counts:?}");
        assert_eq!(draw.first(&mut rng, 99).len(), 10);
    }
}
