//! The end of a group in which a process fails: all of them end, and one tells why.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
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

/// How long a process that ends waits for the store. A look at it has no time limit of its own, and
/// rank 0, which may serve it, may be stopped, or its machine gone.
const DEADLINE: Duration = Duration::from_secs(7);

/// What a process that ends has to say.
enum Verdict {
    /// Nothing: another tells.
    Told,
    /// Its own error.
    Own,
    /// That other processes are gone.
    Gone(anyhow::Error),
}

impl ProcessGroup {
    /// Tells the other processes that this one ends with `error`, and returns the error to print: with
    /// the rank; that another process is gone; or [`EndedElsewhere`] if another tells.
    pub fn end_with(self: &Arc<Self>, error: anyhow::Error) -> anyhow::Error {
        if self.has_ended.swap(true, Ordering::SeqCst) {
            return error;
        }
        let (is_told, text) = (error.is::<EndedElsewhere>(), format!("{error:#}"));
        let (sender, receiver) = channel();
        let group = Arc::clone(self);
        let settle = move || drop(sender.send(group.settle(is_told, &text)));
        let started = std::thread::Builder::new().name("end of group".to_owned()).spawn(settle);
        let settled = started.ok().and_then(|_| receiver.recv_timeout(DEADLINE).ok());
        // Without rank 0 there may be no store, so that each process tells.
        let unsettled = || if self.is_broken() { Verdict::Gone(lost("rank 0")) } else { Verdict::Own };
        match settled.unwrap_or_else(unsettled) {
            Verdict::Told => EndedElsewhere.into(),
            Verdict::Own if self.is_main() => error,
            Verdict::Own => error.context(format!("rank {}", self.rank())),
            Verdict::Gone(lost) => lost,
        }
    }

    /// Finds out in the store who tells why the group ends.
    fn settle(&self, is_told: bool, error: &str) -> Verdict {
        if is_told {
            // For rank 0, which may serve the store.
            drop(self.group.set(&self.noticed(self.rank()), ""));
            return Verdict::Told;
        }
        // What waits on a GPU would keep the process from ending.
        drop(self.group.abort());
        if !self.is_broken() {
            // Without the store, the connections that close tell the others.
            drop(self.group.set(FAILURE, &format!("rank {}: {error}", self.rank()).replace('\0', " ")));
            let tellers = self.group.add(TELLERS, 1);
            drop(self.group.set(&self.noticed(self.rank()), ""));
            if self.is_main() {
                self.wait_for_others();
            }
            // All may have the same reason, such as a file that is missing.
            return if tellers.is_ok_and(|tellers| tellers > 1) { Verdict::Told } else { Verdict::Own };
        }
        let told = self.tell().unwrap_or_else(|_| Verdict::Gone(lost("rank 0")));
        // One that tells has waited for the others.
        if self.is_main() && matches!(told, Verdict::Told) {
            self.wait_for_others();
        }
        told
    }

    /// The reason that ended another process, if it could tell.
    pub fn failure(&self) -> Option<String> {
        self.group.get(FAILURE).ok().flatten()
    }

    /// Tells which processes are gone, unless another does.
    fn tell(&self) -> Result<Verdict> {
        self.group.set(&self.noticed(self.rank()), "")?;
        let is_first = self.group.get(FAILURE)?.is_none() && self.group.add(TELLERS, 1)? == 1;
        if !is_first {
            return Ok(Verdict::Told);
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
        Ok(Verdict::Gone(error))
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
