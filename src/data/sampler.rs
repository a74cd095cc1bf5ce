//! `train.sampling`: which training images make up an epoch, and in which order.

use crate::util::rng::{Rng, Stream};

/// `train.sampling`: how the training images of an epoch are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every image once, in random order.
    #[default]
    Shuffle,
    /// The same number of images, sampled with replacement so that all classes are equally likely.
    Balanced,
}

/// Samples the images of an epoch.
#[derive(Debug, Clone)]
pub enum Sampler {
    /// A permutation of this many images.
    Shuffle(usize),
    /// Samples a class uniformly, then one of its images.
    Balanced {
        /// Positions of the images of each nonempty class.
        classes: Vec<Vec<i64>>,
        /// Number of images, which is also the number of samples.
        count: usize,
    },
}

impl Sampler {
    /// The sampler for `train.sampling` over images with these labels.
    pub fn new(sampling: Sampling, labels: &[u8]) -> Self {
        let count = labels.len();
        match sampling {
            Sampling::Shuffle => Self::Shuffle(count),
            Sampling::Balanced => {
                let mut classes = vec![Vec::new(); usize::from(u8::MAX) + 1];
                for (position, label) in (0..).zip(labels) {
                    if let Some(class) = classes.get_mut(usize::from(*label)) {
                        class.push(position);
                    }
                }
                classes.retain(|class| !class.is_empty());
                Self::Balanced { classes, count }
            }
        }
    }

    /// Number of images per epoch.
    pub fn count(&self) -> usize {
        match self {
            Self::Shuffle(count) | Self::Balanced { count, .. } => *count,
        }
    }

    /// The positions of the images of `epoch` (from 0), in order: a function of labels, seed and
    /// epoch.
    ///
    /// Balanced sampling follows the distribution of PyTorch's
    /// `WeightedRandomSampler(1 / count[label], N)`.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<i64> {
        match self {
            Self::Shuffle(count) => Rng::new(&[Stream::Shuffle as u64, seed, epoch]).permutation(*count),
            Self::Balanced { classes, count } => {
                let mut rng = Rng::new(&[Stream::Sampling as u64, seed, epoch]);
                let mut below = |length: usize| rng.below(length as u64) as usize;
                // With count > 0 there is a class, and no class is empty.
                let mut sample = |_| classes.get(below(classes.len())).and_then(|class| class.get(below(class.len())));
                (0..*count).filter_map(|number| sample(number).copied()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3000 images: 2700 of class 0, 270 of class 2, 30 of class 5.
    fn labels() -> Vec<u8> {
        (0..3000).map(|position| [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 5][(position % 100_usize).saturating_sub(89)]).collect()
    }

    #[test]
    fn shuffle_is_a_seeded_permutation() {
        let order = Sampler::new(Sampling::Shuffle, &labels()).order(7, 3);
        assert_eq!(order, Rng::new(&[Stream::Shuffle as u64, 7, 3]).permutation(3000));
    }

    #[test]
    fn balanced_sampling_is_uniform_over_classes_and_their_images() {
        let labels = labels();
        assert_eq!([0, 2, 5].map(|class| labels.iter().filter(|l| **l == class).count()), [2700, 270, 30]);
        let sampler = Sampler::new(Sampling::Balanced, &labels);
        let mut counts = vec![0u32; labels.len()];
        for epoch in 0..10 {
            let order = sampler.order(7, epoch);
            assert_eq!(order.len(), sampler.count());
            order.iter().for_each(|position| counts[*position as usize] += 1);
        }
        for class in [0, 2, 5] {
            let in_class = counts.iter().zip(&labels).filter(|(_, label)| **label == class).map(|(count, _)| *count);
            // 30,000 samples, a third each. Tolerance: 5 standard deviations of 82.
            let total = in_class.sum::<u32>();
            assert!(total.abs_diff(10_000) < 408, "class {class}: {total}");
        }
        // Each image of class 5 is expected 333 times. Tolerance: 5 standard deviations of 18.
        let rare = counts.iter().zip(&labels).filter(|(_, label)| **label == 5).map(|(count, _)| *count);
        assert!(rare.into_iter().all(|count| count.abs_diff(333) < 91));
    }

    #[test]
    fn balanced_sampling_is_a_function_of_seed_and_epoch() {
        let sampler = Sampler::new(Sampling::Balanced, &labels());
        assert_eq!(sampler.order(7, 3), sampler.clone().order(7, 3));
        assert_ne!(sampler.order(7, 3), sampler.order(7, 4));
        assert_ne!(sampler.order(7, 3), sampler.order(8, 3));
        assert!(Sampler::new(Sampling::Balanced, &[]).order(7, 3).is_empty());
    }
}
