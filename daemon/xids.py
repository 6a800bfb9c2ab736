"""NVIDIA's Xid codes: which mean the GPU, which the node, which only the application that ran on it.

A code is sorted by what NVIDIA says has to be done at once ("Resolution Bucket, Immediate Action"): RESET_GPU takes the
GPU out of service, RESTART_BM and RESTART_VM the node too, RESTART_APP and IGNORE neither. Codes that are not here are
noted in the event log, and nothing else follows: a driver's new code must not empty a cluster.

Source: NVIDIA, GPU Deployment and Management: Analyzing Xid Errors with the Xid Catalog, table 1
(https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Blame(StrEnum):
    """What is at fault; each member says what follows."""

    GPU = "gpu"  # out of service until it was reset: its jobs are evacuated
    NODE = "node"  # as above, and the node drains: it has to be rebooted
    APPLICATION = "application"  # nothing: the job ends by itself, or goes on
    NOTED = "noted"  # an event, for people


class Xid(NamedTuple):
    """One code."""

    meaning: str
    blame: Blame


XIDS: dict[int, Xid] = {
    8: Xid("GPU stopped processing (a channel timed out)", Blame.APPLICATION),
    11: Xid("invalid or corrupted push buffer stream", Blame.APPLICATION),
    13: Xid("graphics engine exception", Blame.APPLICATION),
    31: Xid("GPU memory page fault", Blame.APPLICATION),
    32: Xid("invalid or corrupted push buffer stream", Blame.APPLICATION),
    43: Xid("an application hit a fault of its own and was ended", Blame.APPLICATION),
    45: Xid("an application was ended and cleaned up after", Blame.APPLICATION),
    46: Xid("GPU stopped processing", Blame.GPU),
    48: Xid("double-bit ECC error", Blame.GPU),
    62: Xid("internal micro-controller halt", Blame.GPU),
    63: Xid("a memory row was remapped, or a page retired", Blame.NOTED),
    64: Xid("a memory row could not be remapped, or a page not be retired", Blame.GPU),
    68: Xid("video decoder exception", Blame.APPLICATION),
    69: Xid("graphics engine class error", Blame.APPLICATION),
    74: Xid("NVLink error", Blame.GPU),  # "a GPU reset or node reboot is needed to clear this error"
    79: Xid("GPU has fallen off the bus", Blame.NODE),
    92: Xid("high rate of single-bit ECC errors", Blame.NOTED),
    94: Xid("contained memory error: one application was hit", Blame.APPLICATION),
    95: Xid("uncontained memory error", Blame.GPU),
    109: Xid("context switch timed out", Blame.GPU),
    110: Xid("security fault", Blame.GPU),
    119: Xid("the GPU's system processor did not answer", Blame.GPU),
    120: Xid("error of the GPU's system processor", Blame.GPU),
    136: Xid("NVLink could not be trained", Blame.GPU),
    140: Xid("unrecovered ECC error", Blame.GPU),
    143: Xid("GPU could not be initialised", Blame.GPU),
    151: Xid("key rotation error", Blame.NODE),
    154: Xid("another Xid has changed what has to be done to recover", Blame.NOTED),
    156: Xid("resources of the GPU were retired: it wants a reset", Blame.GPU),
    158: Xid("fatal timeout of the GPU", Blame.GPU),
}


def judge(code: int, fatal: tuple[int, ...] = (), ignored: tuple[int, ...] = ()) -> tuple[str, Blame]:
    """A sentence on a code, and what is at fault, with an operator's own lists before the table."""
    known = XIDS.get(code, Xid("not in the table", Blame.NOTED))
    if code in ignored:
        return f"Xid {code}: {known.meaning}", Blame.APPLICATION
    blame = Blame.GPU if code in fatal and known.blame is not Blame.NODE else known.blame
    return f"Xid {code}: {known.meaning}", blame
