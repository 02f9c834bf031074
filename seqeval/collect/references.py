"""The returns that are scored 0 and 100, and the checkpoint between them that is called medium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from seqeval.collect.agent import BEST_SEED, RANDOM_SEED, episode_returns, greedy, player, uniform
from seqeval.collect.progress import progress
from seqeval.collect.training import Training
from seqeval.errors import UserError

EPISODES = 100


@dataclass(frozen=True)
class References:
    """Returns of EPISODES episodes, and the checkpoint that is called medium."""

    random: np.ndarray  # (EPISODES,) float64
    best: np.ndarray  # the same
    medium: int  # step

    def facts(self, best_step: int) -> dict[str, Any]:
        """What a file says of them."""
        return {
            "reference_min": float(self.random.mean()),
            "reference_max": float(self.best.mean()),
            "reference_source": (
                f"mean return over {EPISODES} episodes of a uniformly random policy and of the "
                f"best checkpoint of the behaviour agent (step {best_step}, deterministic)"
            ),
        }


def measure(training: Training, console: Console) -> References:
    """The references of a training. Raises UserError where its agent is no better than random."""
    recipe, step = training.recipe, training.best
    with progress(console, "reference returns, trained", EPISODES) as tell:
        with player(recipe, training.weights(step)) as agent:
            best = episode_returns(recipe.env_id, greedy(agent), BEST_SEED, EPISODES, tell)
    with progress(console, "reference returns, random", EPISODES) as tell:
        random = episode_returns(recipe.env_id, uniform, RANDOM_SEED, EPISODES, tell)
    low, high = float(random.mean()), training.returns[step]
    if not (high > low and best.mean() > low):
        raise UserError(
            f"{recipe.algorithm} in {recipe.env_id} got no better than random in {recipe.steps} steps: its "
            f"best checkpoint (step {step}) has a mean return of {high:.2f} at first and {best.mean():.2f} "
            f"over {EPISODES} further episodes, random actions have {low:.2f}; the training is kept in "
            f"{training.folder}; give other --settings or more --steps, and another --out"
        )
    reaching = [s for s, value in training.returns.items() if value >= low + (high - low) / 3]
    return References(random, best, min(reaching))
