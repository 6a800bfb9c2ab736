"""Networks that score waiting jobs: the small one that replays compiled, and one that looks at the whole queue.

Both score the jobs of a queue alike wherever they stand in it: permuting the rows permutes the scores. LOWER GOES
FIRST. A batch of queues travels packed, without padding: real queues are mostly far shorter than the longest one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.kernels.network import Network, new_network

HIDDEN = (32, 16)
"""Units of the two hidden layers of the small network."""

ROWS_AT_ONCE = 4096

WIDTH, HEADS, BLOCKS = 32, 2, 1
"""Size of the attention network: 10,000 parameters, and a hundredth of the small one's speed on long queues."""


class Queues(NamedTuple):
    """Several queues of waiting jobs, packed.

    Attributes:
        rows: (R, F) float32 features, the jobs of the first queue first.
        queue: (R,) the queue of each row, never decreasing.
        slot: (R,) its place among the visible jobs.
        num_queues: Queues B; some may be empty.
        longest: Places L that are needed for the longest of them.
    """

    rows: Tensor
    queue: Tensor
    slot: Tensor
    num_queues: int
    longest: int

    def spread(self, values: Tensor, empty: float) -> Tensor:
        """(B, L, ·) of (R, ·): every value in its queue and place, ``empty`` elsewhere."""
        out = values.new_full((self.num_queues * self.longest, *values.shape[1:]), empty)
        out[self.queue * self.longest + self.slot] = values
        return out.view(self.num_queues, self.longest, *values.shape[1:])

    def gather(self, values: Tensor) -> Tensor:
        """(R, ·) of (B, L, ·): the opposite of ``spread``."""
        return values.flatten(0, 1)[self.queue * self.longest + self.slot]

    def mean(self, values: Tensor) -> Tensor:
        """(B, ·) mean of (R, ·) over each queue; zeros for empty ones."""
        lengths = torch.bincount(self.queue, minlength=self.num_queues)
        total = values.new_zeros(self.num_queues, values.shape[1]).index_add(0, self.queue, values)
        return total / lengths.clamp(min=1).unsqueeze(1)


def pack(observation: Tensor) -> Queues:
    """Packed queues of observations (B, K, F + 1), whose last column says which rows are jobs."""
    queue, slot = torch.nonzero(observation[:, :, -1] > 0.5, as_tuple=True)
    longest = int(slot.max()) + 1 if len(slot) else 1
    return Queues(observation[queue, slot, :-1], queue, slot, len(observation), longest)


def one_queue(features: Tensor) -> Queues:
    """One queue of (Q, F) features."""
    slot = torch.arange(features.shape[0], device=features.device)
    return Queues(features, torch.zeros_like(slot), slot, 1, features.shape[0])


class QueueNetwork(nn.Module, ABC):
    """A network that scores queues.

    Attributes:
        kind: Name of the kind, as cards of bundles have it.
        width: Columns of what it knows of each job, which the critic shares.
    """

    kind: str
    width: int

    @abstractmethod
    def encode(self, queues: Queues) -> tuple[Tensor, Tensor]:
        """(R,) scores and (R, width) what is known of each job."""

    @abstractmethod
    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """The parameters in which the scores are linear."""

    def forward(self, features: Tensor) -> Tensor:
        """(Q,) scores of the jobs of one queue (Q, F)."""
        return self.encode(one_queue(features))[0]


class KernelNetwork(QueueNetwork):
    """The same small network for each job: skip · x + w3 · relu(w2 relu(w1 x + b1) + b2); see ``Network``.

    The hidden layers have no say at first: a new network scores by ``skip`` alone, which is zero or the weights that
    a search has found.
    """

    kind = "kernel"

    def __init__(self, num_features: int = NUM_FEATURES, hidden: tuple[int, int] = HIDDEN) -> None:
        super().__init__()
        first, second = hidden
        self.width = second
        self.skip = nn.Parameter(torch.zeros(num_features))
        self.w1 = nn.Parameter(_orthogonal(first, num_features))
        self.b1 = nn.Parameter(torch.zeros(first))
        self.w2 = nn.Parameter(_orthogonal(second, first))
        self.b2 = nn.Parameter(torch.zeros(second))
        self.w3 = nn.Parameter(torch.zeros(second))

    def encode(self, queues: Queues) -> tuple[Tensor, Tensor]:
        """(R,) scores and (R, H2) outputs of the second layer."""
        weights = (self.skip, self.w1, self.b1, self.w2, self.b2, self.w3)
        scores, known = KernelScores.apply(queues.rows, *weights)
        return scores, known

    def forward(self, features: Tensor) -> Tensor:
        """(Q,) scores of the jobs of one queue (Q, F): the definition, of which ``encode`` is a fast form."""
        hidden = torch.relu(nn.functional.linear(features, self.w1, self.b1))
        hidden = torch.relu(nn.functional.linear(hidden, self.w2, self.b2))
        return features @ self.skip + hidden @ self.w3

    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """``skip`` and ``w3``."""
        return self.skip, self.w3


