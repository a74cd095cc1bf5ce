//! The end of a group in which a process fails: all of them end, and one tells why.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::ProcessGroup;

/// The error of a process that ends because of another, which tells why.
#[derive(Debug, thiserror::Error)]
#[error("another process of the group has ended the run")]
pub struct EndedElsewhere;

/// Key of what has ended the run.
const FAILURE: &str = "failure";
/// Key of the number of processes that wanted to tell.
const TELLERS: &str = "tellers";
/// How long processes wait for each other to notice.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

impl ProcessGroup {
    /// Tells the other processes that this one ends with `error`, and returns the error to print: with
    /// the rank; that another process is gone; or [`EndedElsewhere`] if another tells.
    pub fn end_with(&self, error: anyhow::Error) -> anyhow::Error {
        if self.has_ended.swap(true, Ordering::SeqCst) {
            return error;
        }
        if error.is::<EndedElsewhere>() {
            // For rank 0, which may serve the store.
            drop(self.group.set(&self.noticed(self.rank()), ""));
            return error;
        }
        // What waits on a GPU would keep the process from ending.
        drop(self.group.abort());
        if !self.is_broken() {
            // Without the store, the connections that close tell the others.
            drop(self.group.set(FAILURE, &format!("rank {}: {error:#}", self.rank()).replace('\0', " ")));
            let tellers = self.group.add(TELLERS, 1);
            drop(self.group.set(&self.noticed(self.rank()), ""));
            if self.is_main() {
                self.wait_for_others();
            }
            // All may have the same reason, such as a file that is missing.
            if tellers.is_ok_and(|tellers| tellers > 1) {
                return EndedElsewhere.into();
            }
            return if self.is_main() { error } else { error.context(format!("rank {}", self.rank())) };
        }
        let told = self.tell();
        // One that tells has waited for the others.
        if self.is_main() && told.as_ref().is_ok_and(|error| error.is::<EndedElsewhere>()) {
            self.wait_for_others();
        }
        // Without rank 0 there may be no store, so that each process tells.
        told.unwrap_or_else(|_| lost("rank 0"))
    }

    /// The reason that ended another process, if it could tell.
    pub fn failure(&self) -> Option<String> {
        self.group.get(FAILURE).ok().flatten()
    }

    /// Tells which processes are gone, unless another does.
    fn tell(&self) -> Result<anyhow::Error> {
        self.group.set(&self.noticed(self.rank()), "")?;
        let is_first = self.group.get(FAILURE)?.is_none() && self.group.add(TELLERS, 1)? == 1;
        if !is_first {
            return Ok(EndedElsewhere.into());
        }
        let start = Instant::now();
        let missing = loop {
            let mut missing = Vec::new();
            for rank in 0..self.size() {
                if self.group.get(&self.noticed(rank))?.is_none() {
                    missing.push(format!("rank {rank}"));
                }
            }
            if missing.is_empty() || start.elapsed() > PATIENCE {
                break missing;
            }
            sleep(POLL);
        };
        let who = if missing.is_empty() { "the connection to another process".to_owned() } else { missing.join(", ") };
        let error = lost(&who);
        self.group.set(FAILURE, &error.to_string())?;
        // For the others' next look at the store.
        sleep(POLL * 5);
        Ok(error)
    }

    /// In rank 0, which may serve the store: waits until the others have read it.
    fn wait_for_others(&self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let noticed = |rank: usize| matches!(self.group.get(&self.noticed(rank)), Ok(Some(_)) | Err(_));
            if (1..self.size()).all(noticed) {
                // For their next look at the store.
                sleep(POLL * 5);
                return;
            }
            sleep(POLL);
        }
    }

    fn noticed(&self, rank: usize) -> String {
        format!("noticed/{rank}")
    }
}

fn lost(who: &str) -> anyhow::Error {
    anyhow!(
        "{who} is gone, or has not answered for train.timeout: the other processes end too; start all of them again with \
         --resume"
    )
}
