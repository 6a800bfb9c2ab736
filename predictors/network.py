"""The recurrent network: LSTM over the history, a pointer into it and a linear highway beside it, quantiles that cannot
cross. Needs torch.

Its outputs are changes from the last value in units of the window's scale (``scaling.encode``); all weights of the
last layers begin at 0, so an untrained network is persistence. The highway (LSTNet, Lai et al., SIGIR 2018) does what
a linear autoregression does. The pointer (Vinyals et al., NeurIPS 2015) says which past value comes back, for loads
that jump between a few values in a rhythm, which a smooth function meets only by half. The recurrent part learns what
is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from shunter.predictors.scaling import sizes
from shunter.predictors.shapes import HISTORY, HORIZON, MEDIAN, QUANTILES

TOGETHER = 2
"""Points that the LSTM takes in one step: what a forecast costs goes by its steps."""


class LoadNetwork(nn.Module):
    """Quantiles of all nodes at once, with shared weights.

    Args:
        num_features: Of the series.
        hidden: Units of the LSTM: these are what a forecast costs.
        width: Units of the layer behind it, which sees the whole history as well.
        dropout: Share of the LSTM's last state and of the context that is left out, in training.
    """

    def __init__(self, num_features: int, hidden: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        channels, facts = sizes(num_features)
        self.recurrent = nn.LSTM(TOGETHER * channels, hidden, batch_first=True)
        self.middle = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(hidden + facts + HISTORY * (channels - 1), width), nn.SiLU()
        )
        self.head = nn.Linear(width, HORIZON * len(QUANTILES))
        self.pointer = nn.Linear(width, HORIZON * HISTORY)
        self.trust = nn.Parameter(torch.zeros(HORIZON))
        self.highway = nn.Linear(HISTORY * 2 + facts, HORIZON)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        nn.init.zeros_(self.pointer.weight)
        nn.init.zeros_(self.pointer.bias)
        nn.init.zeros_(self.highway.weight)
        nn.init.zeros_(self.highway.bias)

    def forward(self, sequence: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(B, HORIZON, 3) from (B, HISTORY, C) and (B, K)."""
        _, (state, _) = self.recurrent(sequence.reshape(-1, HISTORY // TOGETHER, TOGETHER * sequence.shape[2]))
        told = torch.cat([sequence[:, :, :2], sequence[:, :, 3:]], dim=2).flatten(1)
        inside = self.middle(torch.cat([state[0], context, told], dim=1))
        parts = self.head(inside).reshape(-1, HORIZON, len(QUANTILES))
        seen = torch.cat([sequence[:, :, :2].flatten(1), context], dim=1)
        places = torch.softmax(self.pointer(inside).reshape(-1, HORIZON, HISTORY), dim=-1)
        # The inputs are bent (``scaling.bent``); what is pointed at is not. This is sinh, which the exporter lacks.
        bent = sequence[:, :, 0]
        values = 0.5 * (torch.exp(bent) - torch.exp(-bent))
        back = (places * values[:, None]).sum(dim=-1)
        median = parts[..., MEDIAN] + self.highway(seen) + self.trust * back
        below = nn.functional.softplus(parts[..., 0])
        above = nn.functional.softplus(parts[..., 2])
        return torch.stack([median - below, median, median + above], dim=-1)


class Ensemble(nn.Module):
    """The mean of several networks' quantiles."""

    def __init__(self, members: Sequence[LoadNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, sequence: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(B, HORIZON, 3) from (B, HISTORY, C) and (B, K)."""
        return torch.stack([member(sequence, context) for member in self.members]).mean(dim=0)


def pinball_loss(found: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean pinball loss of (B, HORIZON, 3) quantiles over measured (B, HORIZON) targets, windows weighing (B,)."""
    known = torch.isfinite(targets)
    error = torch.where(known, targets, 0.0)[..., None] - found
    level = torch.tensor(QUANTILES)
    each = torch.maximum(level * error, (level - 1.0) * error).mean(dim=-1)
    return (each * known * weight[:, None]).sum() / known.sum().clamp(min=1)
