"""The policy and buffer of PPO: what is left out is padding only, and choices follow the masks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs shunter[train]")
pytest.importorskip("sb3_contrib", reason="needs shunter[train]")

from gymnasium import spaces  # noqa: E402

from shunter.agents.actor_critic import TOLD, Choice, QueueBuffer, QueuePolicy, Seen  # noqa: E402
from shunter.agents.networks import AttentionNetwork, KernelNetwork  # noqa: E402
from shunter.scheduler.kernels.features import NUM_FEATURES  # noqa: E402

torch.set_num_threads(1)

PLACES, ENVS, STEPS = 9, 3, 5


def observations(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Queues (ENVS, K + 1, F + 1) of all lengths, the last row for the critic, and masks that allow some jobs."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(ENVS, PLACES, NUM_FEATURES + 1)).astype(np.float32)
    rows[:, :, -1] = np.arange(PLACES) < rng.integers(1, PLACES + 1, (ENVS, 1))
    rows[rows[:, :, -1] == 0] = 0.0
    told = rng.normal(size=(ENVS, 1, NUM_FEATURES + 1)).astype(np.float32)
    masks = np.concatenate([rows[:, :, -1] * (rng.random((ENVS, PLACES)) < 0.7) > 0, rng.random((ENVS, 1)) < 0.3], 1)
    masks[:, 0] = True
    return np.concatenate([rows, told], 1), masks


def policy(network: type = KernelNetwork) -> QueuePolicy:
    torch.manual_seed(0)
    made = QueuePolicy(
        spaces.Box(-np.inf, np.inf, (PLACES + 1, NUM_FEATURES + 1)),
        spaces.Discrete(PLACES + 1),
        lambda _: 1e-3,
        make_network=network,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def test_choices_follow_the_masked_softmax() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0, 0.5]])  # three places and waiting, of four places and waiting
    allowed = torch.tensor([[True, False, True, False, True]])
    choice = Choice(logits, allowed)
    expected = torch.softmax(torch.tensor([1.0, -1.0, 0.5]), 0)
    for action, share in zip((0, 2, 4), expected, strict=True):
        assert choice.log_prob(torch.tensor([action])).exp().item() == pytest.approx(share.item(), rel=1e-5)
    assert choice.entropy().item() == pytest.approx(-(expected * expected.log()).sum().item(), rel=1e-5)
    assert choice.draw(greedy=True).item() == 0
    torch.manual_seed(0)
    drawn = {Choice(logits, allowed).draw(greedy=False).item() for _ in range(100)}
    assert drawn == {0, 2, 4}


def test_what_is_forbidden_is_never_drawn() -> None:
    """Nor where all but one place of many is: rounding must not open another one."""
    torch.manual_seed(1)
    logits = torch.randn(20_000, 65) * 30.0
    allowed = torch.zeros(20_000, 65, dtype=torch.bool)
    allowed[:, 7] = allowed[:, 40] = True
    for _ in range(5):
        drawn = Choice(logits, allowed).draw(greedy=False)
        assert set(drawn.tolist()) <= {7, 40}
    level = Choice(torch.zeros(20_000, 65), allowed).draw(greedy=False)
    assert (level == 7).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("network", [KernelNetwork, AttentionNetwork])
def test_the_policy_judges_as_its_full_distribution_does(network: type) -> None:
    """The fast way over packed queues against SB3's distribution over all places."""
    made, (rows, masks) = policy(network), observations(1)
    seen = torch.as_tensor(rows)
    with torch.no_grad():
        actions, values, log_probability = made(seen, action_masks=masks)
        full = made.get_distribution(seen, masks)
        assert all(masks[env, action] for env, action in enumerate(actions))
        torch.testing.assert_close(log_probability, full.log_prob(actions), rtol=0.0, atol=1e-5)
        again, log_again, entropy = made.evaluate_actions(Seen.of(seen), actions, torch.as_tensor(masks))
        torch.testing.assert_close(log_again, log_probability)
        torch.testing.assert_close(entropy, full.entropy(), rtol=0.0, atol=1e-5)
        torch.testing.assert_close(again, values)
        torch.testing.assert_close(made.predict_values(seen), values)
        greedy, _ = made.predict(rows, deterministic=True, action_masks=masks)
        assert greedy.tolist() == full.mode().tolist()


def test_the_critic_does_not_care_for_the_order_of_the_queue() -> None:
    made, (rows, _) = policy(), observations(2)
    with torch.no_grad():
        before = made.predict_values(torch.as_tensor(rows))
        turned = np.concatenate([rows[:, -2::-1], rows[:, -1:]], 1)
        after = made.predict_values(torch.as_tensor(turned))
    torch.testing.assert_close(before, after, rtol=0.0, atol=1e-5)


def test_actor_and_critic_share_the_trunk() -> None:
    made, (rows, _) = policy(), observations(3)
    made.predict_values(torch.as_tensor(rows)).sum().backward()
    assert made.network.w1.grad is not None
    assert made.network.w1.grad.abs().sum() > 0
    assert made.network.w3.grad is None or made.network.w3.grad.abs().sum() == 0


def test_the_buffer_gives_back_every_step_once() -> None:
    buffer = QueueBuffer(
        STEPS,
        spaces.Box(-np.inf, np.inf, (PLACES + 1, NUM_FEATURES + 1)),
        spaces.Discrete(PLACES + 1),
        "cpu",
        gamma=1.0,
        gae_lambda=1.0,
        n_envs=ENVS,
    )
    for rounds in range(2):  # a buffer is used again
        buffer.reset()
        put = {}
        for step in range(STEPS):
            rows, masks = observations(10 * rounds + step)
            number = np.arange(ENVS) + ENVS * step
            for env in range(ENVS):
                put[int(number[env])] = (rows[env], masks[env])
            zeros = np.zeros(ENVS, np.float32)
            buffer.add(rows, number % (PLACES + 1), zeros, zeros, torch.zeros(ENVS, 1), torch.as_tensor(number), masks)
        buffer.compute_returns_and_advantage(torch.zeros(ENVS, 1), np.ones(ENVS, np.bool_))
        found = []
        for sample in buffer.get(4):
            queues = sample.observations.queues
            spread = queues.spread(queues.rows, 0.0).numpy()
            for i, number in enumerate(sample.old_log_prob.int().tolist()):
                rows, masks = put[number]
                found.append(number)
                assert int(sample.actions[i]) == number % (PLACES + 1)
                np.testing.assert_array_equal(sample.action_masks[i].numpy(), masks)
                np.testing.assert_array_equal(sample.observations.told[i].numpy(), rows[-1, : len(TOLD)])
                present = rows[:-1, -1] > 0
                np.testing.assert_array_equal(spread[i][: present.sum()], rows[:-1][present, :-1])
                assert not spread[i][present.sum() :].any()
        assert sorted(found) == list(range(ENVS * STEPS))
