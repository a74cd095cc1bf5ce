//! The environment of launchers that start one process per device: torchrun, mpirun (Open MPI), srun.

use anyhow::Result;

use super::nodes::first_host;
use crate::util::error::input;

/// Turns data-parallel training off in any of these environments if it is 0.
pub const SWITCH: &str = "GRIMACE_DISTRIBUTED";

/// A process of several that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes, at least 2.
    pub size: usize,
    /// Number of this process among those of its machine.
    pub local_rank: usize,
    /// Number of processes of this machine, if the launcher reports it.
    pub local_size: Option<usize>,
    /// Address of the machine of rank 0.
    pub address: String,
    /// Port at which the processes meet.
    pub port: u16,
    /// Whether the launcher itself serves the store there.
    pub launcher_serves: bool,
    /// Number of the attempt, for launchers that start all processes again after a failure.
    pub attempt: String,
}

/// Values of environment variables.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names of a launcher's variables.
struct Names {
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
}

const TORCHRUN: Names =
    Names { rank: "RANK", size: "WORLD_SIZE", local_rank: "LOCAL_RANK", local_size: "LOCAL_WORLD_SIZE" };
const OPEN_MPI: Names = Names {
    rank: "OMPI_COMM_WORLD_RANK",
    size: "OMPI_COMM_WORLD_SIZE",
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
};
/// Of a job step: a batch script has SLURM_PROCID and SLURM_NTASKS too, but is one process.
const SLURM: Names = Names {
    rank: "SLURM_PROCID",
    size: "SLURM_STEP_NUM_TASKS",
    local_rank: "SLURM_LOCALID",
    local_size: "SLURM_STEP_TASKS_PER_NODE",
};

/// Ports from which one is chosen by the job, if the launcher has none: below those that systems give
/// to clients.
const PORTS: std::ops::Range<u64> = 20_000..32_000;

