"""Part f: statistics and figures of a large study."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from seqeval.plots import names, style
from seqeval.plots.aggregate import plot

from seqeval import analysis, plugins
from seqeval.analysis import published
from seqeval.config import Evaluation, Protocol, Study
from seqeval.execution import jobs, storage
from seqeval.training import matmul
from seqeval.types import Reference, Row

from .measuring import alone
from .options import EPISODES, SPEC, Options, Result


def drawing(options: Options) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        made, slower, out = (Path(folder) / name for name in ("made-up", "slower", "out"))
        make_up(made, *options.shape, grow_by=1)
        make_up(slower, *options.shape, grow_by=2)
        for what, cpu, wall in alone(_stages, made, out):
            yield _seconds(what, cpu, wall, made)
        commands: dict[str, list[Path | str]] = {
            f"plot --figure {name}": [made, "--out", out / f"{name}.png"] for name in names()
        }
        commands["plot --figure sensitivity"].insert(1, slower)  # which compares studies
        commands |= {"table": [made], "report": [made, "--out", out / "page.html"]}
        for what, arguments in commands.items():
            child = [sys.executable, "-m", "seqeval.cli", *what.split(), *map(str, arguments)]
            before, began = os.times(), time.perf_counter()
            subprocess.run(child, stdout=subprocess.DEVNULL, check=True)
            wall, after = time.perf_counter() - began, os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            yield _seconds(f"seqeval {what}", cpu, wall, made)


def _seconds(what: str, cpu: float, wall: float, made: Path) -> Result:
    runs, rows = 0, 0
    for file in made.glob("cells/*/*/*/rows.jsonl"):
        runs, rows = runs + 1, rows + file.read_text().count("\n")
    return {"what": what, "cpu_seconds": cpu, "seconds": wall, "runs": runs, "rows": rows}


def _stages(made: Path, out: Path) -> list[tuple[str, float, float]]:
    """CPU seconds and seconds of what makes up a figure, in turn."""
    found = []

    def timed(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
        cpu, began = time.process_time(), time.perf_counter()
        result = work(*arguments)
        found.append((what, time.process_time() - cpu, time.perf_counter() - began))
        return result

    sizes = style.dataset_sizes({"": storage.RunDirectory(made).study()})
    rows = timed("load", storage.frame, [made])
    table = timed("IQM along x", analysis.aggregate_curves, rows, sizes, ["iqm"])
    styles = style.line_styles_over_datasets(rows)

    def draw() -> None:
        figure = style.single_panel(plot, table, styles, style.sample_sizes(rows))
        style.save(figure, out / "iqm.png")

    timed("draw it", draw)
    return found


def make_up(out: Path, datasets: int, algorithms: int, seeds: int, points: int, grow_by: int) -> None:
    """A run directory as if a study on D4RL's datasets had been run: its curves rise, with noise."""
    abouts = {
        name: about
        | {"name": name, "given": name, "logged_in": None, "episodes": 1000, "digest": name, "notes": []}
        for name, about in list(published.datasets("fig1").items())[:datasets]
    }
    asked = Study(
        tuple(abouts),
        ("bc", "td3_bc", "iql", "awac", "cql")[:algorithms],
        tuple(range(seeds)),
        Protocol(grow_by=grow_by),
        evaluation=Evaluation(points=points - 1),
    )
    specs = dict.fromkeys(abouts, SPEC)  # nobody trains on them
    variants = plugins.parse_all(asked.algorithms)
    resolved = jobs.Resolved(asked, abouts, specs, variants, "cpu", matmul.of_this_machine("cpu"))
    directory = storage.RunDirectory(out)
    directory.admit(resolved.describe())
    rng = np.random.default_rng(0)
    with mock.patch.object(os, "fsync"):  # it may be lost in a power cut
        for name, about in abouts.items():
            scale, size = Reference(**about["reference"]), about["transitions"]
            seen = 5000 + np.rint(np.linspace(0, 1, points) * (size - 5000)).astype(int)
            for variant in resolved.variants:
                level = rng.uniform(20, 100)
                for seed in asked.seeds:
                    cell = directory.cell(name, variant.name, seed)
                    cell.begin()
                    for n in map(int, seen):
                        score = level * (1 - np.exp(-5 * n / size)) + rng.normal(0, 5, EPISODES)
                        returns = scale.minimum + score / 100 * (scale.maximum - scale.minimum)
                        cell.append(
                            Row(
                                study=out.name,
                                dataset=name,
                                algorithm=variant.algorithm,
                                variant=variant.name,
                                seed=seed,
                                phase="offline",
                                regime="stream",
                                samples=n,
                                env_steps=0,
                                updates=n // grow_by,
                                episode_returns=returns.tolist(),
                                episode_lengths=[1000] * EPISODES,
                                episode_successes=None,
                                return_mean=float(returns.mean()),
                                score=scale.score(float(returns.mean())),
                                status="ok",
                                train_seconds=rng.random(),
                                eval_seconds=rng.random(),
                                metrics={f"metric_{i}": rng.random() for i in range(5)},
                            )
                        )
                    cell.finish({})
