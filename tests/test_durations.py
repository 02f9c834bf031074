"""Durations as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from seqeval.durations import TimeLeft, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4 s"), (100, "2 min"), (5000, "83 min"), (5450, "1 h 31 min"), (200_000, "55 h 33 min")],
)
def test_durations_have_suitable_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_time_left_of_a_bar_is_a_duration() -> None:
    clock = iter(range(1000))
    console = Console(file=io.StringIO())
    bar = Progress(console=console, get_time=lambda: float(next(clock)), auto_refresh=False)
    bar.add_task("", total=100)
    (task,) = bar.tasks
    assert TimeLeft().render(task).plain == ""
    for done in (1, 2):
        bar.update(task.id, completed=done)
    assert task.time_remaining is not None
    assert TimeLeft().render(task).plain == f"{format_duration(task.time_remaining)} left"
    bar.update(task.id, completed=100)
    assert TimeLeft().render(task).plain == ""
