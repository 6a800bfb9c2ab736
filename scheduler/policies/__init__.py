"""Orderings of the queue, by name."""

from __future__ import annotations

from shunter.scheduler import guard, rounds
from shunter.scheduler.policies import by_rounds, formulas
from shunter.scheduler.policies.drf import drf
from shunter.scheduler.policies.fairshare import fairshare
from shunter.scheduler.policies.learned import learned
from shunter.scheduler.policies.multifactor import PARAMETERS, multifactor
from shunter.scheduler.policies.registry import ChosenOrdering, Ordering, Score, choose_ordering

__all__ = ["ORDERINGS", "ChosenOrdering", "Ordering", "choose_ordering"]


def _entry(name: str, score: Score, **traits: object) -> tuple[str, Ordering]:
    """An ordering whose summary and source are the two sentences of its docstring."""
    text = " ".join((score.__doc__ or "").split("\n\n")[0].split())
    summary, _, source = text.partition(". ")
    return name, Ordering(name, score, summary.rstrip("."), source.rstrip("."), **traits)  # type: ignore[arg-type]


ORDERINGS: dict[str, Ordering] = dict(
    (
        _entry("fcfs", formulas.fcfs),
        _entry("sjf", formulas.sjf, uses_request=True),
        _entry("sjf-predicted", formulas.sjf_predicted, uses_request=True, uses_estimate=True),
        _entry("sjf-oracle", formulas.sjf_oracle, needs_oracle=True),
        _entry("ljf", formulas.ljf, uses_request=True),
        _entry("smallest", formulas.smallest),
        _entry("largest", formulas.largest),
        _entry("saf", formulas.saf, uses_request=True),
        _entry("sqrt-area", formulas.sqrt_area, uses_request=True),
        _entry("f1", formulas.f1, uses_request=True),
        _entry("f2", formulas.f2, uses_request=True),
        _entry("f3", formulas.f3, uses_request=True),
        _entry("f4", formulas.f4, uses_request=True),
        _entry("wfp3", formulas.wfp3, static=False, uses_request=True),
        _entry("unicep", formulas.unicep, static=False, uses_request=True),
        _entry("srtf", formulas.srtf, uses_request=True, uses_estimate=True),
        _entry("las", formulas.las),
        _entry(
            "tiresias",
            formulas.tiresias,
            rank=formulas.tiresias_level,
            rank_holds_s=formulas.tiresias_holds_s,
            parameters=formulas.THRESHOLDS,
        ),
        _entry("edf", formulas.edf),
        _entry("slack", formulas.slack, uses_request=True, uses_estimate=True),
        _entry("priority", formulas.priority),
        _entry(
            "predicted-load",
            formulas.predicted_load,
            static=False,
            needs_load=True,
            rank=formulas.priority,
            parameters=formulas.LEAST_LOAD,
        ),
        _entry("fairshare", fairshare, static=False, needs_usage=True),
        _entry("multifactor", multifactor, static=False, needs_usage=True, parameters=PARAMETERS),
        _entry("drf", drf, static=False, needs_shares=True),
        _entry("ftf", formulas.ftf, static=False, uses_request=True, uses_estimate=True),
        _entry(
            "het-las", by_rounds.het_las, static=False, parameters=by_rounds.GAVEL_ROUND, rounds=rounds.het_las_round
        ),
        _entry(
            "het-makespan",
            by_rounds.het_makespan,
            static=False,
            uses_request=True,
            uses_estimate=True,
            parameters=by_rounds.GAVEL_ROUND,
            rounds=rounds.het_makespan_round,
        ),
        _entry(
            "elastic",
            by_rounds.elastic,
            static=False,
            parameters=by_rounds.SIA_ROUND,
            rounds=rounds.elastic_round,
            is_elastic=True,
        ),
        _entry("learned", learned, static=False, uses_request=True, needs_features=True, parameters=guard.PARAMETERS),
    )
)
"""Every ordering, in the order in which tables list them."""
