"""Comparison of the ends of a study's phases with the reference scores of a source whose x is another one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from seqeval import analysis
from seqeval.errors import UserError

from ..lines import LINE
from ..statistics import STATISTICS
from .comparison import Descriptions, format_reasons
from .overlay import mismatch, name_without_prefix
from .scores import reference_scores
from .sources import OUR_NAMES, curves, find

# Our statistic with which each published one is compared. `best` has no counterpart: choosing the best
# evaluation of each seed afterwards is optimistic.
COUNTERPARTS: Mapping[str, str] = {
    "last": "final",
    "before": "final",
    "one setting": "final",
    "best setting": "final",
    "after": "online",
    "regret": "regret",
}
PHASES = {"final": "offline", "online": "online", "regret": "online"}
COLUMNS = [
    *("dataset", "variant", "algorithm", "statistic", "estimate", "low", "high", "seeds", "end"),
    *("published", "std", "published_low", "published_high", "published_seeds", "published_end"),
]


def compare_ends(
    rows: pd.DataFrame, descriptions: Descriptions, name: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every line of a study against the reference scores of a source, and why other lines are left out.

    Only the ends of the phases are compared, since the source's offline x counts updates on the full dataset.
    `rows` must be complete. The columns are `COLUMNS`: `estimate` is ours, with a 95 % interval from `low` to
    `high`; `end` and `published_end` say in words what was seen up to there, since phases may differ in
    length. Raises UserError if no line can be compared.
    """
    source, scores = find(name), reference_scores(sources=[name])
    rows, ends = analysis.with_values(rows), _published_ends(name)
    algorithms: dict[str, str] = dict(
        rows.drop_duplicates("variant")[["variant", "algorithm"]].itertuples(index=False)
    )
    estimates = {key: STATISTICS[key].estimates(rows) for key in set(COUNTERPARTS.values())}
    ours = {
        (key, *line[:2]): numbers
        for key, table in estimates.items()
        for line, numbers in zip(table[LINE].itertuples(index=False), table.to_dict("records"), strict=True)
    }
    found, reasons = [], {}
    for dataset in rows["dataset"].unique():
        theirs = scores[scores["dataset"] == name_without_prefix(dataset)]
        of_dataset = rows[rows["dataset"] == dataset]
        if reason := mismatch(source, dataset, of_dataset, descriptions[dataset], theirs):
            reasons[dataset] = reason
            continue
        for variant in of_dataset["variant"].unique():
            labels = theirs["algorithm"].map(OUR_NAMES) == algorithms[variant]
            if not labels.any():
                reasons[f"{dataset} with {variant}"] = f"not an algorithm of {name}"
            for score in theirs[labels].to_dict("records"):
                line = ours.get((COUNTERPARTS.get(score["statistic"], ""), dataset, variant))
                if line is not None:
                    phase = PHASES[COUNTERPARTS[score["statistic"]]]
                    theirs_end = ends.get((score["dataset"], score["algorithm"], phase), "")
                    found.append(
                        (
                            *(dataset, variant, algorithms[variant], score["statistic"]),
                            *(line[key] for key in ("estimate", "low", "high", "seeds")),
                            _our_end(of_dataset[of_dataset["variant"] == variant], phase),
                            *(score[key] for key in ("mean", "std", "low", "high", "seeds")),
                            theirs_end,
                        )
                    )
    if not found:
        raise UserError(f"nothing to compare with {name}: {format_reasons(reasons)}")
    return pd.DataFrame(found, columns=COLUMNS), reasons


def _our_end(line: pd.DataFrame, phase: str) -> str:
    """What a line has seen at the end of a phase: transitions, or steps of the online phase alone."""
    last = int(line["samples"].max())
    end_of_data = int(line.loc[line["phase"] == "offline", "samples"].max())
    return f"n = {end_of_data}" if phase == "offline" else f"{last - end_of_data} steps"


def _published_ends(name: str) -> dict[tuple[str, str, str], str]:
    """The last x of the learning curves of a source, by dataset, algorithm and phase."""
    table = curves(name)
    last = table.groupby(["dataset", "algorithm", "phase"], as_index=False)["x"].max()
    words = {"offline": "updates", "online": "steps"}
    lines = last[["dataset", "algorithm", "phase", "x"]].itertuples(index=False)
    return {(dataset, name, phase): f"{x:.0f} {words[phase]}" for dataset, name, phase, x in lines}
