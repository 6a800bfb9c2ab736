"""Warm start: a network learns to order queues as a teacher does, before it learns by trying.

The teacher is a heuristic, a score that a search has found, or the recorded choices of a lookahead. What is learned
from are decisions: a queue, what was allowed, and what the teacher took (or how it scored each job).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import OutputError, TraceError, UsageError
from shunter.scheduler.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

    from shunter.agents.networks import QueueNetwork, Queues

LOSSES = ("choice", "pairs")

PAIRS = 8
"""Pairs of jobs drawn from each queue in an epoch."""

STEPS_OF_SHARPENING = 40


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What a teacher decided, queue after queue.

    Attributes:
        rows: (R, F) features of the visible jobs, the first decision's first.
        first: (D + 1,) where each decision's rows begin; the last entry is R.
        chosen: (D,) which of a decision's jobs was taken, counted from 0.
        allowed: (R,) whether the job could have been taken.
        scores: (R,) the teacher's scores, lower first; NaN where only the choice is known.
    """

    rows: np.ndarray[Any, np.dtype[np.float32]]
    first: IntArray
    chosen: IntArray
    allowed: BoolArray
    scores: FloatArray

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            TraceError: Shapes, a choice outside its queue, or one that was not allowed.
        """
        count, rows = len(self.chosen), len(self.rows)
        lengths = np.diff(self.first)
        whole = len(self.first) == count + 1 and self.first[0] == 0 and self.first[-1] == rows
        if not whole or len(self.allowed) != rows or len(self.scores) != rows or (lengths < 1).any():
            raise TraceError(f"recorded decisions: {count} choices and {rows} rows do not fit together")
        if ((self.chosen < 0) | (self.chosen >= lengths)).any() or not self.allowed[
            self.first[:-1] + self.chosen
        ].all():
            raise TraceError("recorded decisions: a choice is not among the jobs that were allowed")

    def __len__(self) -> int:
        return len(self.chosen)

    @classmethod
    def of_queues(
        cls, observations: FloatArray, allowed: BoolArray, scores: FloatArray, chosen: IntArray | None = None
    ) -> Decisions:
        """Decisions in padded queues.

        Args:
            observations: (D, K, F + 1) visible jobs; the last column says which rows are jobs.
            allowed: (D, K) which of them may be taken; decisions where none may are left out.
            scores: (D, K) the teacher's scores, lower first; NaN where they are not known.
            chosen: (D,) what was taken; by default the allowed job with the lowest score, the first one of several.
        """
        present = observations[:, :, -1] > 0.5
        allowed = allowed & present
        some = allowed.any(1)
        observations, present, allowed, scores = observations[some], present[some], allowed[some], scores[some]
        place = np.where(allowed, scores, np.inf).argmin(1) if chosen is None else chosen[some]
        rank = np.cumsum(present, 1) - 1
        return cls(
            rows=observations[present][:, :-1].astype(np.float32),
            first=np.concatenate(([0], np.cumsum(present.sum(1)))),
            chosen=rank[np.arange(len(place)), place],
            allowed=allowed[present],
            scores=scores[present].astype(np.float64),
        )

    @classmethod
    def joined(cls, parts: list[Decisions]) -> Decisions:
        """All decisions of several records."""
        starts = np.cumsum([0, *(len(part.rows) for part in parts)])
        return cls(
            rows=np.concatenate([part.rows for part in parts]),
            first=np.concatenate([[0], *(part.first[1:] + at for part, at in zip(parts, starts[:-1], strict=True))]),
            chosen=np.concatenate([part.chosen for part in parts]),
            allowed=np.concatenate([part.allowed for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
        )

    def save(self, path: Path) -> None:
        """Write them to an ``.npz`` file.

        Raises:
            OutputError: It cannot be written.
        """
        partial = path.with_name(f".{path.name}.partial.npz")
        try:
            np.savez_compressed(
                partial,
                rows=self.rows,
                first=self.first,
                chosen=self.chosen,
                allowed=self.allowed,
                scores=self.scores,
            )
            partial.replace(path)
        except OSError as problem:
            raise OutputError(f"{path}: cannot be written: {problem.strerror or problem}") from None

    @classmethod
    def load(cls, path: Path) -> Decisions:
        """What ``save`` has written.

        Raises:
            TraceError: The file cannot be read, or is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})
        except FileNotFoundError:
            raise TraceError(f"{path}: no such file") from None
        except (OSError, ValueError, KeyError, EOFError) as problem:
            raise TraceError(f"{path}: no recorded decisions: {problem}") from None

    def queues(self, which: IntArray) -> tuple[Queues, IntArray]:
        """Some decisions as packed queues, and the (R',) rows of this record that they consist of."""
        import torch

        from shunter.agents.networks import Queues

        lengths = np.diff(self.first)[which]
        queue = np.repeat(np.arange(len(which)), lengths)
        slot = np.arange(len(queue)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(self.first[which], lengths) + slot
        packed = Queues(
            torch.as_tensor(self.rows[rows]),
            torch.as_tensor(queue),
            torch.as_tensor(slot),
            len(which),
            int(lengths.max()),
        )
        return packed, rows


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a network orders as its teacher does.

    Attributes:
        loss: Mean loss of the last epoch.
        same_choice: Share of the decisions kept aside in which it takes the job that the teacher took.
    """

    loss: float
    same_choice: float


def imitate(
    network: QueueNetwork,
    decisions: Decisions,
    *,
    seed: int,
    epochs: int = 6,
    batch: int = 512,
    learning_rate: float = 3e-3,
    loss: str = "choice",
    should_stop: Callable[[], bool] | None = None,
) -> Agreement:
    """Let a network learn from a teacher's decisions; a tenth of them is kept aside to see how well it does.

    Args:
        network: Learns in place.
        decisions: What the teacher did.
        seed: Of the order in which they are looked at, and of the pairs.
        epochs: How often all are looked at.
        batch: Decisions between two steps.
        learning_rate: Of Adam (Kingma & Ba, ICLR 2015), falling to a tenth.
        loss: ``choice``: cross-entropy of what the teacher took among what was allowed. ``pairs``: logistic loss on
            pairs of jobs of a queue (RankNet; Burges et al., ICML 2005), which needs the teacher's scores.
        should_stop: Asked before each epoch.

    Raises:
        UsageError: An unknown loss, too few decisions, or ``pairs`` without scores.
    """
    import torch

    if loss not in LOSSES:
        raise UsageError(f"unknown loss {loss!r}; expected one of {', '.join(LOSSES)}")
    if loss == "pairs" and np.isnan(decisions.scores).any():
        raise UsageError("loss 'pairs' needs the teacher's scores, but only choices were recorded; use 'choice'")
    if len(decisions) < 2:
        raise UsageError(f"{len(decisions)} recorded decisions: at least 2 are needed to learn from them")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(decisions))
    aside, learned = np.split(order, [max(1, len(order) // 10)])
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, gamma=0.1 ** (1.0 / max(epochs, 1)))
    last = float("nan")
    for _ in range(epochs):
        if should_stop is not None and should_stop():
            break
        losses = []
        for part in _parts(rng.permutation(learned), batch):
            found = _loss(network, decisions, part, loss, rng)
            optimiser.zero_grad()
            found.backward()
            optimiser.step()
            losses.append(found.item())
        schedule.step()
        last = float(np.mean(losses))
    return Agreement(last, same_choice(network, decisions, aside, batch))


def same_choice(network: QueueNetwork, decisions: Decisions, which: IntArray | None = None, batch: int = 512) -> float:
    """Share of the decisions in which the network takes what the teacher took."""
    import torch

    which = np.arange(len(decisions)) if which is None else which
    same = 0
    with torch.no_grad():
        for part in _parts(which, batch):
            logits, chosen = _logits(network, decisions, part)
            same += int((logits.argmax(1) == chosen).sum())
    return same / len(which)


def sharpen(network: QueueNetwork, decisions: Decisions, entropy: float, batch: int = 512) -> float:
    """Scale a network's scores, which changes no order, until its random choice has a given mean entropy.

    A score that a search has found has a scale of its own: PPO would start from a policy that never tries anything
    else, or from one that draws lots. The entropy is given as a share of that of drawing lots among what is allowed;
    what jobs that score alike leave of it, however sharp the choice, counts as none.

    Returns:
        The factor; 1 for a network that scores all jobs alike.
    """
    import torch

    which = np.arange(min(len(decisions), 4 * batch))
    with torch.no_grad():
        found = [_logits(network, decisions, part)[0] for part in _parts(which, batch)]
    known = [logits[(logits > -torch.inf).sum(1) > 1] for logits in found]
    spread = max((float((part.nan_to_num(neginf=0.0)).abs().max()) for part in known if len(part)), default=0.0)
    if spread == 0.0:
        return 1.0
    low, high = (
        -20.0,
        15.0 - float(np.log(max(spread, 1.0))),
    )  # of the factor's logarithm; the entropy falls as it rises
    least = _entropy_share(known, float(np.exp(high)))
    entropy = least + entropy * (1.0 - least)
    for _ in range(STEPS_OF_SHARPENING):
        middle = (low + high) / 2
        if _entropy_share(known, float(np.exp(middle))) > entropy:
            low = middle
        else:
            high = middle
    factor = float(np.exp((low + high) / 2))
    with torch.no_grad():
        for parameter in network.last_layer():
            parameter.mul_(factor)
    return factor


def _entropy_share(found: list[Tensor], factor: float) -> float:
    import torch

    shares = []
    for logits in found:
        log_probability = torch.log_softmax(logits * factor, 1)
        terms = torch.where(log_probability > -torch.inf, log_probability.exp() * log_probability, 0.0)
        most = torch.log((logits > -torch.inf).sum(1).float())
        shares.append(-terms.sum(1) / most)
    return float(torch.cat(shares).mean())


def _parts(which: IntArray, batch: int) -> Iterator[IntArray]:
    for begin in range(0, len(which), batch):
        yield which[begin : begin + batch]


def _logits(network: QueueNetwork, decisions: Decisions, which: IntArray) -> tuple[Tensor, Tensor]:
    """(B, L) logits, −∞ where nothing may be taken, and the (B,) jobs that the teacher took."""
    import torch

    queues, rows = decisions.queues(which)
    scores, _ = network.encode(queues)
    allowed = queues.spread(torch.as_tensor(decisions.allowed[rows]), False)
    logits = torch.where(allowed, queues.spread(-scores, 0.0), -torch.inf)
    return logits, torch.as_tensor(decisions.chosen[which])


def _loss(network: QueueNetwork, decisions: Decisions, which: IntArray, loss: str, rng: np.random.Generator) -> Tensor:
    import torch

    if loss == "choice":
        logits, chosen = _logits(network, decisions, which)
        return torch.nn.functional.cross_entropy(logits, chosen)
    queues, rows = decisions.queues(which)
    scores, _ = network.encode(queues)
    lengths = np.diff(decisions.first)[which]
    begin = np.repeat(np.cumsum(lengths) - lengths, PAIRS)
    one, other = (begin + rng.integers(0, np.repeat(lengths, PAIRS)) for _ in range(2))
    wanted = np.sign(decisions.scores[rows[other]] - decisions.scores[rows[one]])
    differs = wanted != 0
    if not differs.any():
        return scores.sum() * 0.0
    gap = scores[torch.as_tensor(other[differs])] - scores[torch.as_tensor(one[differs])]
    return torch.nn.functional.softplus(-gap * torch.as_tensor(wanted[differs], dtype=gap.dtype)).mean()
