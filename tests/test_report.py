"""The report: what is embedded is what the rows say, nothing in it comes alive, and in a browser it works."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from seqeval.plots import report, style
from seqeval.plots.report import Rerun

from seqeval import analysis, cli, execution, plugins
from seqeval.analysis import bootstrap
from seqeval.cli import reporting
from seqeval.config import Evaluation, Online, Protocol, Study
from seqeval.errors import UserError
from seqeval.execution.jobs import resolve

HOSTILE = '</script><script>alert(1)</script><b>"it\'s" &amp; <!--'
REFERENCE = {"minimum": -100.0, "maximum": 300.0, "source": "made up"}
END = 3000


def about(name: str, **changes: Any) -> dict[str, Any]:
    """What study.json says of a dataset."""
    return {
        "name": name,
        "given": name,
        "env_id": "One-v0",
        "transitions": END,
        "segments": [END],
        "segments_in_turn": [],
        "episodes": 12,
        "behaviour_return": 50.0,
        "reference": REFERENCE,
        "digest": "0123abcd" * 8,
        "notes": [],
    } | changes


def study(datasets: list[dict[str, Any]], variants: list[str], seeds: list[int], steps: int = 0) -> dict:
    """A study.json."""
    online = {"steps": steps, "updates_per_step": 1, "mix": "uniform"}
    run = {
        "began": "2026-11-20T23:08:40+00:00",
        "seeds": seeds,
        "device": "cpu",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": None,
        "platform": "Linux",
        "processor": "a fast one",
    }
    return {
        "protocol": vars(Protocol(start=1000)),
        "online": online,
        "evaluation": vars(Evaluation()),
        "datasets": {each["name"]: each for each in datasets},
        "algorithms": {v: {"algorithm": v, "config": {"hidden": [8, 8], "rate": 0.1}} for v in variants},
        "runs": [run],
    }


def rows_of(said: dict, points: int = 5, name: str = "s") -> pd.DataFrame:
    """Rows that the study could have, with a value of its own for each point."""
    rng = np.random.default_rng(0)
    steps = said["online"]["steps"]
    offline = np.linspace(1000, END, points).astype(int).tolist()
    online = (END + np.linspace(0, steps, points)[1:].astype(int)).tolist() if steps else []
    found = []
    for dataset, facts in said["datasets"].items():
        for level, variant in enumerate(said["algorithms"]):
            for seed in said["runs"][0]["seeds"]:
                for n in [*offline, *online]:
                    value = float(rng.normal(50 + 30 * level, 10) + n / 100)
                    reference = facts["reference"]
                    low, high = (reference["minimum"], reference["maximum"]) if reference else (0, 1)
                    found.append(
                        {
                            "study": name,
                            "regime": "stream",
                            "dataset": dataset,
                            "variant": variant,
                            "seed": seed,
                            "phase": "offline" if n <= END else "online",
                            "samples": n,
                            "updates": min(n, END) if variant == "bc" else n,
                            "score": 100 * (value - low) / (high - low) if reference else None,
                            "return_mean": value,
                            "status": "ok",
                        }
                    )
    return pd.DataFrame(found)


def page_of(said: dict, rows: pd.DataFrame, command: str | None = "seqeval run", **more: Any) -> str:
    return report.page(rows, {"s": said}, {"s": Rerun(command)}, **more)


def embedded(page: str) -> dict[str, Any]:
    """The data in the page."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def unfolded(data: dict[str, Any]) -> pd.DataFrame:
    """The embedded runs as rows again."""
    found = []
    for line in data["lines"]:
        dataset, look = data["datasets"][line["dataset"]], data["looks"][line["look"]]
        for seed, grid, online, returns in line["runs"]:
            for place, (n, value) in enumerate(zip(data["grids"][grid], returns, strict=True)):
                phase = "offline" if place < online else "online"
                found.append((dataset["name"], look["label"], seed, phase, n, value))
    columns = ["dataset", "variant", "seed", "phase", "samples", "return_mean"]
    return pd.DataFrame(found, columns=columns)


