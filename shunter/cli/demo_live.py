"""``shunter demo --live``: a daemon, three nodes and 60 jobs as real processes on this machine; one node is killed.

Everything lies in a folder of its own below the one for temporary files, and is gone afterwards, also after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shunter.daemon.client import Client

NODES = ("node-1", "node-2", "node-3")
VICTIM = "node-2"
GPUS = 4
JOBS = 60
SEED = 7
KILL_AFTER = 15
"""Jobs that have ended when the node is killed."""
LOOK_S = 0.2
LINE_S = 2.0
READY_S = 300.0
"""The first decision after an installation waits for the compiler."""
DONE_S = 180.0
COMPLETED = 5
# Each attempt writes down when it begins and ends: that nothing ran twice does not rest on what the daemon says.
SCRIPT = (
    'echo "$SHUNTER_JOB_ID $SHUNTER_ATTEMPT begin $(date +%s.%N)" >> "$LEDGER"; sleep "$0"; '
    'echo "$SHUNTER_JOB_ID $SHUNTER_ATTEMPT end $(date +%s.%N)" >> "$LEDGER"'
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it.

    Attributes:
        jobs: Submitted.
        lost: That did not complete.
        doubled: That ran to their end twice, or began again before the node was killed.
        moved: That ran on the killed node and were started elsewhere.
        failover_s: From the kill to each of their new starts.
        noticed_s: From the kill to the node's being held for failed.
        wait_s: From submission to first start, of all jobs.
        total_s: From submission to the last end.
    """

    jobs: int
    lost: int
    doubled: int
    moved: int
    failover_s: tuple[float, ...]
    noticed_s: float
    wait_s: tuple[float, ...]
    total_s: float


