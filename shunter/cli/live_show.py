"""A job, an explanation and an estimate in words."""

from __future__ import annotations

import shlex
import sys
import time
from typing import Any

from shunter.cli.live_jobs import COLOUR_OF, STATES, needs
from shunter.cli.live_text import Cell, Column, clean, painted, print_pairs, print_table
from shunter.cli.spans import iso, short_span


def print_job(job: Any) -> None:
    """Everything of a job, times in UTC."""
    state = STATES[job.state - 1]
    pairs: list[tuple[str, Cell]] = [("job", str(job.id)), ("state", (state, COLOUR_OF[state]))]
    if job.reason not in ("", state):
        pairs.append(("reason", job.reason))
    if job.HasField("exit_code"):
        pairs.append(("exit code", str(job.exit_code)))
    pairs += [("name", clean(job.spec.name)), ("user", clean(job.user))]
    if job.HasField("array"):
        pairs.append(("array", f"{job.array}, index {job.array_index}"))
    pairs += [*_spec_pairs(job.spec), ("submitted", iso(job.submit_unix_s))]
    for name, field in (("started", "start_unix_s"), ("ended", "end_unix_s")):
        if job.HasField(field):
            pairs.append((name, iso(getattr(job, field))))
    print_pairs(pairs)
    if job.attempts:
        sys.stdout.write("\n")
        _print_attempts(job.attempts)


def _spec_pairs(spec: Any) -> list[tuple[str, Cell]]:
    """What was asked for; only what was."""
    pairs: list[tuple[str, Cell]] = [("command", clean(shlex.join(spec.command)))]
    said = [
        ("directory", clean(spec.working_directory)),
        ("group", clean(spec.group)),
        ("queue", clean(spec.queue)),
        ("priority", str(spec.priority)),
        ("needs", needs(spec)),
        ("time limit", short_span(spec.time_limit_s) if spec.time_limit_s else ""),
        ("grace", f"{spec.grace_s:g} s" if spec.HasField("grace_s") else ""),
        ("saves its work", _every(spec)),
        ("retries", _retries(spec)),
        ("not before", iso(spec.begin_unix_s) if spec.begin_unix_s else ""),
        ("deadline", iso(spec.deadline_unix_s) if spec.deadline_unix_s else ""),
        ("after", ", ".join(f"{d.job} ({'ok' if d.condition == 1 else 'any end'})" for d in spec.dependencies)),
        ("may make way", "yes" if spec.preemptible else ""),
        ("starts again elsewhere", "no" if spec.no_requeue else ""),
        ("stop signal", spec.stop_signal),
        ("runs as", clean(spec.run_as)),
        # Values may be secrets, and `show` is what people paste; --json has them.
        ("environment", " ".join(sorted(spec.environment))),
    ]
    return pairs + [(name, text) for name, text in said if text]


def _every(spec: Any) -> str:
    return f"every {short_span(spec.checkpoint_interval_s)}" if spec.HasField("checkpoint_interval_s") else ""


def _retries(spec: Any) -> str:
    return f"{spec.max_retries}, first after {spec.retry_backoff_s:g} s" if spec.max_retries else ""


def _print_attempts(attempts: Any) -> None:
    columns = [
        Column("ATTEMPT", is_right=True), Column("NODES", least=8), Column("STARTED"), Column("RAN", is_right=True),
        Column("EXIT", is_right=True), Column("CAUSE"), Column("MESSAGE", least=8),
    ]  # fmt: skip
    rows = []
    for attempt in attempts:
        ran = ""
        if attempt.HasField("start_unix_s"):
            end_s = attempt.end_unix_s if attempt.HasField("end_unix_s") else time.time()
            ran = short_span(end_s - attempt.start_unix_s)
        placed = [
            placement.node + (f":{','.join(map(str, placement.gpus))}" if placement.gpus else "")
            for placement in attempt.placement
        ]
        rows.append([
            str(attempt.number), " ".join(placed),
            iso(attempt.start_unix_s) if attempt.HasField("start_unix_s") else "",
            ran, str(attempt.exit_code) if attempt.HasField("exit_code") else "", attempt.cause, clean(attempt.message),
        ])  # fmt: skip
    print_table(columns, rows)


def print_explanation(said: Any) -> None:
    """Sentences first, figures after."""
    now_s = time.time()
    sys.stdout.write(f"{said.sentence}\n\n")
    pairs: list[tuple[str, Cell]] = [("job", str(said.job)), ("state", STATES[said.state - 1])]
    if said.reason:
        pairs.append(("reason", said.reason))
    if said.HasField("place"):
        pairs.append(("place", f"{said.place} of {said.queue_length} by {said.policy}"))
    else:
        pairs.append(("policy", said.policy))
    if said.HasField("heuristic_place"):
        pairs.append(("by the heuristic", f"it would be {said.heuristic_place}"))
    if said.ahead:
        pairs.append(("right ahead", " ".join(map(str, said.ahead))))
    if said.guard:
        pairs.append(("guard", said.guard))
    if said.HasField("reserved_unix_s"):
        pairs.append(("reserved from", f"{iso(said.reserved_unix_s)}, in {short_span(said.reserved_unix_s - now_s)}"))
    if said.HasField("start"):
        pairs.append(("start", estimate_words(said.start, now_s)))
    print_pairs(pairs)
    if said.contributions:
        sys.stdout.write("\n")
        columns = [
            Column("FEATURE"), Column("VALUE", is_right=True), Column("QUEUE'S MEAN", is_right=True),
            Column("MOVES IT", is_right=True),
        ]  # fmt: skip
        rows = [
            [part.feature, f"{part.value:.4g}", f"{part.mean:.4g}",
             (f"{part.change:+.3f}", "green" if part.change < 0 else "yellow")]
            for part in said.contributions
        ]  # fmt: skip
        print_table(columns, rows)
        sys.stdout.write(painted("below 0 is forward\n", "dim"))


def estimate_words(start: Any, now_s: float) -> str:
    """When a job starts, in a sentence without its subject."""
    if not start.HasField("median_unix_s"):
        told = f" ({start.told})" if start.told else ""
        return f"may start at any time: nobody can say when{told}"
    words = f"starts in about {short_span(start.median_unix_s - now_s)}, at {iso(start.median_unix_s)}"
    if start.HasField("low_unix_s") and start.HasField("high_unix_s"):
        low, high = (short_span(max(at_s - now_s, 0)) for at_s in (start.low_unix_s, start.high_unix_s))
        words += f"; between {low} and {high} from now"
    return words + (f" ({start.told})" if start.told else "")
