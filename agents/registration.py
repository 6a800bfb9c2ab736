"""Makes the environment known to Gymnasium, when asked to: importing has no effect."""

from __future__ import annotations

ENVIRONMENT = "shunter/Scheduling-v0"


def register() -> str:
    """Let ``gymnasium.make("shunter/Scheduling-v0", …)`` find the environment; returns its name. Twice is as once."""
    import gymnasium

    if ENVIRONMENT not in gymnasium.registry:
        gymnasium.register(
            id=ENVIRONMENT,
            entry_point="shunter.agents.env:SchedulingEnv",
            vector_entry_point="shunter.agents.gym_vector:GymVectorSchedulingEnv",
        )
    return ENVIRONMENT
