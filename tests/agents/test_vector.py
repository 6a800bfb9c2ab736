"""Many environments in one call do what as many single ones do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shunter.agents.env import SchedulingEnv
from shunter.agents.vector import VectorSchedulingEnv
from shunter.scheduler.errors import UsageError
from shunter.traces.demo import demo_trace
from shunter.traces.generate import generate

RULES: dict[str, Any] = {"jobs": 30, "warm_jobs": 20, "visible": 24, "reward": "bsld", "shaping": 1.0}


def sources() -> list[Any]:
    """A pool, a part of another, and 16 nodes of 8 GPUs: arrays of different sizes."""
    return [generate("lublin99", jobs=200, seed=1), (demo_trace("hpc"), 100, 400), demo_trace("gpu")]


@pytest.mark.parametrize("max_steps", [None, 13])
def test_equal_to_single_ones(max_steps: int | None) -> None:
    """Observations, masks, rewards, ends and infos, over several episodes and traces."""
    num_envs = 5
    vector = VectorSchedulingEnv(sources(), num_envs, max_steps=max_steps, seed=7, **RULES)
    singles = [SchedulingEnv(sources(), max_steps=max_steps, **RULES) for _ in range(num_envs)]
    first = [env.reset(seed=7 + i) for i, env in enumerate(singles)]
    np.testing.assert_array_equal(vector.reset(), np.stack([observation for observation, _ in first]))
    rng = np.random.default_rng(0)
    traces, ends = set(), 0
    for _ in range(100):
        masks = vector.action_masks()
        np.testing.assert_array_equal(masks, np.stack([env.action_masks() for env in singles]))
        actions = np.asarray([rng.choice(np.flatnonzero(mask)) for mask in masks])
        observations, rewards, dones, infos = vector.step(actions)
        for i, env in enumerate(singles):
            observation, reward, over, cut, info = env.step(int(actions[i]))
            assert rewards[i] == np.float32(reward)
            assert dones[i] == (over or cut)
            if dones[i]:
                ends += 1
                np.testing.assert_array_equal(infos[i]["terminal_observation"], observation)
                assert infos[i]["TimeLimit.truncated"] == cut
                assert infos[i].get("metrics") == info.get("metrics")
                observation, info = env.reset()
                traces.add(info["trace"])
                assert vector.reset_infos[i] == info
            np.testing.assert_array_equal(observations[i], observation)
    assert len(traces) == 3
    assert ends > 10


def test_an_environment_does_not_depend_on_how_many_there_are() -> None:
    few, many = (VectorSchedulingEnv(sources(), n, seed=3, **RULES) for n in (2, 6))
    np.testing.assert_array_equal(few.reset(), many.reset()[:2])
    for _ in range(80):
        masks = many.action_masks()
        actions = masks.argmax(axis=1)
        one, other = few.step(actions[:2]), many.step(actions)
        for a, b in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(a, b[:2])


def test_what_is_returned_stays_as_it_is() -> None:
    env = VectorSchedulingEnv(sources(), 3, seed=1, **RULES)
    before = env.reset()
    kept = before.copy()
    for _ in range(20):
        env.step(env.action_masks().argmax(axis=1))
    np.testing.assert_array_equal(before, kept)


def test_random_actions_are_allowed_and_all_of_them_come_up() -> None:
    env = VectorSchedulingEnv(sources(), 4, seed=1, **RULES)
    env.reset()
    rng, masks = np.random.default_rng(2), env.action_masks()
    counts = np.zeros(masks.shape, dtype=np.int64)
    for _ in range(4000):
        counts[np.arange(4), env.sample(rng)] += 1
    assert not counts[~masks].any()
    expected = 4000 / masks.sum(axis=1, keepdims=True)
    assert (np.abs(counts - expected)[masks] < 6 * np.sqrt(np.broadcast_to(expected, masks.shape)[masks])).all()


def test_windows_can_be_set_for_each() -> None:
    env = VectorSchedulingEnv(sources(), 2, **RULES)
    env.set_options([{"window": (0, 40)}, {"window": (2, 60)}])
    env.reset()
    assert [info["window"] for info in env.reset_infos] == [(0, 40), (2, 60)]


def test_bad_actions_move_nothing() -> None:
    env = VectorSchedulingEnv(sources(), 2, seed=1, invalid="error", **RULES)
    with pytest.raises(UsageError, match=r"reset\(\)"):
        env.step(np.zeros(2, np.int64))
    env.reset()
    masks, times = env.action_masks(), [env.batch.now_s(i) for i in range(2)]
    for actions in ([0], [0.0, 0.0], [0, 25], [-1, 0], [int(masks[0].argmax()), int((~masks[1]).argmax())]):
        with pytest.raises(UsageError, match="action"):
            env.step(np.asarray(actions))
    assert [env.batch.now_s(i) for i in range(2)] == times
    np.testing.assert_array_equal(env.action_masks(), masks)


def test_attributes_and_methods_as_learners_ask_for_them() -> None:
    env = VectorSchedulingEnv(sources(), 3, seed=1, **RULES)
    env.reset()
    np.testing.assert_array_equal(np.stack(env.env_method("action_masks")), env.action_masks())
    assert env.has_attr("action_masks")
    assert not env.has_attr("goal")
    assert env.get_attr("render_mode", indices=[0, 2]) == [None, None]
    np.testing.assert_array_equal(env.env_method("visible_rows", indices=1)[0], env.batch.visible(1))
    with pytest.raises(AttributeError, match="cannot be called"):
        env.env_method("close")
    env.set_attr("max_steps", 9)
    assert env.get_attr("max_steps") == [9] * 3
    with pytest.raises(UsageError, match="for all environments"):
        env.set_attr("max_steps", 9, indices=0)


def test_maskable_ppo_learns_on_it() -> None:
    from sb3_contrib import MaskablePPO

    env = VectorSchedulingEnv(sources(), 2, seed=1, **RULES)
    model = MaskablePPO(
        "MlpPolicy", env, n_steps=40, batch_size=40, n_epochs=1, policy_kwargs={"net_arch": [8]}, seed=1
    )
    model.learn(160)
    assert model.num_timesteps == 160
    assert len(model.ep_info_buffer or ()) > 0


def test_examples_of_the_page_run() -> None:
    page = Path(__file__).parents[2] / "docs/reference/environment.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, page.name, "exec"), {})


def test_gymnasiums_vector_environment() -> None:
    """Made by name: what the other one does, with Gymnasium's ends and infos."""
    import gymnasium

    from shunter.agents.registration import register

    env = gymnasium.make_vec(register(), num_envs=3, traces=sources(), max_steps=17, **RULES)
    same = VectorSchedulingEnv(sources(), 3, max_steps=17, seed=4, **RULES)
    observations, infos = env.reset(seed=4)
    np.testing.assert_array_equal(observations, same.reset())
    assert infos["time_s"].tolist() == [info["time_s"] for info in same.reset_infos]
    assert env.observation_space.contains(observations)
    ends = 0
    for _ in range(60):
        actions = same.action_masks().argmax(axis=1)
        observations, rewards, over, cut, infos = env.step(actions)
        expected = same.step(actions)
        for given, wanted in zip((observations, rewards, over | cut), expected[:3], strict=True):
            np.testing.assert_array_equal(given, wanted)
        for i in np.flatnonzero(over | cut):
            ends += 1
            np.testing.assert_array_equal(infos["final_obs"][i], expected[3][i]["terminal_observation"])
            assert cut[i] == expected[3][i]["TimeLimit.truncated"]
    assert ends > 3
    with pytest.raises(UsageError, match="2 seeds for 3"):
        env.reset(seed=[1, 2])
