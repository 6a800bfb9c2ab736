"""Power, energy, carbon and money of a schedule, as formulas over arrays.

The model is linear in what is held: a node that is up draws ``idle_w + (peak_w − idle_w) · share of its CPUs held``,
and each working GPU on it ``idle_w + (peak_w − idle_w) · share held``; a node that is down, and a failed GPU, draw
nothing. (Linear in the use of the CPUs as in Fan, Weber & Barroso, Power provisioning for a warehouse-sized computer,
ISCA 2007.) What is held counts as busy: a scheduler knows allocations, so the figures are upper bounds for jobs that
leave their GPUs idle.

So energy is a sum over intervals: the idle power of the nodes while up, and the additional power of each placement.
Nothing has to be sampled, and carbon is the same sum with seconds weighted by the intensity of that time and region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.scheduler.types import BoolArray, FloatArray, IntArray

HOUR_S = 3600.0
J_PER_KWH = 3.6e6
WHOLE_NODE = -1


@dataclass(frozen=True, slots=True)
class NodePower:
    """What each node draws and has; all arrays (N,).

    Attributes:
        idle_w: Node without its GPUs, idle.
        peak_w: The same, all CPUs held.
        gpu_idle_w: One of its GPUs, idle.
        gpu_peak_w: One of its GPUs, held.
        cpus: CPUs. Where a node's CPUs are not known (0), it is as busy as its GPUs.
        gpus: GPUs.
    """

    idle_w: FloatArray
    peak_w: FloatArray
    gpu_idle_w: FloatArray
    gpu_peak_w: FloatArray
    cpus: FloatArray
    gpus: FloatArray

    @property
    def at_rest_w(self) -> FloatArray:
        """(N,) a node that is up with nothing on it."""
        return self.idle_w + self.gpus * self.gpu_idle_w

    @property
    def at_most_w(self) -> FloatArray:
        """(N,) a node with everything held."""
        return self.peak_w + self.gpus * self.gpu_peak_w

    def added_w(self, node: IntArray, cpus: FloatArray, gpus: FloatArray) -> FloatArray:
        """(P,) power that holding ``cpus`` and ``gpus`` on ``node`` adds to the node at rest."""
        known, cards = self.cpus[node], self.gpus[node]
        share = np.where(known > 0, cpus / np.maximum(known, 1e-300), gpus / np.maximum(cards, 1e-300))
        share = np.where((known > 0) | (cards > 0), share, 0.0)
        added: FloatArray = share * (self.peak_w - self.idle_w)[node]
        return added + gpus * (self.gpu_peak_w - self.gpu_idle_w)[node]


@dataclass(frozen=True, slots=True)
class Placements:
    """What jobs held where and when; one row a job, attempt and node (or GPU), all arrays (P,)."""

    job: IntArray
    node: IntArray
    from_s: FloatArray
    until_s: FloatArray
    cpus: FloatArray
    gpus: FloatArray


@dataclass(frozen=True, slots=True)
class Downtimes:
    """When nodes, or single GPUs of nodes that are up, were without power; all arrays (D,), never overlapping.

    ``gpu`` is −1 for a whole node, ``until_s`` may be inf.
    """

    node: IntArray
    gpu: IntArray
    from_s: FloatArray
    until_s: FloatArray

    @classmethod
    def none(cls) -> Downtimes:
        """Nothing ever fails."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Intensity:
    """Carbon intensity of electricity as steps of equal length, repeated for ever.

    Attributes:
        g_per_kwh: (H,) grams of CO₂ equivalent per kWh.
        step_s: Length of a step.
        offset_s: Where in the series the trace's second 0 lies.
    """

    g_per_kwh: FloatArray
    step_s: float = HOUR_S
    offset_s: float = 0.0

    @classmethod
    def constant(cls, g_per_kwh: float) -> Intensity:
        """The same at all times."""
        return cls(np.asarray([g_per_kwh]))

    def integral(self, times_s: FloatArray) -> FloatArray:
        """The integral of the intensity from the series' begin to these times, in g/kWh · s; same shape."""
        period_s = len(self.g_per_kwh) * self.step_s
        area = np.concatenate([[0.0], np.cumsum(self.g_per_kwh * self.step_s)])
        rounds, rest_s = np.divmod(np.asarray(times_s, dtype=np.float64) + self.offset_s, period_s)
        inside: FloatArray = np.interp(rest_s, np.arange(len(area)) * self.step_s, area)
        total: FloatArray = rounds * area[-1] + inside
        return total


