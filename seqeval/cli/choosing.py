"""`seqeval choose`: which of a sweep's policies to deploy, with a budget of episodes."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from seqeval.errors import printable

from ._terminal import plain_console, print_notes

if TYPE_CHECKING:
    import pandas as pd

SHOWN = (1, 10, 50)  # pulls, besides the budget


def choose(
    directory: tyro.conf.Positional[Path],
    budget: int = 200,
    k: int | None = None,
    trials: int = 20,
    across_algorithms: bool = False,
    leave_out_incomplete: bool = False,
    out: Path | None = None,
) -> None:
    """Choose among the policies of each sweep at every data size with a budget of episodes, by a UCB bandit.

    Prints the true score of the policy that it would deploy, beside the best (oracle), a random one, and the
    choice of each offline metric. Episodes of the study are used first; more are run from the kept policies
    (--keep-policies), stored, and used again. If it is interrupted, run it again to resume. It runs code that
    the study directory names, as `seqeval video` does: the algorithm's file or package, and the environment.

    Args:
        directory: Study directory.
        budget: Episodes for each choice.
        k: Choose among k settings, drawn at random in each trial. Default: all.
        trials: Repetitions of each choice, whose mean is reported.
        across_algorithms: Choose among all variants of a dataset, not among those of each algorithm.
        leave_out_incomplete: Leave out runs that failed or are not finished; a seed that lacks a setting of a
            sweep does not choose from it. Otherwise they are an error.
        out: CSV of the score against pulls at each size. Default: choice.csv in the study directory.
    """
    from seqeval import choosing
    from seqeval.errors import UserError

    from .results import write

    to = directory / "choice.csv" if out is None else out
    if to.suffix != ".csv":
        raise UserError(f"{to}: the name of the table must end in .csv")
    episodes = 0

    def report(key: choosing.RowKey, block: choosing.EpisodeBlock) -> None:
        nonlocal episodes
        episodes += len(block.returns)

    def note(text: str) -> None:
        print_notes([text])

    table = choosing.choose(
        directory, budget, k, trials, across_algorithms, report, leave_out_incomplete, note
    )
    _print(table, budget)
    print(f"new episodes: {episodes}")
    write(table.to_csv(index=False), to)


def _print(table: pd.DataFrame, budget: int) -> None:
    from rich.table import Table
    from rich.text import Text

    pulls = sorted({*(n for n in SHOWN if n < budget), budget})
    bandits = [rule for n in pulls if (rule := f"bandit {n}") in set(table["rule"])]
    others = [rule for rule in table["rule"].unique() if not rule.startswith("bandit ")]
    rules = ["oracle", "random", *(r for r in others if r not in ("oracle", "random")), *bandits]
    for (dataset, algorithm, unit), part in table.groupby(["dataset", "algorithm", "unit"], sort=False):
        shown = Table(box=None, header_style="bold", pad_edge=False)
        for place, header in enumerate(["n", *rules]):
            shown.add_column(header.removeprefix("eval/"), justify="left" if place == 0 else "right")
        values = part.pivot(index="samples", columns="rule", values="estimate")
        for samples, at in values.iterrows():
            cells = ("" if isnan(value := at.get(rule, nan)) else f"{value:.1f}" for rule in rules)
            shown.add_row(str(samples), *map(Text, cells))
        print(printable(f"{dataset}, {algorithm}: {unit} of the policy that each rule deploys at n"))
        plain_console(stderr=False).print(shown)
