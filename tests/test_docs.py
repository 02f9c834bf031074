"""The examples of the documentation run, and its pages cover what the suite has."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, check, plots
from seqeval.analysis.statistics import STATISTICS
from seqeval.datasets import LoadOptions

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS / "examples"
ALGORITHMS = {"cloning": "NoisyCloning", "cloning_replicas": "NoisyCloning", "n_step_values": "NStepWeights"}


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(
    out: Path, algorithms: tuple[str, ...], execution: Execution | None = None, **evaluation
) -> pd.DataFrame:
    study = Study(
        datasets=("pendulum-replay",),
        algorithms=algorithms,
        seeds=(0, 1),
        protocol=Protocol(start=19_000, grow_by=100),
        evaluation=Evaluation(points=2, episodes=1, **evaluation),
    )
    return seqeval.run(study, out, execution or Execution(jobs=1, overlap="off"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A study of bc with the evaluator and the launcher of the examples."""
    return run(
        tmp_path_factory.mktemp("docs") / "study",
        ("bc:hidden=(8,8)",),
        Execution(jobs=1, overlap="off", launcher=f"{EXAMPLES / 'one_at_a_time.py'}:OneAtATime"),
        metrics=("episodes", f"{EXAMPLES / 'saturation.py'}:Saturation:count=16"),
    )


@pytest.mark.parametrize(("file", "name"), ALGORITHMS.items())
def test_the_algorithms_keep_the_contract(file: str, name: str) -> None:
    results = list(check.examine(f"{EXAMPLES / file}.py:{name}"))
    assert [result.rule.title for result in results if result.status == "failed"] == []
    assert sum(result.status == "ok" for result in results) > 10


def test_the_algorithms_learn_in_a_study(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        tuple(
            f"{EXAMPLES / file}.py:{name},name={file}".replace(f"{name},", f"{name}:")
            for file, name in ALGORITHMS.items()
        ),
        metrics=("prequential",),
    )
    assert set(found["variant"]) == set(ALGORITHMS)
    assert (found["status"] == "ok").all()
    assert found["train/loss"].notna().all()


def test_the_launcher_runs_a_study_and_the_evaluator_adds_a_column(rows: pd.DataFrame) -> None:
    assert rows["samples"].tolist() == [19_000, 19_500, 20_000] * 2
    assert rows["eval/saturation"].between(0, 1).all()


def test_the_figure_draws_a_dot_for_each_seed(rows: pd.DataFrame) -> None:
    figure = plots.draw(rows, f"{EXAMPLES / 'gains.py'}:FIGURE")
    assert isinstance(figure, Figure)
    (ax,) = figure.axes
    first, last = (rows[rows["samples"] == n].set_index("seed")["score"] for n in (19_000, 20_000))
    assert ax.lines[0].get_ydata() == pytest.approx((last - first).loc[[0, 1]])


def test_the_statistic_is_the_largest_fall(rows: pd.DataFrame) -> None:
    registered = dict(STATISTICS)
    try:
        module = example("worst_drop")
        assert STATISTICS["worst_drop"].compute is module.worst_drops
    finally:
        STATISTICS.clear()
        STATISTICS.update(registered)
    curve = rows[rows["seed"] == 0].assign(score=[10.0, 4.0, 7.0])
    assert module.worst_drops(curve)["value"].tolist() == [6.0]


def test_the_source_loads_a_file_of_transitions(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rng = np.random.default_rng(0)
    columns = [f"observation_{i}" for i in range(3)] + ["action_0", "reward"]
    table = pd.DataFrame(rng.uniform(-1, 1, (6, 5)), columns=columns)
    table.assign(terminal=[0, 0, 1, 0, 0, 1]).to_csv(path, index=False)
    source = example("csv_files").SOURCE
    assert source.owns(str(path))
    dataset = source.load(str(path), LoadOptions(env_id="Pendulum-v1"))
    assert len(dataset) == 6
    assert dataset.terminated.tolist() == [False, False, True] * 2
    assert dataset.actions[:, 0] == pytest.approx(table["action_0"].to_numpy(), abs=1e-6)
    table.to_csv(path, index=False)
    with pytest.raises(seqeval.UserError, match="has no column 'terminal'"):
        source.load(str(path), LoadOptions(env_id="Pendulum-v1"))


def test_the_study_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (EXAMPLES / "study.py").read_text()
    for value, smaller in (("points=5", "points=1, episodes=1"), ("grow_by=8", "grow_by=2000")):
        assert value in text
        text = text.replace(value, smaller)
    (tmp_path / "study.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("study.py", run_name="__main__")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_every_example_is_shown_on_a_page() -> None:
    pages = "".join(path.read_text() for path in DOCS.glob("*/*.md"))
    shown = set(re.findall(r"literalinclude\} \.\./examples/(\w+)\.py", pages))
    assert shown == {path.stem for path in EXAMPLES.glob("*.py")}
