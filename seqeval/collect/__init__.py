"""Makes datasets: trains one off-policy agent of Stable-Baselines3 and logs it at D4RL's levels (2004.07219).

    random          rollouts of the agent before training, at its initial weights
    medium          rollouts of the first checkpoint that is a third of the way from random to best
    expert          rollouts of the fully trained agent
    medium-expert   the head of medium, then the head of expert, half of the transitions each
    medium-replay   the log of training up to the medium checkpoint
    full-replay     the log of the whole training

Checkpoints are evaluated over 10 deterministic episodes, on the same initial states each time. The fully
trained agent is the best checkpoint, since off-policy training does not end at its best. The third is of the
normalised score: random + (best - random) / 3, where random is the mean return of uniformly random actions.

Rollouts are stochastic, with the exploration that the agent has at the end of its training: a sample of the
policy (SAC, TQC, CrossQ); ε-greedy with the final exploration rate (DQN, QRDQN); the deterministic action
plus its action noise (TD3, DDPG). Stable-Baselines3 gives TD3 and DDPG no noise at all unless told to, and
their log would then hold next to no exploration and their rollouts one action per state; here they get
Gaussian noise with a standard deviation of 0.1 of half the action range, in training and in rollouts. The
setting `action_noise` is that share (0 for none), for every algorithm that takes noise. Before
`learning_starts` the agents of Stable-Baselines3 act uniformly at random, and so does the log.

What is logged is what the environment received and gave back: actions in its own units (float32, or int64
numbers where they are discrete), observations after the last step of an episode and not after its reset. A
timeout is a step that was truncated and not terminated. In a file that is joined, of two policies or of a
training that was interrupted, the episode cut at the joint is marked as a timeout; the end of a file is not.

The work is kept in OUT/making, and the same recipe goes on there. At each checkpoint it holds the agent, the
log and the weights; what came after the last of them is lost in an interruption and done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from seqeval.atomic_io import locked, save_json
from seqeval.collect.config import Recipe, parse_settings
from seqeval.collect.levels import write_level
from seqeval.collect.references import measure
from seqeval.collect.refusals import admit, check
from seqeval.collect.training import train

__all__ = ["Recipe", "make", "parse_settings"]


def make(recipe: Recipe, levels: Sequence[str], out: Path, console: Console | None = None) -> dict[str, Path]:
    """Trains the agent of a recipe and writes a file in `out`, and a card beside it, for each of the levels.

    Returns the files by level. Progress goes to the console, if there is one. After an interruption the same
    call goes on, from OUT/making. Raises UserError for a recipe that cannot be followed, before anything is
    written; where a file exists that this recipe's work in `out` has not written; and where the trained
    agent is no better than random, so that there are no levels and no reference returns.
    """
    console = console or Console(quiet=True)
    check(recipe, levels)
    paths = {level: recipe.file(out, level) for level in dict.fromkeys(levels)}
    work = out / "making"
    admit(recipe, paths, work)
    work.mkdir(parents=True, exist_ok=True)
    with locked(work, "another process is at work there"), _one_thread():
        save_json(work / "recipe.json", asdict(recipe))
        if missing := [level for level, path in paths.items() if not path.exists()]:
            training = train(recipe, work, console)
            references = measure(training, console)
            for level in missing:
                write_level(training, references, level, paths[level], console)
    # The recipe goes last: until then the same command finds its files and tidies up what is left.
    for path in sorted(work.iterdir(), key=lambda path: path.name == "recipe.json"):
        path.unlink()
    work.rmdir()
    return paths


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch: faster for small networks, and numbers that do not depend on the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
