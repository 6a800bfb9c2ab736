"""What a user submits, looked at once: refused with the field and the reason, or filled in with defaults.

Nothing after this doubts a specification any more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from shunter.daemon.errors import InvalidError
from shunter.daemon.live import MAX_GPUS, Units
from shunter.daemon.pb.common_pb2 import Dependency, JobSpec
from shunter.scheduler.errors import nearest
from shunter.scheduler.types import UNITS_PER

MAX_SPEC_BYTES = 128 * 1024
"""Of one serialised specification; as much as Linux takes as one argument."""
MAX_TASKS = 100_000
MAX_DEPENDENCIES = 1000
MAX_SPAN_S = 10 * 365 * 86400.0
NAME = re.compile(r"[\w.@:+/\[\]=, -]{0,128}\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
SIGNALS = frozenset(("TERM", "INT", "USR1", "USR2", "HUP", "QUIT", "ALRM", "CONT", "WINCH", "URG"))


@dataclass(frozen=True, slots=True)
class QueueRules:
    """What holds for the jobs of a queue.

    Attributes:
        name: Name.
        priority: Class of its jobs; what a job asks for is added.
        max_priority: What a job may ask for at most.
        weight: Share of what queues of its class are given when all have work.
        default_time_limit_s: Of jobs that name none.
        max_time_limit_s: Of any job.
        default_grace_s: From the signal to stop to the one that ends.
        is_open: Whether jobs are started.
        is_accepting: Whether jobs are taken.
    """

    name: str
    priority: int = 0
    max_priority: int = 1000
    weight: float = 1.0
    default_time_limit_s: float = 86400.0
    max_time_limit_s: float = MAX_SPAN_S
    default_grace_s: float = 10.0
    is_open: bool = True
    is_accepting: bool = True


DEFAULT_QUEUES: Mapping[str, QueueRules] = {"default": QueueRules("default")}


def plain(text: str, most: int = 500) -> str:
    """What somebody else has written, fit to be stored and shown on a line: no control characters, not too long."""
    return "".join(c if c.isprintable() else " " for c in text[:most])


def complete(spec: JobSpec, queues: Mapping[str, QueueRules]) -> Units:
    """Check a specification and fill in what it leaves open, in place; returns what one task takes.

    Args:
        spec: Changed.
        queues: By name; the first is the default.

    Raises:
        InvalidError: With the field, its value and what was expected.
    """
    rules = _queue(spec, queues)
    _check_program(spec)
    _check_numbers(spec, rules)
    if spec.dependencies:
        _check_dependencies(spec)
    return units_of_task(spec)


def _queue(spec: JobSpec, queues: Mapping[str, QueueRules]) -> QueueRules:
    if not spec.queue:
        spec.queue = next(iter(queues))
    rules = queues.get(spec.queue)
    if rules is None:
        raise InvalidError(f"queue: there is no {spec.queue!r}{nearest(spec.queue, list(queues))}")
    if not rules.is_accepting:
        raise InvalidError(f"queue: {spec.queue!r} takes no jobs now")
    if not -1000 <= spec.priority <= rules.max_priority:
        raise InvalidError(f"priority: {spec.priority} is not between -1000 and {rules.max_priority}")
    return rules


def _check_program(spec: JobSpec) -> None:
    command = spec.command
    if not command or not command[0]:
        raise InvalidError("command: is empty; the program and its arguments are needed")
    for argument in command:
        if "\0" in argument:
            raise InvalidError("command: an argument has a NUL character, which no program can be given")
    if not spec.name:
        name = command[0].rpartition("/")[2][:64]
        spec.name = name if name and NAME.match(name) else "job"
    else:
        _check_name("name", spec.name)
    for field in ("group", "gpu_type", "model_class", "run_as"):
        value = getattr(spec, field)
        if value:
            _check_name(field, value)
    if spec.environment:
        for variable, value in spec.environment.items():
            if not VARIABLE.match(variable) or "\0" in value:
                raise InvalidError(f"environment: {variable[:64]!r} is no variable's name, or its value has a NUL")
    folder = spec.working_directory
    if folder and (not folder.startswith("/") or "\0" in folder):
        raise InvalidError(f"working_directory: {folder[:64]!r} is no absolute path")
    if spec.stop_signal and spec.stop_signal.removeprefix("SIG") not in SIGNALS:
        known = ", ".join(sorted(SIGNALS))
        raise InvalidError(f"stop_signal: {spec.stop_signal[:64]!r} is none of {known}")


def _check_name(field: str, value: str) -> None:
    if not NAME.match(value):
        raise InvalidError(f"{field}: {value[:64]!r} has characters that no name may have")


def _check_numbers(spec: JobSpec, rules: QueueRules) -> None:
    tasks, limit_s = spec.tasks, spec.time_limit_s
    if tasks == 0:
        spec.tasks = tasks = 1
    if not 1 <= tasks <= MAX_TASKS:
        raise InvalidError(f"tasks: {tasks} is not between 1 and {MAX_TASKS}")
    if limit_s == 0:
        spec.time_limit_s = limit_s = min(rules.default_time_limit_s, rules.max_time_limit_s)
    if not 0 < limit_s <= rules.max_time_limit_s:
        raise InvalidError(
            f"time_limit_s: {limit_s:g} is not above 0 and at most {rules.max_time_limit_s:g}, the most "
            f"that queue {rules.name!r} allows"
        )
    if not spec.HasField("grace_s"):
        spec.grace_s = rules.default_grace_s
    _check_span("grace_s", spec.grace_s)
    if spec.retry_backoff_s:
        _check_span("retry_backoff_s", spec.retry_backoff_s)
    if spec.checkpoint_interval_s:
        _check_span("checkpoint_interval_s", spec.checkpoint_interval_s)
    if spec.begin_unix_s:
        _check_time("begin_unix_s", spec.begin_unix_s)
    if spec.deadline_unix_s:
        _check_time("deadline_unix_s", spec.deadline_unix_s)
    if not 0 <= spec.max_retries <= 1000:
        raise InvalidError(f"max_retries: {spec.max_retries} is not between 0 and 1000")


def _check_span(field: str, value: float) -> None:
    if not 0 <= value <= MAX_SPAN_S:
        raise InvalidError(f"{field}: {value:g} is no number of seconds between 0 and {MAX_SPAN_S:g}")


def _check_time(field: str, value: float) -> None:
    if not 0 <= value < 1e11:
        raise InvalidError(f"{field}: {value:g} is no time in seconds since 1970")


def _check_dependencies(spec: JobSpec) -> None:
    if len(spec.dependencies) > MAX_DEPENDENCIES:
        raise InvalidError(f"dependencies: {len(spec.dependencies)} are more than {MAX_DEPENDENCIES}")
    for dependency in spec.dependencies:
        if dependency.condition not in (Dependency.CONDITION_AFTER_OK, Dependency.CONDITION_AFTER_ANY):
            raise InvalidError(f"dependencies: that on job {dependency.job} has no condition")


def units_of_task(spec: JobSpec) -> Units:
    """What one task takes, in whole units, rounded up; a job that asks for nothing asks for one CPU."""
    asked = spec.per_task
    cpus, gpus = asked.cpus, asked.gpus
    if not (cpus or gpus):
        asked.cpus = cpus = 1.0
    return _in_units(cpus, asked.memory_gib, gpus)


@lru_cache(maxsize=4096)
def _in_units(cpus: float, memory: float, gpus: float) -> Units:
    if not (0 <= cpus <= 1e6 and 0 <= memory <= 1e9 and 0 <= gpus <= MAX_GPUS):
        raise InvalidError(
            f"per_task: {cpus:g} CPUs, {memory:g} GiB and {gpus:g} GPUs are not all numbers of at least 0, "
            f"with at most {MAX_GPUS} GPUs"
        )
    if gpus > 1 and gpus != int(gpus):
        raise InvalidError(f"per_task: {gpus:g} GPUs; a whole number, or a part of one, is needed")
    amounts = zip((cpus, memory, gpus), UNITS_PER, strict=True)
    return tuple(math.ceil(round(amount * per, 6)) for amount, per in amounts)  # type: ignore[return-value]
