"""Sequential evaluation of offline reinforcement learning: score against data.  (seqeval --version)"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from seqeval.config import Execution, Study
from seqeval.errors import UserError

from . import algorithms, datasets, reporting, results, running, statistics, status
from ._terminal import plain_console as plain_console  # for experiments

app = tyro.extras.SubcommandApp()
app.command(running.run)
app.command(status.status)
app.command(results.plot)
app.command(results.compare)
app.command(name="published")(results.plot_published)
app.command(statistics.table)
app.command(results.export)
app.command(reporting.report)
app.command(datasets.app, name="datasets")
app.command(algorithms.app, name="algorithms")
app.command(name="check")(algorithms.check_algorithm)

# What a user's paths can meet.
FILE_TROUBLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


def main(arguments: list[str] | None = None) -> None:
    """The entry point of `seqeval`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"seqeval {version('seqeval-rl')}")
        return
    with exits("seqeval"):
        if arguments[:1] == ["run"]:
            study = running.study_with(running.preset_of(arguments))
            running.run.__annotations__["study"] = Annotated[study, tyro.conf.arg(name="")]
        code = app.cli(prog="seqeval", description=__doc__, args=arguments)
    sys.exit(code or 0)


def script(study: Study, out: Path, description: str | None) -> None:
    """The whole of an experiment that is a study with other defaults: its file, run, is this call.

    Every flag of `seqeval run` but the preset can be given to it.
    """

    def main(
        study: Annotated[Study, tyro.conf.arg(name="")] = study,
        out: Path = out,
        execution: Annotated[Execution, tyro.conf.arg(name="")] = running.DEFAULTS,
    ) -> int:
        return running.run_study(study, out, execution)

    with exits(Path(sys.argv[0]).stem):
        code = tyro.cli(main, description=description)
    sys.exit(code)


@contextmanager
def exits(name: str) -> Iterator[None]:
    """Ends with exit code 2 and one line, which begins with `name`, for what the user can put right."""
    try:
        yield
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and (error.filename is None or error.errno not in FILE_TROUBLE):
            raise
        where = f"{error.filename}: " if error.filename else ""  # writing to an open file names none
        advice = "; make room and give the same command again" if full else ""
        print(f"{name}: {where}{error.strerror}{advice}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on where it was saved", file=sys.stderr)
        sys.exit(130)
