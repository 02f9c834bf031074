"""The x axis of curves: transitions or shares; in two parts of different scales if one phase is short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path as Shape
from matplotlib.ticker import EngFormatter, FixedFormatter, FixedLocator, MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

SHORT = 0.25  # share of the axis below which a phase is too short to be read
WIDE = 0.36  # share of the axis that such a phase gets
SHADE = "#F1F1EF"  # background of the part with its own scale
SLASH = Shape([(-1.0, -2.0), (1.0, 2.0)])  # the mark of a broken axis


@dataclass(frozen=True)
class DataAxis:
    """The x axis of a panel: what is seen of the data from `start` to `end`, online steps up to `last`.

    All three are in the unit of the axis: transitions, or shares of the dataset if `share` is set.
    """

    start: float
    end: float
    last: float
    share: bool = False

    @property
    def online_share(self) -> float:
        """The share of the axis that the online phase has on one scale; 0 without one."""
        return (self.last - self.end) / (self.last - self.start) if self.last > self.end else 0.0

    @property
    def broken(self) -> bool:
        """Whether one of the phases needs a scale of its own."""
        return self.start < self.end and 0 < min(self.online_share, 1 - self.online_share) < SHORT

    def set_up(self, ax: Axes, broken: bool) -> None:
        """Sets limits, scale and ticks. `broken` draws the online phase on a scale of its own, marked."""
        if self.last > self.start:
            ax.set_xlim(self.start, self.last)
        if not broken:
            ax.xaxis.set_major_formatter(PercentFormatter(1) if self.share else EngFormatter(sep=""))
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=not self.share))
            return
        wide = WIDE if self.online_share < 0.5 else 1 - WIDE
        ax.set_xscale("function", functions=self._scale(wide))
        ax.set_xlim(self.start, self.last)
        ax.axvspan(self.end, self.last, color=SHADE, lw=0, zorder=0)
        self._set_ticks(ax, wide)
        for distance in (-1.5, 1.5):  # points
            inches = ScaledTranslation(distance / 72, 0, ax.get_figure(root=True).dpi_scale_trans)
            place = {"transform": ax.get_xaxis_transform() + inches, "clip_on": False, "zorder": 5}
            ax.plot([self.end], [0], marker=SLASH, ms=7, mew=0.8, color="#333333", **place)

    def _scale(self, wide: float) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
        """From the axis' unit to places, and back: two lines that meet at the end of the data."""
        before, after = self.end - self.start, self.last - self.end
        # One more part at each end, for what lies outside the limits.
        x = np.array([self.start - before, self.start, self.end, self.last, self.last + after])
        place = np.array([wide - 1, 0, 1 - wide, 1, 1 + wide])
        return lambda values: np.interp(values, x, place), lambda places: np.interp(places, place, x)

    def _set_ticks(self, ax: Axes, wide: float) -> None:
        """Ticks of the data, and those of online steps counted from the end of the data."""
        width = ax.get_window_extent().width / ax.get_figure(root=True).dpi  # inches
        narrow = min(wide, 1 - wide) * width < 0.9  # the narrower part has room for one label
        online, data_ticks = (1, 3) if wide < 0.5 else (3, 1)
        data = MaxNLocator(data_ticks, integer=not self.share).tick_values(self.start, self.end)
        steps = MaxNLocator(online if narrow else online + 1, integer=not self.share).tick_values(
            0, self.last - self.end
        )
        room = 0.12 * (self.end - self.start) / (1 - wide)  # for the mark, and for a label beside it
        data = data[(data >= self.start) & (data <= self.end - room)]
        steps = steps[(steps > 0) & (steps <= (self.last - self.end) * (1 + 1e-9))]
        text = (lambda value: f"{100 * value:.3g}%") if self.share else EngFormatter(sep="")
        texts = [*(text(value) for value in data), *(f"+{text(value)}" for value in steps)]
        ax.xaxis.set_major_locator(FixedLocator([*data, *(self.end + steps)]))
        ax.xaxis.set_major_formatter(FixedFormatter(texts))
