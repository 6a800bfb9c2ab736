"""The daemon under load, as a process on one core, called by a process on the other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Record, Spread, Target
from benchmarks.workloads import Setup

SECONDS = 5.0
NODES = 10_000
CASES = (
    ("single", 64, "single submissions, 64 clients", Target("jobs_per_s", at_least=4_000)),
    ("keyed", 64, "single submissions under a key, 64 clients", None),
    ("batch", 4, "batches of 100, 4 clients", Target("jobs_per_s", at_least=100_000)),
)


def daemon_load(setup: Setup) -> Iterator[Record]:
    """Durable submissions a second, beside a server that only answers; then the telemetry of many nodes."""
    for kind, in_flight, case, target in CASES:
        yield _submissions(setup, kind, in_flight, case, target)
    yield _telemetry(setup)


def _submissions(setup: Setup, kind: str, in_flight: int, case: str, target: Target | None) -> Record:
    seconds = 0.5 if setup.most_jobs else SECONDS
    rates, echoes, cpu_us, p50, p99, rss = [], [], [], [], [], 0.0
    echo_kind = "echo-batch" if kind == "batch" else "echo-single"
    for _ in range(1 if setup.most_jobs else setup.repeat):
        with daemon() as (address, process):
            call(address, kind, 0.5, in_flight)
            before_s = cpu_s(process)
            found = call(address, kind, seconds, in_flight)
            cpu_us.append(1e6 * (cpu_s(process) - before_s) / (found["jobs_per_s"] * found["elapsed_s"]))
            rss = max(rss, process.memory_info().rss / 2**20)
        with echo() as address:
            echoes.append(call(address, echo_kind, seconds, in_flight)["jobs_per_s"])
        rates.append(found["jobs_per_s"])
        p50.append(found["p50_ms"])
        p99.append(found["p99_ms"])
    rate, bare = Spread.of(rates), Spread.of(echoes)
    return Record(
        "daemon-load",
        case,
        figures={
            "jobs_per_s": rate.median,
            "jobs_per_s_min": rate.min,
            "jobs_per_s_max": rate.max,
            "echo_jobs_per_s": bare.median,
            "share_of_echo": rate.median / bare.median,
            "daemon_cpu_us_per_job": Spread.of(cpu_us).median,
            "p50_ms": Spread.of(p50).median,
            "p99_ms": Spread.of(p99).median,
            "daemon_rss_mib": rss,
        },
        targets=(target,) if target else (),
    )


def _telemetry(setup: Setup) -> Record:
    """Nodes that send heartbeats every 3 s and samples every 5 s."""
    count = 50 if setup.most_jobs else NODES
    seconds = 3.0 if setup.most_jobs else 20.0
    with daemon() as (address, process):
        arguments = ["benchmarks.daemon_client", address, "nodes", str(seconds), str(count)]
        with _started(arguments, -1, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()  # all are there
            before_s, begun_s = cpu_s(process), time.monotonic()
            found = json.loads(client.stdout.readline())
            share = (cpu_s(process) - before_s) / (time.monotonic() - begun_s)
            rss = process.memory_info().rss / 2**20
    return Record(
        "daemon-load",
        f"{count:,} nodes, heartbeats every 3 s, samples every 5 s",
        figures={"daemon_cores": share, "daemon_rss_mib": rss, **found},
        targets=(Target("daemon_cores", at_most=1.0),),
    )


def _started(arguments: list[str], core: int, **streams: Any) -> subprocess.Popen[str]:
    """A Python process on one of the cores that there are, counted from 0 or from the end."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], text=True, **streams)
    psutil.Process(process.pid).cpu_affinity([sorted(os.sched_getaffinity(0))[core]])
    return process


@contextmanager
def daemon() -> Iterator[tuple[str, psutil.Process]]:
    """A daemon with an empty store, on one core."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "daemon.yaml"
        config.write_text("scheduling: {min_interval_s: 0.1}\n")
        address = f"127.0.0.1:{_free_port()}"
        state = str(Path(folder) / "state")
        command = ["daemon", "--listen", address, "--state", state, "--config", str(config)]
        log = (Path(folder) / "log").open("wb")
        process = _started(["shunter", *command], 0, stdout=log, stderr=log)
        try:
            _wait_for(address)
            yield address, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.close()


@contextmanager
def echo() -> Iterator[str]:
    """The server that only answers, on the same core."""
    with _started(["benchmarks.daemon_echo"], 0, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def call(address: str, kind: str, seconds: float, in_flight: int) -> dict[str, float]:
    """What a client on the other core finds."""
    arguments = ["benchmarks.daemon_client", address, kind, str(seconds), str(in_flight)]
    with _started(arguments, -1, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found: dict[str, float] = json.loads(process.stdout.read())
    return found


def cpu_s(process: psutil.Process) -> float:
    """Processor time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str) -> None:
    host, _, port = address.rpartition(":")
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"no daemon came up at {address}")
