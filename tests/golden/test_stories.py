"""Small workloads and what happens to them, told event by event in ``stories/*.txt``.

A file holds a title, the run's options, a table of jobs and, below the line, the story. After a change that is meant to
tell another story, ``SHUNTER_REGENERATE=1 pytest tests/golden/test_stories.py`` writes them anew, and the difference is
read like any other change.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.types import RESOURCES, UNITS_PER
from shunter.sim.engine import Options
from shunter.sim.workload import prepare
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, pool
from tests.properties.recorder import Recorder, record
from tests.scheduler.cases import settings, table

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))
LINE = "-" * 72


@dataclass(frozen=True, slots=True)
class Scene:
    """What stands above the line of a story."""

    head: str
    trace: Trace
    options: Options


def read_scene(path: Path) -> Scene:
    head = path.read_text(encoding="utf-8").split(LINE)[0].rstrip()
    _, keys, jobs = head.split("\n\n")
    said = dict(line.split(maxsplit=1) for line in keys.splitlines())
    trace = table(jobs, read_cluster(said.pop("cluster")), name=path.stem)
    ties = said.pop("ties", "instant")
    return Scene(head, trace, Options(settings(**said), ties=ties))  # type: ignore[arg-type]


def read_cluster(text: str) -> ClusterSpec:
    """``10 cpus`` (``, kill at limit``) is a pool, ``3 nodes of 4 cpus and 2 gpus`` are nodes."""
    sizes, _, rule = text.partition(", ")
    words = sizes.split()
    if words[1] == "cpus":
        return pool(float(words[0]), kill_at_limit=rule == "kill at limit")
    group = NodeGroup("node", count=int(words[0]), cpus=float(words[3]), gpus=float(words[6]))
    return ClusterSpec(name=sizes, groups=(group,))


def tell(scene: Scene) -> str:
    workload = prepare(scene.trace, scene.trace.cluster)
    run = record(workload, scene.options)
    moments = sorted(
        {*workload.columns.submit_s.tolist(), *(held.start_s for held in run.held), *(held.end_s for held in run.held)}
        | {snapshot.now_s for snapshot in run.snapshots}
    )
    lines: list[str] = []
    for moment in moments:
        sentences = [*ends(run, moment), *arrivals(run, moment), *begins(run, moment), *rest(run, moment)]
        times = [f"{moment:6g} s", *[" " * 8] * (len(sentences) - 1)]
        lines += [f"{time}  {sentence}" for time, sentence in zip(times, sentences, strict=True)]
    return "\n".join(lines) + "\n"


def names(run: Recorder) -> list[str]:
    return run.workload.trace.jobs.frame["job_id"].to_list()


def ends(run: Recorder, moment: float) -> list[str]:
    told = []
    for held in run.held:
        if held.end_s == moment:
            late_s = run.workload.run_s[held.row] - run.workload.columns.requested_s[held.row]
            name = names(run)[held.row]
            if run.workload.killed[held.row]:
                told.append(f"{name} is killed at its limit")
            else:
                by = f", {abs(late_s):g} s {'later' if late_s > 0 else 'earlier'} than it asked for"
                told.append(f"{name} ends{by if late_s else ''}")
    return told


def amount(count: float, kind: str) -> str:
    """``1 cpu``, ``2 cpus``, ``0.5 gpus``."""
    return f"{count:g} {kind.removesuffix('s') if count == 1 else kind}"


def arrivals(run: Recorder, moment: float) -> list[str]:
    workload = run.workload
    told = []
    for row, job in enumerate(workload.trace.jobs.frame.iter_rows(named=True)):
        if workload.columns.submit_s[row] == moment:
            amounts = [amount(job[kind], kind) for kind in ("cpus", "gpus") if job[kind]]
            each = f" of {' and '.join(amounts)}" if amounts != ["1 cpu"] else ""
            length = f"{workload.columns.requested_s[row]:g} s"
            told.append(f"{job['job_id']} arrives: {amount(job['tasks'], 'tasks')}{each} for {length}")
            if workload.rejected[row]:
                told.append(f"{job['job_id']} is rejected: it needs more than {workload.cluster.name}")
    return told


def begins(run: Recorder, moment: float) -> list[str]:
    told = []
    for held in run.held:
        if held.start_s == moment:
            passed = " by backfilling" if run.backfilled[held.row] else ""
            nodes = ", ".join(f"{tasks} on node {node}" for node, tasks in held.placement)
            where = f" ({nodes})" if run.workload.capacity.units.shape[1] > 1 else ""
            told.append(f"{names(run)[held.row]} starts{passed}{where}")
    return told


def rest(run: Recorder, moment: float) -> list[str]:
    """Who waits now, with promises under conservative backfilling, and what is free."""
    now = [snapshot for snapshot in run.snapshots if snapshot.now_s == moment]
    if not now:
        return []
    last: Snapshot = now[-1]
    free = [
        amount(last.free_units()[r].sum() / UNITS_PER[r], kind)
        for r, kind in enumerate(RESOURCES)
        if last.capacity.tracked[r]
    ]
    waiting = []
    for row, reserved_s in zip(last.rows[last.num_running :].tolist(), last.reserved_s.tolist(), strict=True):
        promise = "" if math.isnan(reserved_s) else f" (promised {reserved_s:g} s)"
        waiting.append(names(run)[row] + promise)
    return [f"    free: {' and '.join(free)}" + (f"; waiting: {', '.join(waiting)}" if waiting else "")]


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_story(path: Path) -> None:
    scene = read_scene(path)
    told = f"{scene.head}\n\n{LINE}\n\n{tell(scene)}"
    if os.environ.get("SHUNTER_REGENERATE"):
        path.write_text(told, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == told


def test_there_are_stories() -> None:
    assert len(STORIES) >= 5
