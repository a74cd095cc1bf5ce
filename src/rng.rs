//! Counter-based random numbers: every draw is a function of its keys, such as (seed, epoch, row), and of nothing else.
//!
//! So a resumed run needs no generator state, threads may draw in any order, and CPU and GPU runs see the same draws.
//! The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a stream of draws is for; keeps streams of equal numeric keys apart.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    /// Assigning rows to training and validation.
    Split = 1,
    /// The order of rows in an epoch.
    Shuffle = 2,
    /// Parameters of the augmentation.
    Augment = 3,
    /// Initial weights.
    Init = 4,
    /// Dropout and whatever else libtorch draws in a step.
    Step = 5,
    /// Drawn faces.
    Draw = 6,
    /// Samples and features of a forest's trees.
    Forest = 7,
    /// Faces of a bootstrap's resamples.
    Bootstrap = 8,
    /// Faces of an epoch drawn with replacement.
    Sampling = 9,
}

/// A stream of random numbers, fixed by the keys it was made from.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of these keys. Keys are hashed one after another: order and number matter.
    pub fn new(keys: &[u64]) -> Self {
        let state =
            keys.iter().fold(GOLDEN, |state, key| mix(state.wrapping_add(GOLDEN) ^ mix(key.wrapping_add(GOLDEN))));
        Self { state }
    }

    /// Uniform over all 64-bit integers.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal (Box and Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in 0..bound without bias (Lemire 2019); 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A random order of 0..n (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..n as i64).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fix_the_stream() {
        let draw = |keys: &[u64]| Rng::new(keys).next_u64();
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        let streams =
            [draw(&[1, 2]), draw(&[2, 1]), draw(&[1, 2, 0]), draw(&[1]), draw(&[]), draw(&[0]), draw(&[0, 0])];
        for (i, a) in streams.iter().enumerate() {
            assert!(streams[..i].iter().all(|b| a != b), "two key lists share a stream");
        }
    }

    #[test]
    fn draws_have_the_right_moments() {
        let n = 100_000;
        let mut rng = Rng::new(&[7]);
        let mean = (0..n).map(|_| rng.uniform()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "mean of U(0,1) was {mean}");
        let normals: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "N(0,1) had mean {mean}, variance {variance}");
    }

    #[test]
    fn permutation_is_one_and_uniform_enough() {
        let mut order = Rng::new(&[3]).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        let first = (0..6000).filter(|&k| Rng::new(&[k]).permutation(6)[0] == 0).count();
        assert!((850..1150).contains(&first), "element 0 came first {first} times of 6000, expected about 1000");
    }
}
