"""What is remembered of a node and of each of its GPUs, what may happen to them, and the legal transitions.

Values only: ``daemon.health`` says what each event does. A memory travels as JSON with the node's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class Health(StrEnum):
    """Of a node, or a GPU; each member says what it may be used for."""

    HEALTHY = "healthy"  # new work
    SUSPECT = "suspect"  # no new work; loses nothing
    DRAINING = "draining"  # no new work; a GPU's jobs are evacuated, a node's end, or are moved by its deadline
    FAILED = "failed"  # its jobs are over and start elsewhere
    RECOVERING = "recovering"  # is back, and on probation: no new work yet


H = Health
LEGAL: dict[Health, frozenset[Health]] = {
    H.HEALTHY: frozenset({H.SUSPECT, H.DRAINING, H.FAILED}),
    H.SUSPECT: frozenset({H.HEALTHY, H.DRAINING, H.FAILED, H.RECOVERING}),
    H.DRAINING: frozenset({H.HEALTHY, H.SUSPECT, H.FAILED, H.RECOVERING}),
    H.FAILED: frozenset({H.RECOVERING}),
    H.RECOVERING: frozenset({H.HEALTHY, H.SUSPECT, H.DRAINING, H.FAILED}),
}
"""Of nodes: what may follow each state."""
GPU_LEGAL: dict[Health, frozenset[Health]] = {
    H.HEALTHY: frozenset({H.SUSPECT, H.DRAINING, H.FAILED}),
    H.SUSPECT: frozenset({H.HEALTHY, H.DRAINING, H.FAILED}),
    H.DRAINING: frozenset({H.HEALTHY, H.FAILED, H.RECOVERING}),
    H.FAILED: frozenset({H.HEALTHY, H.RECOVERING}),
    H.RECOVERING: frozenset({H.HEALTHY, H.DRAINING, H.FAILED}),
}
"""Of GPUs."""


class Ground(StrEnum):
    """Why a node drains."""

    OPERATOR = "operator"  # until an operator resumes it
    GPUS = "gpus"  # until fewer of its GPUs are out of service
    BUS = "bus"  # a GPU fell off the bus, or NVIDIA says reboot: until the machine has booted, or resume
    NVML = "nvml"  # until NVML answers again
    BLACK_HOLE = "black-hole"  # until an operator resumes it


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """What is remembered of one GPU.

    Attributes:
        state: Present one.
        why: A sentence.
        is_fault: Out of service because it did not answer: back when it answers again.
        trusted_s: End of the probation.
        hot: Samples in a row in which it was too hot.
        cool: Samples in a row in which it was cool again, while it drains.
        silent: Samples in a row in which it did not answer.
        ecc: Uncorrected errors at the last look; −1: not looked at yet.
        retired: Pages retired, or rows remapped, at the last look.
        noted: (code, when) of Xids that were told lately.
    """

    state: Health = Health.HEALTHY
    why: str = ""
    is_fault: bool = False
    trusted_s: float = 0.0
    hot: int = 0
    cool: int = 0
    silent: int = 0
    ecc: int = -1
    retired: int = -1
    noted: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one node.

    Attributes:
        state: Present one.
        why: Sentence on a suspicion, a failure or a probation.
        grounds: (ground, sentence) for which it drains.
        deadline_s: When a node that drains is taken away; None: no date.
        trusted_s: End of the probation.
        failed_s: Times of its failures of late.
        bad_ends: (when, owner, job name) of jobs that failed here one after the other.
        silent: Samples in a row in which NVML did not answer.
        num_gpus: That it has.
        gpus: Those that are not as new, by index.
    """

    state: Health = Health.HEALTHY
    why: str = ""
    grounds: tuple[tuple[str, str], ...] = ()
    deadline_s: float | None = None
    trusted_s: float = 0.0
    failed_s: tuple[float, ...] = ()
    bad_ends: tuple[tuple[float, str, str], ...] = ()
    silent: int = 0
    num_gpus: int = 0
    gpus: Mapping[int, GpuMemory] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why it is not simply healthy, in a sentence."""
        said = [self.why] if self.why else []
        said += [sentence for _, sentence in self.grounds]
        said += [gpu.why for _, gpu in sorted(self.gpus.items()) if gpu.why and gpu.state is not Health.HEALTHY]
        return "; ".join(dict.fromkeys(said))

    @property
    def closed_gpus(self) -> set[int]:
        """GPUs that take no new work."""
        return {index for index, gpu in self.gpus.items() if gpu.state is not Health.HEALTHY}

    @property
    def leaving_gpus(self) -> set[int]:
        """GPUs that jobs have to leave."""
        return {i for i, gpu in self.gpus.items() if gpu.state in (Health.DRAINING, Health.FAILED)}


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Its agent was heard."""


