"""Orderings that are one formula over a job's own columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shunter.scheduler import scores
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray

Parameters = Mapping[str, float]


def fcfs(view: QueueView, _: Parameters) -> FloatArray:
    """First come, first served."""
    return view.jobs.submit_s


def sjf(view: QueueView, _: Parameters) -> FloatArray:
    """Shortest requested time first. Conway, Maxwell & Miller, Theory of Scheduling, 1967 (SPT)."""
    return view.jobs.requested_s


def sjf_predicted(view: QueueView, _: Parameters) -> FloatArray:
    """Shortest expected run time first, with what ``--estimates`` says. Tsafrir et al., IEEE TPDS 18(6), 2007."""
    return view.jobs.expected_s


def sjf_oracle(view: QueueView, _: Parameters) -> FloatArray:
    """Shortest actual run time first: what SJF would be with perfect estimates."""
    return view.jobs.oracle_s


def ljf(view: QueueView, _: Parameters) -> FloatArray:
    """Longest requested time first. Graham, SIAM J. Appl. Math. 17(2), 1969 (LPT)."""
    return -view.jobs.requested_s


def smallest(view: QueueView, _: Parameters) -> FloatArray:
    """Fewest processors first. Majumdar, Eager & Bunt, SIGMETRICS 1988."""
    return view.jobs.processors


def largest(view: QueueView, _: Parameters) -> FloatArray:
    """Most processors first. Zhu & Ahuja, Job scheduling on a hypercube, ICDCS 1990."""
    return -view.jobs.processors


def saf(view: QueueView, _: Parameters) -> FloatArray:
    """Smallest area (requested time × processors) first. Carastan-Santos et al., CCGrid 2019."""
    return view.jobs.requested_s * view.jobs.processors


def sqrt_area(view: QueueView, _: Parameters) -> FloatArray:
    """Least r·√n first: F4 without its term in the submit time. After Carastan-Santos & de Camargo, SC'17."""
    return scores.sqrt_area(view.jobs.requested_s, view.jobs.processors)


def f1(view: QueueView, _: Parameters) -> FloatArray:
    """F1 = log10(r)·n + 870·log10(s). Carastan-Santos & de Camargo, SC'17."""
    return scores.f1(view.jobs.requested_s, view.jobs.processors, view.jobs.submit_s)


def f2(view: QueueView, _: Parameters) -> FloatArray:
    """F2 = √r·n + 25600·log10(s). Carastan-Santos & de Camargo, SC'17."""
    return scores.f2(view.jobs.requested_s, view.jobs.processors, view.jobs.submit_s)


def f3(view: QueueView, _: Parameters) -> FloatArray:
    """F3 = r·n + 6860000·log10(s). Carastan-Santos & de Camargo, SC'17."""
    return scores.f3(view.jobs.requested_s, view.jobs.processors, view.jobs.submit_s)


def f4(view: QueueView, _: Parameters) -> FloatArray:
    """F4 = r·√n + 530000·log10(s). Carastan-Santos & de Camargo, SC'17."""
    return scores.f4(view.jobs.requested_s, view.jobs.processors, view.jobs.submit_s)


def wfp3(view: QueueView, _: Parameters) -> FloatArray:
    """WFP3 = −(wait/request)³·n: favours jobs that waited long for their length. Tang et al., Cluster 2009."""
    return scores.wfp3(view.jobs.requested_s, view.jobs.processors, view.jobs.submit_s, view.now_s)


def unicep(view: QueueView, _: Parameters) -> FloatArray:
    """UNICEP = −wait/(log2(n)·request): favours small, short jobs that waited long. Tang et al., Cluster 2009."""
    return scores.unicep(view.jobs.requested_s, view.jobs.processors, view.jobs.submit_s, view.now_s)


def srtf(view: QueueView, _: Parameters) -> FloatArray:
    """Shortest expected remaining time first. Schrage, Operations Research 16(3), 1968."""
    return view.jobs.expected_s


