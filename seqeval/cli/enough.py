"""`seqeval enough`: whether a study has enough seeds, by a sequential test."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from seqeval.config import Execution
from seqeval.errors import UserError

from ._terminal import plain_console

if TYPE_CHECKING:
    from seqeval.analysis.enough import Design, SequentialTest

DEFAULTS = Execution()
DECISIONS = {
    "larger": "higher",
    "smaller": "lower",
    "equal": "no difference found",
    "continue": "open",
}


def enough(
    directory: tyro.conf.Positional[Path],
    value: Literal["final", "area"] = "final",
    against: str | None = None,
    alpha: float = 0.05,
    interims: int = 5,
    per_interim: int = 5,
    run: bool = False,
    limit: int | None = None,
    execution: Annotated[Execution, tyro.conf.arg(name="")] = DEFAULTS,
) -> None:
    """Test whether a study has enough seeds to tell its variants apart, and how many more would be drawn.

    AdaStop compares the variants on each dataset after every interim, and stops drawing seeds for comparisons
    that are decided. Any wrong decision on a dataset has a probability of at most alpha. Choose the options
    before you see scores: trying several until one decides gives up that guarantee.

    Args:
        directory: Study directory.
        value: final: the value at the end of the data. area: the area under the curve.
        against: Compare every other variant with this one only. Default: all pairs.
        alpha: Family-wise error of each dataset.
        interims: Interims at the most. What is open after the last one counts as no difference found.
        per_interim: New seeds of each variant at each interim.
        run: Train the seeds that are needed, until every comparison is decided or the limit is reached. It
            imports the code that the study names.
        limit: Seeds of each variant at the most. Default: interims x per_interim.
    """
    from seqeval.analysis.enough import Design

    design = Design(value, alpha, interims, per_interim)
    if run:
        _resume(directory, execution)
    found = _tests(directory, design, against)
    while run and (drawn := _within(found, limit)):
        _print(found, design)
        for test in drawn:
            _draw(directory, test, execution)
        found = _tests(directory, design, against)
    _print(found, design)
    for line in _advice(directory, found, limit):
        print(line)


def _resume(directory: Path, execution: Execution) -> None:
    """Finishes the runs of the study's last command, which may have been interrupted."""
    import seqeval
    from seqeval.execution.jobs import resolve
    from seqeval.execution.storage import StudyDirectory

    from . import config_file

    where = StudyDirectory(directory)
    last = where.study()["invocations"][-1]
    variants = list(dict.fromkeys(name for of in last["updates"].values() for name in of))
    sweep_seeds = last.get("sweep_seeds", ())
    study = config_file.study_again(directory, last["updates"], variants, last["seeds"], sweep_seeds)
    if not resolve(study).is_finished(where):
        seqeval.run(study, directory, execution, plain_console(stderr=True))


def _tests(directory: Path, design: Design, against: str | None) -> list[SequentialTest]:
    from seqeval import analysis
    from seqeval.analysis import enough
    from seqeval.execution.storage import frame

    rows = frame([directory])
    rows = analysis.with_planned_end(rows, analysis.studies_of(rows))
    failed = [seed for seed in analysis.incomplete_seeds(rows) if seed[-1].startswith("failed")]
    for dataset, variant, _, seed, reason in failed:
        raise UserError(
            f"{dataset}, {variant}, seed {seed}: {reason}, so it has no value to test; test without "
            "this variant, in a study of the others"
        )
    if incomplete := analysis.describe_incomplete(rows):
        raise UserError(
            f"{incomplete[0]}: the test needs every seed; finish the study, for example with --run"
        )
    rows, _ = analysis.complete_rows(rows)
    return enough.sequential_tests(rows, design, against)


def _within(found: Sequence[SequentialTest], limit: int | None) -> list[SequentialTest]:
    """The tests whose next interim stays within the limit of seeds."""
    return [test for test in found if test.missing and (limit is None or test.needed <= limit)]


def _draw(directory: Path, test: SequentialTest, execution: Execution) -> None:
    """Trains the seeds of a test's next interim in the study's own directory."""
    import seqeval

    from . import config_file

    for variants, seeds in _draws(test):
        study = config_file.study_again(directory, [test.dataset], variants, seeds)
        seqeval.run(study, directory, execution, plain_console(stderr=True))


def _draws(test: SequentialTest) -> Iterator[tuple[list[str], list[int]]]:
    """The variants that need the same seeds, with these."""
    for seeds in dict.fromkeys(tuple(seeds) for seeds in test.missing.values() if seeds):
        yield [name for name, missing in test.missing.items() if tuple(missing) == seeds], list(seeds)


def _print(found: Sequence[SequentialTest], design: Design) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("dataset", "variant", "compared with", "decision", "difference", "seeds tested"):
        table.add_column(header, justify="right" if header in ("difference", "seeds tested") else "left")
    for test in found:
        for c in test.comparisons:
            difference = "" if c.difference is None else f"{c.difference:+.1f} ({test.unit})"
            seeds = str(c.interims * design.per_interim)
            cells = (test.dataset, c.first, c.second, DECISIONS[c.decision], difference, seeds)
            table.add_row(*cells)
    plain_console(stderr=False).print(table, markup=False)


def _advice(directory: Path, found: Sequence[SequentialTest], limit: int | None) -> Iterator[str]:
    """What is still open, and the commands that continue."""
    from . import config_file

    for test in found:
        if test.decided:
            yield f"{test.dataset}: every comparison is decided"
            continue
        names = ", ".join(test.missing)
        if limit is not None and test.needed > limit:
            yield f"{test.dataset}: the limit of {limit} seeds is reached; open for {names}"
            continue
        which = "next" if any(c.interims for c in test.comparisons) else "first"
        present = ", ".join(
            f"{test.needed - len(new)} of {name}" for name, new in test.missing.items() if new
        )
        yield (
            f"{test.dataset}: the {which} interim needs {test.needed} seeds of each open variant "
            f"(present: {present}); add --run, or run"
        )
        for variants, seeds in _draws(test):
            words: list[Any] = ["seqeval", "run", "--config", directory / "study.json"]
            try:
                study = config_file.study_again(directory, [test.dataset], variants, seeds)
            except UserError as error:
                yield f"  the command cannot be written: {error}"
                continue
            words += ["--datasets", *study.datasets, "--algorithms", *study.algorithms]
            words += ["--seeds", *seeds, "--sweep-seeds", *seeds, "--out", directory]
            yield f"  {shlex.join(map(str, words))}"
