"""The table of series, what the endpoint tells, and what Prometheus makes of it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from shunter.daemon.clock import SystemClock
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.metrics import LATENCIES_S, Metrics, Tally
from shunter.daemon.metrics_http import Endpoint
from shunter.daemon.metrics_table import BY_NAME, COUNTER, TABLE
from shunter.daemon.pb import nodes_pb2, nodes_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc
from shunter.daemon.planner import ThreadPlanner
from shunter.daemon.security.guard import Guard
from shunter.daemon.service.access import OpenAccess
from shunter.daemon.service.server import Server
from shunter.daemon.steps.nodes import LeaseRules
from tests.daemon.cluster import free_port
from tests.daemon.memory_store import MemoryStore
from tests.daemon.security.live import sleeping
from tests.daemon.simulated import SimulatedAgent, description

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"
RULES = PACKAGING / "prometheus" / "shunter.rules.yml"
SLOW = LeaseRules(heartbeat_s=0.2, suspect_s=40.0, lease_s=60.0)  # the first decision compiles, and nobody is heard
FAST = LeaseRules(heartbeat_s=0.2, suspect_s=0.8, lease_s=1.0, margin_s=0.2)
needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Debian's prometheus is not installed (scripts/install-debian-packages)"
)


class Running:
    """A daemon with its endpoint and two agents, in this process."""

    async def __aenter__(self) -> Running:
        store = MemoryStore()
        self.leader = Leader(store, SystemClock(), ThreadPlanner(), Conduct(leases=SLOW, tick_s=0.05))
        self.metrics = Metrics()
        self.metrics.watch(self.leader)
        self.leader.lead(store, 7)
        access = OpenAccess("alice")
        self.server = Server(self.leader, access, guard=Guard(access, meter=self.metrics))
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1:0')}"
        self.endpoint = Endpoint(lambda: self.metrics.families(self.server, max_nodes=10))
        self.port = await self.endpoint.start("127.0.0.1:0")
        self.agents = [
            SimulatedAgent(self.address, name, description(2, 4, 1, "A100"), lambda _: 60.0) for name in ("n1", "n2")
        ]
        for agent in self.agents:
            agent.start()
        self.channel = grpc.aio.insecure_channel(self.address)
        self.jobs: Any = scheduler_pb2_grpc.SchedulerStub(self.channel)
        await self.until(lambda: len(self.server.sessions.open) == 2)
        return self

    async def __aexit__(self, *_: object) -> None:
        for agent in self.agents:
            await agent.stop()
        await self.channel.close()
        await self.endpoint.stop()
        await self.server.stop(0.1)
        await self.leader.step_down()

    async def until(self, holds: Any, limit_s: float = 60.0) -> None:
        end_s = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < end_s, "it did not happen"
            await asyncio.sleep(0.02)

    async def scrape(self, path: str = "/metrics", **headers: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)

        def get() -> str:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return str(reply.read().decode())

        return await asyncio.to_thread(get)

    async def submit(self) -> int:
        return int((await self.jobs.Submit(scheduler_pb2.SubmitRequest(spec=sleeping()))).job)

    async def work(self) -> None:
        """Everything that has a series happens once."""
        for _ in range(2):
            await self.submit()
        await self.until(lambda: sum(job.start_s is not None for job in self.leader.state.jobs.values()) == 2)
        gpu = nodes_pb2.GpuSample(
            index=0, utilisation=0.5, memory_used_gib=2, temperature_c=60, power_w=300, sm_clock_mhz=1400,
            ecc_corrected=3, ecc_uncorrected=0,
        )  # fmt: skip
        sample = nodes_pb2.NodeSample(
            cpu_utilisation=0.25, memory_used_gib=1, disk_free_gib=5, network_rx_bytes_per_s=1,
            network_tx_bytes_per_s=2, gpus=[gpu],
        )  # fmt: skip
        batch = nodes_pb2.TelemetryBatch(
            node="n1", registration=self.leader.state.nodes["n1"].registration, samples=[sample]
        )
        await nodes_pb2_grpc.NodesStub(self.channel).Telemetry(iter([batch]))


def values_of(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_table_has_at_least_forty_series_with_units_in_their_names_and_no_unbounded_label() -> None:
    assert len(TABLE) >= 40
    assert len(BY_NAME) == len(TABLE)
    for row in TABLE:
        assert re.fullmatch(r"(shunter|process)_[a-z_]+", row.name)
        assert (row.kind == COUNTER) == row.name.endswith("_total"), row.name
        assert row.help
        assert row.unit
        assert not set(row.labels) & {"job", "job_id", "user", "owner"}
        suffix = {"s": "_seconds", "bytes": "_bytes", "°C": "_celsius", "W": "_watts", "Hz": "_hertz"}.get(row.unit, "")
        assert row.name.removesuffix("_total").endswith(suffix), row.name


def test_the_endpoint_tells_what_happened_and_nothing_that_is_not_in_the_table() -> None:
    async def check() -> None:
        async with Running() as live:
            await live.work()
            text = await live.scrape()
            told = values_of(text)
            names = {family.name for family in text_string_to_metric_families(text)}
            known = {row.name.removesuffix("_total") for row in TABLE}
            assert names <= known, names - known
            absent = known - names
            assert absent == {
                "shunter_shadow_regret_ratio", "shunter_forecast_error_ratio", "shunter_forecast_coverage_ratio",
                "shunter_certificate_end_timestamp_seconds", "shunter_guard_orders",
                "shunter_failover_seconds", "shunter_jobs_ended", "shunter_requeues", "shunter_jobs_skipped",
                "shunter_waiting_oldest_seconds", "shunter_store_seconds", "shunter_store_group_rows",
            } - names  # fmt: skip
            assert told["shunter_jobs", (("class", "0"), ("queue", "default"), ("state", "running"))] == 2
            assert told["shunter_jobs_submitted_total", ()] == 2
            assert told["shunter_assignments_total", ()] == 2
            assert told["shunter_job_wait_seconds_count", (("queue", "default"),)] == 2
            assert told["shunter_nodes", (("health", "healthy"),)] == 2
            assert told["shunter_cpus", ()] == 4
            assert told["shunter_memory_bytes", ()] == 8 * 2**30
            assert told["shunter_gpus", ()] == 2
            assert told["shunter_fencing_token", ()] == 7
            assert told["shunter_leader", ()] == 1
            assert told["shunter_evictions_held", ()] == 0
            assert told["shunter_gpu_sm_clock_hertz", (("gpu", "0"), ("node", "n1"))] == 1.4e9
            assert told["shunter_node_memory_used_bytes", (("node", "n1"),)] == 2**30
            submits = (("code", "OK"), ("method", "/shunter.v1.Scheduler/Submit"))
            assert told["shunter_rpc_total", submits] == 2
            for stage in ("snapshot", "plan", "check", "commit", "store"):
                assert told["shunter_decision_seconds_count", (("stage", stage),)] >= 1
            live.leader.figures["shunter_shadow_regret_ratio"] = lambda: {(): 0.25}
            live.leader.figures["shunter_forecast_error_ratio"] = lambda: None
            told = values_of(await live.scrape())
            assert told["shunter_shadow_regret_ratio", ()] == 0.25
            assert "alice" not in text
            with pytest.raises(urllib.error.HTTPError, match="404"):
                await live.scrape("/")
            assert "# EOF" in await live.scrape(Accept="application/openmetrics-text; version=1.0.0")

    asyncio.run(check())


def test_counting_a_call_costs_little() -> None:
    metrics, code = Metrics(), grpc.StatusCode.OK

    def seconds() -> float:
        begun = time.perf_counter()
        for _ in range(1000):
            metrics.called("/shunter.v1.Scheduler/Submit", code, 0.001)
        return (time.perf_counter() - begun) / 1000

    assert min(seconds() for _ in range(20)) < 3e-6


def test_a_tally_counts_like_a_histogram() -> None:
    tally = Tally((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        tally.add(value)
    assert tally.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert tally.total == 14.0
    assert list(LATENCIES_S) == sorted(LATENCIES_S)


def series_in(expression: str) -> set[str]:
    found = set(re.findall(r"\b(?:shunter|process)_[a-z_]+", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in BY_NAME else name for name in found}


def test_rules_and_dashboard_ask_for_series_that_exist() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    asked = [rule["expr"] for group in groups for rule in group["rules"]]
    dashboard = json.loads((PACKAGING / "grafana" / "shunter.json").read_text())
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in asked:
        assert series_in(expression), expression
        assert series_in(expression) <= set(BY_NAME), expression


@needs_prometheus
def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    for command in (["check", "rules", RULES.name], ["test", "rules", "shunter.rules.test.yml"]):
        done = subprocess.run(
            ["promtool", *command], check=False, cwd=RULES.parent, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_prometheus_scrapes_a_live_daemon_and_the_alert_of_a_failover_fires(tmp_path: Path) -> None:
    async def check() -> None:
        async with Running() as live:
            await live.work()
            text = await live.scrape()
            checked = await asyncio.to_thread(
                subprocess.run, ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=60
            )
            assert checked.returncode == 0, checked.stdout + checked.stderr
            port = free_port()
            settings = {
                "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {"job_name": "shunter", "static_configs": [{"targets": [f"127.0.0.1:{live.port}"]}]}
                ],
            }
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
            command = [
                "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
            ]  # fmt: skip
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
                try:
                    await _ask_until(port, "targets", lambda data: data["activeTargets"][0]["health"] == "up")
                    query = "query?query=shunter_jobs_submitted_total"
                    await _ask_until(port, query, lambda data: data["result"] and data["result"][0]["value"][1] == "2")
                    assert not _firing(await _ask(port, "alerts"))
                    silent = next(agent for agent in live.agents if agent.runs)
                    silent.answers = False
                    live.leader.apply(Conduct(leases=FAST, tick_s=0.05))
                    await _ask_until(
                        port, "alerts", lambda data: {"ShunterNodeFailed", "ShunterFailover"} <= _firing(data)
                    )
                finally:
                    prometheus.terminate()
            told = values_of(await live.scrape())
            assert told["shunter_failovers_total", (("cause", "node-failed"),)] >= 1
            assert told["shunter_node_failures_total", ()] == 1

    asyncio.run(check())


def _firing(data: Any) -> set[str]:
    return {alert["labels"]["alertname"] for alert in data["alerts"] if alert["state"] == "firing"}


async def _ask(port: int, what: str) -> Any:
    def get() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{what}", timeout=5) as reply:
            return json.loads(reply.read())["data"]

    return await asyncio.to_thread(get)


async def _ask_until(port: int, what: str, holds: Any, limit_s: float = 30.0) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        try:
            data = await _ask(port, what)
            if holds(data):
                return
        except (urllib.error.URLError, OSError, IndexError):
            data = None
        assert time.monotonic() < end_s, data
        await asyncio.sleep(0.1)
