//! Asynchronous successive halving (ASHA; Li et al. 2020, "A System for Massively Parallel
//! Hyperparameter Tuning").
//!
//! Rungs are numbers of epochs, each `eta` times the one before. Of the trials at a rung, the best
//! `1 / eta` go on to the next, as soon as they are among them.

use std::collections::HashSet;

use anyhow::Result;

use crate::util::error::input;

/// The rungs of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Epochs at each rung, increasing; at least one.
    epochs: Vec<u32>,
    eta: u32,
}

/// The score of a trial at a rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Number of the trial.
    pub trial: usize,
    /// The rung, from 0.
    pub rung: usize,
    /// Higher is better; `None` for a trial that failed.
    pub score: Option<f64>,
}

/// What a study does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Starts a trial.
    Start,
    /// Trains a trial up to a rung.
    Promote {
        /// Number of the trial.
        trial: usize,
        /// The rung that it goes to.
        rung: usize,
    },
    /// Nothing before another process has finished its work.
    Wait,
    /// Nothing.
    Finish,
}

/// How far a study is.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// Results in any order.
    pub results: &'a [Scored],
    /// Trials and the rungs that they were promoted to.
    pub promotions: &'a [(usize, usize)],
    /// Number of trials that were started.
    pub started: usize,
    /// Number of trials in the end.
    pub limit: usize,
    /// Whether no trial is being trained.
    pub is_idle: bool,
    /// The trial of the config itself, which is trained to the end, whatever its scores.
    pub reference: Option<usize>,
}

impl Position<'_> {
    fn has_promoted(&self, trial: usize, rung: usize) -> bool {
        self.promotions.contains(&(trial, rung))
    }
}

impl Ladder {
    /// Rungs at `min * eta^k` below `max`, and at `max`.
    ///
    /// # Errors
    /// An input error for `min` above `max`.
    pub fn new(min: u32, max: u32, eta: u32) -> Result<Self> {
        if min == 0 || min > max {
            return Err(input(format!(
                "--min-epochs {min}: expected 1 to {max}, the epochs of a full training (--max-epochs or train.epochs)"
            )));
        }
        let rungs = std::iter::successors(Some(min), |epochs| epochs.checked_mul(eta.max(2)));
        let epochs = rungs.take_while(|epochs| *epochs < max).chain([max]).collect();
        Ok(Self { epochs, eta: eta.max(2) })
    }

    /// Epochs at each rung.
    pub fn epochs(&self) -> &[u32] {
        &self.epochs
    }

    /// The last rung.
    pub fn top(&self) -> usize {
        self.epochs.len() - 1
    }

    /// What comes next.
    ///
    /// The reference comes first, then the highest rung with a trial to promote, as in the paper. When
    /// all trials have started and none but the reference has reached the top, the leader of the highest
    /// rung goes there: a study ends with a trial that is fully trained.
    pub fn decide(&self, at: Position<'_>) -> Decision {
        if let Some(rung) = self.next_rung_of_reference(at) {
            return rung;
        }
        let promotable = (0..self.top()).rev().find_map(|rung| {
            let ranked = ranked(at.results, rung);
            let count = ranked.len() / self.eta as usize;
            let best = ranked.into_iter().take(count).filter(|result| result.score.is_some());
            best.map(|result| result.trial).find(|trial| !at.has_promoted(*trial, rung + 1)).map(|trial| (trial, rung))
        });
        if let Some((trial, rung)) = promotable {
            return Decision::Promote { trial, rung: rung + 1 };
        }
        if at.started < at.limit {
            return Decision::Start;
        }
        if at.is_idle { self.promote_leader(at) } else { Decision::Wait }
    }

    /// The rung above the last of the reference.
    fn next_rung_of_reference(&self, at: Position<'_>) -> Option<Decision> {
        let of_reference = at.results.iter().filter(|result| Some(result.trial) == at.reference);
        let last = of_reference.max_by_key(|result| result.rung)?;
        let (trial, rung) = (last.trial, last.rung + 1);
        let goes_on = last.score.is_some() && rung <= self.top() && !at.has_promoted(trial, rung);
        goes_on.then_some(Decision::Promote { trial, rung })
    }

    /// The best trial of the highest rung that has not failed on the way up, unless one is at the top,
    /// apart from the reference.
    fn promote_leader(&self, at: Position<'_>) -> Decision {
        let succeeded = |rung: usize| {
            let others = ranked(at.results, rung).into_iter().filter(|result| Some(result.trial) != at.reference);
            others.filter(|result| result.score.is_some())
        };
        if succeeded(self.top()).next().is_some() {
            return Decision::Finish;
        }
        let leader = (0..self.top())
            .rev()
            .find_map(|rung| succeeded(rung).find(|result| !at.has_promoted(result.trial, rung + 1)));
        leader.map_or(Decision::Finish, |leader| Decision::Promote { trial: leader.trial, rung: leader.rung + 1 })
    }
}

