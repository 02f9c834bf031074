"""The time left of a progress bar."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text

from seqeval.durations import format_duration


class TimeLeft(ProgressColumn):
    """The estimated time until a task of a progress bar is complete; empty while it is not known."""

    max_refresh = 0.5  # seconds: a figure that changes more often cannot be read

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        text = "" if left is None or task.finished else f"{format_duration(left)} left"
        return Text(text, style="progress.remaining")
