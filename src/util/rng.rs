//! Counter-based random numbers: each sample is a pure function of keys such as (seed, epoch, row).
//!
//! A resumed run therefore needs no generator state, threads may sample in any order, and CPU and
//! GPU runs see the same numbers. The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast
//! splittable pseudorandom number generators").

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The purpose of a stream, as its first key: streams with equal further keys are independent.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    /// Train/validation split.
    Split = 1,
    /// Order of rows in an epoch.
    Shuffle = 2,
    /// Parameters of the augmentation.
    Augment = 3,
    /// Initial weights.
    Init = 4,
    /// libtorch's seed of a training step, for dropout and stochastic depth.
    Step = 5,
    /// Synthetic faces.
    Synthetic = 6,
    /// Bootstrap samples and split features of a forest's trees.
    Forest = 7,
    /// Resamples of a paired bootstrap.
    Bootstrap = 8,
    /// Mixup and CutMix.
    Mix = 9,
    /// Sampling rows with replacement.
    Sampling = 10,
    /// Training images that calibrate quantization.
    Calibration = 11,
    /// Values of the trials of a study.
    Tune = 12,
}

/// A stream of random numbers, determined by its keys.
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
    /// Creates the stream of these keys, whose order and number matter.
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

    /// Standard normal: one value of a Box-Muller pair.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Beta(alpha, alpha) in [0, 1], for `alpha` > 0: X / (X + Y) of two Gamma(alpha) variates.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        // In logarithms, because X and Y underflow for a small alpha. X is a Gamma(alpha + 1)
        // variate times U^(1 / alpha) (Marsaglia and Tsang, section 6).
        let (x, y) = (self.gamma(alpha + 1.0), self.gamma(alpha + 1.0));
        let (u, v) = (1.0 - self.uniform(), 1.0 - self.uniform());
        let ln_ratio = (v.ln() - u.ln()) / alpha + y.ln() - x.ln();
        1.0 / (1.0 + ln_ratio.exp())
    }

    /// Gamma distribution with `shape` >= 1 and scale 1 (Marsaglia and Tsang 2000, "A Simple Method
    /// for Generating Gamma Variables").
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            // The paper has ln U; this U can be 0, and 1 - U cannot.
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Uniform integer in 0..bound without bias (Lemire 2019); 0 when `bound` is 0.
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

    /// Random permutation of 0..n (Fisher-Yates shuffle).
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
    fn streams_depend_on_all_keys() {
        let first = |keys: &[u64]| Rng::new(keys).next_u64();
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        let streams =
            [first(&[1, 2]), first(&[2, 1]), first(&[1, 2, 0]), first(&[1]), first(&[]), first(&[0]), first(&[0, 0])];
        for (i, a) in streams.iter().enumerate() {
            assert!(streams[..i].iter().all(|b| a != b), "two lists of keys give the same stream");
        }
    }

    #[test]
    fn uniform_and_normal_samples_have_the_right_moments() {
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
    fn gamma_samples_have_the_right_moments() {
        let n = 50_000;
        for shape in [1.0, 1.4, 11.0] {
            let mut rng = Rng::new(&[11]);
            let samples: Vec<f64> = (0..n).map(|_| rng.gamma(shape)).collect();
            let mean = samples.iter().sum::<f64>() / f64::from(n);
            let variance = samples.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
            // Mean and variance equal the shape, the fourth central moment is 3 shape^2 + 6 shape.
            // The tolerance is five standard errors.
            let n = f64::from(n);
            assert!((mean - shape).abs() < 5.0 * (shape / n).sqrt(), "shape {shape}: mean {mean}");
            let tolerance = 5.0 * ((2.0 * shape * shape + 6.0 * shape) / n).sqrt();
            assert!((variance - shape).abs() < tolerance, "shape {shape}: variance {variance}");
        }
    }

    /// Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)). Its CDF is 2/pi asin(sqrt x) for a =
    /// 1/2 and 3 x^2 - 2 x^3 for a = 2.
    #[test]
    fn beta_samples_have_the_right_distribution() {
        let n = 40_000u32;
        for alpha in [0.2, 0.5, 1.0, 2.0, 10.0] {
            let mut rng = Rng::new(&[12]);
            let samples: Vec<f64> = (0..n).map(|_| rng.beta(alpha)).collect();
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let mean = samples.iter().sum::<f64>() / f64::from(n);
            let variance = samples.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
            assert!((mean - 0.5).abs() < 5.0 * (expected / f64::from(n)).sqrt(), "alpha {alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "alpha {alpha}: variance {variance}, not {expected}");
            let cdf = |x: f64| samples.iter().filter(|v| **v < x).count() as f64 / f64::from(n);
            let expected = match alpha {
                0.5 => 0.1f64.sqrt().asin() * std::f64::consts::FRAC_2_PI,
                1.0 => 0.1,
                2.0 => 0.028,
                _ => continue,
            };
            assert!((cdf(0.1) - expected).abs() < 0.01, "alpha {alpha}: CDF {} at 0.1, not {expected}", cdf(0.1));
        }
        for alpha in [1e-300, 1e-9] {
            let ends = (0..100).map(|key| Rng::new(&[key]).beta(alpha)).filter(|v| *v == 0.0 || *v == 1.0).count();
            assert_eq!(ends, 100, "alpha {alpha}: every sample is 0 or 1, not NaN");
        }
    }

    #[test]
    fn permutations_are_complete_and_uniform() {
        let mut order = Rng::new(&[3]).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        let first = (0..6000).filter(|&k| Rng::new(&[k]).permutation(6)[0] == 0).count();
        assert!((850..1150).contains(&first), "element 0 came first {first} times of 6000, expected about 1000");
    }
}
