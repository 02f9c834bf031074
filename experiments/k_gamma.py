"""Sensitivity of the curves to K and γ: one study for each pair of values.

    python experiments/k_gamma.py --datasets hopper-replay --algorithms td3_bc iql --out runs/k_gamma

`--updates-per-growth` takes the values of K (updates between two arrivals), `--grow-by` those of γ
(transitions that arrive at once). The settings of a study have the same flags as in `seqeval run`.
OUT/K2-gamma16 is the study directory of K = 2, γ = 16. A table at the end lists the final values of all
studies, and OUT/sensitivity.png shows them as heat maps.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from seqeval import Evaluation, Execution, Protocol, Study, UserError, analysis, run
from seqeval.cli import plain_console
from seqeval.cli.results import plot

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc", "td3_bc"),
    protocol=Protocol(start=1000),
    evaluation=Evaluation(points=10),
)


def main(
    study: Annotated[Study, tyro.conf.arg(name="")] = STUDY,
    updates_per_growth: tuple[int, ...] = (1, 4),
    grow_by: tuple[int, ...] = (16, 64),
    out: Path = Path("runs/k_gamma"),
    jobs: int | None = None,
) -> None:
    table = Table(box=None, header_style="bold")
    for header in ("K", "γ", "dataset", "algorithm", "unit", "mean", "range over seeds", "seeds"):
        table.add_column(header, no_wrap=True)
    folders = []
    for k in updates_per_growth:
        for gamma in grow_by:
            protocol = replace(study.protocol, updates_per_growth=k, grow_by=gamma)
            folder = out / f"K{k}-gamma{gamma}"
            folders.append(folder)
            settings = Execution(jobs=jobs)
            rows = run(replace(study, protocol=protocol), folder, settings, plain_console(stderr=True))
            for line in analysis.last_points(rows).to_dict("records"):
                spread = f"{line['low']:.1f} … {line['high']:.1f}"
                seeds = f"{line['seeds']} of {line['total_seeds']}"
                mean = f"{line['mean']:.1f}"
                key = line["dataset"], line["variant"], line["unit"]
                table.add_row(str(k), str(gamma), *key, mean, spread, seeds)
    plain_console(stderr=False).print(table)
    if len(folders) > 1:
        plot(tuple(folders), out / "sensitivity.png", "sensitivity", leave_out_incomplete=True)


if __name__ == "__main__":
    try:
        tyro.cli(main, description=__doc__)
    except UserError as error:
        print(f"k_gamma: {error}", file=sys.stderr)
        sys.exit(2)
