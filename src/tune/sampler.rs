//! Values of the next trial: at random, or by a tree-structured Parzen estimator (TPE; Bergstra et al.
//! 2011, "Algorithms for Hyper-Parameter Optimization").
//!
//! TPE splits the trials into a good and a bad part. For each key it estimates the density of the good
//! values, l, and of the bad ones, g, draws candidates from l, and takes the one with the largest l/g.
//! A number's density is a mixture of normal distributions at the observed positions, cut off at the
//! ends, and of a uniform one as the prior; a choice's is that of the counts, with a count of one in
//! advance.
//!
//! Every value is a function of the seed, the number of the trial and the results so far.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::domain::Domain;
use super::halving::Scored;
use crate::util::rng::{Rng, Stream};

/// Trials at random before TPE begins.
const STARTUP: usize = 10;
/// Candidates for each key, as in the paper's experiments with Hyperopt.
const CANDIDATES: usize = 24;
/// Attempts at a trial that TPE makes, before random ones.
const GUIDED: u64 = 20;
/// The good part of the trials.
const GOOD: f64 = 0.2;
/// Trials in the good part, at least and at most.
const MIN_GOOD: usize = 2;
const MAX_GOOD: usize = 25;

/// How a study chooses the values of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Sampler {
    /// A tree-structured Parzen estimator, after 10 trials: the config itself, and 9 at random
    Tpe,
    /// At random, after the config itself
    Random,
}

impl Sampler {
    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpe => "tpe",
            Self::Random => "random",
        }
    }

    /// Positions in the domains for the trial `number`. `positions` has those of earlier trials. Each
    /// `attempt`, from 0, draws others; after some they are all at random, which finds what is left of a
    /// small space.
    pub fn sample(
        self,
        (seed, number, attempt): (u64, usize, u64),
        domains: &[&Domain],
        positions: &[Vec<f64>],
        results: &[Scored],
    ) -> Vec<f64> {
        let split = match self {
            Self::Tpe if attempt < GUIDED => split(results),
            _ => None,
        };
        let sample = |(index, domain): (usize, &&Domain)| {
            let stream = [Stream::Tune as u64, seed, number as u64, index as u64, attempt];
            // The first attempt has no number in its stream.
            let rng = &mut Rng::new(stream.get(..if attempt == 0 { 4 } else { 5 }).unwrap_or(&stream));
            let Some((good, bad)) = &split else { return rng.uniform() };
            let at = |trials: &[usize]| -> Vec<f64> {
                trials.iter().filter_map(|trial| positions.get(*trial)?.get(index).copied()).collect()
            };
            let (good, bad) = (Density::new(domain, &at(good)), Density::new(domain, &at(bad)));
            let candidates = (0..CANDIDATES).map(|_| good.sample(rng));
            let rated = candidates.map(|candidate| (good.at(candidate).ln() - bad.at(candidate).ln(), candidate));
            rated.reduce(|best, next| if next.0 > best.0 { next } else { best }).map_or(0.5, |(_, candidate)| candidate)
        };
        domains.iter().enumerate().map(sample).collect()
    }
}

/// The good and the bad trials, by the highest rung that [`STARTUP`] trials have reached (as BOHB:
/// Falkner, Klein and Hutter 2018); `None` if there is none.
fn split(results: &[Scored]) -> Option<(Vec<usize>, Vec<usize>)> {
    let at_rung = |rung: usize| -> Vec<Scored> { results.iter().filter(|r| r.rung == rung).copied().collect() };
    let top = results.iter().map(|result| result.rung).max()?;
    let mut chosen = (0..=top).rev().map(at_rung).find(|found| found.len() >= STARTUP)?;
    let key = |result: &Scored| result.score.unwrap_or(f64::NEG_INFINITY);
    chosen.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.trial.cmp(&b.trial)));
    let succeeded = chosen.iter().filter(|result| result.score.is_some()).count();
    let count = ((GOOD * chosen.len() as f64).ceil() as usize).clamp(MIN_GOOD, MAX_GOOD).min(succeeded);
    let trials: Vec<usize> = chosen.iter().map(|result| result.trial).collect();
    let (good, bad) = trials.split_at(count);
    Some((good.to_vec(), bad.to_vec()))
}

/// A density over \[0, 1\].
enum Density {
    /// A mixture, equally weighted, of a uniform distribution and normal ones, cut off at 0 and 1: mean,
    /// standard deviation and mass within.
    Numbers(Vec<(f64, f64, f64)>),
    /// The density of each option.
    Options(Vec<f64>),
}

