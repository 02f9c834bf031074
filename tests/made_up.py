"""Constructed rows and study directories, without training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SIZE = 3000  # transitions of every dataset


def rows(
    variants: Sequence[str] = ("bc", "mine"),
    datasets: Sequence[str] = ("one", "two", "three"),
    seeds: int = 3,
    study: str = "s",
    points: Sequence[int] = (1000, 2000, SIZE),
    score: Callable[[str, str, int, int], float | None] | None = None,
) -> pd.DataFrame:
    """Rows as `storage.frame` returns them; points beyond SIZE are online.

    `score` is a function of variant, dataset, seed and samples, by default a random number. A return is
    twice the score.
    """
    random = np.random.default_rng(0)
    found = []
    for dataset in datasets:
        for variant in variants:
            for seed in range(seeds):
                for samples in points:
                    value = float(random.normal(50, 10))
                    if score is not None:
                        value = score(variant, dataset, seed, samples)
                    found.append(
                        {
                            "study": study,
                            "dataset": dataset,
                            "algorithm": variant,
                            "variant": variant,
                            "seed": seed,
                            "phase": "online" if samples > SIZE else "offline",
                            "regime": "stream",
                            "samples": samples,
                            "updates": min(samples, SIZE) if variant == "bc" else samples,
                            "return_mean": None if value is None else 2 * value,
                            "score": value,
                            "status": "ok",
                        }
                    )
    return pd.DataFrame(found).astype({"score": float, "return_mean": float})


def study(of: pd.DataFrame, **protocol: Any) -> dict[str, Any]:
    """The content of study.json for these rows."""
    return {
        "protocol": {"regime": "stream", "start": 1000, "grow_by": 1, "updates_per_growth": 1} | protocol,
        "online": {"steps": int(max(of["samples"].max() - SIZE, 0)), "updates_per_step": 1},
        "evaluation": {"points": 2},
        "datasets": {
            name: {
                "name": name,
                "env_id": "One-v0",
                "transitions": SIZE,
                "segments": [SIZE],
                "segments_in_turn": [],
                "behaviour_return": 50.0,
                "reference": {"minimum": 0.0, "maximum": 200.0, "source": ""},
                "digest": f"digest of {name}",
            }
            for name in of["dataset"].unique()
        },
        "algorithms": {
            name: {"algorithm": name, "config": {"batch_size": 256}} for name in of["variant"].unique()
        },
        "invocations": [],
    }


def studies(of: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The content of study.json for each study in the rows, by name."""
    return {name: study(mine) for name, mine in of.groupby("study", sort=False)}


def write(folder: Path, of: pd.DataFrame, **protocol: Any) -> Path:
    """Write a study directory with these rows to a folder in `folder` named after their study."""
    (name,) = set(of["study"])
    path = folder / name
    for (dataset, variant, seed), run in of.groupby(["dataset", "variant", "seed"]):
        file = path / "runs" / dataset / variant / f"seed-{seed}" / "rows.jsonl"
        file.parent.mkdir(parents=True)
        lines = run.astype(object).where(run.notna(), None).to_dict("records")
        lines = [line | {"metrics": {}, "evaluations": {}} for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "study.json").write_text(json.dumps(study(of, **protocol)))
    return path