class Read(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text.append(data)

    @property
    def flowing(self) -> str:
        return " ".join(" ".join(self.text).replace("\u202f", " ").split())


TWO = study([about("one"), about("two", reference=None)], ["bc", "mine"], [0, 1, 2], steps=400)


@pytest.fixture(scope="module")
def two() -> str:
    return page_of(TWO, rows_of(TWO))


# --- what is embedded ---


def test_the_embedded_data_are_the_rows(two: str) -> None:
    rows = rows_of(TWO)
    data = embedded(two)
    back = unfolded(data)
    key = ["dataset", "variant", "seed", "phase", "samples"]
    both = rows.merge(back, on=key, how="outer", suffixes=("", "_back"), indicator=True)
    assert (both["_merge"] == "both").all()
    spread = rows.groupby("dataset")["return_mean"].agg(np.ptp)
    error = (both["return_mean"] - both["return_mean_back"]).abs()
    assert (error <= 1e-5 * both["dataset"].map(spread)).all()
    scales = {each["name"]: each["reference"] for each in data["datasets"]}
    assert scales == {"one": [-100.0, 300.0], "two": None}
    scored = both[both["dataset"] == "one"]
    np.testing.assert_allclose((scored["return_mean_back"] + 100) / 4, scored["score"], atol=1e-3)
    assert [line["frozen"] for line in data["lines"]] == [True, False, True, False]
    assert len(data["grids"]) == 1  # which all runs share


def test_a_return_that_there_is_not_is_null_and_its_line_has_no_statistics() -> None:
    rows = rows_of(TWO)
    lost = (rows["dataset"] == "one") & (rows["variant"] == "bc") & (rows["seed"] == 1)
    rows.loc[lost & (rows["samples"] == END), ["score", "return_mean", "status"]] = (np.nan, np.nan, "failed")
    page = page_of(TWO, rows)
    data = embedded(page)
    line = next(line for line in data["lines"] if (line["dataset"], line["look"]) == (0, 0))
    at_end = [returns[data["grids"][grid].index(END)] is None for _, grid, _, returns in line["runs"]]
    assert at_end == [False, True, False]
    text = Read(page).flowing
    assert "one, bc: 1 of 3 seeds incomplete (seed 1 failed from n = 3000 on)" in text
    assert "one bc — — — — 2 of 3 seeds" in text
    assert set(finals(data).index) == {("one", "mine"), ("two", "bc"), ("two", "mine")}
    left_out = page_of(TWO, rows, leave_out=True)
    assert "1 of 3 seeds incomplete, left out of the statistics" in Read(left_out).flowing
    assert finals(embedded(left_out)).loc[("one", "bc"), "seeds"] == 2


def test_colours_and_dashes_are_those_of_all_figures() -> None:
    again = rows_of(TWO, name="t")
    both = pd.concat([rows_of(TWO), again])
    data = embedded(report.page(both, {"s": TWO, "t": TWO}, {}))
    looks = {look["label"]: look for look in data["looks"]}
    assert list(looks) == ["bc (s)", "mine (s)", "bc (t)", "mine (t)"]
    assert looks["bc (s)"]["colour"] == looks["bc (t)"]["colour"] == style.OWN["bc"]
    assert looks["bc (s)"]["dark"] != style.OWN["bc"]  # black would not be seen there
    assert looks["mine (s)"]["dark"] == looks["mine (s)"]["colour"]
    assert (looks["bc (s)"]["dash"], looks["bc (t)"]["dash"]) == ("", "8,2.4")


def test_segments_and_their_borders_are_embedded() -> None:
    names = ["hopper-random-v2", "hopper-expert-v2"]
    joined = about("joined", segments=[1000, 2000], segments_in_turn=names)
    said = study([joined, about("single")], ["mine", "other"], [0, 1])
    rows = rows_of(said)
    rows = rows[(rows["seed"] == 0) | (rows["variant"] == "mine") | (rows["samples"] < END)]
    page = page_of(said, rows)
    assert embedded(page)["datasets"][0]["segments"] == [["random", 1000], ["expert", 2000]]
    text = Read(page).flowing
    assert "dataset algorithm random to expert seeds joined mine" in text
    assert "joined other — 1 of 2 seeds" in text.partition("random to expert")[2]
    assert "single" not in text.partition("random to expert")[2].partition("Datasets")[0]
    (lost,) = [each["csv"] for each in embedded(page)["copies"].values() if "random to expert" in each["csv"]]
    wanted = analysis.means_over_seeds(
        analysis.forgetting(rows[rows["variant"] == "mine"], {"joined": [1000]})
    )
    np.testing.assert_allclose(pd.read_csv(io.StringIO(lost))["estimate"], wanted["estimate"])


def test_what_has_no_environment_is_told_and_not_drawn() -> None:
    rows = rows_of(TWO)
    rows.loc[rows["dataset"] == "two", "return_mean"] = np.nan
    page = page_of(TWO, rows)
    assert [each["name"] for each in embedded(page)["datasets"]] == ["one"]
    assert "two: not evaluated, since it has no environment" in Read(page).flowing
    with pytest.raises(UserError, match="no returns and no scores to draw"):
        page_of(TWO, rows[rows["dataset"] == "two"])


def test_three_hundred_runs_of_two_hundred_points_fit_into_six_megabytes(big: Path) -> None:
    assert big.stat().st_size < 6e6
    assert sum(len(line["runs"]) for line in embedded(big.read_text())["lines"]) == 300


# --- statistics ---


def csv_of(data: dict[str, Any], head: str) -> pd.DataFrame:
    """The table whose CSV begins with these columns."""
    (found,) = [each["csv"] for each in data["copies"].values() if each["csv"].startswith(head)]
    return pd.read_csv(io.StringIO(found))


def finals(data: dict[str, Any]) -> pd.DataFrame:
    tables = [pd.read_csv(io.StringIO(each["csv"])) for each in data["copies"].values()]
    table = next(each for each in tables if "n to 50 %" in set(each.get("statistic", ())))
    return table[table["statistic"] == "at the end"].set_index(["dataset", "algorithm"])


def test_the_tables_are_those_of_aggregate(two: str) -> None:
    rows = rows_of(TWO)
    data = embedded(two)
    wanted = analysis.means_over_seeds(analysis.final_values(rows)).set_index(["dataset", "variant"])
    found = finals(data)
    for column in ("estimate", "low", "high"):
        np.testing.assert_allclose(found[column], wanted.loc[found.index, column])
    shown = wanted.loc[("one", "mine")]
    cell = f"{shown['estimate']:.1f} {shown['low']:.1f} to {shown['high']:.1f}"
    assert cell in Read(two).flowing
    better = csv_of(data, "first,second")
    assert better.equals(
        analysis.probability_of_improvement(analysis.final_values(analysis.comparable_rows(rows)[0]))
    )
    over = csv_of(data, "dataset,unit,ahead")
    assert set(over["ahead"]) == {"mine"}


def test_a_latex_table_has_a_line_a_row_and_no_bare_special_characters() -> None:
    said = study([about("a_b & 50%")], ["x#1", "mine"], [0, 1])
    data = embedded(page_of(said, rows_of(said)))
    text = data["copies"]["table-0-0"]["latex"]
    assert text.startswith("\\begin{tabular}{llrrrrr}\n\\toprule\n")
    assert text.count(" \\\\\n") == 3
    assert r"a\_b \& 50\% & x\#1 & " in text
    assert not re.search(r"(?<!\\)[%#_]", text)


@pytest.mark.parametrize(
    ("datasets", "variants", "why"),
    [
        ([about("one")], ["bc", "mine"], "Wants two datasets with scores, and there is one, one."),
        ([about("one", reference=None)], ["bc", "mine"], "nothing to compare over datasets"),
        ([about("one")], ["bc"], "There is one line alone"),
    ],
)
def test_a_statistic_that_cannot_be_had_is_a_sentence(
    datasets: list[dict[str, Any]], variants: list[str], why: str
) -> None:
    said = study(datasets, variants, [0, 1])
    page = page_of(said, rows_of(said))
    reasons = re.findall(r'<p class="reason">(.*?)</p>', page)
    assert any(why in reason for reason in reasons)
    assert "optimality gap" not in page.split("<h2>Statistics</h2>")[1].split("</section>")[0]
    assert "<tbody></tbody>" not in page


def test_seeds_that_are_incomplete_are_refused_over_datasets_unless_left_out() -> None:
    said = study([about("one"), about("two")], ["bc", "mine"], [0, 1])
    rows = rows_of(said)
    rows = rows[(rows["seed"] == 0) | (rows["variant"] == "bc") | (rows["samples"] < END)]
    refused, left_out = page_of(said, rows), page_of(said, rows, leave_out=True)
    assert "statistics need every seed" in Read(refused).flowing
    assert "optimality gap" not in Read(refused).flowing
    assert "statistics need every seed" not in Read(left_out).flowing
    assert "optimality gap" in Read(left_out).flowing


def test_a_line_whose_seeds_all_stopped_has_no_statistics() -> None:
    said = study([about("one"), about("two"), about("three")], ["bc", "mine"], [0, 1])
    rows = rows_of(said)
    stopped = rows[(rows["dataset"] != "one") | (rows["variant"] == "mine") | (rows["samples"] < END)]
    for leave_out in (False, True):
        page = page_of(said, stopped, leave_out=leave_out)
        text = Read(page).flowing
        assert "one, bc: ends at n = 2 500 of 3 000" in text
        assert "one bc — — — — 0 of 2 seeds" in text
        assert ("one", "bc") not in finals(embedded(page)).index
        assert len(finals(embedded(page))) == 5
        assert ("statistics need finished studies" in text) == (not leave_out)
    texts = [each["csv"] for each in embedded(page)["copies"].values()]
    over = pd.read_csv(io.StringIO(next(text for text in texts if text.startswith("algorithm,estimator"))))
    wanted = analysis.aggregate(analysis.final_values(rows[rows["dataset"] != "one"]))
    assert over["estimate"].tolist() == pytest.approx(wanted["estimate"].tolist())


def test_an_online_phase_that_stopped_has_no_statistics_and_what_is_offline_has() -> None:
    rows = rows_of(TWO)
    stopped = rows[(rows["dataset"] == "two") | (rows["variant"] == "mine") | (rows["samples"] < END + 400)]
    page = page_of(TWO, stopped)
    assert ("one", "bc") in finals(embedded(page)).index
    told = Read(page).flowing
    assert "one, bc: ends at n = 3 300 of 3 400" in told
    assert "one bc — — — 0 of 3 seeds" in told.partition("The online phase")[2]
    never = Read(page_of(TWO, rows[rows["samples"] <= END])).flowing
    assert "The online phase No line has all of its seeds: 0 of 3 seeds complete." in never


# --- words ---


def test_seeds_without_rows_and_lines_that_end_early_are_warned_of() -> None:
    said = study([about("one")], ["bc", "mine"], [0, 1, 2, 3, 4])
    rows = rows_of(said)
    rows = rows[(rows["variant"] == "bc") & (rows["seed"] < 3) & (rows["samples"] < END)]
    text = Read(page_of(said, rows)).flowing
    assert "one, bc: 2 of 5 seeds missing (3 and 4)" in text
    assert "one, bc: ends at n = 2 500 of 3 000" in text
    assert "one, mine: 5 of 5 seeds missing (0, 1, 2, 3 and 4)" in text


def test_a_complete_study_has_no_warnings_and_leaks_are_one() -> None:
    said = study([about("one")], ["bc"], [0])
    assert 'class="warnings"' not in page_of(said, rows_of(said))
    leaky = said | {"protocol": said["protocol"] | {"normalizer": "full"}}
    text = Read(page_of(leaky, rows_of(said))).flowing
    assert "observations are normalised with the mean and deviation of the full dataset, a leak" in text


def test_the_protocol_the_data_and_the_versions_are_told() -> None:
    said = study([about("one", notes=["dropped 3 of them"])], ["bc"], [0], steps=400)
    said["protocol"] |= {"grow_by": 4, "updates_per_growth": 2, "window": 500}
    text = Read(page_of(said, rows_of(said))).flowing
    assert "1 000 transitions before the first update, then 4 after every 2 gradient updates" in text
    assert "drawn uniformly from the newest 500 transitions" in text
    assert "an environment of their own for 400 steps" in text
    assert "dropped 3 of them" in text
    assert "0123abcd" * 8 in text
    assert "50.0, score 37.5" in text  # (50 + 100) / 400
    assert "python 3.11.7, torch 2.13.0" in text
    assert "bc: hidden (8, 8), rate 0.1" in text


@pytest.mark.parametrize("regime", ["stream", "retrain", "warm", "full"])
def test_every_regime_and_order_has_words_of_its_own(regime: str) -> None:
    said = study([about("one")], ["bc"], [0])
    texts = set()
    for order in ("shuffled", "episodes", "logged", "segments", "return"):
        said["protocol"] = vars(Protocol(regime=regime, order=order))  # type: ignore[arg-type]
        texts.add(report._words.protocol(said)[0])
    assert len(texts) == (1 if regime == "full" else 5)


# --- what users call things ---


def test_nothing_that_users_name_comes_alive() -> None:
    said = study([about(HOSTILE, notes=[HOSTILE], given=HOSTILE)], [HOSTILE], [0, 1])
    said["runs"][0]["processor"] = HOSTILE
    rows = rows_of(said, name=HOSTILE)
    page = report.page(rows, {HOSTILE: said}, {HOSTILE: Rerun(HOSTILE, [HOSTILE])})
    read = Read(page)
    assert [tag for tag, _ in read.tags].count("script") == 3
    assert "b" not in {tag for tag, _ in read.tags}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert read.flowing.count(HOSTILE) >= 8
    data = embedded(page)
    assert data["datasets"][0]["name"] == data["looks"][0]["label"] == HOSTILE


def test_nothing_is_loaded_from_anywhere(two: str) -> None:
    read = Read(two)
    for tag, attributes in read.tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    (policy,) = [each["content"] for _, each in read.tags if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


# --- the command ---


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
    "plugin": Study(
        datasets=("pendulum-replay",),
        algorithms=("{folder}/my file.py:Mine:words=b,limit=0.5,name=mine", "{folder}/my file.py:Mine"),
    ),
}


class Parsed(Exception):
    """Ends the command where it would begin to train."""


@pytest.mark.parametrize("key", STUDIES)
def test_the_command_parses_back_to_the_same_study(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my file.py").write_text(PLUGIN)
    given = STUDIES[key]
    algorithms = tuple(text.format(folder=tmp_path) for text in given.algorithms)
    said = json.loads(json.dumps(resolve(Study(**vars(given) | {"algorithms": algorithms})).describe()))
    parsed = []

    def caught(study: Study, out: Path, *_: object) -> None:
        parsed.extend([study, out])
        raise Parsed

    monkeypatch.setattr(execution, "run", caught)
    with pytest.raises(Parsed):
        cli.main(shlex.split(reporting.command(said, "a run"))[1:])
    again = json.loads(json.dumps(resolve(parsed[0]).describe()))
    for part in ("protocol", "online", "evaluation", "datasets", "algorithms"):
        assert again[part] == said[part]
    assert again["runs"][0]["seeds"] == sorted(given.seeds)
    assert again["runs"][0]["device"] == said["runs"][0]["device"]
    assert parsed[1] == Path("a run-again")


def test_the_command_names_what_is_not_a_default_and_nothing_else() -> None:
    said = resolve(STUDIES["defaults"]).describe()
    device = said["runs"][0]["device"]
    assert reporting.command(said, "s") == (
        "seqeval run --datasets pendulum-replay --algorithms bc --seeds 0 1 2 "
        f"--device {device} --out s-again"
    )


def test_an_algorithm_that_has_changed_is_told_in_place_of_the_command(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    said = resolve(Study(datasets=("pendulum-replay",), algorithms=(f"{file}:Mine",))).describe()
    file.write_text(PLUGIN + "\n# changed\n")
    plugins._load.cache_clear()
    rerun = reporting._rerun(said, "s")
    assert rerun.command is None
    assert "no longer the file that it was" in rerun.remarks[0]


# --- the subcommand ---


def directory(folder: Path, said: dict, rows: pd.DataFrame) -> Path:
    """A run directory with these rows."""
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(said))
    for (variant, seed), mine in rows.groupby(["variant", "seed"]):
        cell = folder / "cells" / "d" / str(variant) / f"seed-{seed}"
        cell.mkdir(parents=True)
        lines = [row | {"metrics": {}} for row in mine.to_dict("records")]
        (cell / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = resolve(STUDIES["defaults"]).describe()
    rows = rows_of(study([about("pendulum-replay")], ["bc"], [0, 1, 2]))
    folder, out = directory(tmp_path / "mine", said, rows), tmp_path / "deep" / "page.html"
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(folder), "--out", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = out.read_text()
    assert unfolded(embedded(page))["seed"].unique().tolist() == [0, 1, 2]
    assert "--algorithms bc --seeds 0 1 2" in Read(page).flowing
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_what_cannot_be_reported_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = resolve(STUDIES["defaults"]).describe()
    rows = rows_of(study([about("pendulum-replay")], ["bc"], [0]))
    one = directory(tmp_path / "one", said, rows)
    said["datasets"]["pendulum-replay"]["digest"] = "another"
    two = directory(tmp_path / "two", said, rows)

    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["report", *map(str, arguments)])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    out = tmp_path / "page.html"
    assert "at least one study directory" in refused("--out", out)
    assert "ends in .html" in refused(one, "--out", tmp_path / "page.pdf")
    assert "are not those of" in refused(one, two, "--out", out)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert "pip install 'seqeval-rl[report]'" in refused(one, "--out", out)
    assert not out.exists()


# --- in a browser ---

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_a_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with chromedriver here (Debian: chromium, chromium-driver)"
)


class Browser:
    """A headless Chromium that sees one page after another."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(20)

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.resize(width, height)
        self.prefer("dark" if dark else "light")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.as_uri())
        self.until("document.querySelector('.plot .scatterlayer .trace')")

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def get(self, expression: str, *arguments: object) -> Any:
        return self.run(f"return {expression}", *arguments)

    def until(self, condition: str) -> None:
        """Waits until it holds, for ten seconds."""
        end = time.monotonic() + 10
        while not self.get(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.02)

    def choose(self, name: str, value: str) -> None:
        """Sets a control as a user does, and waits for the curves."""
        if self.get("document.forms.bar.elements[arguments[0]].tagName", name) == "SELECT":
            self.run(
                "const c = document.forms.bar.elements[arguments[0]]; c.value = arguments[1];"
                "c.dispatchEvent(new Event('change', { bubbles: true }))",
                name,
                value,
            )
        else:
            self.driver.find_element("css selector", f"[name={name}][value={value}]").click()
        self.settle()

    def settle(self) -> None:
        """Waits until the panels that are in view are drawn, of which each takes a turn after a frame."""
        self.driver.execute_async_script(
            "const done = arguments[0]; let frames = 5;"
            "const next = () => frames-- ? requestAnimationFrame(() => setTimeout(next)) : done(); next()"
        )

    def traces(self, panel: int = 0) -> list[dict[str, Any]]:
        """What Plotly has drawn."""
        return self.get(
            "document.querySelectorAll('.plot')[arguments[0]].data.map((t) => ({ name: t.name, x: t.x, "
            "y: t.y, meta: t.meta, dash: t.line.dash, colour: t.line.color, text: t.text }))",
            panel,
        )

    def means(self, panel: int = 0) -> dict[str, tuple[list[float], list[float]]]:
        return {t["name"]: (t["x"], t["y"]) for t in self.traces(panel) if t["meta"] == "mean"}

    def chip(self, label: str) -> Any:
        chips = self.driver.find_elements("css selector", ".chip")
        (found,) = [chip for chip in chips if chip.text == label]
        return found

    def complaints(self) -> list[str]:
        """Console lines since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What the page has asked for since it was opened."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"] for each in entries if each["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, two: str) -> dict[str, Path]:
    """Pages to be looked at: two datasets with an online phase; a seed that fails; names that bite."""
    folder = tmp_path_factory.mktemp("pages")
    failed = rows_of(TWO)
    lost = (failed["variant"] == "bc") & (failed["seed"] == 1) & (failed["samples"] >= 2500)
    failed.loc[lost, ["score", "return_mean", "status"]] = (np.nan, np.nan, "failed")
    hostile = study([about(HOSTILE)], [HOSTILE], [0, 1])
    written = {
        "two": two,
        "failed": page_of(TWO, failed),
        "hostile": page_of(hostile, rows_of(hostile), HOSTILE),
    }
    found = {name: folder / f"{name}.html" for name in written}
    for name, page in written.items():
        found[name].write_text(page)
    return found


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve datasets, five algorithms, five seeds, 200 points; few repetitions, which take no room."""
    datasets = [about(f"dataset-number-{i}-v2") for i in range(12)]
    said = study(datasets, ["bc", "td3_bc", "awac", "cql", "iql"], [0, 1, 2, 3, 4])
    path = tmp_path_factory.mktemp("big") / "big.html"
    resample = bootstrap.resample
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "resample", lambda repetitions, *more: resample(20, *more))
        path.write_text(page_of(said, rows_of(said, points=200)))
    return path


@in_a_browser
def test_the_page_opens_without_complaints_and_asks_for_nothing(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["two"])
    for name, values in {
        "seeds": ("each", "1"),
        "phase": ("online", "both"),
        "unit": ("return",),
        "axis": ("share",),
        "dataset": ("1", "all"),
    }.items():
        for value in values:
            browser.choose(name, value)
    browser.chip("mine").click()
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.settle()
    assert browser.complaints() == []
    assert browser.requests() == [pages["two"].as_uri()]


@in_a_browser
def test_the_curves_are_the_means_and_ranges_of_the_rows(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    table = analysis.mean_curves(rows_of(TWO))
    for panel, dataset in enumerate(("one", "two")):
        for variant, (x, y) in browser.means(panel).items():
            wanted = table[(table["dataset"] == dataset) & (table["variant"] == variant)]
            assert x == wanted["samples"].tolist()
            np.testing.assert_allclose(y, wanted["mean"], atol=2e-3)
        band = next(t for t in browser.traces(panel) if t["meta"] == "band" and t["name"] == "bc")
        wanted = table[(table["dataset"] == dataset) & (table["variant"] == "bc")]
        ring = [*wanted["high"], *wanted["low"][::-1]]
        np.testing.assert_allclose(band["y"][:-1], ring, atol=2e-3)
    data = [t["y"] for panel in (0, 1) for t in browser.traces(panel) if t["meta"] == "data"]
    assert data == [[37.5, 37.5], [50, 50]]
    shapes = browser.get("document.querySelector('.plot').layout.shapes.map((s) => s.x0)")
    words = browser.get("document.querySelector('.plot').layout.annotations.map((a) => a.text)")
    assert (shapes, words) == ([END], ["offline", "online"])


@in_a_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_word_online_is_whole_however_short_the_phase(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    said = study([about(name) for name in ("one", "two", "three")], ["mine"], [0], steps=20)
    page = tmp_path / "page.html"
    page.write_text(page_of(said, rows_of(said)))
    browser.open(page, width)
    box = "document.querySelector('.plot').getBoundingClientRect()"
    words = "[...document.querySelectorAll('.plot')[0].querySelectorAll('.annotation-text')]"
    ends = browser.get(f"{words}.map((w) => [w.textContent, w.getBoundingClientRect().right - {box}.right])")
    assert [word for word, _ in ends] == ["offline", "online"]
    assert max(end for _, end in ends) <= 0


@in_a_browser
def test_the_controls_choose_what_is_drawn(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    rows = rows_of(TWO)
    mine = rows[(rows["dataset"] == "one") & (rows["variant"] == "mine")]

    def mean(of: pd.DataFrame, value: str = "score") -> pd.Series:
        return of.groupby("samples")[value].mean()

    browser.choose("unit", "return")
    x, y = browser.means()["mine"]
    np.testing.assert_allclose(y, mean(mine, "return_mean"), atol=1e-2)
    browser.choose("unit", "score")
    browser.choose("axis", "share")
    x, y = browser.means()["mine"]
    np.testing.assert_allclose(x, mean(mine).index / END)
    browser.choose("axis", "samples")
    browser.choose("phase", "offline")
    assert max(browser.means()["mine"][0]) == END
    browser.choose("phase", "online")
    x, y = browser.means()["mine"]
    assert min(x) == END  # the row at N belongs to both
    np.testing.assert_allclose(y, mean(mine[mine["samples"] >= END]), atol=2e-3)
    browser.choose("phase", "both")
    browser.choose("seeds", "2")
    x, y = browser.means()["mine"]
    np.testing.assert_allclose(y, mine[mine["seed"] == 2]["score"], atol=2e-3)
    assert "band" not in {t["meta"] for t in browser.traces()}
    browser.choose("seeds", "each")
    thin = next(t for t in browser.traces() if t["meta"] == "seeds" and t["name"] == "mine")
    assert thin["x"].count(None) == 3
    browser.choose("dataset", "1")
    assert [each.is_displayed() for each in browser.driver.find_elements("css selector", ".panel")] == [
        False,
        True,
    ]


@in_a_browser
def test_a_click_on_a_legend_entry_hides_a_curve_and_another_brings_it_back(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["two"])
    assert list(browser.means()) == ["bc", "mine"]
    chip = browser.chip("mine")
    chip.click()
    browser.settle()
    assert [list(browser.means(panel)) for panel in (0, 1)] == [["bc"], ["bc"]]
    assert chip.get_attribute("aria-pressed") == "false"
    chip.send_keys(" ")  # from the keyboard
    browser.settle()
    assert list(browser.means()) == ["bc", "mine"]
    assert chip.get_attribute("aria-pressed") == "true"
    webdriver.ActionChains(browser.driver).double_click(chip).perform()
    browser.settle()
    assert list(browser.means()) == ["mine"]
    webdriver.ActionChains(browser.driver).double_click(chip).perform()
    browser.settle()
    assert list(browser.means()) == ["bc", "mine"]


@in_a_browser
def test_hovering_tells_the_values(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    plot = browser.driver.find_element("css selector", ".plot")
    webdriver.ActionChains(browser.driver).move_to_element(plot).perform()
    browser.until("document.querySelector('.hoverlayer .legendtext, .hoverlayer text')")
    told = browser.get("document.querySelector('.hoverlayer').textContent")
    table = analysis.mean_curves(rows_of(TWO)).query(
        "dataset == 'one' and variant == 'mine' and samples == 2000"
    )
    (row,) = table.to_dict("records")
    assert f"mine  {row['mean']:.1f} ({row['low']:.1f} to {row['high']:.1f})" in told.replace("\xa0", " ")


@in_a_browser
def test_a_mean_that_lacks_seeds_is_dotted_and_has_no_band(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["failed"])
    of = {t["meta"]: t for t in browser.traces() if t["name"] == "bc"}
    xs = of["mean"]["x"]
    whole = [n for n, value in zip(xs, of["mean"]["y"], strict=True) if value is not None]
    assert whole == [1000, 1500, 2000]
    assert max(n for n in of["band"]["x"] if n is not None) == 2000
    assert of["part"]["dash"] == "dot"
    assert None not in of["part"]["y"]
    told = [text.partition(", ")[2] for text in of["part"]["text"]]
    assert told == [""] * 3 + ["2 of 3 seeds"] * (len(xs) - 3)


@in_a_browser
def test_tables_are_sorted_by_their_heads(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["failed"])
    table = "document.querySelector('#table-0-0 table')"

    def column(place: int) -> list[str]:
        return browser.get(f"[...{table}.tBodies[0].rows].map((row) => row.cells[{place}].textContent)")

    def order(place: int) -> list[float]:
        found = browser.get(f"[...{table}.tBodies[0].rows].map((row) => row.cells[{place}].dataset.order)")
        return [float(each) for each in found if each is not None]

    button = browser.driver.find_elements("css selector", "#table-0-0 button.sort")[2]
    head = button.find_element("xpath", "..")
    before = column(2)
    assert before.count("—") == 2  # of the lines that lack a seed
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert all(a >= b for a, b in pairwise(order(2)))
    assert column(2)[-2:] == ["—", "—"]
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert all(a <= b for a, b in pairwise(order(2)))
    assert column(2)[-2:] == ["—", "—"]
    browser.driver.find_elements("css selector", "#table-0-0 button.sort")[1].click()
    assert column(1) == sorted(column(1))
    assert head.get_attribute("aria-sort") == "none"
    assert sorted(column(2)) == sorted(before)


@in_a_browser
def test_the_buttons_copy_a_table_or_show_it_to_be_copied(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    copies = embedded(pages["two"].read_text())["copies"]["table-0-0"]
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    csv, latex = browser.driver.find_elements("css selector", "#table-0-0 button.copy")
    for button, text in ((csv, copies["csv"]), (latex, copies["latex"])):
        button.click()
        browser.until("document.querySelector('#table-0-0 .said').textContent === 'copied'")
        read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (e) => done(String(e)))"
        assert browser.driver.execute_async_script(read) == text
        browser.run("document.querySelector('#table-0-0 .said').textContent = ''")
    browser.run("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    csv.click()
    browser.until("document.querySelector('dialog').open")
    area = browser.driver.find_element("css selector", "dialog textarea")
    assert area.get_attribute("value") == copies["csv"]
    assert browser.get("getSelection().toString() || document.activeElement.tagName")
    browser.driver.find_element("css selector", "dialog button").click()
    assert not browser.get("document.querySelector('dialog').open")
    browser.driver.find_element("css selector", "#rerun button.copy").click()
    browser.until("document.querySelector('dialog').open")
    assert area.get_attribute("value") == "seqeval run"


@in_a_browser
def test_dark_mode_is_dark_and_the_curves_follow(browser: Browser, pages: dict[str, Path]) -> None:
    def luminance(expression: str) -> float:
        channels = re.findall(r"[\d.]+", browser.get(expression))[:3]
        return sum(map(float, channels)) / 3

    def seen() -> tuple[float, float, str]:
        browser.settle()
        ink = luminance("getComputedStyle(document.querySelector('.plot .xtick text')).fill")
        paper = luminance("getComputedStyle(document.body).backgroundColor")
        return paper, ink, next(t["colour"] for t in browser.traces() if t["meta"] == "mean")

    browser.open(pages["two"], dark=True)
    paper, ink, bc = seen()
    assert paper < 40 < 120 < ink
    assert bc != style.OWN["bc"]
    browser.prefer("light")
    paper, ink, bc = seen()
    assert paper > 240 > 140 > ink
    assert bc == style.OWN["bc"]


@in_a_browser
@pytest.mark.parametrize("name", ["two", "failed", "hostile"])
def test_a_phone_scrolls_tables_and_never_the_page(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name], 390, 844)
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert browser.get("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    widest = browser.get(
        "Math.max(...[...document.querySelectorAll('main *')].map((e) => e.closest('.scroll') "
        "|| e.closest('svg') ? 0 : e.getBoundingClientRect().right))"
    )
    assert widest <= 390
    box = "document.querySelector('#table-0-0 .scroll')"
    assert browser.get(f"{box}.scrollWidth > {box}.clientWidth")
    assert browser.get("document.querySelector('.plot').layout.width") <= 390


@in_a_browser
def test_every_control_can_be_reached_and_is_named(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "combobox", "radio", "link", "textbox")
    controls = [n for n in tree if n.get("role", {}).get("value") in roles and not n["ignored"]]
    assert len(controls) > 20
    assert [n for n in controls if not n["name"]["value"].strip()] == []
    reached = set()
    for _ in range(60):
        webdriver.ActionChains(browser.driver).send_keys("\ue004").perform()
        reached.add(browser.get("document.activeElement.name || document.activeElement.className"))
    assert {"chip", "dataset", "seeds", "phase", "unit", "axis", "name", "sort", "copy", "scroll"} <= reached


@in_a_browser
def test_names_that_bite_are_read_as_they_are(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])
    assert browser.driver.find_element("css selector", ".panel figcaption").text == HOSTILE
    assert browser.driver.find_element("css selector", ".chip").text == HOSTILE
    plot = browser.driver.find_element("css selector", ".plot")
    webdriver.ActionChains(browser.driver).move_to_element(plot).perform()
    browser.until("document.querySelector('.hoverlayer text')")
    assert "<script>alert(1)</script><b>" in browser.get("document.querySelector('.hoverlayer').textContent")
    assert browser.get("document.scripts.length") == 3
    assert browser.complaints() == []


@in_a_browser
def test_three_hundred_runs_are_there_within_two_seconds_of_a_core(browser: Browser, big: Path) -> None:
    """Time of the page's own thread, since what else the machine does is no matter of the page."""
    browser.driver.get("about:blank")
    browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.open(big)
    browser.until("document.querySelectorAll('.plot .scatterlayer').length >= 6")
    browser.settle()
    told = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    browser.driver.execute_cdp_cmd("Performance.disable", {})
    seconds = {each["name"]: each["value"] for each in told}
    assert 0.1 < seconds["ThreadTime"] < 2
