"""A Slurm cluster of one node on the loopback interface, for tests: own configuration, ports, keys and
logs in one folder. Needs root, and the programs of the Debian packages slurm-wlm and munge."""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")
START_S = 30.0
CPUS = 4

CONFIG = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 Port={d_port} CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 State=UP
PartitionName=high Nodes={host} MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""


def why_not() -> str | None:
    """Why no cluster can be started here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found; apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "slurmd needs root to start jobs"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Cluster:
    """The daemons; a context manager that ends them with all jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        self.environment["SLURM_CONF"] = str(folder / "slurm.conf")

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        # munged refuses a socket that other users could not reach, and a key that they could read.
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        host = socket.gethostname().split(".")[0]
        ctld_port, d_port = free_ports(2)
        config = CONFIG.format(host=host, folder=self.folder, ctld_port=ctld_port, d_port=d_port, cpus=CPUS)
        (self.folder / "slurm.conf").write_text(config)
        own = {name: f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in ("key-file", "log-file", "pid-file", "seed-file")}
        self.daemon("munged", "-F", "--force", f"--socket={self.folder}/munge.socket", *own.values())
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged has no socket")
        self.daemon("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self.daemon("slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", host)
        self.wait(lambda: "idle" in self.run("sinfo", "--noheader", "-o", "%T", check=False), "the node is not idle")

    def daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            # In a session of its own it does not get Ctrl-C.
            self.daemons.append(subprocess.Popen(command, stdout=out, stderr=out, env=self.environment, start_new_session=True))

    def wait(self, is_done, what: str, seconds: float = START_S) -> None:
        end = time.monotonic() + seconds
        while not is_done():
            dead = [daemon for daemon in self.daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                raise TimeoutError(f"{what}{f' ({dead[0].args[0]} ended)' if dead else ''}\n{self.logs()}")
            time.sleep(0.1)

    def run(self, *command: str, check: bool = True) -> str:
        """The output of a Slurm command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` prints about a job, such as `12` or `12_0`."""
        text = self.run("scontrol", "--oneliner", "show", "job", job)
        lines = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines()]
        # Of an array, the lines of its tasks.
        task = job.partition("_")[2]
        return next((line for line in lines if not task or line.get("ArrayTaskId") == task), {})

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "".join(f"--- {file.name}\n{''.join(file.read_text(errors='replace').splitlines(True)[-15:])}" for file in files)

    def stop(self) -> None:
        if len(self.daemons) == 3:
            self.run("scancel", "--user=root", check=False)
            end = time.monotonic() + 15
            while self.run("squeue", "--noheader", check=False).strip() and time.monotonic() < end:
                time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()
