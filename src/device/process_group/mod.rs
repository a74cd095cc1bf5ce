//! Data-parallel training: a group of processes, one for each device.
//!
//! Every process computes a part of each batch; sums over all of them make the results those of one
//! process. What processes decide, they decide together: every collective call is made by all of them
//! in the same order.

mod failure;
mod launch;
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tch::{Device, Kind, Tensor};
use torch_ext::group::{Group, Meeting};

pub use failure::EndedElsewhere;
pub use launch::Launch;

use super::DeviceChoice;
use crate::util::error::input;

/// How long the processes wait for each other until the first step: they start at different times, and
/// read the data.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// A group of at least two processes, this one among them.
#[derive(Debug)]
pub struct ProcessGroup {
    group: Group,
    launch: Launch,
    /// Whether a collective call has failed, since another process is gone or stuck.
    is_broken: AtomicBool,
    /// Whether the others know that this process ends with an error.
    has_ended: AtomicBool,
}

/// What the processes have agreed on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreed {
    /// The largest number of a signal that any of them has received.
    pub signal: Option<i32>,
    /// Whether a checkpoint is due for rank 0.
    pub checkpoint: bool,
}

impl ProcessGroup {
    /// Joins the group of `launch`. Waits for the other processes.
    ///
    /// # Errors
    /// If they do not come.
    pub fn join(launch: Launch) -> Result<Arc<Self>> {
        let prefix = format!("grimace/{}", launch.attempt);
        let meeting = Meeting {
            address: &launch.address,
            port: launch.port,
            serves: launch.rank == 0 && !launch.launcher_serves,
            prefix: &prefix,
            rank: launch.rank,
            size: launch.size,
            host: launch.host(),
        };
        let group = Group::join(&meeting, START_TIMEOUT).map_err(|error| {
            let Launch { rank, size, address, port, .. } = &launch;
            let line = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
            anyhow!(
                "rank {rank}: the {size} processes cannot meet at {address}:{port} (MASTER_ADDR, MASTER_PORT): {line}; \
                 choose another MASTER_PORT if the port is in use, or set GRIMACE_DISTRIBUTED=0 to train in one process"
            )
        })?;
        Ok(Arc::new(Self { group, launch, is_broken: AtomicBool::new(false), has_ended: AtomicBool::new(false) }))
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.launch.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.launch.size
    }

    /// Whether this is rank 0, which writes the files.
    pub fn is_main(&self) -> bool {
        self.launch.rank == 0
    }

    /// The device of this process: of several CUDA devices, the one of its number on this machine, from
    /// that of the config on. A launcher that gives each process a device of its own leaves it only one.
    pub fn device(&self, choice: DeviceChoice) -> Result<DeviceChoice> {
        local_device(choice, self.launch.local_rank, || super::init_cuda().map_or(0, |()| super::cuda_count()))
    }

    /// CPU threads of this process: those of the config, or if it has none (0) an equal part of the
    /// cores that it shares with other processes of the group, at most OMP_NUM_THREADS if that is set.
    pub fn threads(&self, threads: usize) -> Result<usize> {
        let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let cores = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap_or_default();
        let own = format!("{}{cores}", read("/proc/sys/kernel/hostname"));
        let key = |rank: usize| format!("cores/{rank}");
        self.group.set(&key(self.rank()), &own)?;
        self.barrier()?;
        if threads > 0 || std::env::var_os("OMP_NUM_THREADS").is_some() {
            return Ok(threads);
        }
        let others = (0..self.size()).map(|rank| self.group.get(&key(rank))).collect::<Result<Vec<_>>>()?;
        let sharing = others.iter().flatten().filter(|other| **other == own).count();
        Ok((super::cores() / sharing.max(1)).max(1))
    }

    /// Makes the processes on GPUs use NCCL for tensors there. From here on, `timeout` is how long a
    /// process waits for the others.
    ///
    /// # Errors
    /// If the devices are of different kinds, or those of NCCL.
    pub fn begin(&self, device: Device, timeout: Duration) -> Result<()> {
        let mut kinds = [f64::from(u8::from(device.is_cuda()))];
        self.sum(&mut kinds)?;
        if kinds[0] != 0.0 && kinds[0] != self.size() as f64 {
            return Err(input(format!(
                "device: {} of {} processes have a CUDA device; set device = \"cpu\", or start one process per device",
                kinds[0],
                self.size()
            )));
        }
        if let Device::Cuda(index) = device {
            // NCCL takes the current device, which that of a new tensor becomes.
            torch_ext::cuda::set_device(index)?;
            self.checked(self.group.use_nccl()).context("the processes cannot communicate between their GPUs")?;
        }
        self.group.set_timeout(timeout)
    }

    /// Replaces `tensor`, which is contiguous, by its sum over all processes, bit-identical in each.
    pub fn all_reduce(&self, tensor: &mut Tensor) -> Result<()> {
        self.checked(self.group.all_reduce(tensor))
    }

