"""Studies, rows and pages for the tests of the report."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from seqeval.plots import report
from seqeval.plots.report import Rerun

from seqeval.analysis import bootstrap
from seqeval.config import Evaluation, Protocol

HOSTILE = '</script><script>alert(1)</script><b>"it\'s" &amp; <!--'
REFERENCE = {"minimum": -100.0, "maximum": 300.0, "source": "made up"}
END = 3000


def dataset(name: str, **changes: Any) -> dict[str, Any]:
    """What study.json says about a dataset."""
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


def make_study(
    datasets: list[dict[str, Any]], variants: list[str], seeds: list[int], steps: int = 0
) -> dict[str, Any]:
    """The content of a study.json with `steps` online."""
    online = {"steps": steps, "updates_per_step": 1, "mix": "uniform"}
    invocation = {
        "began": "2026-11-20T23:08:40+00:00",
        "seeds": seeds,
        "updates": {dataset["name"]: dict.fromkeys(variants, 1) for dataset in datasets},
        "device": "cpu",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": None,
        "platform": "Linux",
        "processor": "x86",
    }
    return {
        "protocol": vars(Protocol(start=1000)),
        "online": online,
        "evaluation": vars(Evaluation()),
        "datasets": {dataset["name"]: dataset for dataset in datasets},
        "algorithms": {v: {"algorithm": v, "config": {"hidden": [8, 8], "rate": 0.1}} for v in variants},
        "invocations": [invocation],
    }


def make_rows(study: dict, points: int = 5, name: str = "s") -> pd.DataFrame:
    """Rows of a study, with a random value at each point."""
    rng = np.random.default_rng(0)
    steps = study["online"]["steps"]
    offline = np.linspace(1000, END, points).astype(int).tolist()
    online = (END + np.linspace(0, steps, points)[1:].astype(int)).tolist() if steps else []
    found = []
    for name_of_dataset, facts in study["datasets"].items():
        for level, variant in enumerate(study["algorithms"]):
            for seed in study["invocations"][0]["seeds"]:
                for n in [*offline, *online]:
                    value = float(rng.normal(50 + 30 * level, 10) + n / 100)
                    reference = facts["reference"]
                    low, high = (reference["minimum"], reference["maximum"]) if reference else (0, 1)
                    found.append(
                        {
                            "study": name,
                            "regime": "stream",
                            "dataset": name_of_dataset,
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


def with_metrics(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with seconds and losses: `mine` has a Q value, nobody has a loss before the first update."""
    at_start = rows["samples"] == 1000
    return rows.assign(
        train_seconds=np.where(at_start, 0.0, 60.0),
        eval_seconds=1.0,
        **{
            "train/loss": (rows["samples"] / 1000 + rows["seed"]).mask(at_start),
            "train/q": (rows["samples"] * 1.23456).where((rows["variant"] == "mine") & ~at_start),
        },
    )


def make_page(study: dict, rows: pd.DataFrame, command: str | None = "seqeval run", **more: Any) -> str:
    return report.page(rows, {"s": study}, {"s": Rerun(command)}, **more)


def embedded(page: str) -> dict[str, Any]:
    """The data that is embedded in the page."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def embedded_rows(data: dict[str, Any]) -> pd.DataFrame:
    """The rows that are embedded in the page."""
    found = []
    for line in data["lines"]:
        dataset, style = data["datasets"][line["dataset"]], data["styles"][line["style"]]
        for seed, grid, online, returns, _ in line["runs"]:
            for place, (n, value) in enumerate(zip(data["grids"][grid], returns, strict=True)):
                phase = "offline" if place < online else "online"
                found.append((dataset["name"], style["label"], seed, phase, n, value))
    columns = ["dataset", "variant", "seed", "phase", "samples", "return_mean"]
    return pd.DataFrame(found, columns=columns)


class ParsedPage(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

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
    def visible_text(self) -> str:
        return " ".join(" ".join(self.text).replace("\u202f", " ").split())


TWO = make_study([dataset("one"), dataset("two", reference=None)], ["bc", "mine"], [0, 1, 2], steps=400)


def read_csv(data: dict[str, Any], head: str) -> pd.DataFrame:
    """The copied CSV that begins with these columns."""
    (found,) = [table["csv"] for table in data["tables"].values() if table["csv"].startswith(head)]
    return pd.read_csv(io.StringIO(found))


def final_values(data: dict[str, Any]) -> pd.DataFrame:
    """The values at the end of the data in the copied CSV."""
    tables = [pd.read_csv(io.StringIO(table["csv"])) for table in data["tables"].values()]
    table = next(frame for frame in tables if "n to 50 %" in set(frame.get("statistic", ())))
    return table[table["statistic"] == "at the end"].set_index(["dataset", "algorithm"])


def write_big_page(path: Path) -> Path:
    """Twelve datasets, five algorithms, five seeds, 200 points; few bootstrap samples, to save time."""
    datasets = [dataset(f"dataset-number-{i}-v2") for i in range(12)]
    study = make_study(datasets, ["bc", "td3_bc", "awac", "cql", "iql"], [0, 1, 2, 3, 4])
    resample = bootstrap.resample
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "resample", lambda repetitions, *more: resample(20, *more))
        path.write_text(make_page(study, make_rows(study, points=200)))
    return path
