//! `--shard I/N`: the part of a sweep's runs that one machine trains, as an argument or from the
//! variables that a scheduler sets for the tasks of an array.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

use crate::util::error::input;

/// Sets the number of shards where the scheduler gives none, or another one.
pub const COUNT_VARIABLE: &str = "GRIMACE_SHARD_COUNT";

/// Shards of the largest array.
const MAX_SHARDS: u32 = 1_000_000;

/// Variables with the index of an array's task, and with the number of tasks if there is one.
const SCHEDULERS: [Scheduler; 3] = [
    Scheduler { name: "Slurm", index: "SLURM_ARRAY_TASK_ID", count: Some("SLURM_ARRAY_TASK_COUNT") },
    Scheduler { name: "Kubernetes", index: "JOB_COMPLETION_INDEX", count: None },
    Scheduler { name: "AWS Batch", index: "AWS_BATCH_JOB_ARRAY_INDEX", count: Some("AWS_BATCH_JOB_ARRAY_SIZE") },
];

struct Scheduler {
    name: &'static str,
    index: &'static str,
    count: Option<&'static str>,
}

/// Shard `index` of `count`: the runs at positions `index`, `index + count`, ... of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Less than `count`.
    index: u32,
    count: u32,
}

/// The value of `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardChoice {
    /// `I/N`.
    Given(Shard),
    /// `auto`: from the variables of a scheduler.
    Auto,
}

impl fmt::Display for Shard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.index, self.count)
    }
}

impl FromStr for ShardChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or("expected I/N, such as 0/4, or auto")?;
        Shard::new(index, count).map(Self::Given)
    }
}

impl ShardChoice {
    /// The shard of this process; `auto` reads the environment through `variable`.
    ///
    /// # Errors
    /// For `auto`, an input error that names the variable that is missing or has a bad value.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
        match self {
            Self::Given(shard) => Ok(shard),
            Self::Auto => Shard::from_scheduler(&variable).map_err(|problem| input(format!("--shard auto: {problem}"))),
        }
    }
}

impl Shard {
    fn new(index: u32, count: u32) -> Result<Self, String> {
        if count == 0 || count > MAX_SHARDS {
            return Err(format!("{count} shards; expected 1 to {MAX_SHARDS}"));
        }
        if index >= count {
            return Err(format!("there is no shard {index} of {count}; expected 0 to {}", count - 1));
        }
        Ok(Self { index, count })
    }

    /// The items of this shard: every `count`-th, so that the seeds and values of a slow config are
    /// spread over the shards.
    pub fn select<T>(self, items: Vec<T>) -> Vec<T> {
        items.into_iter().skip(self.index as usize).step_by(self.count as usize).collect()
    }

    /// The shard of an array's task. A count in [`COUNT_VARIABLE`] takes precedence over that of the
    /// scheduler; the index then counts from 0 in every case.
    fn from_scheduler(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let found: Vec<&Scheduler> = SCHEDULERS.iter().filter(|known| variable(known.index).is_some()).collect();
        let scheduler = match found.as_slice() {
            [only] => only,
            [] => {
                let names = SCHEDULERS.map(|known| known.index).join(", ");
                return Err(format!("this is no task of an array: none of {names} is set; give --shard I/N"));
            }
            [first, second, ..] => {
                return Err(format!("{} and {} are both set; give --shard I/N", first.index, second.index));
            }
        };
        let number = |name: &str| read_number(variable, name);
        let index = number(scheduler.index)?;
        if variable(COUNT_VARIABLE).is_some() {
            let count = number(COUNT_VARIABLE)?;
            return Self::new(index, count)
                .map_err(|problem| format!("{} = {index} and {COUNT_VARIABLE} = {count}: {problem}", scheduler.index));
        }
        let Some(variable_of_count) = scheduler.count.filter(|name| variable(name).is_some()) else {
            return Err(format!(
                "{} does not give the number of tasks; set {COUNT_VARIABLE} to it, or give --shard I/N",
                scheduler.name
            ));
        };
        let count = number(variable_of_count)?;
        // The array of Slurm may begin at any number and have a step.
        let position = match scheduler.name {
            "Slurm" => slurm_position(variable, index, count)?,
            _ => index,
        };
        Self::new(position, count)
            .map_err(|problem| format!("{} = {index} and {variable_of_count} = {count}: {problem}", scheduler.index))
    }
}

/// The position from 0 of a Slurm task in its array `--array=MIN-MAX:STEP` of `count` tasks.
fn slurm_position(variable: &impl Fn(&str) -> Option<String>, index: u32, count: u32) -> Result<u32, String> {
    let or = |name: &str, default: u32| variable(name).map_or(Ok(default), |_| read_number(variable, name));
    let (first, step) = (or("SLURM_ARRAY_TASK_MIN", 0)?, or("SLURM_ARRAY_TASK_STEP", 1)?.max(1));
    let last = or("SLURM_ARRAY_TASK_MAX", first.saturating_add(count.saturating_sub(1).saturating_mul(step)))?;
    // Slurm gives the step 1 for a list such as 0,2,5. With a gap some shards would have no task.
    let range = last.saturating_sub(first);
    if range % step != 0 || range / step != count.saturating_sub(1) {
        return Err(format!(
            "the array has gaps: {count} tasks from {first} to {last} in steps of {step}; set {COUNT_VARIABLE} to the \
             number of shards, so that the task ID is the shard's index from 0, or give --shard I/N"
        ));
    }
    let offset = index.checked_sub(first).filter(|offset| offset % step == 0);
    offset.map(|offset| offset / step).ok_or_else(|| {
        format!("SLURM_ARRAY_TASK_ID = {index} is not in the array {first}-{last}:{step}; give --shard I/N")
    })
}

