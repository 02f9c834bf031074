"""What a reader must know before any number."""

from __future__ import annotations

import pandas as pd

from seqeval import analysis
from seqeval.analysis import Studies, Study

from .._text import counted, listed, spaced
from ._protocol import leaks


def warnings(rows: pd.DataFrame, studies: Studies, leave_out: bool) -> list[str]:
    """Seeds that failed, ended early or are missing, lines that end early, leaks, and mixed package versions.

    `rows` have been through `analysis.with_planned_end`. With `leave_out`, statistics leave out incomplete
    seeds.
    """
    found = [
        f"{name}: not evaluated, because it has no environment"
        for name in analysis.unevaluated_datasets(rows)
    ]
    for name, study in studies.items():
        study_rows = rows[rows["study"] == name]
        lines = [
            *_incomplete(study_rows, leave_out),
            *_missing(study_rows, study),
            *(f"{text}, a leak of data that has not arrived" for text in leaks(study)),
            *_mixed_versions(study),
        ]
        found += [f"{name}: {line}" for line in lines] if len(studies) > 1 else lines
    return found


def _incomplete(rows: pd.DataFrame, leave_out: bool) -> list[str]:
    """One warning for each line with incomplete seeds."""
    found: dict[tuple[str, str], list[str]] = {}
    without_rows = set(analysis.missing_seeds(rows))  # reported by `_missing`
    for *run, reason in analysis.incomplete_seeds(rows):
        if tuple(run) in without_rows:
            continue
        dataset, variant, _, seed = run
        found.setdefault((dataset, variant), []).append(f"seed {seed} {reason}")
    seeds = rows.groupby(["dataset", "variant"])["seed"].nunique()
    left_out = ", left out of the statistics" if leave_out else ""
    return [
        f"{dataset}, {variant}: {len(reasons)} of {counted(seeds[dataset, variant], 'seed')} "
        f"incomplete{left_out} ({'; '.join(reasons)})"
        for (dataset, variant), reasons in found.items()
    ]


def _missing(rows: pd.DataFrame, study: Study) -> list[str]:
    """Seeds of the study without rows, and lines that end before the study does."""
    seeds = analysis.planned_seeds(study)
    unfinished = analysis.unfinished_lines(rows).set_index(["dataset", "variant"])
    present = set(rows[["dataset", "variant", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    found = []
    for dataset in study["datasets"]:
        for variant in study["algorithms"]:
            planned = seeds.get((dataset, variant), [])
            missing = [str(seed) for seed in planned if (dataset, variant, seed) not in present]
            if missing:
                count = f"{len(missing)} of {counted(len(planned), 'seed')}"
                found.append(f"{dataset}, {variant}: {count} missing ({listed(missing)})")
            if (dataset, variant) in unfinished.index:
                end, last = unfinished.loc[(dataset, variant), ["end", "planned"]]
                found.append(f"{dataset}, {variant}: ends at n = {spaced(end)} of {spaced(last)}")
    return found


def _mixed_versions(study: Study) -> list[str]:
    """Packages with different versions in the invocations of a study."""
    versions = [invocation["versions"] for invocation in study["invocations"]]
    found = []
    for package in dict.fromkeys(package for packages in versions for package in packages):
        different = sorted({packages.get(package, "none") for packages in versions})
        if len(different) > 1:
            found.append(f"its invocations used different versions of {package} ({', '.join(different)})")
    return found
