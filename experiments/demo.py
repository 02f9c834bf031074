"""The suite in three minutes: BC, TD3+BC and IQL, three seeds each, on the embedded `pendulum-replay`.

    make demo

The data arrives four transitions at a time (γ = 4), with one update after each arrival; every flag of
`seqeval run` can be given to this script too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from seqeval import Evaluation, Protocol, Study, UserError, launch
from seqeval.cli import plain_console, show_results

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc", "td3_bc", "iql"),
    seeds=(0, 1, 2),
    protocol=Protocol(start=1000, grow_by=4),
    evaluation=Evaluation(points=20, episodes=10),
)


def main(
    study: Annotated[Study, tyro.conf.arg(name="")] = STUDY,
    out: Path = Path("runs/demo"),
    jobs: int | None = None,
) -> int:
    console = plain_console(stderr=True)
    console.print(
        f"{', '.join(study.algorithms)} on {', '.join(study.datasets)}: {study.protocol.start} transitions "
        f"at first, then γ = {study.protocol.grow_by} with every update; about two minutes on two cores",
        highlight=False,
    )
    return show_results(launch.run(study, out, jobs, console), out, out / "curves.png")


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, description=__doc__))
    except UserError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
