"""The callback that sees every row."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cluster import SMALL, STUDY, checkpoints, points, run

from seqeval import Protocol
from seqeval.execution.storage import StudyDirectory
from seqeval.types import Row

ONE = replace(STUDY, algorithms=(f"td3_bc:{SMALL},name=td3",), protocol=Protocol(start=18_000, grow_by=8))


def test_it_sees_each_new_row_once_it_is_stored(tmp_path: Path) -> None:
    seen: list[Row] = []

    def on_row(row: Row) -> None:
        seen.append(row)
        assert (row.variant, row.seed, row.samples) in points(tmp_path / "study")

    table = run(ONE, tmp_path / "study", on_row=on_row)
    stored = {(row["seed"], row["samples"]): row for row in StudyDirectory(tmp_path / "study").rows()}
    assert {(row.seed, row.samples): asdict(row) for row in seen} == stored
    assert len(seen) == len(table) == 14
    more: list[Row] = []
    run(replace(ONE, seeds=(0, 1, 2)), tmp_path / "study", on_row=more.append)
    assert {row.seed for row in more} == {2}


@pytest.mark.parametrize("jobs", [1, 2])
def test_its_exception_ends_the_study_which_can_be_resumed(tmp_path: Path, jobs: int) -> None:
    out = tmp_path / "study"

    def fail(row: Row) -> None:
        if row.samples > 19_000:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(ONE, out, on_row=fail, jobs=jobs, save_every=0.1)
    assert not (out / "driver.json").exists()
    assert checkpoints(out)
    assert len(run(ONE, out)) == 14
