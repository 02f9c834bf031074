"""Durations as people write them, and the time left of a progress bar."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text


def format_duration(seconds: float) -> str:
    """Such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class TimeLeft(ProgressColumn):
    """The estimated time until a task of a progress bar is complete; empty while it is not known."""

    max_refresh = 0.5  # seconds: a figure that changes more often cannot be read

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        text = "" if left is None or task.finished else f"{format_duration(left)} left"
        return Text(text, style="progress.remaining")
