"""Progress on the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds between two lines of progress where the output is no terminal

Tell = Callable[[int, str], None]  # how much is done, and a note


@contextmanager
def progress(console: Console, title: str, total: int) -> Iterator[Tell]:
    """A bar on a terminal, elsewhere a plain line now and then and one at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    shown = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, note="")

        def tell(done: int, note: str) -> None:
            nonlocal shown
            now, every = time.monotonic(), 0.1 if console.is_terminal else PLAIN_EVERY
            if done < total and now - shown < every:
                return
            shown = now
            bar.update(task, completed=done, note=note)
            if not console.is_terminal:
                line = f"{done / total:4.0%}  {title}: {done} of {total}"
                console.print(f"{line}  ·  {note}" if note else line, highlight=False, markup=False)

        yield tell