impl Launch {
    /// The process that the environment describes; `None` if it is the only one.
    ///
    /// # Errors
    /// An input error with the variable that is missing or wrong.
    pub fn from_environment() -> Result<Option<Self>> {
        Self::parse(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn parse(variable: Environment<'_>) -> Result<Option<Self>> {
        if variable(SWITCH).as_deref() == Some("0") {
            return Ok(None);
        }
        let has = |name: &str| variable(name).is_some();
        let names = match (has(TORCHRUN.rank), has(TORCHRUN.size)) {
            (true, true) => &TORCHRUN,
            (true, false) => return Err(missing(TORCHRUN.size, TORCHRUN.rank)),
            (false, true) => return Err(missing(TORCHRUN.rank, TORCHRUN.size)),
            _ if has(OPEN_MPI.size) => &OPEN_MPI,
            _ if has("SLURM_STEP_ID") && has(SLURM.size) => &SLURM,
            _ => return Ok(None),
        };
        let size = number(variable, names.size)?;
        let rank = number(variable, names.rank)?;
        if size < 2 {
            return Ok(None);
        }
        if rank >= size {
            let (name, of) = (names.rank, names.size);
            return Err(input(format!("{name}={rank}: expected a number below {of}={size}; {}", advice())));
        }
        // SLURM_STEP_TASKS_PER_NODE is such as `2(x3)` if that differs.
        let local_size = variable(names.local_size).and_then(|text| text.parse().ok());
        let local_rank = if has(names.local_rank) { number(variable, names.local_rank)? } else { 0 };
        let is_one_machine = is_one_machine(variable, names, size);
        let launcher_serves = variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
        Ok(Some(Self {
            rank,
            size,
            local_rank,
            local_size,
            address: address(variable, names, is_one_machine)?,
            port: port(variable, names)?,
            launcher_serves,
            attempt: variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into()),
        }))
    }

    /// The address of this process for the others: the loopback interface if they all talk there.
    pub fn host(&self) -> Option<&str> {
        let is_loopback = matches!(self.address.as_str(), "localhost" | "127.0.0.1" | "::1");
        is_loopback.then_some("127.0.0.1")
    }
}

fn is_one_machine(variable: Environment<'_>, names: &Names, size: usize) -> bool {
    match names.rank {
        "SLURM_PROCID" => variable("SLURM_STEP_NUM_NODES").as_deref() == Some("1"),
        _ => variable(names.local_size).is_some_and(|local| local == size.to_string()),
    }
}

fn address(variable: Environment<'_>, names: &Names, is_one_machine: bool) -> Result<String> {
    if let Some(address) = variable("MASTER_ADDR") {
        return Ok(address);
    }
    if names.rank == TORCHRUN.rank {
        return Err(missing("MASTER_ADDR", TORCHRUN.rank));
    }
    if is_one_machine {
        return Ok("127.0.0.1".into());
    }
    let nodes = variable("SLURM_STEP_NODELIST").filter(|_| names.rank == SLURM.rank);
    nodes.as_deref().and_then(first_host).ok_or_else(|| {
        input(format!(
            "MASTER_ADDR is not set, and {} processes run on several machines: set it to the name of the machine of \
             rank 0, such as with mpirun -x MASTER_ADDR=node1; {}",
            names.size,
            advice()
        ))
    })
}

fn port(variable: Environment<'_>, names: &Names) -> Result<u16> {
    if let Some(text) = variable("MASTER_PORT") {
        let port = text.trim().parse().ok().filter(|port| *port > 0);
        return port.ok_or_else(|| input(format!("MASTER_PORT={text}: expected a port, 1 to 65535; {}", advice())));
    }
    if names.rank == TORCHRUN.rank {
        return Err(missing("MASTER_PORT", TORCHRUN.rank));
    }
    // Those of other jobs on the same machine differ.
    let job: String = ["SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"]
        .into_iter()
        .filter_map(variable)
        .collect::<Vec<_>>()
        .join("/");
    let bytes = *blake3::hash(job.as_bytes()).as_bytes();
    let hash = u64::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    Ok(u16::try_from(PORTS.start + hash % (PORTS.end - PORTS.start))?)
}

fn number(variable: Environment<'_>, name: &str) -> Result<usize> {
    let text = variable(name).ok_or_else(|| input(format!("{name} is not set, as launchers do; {}", advice())))?;
    text.trim().parse().map_err(|_| input(format!("{name}={text}: expected a whole number; {}", advice())))
}

fn missing(name: &str, present: &str) -> anyhow::Error {
    input(format!("{present} is set, as by torchrun, but {name} is not; {}", advice()))
}

fn advice() -> String {
    format!("to train in this process alone, set {SWITCH}=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::parse(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn launch(variables: &[(&str, &str)]) -> Launch {
        parse(variables).unwrap().unwrap()
    }

    const RUN: [(&str, &str); 5] =
        [("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "n1"), ("MASTER_PORT", "29500")];

    #[test]
    fn torchrun() {
        let found = launch(&RUN);
        assert_eq!((found.rank, found.size, found.local_rank, found.local_size), (3, 4, 1, None));
        assert_eq!((found.address.as_str(), found.port, found.launcher_serves), ("n1", 29500, false));
        assert_eq!(found.host(), None);
        let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")];
        let found = launch(&[&RUN[..], &agent].concat());
        assert!(found.launcher_serves && found.attempt == "2");
        let other = [("OMPI_COMM_WORLD_SIZE", "9"), ("OMPI_COMM_WORLD_RANK", "8"), ("SLURM_STEP_ID", "0")];
        assert_eq!(launch(&[&RUN[..], &other].concat()).size, 4, "torchrun within a job");
        for missing in 0..5 {
            let mut some = RUN.to_vec();
            let (name, _) = some.remove(missing);
            if name != "LOCAL_RANK" {
                let error = parse(&some).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("{name} is not")) && error.contains("GRIMACE_DISTRIBUTED=0"),
                    "{error}"
                );
            }
        }
        for (name, value) in [("RANK", "4"), ("RANK", "x"), ("WORLD_SIZE", "-2"), ("MASTER_PORT", "0")] {
            let wrong = RUN.map(|(known, old)| (known, if known == name { value } else { old }));
            let error = parse(&wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}={value}: expected")), "{error}");
        }
    }

    #[test]
    fn one_process_is_none() {
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
        assert_eq!(parse(&[&RUN[..], &[(SWITCH, "0")]].concat()).unwrap(), None);
        // A batch script that has not called srun.
        let batch = [("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_LOCALID", "0")];
        assert_eq!(parse(&batch).unwrap(), None);
        assert_eq!(
            parse(&[&batch[..], &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "1")]].concat()).unwrap(),
            None
        );
    }

    #[test]
    fn mpirun() {
        let one = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("PMIX_NAMESPACE", "7"),
        ];
        let found = launch(&one);
        assert_eq!((found.rank, found.size, found.local_rank, found.local_size), (1, 2, 1, Some(2)));
        assert_eq!((found.address.as_str(), found.host()), ("127.0.0.1", Some("127.0.0.1")));
        assert!(PORTS.contains(&u64::from(found.port)));
        let other = one.map(|(name, value)| (name, if name == "PMIX_NAMESPACE" { "8" } else { value }));
        assert_ne!(launch(&other).port, found.port);
        let several = one.map(|(name, value)| (name, if name == "OMPI_COMM_WORLD_SIZE" { "4" } else { value }));
        let error = parse(&several).unwrap_err().to_string();
        assert!(error.contains("mpirun -x MASTER_ADDR="), "{error}");
        assert_eq!(launch(&[&several[..], &[("MASTER_ADDR", "a"), ("MASTER_PORT", "5")]].concat()).port, 5);
    }

    #[test]
    fn srun() {
        let step = [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "2"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_NTASKS", "8"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
            ("SLURM_STEP_NUM_NODES", "2"),
            ("SLURM_STEP_NODELIST", "gpu[07-08]"),
        ];
        let found = launch(&step);
        assert_eq!((found.rank, found.size, found.local_rank, found.local_size), (2, 4, 0, None));
        assert_eq!(found.address, "gpu07");
        let one = step.map(|(name, value)| (name, if name == "SLURM_STEP_NUM_NODES" { "1" } else { value }));
        assert_eq!(launch(&one).address, "127.0.0.1");
    }
}