    /// Replaces `values` by their sums over all processes.
    pub fn sum(&self, values: &mut [f64]) -> Result<()> {
        let mut tensor = Tensor::f_from_slice(values)?;
        self.all_reduce(&mut tensor)?;
        values.copy_from_slice(&Vec::<f64>::try_from(tensor)?);
        Ok(())
    }

    /// Replaces `tensor`, which is contiguous, by that of rank 0.
    pub fn broadcast(&self, tensor: &mut Tensor) -> Result<()> {
        self.checked(self.group.broadcast(tensor))
    }

    /// Returns the text of rank 0. The others' is not read.
    pub fn broadcast_text(&self, text: &str) -> Result<String> {
        let mut length = Tensor::f_from_slice(&[i64::try_from(text.len())?])?;
        self.broadcast(&mut length)?;
        let length = i64::try_from(length)?;
        let mut bytes = if self.is_main() {
            Tensor::f_from_slice(text.as_bytes())?
        } else {
            Tensor::f_zeros([length], (Kind::Uint8, Device::Cpu))?
        };
        if length > 0 {
            self.broadcast(&mut bytes)?;
        }
        Ok(String::from_utf8(Vec::<u8>::try_from(bytes)?)?)
    }

    /// Refuses processes whose `what` is not that of rank 0.
    ///
    /// # Errors
    /// An input error in all of them.
    pub fn require_equal(&self, what: &str, text: &str) -> Result<()> {
        let differs = self.broadcast_text(text)? != text;
        let mut ranks = vec![0.0; self.size()];
        if let Some(own) = ranks.get_mut(self.rank()) {
            *own = f64::from(u8::from(differs));
        }
        self.sum(&mut ranks)?;
        match ranks.iter().position(|differs| *differs > 0.0) {
            None => Ok(()),
            // All of them know; one tells.
            Some(_) if !self.is_main() => Err(EndedElsewhere.into()),
            Some(rank) => Err(input(format!(
                "rank {rank} has {what} other than rank 0: start all processes with the same command, version and files"
            ))),
        }
    }

    /// Agrees with the other processes on what to do after a step.
    pub fn agree(&self, signal: Option<i32>, is_checkpoint_due: bool) -> Result<Agreed> {
        // One place for each rank, so that the sum holds the values of all.
        let mut values = vec![0.0; self.size() + 1];
        if let Some(own) = values.get_mut(self.rank()) {
            *own = f64::from(signal.unwrap_or(0));
        }
        if let Some(due) = values.last_mut().filter(|_| self.is_main()) {
            *due = f64::from(u8::from(is_checkpoint_due));
        }
        self.sum(&mut values)?;
        let checkpoint = values.pop().is_some_and(|due| due > 0.0);
        let signal = values.into_iter().map(|number| number as i32).max().filter(|number| *number > 0);
        Ok(Agreed { signal, checkpoint })
    }

    /// Waits for the other processes.
    pub fn barrier(&self) -> Result<()> {
        self.sum(&mut [0.0])
    }

    /// Whether another process is gone or stuck.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::SeqCst)
    }

    fn checked<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.is_broken.store(true, Ordering::SeqCst);
        }
        result
    }
}

fn local_device(choice: DeviceChoice, local_rank: usize, count: impl Fn() -> usize) -> Result<DeviceChoice> {
    let (first, count) = match choice {
        DeviceChoice::Cpu | DeviceChoice::Mps => return Ok(choice),
        DeviceChoice::Auto => (0, count()),
        DeviceChoice::Cuda(first) => (first, count()),
    };
    match (choice, count) {
        // Without a CUDA device, `auto` is the CPU, and the error for another choice is that of one process.
        (_, 0) => Ok(choice),
        (_, 1) if first == 0 => Ok(DeviceChoice::Cuda(0)),
        _ if first + local_rank < count => Ok(DeviceChoice::Cuda(first + local_rank)),
        _ => Err(input(format!(
            "device = \"{choice}\": process {local_rank} of this machine has no CUDA device, of {count}; start at most \
             {} processes per machine, or use device = \"cpu\"",
            count.saturating_sub(first).max(1)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_device() {
        use DeviceChoice::{Auto, Cpu, Cuda};
        let device = |choice, rank, count| local_device(choice, rank, || count);
        assert_eq!(device(Auto, 1, 4).unwrap(), Cuda(1));
        assert_eq!(device(Cuda(2), 1, 4).unwrap(), Cuda(3));
        assert_eq!(device(Auto, 1, 1).unwrap(), Cuda(0), "the launcher gives each its own");
        assert_eq!((device(Auto, 1, 0).unwrap(), device(Cpu, 1, 4).unwrap()), (Auto, Cpu));
        let error = device(Cuda(2), 2, 4).unwrap_err().to_string();
        assert!(error.contains("at most 2 processes per machine"), "{error}");
    }
}