class KernelScores(torch.autograd.Function):
    """The kernel network a few thousand rows at a time, so that what lies between its layers stays in the cache.

    Backwards the first layer is worked out again rather than kept. A third of the time that autograd takes over all
    rows at once. The features have no gradient.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) scores and (R, H2) outputs of the second layer."""
        skip, w1, b1, w2, b2, w3 = weights
        scores, known = rows.new_empty(len(rows)), rows.new_empty(len(rows), len(b2))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            hidden = torch.addmm(b1, rows[part], w1.t()).relu_()
            torch.addmm(b2, hidden, w2.t(), out=known[part]).relu_()
            torch.mv(rows[part], skip, out=scores[part]).addmv_(known[part], w3)
        ctx.save_for_backward(rows, known, *weights)
        return scores, known

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weights from those of the scores (R,) and of the outputs (R, H2)."""
        rows, known, skip, w1, b1, w2, b2, w3 = ctx.saved_tensors
        of_scores, of_known = gradients
        behind_relu = torch.ops.aten.threshold_backward
        to_skip, to_w1, to_b1, to_w2, to_b2, to_w3 = (torch.zeros_like(each) for each in (skip, w1, b1, w2, b2, w3))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            x, top, of_score = rows[part], known[part], of_scores[part]
            hidden = torch.addmm(b1, x, w1.t()).relu_()
            to_skip.addmv_(x.t(), of_score)
            to_w3.addmv_(top.t(), of_score)
            second = behind_relu(torch.addr(of_known[part], of_score, w3), top, 0)
            to_w2.addmm_(second.t(), hidden)
            to_b2.add_(second.sum(0))
            first = behind_relu(second @ w2, hidden, 0)
            to_w1.addmm_(first.t(), x)
            to_b1.add_(first.sum(0))
        return None, to_skip, to_w1, to_b1, to_w2, to_b2, to_w3


class AttentionNetwork(QueueNetwork):
    """Jobs that look at one another: multi-head self-attention over the queue (Vaswani et al., NeurIPS 2017).

    Time and memory grow with the square of the queue.
    """

    kind = "attention"

    def __init__(
        self, num_features: int = NUM_FEATURES, width: int = WIDTH, heads: int = HEADS, blocks: int = BLOCKS
    ) -> None:
        super().__init__()
        self.width = width
        self.skip = nn.Parameter(torch.zeros(num_features))
        self.embed = nn.Linear(num_features, width)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def encode(self, queues: Queues) -> tuple[Tensor, Tensor]:
        """(R,) scores and (R, width) outputs of the last block."""
        present = queues.spread(queues.rows.new_ones(len(queues.rows)), 0.0) > 0.5
        known = queues.gather(self.attend(queues.spread(self.embed(queues.rows), 0.0), present))
        return queues.rows @ self.skip + self.score(known).squeeze(1), known

    def forward(self, features: Tensor) -> Tensor:
        """(Q,) scores of the jobs of one queue (Q, F); what is exported: no packing."""
        known = self.attend(self.embed(features).unsqueeze(0), None).squeeze(0)
        return features @ self.skip + self.score(known).squeeze(1)

    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """``skip`` and the layer behind the blocks."""
        return self.skip, self.score.weight, self.score.bias

    def attend(self, known: Tensor, present: Tensor | None) -> Tensor:
        """(B, L, width) after all blocks; places that hold no job are looked at by none."""
        hidden = None
        if present is not None:
            hidden = torch.where(present, 0.0, -torch.inf)[:, None, None, :]
            hidden = torch.where(present.any(1)[:, None, None, None], hidden, 0.0)  # an empty queue must not give NaN
        for block in self.blocks:
            known = block(known, hidden)
        normed: Tensor = self.norm(known)
        return normed


class AttentionBlock(nn.Module):
    """Attention, then two layers for each job, both with a way past them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, known: Tensor, hidden: Tensor | None) -> Tensor:
        """(B, L, width) of (B, L, width); ``hidden`` (B, 1, 1, L) is −∞ where no job stands."""
        batch, longest, width = known.shape
        parts = self.query_key_value(self.before(known)).reshape(batch, longest, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
        known = known + self.out(seen.transpose(1, 2).reshape(batch, longest, width))
        return known + self.outer(torch.relu(self.inner(self.between(known))))


KINDS: dict[str, type[QueueNetwork]] = {"kernel": KernelNetwork, "attention": AttentionNetwork}


def num_parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def to_compiled(network: KernelNetwork) -> Network:
    """The same network for compiled replays."""
    named = {name: value.detach().numpy().astype(np.float64) for name, value in network.named_parameters()}
    return new_network(**named)


def from_compiled(network: Network, hidden: tuple[int, int] = HIDDEN) -> KernelNetwork:
    """The same network to be trained further; a linear one gets ``hidden`` units that have no say yet."""
    linear = not len(network.b1)
    sizes = hidden if linear else (len(network.b1), len(network.b2))
    module = KernelNetwork(len(network.skip), sizes)
    names = ("skip",) if linear else ("skip", "w1", "b1", "w2", "b2", "w3")
    with torch.no_grad():
        for name in names:
            getattr(module, name).copy_(torch.as_tensor(getattr(network, name)))
    return module


def _orthogonal(rows: int, columns: int) -> Tensor:
    """(rows, columns) start weights for a layer before a ReLU (Saxe et al., ICLR 2014)."""
    weights: Tensor = nn.init.orthogonal_(torch.empty(rows, columns), gain=2.0**0.5)
    return weights


def state_of(network: nn.Module) -> dict[str, Any]:
    """A copy of all parameters."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
