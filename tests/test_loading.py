"""Objects loaded by path and by entry point: algorithms, and another kind."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_plugins import refusal, through_json

from seqeval import cli, load_policy, loading, plugins
from seqeval.algorithm import Algorithm
from seqeval.errors import UserError
from seqeval.execution.storage import frame
from seqeval.types import Spec, Vector

# --- a class in a file ---

CODE = '''
"""A linear policy."""

from dataclasses import dataclass
from typing import Literal

import torch

from seqeval import algorithm
from seqeval.algorithm import Algorithm, SingleAlgorithm


@dataclass(frozen=True)
class Settings(algorithm.Config):
    alpha: float = 1.0  # weight of the loss
    kind: Literal["soft", "hard"] = "soft"
    clip: float | None = None
    tag: str = "none"


class Linear(SingleAlgorithm):
    Config = Settings

    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size).to(device)

    def update(self, batch):
        self.updates += 1
        return {"alpha": self.config.alpha}

    def act(self, observations):
        return self.net(observations).tanh()


class Half(SingleAlgorithm):
    def update(self, batch):
        return {}


class Unstorable(Linear):
    @dataclass(frozen=True)
    class Config(algorithm.Config):
        rates: list[float] | None = None
        name: str = "reserved"


class NoAlgorithm:
    pass


number = 3
'''


@pytest.fixture
def linear_file(tmp_path: Path) -> Path:
    file = tmp_path / "linear.py"
    file.write_text(CODE)
    return file


@pytest.mark.parametrize(
    ("settings", "name", "changes"),
    [
        ("", "Linear", {}),
        (":alpha=2", "Linear:alpha=2", {"alpha": 2.0}),
        (":alpha=2,name=x", "x", {"alpha": 2.0}),
        (":name=x", "x", {}),
        (":kind=hard,clip=0.5,tag=a.py:B", "Linear:kind=hard,clip=0.5,tag=a.py:B",
         {"kind": "hard", "clip": 0.5, "tag": "a.py:B"}),
        (":clip=None,kind='soft'", "Linear:clip=None,kind='soft'", {}),
    ],
)  # fmt: skip
def test_a_class_in_a_file_can_be_a_variant(
    linear_file: Path, monkeypatch: pytest.MonkeyPatch, settings: str, name: str, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(linear_file.parent)
    for path in ("linear.py", "./linear.py", f"../{linear_file.parent.name}/linear.py", linear_file):
        variant = plugins.parse(f"{path}:Linear{settings}")
        assert (variant.name, variant.algorithm) == (name, f"{linear_file}:Linear")
        assert variant.config == plugins.find(f"{path}:Linear").Config(**changes)
        assert through_json(variant) == variant
        assert pickle.loads(pickle.dumps(variant)) == variant


def test_a_class_in_a_file_is_loaded_once_and_can_be_built(linear_file: Path) -> None:
    found = plugins.find(f"{linear_file}:Linear")
    assert plugins.find(f"{linear_file}:Linear") is found
    assert issubclass(found, Algorithm)
    assert found.__name__ == "Linear"
    algorithm = found(Spec(Vector(3), 2), found.Config(), [4, 5], 10, torch.device("cpu"))
    assert algorithm.act(torch.zeros(2, 7, 3)).shape == (2, 7, 2)
    module = sys.modules[found.__module__]
    assert module.__file__ == str(linear_file)
    assert pickle.loads(pickle.dumps(found.Config(alpha=3.0))) == found.Config(alpha=3.0)


def test_files_of_the_same_name_in_two_folders_are_two_modules(linear_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "linear.py"
    other.parent.mkdir()
    other.write_text(CODE.replace("alpha: float = 1.0", "alpha: float = 5.0"))
    assert plugins.parse(f"{linear_file}:Linear").config.alpha == 1.0  # type: ignore[attr-defined]
    assert plugins.parse(f"{other}:Linear").config.alpha == 5.0  # type: ignore[attr-defined]
    assert "rename one with name=" in refusal_of_all(f"{linear_file}:Linear", f"{other}:Linear")


def refusal_of_all(*texts: str) -> str:
    with pytest.raises(UserError) as caught:
        plugins.parse_all(texts)
    return str(caught.value)


@pytest.mark.parametrize(
    ("reference", "texts"),
    [
        (
            "linear.py:Linaer",
            ("linear.py: there is no 'Linaer' in", "did you mean 'Linear'", "its algorithms: Linear, Half"),
        ),
        ("linear.py", ("the name of the algorithm is missing", "write linear.py:Linear", "Linear, Half")),
        ("linear.py:", ("the name of the algorithm is missing",)),
        ("linear.py:Linear,alpha=2", ("settings follow a colon: linear.py:Linear:alpha=2",)),
        ("nowhere.py:Linear", ("nowhere.py: No such file",)),
        ("nowhere.py", ("nowhere.py: No such file",)),
        ("folder.py:Linear", ("folder.py: Is a directory",)),
        ("linear.py:number", ("linear.py: number is not an Algorithm or a SingleAlgorithm",)),
        ("linear.py:NoAlgorithm", ("NoAlgorithm is not an Algorithm or a SingleAlgorithm",)),
        ("linear.py:Settings", ("Settings is not an Algorithm",)),
        ("linear.py:SingleAlgorithm", ("SingleAlgorithm has no act and no update",)),
        ("linear.py:Half", ("Half has no act",)),
        ("linear.py:Unstorable", ("must not have a field called name",)),
        ("linear.py:Linear:alpah=2", ("Linear has no setting 'alpah'", "did you mean 'alpha'")),
        ("linear.py:Linear:kind=loud", ("kind must be 'soft' or 'hard', not 'loud'",)),
        ("linear.py:Linear:clip=much", ("clip must be a number or None, not 'much'",)),
        ("linear.py:Linear:alpha", ("not of the form key=value",)),
    ],
)
def test_an_unusable_reference_to_a_file_is_refused_in_one_line(
    linear_file: Path, monkeypatch: pytest.MonkeyPatch, reference: str, texts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(linear_file.parent)
    Path("folder.py").mkdir()
    message = refusal(reference)
    assert all(part in message for part in texts), message


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "import torch\n\nimport nowhere_at_all\n",
            "line 3: ModuleNotFoundError: No module named 'nowhere_at",
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError: division by zero"),
        ("x = (1,\n\ny = 2\n", "line 1: SyntaxError: '(' was never closed"),
        ("raise ValueError('two\\nlines')\n", "line 1: ValueError: two lines"),
        ("import sys\nsys.exit(4)\n", "line 2: SystemExit: 4"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError: "),
        ("raise KeyboardInterrupt\n", None),
    ],
)
def test_a_file_that_raises_is_reported_with_its_line(tmp_path: Path, code: str, text: str | None) -> None:
    file = tmp_path / "broken.py"
    file.write_text(code)
    if text is None:
        with pytest.raises(KeyboardInterrupt):
            plugins.parse(f"{file}:Linear")
        return
    before = set(sys.modules)
    assert f"{file}, {text}" in refusal(f"{file}:Linear")
    assert not any("broken" in name for name in set(sys.modules) - before)
    file.write_text(CODE)  # the same process loads it once it is repaired
    assert plugins.parse(f"{file}:Linear").name == "Linear"


def test_a_config_of_a_type_that_cannot_be_stored_is_refused(linear_file: Path) -> None:
    linear_file.write_text(CODE.replace('name: str = "reserved"', "pass"))
    assert "rates is of the type list[float] | None; use bool" in refusal(f"{linear_file}:Unstorable")


def test_a_changed_file_no_longer_restores_the_variant(linear_file: Path) -> None:
    variant = plugins.parse(f"{linear_file}:Linear")
    settings = variant.settings()
    assert settings["algorithm"] == f"{linear_file}:Linear"
    assert len(settings["code"]) == 64
    with pytest.raises(UserError, match=r"linear\.py has changed since the study started"):
        plugins.restore("Linear", settings | {"code": "0" * 64})


def test_a_changed_file_is_not_executed_to_restore_a_variant(tmp_path: Path) -> None:
    file, target = tmp_path / "evil.py", tmp_path / "made"
    file.write_text(f"import os; os.mkdir({str(target)!r})\n")
    settings = {"algorithm": f"{file}:Evil", "config": {}}
    for code in ({}, {"code": "0" * 64}):
        with pytest.raises(UserError, match=r"evil\.py has changed since the study started"):
            plugins.restore("evil", settings | code)
    assert not target.exists()


def test_a_pipe_is_not_read_as_a_plugin(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(UserError, match=r"pipe\.py: not a file"):
        plugins.find(f"{tmp_path}/pipe.py:Linear")


def tiny_study(out: Path, *algorithms: object, jobs: int = 1) -> list[str]:
    words = ("run", "--datasets", "pendulum-replay", "--algorithms", *algorithms, "--seeds", 0, 1)
    protocol = ("--protocol.start", 19990, "--protocol.grow-by", 5)
    evaluation = ("--evaluation.points", 1, "--evaluation.episodes", 1)
    return [str(word) for word in (*words, *protocol, *evaluation, "--jobs", jobs, "--out", out)]


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_a_study_of_a_file_runs_in_worker_processes_and_its_policy_acts(
    linear_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert exit_code(tiny_study(out, f"{linear_file}:Linear:alpha=3", jobs=2)) == 0
    rows = frame([out])
    assert set(rows["variant"]) == {"Linear:alpha=3"}
    assert set(rows["train/alpha"]) == {3.0}
    stored = json.loads((out / "study.json").read_text())["algorithms"]["Linear:alpha=3"]
    assert stored == plugins.parse(f"{linear_file}:Linear:alpha=3").settings()

    policies = [load_policy(out, "pendulum-replay", "Linear:alpha=3", seed) for seed in (0, 1)]
    actions = [policy(np.ones((2, 3), np.float32)) for policy in policies]
    assert actions[0].shape == (2, 1)
    assert not np.array_equal(*actions)

    # A file with the same code may move, but a changed file is another algorithm.
    moved = tmp_path / "moved" / "linear.py"
    moved.parent.mkdir()
    moved.write_text(CODE)
    capsys.readouterr()
    assert exit_code(tiny_study(out, f"{moved}:Linear:alpha=3")) == 0
    assert "every run is finished" in capsys.readouterr().err
    changed = tmp_path / "changed.py"
    changed.write_text(CODE.replace("clip: float", "a_new_one: int = 1\n    clip: float"))
    assert exit_code(tiny_study(out, f"{changed}:Linear:alpha=3")) == 2
    assert "Linear:alpha=3.code is " in capsys.readouterr().err


def test_a_file_that_changes_during_a_study_fails_only_its_job(linear_file: Path) -> None:
    from seqeval.execution import worker
    from seqeval.execution.storage import StudyDirectory
    from seqeval.training.job import RunKey

    out, key = linear_file.parent / "out", RunKey("data", "Linear", 0)
    job = pickle.dumps(plugins.parse(f"{linear_file}:Linear"))
    payload = worker.JobPayload("the job", [key], job, "cpu", out, save_every=60.0, switch_after=inf)
    loading._executed.clear()  # as in another process
    linear_file.write_text(CODE + "# a comment\n")
    (failure,) = worker.run_payload(payload, threading.Event())
    assert isinstance(failure, worker.Failure)
    assert failure.fixable
    assert failure.text.startswith("the job: Linear: ")
    assert StudyDirectory(out).run(*key).error.read_text() == failure.text + "\n"


# --- entry points ---


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; `install` adds to it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.startswith("made_up_")]:
        del sys.modules[name]


def install(site: Path, package: str, code: str, **entry_points: str) -> None:
    (site / f"{package}.py").write_text(code)
    about = site / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[seqeval.algorithms]", *lines, ""]))


def test_an_entry_point_can_be_used_by_its_name(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(installed, "made_up_one", CODE, linear="made_up_one:Linear", half="made_up_one:Half")
    install(installed, "made_up_two", "raise OSError('no disk')", broken="made_up_two:Linear")
    assert {"linear", "half", "broken", "bc"} <= set(plugins.names())
    variant = plugins.parse("linear:alpha=2")
    assert (variant.name, variant.algorithm) == ("linear:alpha=2", "linear")
    assert variant.settings().keys() == {"algorithm", "config", "text"}
    assert pickle.loads(pickle.dumps(variant)) == variant
    assert "made_up_one:Half" in refusal("half")
    assert "OSError: no disk" in refusal("broken")
    assert "did you mean 'linear'" in refusal("linaer")

    assert exit_code(["algorithms", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"linear     {'continuous':28}  A linear policy." in lines
    assert any(line.startswith("broken     cannot be used: ") for line in lines)
    assert exit_code(["algorithms", "show", "linear"]) == 0
    assert re.search(r"^  alpha +float +1\.0 +weight of the loss", capsys.readouterr().out, re.MULTILINE)

    assert exit_code(tiny_study(tmp_path / "run", "linear", jobs=2)) == 0
    assert set(frame([tmp_path / "run"])["algorithm"]) == {"linear"}


def test_an_entry_point_with_the_name_of_another_is_refused_when_it_is_ambiguous(installed: Path) -> None:
    built_in = plugins.find("bc")
    for package in ("made_up_one", "made_up_two"):
        install(installed, package, CODE, bc=f"{package}:Linear", twice=f"{package}:Linear")
    assert plugins.names().count("bc") == 1
    assert plugins.find("bc") is built_in
    message = refusal("bc:dropout=0")
    assert "'bc' is built in" in message
    assert "made_up_one:Linear, made_up_two:Linear" in message
    assert "made_up_one:Linear, made_up_two:Linear" in refusal("twice")
    assert plugins.parse("iql").name == "iql"


def test_a_class_in_a_file_can_be_shown(linear_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["algorithms", "show", f"{linear_file}:Linear"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A linear policy.\n")
    assert re.search(r"^  alpha +float +1\.0 +weight of the loss", out, re.MULTILINE)
    assert "Literal['soft', 'hard']" in out


# --- another kind ---


def test_another_kind_is_loaded_by_file_path_and_entry_point(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = loading.Kind(
        "figure",
        "made_up_figures",
        "seqeval.algorithms",
        lambda module: {"figure": module.figure} if hasattr(module, "figure") else {},
        lambda value: None if callable(value) else "is not a function",
    )
    package = installed / "made_up_figures"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "curves.py").write_text("def figure():\n    return 'curves'\n")
    (package / "style.py").write_text("color = 'blue'\n")
    (package / "_hidden.py").write_text("raise OSError\n")
    install(installed, "made_up_bars", "def bars():\n    return 'bars'\n", bars="made_up_bars:bars")
    file = tmp_path / "dots.py"
    file.write_text("def dots():\n    return 'dots'\nsize = 3\n")
    assert loading.names(kind) == ["bars", "curves"]
    assert [loading.load(kind, name)() for name in ("curves", "bars", f"{file}:dots")] == [
        "curves",
        "bars",
        "dots",
    ]
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert [loading.code_sha256(name) for name in ("curves", f"{file}:dots")] == [None, sha256]
    for name, text in {
        "curvs": "figure 'curvs' is not known; did you mean 'curves'?; known figures: bars, curves",
        "style": "figure 'style' is not known",
        f"{file}:size": "dots.py: size is not a function",
        f"{file}:dot": "its figures: none",
    }.items():
        with pytest.raises(UserError) as caught:
            loading.load(kind, name)
        assert text in str(caught.value)


def test_a_value_without_a_type_in_a_config_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bare.py"
    file.write_text(CODE.replace("    alpha: float = 1.0", "    alpha: float = 1.0\n    samples = 4"))
    with pytest.raises(UserError, match=r"its Config's samples has no type, .* write samples: int"):
        plugins.parse(f"{file}:Linear")
