"""Part f: statistics and figures of a large synthetic study."""

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
from seqeval.plots import DEFAULTS, find, names, style
from seqeval.plots.aggregate import plot

from seqeval import analysis, plugins
from seqeval.analysis import published
from seqeval.config import Evaluation, Protocol, Study
from seqeval.execution import jobs, storage
from seqeval.training import matmul
from seqeval.types import Reference, Row

from .measuring import in_fresh_process
from .options import EPISODES, Options, Result


def drawing(options: Options) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        made, slower, out = (Path(folder) / name for name in ("made-up", "slower", "out"))
        write_study(made, *options.shape, grow_by=1)
        write_study(slower, *options.shape, grow_by=2)
        for step, cpu, wall in in_fresh_process(_stages, made, out):
            yield _seconds(step, cpu, wall, made)
        commands: dict[str, list[Path | str]] = {
            f"plot --figure {name}": [made, "--out", out / f"{name}.png"]
            for name in names()
            if find(name).tables is None  # the others need a sweep or metrics
        }
        commands["plot --figure sensitivity"].insert(1, slower)  # it compares studies
        commands |= {"table": [made], "report": [made, "--out", out / "page.html"]}
        for command, arguments in commands.items():
            child = [sys.executable, "-m", "seqeval.cli", *command.split(), *map(str, arguments)]
            before, began = os.times(), time.perf_counter()
            subprocess.run(child, stdout=subprocess.DEVNULL, check=True)
            wall, after = time.perf_counter() - began, os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            yield _seconds(f"seqeval {command}", cpu, wall, made)


def _seconds(work: str, cpu: float, wall: float, made: Path) -> Result:
    runs, rows = 0, 0
    for file in made.glob("runs/*/*/*/rows.jsonl"):
        runs, rows = runs + 1, rows + file.read_text().count("\n")
    return {"what": work, "cpu_seconds": cpu, "seconds": wall, "runs": runs, "rows": rows}


def _stages(made: Path, out: Path) -> list[tuple[str, float, float]]:
    """Name, CPU seconds and wall seconds of each step of drawing a figure."""
    times = []

    def timed(step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        cpu, began = time.process_time(), time.perf_counter()
        result = function(*arguments)
        times.append((step, time.process_time() - cpu, time.perf_counter() - began))
        return result

    rows = timed("load", storage.frame, [made])
    sizes = style.dataset_sizes(rows)
    table = timed("IQM along x", analysis.aggregate_curves, rows, sizes, ["iqm"])

    def draw() -> None:
        figure = style.single_panel(plot, table, rows, DEFAULTS)
        style.save(figure, out / "iqm.png")

    timed("draw it", draw)
    return times


def write_study(out: Path, datasets: int, algorithms: int, seeds: int, points: int, grow_by: int) -> None:
    """Write the study directory of a synthetic study on D4RL datasets, whose curves rise with noise."""
    abouts = {
        name: about
        | {"name": name, "given": name, "logged_in": None, "episodes": 1000, "digest": name, "notes": []}
        for name, about in list(published.datasets("fig1").items())[:datasets]
    }
    study = Study(
        tuple(abouts),
        ("bc", "td3_bc", "iql", "awac", "cql")[:algorithms],
        tuple(range(seeds)),
        Protocol(grow_by=grow_by),
        evaluation=Evaluation(points=points - 1),
    )
    variants = plugins.parse_all(study.algorithms)
    backend = matmul.default_backend("cpu")
    resolved = jobs.ResolvedStudy(study, abouts, {}, variants, "cpu", backend)  # nothing is trained
    directory = storage.StudyDirectory(out)
    directory.admit(resolved.describe())
    rng = np.random.default_rng(0)
    with mock.patch.object(os, "fsync"):  # for speed: a power failure may lose this study
        for name, about in abouts.items():
            scale, size = Reference(**about["reference"]), about["transitions"]
            seen = 5000 + np.rint(np.linspace(0, 1, points) * (size - 5000)).astype(int)
            for variant in resolved.variants:
                level = rng.uniform(20, 100)
                for seed in study.seeds:
                    run = directory.run(name, variant.name, seed)
                    run.open(None)
                    for n in map(int, seen):
                        score = level * (1 - np.exp(-5 * n / size)) + rng.normal(0, 5, EPISODES)
                        returns = scale.minimum + score / 100 * (scale.maximum - scale.minimum)
                        run.append(
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
                    run.finish({})
