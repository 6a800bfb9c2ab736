"""Why a node got the answer that it got."""

from __future__ import annotations

import enum


class Reason(enum.IntEnum):
    """Behind every forecast; all but ``MODEL`` mean that persistence answered: the last measured value, and the
    interval of its errors on validation.
    """

    MODEL = 0
    """The network."""

    NOTHING = 1
    """Nothing measured in the whole history: the least value known of the node, or 0."""

    SHORT = 2
    """The node has fewer points than a history; goes away by itself."""

    GAP = 3
    """More than three quarters of the history are missing."""

    NOT_FINITE = 4
    """The last value is infinite: taken for missing; a source that should be looked at."""

    CONSTANT = 5
    """Stood still in training, and in the whole history: there is nothing to forecast."""

    NEW_NODE = 6
    """Unknown from training, and with less than a whole history to learn its scale from."""

    CLOCK = 7
    """The time given is not after the last one; nothing was learned from it."""

    LOSING = 8
    """Persistence was better over the last day; checked anew at every step."""

    FAILED = 9
    """The network gave no finite number."""
