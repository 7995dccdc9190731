"""A real Slurm cluster on this machine: munged, slurmctld and one slurmd per node, as one user.

It needs neither root, systemd, cgroups nor slurmdbd, keeps all its files in a folder of its own and
takes free ports, so that it runs beside whatever Slurm the machine has. Only the nodes' GPUs are
not real: Slurm assigns and shows them, and there is nothing to compute with behind them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.proc import read_proc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTITION = "hopper"
DAEMONS = ("munged", "slurmctld", "slurmd")
# Daemons are in sbin, which a user's PATH may lack.
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
START_S, STOP_S, WAIT_S, POLL_S = 30, 15, 60, 0.1

# Short intervals, since a test waits for each of them:
# - cred_expire: a job that is requeued waits as long; 120 s by default, and 5 s at least;
# - KillWait: from SIGTERM to SIGKILL at a time limit or scancel;
# - bf_interval, sched_interval: from the end of one job to the start of the next.
CONF = """\
ClusterName=rederive
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
EnforcePartLimits=ALL
ReturnToService=2
MessageTimeout=5
MinJobAge=600
KillWait=2
SlurmctldTimeout=30
SlurmdTimeout=30
MailProg=/bin/true
JobRequeue=1
SlurmdParameters=config_overrides
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=96 Sockets=2"
    " CoresPerSocket=48 ThreadsPerCore=1 RealMemory=1900000 Gres=gpu:h100:{num_gpus}\n"
)
PARTITIONS = (
    f"PartitionName={PARTITION} Nodes=ALL Default=YES MaxTime=2-00:00:00 DefaultTime=00:10:00"
    " DefMemPerCPU=1000 State=UP\n"
)


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs: `env` is what its users' commands need to find it.

    What of `users` still runs at its end is ended, too.
    """

    folder: Path
    nodes: list[str]
    env: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    users: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def try_call(self, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Returns what became of a command that may fail, which reads what is given."""
        return subprocess.run(
            command, env=self.env, input=given, text=True, capture_output=True, check=False
        )

    def call(self, *command: str, given: str = "") -> str:
        """Returns what a command that succeeds prints."""
        done = self.try_call(*command, given=given)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Returns the id of a job that runs the script; its output goes to `log(job)`."""
        log = f"--output={self.folder}/job-%j.log"
        return self.call("sbatch", "--parsable", "--open-mode=append", log, *options, given=script)

    def log(self, job: str) -> str:
        """Returns what the job has printed."""
        return (self.folder / f"job-{job}.log").read_text(encoding="utf-8")

    def show(self, job: str) -> dict[str, str]:
        """Returns what Slurm says of a job, of which no value with a space is needed."""
        line = self.call("scontrol", "--oneliner", "show", "job", job)
        return dict(re.findall(r"(?:^| )([\w:/]+)=(\S*)", line))

    def jobs(self) -> list[str]:
        """Returns the ids of the jobs that wait or run."""
        return self.call("squeue", "--noheader", "--format=%i").split()

    def wait(self, job: str, *states: str) -> dict[str, str]:
        """Returns what Slurm says of the job once it is in one of the states, or has ended."""
        found = {}

        def is_there() -> bool:
            found.update(self.show(job))
            return found["JobState"] in (states or ENDED)

        self.wait_until(is_there, job)
        return found

    def wait_for_log(self, job: str, text: str) -> None:
        """Waits until the job has printed the text."""
        log = self.folder / f"job-{job}.log"
        self.wait_until(lambda: log.exists() and text in self.log(job), job)

    def wait_until(self, is_so: Callable[[], bool], job: str) -> None:
        """Waits until something is so that the job does, and fails if it has ended without."""
        deadline = time.monotonic() + WAIT_S
        has_ended = False
        while not is_so():
            assert not has_ended, self.show(job)
            assert time.monotonic() < deadline, self.show(job)
            time.sleep(POLL_S)
            has_ended = self.show(job)["JobState"] in ENDED  # once more: it may be so by now

    def fail_node(self, node: str) -> None:
        """Ends a node as a loss of power does: its slurmd, its steps, and all that ran in them.

        An administrator then sets it DOWN, so that no test waits until Slurm finds it out.
        """
        for pid in self._node_processes(node):
            _kill(pid)
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        self.call("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=test")

    def stop_controller(self) -> None:
        """Stops slurmctld, as for an update; `start` it again, and it knows all jobs."""
        daemon = self.daemons.pop("slurmctld")
        daemon.terminate()
        daemon.wait()

    def restore_node(self, node: str) -> None:
        """Starts a node that failed, and waits until it takes jobs."""
        self.start(node, "slurmd", "-D", "-N", node)
        self.wait_for_nodes(node)

    def _node_processes(self, node: str) -> list[int]:
        """Returns the ids of what runs in the node's steps, and of slurmstepd, its parent."""
        inside = self.processes(f"SLURMD_NODENAME={node}")
        status = [read_proc(f"{pid}/stat") for pid in inside]
        parents = {int(line.rpartition(")")[2].split()[1]) for line in status if line}
        steps = [pid for pid in parents if read_proc(f"{pid}/comm") == "slurmstepd\n"]
        return steps + inside

    def start(self, name: str, *command: str) -> None:
        """Starts a daemon that ends with this process, however that ends; Ctrl-C is not for it."""
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_nodes(self, *nodes: str) -> None:
        """Waits until the nodes, or all, are idle."""
        deadline = time.monotonic() + START_S
        wanted = nodes or self.nodes
        command = ["sinfo", "--noheader", "--Node", "--format=%T", f"--nodes={','.join(wanted)}"]
        while True:
            done = self.try_call(*command)
            if done.stdout.split() == ["idle"] * len(wanted):
                return
            for name, daemon in self.daemons.items():
                assert daemon.poll() is None, f"{name} ended: {self.errors()}"
            assert time.monotonic() < deadline, f"{done.stdout}{done.stderr}{self.errors()}"
            time.sleep(POLL_S)

    def errors(self) -> str:
        """Returns what the daemons have logged as errors."""
        logs = [path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("*.log"))]
        lines = "".join(logs).splitlines()
        # Slurm tries every MPI plugin, and one of them always lacks its library.
        return "\n".join(line for line in lines if re.search(r"error:(?!.*mpi)|fatal", line))

    def processes(self, *variables: str) -> list[int]:
        """Returns the ids of this cluster's processes, which have these environment variables."""
        wanted = {f"SLURM_CONF={self.env['SLURM_CONF']}".encode(), *map(str.encode, variables)}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # gone, or of another user
                if wanted <= set(path.read_bytes().split(b"\0")):
                    found.append(int(path.parent.name))
        return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def find_problem() -> str | None:
    """Returns why no cluster can be started here, or None if one can."""
    commands = (*DAEMONS, "sbatch", "srun", "scontrol", "setpriv")
    missing = [name for name in commands if shutil.which(name, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} not found: run .ci/install-packages as root"
    return None


@contextmanager
def running_cluster(num_nodes: int, num_gpus: int) -> Iterator[Cluster]:
    """Yields a cluster whose nodes are idle; afterwards, all its processes and files are gone."""
    # Not below pytest's folders: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="rederive-slurm-") as name:
        cluster = _configure(Path(name), num_nodes, num_gpus)
        try:
            _start(cluster)
            yield cluster
        finally:
            _stop(cluster)


def _configure(folder: Path, num_nodes: int, num_gpus: int) -> Cluster:
    """Returns a cluster that is described in the folder, and not started yet."""
    nodes = [f"node{number}" for number in range(1, num_nodes + 1)]
    host = socket.gethostname().partition(".")[0]
    user = pwd.getpwuid(os.getuid()).pw_name
    port, *ports = _free_ports(1 + num_nodes)
    conf = CONF.format(host=host, user=user, port=port, folder=folder)
    gres = ""
    for node, node_port in zip(nodes, ports, strict=True):
        conf += NODE.format(name=node, host=host, port=node_port, num_gpus=num_gpus)
        (folder / "spool" / node).mkdir(parents=True)
        (folder / "devices" / node).mkdir(parents=True)
        for gpu in range(num_gpus):  # Slurm takes character devices alone for GPUs
            (folder / "devices" / node / f"nvidia{gpu}").symlink_to("/dev/null")
        files = f"{folder}/devices/{node}/nvidia[0-{num_gpus - 1}]"
        gres += f"NodeName={node} Name=gpu Type=h100 File={files}\n"
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(conf + PARTITIONS, encoding="utf-8")
    (folder / "gres.conf").write_text(gres, encoding="utf-8")
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    # A test may run within a job of another cluster.
    env = {k: v for k, v in os.environ.items() if not re.match(r"SLURM|SBATCH|SRUN|R1_", k)}
    env |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
    return Cluster(folder, nodes, env)


def _free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(cluster: Cluster) -> None:
    munge = cluster.folder / "munge.socket"
    options = {"key-file": "munge.key", "socket": munge.name, "pid-file": "munged.pid"}
    options |= {"seed-file": "munge.seed", "log-file": "munged.log"}
    paths = [f"--{name}={cluster.folder / file}" for name, file in options.items()]
    # Forced: the folder is its user's alone, and munged would have it open to all.
    cluster.start("munged", "munged", "--foreground", "--force", "--num-threads=2", *paths)
    deadline = time.monotonic() + START_S
    while not munge.exists():
        assert time.monotonic() < deadline, cluster.errors()
        time.sleep(0.01)
    cluster.start("slurmctld", "slurmctld", "-c", "-D")
    for node in cluster.nodes:
        cluster.start(node, "slurmd", "-D", "-N", node)
    cluster.wait_for_nodes()


def _stop(cluster: Cluster) -> None:
    """Ends the jobs, then the daemons, then whatever of the cluster is left."""
    with contextlib.suppress(AssertionError, OSError):  # not all daemons may have come up
        cluster.call("scancel", "--quiet", f"--user={os.getuid()}")
        deadline = time.monotonic() + STOP_S
        while cluster.jobs() and time.monotonic() < deadline:
            time.sleep(POLL_S)
    for user in cluster.users:
        user.kill()
        user.wait()
    for daemon in reversed(cluster.daemons.values()):
        daemon.terminate()
    for daemon in cluster.daemons.values():
        try:
            daemon.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    deadline = time.monotonic() + STOP_S
    while found := cluster.processes():  # steps outlive their slurmd
        assert time.monotonic() < deadline, f"processes {found} do not end"
        for pid in found:
            _kill(pid)
        time.sleep(POLL_S)
