"""The Python API: its names, algorithms as classes, progress in notebooks, and its types."""

from __future__ import annotations

import builtins
import importlib.metadata
import inspect
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from seqeval.algos import bc, sb3

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, UserError, plugins
from seqeval.execution.progress import default_console

ROOT = Path(__file__).parents[1]
SHORT = Protocol(start=19_990, grow_by=10), Evaluation(points=1, episodes=1)
ALGORITHM = """
import torch
from seqeval.algorithm import SingleAlgorithm


class Zero(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size)

    def update(self, batch):
        self.updates += 1
        return {"loss": self.net(batch.observations).mean().detach()}

    def act(self, observations):
        return self.net(observations).tanh()

    class Inner(SingleAlgorithm):
        pass
"""
SCRIPT = """
import seqeval
from seqeval import Evaluation, Execution, Protocol, Study


def main():
    study = Study(
        datasets=("pendulum-replay",),
        algorithms=(Zero,),
        seeds=(0, 1),
        protocol=Protocol(start=19_990),
        evaluation=Evaluation(points=1, episodes=1),
    )
    rows = seqeval.run(study, "out", Execution(jobs=2))
    print(sorted(set(rows["variant"])), study.algorithms)
"""


def test_dir_shows_the_api_alone_and_every_name_of_it_can_be_imported() -> None:
    for package in (seqeval, seqeval.algos, seqeval.plots):
        names = dir(package)
        assert names == sorted(set(names))
        assert all(name == "__version__" or not name.startswith("_") for name in names)
        assert all(getattr(package, name) is not None for name in names)
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018
    assert dir(seqeval) == sorted(seqeval.__all__)
    assert {"run", "rows", "load", "load_policy", "Study", "UserError", "plots"} <= set(dir(seqeval))
    assert {"bc", "iql", "sb3", "td3_bc"} <= set(dir(seqeval.algos))
    assert {"FigureKind", "draw", "find", "names", "curves", "ranks"} <= set(dir(seqeval.plots))
    assert seqeval.__version__ == importlib.metadata.version("seqeval-rl")


def test_submodules_need_no_import_of_their_own() -> None:
    code = "import seqeval; print(seqeval.plots.ranks.FIGURE.scores, seqeval.algos.bc.BC.__name__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "True BC\n"


def public_functions() -> Iterator[Any]:
    for name in (name for name in seqeval.__all__ if name != "__version__"):
        value = getattr(seqeval, name)
        members = vars(value).values() if isinstance(value, ModuleType) else [value]
        yield from (m for m in members if callable(m) and getattr(m, "__module__", "").startswith("seqeval"))
    yield from (seqeval.plots.draw, seqeval.analysis.statistics.statistic)


def test_public_signatures_name_all_of_their_parameters() -> None:
    checked = 0
    for function in public_functions():
        if not isinstance(function, type):
            kinds = {p.kind for p in inspect.signature(function).parameters.values()}
            assert inspect.Parameter.VAR_KEYWORD not in kinds, function
            checked += 1
    assert checked > 15


def test_classes_of_the_suite_stand_for_their_names() -> None:
    algorithms = (bc.BC, sb3.find("SAC"), "bc:hidden=(8,8)")
    study = Study(("pendulum-replay",), algorithms)
    assert study.algorithms == ("bc", "sb3:SAC", "bc:hidden=(8,8)")
    assert [variant.name for variant in plugins.parse_all(study.algorithms)] == list(study.algorithms)


def test_a_study_and_an_execution_are_expected_in_this_order(tmp_path: Path) -> None:
    study: Any = Study(("pendulum-replay",), ("bc",))
    with pytest.raises(UserError, match=r"^study: must be of the type Study, not Execution\("):
        seqeval.run(Execution(), tmp_path, study)
    with pytest.raises(UserError, match=r"^execution: must be of the type Execution, not Protocol\("):
        seqeval.run(study, tmp_path, Protocol())


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "my_algorithms.py").write_text(ALGORITHM)
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_algorithms

    yield my_algorithms
    del sys.modules["my_algorithms"]


def test_a_class_in_a_file_is_named_by_its_file(module: ModuleType, tmp_path: Path) -> None:
    study = Study(("pendulum-replay",), [module.Zero], (0,), SHORT[0], evaluation=SHORT[1])
    assert study.algorithms == (f"{tmp_path}/my_algorithms.py:Zero",)
    rows = seqeval.run(study, tmp_path / "out", Execution(jobs=1))
    assert set(rows["variant"]) == {"Zero"}
    assert plugins.find(study.algorithms[0]).__name__ == "Zero"


