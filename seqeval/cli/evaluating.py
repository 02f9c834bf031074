"""`seqeval evaluate`: episodes of kept policies, after the study."""

from __future__ import annotations

from pathlib import Path

import tyro


def evaluate(
    directory: tyro.conf.Positional[Path],
    env: str | None = None,
    episodes: int = 10,
    datasets: tuple[str, ...] = (),
    algorithms: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
) -> None:
    """Add episode returns to the rows of a study that have none, from its kept policies.

    The study must have run with --keep-policies. Rows never change: the episodes are stored beside them, and
    every command that reads the study uses them. If it is interrupted, run it again to resume. It runs code
    that the study directory names, as `seqeval video` does: the algorithm's file or package, and the
    environment.

    Args:
        directory: Study directory.
        env: Gymnasium environment; required if the study has none.
        episodes: Episodes at each point.
        datasets: Evaluate only these datasets.
        algorithms: Evaluate only these variants.
        seeds: Evaluate only these seeds.
    """
    from seqeval import policy_episodes

    def report(key: policy_episodes.RowKey, block: policy_episodes.EpisodeBlock) -> None:
        mean = sum(block.returns) / len(block.returns)
        print(f"{key}: {len(block.returns)} episodes, mean return {mean:.1f}")

    rows = policy_episodes.evaluate(directory, env, episodes, datasets, algorithms, seeds, report)
    print(f"{rows} rows have returns from later episodes" if rows else "every row has returns of its own")