@dataclass(frozen=True, slots=True)
class Silence:
    """It was not, for long enough to be suspected."""

    silent_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """It is given up: silent for longer than its lease, and the blast radius allows it."""

    silent_s: float


@dataclass(frozen=True, slots=True)
class Registered:
    """Its agent has come, or come back."""

    num_gpus: int
    has_booted: bool = False  # since the last time


@dataclass(frozen=True, slots=True)
class GpuSeen:
    """One GPU in a sample; None: not told. Xids are those since the last sample."""

    index: int
    xids: tuple[int, ...] = ()
    ecc: int | None = None
    retired: int | None = None
    remapping_failed: bool = False
    temperature_c: float | None = None
    throttle: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class NvmlSeen:
    """Whether NVML answered a node that has GPUs: empty, or why not."""

    fault: str


@dataclass(frozen=True, slots=True)
class BadEnd:
    """A job failed here by itself.

    Attributes:
        owner: Its user …
        name: … and name.
        ran_s: Since its start.
        elsewhere: (owner, name) of jobs that ended well on other nodes of late.
    """

    owner: str
    name: str
    ran_s: float
    elsewhere: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class GoodEnd:
    """A job ended well here."""


@dataclass(frozen=True, slots=True)
class Drain:
    """An operator closes it."""

    reason: str
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """An operator trusts it again, whatever was remembered."""


Event = Heartbeat | Silence | Lost | Registered | GpuSeen | NvmlSeen | BadEnd | GoodEnd | Drain | Resume


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is told in the event log.

    Attributes:
        kind: ``node-…`` or ``gpu-…`` with the new state; ``node-drained``, ``node-resumed``, ``gpu-noted``.
        message: A sentence.
        gpu: Index; None: the node.
    """

    kind: str
    message: str = ""
    gpu: int | None = None


# --- JSON ------------------------------------------------------------------------------------------------------------


def encode(memory: Memory) -> dict[str, Any]:
    """What differs from the defaults, as JSON has it."""
    row = _changed(memory, Memory())
    if memory.gpus:
        row["gpus"] = {str(i): _changed(gpu, GpuMemory()) for i, gpu in sorted(memory.gpus.items())}
    return row


def _changed(value: Any, default: Any) -> dict[str, Any]:
    names = [f.name for f in fields(value) if f.name != "gpus"]
    return {name: getattr(value, name) for name in names if getattr(value, name) != getattr(default, name)}


def decode(row: Mapping[str, Any]) -> Memory:
    """The memory that ``encode`` made this of; unknown keys are left out, as from a later version."""
    gpus = {int(index): GpuMemory(**_known(GpuMemory, gpu)) for index, gpu in row.get("gpus", {}).items()}
    return Memory(**_known(Memory, row), gpus=gpus)


def _known(kind: type, row: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(kind)} - {"gpus"}
    values = {key: value for key, value in row.items() if key in names}
    if "state" in values:
        values["state"] = Health(values["state"])
    for key, value in values.items():
        if isinstance(value, list):
            values[key] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return values