impl Density {
    fn new(domain: &Domain, positions: &[f64]) -> Self {
        match domain.options() {
            Some(count) => {
                let total = (positions.len() + count) as f64;
                let seen = |option: usize| positions.iter().filter(|p| index_of(**p, count) == option).count();
                Self::Options((0..count).map(|option| (seen(option) + 1) as f64 / total).collect())
            }
            None => Self::Numbers(normals(positions)),
        }
    }

    fn sample(&self, rng: &mut Rng) -> f64 {
        match self {
            Self::Numbers(normals) => {
                let chosen = rng.below(normals.len() as u64 + 1) as usize;
                let Some((mean, deviation, _)) = normals.get(chosen) else { return rng.uniform() };
                // At least a third of a normal distribution with its mean within is within.
                let within = |_: usize| Some(mean + deviation * rng.normal()).filter(|x| (0.0..=1.0).contains(x));
                (0..1000).find_map(within).unwrap_or(*mean)
            }
            Self::Options(weights) => {
                let mut rest = rng.uniform();
                let found = weights.iter().position(|weight| {
                    rest -= weight;
                    rest < 0.0
                });
                (found.unwrap_or(weights.len() - 1) as f64 + 0.5) / weights.len() as f64
            }
        }
    }

    fn at(&self, position: f64) -> f64 {
        match self {
            Self::Numbers(normals) => {
                let density = |(mean, deviation, mass): &(f64, f64, f64)| {
                    let z = (position - mean) / deviation;
                    (-0.5 * z * z).exp() / (deviation * std::f64::consts::TAU.sqrt() * mass)
                };
                (1.0 + normals.iter().map(density).sum::<f64>()) / (normals.len() + 1) as f64
            }
            Self::Options(weights) => weights.get(index_of(position, weights.len())).copied().unwrap_or(f64::NAN),
        }
    }
}

fn index_of(position: f64, count: usize) -> usize {
    ((position * count as f64) as usize).min(count.saturating_sub(1))
}

/// A normal distribution at each position. Its standard deviation is the larger distance to a neighbor
/// or an end, as in the paper, within bounds that shrink with the number of positions.
fn normals(positions: &[f64]) -> Vec<(f64, f64, f64)> {
    let mut sorted = positions.to_vec();
    sorted.sort_by(f64::total_cmp);
    let smallest = 1.0 / (sorted.len() + 1).min(100) as f64;
    let neighbor = |index: Option<usize>, end: f64| index.and_then(|index| sorted.get(index)).copied().unwrap_or(end);
    let normal = |(index, mean): (usize, &f64)| {
        let (left, right) = (neighbor(index.checked_sub(1), 0.0), neighbor(Some(index + 1), 1.0));
        let deviation = (mean - left).max(right - mean).clamp(smallest, 1.0);
        let below = |x: f64| 0.5 * (1.0 + erf((x - mean) / (deviation * std::f64::consts::SQRT_2)));
        (*mean, deviation, (below(1.0) - below(0.0)).max(1e-3))
    };
    sorted.iter().enumerate().map(normal).collect()
}

