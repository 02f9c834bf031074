"""How a figure is drawn: one frozen dataclass, for Python and the command line. Imports no plotting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

import tyro

from seqeval.errors import UserError, nearest
from seqeval.validation import check_fields, refuse_unknown_keywords

Band = Literal["range", "std", "ci", "none"]
XAxis = Literal["transitions", "share"]
WIDTHS = {"column": 3.25, "text": 5.5}  # inches: a column of ICML's pages, and the text of NeurIPS's


@refuse_unknown_keywords
@dataclass(frozen=True)
class FigureOptions:
    """The options of figures. A figure refuses those that would change nothing in it."""

    datasets: tuple[str, ...] = ()
    """Only these datasets, in this order. Default: all, in the order of the study."""
    algorithms: tuple[str, ...] = ()
    """Only these variants, in this order. Default: all, in the order of the study."""
    labels: Annotated[tuple[str, ...] | Mapping[str, str], tyro.conf.arg(metavar="NAME=TEXT ...")] = ()
    """Texts in place of the names of variants, datasets or studies: td3_bc="TD3+BC (ours)"."""
    title: str | None = None
    """Title above the figure."""
    width: Literal["column", "text"] | float | None = None
    """Width in inches; column: 3.25 (ICML), text: 5.5 (NeurIPS). Default: by the number of panels."""
    value: str | None = None
    """What is shown: score, return, or a column of numbers such as eval/prequential_nll or train/critic_loss.
    Default: the score; without reference returns the return; without an environment the prediction error."""
    setting: str | None = None
    """Only this swept setting, such as expectile. Default: all that were swept."""
    k: tuple[int, ...] = ()
    """Numbers of settings that are tried. Default: 1, 2, 4, ... and all."""
    budgets: tuple[int, ...] = (10, 100)
    """Episodes that a bandit may run to choose."""
    metrics: tuple[str, ...] = ()
    """Only these metrics, such as eval/fqe. Default: all that are better where they are higher or lower."""
    ylim: tuple[float, float] | None = None
    """Lowest and highest value of the y axis."""
    band: Band | None = None
    """Band around lines. range: lowest to highest seed. std: mean ± standard deviation over seeds. ci: 95 %
    bootstrap interval. none: no band. Default: range for curves, ci for figures over datasets."""
    x: XAxis = "transitions"
    """x axis of curves: transitions seen, or their share of the dataset."""
    smooth: int = 1
    """Draw the mean of each run's last SMOOTH points, within a phase; the text below the figure says so."""
    style: str | None = None
    """Style file (mine.mplstyle) or the name of one of Matplotlib's styles. Colours stay those of the names
    of variants."""

    def __post_init__(self) -> None:
        for name in ("datasets", "algorithms", "labels", "metrics"):
            value: Any = getattr(self, name)
            if isinstance(value, Mapping):
                value = [f"{key}={text}" for key, text in value.items()]
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        for label in self.labels:
            if "=" not in label:
                raise UserError(f"labels: {label!r} is not name=text, as in td3_bc='TD3+BC (ours)'")
        _require_known("band", self.band, (*get_args(Band), None))
        _require_known("x", self.x, get_args(XAxis))
        if isinstance(self.width, str):
            _require_known("width", self.width, tuple(WIDTHS))
        if self.ylim is not None:
            object.__setattr__(self, "ylim", _limits(self.ylim))
        check_fields(self)
        for name in ("k", "budgets"):
            if any(number < 1 for number in getattr(self, name)):
                raise UserError(f"{name}: must be at least 1, not {min(getattr(self, name))}")
        if isinstance(self.width, float) and not 1 <= self.width <= 50:
            raise UserError(f"width: must be from 1 to 50 inches, column or text, not {self.width:g}")
        if self.smooth < 1:
            raise UserError(f"smooth: must be at least 1 point, not {self.smooth}")

    @property
    def given(self) -> list[str]:
        """The names of the options that are not at their default."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def inches(self, default: float) -> float:
        """The width of the figure in inches; `default` if none is given."""
        if self.width is None:
            return default
        return WIDTHS[self.width] if isinstance(self.width, str) else float(self.width)


def _limits(given: Any) -> tuple[float, ...]:
    try:
        limits = tuple(map(float, given))
    except (TypeError, ValueError):
        limits = ()
    if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] >= limits[1]:
        raise UserError(f"ylim: must be two numbers, the lower one first, not {given}")
    return limits


def _require_known(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        names = [word for word in allowed if word is not None]
        raise UserError(f"{name}: must be {', '.join(names)}, not {value!r}{nearest(str(value), names)}")
