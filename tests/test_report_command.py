"""`seqeval report` and the command that runs a study again."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest
from report_pages import ParsedPage, dataset, embedded, embedded_rows, make_rows, make_study

import seqeval
from seqeval import cli, datasets, loading, plugins
from seqeval.cli import reporting
from seqeval.config import Evaluation, Online, Protocol, Study
from seqeval.execution.jobs import resolve

PLUGIN = """
from dataclasses import dataclass
from seqeval import algorithm

@dataclass(frozen=True)
class Config(algorithm.Config):
    words: str = "a"
    hidden: tuple[int, ...] = (256, 256)
    limit: float | None = None

class Mine(algorithm.SingleAlgorithm):
    Config = Config
    def update(self, batch): return {}
    def act(self, observations): return observations
"""

STUDIES = {
    "defaults": Study(datasets=("pendulum-replay",), algorithms=("bc",)),
    "online": Study(
        datasets=("pendulum-replay", "hopper-replay"),
        algorithms=("td3_bc:alpha=1.0", "iql:expectile=0.9,hidden=(8,8),name=it's iql", "sb3:SAC"),
        seeds=(3, 1),
        protocol=Protocol(start=100, grow_by=16, window=400, order="episodes"),
        online=Online(steps=10, mix=0.5),
        evaluation=Evaluation(points=2, episodes=1),
    ),
    "leaky": Study(
        datasets=("pendulum-replay",),
        algorithms=("iql", "bc:dropout=0.0,name=a b"),
        protocol=Protocol(normalizer="full", counted_from_zero=True, learning_rate_decay=True),
        evaluation=Evaluation(every=5000),
    ),
    "scratch": Study(datasets=("none",), algorithms=("td3_bc",), online=Online(steps=5), env="Pendulum-v1"),
    "sweeps": Study(
        datasets=("pendulum-replay", "hopper-replay"),
        algorithms=("iql:expectile=0.5|0.9,name=tuned", "td3_bc:random(3,seed=2),alpha=log(0.5,10)", "bc"),
        sweep_seeds=(0, 4),
    ),
    "recipe": Study(  # a setting that is given wins over the recipe, even if it is the default
        datasets=("hopper-replay",), algorithms=("iql:expectile=0.7", "iql:temperature=3.0,name=t")
    ),
    "plugin": Study(
        datasets=("pendulum-replay",),
        algorithms=("{folder}/my file.py:Mine:words=b,limit=0.5,name=mine", "{folder}/my file.py:Mine"),
    ),
}


class Parsed(Exception):
    """Ends the command before it trains."""


@pytest.mark.parametrize("key", STUDIES)
def test_the_command_gives_the_same_study(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my file.py").write_text(PLUGIN)
    given = STUDIES[key]
    algorithms = tuple(text.format(folder=tmp_path) for text in given.algorithms)
    described = json.loads(json.dumps(resolve(Study(**vars(given) | {"algorithms": algorithms})).describe()))
    parsed = []

    def catch(study: Study, out: Path, *_: object) -> None:
        parsed.extend([study, out])
        raise Parsed

    monkeypatch.setattr(seqeval, "run", catch)
    with pytest.raises(Parsed):
        cli.main(shlex.split(reporting.rerun_command(described, "a run"))[1:])
    again = json.loads(json.dumps(resolve(parsed[0]).describe()))
    for part in ("protocol", "online", "evaluation", "datasets", "algorithms", "recipes"):
        assert again[part] == described[part]
    assert again["invocations"][0]["sweep_seeds"] == list(given.sweep_seeds)
    assert again["invocations"][0]["seeds"] == sorted(given.seeds)
    assert again["invocations"][0]["device"] == described["invocations"][0]["device"]
    assert parsed[1] == Path("a run-again")


def test_a_study_of_an_earlier_version_has_a_command_too() -> None:
    """It records no texts of variants; each variant has one that gives the same settings."""
    described = resolve(STUDIES["online"]).describe()
    for settings in described["algorithms"].values():
        del settings["text"]
    command = shlex.split(reporting.rerun_command(described, "s"))
    assert {"td3_bc:alpha=1.0", "sb3:SAC"} < set(command)
    (text,) = (word for word in command if "name=it's iql" in word)
    again = plugins.parse(text)
    assert (again.config.expectile, again.config.hidden) == (0.9, (8, 8))


def test_the_command_names_only_settings_that_differ_from_the_defaults() -> None:
    described = resolve(STUDIES["defaults"]).describe()
    device = described["invocations"][0]["device"]
    assert reporting.rerun_command(described, "s") == (
        "seqeval run --datasets pendulum-replay --algorithms bc --seeds 0 1 2 "
        f"--device {device} --out s-again"
    )


def test_the_command_names_all_evaluators_of_a_stored_study() -> None:
    described = json.loads(json.dumps(resolve(STUDIES["defaults"]).describe()))
    assert "metrics" not in reporting.rerun_command(described, "s")
    described["evaluation"]["metrics"] = ["episodes", "mine.py:Values"]
    assert "--evaluation.metrics episodes mine.py:Values " in reporting.rerun_command(described, "s")


def test_an_algorithm_whose_file_changed_has_a_remark_instead_of_a_command(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    described = resolve(Study(datasets=("pendulum-replay",), algorithms=(f"{file}:Mine",))).describe()
    file.write_text(PLUGIN + "\n# changed\n")
    loading._executed.clear()
    rerun = reporting._rerun(described, "s")
    assert rerun.command is None
    assert "mine.py has changed since the study started" in rerun.remarks[0]


@pytest.mark.parametrize("code", ["raise SystemExit('imported')", PLUGIN])
def test_a_file_that_a_study_names_is_not_imported(tmp_path: Path, code: str) -> None:
    file, target = tmp_path / "foreign.py", tmp_path / "made"
    file.write_text(f"import os; os.mkdir({str(target)!r})\n{code}\n")
    described = resolve(STUDIES["defaults"]).describe()
    config = {"words": "b", "hidden": [8], "limit": None}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    described["algorithms"] = {"m": {"algorithm": f"{file}:Mine", "code": sha256, "config": config}}
    command = reporting.rerun_command(described, "s")
    assert f"{file}:Mine:words='b',hidden=(8,),limit=None,name=m" in shlex.split(command)
    described["algorithms"]["m"]["config"] = {"words": "it's"}
    assert "cannot express" in reporting._rerun(described, "s").remarks[0]
    assert not target.exists()


def test_no_dataset_source_of_an_installed_package_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[seqeval.datasets]\nbags = foreign_source:SOURCE\n")
    (tmp_path / "foreign_source.py").write_text("raise SystemExit('imported')")
    described = resolve(STUDIES["defaults"]).describe()
    monkeypatch.syspath_prepend(tmp_path)
    datasets.sources.cache_clear()
    (about,) = described["datasets"].values()
    for name, needed in {
        "folder/run.bag": True,  # of that package: nothing is known of it
        "folder/run.hdf5": True,
        "none": True,
        "pendulum-replay": False,
        "hopper-medium-v2": False,
        "minari:a/b-v0": False,
    }.items():
        about["given"] = name
        assert ("--env Pendulum-v1" in reporting.rerun_command(described, "s")) == needed
    assert "foreign_source" not in sys.modules


# --- seqeval report ---


def write_study(folder: Path, described: dict, rows: pd.DataFrame) -> Path:
    """A study directory with these rows."""
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(described))
    for (variant, seed), curve in rows.groupby(["variant", "seed"]):
        run = folder / "runs" / "d" / str(variant) / f"seed-{seed}"
        run.mkdir(parents=True)
        lines = [row | {"metrics": {}, "evaluations": {}} for row in curve.to_dict("records")]
        (run / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_report_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = resolve(STUDIES["defaults"]).describe()
    rows = make_rows(make_study([dataset("pendulum-replay")], ["bc"], [0, 1, 2]))
    folder, out = write_study(tmp_path / "mine", described, rows), tmp_path / "deep" / "page.html"
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(folder), "--out", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = out.read_text()
    assert embedded_rows(embedded(page))["seed"].unique().tolist() == [0, 1, 2]
    assert "--algorithms bc --seeds 0 1 2" in ParsedPage(page).visible_text
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_report_refuses_wrong_arguments_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = resolve(STUDIES["defaults"]).describe()
    rows = make_rows(make_study([dataset("pendulum-replay")], ["bc"], [0]))
    one = write_study(tmp_path / "one", described, rows)
    described["datasets"]["pendulum-replay"]["digest"] = "another"
    two = write_study(tmp_path / "two", described, rows)

    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["report", *map(str, arguments)])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    out = tmp_path / "page.html"
    assert "at least one" in refused("--out", out)
    assert "end in .html" in refused(one, "--out", tmp_path / "page.pdf")
    assert "digest" in refused(one, two, "--out", out)
    for module in ("plotly.offline", "jinja2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            package = module.partition(".")[0]
            assert f"{package} is not installed; run pip install 'seqeval-rl[report]'" in refused(
                one, "--out", out
            )
    assert not out.exists()
