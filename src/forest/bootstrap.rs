//! Random parts of a tree: the bootstrap sample of rows, and the features sampled at each node.

use kernels::gini::Mark;

use crate::util::rng::Rng;

/// Samples as many rows as there are labels, with replacement. Returns the distinct rows in
/// ascending order, each with its label and multiplicity.
pub(super) fn bootstrap(rng: &mut Rng, labels: &[u8]) -> (Vec<u32>, Vec<Mark>) {
    let mut counts = vec![0u32; labels.len()];
    for _ in labels {
        if let Some(count) = counts.get_mut(rng.below(labels.len() as u64) as usize) {
            *count += 1;
        }
    }
    let sampled = (0u32..).zip(labels).zip(counts).filter(|(_, count)| *count > 0);
    sampled.map(|((row, label), count)| (row, Mark::new(*label, count))).unzip()
}

/// Samples features without replacement, independently at each node.
#[derive(Debug)]
pub(super) struct FeatureSampler {
    /// All features, the sampled ones first.
    order: Vec<u16>,
    sampled: usize,
}

impl FeatureSampler {
    pub(super) fn new(width: usize) -> Self {
        Self { order: (0..width as u16).collect(), sampled: 0 }
    }

    /// Starts a node: samples `count` features, or all if there are fewer.
    pub(super) fn sample(&mut self, rng: &mut Rng, count: usize) -> &[u16] {
        self.sampled = 0;
        for _ in 0..count {
            self.sample_next(rng);
        }
        self.order.get(..self.sampled).unwrap_or_default()
    }

    /// Samples one more feature of the node; `None` after the last.
    pub(super) fn sample_next(&mut self, rng: &mut Rng) -> Option<u16> {
        let left = self.order.len() - self.sampled;
        if left == 0 {
            return None;
        }
        self.order.swap(self.sampled, self.sampled + rng.below(left as u64) as usize);
        self.sampled += 1;
        self.order.get(self.sampled - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_sample_has_the_size_of_the_data() {
        let labels: Vec<u8> = (0..5000).map(|row| (row % 7) as u8).collect();
        let (rows, marks) = bootstrap(&mut Rng::new(&[1]), &labels);
        assert_eq!(marks.iter().map(|mark| mark.weight()).sum::<u32>(), 5000);
        assert!(rows.is_sorted_by(|a, b| a < b));
        assert!(rows.iter().zip(&marks).all(|(row, mark)| mark.class() == (row % 7) as u8));
        // 1 - 1/e of the rows are in the sample.
        assert!((3100..3220).contains(&rows.len()), "{} distinct rows", rows.len());
    }

    #[test]
    fn features_are_sampled_without_replacement_and_uniformly() {
        let (mut rng, mut sampler) = (Rng::new(&[2]), FeatureSampler::new(10));
        let mut counts = [0; 10];
        for _ in 0..3000 {
            let mut features = sampler.sample(&mut rng, 3).to_vec();
            features.extend(std::iter::from_fn(|| sampler.sample_next(&mut rng)));
            features.iter().take(3).for_each(|feature| counts[usize::from(*feature)] += 1);
            features.sort_unstable();
            assert_eq!(features, (0..10).collect::<Vec<_>>());
        }
        assert!(counts.iter().all(|count| (780..1020).contains(count)), "expected about 900 each: {counts:?}");
        assert_eq!(sampler.sample(&mut rng, 99).len(), 10);
    }
}
