"""Search over hyper-parameters with Optuna (Akiba et al., KDD 2019): what trains best in a share of the budget.

The study lies in the run's folder, so a search that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shunter.agents.settings import Budget, Settings

if TYPE_CHECKING:
    from shunter.agents.training import Order

STUDY = "tuning.log"

Told = Callable[[int, int, float], None]
"""Told of a trial: its number, of how many, and the least cost so far."""


def suggest(trial: Any, settings: Settings) -> Settings:
    """Hyper-parameters to try: those that matter most for PPO on short episodes."""
    return settings.with_values(
        {
            "ppo.learning_rate": trial.suggest_float("ppo.learning_rate", 5e-5, 3e-3, log=True),
            "ppo.gae_lambda": trial.suggest_categorical("ppo.gae_lambda", [0.9, 0.95, 0.97, 0.99, 1.0]),
            "ppo.entropy": trial.suggest_float("ppo.entropy", 1e-4, 2e-2, log=True),
            "ppo.clip": trial.suggest_categorical("ppo.clip", [0.1, 0.2, 0.3]),
            "ppo.epochs": trial.suggest_categorical("ppo.epochs", [2, 4, 8]),
            "imitation.entropy": trial.suggest_categorical("imitation.entropy", [0.15, 0.3, 0.5]),
            "windows.jobs": trial.suggest_categorical("windows.jobs", tried_lengths(settings)),
            "windows.reward": trial.suggest_categorical("windows.reward", ["log-ratio", "difference"]),
        }
    )


def tried_lengths(settings: Settings) -> list[int]:
    """Half the episode's length, the length, and twice it."""
    jobs = settings.windows.jobs
    return [max(16, jobs // 2), jobs, jobs * 2]


def tune(
    order: Order, told: Told | None = None, should_stop: Callable[[], bool] | None = None
) -> tuple[Settings | None, Budget]:
    """Find hyper-parameters by training the first seed again and again.

    Args:
        order: What is to be trained in the end.
        told: Called after every trial.
        should_stop: Asked several times a second.

    Returns:
        The settings of the best trial, or None when it was stopped; and what is left of the budget for training.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from shunter.agents.training import train_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    order.out.mkdir(parents=True, exist_ok=True)
    settings = order.settings
    each, rest = divided(order.budget, settings)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(order.out / STUDY))),
        study_name="training",
        sampler=optuna.samplers.TPESampler(seed=order.seeds[0]),
        load_if_exists=True,
    )
    while (done := len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))) < settings.tuning.trials:
        trial = study.ask()
        folder = order.out / "trials" / str(trial.number)
        tried = replace(
            order, settings=suggest(trial, settings), budget=each, seeds=order.seeds[:1], out=folder, resume=False
        )
        cost = train_trial(tried, should_stop)
        if cost is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None, rest
        study.tell(trial, cost)
        if told is not None:
            told(done + 1, settings.tuning.trials, study.best_value)
    return settings.with_values(study.best_params), rest


def divided(budget: Budget, settings: Settings) -> tuple[Budget, Budget]:
    """The budget of each trial, and what is left for training."""
    share, trials = settings.tuning.share, settings.tuning.trials
    each = share / trials
    if budget.steps:
        return Budget(steps=max(1, int(budget.steps * each))), Budget(steps=max(1, int(budget.steps * (1 - share))))
    return Budget(time_s=budget.time_s * each), Budget(time_s=budget.time_s * (1 - share))
