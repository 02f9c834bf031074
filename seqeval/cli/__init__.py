"""Sequential evaluation of offline reinforcement learning: scores as a function of the amount of data.

Use "seqeval --version" to print the version.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro

from seqeval.config import Execution, Study
from seqeval.errors import PluginError, UserError, printable

from . import (
    _exit_codes,
    algorithms,
    choosing,
    config_file,
    datasets,
    enough,
    evaluating,
    published,
    reporting,
    results,
    running,
    statistics,
    status,
    video,
)
from ._terminal import plain_console as plain_console  # for experiments

app = tyro.extras.SubcommandApp()
app.command(running.run)
app.command(status.status)
app.command(evaluating.evaluate)
app.command(choosing.choose)
app.command(enough.enough)
app.command(results.plot)
app.command(results.compare)
app.command(statistics.table)
app.command(results.export)
app.command(reporting.report)
app.command(video.video)
app.command(datasets.app, name="datasets")
app.command(algorithms.app, name="algorithms")
app.command(published.app, name="published")
app.command(name="check")(algorithms.check_plugin)

# Errors that a path given by the user can cause.
PATH_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


def main(arguments: list[str] | None = None) -> None:
    """The entry point of the command `seqeval`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"seqeval {version('seqeval-rl')}")
        return
    with handle_errors("seqeval"):
        if arguments[:1] == ["run"]:
            arguments = ["run", *config_file.expanded(arguments[1:])]
            study = running.study_with(running.preset_of(arguments))
            running.run.__annotations__["study"] = Annotated[study, tyro.conf.arg(name="")]
        code = app.cli(prog="seqeval", description=f"{__doc__}\n{_exit_codes.HELP}", args=arguments)
    sys.exit(code or 0)


def script(study: Study, out: Path, description: str | None) -> None:
    """Runs an experiment script that consists of one study with its own defaults.

    The script accepts every flag of `seqeval run` except --preset. `out` is the default study directory,
    `description` the text of --help.
    """

    def main(
        study: Annotated[Study, tyro.conf.arg(name="")] = study,
        out: Path = out,
        execution: Annotated[Execution, tyro.conf.arg(name="")] = running.DEFAULTS,
    ) -> int:
        return running.run_study(study, out, execution)

    with handle_errors(Path(sys.argv[0]).stem):
        code = tyro.cli(main, description=description)
    sys.exit(code)


@contextmanager
def handle_errors(name: str) -> Iterator[None]:
    """Turns errors that the user can correct, and faults of plug-ins, into text without our traceback.

    The text begins with `name`; `_exit_codes` lists the codes. If the reader of the output is gone, the code
    is that of a bug. Other errors keep their traceback.
    """
    try:
        yield
    except UserError as error:
        lines = str(error).split("\n") if error.several_lines else [str(error)]
        print(f"{name}: " + "\n".join(map(printable, lines)), file=sys.stderr)
        sys.exit(_exit_codes.USER_ERROR)
    except PluginError as error:
        print(f"{name}: " + "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)
        sys.exit(_exit_codes.FAILED_RUNS)
    except BrokenPipeError:  # the reader of the output is gone, as with `seqeval ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_exit_codes.BUG)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and (error.filename is None or error.errno not in PATH_ERRORS):
            raise
        location = f"{error.filename}: " if error.filename else ""  # an error in an open file has no name
        advice = "; free some space and run the same command again" if full else ""
        print(f"{name}: {printable(location)}{error.strerror}{advice}", file=sys.stderr)
        sys.exit(_exit_codes.USER_ERROR)
    except MemoryError:
        print(f"{name}: out of memory; free some, or run fewer jobs in parallel", file=sys.stderr)
        sys.exit(_exit_codes.USER_ERROR)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(_exit_codes.STOPPED)
