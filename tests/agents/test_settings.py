"""Settings and budgets of training: one file, everything wrong with it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.agents.settings import Budget, load_settings
from shunter.scheduler.errors import ConfigError, UsageError


def test_a_file_names_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ppo: {epochs: 7}\n")
    settings = load_settings(path)
    assert settings.ppo.epochs == 7
    assert settings.with_values({"ppo.epochs": load_settings().ppo.epochs}) == load_settings()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("ppo: {clipp: 0.1, epochs: 0}\nnetwork: {kind: kernal}\nwidnows: {}\ncurriculum: {until: [0.5]}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    message = str(caught.value)
    for part in (
        "ppo.clipp: unknown key; did you mean 'clip'?",
        "ppo.epochs: input should be greater than or equal to 1, got 0",
        "network.kind: ",
        "widnows: unknown key; did you mean 'windows'?",
        "curriculum: until has 1 shares for 3 loads",
    ):
        assert part in message
    assert message.startswith(str(path))


def test_terms_are_features_and_stand_for_all_of_them(tmp_path: Path) -> None:
    """A file's own terms replace the default ones: one that is not named has no weight."""
    path = tmp_path / "terms.yaml"
    path.write_text("foresight: {terms: {log_wait: 1.5}}\n")
    assert load_settings(path).foresight.terms == {"log_wait": 1.5}
    for text, message in (
        ("log_wiat: 1", "foresight: terms: no feature 'log_wiat'; did you mean 'log_wait'?"),
        ("log_wait: .inf", "foresight.terms.log_wait: "),
        ("log_wait: much", "foresight.terms.log_wait: "),
    ):
        path.write_text(f"foresight: {{terms: {{{text}}}}}\n")
        with pytest.raises(ConfigError) as caught:
            load_settings(path)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"), [("[1, 2]", "expected keys and values"), ("a: [", "no valid YAML"), ("ppo: 3", "ppo: ")]
)
def test_files_that_are_no_settings(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        load_settings(path)
    assert reason in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", Budget(time_s=600.0)),
        ("1.5h", Budget(time_s=5400.0)),
        ("90s", Budget(time_s=90.0)),
        ("2e6steps", Budget(steps=2_000_000)),
        ("300 steps", Budget(steps=300)),
    ],
)
def test_budgets(text: str, expected: Budget) -> None:
    assert Budget.parse(text) == expected


@pytest.mark.parametrize("text", ["10", "m", "0m", "-5m", "10 minutes", "1e6", "1.2.3m", "steps"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(UsageError, match="such as 10m"):
        Budget.parse(text)


def test_the_share_of_a_budget_that_is_used() -> None:
    assert Budget(steps=100).share(25, 1e9) == 0.25
    assert Budget(time_s=60.0).share(10**9, 30.0) == 0.5
    assert Budget(time_s=60.0).share(0, 90.0) == 1.0
