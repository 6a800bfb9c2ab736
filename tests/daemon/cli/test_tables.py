"""Tables as people see them, at a fixed width; spans and times as they are written."""

from __future__ import annotations

import pytest

from shunter.cli.live_jobs import print_jobs
from shunter.cli.live_nodes import print_nodes
from shunter.cli.live_submit import array_of
from shunter.cli.live_text import document, print_pairs
from shunter.cli.spans import moment_s, short_span, span_s
from shunter.daemon.pb import common_pb2, nodes_pb2
from shunter.scheduler.errors import UsageError

NOW_S = 1_800_000_000.0


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW_S)
    monkeypatch.setenv("NO_COLOR", "1")


def job(number: int, **what: object) -> common_pb2.Job:
    spec = common_pb2.JobSpec(
        name="train-resnet-on-imagenet",
        queue="default",
        tasks=4,
        per_task=common_pb2.Resources(gpus=1, cpus=8, memory_gib=16),
    )
    made: dict[str, object] = {"user": "ada", "state": 1, "spec": spec, "submit_unix_s": NOW_S - 3700, **what}
    return common_pb2.Job(id=number, **made)  # type: ignore[arg-type]


def jobs() -> list[common_pb2.Job]:
    placed = [common_pb2.Attempt(number=1, placement=[common_pb2.Placement(node=f"gpu-{i}") for i in (1, 2)])]
    return [
        job(123456789, state=3, start_unix_s=NOW_S - 130, attempts=placed),
        job(7, reason="no-capacity", array=7, array_index=3),
        job(6, state=6, reason="failed", exit_code=137, start_unix_s=NOW_S - 60, end_unix_s=NOW_S - 15),
    ]


WIDE = """\
       ID  NAME                         USER  QUEUE    STATE    REASON         TIME  NEEDS                   NODES
123456789  train-resnet-on-imagenet     ada   default  running               2m 10s  4 × 1 GPU 8 CPU 16 GiB  gpu-1,gpu-2
        7  train-resnet-on-imagenet[3]  ada   default  pending  no-capacity   1h 1m  4 × 1 GPU 8 CPU 16 GiB
        6  train-resnet-on-imagenet     ada   default  failed   exit 137        45s  4 × 1 GPU 8 CPU 16 GiB
"""


def test_a_queue_with_room(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_jobs(iter(jobs()))
    assert capsys.readouterr().out == WIDE


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_cuts_names_and_never_ids(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_jobs(iter(jobs()))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines] == ["ID", "123456789", "7", "6"]
    assert "…" in lines[1]


def node(name: str, health: int, **what: object) -> nodes_pb2.Node:
    gpus = [nodes_pb2.GpuDescription(index=i) for i in range(4)]
    described = nodes_pb2.NodeDescription(cpus=64, memory_gib=503.5, gpus=gpus, gpu_type="A100")
    made: dict[str, object] = {"health": health, "last_heartbeat_unix_s": NOW_S - 2, "description": described, **what}
    return nodes_pb2.Node(name=name, **made)  # type: ignore[arg-type]


def test_nodes_with_sensors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    sample = nodes_pb2.NodeSample(
        gpus=[nodes_pb2.GpuSample(index=0, utilisation=1.0, temperature_c=71.4), nodes_pb2.GpuSample(utilisation=0.5)]
    )
    print_nodes(
        [
            node("gpu-1", 1, gpus_used=3, cpus_used=24, memory_used_gib=96, jobs=[4, 5], telemetry=sample),
            node("gpu-2", 4, reason="silent", failed_gpus=[2]),
        ]
    )
    assert capsys.readouterr().out == (
        "NODE   HEALTH   REASON    GPUS  TYPE  BUSY            TEMP   CPUS    MEMORY  JOBS   HEARD\n"
        "gpu-1  healthy             3/4  A100  ██████░░  75%  71 °C  24/64  96/503.5     2  2s ago\n"
        "gpu-2  failed   silent  0/4 −1  A100                         0/64   0/503.5     0  2s ago\n"
    )


def test_what_others_wrote_moves_no_cursor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bad = job(1)
    bad.spec.name = "a\x1b[2Jb\nc"
    print_jobs(iter([bad]))
    assert "a\ufffd[2Jb\ufffdc" in capsys.readouterr().out


def test_json_leaves_out_what_nobody_knows() -> None:
    told = document(jobs()[1])
    assert told["state"] == "pending"
    assert told["array_index"] == 3
    assert "start_unix_s" not in told
    assert "exit_code" not in told
    assert told["spec"]["per_task"] == {"cpus": 8.0, "memory_gib": 16.0, "gpus": 1.0}
    assert document(jobs()[2])["exit_code"] == 137
    assert document(common_pb2.Job(state=8))["state"] == "timed-out"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800), ("01:30:00", 5400), ("10:00", 36000),
     ("1-12:00:30", 129630), ("250ms", 0.25)],
)  # fmt: skip
def test_spans(text: str, seconds: float) -> None:
    assert span_s(text, "--x") == seconds


@pytest.mark.parametrize("text", ["", "-1", "1x", "h", "1h-", "inf", "nan", "1e9", "99999999999d", "1:2:3:4"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(UsageError, match="--x"):
        span_s(text, "--x")


def test_moments() -> None:
    assert moment_s("+2h", "--begin") == NOW_S + 7200
    assert moment_s("2027-01-15T08:00:00+00:00", "--begin") == NOW_S
    with pytest.raises(UsageError, match="--begin"):
        moment_s("noon", "--begin")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m 0s"), (3661, "1h 1m"), (90000, "1d 1h"), (-5, "0s")]
)
def test_short_spans(seconds: float, text: str) -> None:
    assert short_span(seconds) == text


def test_arrays() -> None:
    found = array_of("0-99:2%5")
    assert (found.first, found.last, found.step, found.max_running) == (0, 99, 2, 5)


def test_pairs_are_set_below_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([("a", "1"), ("long", ("2", "red"))])
    assert capsys.readouterr().out == "a     1\nlong  2\n"
