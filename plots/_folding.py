"""Large sweeps in a figure of curves: one line in the legend instead of one for each setting."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from seqeval import analysis

from . import FigureOptions, style

MOST = 6  # settings of a sweep that are drawn as other variants are


def large_sweeps(
    rows: pd.DataFrame, studies: analysis.Studies, options: FigureOptions
) -> dict[tuple[str, str], list[str]]:
    """The variants of each sweep (algorithm, study) with more than `MOST` of them; none of those that the
    options name."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, study in studies.items():
        for variant in rows.loc[rows["study"] == name, "variant"].unique():
            settings = study["algorithms"].get(variant, {}) if "algorithms" in study else {}
            if "sweep" in settings and variant not in options.algorithms:
                found.setdefault((settings["algorithm"], name), []).append(variant)
    return {sweep: variants for sweep, variants in found.items() if len(variants) > MOST}


def folded(
    curves: pd.DataFrame, styles: style.LineStyles, sweeps: Mapping[tuple[str, str], list[str]]
) -> dict[tuple[str, str], style.LineStyle]:
    """The styles of one panel, in which all settings of a large sweep have the colour of their algorithm: the
    best one at the end of the data (without a direction: the median one) as a line, the others thin.
    """
    found = dict(styles)
    ends = analysis.last_points(curves[curves["phase"] == "offline"])
    for (algorithm, study), variants in sweeps.items():
        of_sweep = ends[(ends["study"] == study) & ends["variant"].isin(variants)].dropna(subset="mean")
        if of_sweep.empty:
            continue
        ordered = of_sweep.sort_values("mean", kind="stable")["variant"].tolist()
        undirected = "better" in curves and curves["better"].isna().any()
        place = len(ordered) // 2 if undirected else 0 if analysis.lower_is_better(curves) else -1
        text = f"{algorithm}: {'median' if undirected else 'best'} of {len(variants)} settings at the end"
        for variant in variants:
            one = found[variant, study]
            thin = variant != ordered[place]
            found[variant, study] = style.LineStyle(
                text, style.colour_of(algorithm), one.dash if thin else "-", thin
            )
    return found