/// The results at a rung, best first; equal scores by the number of the trial, failures last.
fn ranked(results: &[Scored], rung: usize) -> Vec<Scored> {
    let mut found: Vec<Scored> = results.iter().filter(|result| result.rung == rung).copied().collect();
    let key = |result: &Scored| result.score.unwrap_or(f64::NEG_INFINITY);
    found.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.trial.cmp(&b.trial)));
    found
}

/// The best result at the highest rung that has one, of trials that did not fail later.
pub fn leader(results: &[Scored]) -> Option<Scored> {
    let failed: HashSet<usize> =
        results.iter().filter(|result| result.score.is_none()).map(|result| result.trial).collect();
    let left: Vec<Scored> = results.iter().filter(|result| !failed.contains(&result.trial)).copied().collect();
    let rung = left.iter().map(|result| result.rung).max()?;
    ranked(&left, rung).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(trial: usize, rung: usize, score: f64) -> Scored {
        Scored { trial, rung, score: Some(score) }
    }

    /// The decision of a single process, between two trainings.
    fn decide(ladder: &Ladder, results: &[Scored], started: usize, limit: usize) -> Decision {
        let promotions: Vec<(usize, usize)> =
            results.iter().filter(|r| r.rung > 0).map(|r| (r.trial, r.rung)).collect();
        ladder.decide(Position { results, promotions: &promotions, started, limit, is_idle: true, reference: None })
    }

    fn promote(trial: usize, rung: usize) -> Decision {
        Decision::Promote { trial, rung }
    }

    #[test]
    fn rungs_are_powers_up_to_the_end() {
        let epochs = |min, max, eta| Ladder::new(min, max, eta).unwrap().epochs().to_vec();
        assert_eq!(epochs(1, 9, 3), [1, 3, 9]);
        assert_eq!(epochs(2, 50, 3), [2, 6, 18, 50]);
        assert_eq!(epochs(1, 16, 4), [1, 4, 16]);
        assert_eq!(epochs(5, 5, 2), [5]);
        assert_eq!(epochs(1, u32::MAX, 2).len(), 33);
        let message = Ladder::new(6, 5, 3).unwrap_err().to_string();
        assert!(message.contains("--min-epochs 6: expected 1 to 5"), "{message}");
    }

    /// By hand, with eta 2, rungs at 1, 2 and 4 epochs, one process and 8 trials whose scores at every
    /// rung are .1, .5, .3, .7, .2, .8, .6, .4:
    ///
    /// - 0 and 1: the best half of two is 1, which goes to rung 1. There, a half of one is nobody.
    /// - 2 and 3: the best two of .1 .5 .3 .7 are 3 and 1; 3 goes to rung 1. There, the best of .5 .7 is
    ///   3, which goes to the top.
    /// - 4 and 5: the best three of six are 5, 3, 1; 5 goes to rung 1. There, the best one of .5 .7 .8 is
    ///   5, which goes to the top.
    /// - 6: still three of seven: 5, 3, 6. So 6 goes to rung 1, where the best two of .5 .7 .8 .6 are 5
    ///   and 3, both at the top already.
    /// - 7: the best four of eight are 5, 3, 6, 1, all at rung 1.
    #[test]
    fn an_example_by_hand() {
        let ladder = Ladder::new(1, 4, 2).unwrap();
        let scores = [0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.6, 0.4];
        let (mut results, mut promotions, mut started) = (Vec::new(), Vec::new(), 0);
        loop {
            match decide(&ladder, &results, started, 8) {
                Decision::Start => {
                    results.push(at(started, 0, scores[started]));
                    started += 1;
                }
                Decision::Promote { trial, rung } => {
                    promotions.push((started, trial, rung));
                    results.push(at(trial, rung, scores[trial]));
                }
                Decision::Wait | Decision::Finish => break,
            }
        }
        assert_eq!(promotions, [(2, 1, 1), (4, 3, 1), (4, 3, 2), (6, 5, 1), (6, 5, 2), (7, 6, 1)]);
        assert_eq!(leader(&results).unwrap(), at(5, 2, 0.8));
    }

    #[test]
    fn failures_and_ties() {
        let ladder = Ladder::new(1, 3, 3).unwrap();
        let failed = |trial| Scored { trial, rung: 0, score: None };
        assert_eq!(decide(&ladder, &[], 0, 1), Decision::Start);
        assert_eq!(decide(&ladder, &[failed(0), failed(1), failed(2)], 3, 3), Decision::Finish);
        assert_eq!(leader(&[failed(0)]), None);
        let later = [at(0, 0, 0.9), at(1, 0, 0.5), Scored { trial: 0, rung: 1, score: None }];
        assert_eq!(leader(&later), Some(at(1, 0, 0.5)), "the best at rung 0 failed later");
        // A failure counts as a trial at its rung.
        assert_eq!(decide(&ladder, &[failed(0), failed(1), at(2, 0, 0.1)], 3, 9), promote(2, 1));
        let tied = [at(2, 0, 0.5), at(1, 0, 0.5), at(0, 0, 0.4)];
        assert_eq!(decide(&ladder, &tied, 3, 9), promote(1, 1));
        // Failed on the way up: the next best is not promoted instead.
        let on_the_way = [tied.to_vec(), vec![Scored { trial: 1, rung: 1, score: None }]].concat();
        assert_eq!(decide(&ladder, &on_the_way, 3, 9), Decision::Start);
    }

    #[test]
    fn several_processes_promote_a_trial_once_and_wait_for_each_other() {
        let ladder = Ladder::new(1, 9, 3).unwrap();
        let results = [at(0, 0, 0.2), at(1, 0, 0.3), at(2, 0, 0.1)];
        let position =
            Position { results: &results, promotions: &[], started: 4, limit: 4, is_idle: false, reference: None };
        assert_eq!(ladder.decide(position), promote(1, 1));
        let promoted = Position { promotions: &[(1, 1)], ..position };
        assert_eq!(ladder.decide(promoted), Decision::Wait, "for trials 1 and 3");
        assert_eq!(ladder.decide(Position { limit: 5, ..promoted }), Decision::Start);
        // Trial 1 has failed at rung 1, and trial 3 at rung 0.
        let failed = [(1, 1), (3, 0)].map(|(trial, rung)| Scored { trial, rung, score: None });
        let results = [&results[..], &failed].concat();
        let idle = Position { results: &results, is_idle: true, ..promoted };
        assert_eq!(ladder.decide(idle), promote(0, 1));
    }

    #[test]
    fn the_leader_reaches_the_top_in_the_end() {
        let ladder = Ladder::new(1, 9, 3).unwrap();
        let mut results = vec![at(0, 0, 0.2), at(1, 0, 0.3)];
        assert_eq!(decide(&ladder, &results, 2, 2), promote(1, 1));
        results.push(at(1, 1, 0.4));
        assert_eq!(decide(&ladder, &results, 2, 2), promote(1, 2));
        let failed = [results.clone(), vec![Scored { trial: 1, rung: 2, score: None }]].concat();
        assert_eq!(decide(&ladder, &failed, 2, 2), promote(0, 1), "the next best, if the leader fails");
        results.push(at(1, 2, 0.5));
        assert_eq!(decide(&ladder, &results, 2, 2), Decision::Finish);
    }

    #[test]
    fn the_reference_reaches_the_top_and_so_does_another() {
        let ladder = Ladder::new(1, 9, 3).unwrap();
        let decide = |results: &[Scored], promotions: &[(usize, usize)]| {
            let is_idle = true;
            ladder.decide(Position { results, promotions, started: 2, limit: 2, is_idle, reference: Some(0) })
        };
        let mut results = vec![at(0, 0, 0.1), at(1, 0, 0.3)];
        assert_eq!(decide(&results, &[]), promote(0, 1), "although it is the worst");
        assert_eq!(decide(&results, &[(0, 1)]), promote(1, 1), "another process trains the reference");
        results.push(at(0, 1, 0.1));
        assert_eq!(decide(&results, &[(0, 1)]), promote(0, 2));
        let failed = [results.clone(), vec![Scored { trial: 0, rung: 2, score: None }]].concat();
        let up = [(0, 1), (0, 2)];
        assert_eq!(decide(&failed, &up), promote(1, 1), "the reference is not tried again");
        results.push(at(0, 2, 0.2));
        assert_eq!(decide(&results, &up), promote(1, 1), "the leader of the others");
        results.push(at(1, 1, 0.3));
        assert_eq!(decide(&results, &[(0, 1), (0, 2), (1, 1)]), promote(1, 2));
        results.push(at(1, 2, 0.1));
        assert_eq!(decide(&results, &[(0, 1), (0, 2), (1, 1), (1, 2)]), Decision::Finish);
        assert_eq!(leader(&results).unwrap(), at(0, 2, 0.2), "the config itself was better");
    }
}
