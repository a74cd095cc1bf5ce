//! How much of the differences between trials each key explains.
//!
//! The measure is epsilon squared (Kelley 1935): the trials are sorted by the key's value and cut into
//! groups; what remains of the variance of the scores within groups is compared with all of it, with
//! the correction for the number of groups, and negative values are 0. It is near 0 for a key without
//! effect and 1 for one that alone determines the score. It sees the effect of each key alone, not of two
//! together, and TPE, which samples good regions more often, makes keys depend on one another.

/// Groups of a number's values.
const GROUPS: usize = 4;
/// Trials in a group, at least, on average.
const MIN_GROUP: usize = 3;

/// The share of the variance of `scores` that groups of `positions` explain, from 0 to 1; `options` is
/// the number of options of a choice. `None` for too few trials or equal scores.
pub fn explained(positions: &[f64], scores: &[f64], options: Option<usize>) -> Option<f64> {
    let count = positions.len().min(scores.len());
    let groups = match options {
        Some(options) => by_option(positions, scores, options),
        None => by_quantile(positions, scores, GROUPS.min(count / MIN_GROUP)),
    };
    let groups: Vec<Vec<f64>> = groups.into_iter().filter(|group| !group.is_empty()).collect();
    if count < 2 * MIN_GROUP || groups.len() < 2 || groups.len() + 1 > count {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let squares = |values: &[f64], mean: f64| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let total = squares(scores, mean(scores));
    let within: f64 = groups.iter().map(|group| squares(group, mean(group))).sum();
    let (all, rest) = ((count - 1) as f64, (count - groups.len()) as f64);
    (total > 0.0).then(|| (1.0 - within / rest * all / total).clamp(0.0, 1.0))
}

fn by_option(positions: &[f64], scores: &[f64], options: usize) -> Vec<Vec<f64>> {
    let mut groups = vec![Vec::new(); options];
    for (position, score) in positions.iter().zip(scores) {
        let index = ((position * options as f64) as usize).min(options.saturating_sub(1));
        if let Some(group) = groups.get_mut(index) {
            group.push(*score);
        }
    }
    groups
}

/// Groups of about equal size; equal positions are in one group.
fn by_quantile(positions: &[f64], scores: &[f64], groups: usize) -> Vec<Vec<f64>> {
    let mut pairs: Vec<(f64, f64)> = positions.iter().copied().zip(scores.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = vec![Vec::new(); groups];
    let (mut before, mut index) = (None, 0);
    for (rank, (position, score)) in pairs.iter().enumerate() {
        if before != Some(*position) {
            index = rank * groups / pairs.len().max(1);
        }
        before = Some(*position);
        if let Some(group) = found.get_mut(index) {
            group.push(*score);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    #[test]
    fn a_key_that_decides_explains_all_and_another_nothing() {
        let rng = &mut Rng::new(&[1]);
        let positions: Vec<[f64; 2]> = (0..400).map(|_| [rng.uniform(), rng.uniform()]).collect();
        let at = |index: usize| positions.iter().map(|p| p[index]).collect::<Vec<f64>>();
        let scores: Vec<f64> = positions.iter().map(|p| -(p[0] - 0.5).powi(2)).collect();
        let (first, second) = (explained(&at(0), &scores, None).unwrap(), explained(&at(1), &scores, None).unwrap());
        assert!(first > 0.5 && second < 0.05, "{first} {second}");
        let options: Vec<f64> = positions.iter().map(|p| if p[0] < 0.5 { 0.25 } else { 0.75 }).collect();
        let scores: Vec<f64> = options.iter().map(|p| p * 2.0).collect();
        assert_eq!(explained(&options, &scores, Some(2)), Some(1.0));
    }

    /// Groups (1, 2, 3) and (4, 5, 6): the total sum of squares is 17.5, that within is 4, so
    /// 1 - (4 / 4) / (17.5 / 5) = 5 / 7.
    #[test]
    fn an_example_by_hand() {
        let positions = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9];
        let scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        for options in [None, Some(2)] {
            assert!((explained(&positions, &scores, options).unwrap() - 5.0 / 7.0).abs() < 1e-12);
        }
        assert_eq!(explained(&positions, &[1.0; 6], None), None, "equal scores");
        assert_eq!(explained(&positions[..5], &scores[..5], None), None, "too few");
        assert_eq!(explained(&[0.5; 6], &scores, None), None, "one value");
        assert_eq!(explained(&[], &[], Some(3)), None);
    }
}