def energy_kwh(
    power: NodePower, placements: Placements, down: Downtimes, from_s: float, until_s: float
) -> tuple[float, FloatArray]:
    """Energy of the cluster and of each node between two times, in kWh: (total, (N,)). Cost: O(N + P + D)."""
    joules = at_rest_j(power, down, from_s, until_s) + added_j(power, placements, from_s, until_s)
    return float(joules.sum()) / J_PER_KWH, joules / J_PER_KWH


def at_rest_j(power: NodePower, down: Downtimes, from_s: float, until_s: float) -> FloatArray:
    """(N,) energy of each node between two times if nothing were held, in J."""
    lost = _seconds(down.from_s, down.until_s, from_s, until_s)
    return _at_rest(power, down, np.full(len(power.idle_w), until_s - from_s), lost)


def added_j(power: NodePower, placements: Placements, from_s: float, until_s: float) -> FloatArray:
    """(N,) energy that placements add to each node between two times, in J; parts of the placements add up."""
    return _added(power, placements, _seconds(placements.from_s, placements.until_s, from_s, until_s))


def carbon_kg(
    power: NodePower,
    placements: Placements,
    down: Downtimes,
    from_s: float,
    until_s: float,
    *,
    region_idx: IntArray,
    intensities: list[Intensity],
) -> tuple[float, FloatArray]:
    """Emissions of the cluster and of each region between two times, in kg CO₂ equivalent: (total, (G,)).

    Args:
        power: Of the nodes.
        placements: What was held.
        down: What drew nothing.
        from_s: Begin.
        until_s: End.
        region_idx: (N,) region of each node.
        intensities: Of each region.
    """
    grams = at_rest_g(power, down, from_s, until_s, intensities=intensities)
    grams = grams + added_g(power, placements, from_s, until_s, intensities=intensities)
    return kilograms(grams, region_idx)


def at_rest_g(
    power: NodePower, down: Downtimes, from_s: float, until_s: float, *, intensities: list[Intensity]
) -> FloatArray:
    """(G, N) what each node emits if nothing were held and it were in each region, in J · g/kWh; see ``kilograms``."""
    rows = []
    for intensity in intensities:
        whole, lost = (
            _weighted(intensity, np.asarray(begin), np.asarray(end), from_s, until_s)
            for begin, end in (([from_s], [until_s]), (down.from_s, down.until_s))
        )
        rows.append(_at_rest(power, down, np.full(len(power.idle_w), whole[0]), lost))
    return np.asarray(rows)


def added_g(
    power: NodePower, placements: Placements, from_s: float, until_s: float, *, intensities: list[Intensity]
) -> FloatArray:
    """(G, N) what placements add to ``at_rest_g``; parts of the placements add up."""
    spans = placements.from_s, placements.until_s
    return np.asarray(
        [_added(power, placements, _weighted(intensity, *spans, from_s, until_s)) for intensity in intensities]
    )


def kilograms(grams: FloatArray, region_idx: IntArray) -> tuple[float, FloatArray]:
    """Total and (G,) emissions of each region in kg, from the sums of ``at_rest_g`` and ``added_g``."""
    per_region = np.asarray([grams[region, region_idx == region].sum() for region in range(len(grams))])
    per_region = per_region / J_PER_KWH / 1000.0
    return float(per_region.sum()), per_region


