"""Data collection: trains one off-policy agent and writes datasets at D4RL's levels (2004.07219).

The agent is one of Stable-Baselines3. The levels are:

| level | content |
|---|---|
| random | rollouts of the agent before training, at its initial weights |
| medium | rollouts of the first checkpoint that is a third of the way from random to best |
| expert | rollouts of the best checkpoint |
| medium-expert | medium rollouts, then expert rollouts, half of the transitions each |
| medium-replay | the log of the training up to the medium checkpoint |
| full-replay | the log of the whole training |

Checkpoints are evaluated over 10 deterministic episodes, from the same initial states each time. `expert` is
the best checkpoint and not the last one, because off-policy training does not always end at its best.
`medium` is the first checkpoint with a return of at least random + (best - random) / 3, where random is the
mean return of uniformly random actions.

Rollouts are stochastic, with the exploration that the agent has at the end of its training:

- SAC, TQC, CrossQ: a sample of the policy;
- DQN, QRDQN: ε-greedy with the final exploration rate;
- TD3, DDPG: the deterministic action plus action noise.

By default Stable-Baselines3 adds no action noise to TD3 and DDPG. Their log would then contain almost no
exploration and their rollouts one action per state. Here they use Gaussian noise with a standard deviation of
0.1 of half the action range, in training and in rollouts. The setting `action_noise` changes this fraction
(0 for no noise), for every algorithm that accepts action noise. Before `learning_starts`, agents of
Stable-Baselines3 act uniformly at random, and the log contains these steps.

The log contains what the environment received and returned: actions in the environment's units (float32, or
int64 indices for discrete actions), and the last observation of an episode, not the one after the reset. A
timeout is a step that was truncated and not terminated. Where a file joins two policies, or a training that
was interrupted and resumed, the episode before the joint ends with a timeout. The end of a file is not
marked.

Unfinished work is kept in OUT/making: at each checkpoint the agent, its replay buffer, the log and the
weights. The same configuration resumes there; the steps after the last checkpoint are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from seqeval.atomic_io import locked, save_json
from seqeval.collect.config import CollectConfig, parse_settings
from seqeval.collect.levels import expert_fault, measure_references, write_level
from seqeval.collect.training import train
from seqeval.collect.validation import check_output, validate

__all__ = ["CollectConfig", "make", "parse_settings"]


def make(
    config: CollectConfig, levels: Sequence[str], out: Path, console: Console | None = None
) -> dict[str, Path]:
    """Trains an agent and writes one dataset and one JSON card per level into `out`.

    Returns the path of each level's dataset. Progress is printed to `console`, if given. After an
    interruption, the same call resumes from OUT/making.

    Raises UserError for an invalid configuration, before anything is written; if a file to be written exists
    and was not written by this configuration's work in `out`; and if the trained agent is no better than
    random, because levels and reference returns are then undefined.
    """
    console = console or Console(quiet=True)
    validate(config, levels)
    paths = {level: config.file(out, level) for level in dict.fromkeys(levels)}
    work = out / "making"
    check_output(config, paths, work)
    work.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster for small networks, and results do not depend on the number of cores
    try:
        with locked(work, "another process is collecting data in this folder"):
            save_json(work / "config.json", asdict(config))
            if missing := [level for level, path in paths.items() if not path.exists()]:
                training = train(config, work, console)
                references = measure_references(training, console)
                for level in missing:
                    write_level(training, references, level, paths[level], console)
                if fault := expert_fault(training, references, paths):
                    console.print(f"warning: {fault}", highlight=False, markup=False)
    finally:
        torch.set_num_threads(threads)
    # The configuration is removed last: until then, the same command recognises its files and cleans up.
    for path in sorted(work.iterdir(), key=lambda path: path.name == "config.json"):
        path.unlink()
    work.rmdir()
    return paths
