"""What a cluster specification says of power, prices and carbon, as the arrays of ``scheduler.energy``.

What a specification leaves out is not guessed: where the power or the price of one node is missing, there is no energy
or cost at all, and the metrics are absent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shunter.scheduler.energy import Downtimes, Intensity, NodePower
from shunter.scheduler.errors import ConfigError, nearest
from shunter.scheduler.types import BoolArray, FloatArray
from shunter.sim.failures import Spans
from shunter.traces.tables import ClusterSpec, NodeGroup


def node_power(spec: ClusterSpec) -> NodePower | None:
    """Power of every node; None when a node's idle or peak power, or that of a GPU that it has, is not stated."""
    rows = [_group_power(spec, group) for group in spec.groups]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        return None
    counts = [group.count for group in spec.groups]
    return NodePower(*(np.repeat(np.asarray(column, dtype=np.float64), counts) for column in zip(*known, strict=True)))


def node_prices(spec: ClusterSpec) -> tuple[FloatArray, BoolArray] | None:
    """(N,) price of each node for an hour and whether it is a spot node; None when a price is not stated."""
    prices = [group.price_per_h for group in spec.groups]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return None
    counts = [group.count for group in spec.groups]
    return np.repeat(np.asarray(known), counts), np.repeat([group.spot for group in spec.groups], counts)


def intensities(spec: ClusterSpec, series: Mapping[str, Intensity] | None = None) -> list[Intensity] | None:
    """Intensity of each region, in the order of ``node_table().region_idx``; None when one is not known.

    Args:
        spec: Gives the constant intensities.
        series: By region; takes the place of the constant.

    Raises:
        ConfigError: A series for a region that no group is in.
    """
    given = series or {}
    regions = list(dict.fromkeys(group.region for group in spec.groups))
    strangers = [name for name in given if name not in regions]
    if strangers:
        raise ConfigError("; ".join(f"no node is in region {name!r}{nearest(name, regions)}" for name in strangers))
    constant = {name: Intensity.constant(value) for name, value in spec.carbon_g_per_kwh.items()}
    found = [given.get(region, constant.get(region)) for region in regions]
    known = [intensity for intensity in found if intensity is not None]
    return known if len(known) == len(found) else None


def downtimes(spans: Spans) -> Downtimes:
    """The outages in which nothing is drawn or paid: not the time in which a node drains."""
    down = spans.take(spans.is_down)
    return Downtimes(down.node, down.gpu, down.from_s, down.until_s)


def _group_power(spec: ClusterSpec, group: NodeGroup) -> tuple[float, ...] | None:
    """One group's row of ``NodePower``."""
    gpus = float(group.gpus or 0.0)
    kind = spec.gpu_types.get(group.gpu_type or "") if gpus else None
    of_gpu = (0.0, 0.0) if not gpus else (kind.idle_w, kind.peak_w) if kind else (None, None)
    powers = [power for power in (group.idle_w, group.peak_w, *of_gpu) if power is not None]
    return (*powers, float(group.cpus or 0.0), gpus) if len(powers) == 4 else None
