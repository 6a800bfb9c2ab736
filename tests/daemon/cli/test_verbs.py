"""Everyday verbs against a daemon that runs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.cli.conftest import FIRST_S, Daemon, Live, until

Spawn = Callable[..., subprocess.Popen[str]]


def submitted(live: Live, *arguments: str) -> int:
    ran = live("submit", *arguments)
    assert ran.code == 0, ran.err
    assert ran.out.strip().isdecimal()
    return int(ran.out)


def is_idle(live: Live) -> bool:
    return live("queue", "--json").document["jobs"] == []


def test_submit_prints_the_id_alone_and_the_job_ends(live: Live) -> None:
    job = submitted(live, "--gpus", "1", "--name", "small", "--", "python", "train.py", "--epochs", "3")
    state = until(lambda: live("show", job, "--json").document["state"] == "completed", FIRST_S)
    assert state
    found = live("show", job, "--json").document
    assert found["spec"]["command"] == ["python", "train.py", "--epochs", "3"]
    assert found["exit_code"] == 0
    assert found["attempts"][0]["cause"] == "completed"
    assert isinstance(found["id"], int)


def test_wait_returns_the_jobs_own_exit_code(live: Live) -> None:
    assert live("submit", "--env", "CODE=7", "--wait", "--", "false").code == 7
    assert live("submit", "--wait", "--", "true").code == 0


def test_wait_for_an_array_tells_of_the_one_that_failed(live: Live) -> None:
    ran = live("submit", "--array", "0-3%2", "--env", "CODE=3", "--wait", "--json", "--", "x")
    assert ran.code == 3
    assert [job["array_index"] for job in ran.document["jobs"]] == [0, 1, 2, 3]


def test_the_same_key_gives_the_same_job(live: Live) -> None:
    first = submitted(live, "--idempotency-key", "once", "--", "true")
    assert submitted(live, "--idempotency-key", "once", "--", "true") == first
    live("submit", "--idempotency-key", "once", "--", "false").failed_cleanly(1, "once", str(first))


def test_a_batch_prints_every_id(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text(
        "".join(json.dumps({"name": f"b{i}", "command": ["x"], "per_task": {"cpus": 1}}) + "\n" for i in range(5))
    )
    ran = live("submit", "--batch", file)
    ids = [int(line) for line in ran.out.splitlines()]
    assert ids == list(range(ids[0], ids[0] + 5))
    assert live("show", ids[4], "--json").document["spec"]["name"] == "b4"
    file.write_text('{"command": ["x"], "after_ok": [' + str(ids[0]) + "]}\n{}\n")
    live("submit", "--batch", file).failed_cleanly(2, "job 1 of the batch", "command")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ("jobs.jsonl:1", "JSON")),
        ("[1]", ("jobs.jsonl:1", "object")),
        ('{"comand": ["x"]}', ("jobs.jsonl:1", "comand")),
        ('{"command": "x", "tasks": "many"}', ("jobs.jsonl:1",)),
        ('{"command": ["x"], "after_ok": ["y"]}', ("jobs.jsonl:1", "after_ok", "'y'")),
    ],
)
def test_a_bad_line_of_a_batch_is_named(live: Live, tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text(line + "\n")
    live("submit", "--batch", file).failed_cleanly(2, *words)


def test_queue_shows_what_runs_then_what_waits(live: Live) -> None:
    running = submitted(live, "--gpus", "2", "--env", "S=60", "--name", "first", "--", "x")
    other = submitted(live, "--gpus", "2", "--env", "S=60", "--name", "second", "--", "x")
    waiting = submitted(live, "--gpus", "2", "--name", "third", "--priority", "-1", "--", "x")
    until(lambda: live("queue", "--json", "--state", "running").out.count('"id"') >= 2)
    listed = live("queue", "--json").document["jobs"]
    assert [job["id"] for job in listed] == [other, running, waiting]
    assert [job["state"] for job in listed] == ["running", "running", "pending"]
    table = live("queue").out.splitlines()
    assert table[0].split() == ["ID", "NAME", "USER", "QUEUE", "STATE", "REASON", "TIME", "NEEDS", "NODES"]
    assert "third" in table[3]
    until(lambda: "no-capacity" in live("queue").out.splitlines()[3])
    assert live("queue", "--name", "ECO", "--json").document["jobs"][0]["id"] == other
    assert "What it asks for is not free" in live("explain", waiting).out
    assert live("explain", waiting, "--json").document["place"] == 1
    assert "(estimated)" in live("eta", waiting).out
    assert " ago, at " in live("eta", running).out
    assert live("reprioritise", waiting, "--priority", "5").out == f"{waiting} has priority 5\n"
    assert live("show", waiting, "--json").document["spec"]["priority"] == 5
    nodes = live("nodes", "--json").document["nodes"]
    assert [(node["name"], node["health"], node["gpus_used"]) for node in nodes] == [
        ("gpu-1", "healthy", 2.0),
        ("gpu-2", "healthy", 2.0),
    ]
    ran = live("cancel", running, other, waiting)
    assert ran.out.splitlines() == [f"{job} cancelled" for job in (running, other, waiting)]
    until(lambda: is_idle(live))
    assert live("cancel", waiting, "--json").document == {"cancelled": [], "ended": [waiting]}
    finished = [job["id"] for job in live("queue", "--finished", "--limit", "3", "--json").document["jobs"]]
    assert finished == [waiting, other, running]


def test_pages_have_no_end(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shunter.cli.live_jobs.PAGE", 7)
    first = submitted(live, "--array", "0-29", "--begin", "+1h", "--name", "paged", "--", "x")
    listed = live("queue", "--name", "paged", "--json").document["jobs"]
    assert [job["id"] for job in listed] == list(range(first + 29, first - 1, -1))
    assert len(live("queue", "--name", "paged").out.splitlines()) == 31
    assert live("cancel", first, "--array").out.count("cancelled") == 30


def test_drain_and_resume(live: Live) -> None:
    until(lambda: is_idle(live))
    assert live("drain", "gpu-2", "--reason", "new fan").out == "gpu-2 gets no new work and is empty\n"
    lines = live("nodes").out.splitlines()
    assert "draining" in lines[2]
    assert "new fan" in lines[2]
    assert live("resume", "gpu-2").out == "gpu-2 gets work again\n"
    assert live("nodes", "--json").document["nodes"][1]["health"] == "healthy"


def test_events_of_a_job_are_its_story(live: Live) -> None:
    job = submitted(live, "--", "true")
    until(lambda: live("show", job, "--json").document["state"] == "completed")
    told = live("events", "--job", job, "--json").document
    assert [event["kind"] for event in told["events"]] == ["submitted", "assigned", "started", "ended"]
    assert told["up_to"] >= told["events"][-1]["number"]
    assert f"job {job} attempt 1 → completed" in live("events", "--last", "5").out


def test_logs_of_all_tasks_and_of_one(live: Live, spawned: Spawn) -> None:
    job = submitted(live, "--tasks", "2", "--env", "OUT=hello", "--", "x")
    until(lambda: live("show", job, "--json").document["state"] == "completed")
    assert spawned("logs", str(job)).communicate()[0] == "0: task 0: hello\n1: task 1: hello\n"
    assert spawned("logs", str(job), "--task", "1", "--tail", "6").communicate()[0] == "hello\n"
    refused = spawned("logs", str(job), "--attempt", "9")
    assert refused.communicate() == ("", f"shunter: job {job} has no attempt 9\n")
    assert refused.returncode == 1


def test_logs_are_followed_to_the_end(live: Live, spawned: Spawn) -> None:
    job = submitted(live, "--env", "OUT=begun", "--env", "LATER=done\n", "--env", "S=1", "--begin", "+4s", "--", "x")
    out, err = spawned("logs", str(job), "-f").communicate(timeout=30)
    assert out == "task 0: begun\ndone\n"
    assert "waits (begin-time)" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("queue", "--watch", "--every", "0.2s"),
        ("nodes", "--watch", "--every", "0.2s"),
        ("events", "--follow"),
    ],
    ids=" ".join,
)
def test_ctrl_c_is_how_one_leaves(live: Live, spawned: Spawn, arguments: tuple[str, ...]) -> None:
    submitted(live, "--", "true")
    process = spawned(*arguments)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")


def test_ctrl_c_leaves_a_log_that_is_followed(live: Live, spawned: Spawn) -> None:
    job = submitted(live, "--env", "OUT=begun", "--env", "S=60", "--", "x")
    process = spawned("logs", str(job), "-f")
    assert process.stdout is not None
    assert process.stdout.readline() == "task 0: begun\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0
    live("cancel", job)


def test_followers_go_on_after_a_restart(live: Live, spawned: Spawn, daemon: Daemon) -> None:
    until(lambda: is_idle(live))
    last = live("events", "--last", "1", "--json").document["up_to"]
    process = spawned("events", "--follow", "--after", str(last), "--json")
    waiting = spawned("submit", "--env", "S=3", "--wait", "--env", "CODE=4", "--", "x")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["kind"] == "submitted"
    daemon.end(signal.SIGKILL)
    daemon.start()
    numbers = [first["number"]]
    while (event := json.loads(process.stdout.readline()))["kind"] != "ended":
        numbers.append(event["number"])
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert event["job"] == first["job"]
    assert waiting.wait(20) == 4


def test_policy_says_what_decides(live: Live) -> None:
    said = live("policy", "status", "--json").document
    assert (said["mode"], said["heuristic"], said["is_leader"]) == ("heuristic", "fcfs", True)
    assert "backfilling  easy" in live("policy", "status").out
