"""What MaskablePPO needs to learn with a queue network: a policy whose critic shares its trunk, and a packed buffer.

Both leave padding out: the buffer keeps the rows of real jobs only, and the network works on these. Results are those
of padded queues; where queues are short it is many times as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer, MaskableRolloutBufferSamples
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor, nn

from shunter.agents.networks import QueueNetwork, Queues, pack

FORBIDDEN = -1e8
"""Logit of what the mask forbids."""

CRITIC_UNITS = 32

ROOM = 65_536
"""Rows for which a new buffer has room; it grows."""

TOLD = ("jobs to start", "time to the last submission", "lost by the baseline", "lost", "ahead", "baseline's queue")
"""What the critic alone is told, in the last row of an observation: see ``ppo.AgainstBaseline``."""

LENGTH_SPAN = 4.0
"""The logarithm of the queue's length is divided by this."""


class Seen(NamedTuple):
    """What a policy sees.

    Attributes:
        queues: The visible jobs of B queues.
        told: (B, T) what the critic alone is told.
    """

    queues: Queues
    told: Tensor

    @classmethod
    def of(cls, observation: Tensor) -> Seen:
        """From observations (B, K + 1, F + 1), whose last row is for the critic."""
        return cls(pack(observation[:, :-1]), observation[:, -1, : len(TOLD)])


class Choice:
    """Masked choice among the jobs of each queue and waiting: the categorical distribution over L + 1 places.

    Args:
        logits: (B, L + 1), the last one of waiting.
        allowed: (B, K + 1), the last one of waiting; None: whatever is a job may be chosen.
    """

    def __init__(self, logits: Tensor, allowed: Tensor | None) -> None:
        self.longest = logits.shape[1] - 1
        self.places = self.longest if allowed is None else allowed.shape[1] - 1
        if allowed is not None:
            narrow = torch.cat((allowed[:, : self.longest], allowed[:, -1:]), 1)
            logits = torch.where(narrow, logits, FORBIDDEN)
        self.log_probability = torch.log_softmax(logits, 1)

    def draw(self, *, greedy: bool) -> Tensor:
        """(B,) actions in 0 … K, K being to wait.

        The greatest of log p + Gumbel noise is one drawn with probabilities p; what is forbidden can never be it.
        """
        noisy = self.log_probability
        if not greedy:
            noisy = noisy - torch.empty_like(noisy).exponential_().log()
        place = noisy.argmax(1)
        return torch.where(place == self.longest, self.places, place)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B,) log probability of actions in 0 … K."""
        place = torch.where(actions == self.places, self.longest, actions)
        return self.log_probability.gather(1, place.unsqueeze(1)).squeeze(1)

    def entropy(self) -> Tensor:
        """(B,) entropy; what is forbidden has none."""
        return -(self.log_probability.exp() * self.log_probability).sum(1)


class QueuePolicy(MaskableActorCriticPolicy):
    """Actor and critic on one trunk: logits are the negative scores of a queue network.

    Observations (B, K + 1, F + 1) have a last row that tells the critic alone how the window stands. What else the
    critic knows, and what the logit of waiting follows from, is the mean over the queue of what the trunk knows of
    each job and of the features themselves, so both are indifferent to the order of the rows, too.

    Args:
        make_network: Makes the network, of which this policy holds one.
        arguments: As for ``MaskableActorCriticPolicy``.
    """

    def __init__(self, *arguments: Any, make_network: Callable[[], QueueNetwork], **named: Any) -> None:
        self.make_network = make_network
        super().__init__(*arguments, **named)

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.network = self.make_network()
        rows, columns = self.observation_space.shape
        self.places = rows - 1
        width = self.network.width + columns - 1 + 1
        told = nn.Linear(width + len(TOLD), CRITIC_UNITS)
        self.critic = nn.Sequential(told, nn.ReLU(), nn.Linear(CRITIC_UNITS, 1))
        self.wait = nn.Linear(width, 1)
        nn.init.zeros_(self.wait.weight)
        nn.init.zeros_(self.wait.bias)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1.0), **self.optimizer_kwargs)

    def judge(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(B, L + 1) logits and (B,) values."""
        queues = seen.queues
        scores, known = self.network.encode(queues)
        length = torch.bincount(queues.queue, minlength=queues.num_queues).unsqueeze(1)
        length = torch.log1p(length.to(known.dtype)) / LENGTH_SPAN
        pooled = torch.cat((queues.mean(known), queues.mean(queues.rows), length), 1)
        logits = torch.cat((queues.spread(-scores, FORBIDDEN), self.wait(pooled)), 1)
        return logits, self.critic(torch.cat((pooled, seen.told), 1)).squeeze(1)

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: np.ndarray[Any, Any] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B, 1) and log probabilities (B,) of observations (B, K + 1, F + 1)."""
        logits, values = self.judge(Seen.of(obs))
        choice = Choice(logits, self._all_or(action_masks, obs))
        actions = choice.draw(greedy=deterministic)
        return actions, values.unsqueeze(1), choice.log_prob(actions)

    def evaluate_actions(
        self, obs: Tensor | Seen, actions: Tensor, action_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B, 1), log probabilities (B,) of the actions, and entropies (B,)."""
        seen = obs if isinstance(obs, Seen) else Seen.of(obs)
        logits, values = self.judge(seen)
        choice = Choice(logits, self._all_or(action_masks, seen.told))
        return values.unsqueeze(1), choice.log_prob(actions), choice.entropy()

    def predict_values(self, obs: Tensor) -> Tensor:
        """Values (B, 1) of observations."""
        return self.judge(Seen.of(obs))[1].unsqueeze(1)

    def get_distribution(self, obs: Tensor, action_masks: np.ndarray[Any, Any] | None = None) -> MaskableDistribution:
        """The distribution over all K + 1 actions, as callers outside training expect it."""
        logits, _ = self.judge(Seen.of(obs))
        full = logits.new_full((len(logits), self.places + 1), FORBIDDEN)
        full[:, : logits.shape[1] - 1] = logits[:, :-1]
        full[:, -1] = logits[:, -1]
        distribution = self.action_dist.proba_distribution(full)
        distribution.apply_masking(action_masks)
        return distribution

    def _all_or(self, masks: Any, like: Tensor) -> Tensor:
        """Masks as a tensor; everything is allowed without."""
        if masks is None:
            return torch.ones(len(like), self.places + 1, dtype=torch.bool)
        return torch.as_tensor(masks).to(torch.bool)