def power_series(
    power: NodePower, placements: Placements, down: Downtimes, from_s: float, until_s: float
) -> tuple[FloatArray, FloatArray]:
    """Times at which the cluster's power changes and the power from then on, in W: ((T,), (T,)), from ``from_s`` on.

    Its integral until ``until_s`` is the energy. Cost: O((P + D) log (P + D)).
    """
    added_w = power.added_w(placements.node, placements.cpus, placements.gpus)
    rest_w = saved_w(power, down)
    times = np.concatenate([[from_s], placements.from_s, placements.until_s, down.from_s, down.until_s])
    steps = np.concatenate([[power.at_rest_w.sum()], added_w, -added_w, -rest_w, rest_w])
    times = np.maximum(times, from_s)
    kept = times < until_s
    instants, where = np.unique(times[kept], return_inverse=True)
    changes = np.bincount(where.reshape(-1), weights=steps[kept], minlength=len(instants))
    return instants, np.cumsum(changes)


# --- money ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """Price of the nodes while up, in the cluster's currency.

    Attributes:
        total: Of all nodes.
        on_demand: Of nodes that the provider may not take back.
        spot: Of the others.
        per_node: (N,) of each node.
    """

    total: float
    on_demand: float
    spot: float
    per_node: FloatArray


def cost(price_per_h: FloatArray, is_spot: BoolArray, down: Downtimes, from_s: float, until_s: float) -> Cost:
    """Price of the nodes between two times: every node is paid for while it is up, busy or not.

    Args:
        price_per_h: (N,) price of each node for an hour.
        is_spot: (N,) whether a node is bought on the spot market.
        down: Times that are not paid for: those of whole nodes.
        from_s: Begin.
        until_s: End.
    """
    whole = down.gpu == WHOLE_NODE
    lost_s = _seconds(down.from_s, down.until_s, from_s, until_s)[whole]
    up_s = (until_s - from_s) - np.bincount(down.node[whole], weights=lost_s, minlength=len(price_per_h))
    per_node: FloatArray = up_s / HOUR_S * price_per_h
    spot = float(per_node[is_spot].sum())
    total = float(per_node.sum())
    return Cost(total, total - spot, spot, per_node)


# --- sums over intervals --------------------------------------------------------------------------------------------


def _seconds(begin_s: FloatArray, end_s: FloatArray, from_s: float, until_s: float) -> FloatArray:
    """Lengths of intervals inside a window."""
    inside: FloatArray = np.maximum(np.minimum(end_s, until_s) - np.maximum(begin_s, from_s), 0.0)
    return inside


def saved_w(power: NodePower, down: Downtimes) -> FloatArray:
    """(D,) power at rest that is not drawn during each downtime."""
    saved: FloatArray = np.where(down.gpu == WHOLE_NODE, power.at_rest_w[down.node], power.gpu_idle_w[down.node])
    return saved


def _weighted(
    intensity: Intensity, begin_s: FloatArray, end_s: FloatArray, from_s: float, until_s: float
) -> FloatArray:
    """Integrals of an intensity over intervals inside a window."""
    begin, end = (intensity.integral(np.clip(time_s, from_s, until_s)) for time_s in (begin_s, end_s))
    weighted: FloatArray = end - begin
    return weighted


def _at_rest(power: NodePower, down: Downtimes, whole: FloatArray, lost: FloatArray) -> FloatArray:
    """(N,) power at rest times weight: of the window (N,), less the downtimes' (D,)."""
    away = np.bincount(down.node, weights=saved_w(power, down) * lost, minlength=len(power.idle_w))
    total: FloatArray = power.at_rest_w * whole - away
    return total


def _added(power: NodePower, placements: Placements, held: FloatArray) -> FloatArray:
    """(N,) sums of added power times weight (P,)."""
    added = power.added_w(placements.node, placements.cpus, placements.gpus) * held
    return np.bincount(placements.node, weights=added, minlength=len(power.idle_w)).astype(np.float64)
