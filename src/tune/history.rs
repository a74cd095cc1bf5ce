//! What a journal says: the trials of a study, their results, and what is still to be trained.

use std::path::Path;

use anyhow::Result;
use toml::Value;

use super::halving::Scored;
use super::journal::{Record, ResultRecord};
use super::space::Space;
use crate::config;
use crate::util::error::input;

/// A trial and what is known of it.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Its number, from 0.
    pub number: usize,
    /// The value of each key of the space.
    pub values: Vec<Value>,
    /// Where they are in their domains.
    pub positions: Vec<f64>,
    /// Its results at rungs, in order.
    pub results: Vec<ResultRecord>,
}

impl Trial {
    /// The last result.
    pub fn last(&self) -> Option<&ResultRecord> {
        self.results.last()
    }

    /// The score at the highest rung; none for a trial that failed.
    pub fn score(&self) -> Option<f64> {
        self.last().and_then(|result| result.score)
    }

    /// Epochs trained.
    pub fn epochs(&self) -> u32 {
        self.last().map_or(0, |result| result.epochs)
    }
}

/// A trial to be trained up to a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Number of the trial.
    pub trial: usize,
    /// The rung, from 0.
    pub rung: usize,
}

/// What the records of a journal come to.
#[derive(Debug, Default)]
pub struct History {
    /// The trials in their order.
    pub trials: Vec<Trial>,
    /// Results in the order in which they were measured.
    pub results: Vec<ResultRecord>,
    /// Trials and the rungs that they were promoted to.
    pub promotions: Vec<(usize, usize)>,
    /// What has no result yet, in the order of the journal.
    pub open: Vec<Work>,
    /// Number of records read.
    seen: usize,
}

impl History {
    /// Adds the records of `journal` after those already read. The first describes the study.
    ///
    /// # Errors
    /// An input error that names a record that does not follow from those before it.
    pub fn read(&mut self, journal: &Path, records: &[Record], space: &Space) -> Result<()> {
        for (index, record) in records.iter().enumerate().skip(self.seen.max(1)) {
            self.add(record, space).ok_or_else(|| {
                let (shown, line) = (journal.display(), index + 1);
                input(format!(
                    "{shown}:{line}: does not follow from the lines above, so it was edited; restore it, or choose another --out"
                ))
            })?;
        }
        self.seen = records.len();
        Ok(())
    }

    /// `None` for a record that does not follow.
    fn add(&mut self, record: &Record, space: &Space) -> Option<()> {
        match record {
            Record::Study(_) => return None,
            Record::Trial { trial, values } => {
                let values = values.iter().map(|text| parse(text)).collect::<Option<Vec<_>>>()?;
                let is_next = *trial == self.trials.len() && values.len() == space.parameters.len();
                let pairs = space.parameters.iter().zip(&values);
                let positions = pairs.map(|(parameter, value)| parameter.domain.position(value));
                let positions = positions.collect::<Option<Vec<f64>>>().filter(|_| is_next)?;
                self.trials.push(Trial { number: *trial, values, positions, results: Vec::new() });
                self.open.push(Work { trial: *trial, rung: 0 });
            }
            Record::Promotion { trial, rung } => {
                let last = self.trials.get(*trial)?.last()?;
                let is_new = !self.promotions.contains(&(*trial, *rung));
                let follows = last.rung + 1 == *rung && last.score.is_some() && is_new;
                follows.then(|| self.promotions.push((*trial, *rung)))?;
                self.open.push(Work { trial: *trial, rung: *rung });
            }
            Record::Result(result) => {
                let work = Work { trial: result.trial, rung: result.rung };
                let index = self.open.iter().position(|open| *open == work)?;
                self.open.remove(index);
                self.trials.get_mut(result.trial)?.results.push(result.clone());
                self.results.push(result.clone());
            }
        }
        Some(())
    }

    /// The results, for decisions.
    pub fn scored(&self) -> Vec<Scored> {
        self.results.iter().map(ResultRecord::scored).collect()
    }
}

/// A value as TOML.
fn parse(text: &str) -> Option<Value> {
    config::read_table(&format!("value = {text}")).ok()?.remove("value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::domain::Domain;
    use crate::tune::space::Parameter;

    fn space() -> Space {
        let domain = Domain::Int { low: 1, high: 4, step: 1, log: false };
        Space { parameters: vec![Parameter { key: "train.batch".to_owned(), domain }] }
    }

    fn trial(trial: usize, value: &str) -> Record {
        Record::Trial { trial, values: vec![value.to_owned()] }
    }

    fn result(trial: usize, rung: usize, score: Option<f64>) -> Record {
        Record::Result(ResultRecord { trial, rung, epochs: 1, best_epoch: None, score, error: None })
    }

    fn first() -> Record {
        // What it says is not read here.
        trial(9, "")
    }

    #[test]
    fn what_has_no_result_is_open() {
        let promotion = |trial, rung| Record::Promotion { trial, rung };
        let mut records = vec![first(), trial(0, "1"), trial(1, "3"), result(1, 0, Some(0.5)), promotion(1, 1)];
        let mut history = History::default();
        let read = |history: &mut History, records: &[Record]| history.read(Path::new("s.jsonl"), records, &space());
        read(&mut history, &records).unwrap();
        assert_eq!(history.open, [Work { trial: 0, rung: 0 }, Work { trial: 1, rung: 1 }]);
        assert_eq!(history.trials[1].positions, [0.625]);
        records.extend([result(1, 1, None), result(0, 0, Some(0.2))]);
        read(&mut history, &records).unwrap();
        assert!(history.open.is_empty() && history.trials[1].score().is_none());
        assert_eq!((history.results.len(), history.promotions.as_slice()), (3, &[(1, 1)][..]));
        records.splice(5..5, [promotion(1, 1)]);
        let twice = read(&mut History::default(), &records).unwrap_err().to_string();
        assert!(twice.starts_with("s.jsonl:6: does not follow from the lines above"), "{twice}");
    }

    #[test]
    fn records_that_do_not_follow_are_named() {
        for record in [
            trial(0, "1"),
            trial(1, "5"),
            trial(1, "1 2"),
            trial(2, "1"),
            result(1, 0, Some(0.5)),
            result(0, 1, Some(0.5)),
            Record::Promotion { trial: 0, rung: 1 },
            Record::Promotion { trial: 7, rung: 1 },
        ] {
            let records = [first(), trial(0, "1"), record.clone()];
            let read = History::default().read(Path::new("d/study.jsonl"), &records, &space());
            let message = read.unwrap_err().to_string();
            assert!(
                message.starts_with("d/study.jsonl:3: does not follow from the lines above"),
                "{record:?}: {message}"
            );
        }
    }
}