fn read_number(variable: &impl Fn(&str) -> Option<String>, name: &str) -> Result<u32, String> {
    let value = variable(name).unwrap_or_default();
    value.trim().parse().map_err(|_| format!("{name} = {value:?}; expected a number from 0; give --shard I/N"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(variables: &[(&str, &str)]) -> Result<String, String> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        ShardChoice::Auto.resolve(variable).map(|shard| shard.to_string()).map_err(|error| error.to_string())
    }

    fn slurm(id: &str, min: &str, max: &str, step: &str, count: &str) -> Result<String, String> {
        auto(&[
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_MIN", min),
            ("SLURM_ARRAY_TASK_MAX", max),
            ("SLURM_ARRAY_TASK_STEP", step),
            ("SLURM_ARRAY_TASK_COUNT", count),
        ])
    }

    #[test]
    fn every_run_is_in_exactly_one_shard() {
        for (runs, count) in [(0, 1), (1, 3), (7, 3), (9, 3), (10, 10)] {
            let mut all: Vec<u32> =
                (0..count).flat_map(|index| Shard::new(index, count).unwrap().select((0..runs).collect())).collect();
            all.sort_unstable();
            assert_eq!(all, (0..runs).collect::<Vec<u32>>(), "{runs} runs, {count} shards");
        }
        assert_eq!(Shard::new(1, 3).unwrap().select((0..8).collect()), [1, 4, 7]);
    }

    #[test]
    fn arguments_are_checked() {
        assert_eq!("auto".parse(), Ok(ShardChoice::Auto));
        assert_eq!("3/4".parse(), Ok(ShardChoice::Given(Shard { index: 3, count: 4 })));
        for (text, part) in [
            ("4/4", "there is no shard 4 of 4; expected 0 to 3"),
            ("0/0", "0 shards; expected 1 to"),
            ("0/9999999", "9999999 shards"),
            ("1", "expected I/N, such as 0/4, or auto"),
            ("-1/4", "expected I/N"),
            ("a/b", "expected I/N"),
        ] {
            let message = text.parse::<ShardChoice>().unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn slurm_arrays_may_begin_anywhere_and_have_a_step() {
        assert_eq!(slurm("2", "0", "3", "1", "4").unwrap(), "2/4");
        assert_eq!(slurm("1", "1", "4", "1", "4").unwrap(), "0/4");
        assert_eq!(slurm("7", "1", "7", "2", "4").unwrap(), "3/4");
        assert_eq!(slurm("9", "9", "9", "1", "1").unwrap(), "0/1");
        // 0,2,5 and 1-7:2 without its last task.
        for (id, min, max, step, count) in [("2", "0", "5", "1", "3"), ("1", "1", "7", "2", "3")] {
            let message = slurm(id, min, max, step, count).unwrap_err();
            assert!(message.contains("the array has gaps") && message.contains(COUNT_VARIABLE), "{message}");
        }
        // Only the ID and the count, as a test of a script may set them.
        let bare = [("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_COUNT", "2")];
        assert_eq!(auto(&bare).unwrap(), "1/2");
    }

    #[test]
    fn a_count_of_our_own_makes_the_task_id_the_index() {
        let with_count = |variables: &[(&str, &str)]| auto(&[variables, &[(COUNT_VARIABLE, "4")]].concat());
        assert_eq!(with_count(&[("JOB_COMPLETION_INDEX", "3")]).unwrap(), "3/4");
        assert_eq!(with_count(&[("AWS_BATCH_JOB_ARRAY_INDEX", "0")]).unwrap(), "0/4");
        // Two tasks of four submitted again with --array=1,3.
        let again = [("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "2")];
        assert_eq!(with_count(&again).unwrap(), "3/4");
        let message = with_count(&[("SLURM_ARRAY_TASK_ID", "4")]).unwrap_err();
        assert!(
            message.contains("SLURM_ARRAY_TASK_ID = 4 and GRIMACE_SHARD_COUNT = 4: there is no shard 4"),
            "{message}"
        );
    }

    #[test]
    fn aws_batch_gives_index_and_size() {
        let message = auto(&[("AWS_BATCH_JOB_ARRAY_INDEX", "1")]).unwrap_err();
        assert!(message.contains("AWS Batch does not give the number of tasks; set GRIMACE_SHARD_COUNT"), "{message}");
        let both = [("AWS_BATCH_JOB_ARRAY_INDEX", "1"), ("AWS_BATCH_JOB_ARRAY_SIZE", "2")];
        assert_eq!(auto(&both).unwrap(), "1/2");
    }

    #[test]
    fn missing_doubled_and_bad_variables_are_named() {
        for (variables, part) in [
            (&[][..], "none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX is set"),
            (&[("JOB_COMPLETION_INDEX", "0")], "Kubernetes does not give the number of tasks"),
            (&[("JOB_COMPLETION_INDEX", "x")], "JOB_COMPLETION_INDEX = \"x\"; expected a number from 0"),
            (&[("SLURM_ARRAY_TASK_ID", "")], "SLURM_ARRAY_TASK_ID = \"\"; expected a number from 0"),
            (
                &[("SLURM_ARRAY_TASK_ID", "0"), ("JOB_COMPLETION_INDEX", "0")],
                "SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX are both set",
            ),
        ] {
            let message = auto(variables).unwrap_err();
            assert!(message.starts_with("--shard auto: ") && message.contains(part), "{message}");
        }
    }
}