def test_a_class_that_other_processes_cannot_find_is_refused_in_one_line(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Local(module.Zero):
        pass

    for hidden in (Local, module.Zero.Inner):
        with pytest.raises(UserError, match=r"is defined inside a function or another class.*top level"):
            Study(("pendulum-replay",), (hidden,))
    monkeypatch.delattr(module, "__file__")  # as in a notebook or an interactive session
    with pytest.raises(
        UserError, match=r"^class Zero: is defined in a notebook.*%%writefile mine\.py"
    ) as refused:
        Study(("pendulum-replay",), (module.Zero,))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_may_define_the_algorithms_that_it_runs(tmp_path: Path, guarded: bool) -> None:
    call = 'if __name__ == "__main__":\n    main()\n' if guarded else "main()\n"
    (tmp_path / "script.py").write_text(f"{ALGORITHM}{SCRIPT}\n\n{call}")
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if guarded:
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == f"['Zero'] ('{tmp_path}/script.py:Zero',)\n"
    else:
        assert "call run and rows under `if __name__ == '__main__':`" in ended.stderr.splitlines()[-1]


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook's kernel."""


@pytest.mark.parametrize("notebook", [True, False])
def test_progress_is_plain_lines_in_a_notebook_and_without_a_terminal(
    notebook: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    if notebook:
        monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
        for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):  # which kernels set for the programs they start
            monkeypatch.setenv(name, "1")
    study = Study(("pendulum-replay",), ("bc:hidden=(8,8),name=bc",), (0,), SHORT[0], evaluation=SHORT[1])
    seqeval.run(study, tmp_path / "out", Execution(jobs=1))
    used, unused = (out, err) if notebook else (err, out)
    assert unused.getvalue() == ""
    assert used.getvalue().splitlines() == [
        "100%  1 of 1 jobs ended  ·  pendulum-replay · bc · seed 0: finished"
    ]
    assert not default_console().is_terminal


USER = '''
"""Uses the whole API."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import seqeval
from seqeval import (
    Evaluation, Execution, Online, PluginError, Protocol, Ray, Slurm, Study, UserError, analysis, plots
)
from seqeval.algorithm import Batch, Config, SingleAlgorithm
from seqeval.algos import bc
from seqeval.analysis import published
from torch import Tensor


class Mine(SingleAlgorithm):
    def update(self, batch: Batch) -> dict[str, float | Tensor]:
        return {"loss": batch.rewards.mean()}

    def act(self, observations: Tensor) -> Tensor:
        return observations


study = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc", bc.BC, Mine),
    seeds=(0, 1),
    protocol=Protocol(start=1000, regime="stream", window=None),
    online=Online(steps=10, mix=0.5),
    evaluation=Evaluation(points=5, backend="gymnasium"),
)
execution = Execution(jobs=1, ray=Ray(), slurm=Slurm(), overlap="auto")
try:
    table: pd.DataFrame = seqeval.run(study, Path("runs/one"), execution)
except (UserError, PluginError) as error:
    print(error)
for row in seqeval.rows(study, "runs/one"):
    print(row.samples + 1, row.score)
table = seqeval.load(["runs/one", Path("runs/two")])
figure: Figure = plots.draw(seqeval.load("runs/one"), "ranks", leave_out_incomplete=True)
figure = plots.draw(table, published=published.runs("fig1"))
complete, notes = analysis.complete_rows(table)
print(notes[0].upper(), seqeval.__version__.split("."))
actions: np.ndarray = seqeval.load_policy("runs/one", "pendulum-replay", "bc", seed=0)([[1.0, 0.0, 0.0]])
print(len(seqeval.load_dataset("pendulum-replay")))
'''
MYPY = """
[mypy]
follow_imports = silent
check_untyped_defs = true
ignore_missing_imports = true

[mypy-torch.*,gymnasium.*,stable_baselines3.*,sb3_contrib.*,rich.*,requests.*]
follow_imports = skip
"""
WRONG = """
import seqeval
from seqeval import Protocol, Study, plots

Protocol(regime="streem")  # wrong
Protocol(start="1000")  # wrong
Study(("a",), (3,))  # wrong
seqeval.load(3)  # wrong
plots.draw(seqeval.load("a"), titel="b")  # wrong
seqeval.nothing_of_this_name()
"""


def test_mypy_accepts_a_script_that_uses_the_api_and_finds_its_mistakes(tmp_path: Path) -> None:
    """The layout is that of the wheel: algos/ and plots/ inside the package."""
    package = tmp_path / "site" / "seqeval"
    package.mkdir(parents=True)
    for path in (ROOT / "seqeval").iterdir():
        (package / path.name).symlink_to(path)
    for name in ("algos", "plots"):
        (package / name).symlink_to(ROOT / name)
    assert (package / "py.typed").is_file()
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "mypy.ini").write_text(MYPY)
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "user.py", "wrong.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(tmp_path / "site"), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "api")},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in ended.stdout.splitlines() if ": error: " in line]
    assert not [line for line in errors if not line.startswith("wrong.py")], ended.stdout
    lines = [number for number, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")]
    assert [int(line.split(":")[1]) for line in errors] == lines, ended.stdout
