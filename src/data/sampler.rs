//! `train.sampling`: which training images an epoch has, and in which order.

use crate::util::rng::{Rng, Stream};

/// `train.sampling`: which training images an epoch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every image once, in random order.
    #[default]
    Shuffle,
    /// As many draws with replacement, each class as probable as any other.
    Balanced,
}

/// Draws the images of an epoch.
#[derive(Debug, Clone)]
pub enum Sampler {
    /// Each of this many images once.
    Shuffle(usize),
    /// As many draws as there are images: a class of those that have any, then one of its images.
    Balanced {
        /// Positions of the images of each class that has any.
        classes: Vec<Vec<i64>>,
        /// Images in all.
        count: usize,
    },
}

impl Sampler {
    /// The sampler that `train.sampling` asks for, of images with these labels.
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

    /// Images that an epoch has.
    pub fn count(&self) -> usize {
        match self {
            Self::Shuffle(count) | Self::Balanced { count, .. } => *count,
        }
    }

    /// The positions of the images of `epoch` (from 0), in their order: a function of labels, seed and epoch.
    ///
    /// Balanced draws are with replacement, each image with a probability inverse to its class's count, as PyTorch's
    /// `WeightedRandomSampler(1 / count[label], N)`. A class first and then an image in it is that distribution exactly.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<i64> {
        match self {
            Self::Shuffle(count) => Rng::new(&[Stream::Shuffle as u64, seed, epoch]).permutation(*count),
            Self::Balanced { classes, count } => {
                let mut rng = Rng::new(&[Stream::Sampling as u64, seed, epoch]);
                let mut below = |length: usize| rng.below(length as u64) as usize;
                // There are draws only where there are images, so that a class has one.
                let mut draw = |_| classes.get(below(classes.len())).and_then(|class| class.get(below(class.len())));
                (0..*count).filter_map(|number| draw(number).copied()).collect()
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
    fn shuffling_is_the_permutation_it_always_was() {
        let order = Sampler::new(Sampling::Shuffle, &labels()).order(7, 3);
        assert_eq!(order, Rng::new(&[Stream::Shuffle as u64, 7, 3]).permutation(3000));
    }

    #[test]
    fn balanced_draws_give_classes_and_their_images_equal_chances() {
        let labels = labels();
        assert_eq!([0, 2, 5].map(|class| labels.iter().filter(|l| **l == class).count()), [2700, 270, 30]);
        let sampler = Sampler::new(Sampling::Balanced, &labels);
        let mut drawn = vec![0u32; labels.len()];
        for epoch in 0..10 {
            let order = sampler.order(7, epoch);
            assert_eq!(order.len(), sampler.count());
            order.iter().for_each(|position| drawn[*position as usize] += 1);
        }
        for class in [0, 2, 5] {
            let of_class = || drawn.iter().zip(&labels).filter(|(_, label)| **label == class).map(|(count, _)| *count);
            // 30,000 draws, a third each: standard deviation 82. Five of them are allowed.
            assert!(of_class().sum::<u32>().abs_diff(10_000) < 408, "class {class}: {}", of_class().sum::<u32>());
        }
        // An image of class 5 comes 333 times, standard deviation 18.
        let rare = drawn.iter().zip(&labels).filter(|(_, label)| **label == 5).map(|(count, _)| *count);
        assert!(rare.into_iter().all(|count| count.abs_diff(333) < 91));
    }

    #[test]
    fn balanced_draws_follow_from_seed_and_epoch() {
        let sampler = Sampler::new(Sampling::Balanced, &labels());
        assert_eq!(sampler.order(7, 3), sampler.clone().order(7, 3));
        assert_ne!(sampler.order(7, 3), sampler.order(7, 4));
        assert_ne!(sampler.order(7, 3), sampler.order(8, 3));
        assert!(Sampler::new(Sampling::Balanced, &[]).order(7, 3).is_empty());
    }
}