class Cluster:
    """The processes; ``close`` ends them all and removes their folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="shunter-demo-"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []

    def start_daemon(self) -> str:
        """Returns its address."""
        state = self.folder / "daemon"
        self._start("daemon", ["daemon", "--listen", "127.0.0.1:0", "--state", str(state)])
        said = self._wait(lambda: _after(self._log("daemon"), "listens on "), 60.0)
        return str(said)

    def start_node(self, name: str, address: str) -> None:
        """An agent that offers GPUs that are not there; jobs are told of them and do not look."""
        from shunter.daemon.security.discovery import find_token

        words = ["node", "--daemon", address, "--name", name, "--state", str(self.folder / name), "--stop-jobs"]
        words += ["--cpus", "8", "--memory-gib", "16", "--gpus", str(GPUS), "--gpu-type", "pretended"]
        token = find_token(address)
        if token:
            file = self.folder / "token"
            file.touch(mode=0o600)
            file.write_text(token)
            words += ["--token-file", str(file)]
        if os.geteuid() == 0:
            words += ["--allow-root", "--run-as", "root"]
        self._start(name, words)

    def _start(self, name: str, words: list[str]) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        self._logs.append(log)
        command = [sys.executable, "-m", "shunter", *words]
        # A group of its own: Ctrl-C is for us, and we end the others in order.
        self._processes[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def _wait(self, condition: Callable[[], Any], within_s: float) -> Any:
        """What the condition gives as soon as that is something.

        Raises:
            DaemonError: It gives nothing in time, or one of the processes has ended; with the end of its log.
        """
        from shunter.daemon.errors import DaemonError

        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            found = condition()
            if found:
                return found
            for name, process in self._processes.items():
                if process.poll() is not None:
                    lines = self._log(name).strip().splitlines() or ["without a word"]
                    raise DaemonError(f"{name} ended: {lines[-1]}")
            time.sleep(LOOK_S)
        raise DaemonError(f"the demo's cluster was not ready within {within_s:g} s")

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait until the cluster is ready."""
        self._wait(condition, READY_S)

    def kill_node(self, name: str) -> float:
        """End everything on a node at once, as a power cut does; returns when."""
        process = self._processes.pop(name)
        process.kill()
        for victim in _processes_of(self.folder / name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        killed_s = time.time()
        process.wait()
        return killed_s

    def close(self) -> None:
        """End all processes, agents first, and remove the folder. Ctrl-C does not interrupt this."""
        import shutil

        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for name in sorted(self._processes, reverse=True):  # nodes before the daemon
                process = self._processes[name]
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5.0)
            for process in self._processes.values():
                process.kill()
                process.wait()
            for left in _processes_of(self.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            for log in self._logs:
                log.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            signal.signal(signal.SIGINT, before)


def _after(text: str, words: str) -> str:
    return text.split(words)[1].split(",", maxsplit=1)[0] if words in text else ""


def _processes_of(folder: Path) -> list[int]:
    """Processes that belong to a folder: it stands in what they were started with, or they work in it."""
    import psutil

    wanted, found = str(folder), []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            words = [*process.cmdline(), process.cwd()]
            if any(word == wanted or word.startswith(f"{wanted}/") for word in words):
                found.append(process.pid)
    return found


def _jobs(ledger: Path) -> list[Any]:
    """The same every time: 1 to 6 seconds, one GPU or two."""
    from shunter.daemon.pb.common_pb2 import JobSpec, Resources

    draw = random.Random(SEED)
    specs = []
    for number in range(JOBS):
        seconds, gpus = draw.uniform(1.0, 6.0), 2 if draw.random() < 0.3 else 1
        specs.append(
            JobSpec(
                name=f"demo-{number:02}",
                command=["/bin/sh", "-c", SCRIPT, f"{seconds:.2f}"],
                environment={"LEDGER": str(ledger)},
                per_task=Resources(cpus=1, gpus=gpus),
                time_limit_s=60.0,
            )
        )
    return specs


def run_demo() -> Figures:
    """Start it all, kill a node, wait for the end.

    Raises:
        ShunterError: Something did not start, or did not end in time.
    """
    from shunter.cli.console import note
    from shunter.daemon.client import Client, Target

    cluster = Cluster()
    try:
        note("starts a daemon and three nodes")
        address = cluster.start_daemon()
        for name in NODES:
            cluster.start_node(name, address)
        with Client(Target((address,))) as client:
            cluster.wait_for(lambda: sum(node.health == 1 for node in _nodes(client)) == len(NODES))
            note("the first decision loads the compiled core (or compiles it, once)")
            _warm_up(client, cluster)
            return _play(client, cluster)
    finally:
        cluster.close()


def _warm_up(client: Client, cluster: Cluster) -> None:
    from shunter.cli.live_waiting import job_of
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc
    from shunter.daemon.pb.common_pb2 import JobSpec, Resources

    spec = JobSpec(name="warm-up", command=["true"], per_task=Resources(cpus=1))
    request = scheduler_pb2.SubmitRequest(spec=spec, idempotency_key="warm-up")
    job = client.call(scheduler_pb2_grpc.SchedulerStub, "Submit", request).job
    cluster.wait_for(lambda: job_of(client, job).state >= COMPLETED)


def _nodes(client: Client) -> list[Any]:
    from shunter.cli.live_nodes import nodes_of

    return list(nodes_of(client))


def _play(client: Client, cluster: Cluster) -> Figures:
    """Submit, kill, watch to the end."""
    from shunter.cli.live_jobs import jobs_of
    from shunter.daemon.errors import DaemonError
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc
    from shunter.daemon.pb.scheduler_pb2 import JobFilter

    ledger = cluster.folder / "ledger"
    request = scheduler_pb2.SubmitBatchRequest(specs=_jobs(ledger), idempotency_key="demo")
    begun_s = time.time()
    client.call(scheduler_pb2_grpc.SchedulerStub, "SubmitBatch", request)
    killed_s = noticed_s = 0.0
    hit: set[int] = set()
    with _screen(begun_s) as screen:
        screen.say(f"{JOBS} jobs are durably stored; {len(NODES)} nodes with {GPUS} GPUs each")
        while time.time() < begun_s + DONE_S:
            jobs = sorted(jobs_of(client, [JobFilter(name="demo-")]), key=lambda job: job.id)
            nodes = _nodes(client)
            ended = sum(job.state >= COMPLETED for job in jobs)
            screen.show(nodes, jobs)
            if not killed_s and ended >= KILL_AFTER:
                killed_s = cluster.kill_node(VICTIM)
                hit = {job.id for job in jobs if job.state in (2, 3) and VICTIM in _places(job.attempts[-1])}
                screen.say(f"{VICTIM} is killed (SIGKILL), and with it jobs {', '.join(map(str, sorted(hit)))}")
            if killed_s and not noticed_s and any(n.name == VICTIM and n.health == 4 for n in nodes):
                noticed_s = time.time()
                screen.say(f"{VICTIM} is held for failed {noticed_s - killed_s:.1f} s later; its jobs wait again")
            if ended == len(jobs) and noticed_s:
                screen.say("all jobs have ended")
                return _figures(jobs, ledger, begun_s, killed_s, noticed_s)
            time.sleep(LOOK_S)
    raise DaemonError(f"the demo's jobs had not ended after {DONE_S:g} s")


def _places(attempt: Any) -> list[str]:
    return [placement.node for placement in attempt.placement]


def _figures(jobs: Sequence[Any], ledger: Path, begun_s: float, killed_s: float, noticed_s: float) -> Figures:
    moved_s = []
    for job in jobs:
        for before, after in zip(job.attempts, job.attempts[1:], strict=False):
            if VICTIM in _places(before) and before.cause in ("node-failed", "lost") and after.HasField("start_unix_s"):
                moved_s.append(after.start_unix_s - killed_s)
    begins: dict[int, list[float]] = {}
    ends = Counter[int]()
    for line in ledger.read_text().splitlines():
        job, _, word, at_s = line.split()
        if word == "end":
            ends[int(job)] += 1
        else:
            begins.setdefault(int(job), []).append(float(at_s))
    doubled = {job for job, times in ends.items() if times > 1}
    doubled |= {job for job, times in begins.items() if len(times) > 1 and sorted(times)[1] < killed_s}
    return Figures(
        jobs=len(jobs),
        lost=sum(job.state != COMPLETED or ends[job.id] == 0 for job in jobs),
        doubled=len(doubled),
        moved=len(moved_s),
        failover_s=tuple(sorted(moved_s)),
        noticed_s=noticed_s - killed_s,
        wait_s=tuple(sorted(job.attempts[0].start_unix_s - job.submit_unix_s for job in jobs)),
        total_s=max(job.end_unix_s for job in jobs) - begun_s,
    )


def print_figures(said: Figures) -> None:
    """At the end, on standard output."""
    from statistics import fmean, median

    from shunter.cli.live_text import print_pairs

    moved = said.failover_s
    p95_s = said.wait_s[min(int(0.95 * len(said.wait_s)), len(said.wait_s) - 1)]
    print_pairs([
        ("jobs", f"{said.jobs}, all ended after {said.total_s:.1f} s"),
        ("waits", f"mean {fmean(said.wait_s):.1f} s, p95 {p95_s:.1f} s, longest {said.wait_s[-1]:.1f} s"),
        ("node killed", f"held for failed after {said.noticed_s:.1f} s"),
        ("failover", f"{said.moved} jobs, from the kill to running elsewhere: median {median(moved):.1f} s, "
                     f"longest {moved[-1]:.1f} s" if moved else "no job ran on the node"),
        ("jobs lost", (str(said.lost), "red" if said.lost else "green")),
        ("jobs doubled", (str(said.doubled), "red" if said.doubled else "green")),
    ])  # fmt: skip


# --- what is shown meanwhile -----------------------------------------------------------------------------------------


class Lines:
    """Plain lines: what happens, and every other second how things stand.

    Args:
        begun_s: Zero of the times.
    """

    def __init__(self, begun_s: float) -> None:
        self._begun_s, self._next_s = begun_s, 0.0

    def say(self, text: str) -> None:
        """Something has happened."""
        sys.stdout.write(f"{time.time() - self._begun_s:5.1f} s  {text}\n")
        sys.stdout.flush()

    def show(self, nodes: Sequence[Any], jobs: Sequence[Any]) -> None:
        """How things stand."""
        if time.time() < self._next_s:
            return
        self._next_s = time.time() + LINE_S
        self.say(f"{standing(jobs)};  {'  '.join(node_words(node) for node in nodes)}")


class Screen(Lines):
    """The same in a terminal: how things stand is drawn in place, what happens scrolls above it.

    Args:
        begun_s: Zero of the times.
        live: Rich's.
    """

    def __init__(self, begun_s: float, live: Any) -> None:
        super().__init__(begun_s)
        self._live = live

    def say(self, text: str) -> None:
        """Something has happened."""
        self._live.console.print(f"{time.time() - self._begun_s:5.1f} s  {text}")

    def show(self, nodes: Sequence[Any], jobs: Sequence[Any]) -> None:
        """How things stand."""
        from rich.console import Group
        from rich.text import Text

        from shunter.cli.live_nodes import COLOUR_OF, HEALTHS, bar

        lines = [Text()]
        for node in nodes:
            health = HEALTHS[node.health]
            used = bar(node.gpus_used / GPUS, 24)
            lines.append(Text.assemble(f"{node.name}  ", (f"{health:10}", COLOUR_OF.get(health, "")), used))
        marks = {1: ("·", "dim"), 2: ("▸", "cyan"), 3: ("▶", "green"), 4: ("▸", "cyan"), 5: ("■", "green")}
        strip = Text("jobs    ")
        for job in jobs:
            mark, colour = marks.get(job.state, ("✗", "red"))
            strip.append(mark, style="yellow" if len(job.attempts) > 1 else colour)
        self._live.update(Group(*lines, strip, Text(f"        {standing(jobs)}; yellow: started again")), refresh=True)


def standing(jobs: Sequence[Any]) -> str:
    """``12 run, 30 wait, 18 have ended``."""
    count = Counter("ended" if job.state >= COMPLETED else "wait" if job.state == 1 else "run" for job in jobs)
    return f"{count['run']:2} run, {count['wait']:2} wait, {count['ended']:2} have ended"


def node_words(node: Any) -> str:
    """``node-1 healthy 3/4``."""
    from shunter.cli.live_nodes import HEALTHS

    return f"{node.name} {HEALTHS[node.health]} {node.gpus_used:g}/{GPUS}"


@contextlib.contextmanager
def _screen(begun_s: float) -> Iterator[Lines]:
    if not sys.stdout.isatty():
        yield Lines(begun_s)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield Screen(begun_s, live)