def las(view: QueueView, _: Parameters) -> FloatArray:
    """Least attained service (processor-seconds) first. Nuyens & Wierman, Perf. Eval. 65, 2008; Tiresias, NSDI'19."""
    return view.jobs.attained_s


def ftf(view: QueueView, _: Parameters) -> FloatArray:
    """Largest finish-time fairness ρ first: least fairly treated so far. Mahajan et al., Themis, NSDI 2020, §3.

    ρ is the time in the system, were the job to run from now on, over the time on an nth of the cluster of its own: all
    of its expected run time, longer in proportion where it asks for more than that share. n counts the jobs in the
    system now, as ``fairness.finish_time_fairness`` does on average. Themis lets jobs bid, and moves running ones; here
    ρ only orders the queue, and whom ``--preempt policy`` stops.
    """
    jobs = view.jobs
    had_s = np.zeros(len(jobs))
    np.divide(jobs.attained_s, jobs.processors, out=had_s, where=jobs.processors > 0)
    num_jobs = len(jobs) + view.num_others
    alone_s = (jobs.expected_s + had_s) * np.maximum(1.0, num_jobs * jobs.processors / view.total_processors)
    return -(view.wait_s + jobs.expected_s) / np.maximum(alone_s, 1e-9)


def priority(view: QueueView, _: Parameters) -> FloatArray:
    """Highest priority first, first come first served inside a class."""
    return -view.jobs.priority


LEAST_LOAD = {"least": 0.1}
"""A load that counts as none: what divides the priority is never less, so that an idle node is not everything."""


def predicted_load(view: QueueView, parameters: Parameters) -> FloatArray:
    """Priority over the predicted load of the nodes that the job would take, highest first. This project.

    Priorities count from 1 for the lowest class that waits. Without a prediction all nodes are alike, and this is
    ``priority``. A gang counts with the highest load among its nodes: it goes at the pace of its slowest task.
    """
    rank = view.jobs.priority - view.jobs.priority.min(initial=np.inf) + 1.0
    load = view.loads if len(view.loads) else np.zeros(len(rank))
    scores: FloatArray = -rank / np.maximum(load, parameters["least"])
    return scores


def edf(view: QueueView, _: Parameters) -> FloatArray:
    """Earliest deadline first; jobs without one come last. Liu & Layland, Journal of the ACM 20(1), 1973."""
    return view.jobs.deadline_s


def slack(view: QueueView, _: Parameters) -> FloatArray:
    """Least slack first: deadline less expected remaining time. Mok, Fundamental Design Problems, MIT, 1983."""
    return view.jobs.deadline_s - view.jobs.expected_s


THRESHOLDS = {"first": 3250.0, "second": 7200.0, "third": 18000.0}
"""GPU-seconds after which a job moves to the next queue: those of the authors' simulator."""

LEVEL_S = 1e12
"""Longer than any submit time, so that the level decides first."""


def tiresias_level(view: QueueView, parameters: Parameters) -> FloatArray:
    """Queue of each job: how many of the thresholds its attained service has passed."""
    limits = np.sort(np.asarray(list(parameters.values())))
    return np.searchsorted(limits, view.jobs.attained_s, side="right").astype(np.float64)


def tiresias_holds_s(view: QueueView, parameters: Parameters) -> FloatArray:
    """Seconds until each job, if it runs on, moves to the next queue; inf in the last one."""
    limits = np.append(np.sort(np.asarray(list(parameters.values()))), np.inf)
    left = limits[tiresias_level(view, parameters).astype(np.int64)] - view.jobs.attained_s
    holds_s = np.full(len(left), np.inf)
    np.divide(left, view.jobs.processors, out=holds_s, where=view.jobs.processors > 0)
    return holds_s


def tiresias(view: QueueView, parameters: Parameters) -> FloatArray:
    """Discretised two-dimensional LAS: least attained GPU time first, in steps. Gu et al., Tiresias, NSDI 2019."""
    return tiresias_level(view, parameters) * LEVEL_S + view.jobs.submit_s
