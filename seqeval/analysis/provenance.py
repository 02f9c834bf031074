"""Which studies rows come from: the content of each study.json, kept in the `attrs` of a frame of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pandas as pd

from seqeval.errors import UserError

Study = Mapping[str, Any]  # the content of a study.json
Studies = Mapping[str, Study]  # by the study's name, which rows have in the column `study`


class _Shared(dict[str, Study]):
    """Studies that are never copied: pandas makes a deep copy of `attrs` in every operation on a frame."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def with_studies(rows: pd.DataFrame, studies: Studies) -> pd.DataFrame:
    """The rows, with the studies that they come from in `attrs`."""
    rows = rows.copy(deep=False)
    rows.attrs["studies"] = _Shared(studies)
    return rows


def studies_of(rows: pd.DataFrame) -> Studies:
    """The studies that rows come from, in the order in which they were loaded.

    Raises UserError if `attrs` lacks any: some operations of pandas, such as joining two frames, drop them.
    """
    known = rows.attrs.get("studies", {})
    names = set(rows["study"])
    if missing := sorted(names - known.keys()):
        raise UserError(
            f"rows: their attrs do not describe the study {missing[0]!r}; load all studies in one call, "
            'seqeval.load(["runs/one", "runs/two"]), and after an operation that drops attrs restore them: '
            "new.attrs = old.attrs"
        )
    return {name: study for name, study in known.items() if name in names}


def in_study_order(rows: pd.DataFrame, studies: Studies) -> pd.DataFrame:
    """The rows sorted as their studies name datasets and variants; equal ones keep their order."""
    keys = (
        (name, dataset, variant)
        for name, study in studies.items()
        for dataset in study["datasets"]
        for variant in study["algorithms"]
    )
    places = {key: place for place, key in enumerate(keys)}
    of_rows = zip(rows["study"], rows["dataset"], rows["variant"], strict=True)
    place = pd.Series([places.get(key, len(places)) for key in of_rows], rows.index, dtype=int)
    return rows.loc[place.sort_values(kind="stable").index].reset_index(drop=True)


def datasets_of(studies: Studies) -> dict[str, Mapping[str, Any]]:
    """What study.json says about each dataset of the studies, by the dataset's name."""
    return {name: dataset for study in studies.values() for name, dataset in study["datasets"].items()}
