"""The progress of a data collection on the console."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress

from seqeval.durations import TimeLeft

LINE_SECONDS = 10.0  # between two lines if the output is not a terminal

Report = Callable[[int, str], None]  # takes the amount of work done and a note


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Report]:
    """Shows a bar on a terminal; otherwise prints a line every LINE_SECONDS and one at the end."""
    percent = "{task.percentage:>3.0f} %"
    columns = ("{task.description}", BarColumn(bar_width=24), percent, TimeLeft(), "{task.fields[note]}")
    last_shown = time.monotonic()
    interval = 0.1 if console.is_terminal else LINE_SECONDS
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, note="")

        def report(done: int, note: str) -> None:
            nonlocal last_shown
            if done < total and time.monotonic() - last_shown < interval:
                return
            last_shown = time.monotonic()
            bar.update(task, completed=done, note=note)
            if not console.is_terminal:
                line = f"{done / total:4.0%}  {title}: {done} of {total}"
                console.print(f"{line}  ·  {note}" if note else line, highlight=False, markup=False)

        yield report
