"""`seqeval video`."""

from __future__ import annotations

from pathlib import Path

import tyro


def video(
    directory: tyro.conf.Positional[Path],
    dataset: tyro.conf.Positional[str],
    variant: tyro.conf.Positional[str],
    out: Path,
    seed: int = 0,
    episodes: int = 1,
) -> None:
    """Record episodes of a trained policy in its environment.

    Args:
        directory: Study directory.
        dataset: Name of the dataset.
        variant: Name of the algorithm's variant.
        out: The video, a file that ends in .mp4 (needs `pip install 'seqeval-rl[video]'`) or .gif.
        seed: Seed of the run whose policy is shown.
        episodes: Episodes to show, one after the other.
    """
    from seqeval import video

    for episode in video.record(directory, dataset, variant, out, seed, episodes):
        print(f"{episode.steps} steps, return {episode.episode_return:.1f}")
    print(out)
