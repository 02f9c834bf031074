"""What a study is, as typed values; they are the command line too. No torch, no data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from seqeval.errors import UserError
from seqeval.slicing import Order, Stream


@dataclass(frozen=True)
class Protocol:
    """How the data arrives. Raises UserError for values that mean nothing."""

    start: int = 5000
    """T0: transitions visible before the first update."""
    grow_by: int = 1
    """γ: transitions that arrive at once."""
    updates_per_growth: int = 1
    """K: gradient updates between two arrivals."""
    order: Order = "shuffled"
    """Order of arrival."""
    window: int | None = None
    """W: only the newest W visible transitions may be drawn; None: all of them."""

    def __post_init__(self) -> None:
        _at_least_one(self, "protocol")

    def schedule(self, size: int) -> Stream:
        """The schedule for a dataset of `size` transitions. Raises UserError where it does not fit."""
        return Stream(size, self.start, self.grow_by, self.updates_per_growth, self.window)

    def warnings(self, batch_size: int) -> list[str]:
        """What the user should know of this protocol, once a study."""
        if self.updates_per_growth * batch_size < self.grow_by:
            return [
                f"{self.grow_by} transitions arrive at once but only {self.updates_per_growth} × {batch_size}"
                " are drawn before the next: some may never be used"
            ]
        return []


@dataclass(frozen=True)
class Evaluation:
    """When and how long the agents are watched."""

    points: int = 20
    """P: even steps of n from start to N, with an evaluation at each end."""
    episodes: int = 10
    """E: episodes at each point."""

    def __post_init__(self) -> None:
        _at_least_one(self, "evaluation")


def _at_least_one(values: Protocol | Evaluation, group: str) -> None:
    for each in fields(values):
        value = getattr(values, each.name)
        if isinstance(value, int) and value < 1:
            raise UserError(f"{group}.{each.name}: must be at least 1, not {value}")


@dataclass(frozen=True)
class Study:
    """Datasets × algorithms × seeds under one protocol."""

    datasets: tuple[str, ...]
    """Names (`seqeval datasets list`) or paths of HDF5 files in D4RL's layout."""
    algorithms: tuple[str, ...]
    """Names (`seqeval algorithms list`), with other values where wanted: "iql:expectile=0.9,name=iql-0.9"."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One agent for each; the seed decides the order of arrival too."""
    protocol: Protocol = field(default_factory=Protocol)
    evaluation: Evaluation = field(default_factory=Evaluation)
    env: str | None = None
    """Gymnasium environment of files: needed where they name none, and goes before the one they name."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""

    def __post_init__(self) -> None:
        for name in ("datasets", "algorithms", "seeds"):
            values = getattr(self, name)
            if not values:
                raise UserError(f"{name}: name at least one")
            if repeated := sorted({str(v) for v in values if values.count(v) > 1}):
                raise UserError(f"{name}: {', '.join(repeated)} is named more than once")
        if min(self.seeds) < 0:
            raise UserError(f"seeds: {min(self.seeds)} is negative")
