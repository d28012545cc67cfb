"""A real Slurm on this machine: munge, a controller, and two nodes that are processes here. Needs root.

Debian's packages slurm-wlm and munge have all of it, several nodes on one host included. Everything lies in a folder
of its own, with ports of its own; the system's own configuration is neither read nor written.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

CONFIGURATION = """\
ClusterName=ionsieve
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=1
SchedulerParameters=sched_interval=2
KillWait=5
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=6000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=6000 Gres=gpu:1
PartitionName=cpu Nodes=n1,n2 Default=YES State=UP
PartitionName=gpu Nodes=n2 State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A Slurm that runs, and the environment that its commands need."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *arguments: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """State and node of each job that waits or runs."""
        lines = self.command("squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%i %T %N").splitlines()
        return {job: (state, *node, "")[:2] for job, state, *node in map(str.split, lines)}

    def set_node(self, node: str, state: str) -> None:
        """Change a node's state: DOWN kills its jobs, RESUME gives it back."""
        self.command("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")

    def is_up(self) -> bool:
        try:
            states = self.command("sinfo", "--noheader", "--Node", "--partition=cpu", "--format=%t").split()
        except subprocess.CalledProcessError:
            return False
        return states == ["idle"] * len(NODES)


def missing_programs() -> list[str]:
    """What of Slurm and munge is not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]


@contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Start Slurm, and end all of it."""
    # A folder that the user munge may enter, which pytest's are not.
    folder = Path(tempfile.mkdtemp(prefix="ionsieve-slurm-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _write_configuration(folder)
        slurm = Slurm(folder)
        munge = folder / "munge"
        files = [f"--{kind}-file={munge / kind}" for kind in ("key", "pid", "log", "seed")]
        daemon = ["runuser", "-u", "munge", "--", "munged", "--foreground", f"--socket={munge / 'socket'}", *files]
        stack.enter_context(_daemon(daemon, slurm))
        _wait_until((munge / "socket").exists, 20.0)
        stack.enter_context(_daemon(["slurmctld", "-D"], slurm))
        for node in NODES:
            stack.enter_context(_daemon(["slurmd", "-D", "-N", node], slurm))
        _wait_until(slurm.is_up, 60.0)
        stack.callback(_end_jobs, slurm)
        yield slurm


def _write_configuration(folder: Path) -> None:
    folder.chmod(0o755)
    for name in ("munge", "state", "spool/n1", "spool/n2"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    for path in (folder / "munge", key):
        shutil.chown(path, "munge", "munge")
    names = ("controller", *NODES)
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    text = CONFIGURATION.format(folder=folder, host=socket.gethostname(), **ports)
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    # Slurm counts a GPU by its device file; no job here looks into it.
    (folder / "gres.conf").write_text("NodeName=n2 Name=gpu File=/dev/zero\n", encoding="utf-8")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _daemon(command: list[str], slurm: Slurm) -> Iterator[None]:
    path = f"{os.environ['PATH']}:/usr/sbin"
    environment = {**slurm.environment, "PATH": path}
    with (slurm.folder / f"{command[-1].rpartition('/')[2]}.out").open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _end_jobs(slurm: Slurm) -> None:
    if slurm.jobs():
        slurm.command("scancel", *slurm.jobs())
        _wait_until(lambda: not slurm.jobs(), 60.0)


def _wait_until(condition: object, seconds: float) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "Slurm did not come up"
        time.sleep(0.2)