/// The error function to 1.5e-7 (Abramowitz and Stegun 1964, formula 7.1.26).
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let sum = series.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    (1.0 - sum * (-x * x).exp()).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Value;

    fn domains() -> [Domain; 4] {
        [
            Domain::Log { low: 1e-5, high: 1.0 },
            Domain::Uniform { low: -1.0, high: 1.0 },
            Domain::Int { low: 1, high: 64, step: 1, log: false },
            Domain::Choice(["a", "b", "c"].map(Value::from).to_vec()),
        ]
    }

    /// Best, with 0, at (1e-2, 0.5, 12, "b").
    fn toy(values: &[Value]) -> f64 {
        let float = |index: usize| values[index].as_float().unwrap();
        let int = values[2].as_integer().unwrap() as f64;
        -((float(0).log10() + 2.0) / 2.0).powi(2)
            - (float(1) - 0.5).powi(2)
            - ((int - 12.0) / 32.0).powi(2)
            - if values[3].as_str() == Some("b") { 0.0 } else { 0.3 }
    }

    /// The scores of a search without halving.
    fn search(sampler: Sampler, seed: u64, trials: usize) -> Vec<f64> {
        let (domains, mut positions, mut results) = (domains(), Vec::new(), Vec::new());
        let domains: Vec<&Domain> = domains.iter().collect();
        for trial in 0..trials {
            let at = sampler.sample((seed, trial, 0), &domains, &positions, &results);
            let values: Vec<Value> =
                domains.iter().zip(&at).map(|(domain, position)| domain.value(*position)).collect();
            let found: Vec<f64> =
                domains.iter().zip(&values).map(|(domain, value)| domain.position(value).unwrap()).collect();
            // A trial that fails must not stop the search.
            let score = (trial % 7 != 3).then(|| toy(&values));
            positions.push(found);
            results.push(Scored { trial, rung: 0, score });
        }
        results.iter().filter_map(|result| result.score).collect()
    }

    #[test]
    fn tpe_beats_random_search_on_most_seeds() {
        let best = |sampler, seed| search(sampler, seed, 60).into_iter().fold(f64::NEG_INFINITY, f64::max);
        let better = (0..20).filter(|seed| best(Sampler::Tpe, *seed) > best(Sampler::Random, *seed)).count();
        assert!(better >= 16, "TPE was better in {better} of 20 studies");
        let mean = |sampler| (0..20).map(|seed| best(sampler, seed)).sum::<f64>() / 20.0;
        let (tpe, random) = (mean(Sampler::Tpe), mean(Sampler::Random));
        // Measured: -0.125 and -0.228.
        assert!(tpe > 0.75 * random, "mean distance from the best: TPE {tpe}, random {random}");
    }

    #[test]
    fn searches_are_a_function_of_the_seed() {
        for sampler in [Sampler::Tpe, Sampler::Random] {
            assert_eq!(search(sampler, 1, 30), search(sampler, 1, 30));
            assert_ne!(search(sampler, 1, 30), search(sampler, 2, 30));
        }
        assert_eq!(search(Sampler::Tpe, 1, 10), search(Sampler::Random, 1, 10), "10 at random");
    }

    #[test]
    fn attempts_differ_and_find_every_option() {
        let domain = Domain::Choice(["a", "b", "c"].map(Value::from).to_vec());
        let results: Vec<Scored> = (0..20).map(|trial| Scored { trial, rung: 0, score: Some(1.0) }).collect();
        let positions = vec![vec![0.1]; 20];
        for sampler in [Sampler::Tpe, Sampler::Random] {
            let draw = |attempt| sampler.sample((1, 20, attempt), &[&domain], &positions, &results);
            let found: Vec<Value> = (0..100).map(|attempt| domain.value(draw(attempt)[0])).collect();
            assert!(["a", "b", "c"].iter().all(|option| found.contains(&Value::from(*option))), "{found:?}");
        }
    }

    #[test]
    fn the_highest_rung_with_enough_trials_counts() {
        let at = |trial, rung, score| Scored { trial, rung, score: Some(score) };
        let low: Vec<Scored> = (0..12).map(|trial| at(trial, 0, trial as f64)).collect();
        assert_eq!(split(&low).unwrap().0, [11, 10, 9]);
        assert!(split(&low[..9]).is_none());
        let few = [low.clone(), vec![at(0, 1, 99.0)]].concat();
        assert_eq!(split(&few).unwrap().0, [11, 10, 9]);
        let many: Vec<Scored> = low.iter().copied().chain((0..10).map(|trial| at(trial, 1, -(trial as f64)))).collect();
        assert_eq!(split(&many).unwrap().0, [0, 1]);
        let failed: Vec<Scored> = (0..10).map(|trial| Scored { trial, rung: 0, score: None }).collect();
        assert_eq!(split(&failed).unwrap().0, Vec::<usize>::new());
    }

    #[test]
    fn densities_integrate_to_one() {
        for positions in [vec![], vec![0.0], vec![0.5, 0.52, 0.9], vec![1.0; 5]] {
            for domain in domains() {
                let density = Density::new(&domain, &positions);
                let sum: f64 = (0..3000).map(|step| density.at((f64::from(step) + 0.5) / 3000.0)).sum();
                let scale = domain.options().map_or(3000.0, |count| 3000.0 / count as f64);
                assert!((sum / scale - 1.0).abs() < 1e-3, "{domain} {positions:?}: {}", sum / scale);
            }
        }
        // scipy.special.erf([0.5, -1.0])
        assert!((erf(0.5) - 0.520_499_877_8).abs() < 2e-7 && (erf(-1.0) + 0.842_700_792_9).abs() < 2e-7);
    }
}