class QueueBuffer(MaskableRolloutBuffer):
    """A rollout buffer that keeps the rows of jobs only, and hands out packed queues."""

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.action_masks = np.ones((self.buffer_size, self.n_envs, self.mask_dims), dtype=np.bool_)
        self.num_rows = 0
        self.lengths = np.zeros((self.buffer_size, self.n_envs), dtype=np.int64)
        self.told = np.zeros((self.buffer_size, self.n_envs, len(TOLD)), dtype=np.float32)
        if not hasattr(self, "rows"):
            self.rows = np.empty((ROOM, self.obs_shape[1] - 1), dtype=np.float32)
            self.slot = np.empty(ROOM, dtype=np.int64)

    def add(
        self,
        obs: np.ndarray[Any, Any],
        action: np.ndarray[Any, Any],
        reward: np.ndarray[Any, Any],
        episode_start: np.ndarray[Any, Any],
        value: Tensor,
        log_prob: Tensor,
        action_masks: np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Take in one step of all environments."""
        self.told[self.pos] = obs[:, -1, : len(TOLD)]
        present = obs[:, :-1, -1] > 0.5
        queue, slot = np.nonzero(present)
        first, self.num_rows = self.num_rows, self.num_rows + len(slot)
        if self.num_rows > len(self.slot):
            self.rows = np.resize(self.rows, (2 * self.num_rows, self.rows.shape[1]))
            self.slot = np.resize(self.slot, 2 * self.num_rows)
        self.rows[first : self.num_rows] = obs[queue, slot, :-1]
        self.slot[first : self.num_rows] = slot
        self.lengths[self.pos] = present.sum(1)
        if action_masks is not None:
            self.action_masks[self.pos] = action_masks
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value.numpy().reshape(-1)
        self.log_probs[self.pos] = log_prob.numpy()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def get(self, batch_size: int | None = None) -> Any:
        """Minibatches in random order, every step in one of them."""
        if not self.generator_ready:
            ends = np.cumsum(self.lengths.reshape(-1)).reshape(self.lengths.shape)
            # Rows stand in the order of time, everything else is handed out environment by environment.
            self.first = (ends - self.lengths).swapaxes(0, 1).reshape(-1)
            self.lengths = self.lengths.swapaxes(0, 1).reshape(-1)  # type: ignore[assignment]
            self.told = self.swap_and_flatten(self.told)
            self.observations = np.zeros((self.buffer_size, self.n_envs, 0), dtype=np.float32)
        yield from super().get(batch_size)

    def _get_samples(self, batch_inds: np.ndarray[Any, Any], env: Any = None) -> MaskableRolloutBufferSamples:
        del env
        return MaskableRolloutBufferSamples(
            Seen(self.queues(batch_inds), torch.as_tensor(self.told[batch_inds])),
            *(
                self.to_torch(values[batch_inds].reshape(-1))
                for values in (self.actions, self.values, self.log_probs, self.advantages, self.returns)
            ),
            self.to_torch(self.action_masks[batch_inds]),
        )

    def queues(self, steps: np.ndarray[Any, Any]) -> Queues:
        """The packed queues of some steps."""
        length = self.lengths[steps]
        queue = np.repeat(np.arange(len(steps)), length)
        within = np.arange(len(queue)) - np.repeat(np.cumsum(length) - length, length)
        rows = np.repeat(self.first[steps], length) + within
        slot = self.slot[rows]
        return Queues(
            torch.as_tensor(self.rows[rows]),
            torch.as_tensor(queue),
            torch.as_tensor(slot),
            len(steps),
            int(slot.max()) + 1 if len(slot) else 1,
        )
