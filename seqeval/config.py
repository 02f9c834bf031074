"""What a study is, as typed values; they are the command line too. No torch, no data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seqeval.errors import UserError
from seqeval.slicing import Interaction, Order, Schedule, Steps, Stream, size_grid
from seqeval.types import DataRules, Precision, Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Protocol:
    """What may be seen when. Raises UserError for values that mean nothing."""

    regime: Literal["stream", "retrain", "warm", "full"] = "stream"
    """stream: one continual run. retrain: a fresh agent at each of some sizes. warm: at each size the agent
    of the size before goes on. full: all of the data from the start."""
    start: int = 5000
    """T0: transitions visible before the first update; the smallest size of retrain and warm."""
    grow_by: int = 1
    """γ: transitions that arrive at once (stream)."""
    updates_per_growth: int = 1
    """K: gradient updates between two arrivals (stream)."""
    order: Order = "shuffled"
    """Order of arrival."""
    window: int | None = None
    """W: only the newest W visible transitions may be drawn; None: all of them."""
    sizes: int = 10
    """How many sizes, the last of them all of the data (retrain, warm)."""
    spacing: Literal["linear", "geometric"] = "linear"
    """How the sizes lie between start and all (retrain, warm)."""
    updates_per_size: int = 20_000
    """Gradient updates at each size (retrain, warm, full)."""
    counted_from_zero: bool = False
    """K⌈N/γ⌉ updates instead of K(A + 1), the surplus once all is visible (stream)."""
    normalizer: Literal["visible", "full"] = "visible"
    """Where an algorithm's observation normaliser comes from; full is a leak, and the paper's."""
    reward_scale: Literal["reference", "full"] = "reference"
    """What IQL's rewards are scaled by: reference returns, or the best and worst episode of the full dataset,
    which is a leak, and the paper's."""
    learning_rate_decay: bool = False
    """Cosine decay over the run, where an algorithm has one (BC, and IQL's actor)."""
    data_rules: DataRules = "strict"
    """strict: cut transitions are kept where the next observation is known. qlearning: D4RL's
    qlearning_dataset, which drops every timeout and the last transition."""

    def __post_init__(self) -> None:
        _at_least_one(self, "protocol")

    def schedules(self, size: int) -> list[Schedule]:
        """A seed's replicas on `size` transitions: one schedule for each, in retrain one for each size.

        Without data there is one that does nothing. Raises UserError where the protocol does not fit.
        """
        if size == 0:
            return [Steps((), self.updates_per_size, self.window)]
        if self.regime == "stream":
            k = self.updates_per_growth
            return [Stream(size, self.start, self.grow_by, k, self.window, self.counted_from_zero)]
        sizes = size_grid(self.start, size, 1 if self.regime == "full" else self.sizes, self.spacing)
        if self.regime == "retrain":
            return [Steps((n,), self.updates_per_size, self.window) for n in sizes]
        return [Steps(sizes, self.updates_per_size, self.window)]

    def warnings(self, batch_size: int) -> list[str]:
        """What the user should know of this protocol, once a study."""
        if self.regime == "stream" and self.updates_per_growth * batch_size < self.grow_by:
            return [
                f"{self.grow_by} transitions arrive at once but only {self.updates_per_growth} × {batch_size}"
                " are drawn before the next: some may never be used"
            ]
        return []


@dataclass(frozen=True)
class Online:
    """What happens once the data is used up: the same agents go on, each in an environment of its own."""

    steps: int = 0
    """E_on: environment steps of each agent; 0: no online phase."""
    updates_per_step: int = 1
    """Gradient updates after each of them."""
    mix: Literal["uniform"] | float = "uniform"
    """uniform: minibatches are drawn from the data and from what the agent has seen online as one. A number
    between 0 and 1: that share of each is of what it has seen online."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UserError(f"online.steps: must be at least 0, not {self.steps}")
        if self.updates_per_step < 1:
            raise UserError(f"online.updates_per_step: must be at least 1, not {self.updates_per_step}")
        for name, default in (("updates_per_step", 1), ("mix", "uniform")):
            if not self.steps and getattr(self, name) != default:
                raise UserError(f"online.{name}: means nothing without an online phase; set online.steps")
        if self.mix != "uniform" and not (isinstance(self.mix, float) and 0 < self.mix < 1):
            raise UserError(f"online.mix: must be uniform, or lie between 0 and 1, and is {self.mix}")

    def schedule(self, size: int, window: int | None) -> Interaction:
        """Each replica's schedule behind `size` transitions of data."""
        share = self.mix if isinstance(self.mix, float) else None
        return Interaction(size, self.steps, self.updates_per_step, window, share)


@dataclass(frozen=True)
class Evaluation:
    """When and how long the agents are watched."""

    points: int = 20
    """P: even steps of n from start to N, with an evaluation at each end (stream; else one a size), and as
    many of the online steps."""
    episodes: int = 10
    """E: episodes at each point."""
    every: int | None = None
    """An evaluation every so many transitions instead of at even steps (stream, online)."""
    backend: Literal["gymnasium", "envpool"] = "gymnasium"
    """Whose environments they are watched in. envpool: EnvPool's, faster; their returns agree with those of
    Gymnasium's in distribution alone."""

    def __post_init__(self) -> None:
        _at_least_one(self, "evaluation")


@dataclass(frozen=True)
class Ray:
    """Where Ray runs the pieces of a study. Raises UserError for values that mean nothing."""

    address: str | None = None
    """Of the cluster (host:port, or auto for one that runs on this machine); None: that of RAY_ADDRESS, else
    one of this machine alone, for as long as the study runs."""
    gpus_per_piece: float = 0.0
    """A share of a GPU where it is below 1; with 0 pieces run on the CPU."""
    retries: int = 10
    """Times that a piece whose process or machine dies goes on somewhere."""

    def __post_init__(self) -> None:
        if self.gpus_per_piece < 0 or (self.gpus_per_piece > 1 and self.gpus_per_piece % 1):
            raise UserError(
                f"ray.gpus_per_piece: a share up to 1 or a whole number, not {self.gpus_per_piece}"
            )
        if self.retries < 0:
            raise UserError(f"ray.retries: must be at least 0, not {self.retries}")


@dataclass(frozen=True)
class Slurm:
    """What each piece of a study asks of Slurm. Raises UserError for values that mean nothing."""

    partition: str | None = None
    """None: the cluster's default."""
    time_limit: int = 60
    """Minutes. A piece that needs longer is saved shortly before, put into the queue again, and goes on."""
    cpus: int = 1
    """A piece trains with one thread; with a second CPU it evaluates beside that (see overlap)."""
    gpus: int = 0
    """With 0 pieces run on the CPU."""
    memory: float = 4.0
    """GB."""
    more: tuple[str, ...] = ()
    """Other options of sbatch: account=NAME qos=NAME constraint=NAME ..."""
    detach: bool = False
    """Do not wait; `seqeval status` says how far it is."""

    def __post_init__(self) -> None:
        if self.time_limit < 5:
            raise UserError(f"slurm.time_limit: minutes, at least 5, not {self.time_limit}")
        if self.cpus < 1 or self.gpus < 0 or self.memory <= 0:
            raise UserError(
                f"slurm: {self.cpus} cpus, {self.gpus} gpus and {self.memory:g} GB of memory will not do"
            )
        if wrong := [option for option in self.more if not option.strip("-").partition("=")[0]]:
            raise UserError(f"slurm.more: {wrong[0]!r} is no option; write them as account=NAME")


def _at_least_one(values: Protocol | Evaluation, group: str) -> None:
    for each in fields(values):
        value = getattr(values, each.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise UserError(f"{group}.{each.name}: must be at least 1, not {value}")


Preset = Literal["strict", "paper", "mixed"]
PRESETS: dict[Preset, tuple[Protocol, Evaluation]] = {
    "strict": (Protocol(), Evaluation()),
    # Sujit et al.'s released code, but for its plain bugs. It leaks.
    "paper": (
        Protocol(
            counted_from_zero=True,
            normalizer="full",
            reward_scale="full",
            learning_rate_decay=True,
            data_rules="qlearning",
        ),
        Evaluation(every=5000),
    ),
    # Their third experiment, without the leaks: datasets joined, which arrive in turn, and a window.
    "mixed": (Protocol(order="segments", window=200_000), Evaluation()),
}


@dataclass(frozen=True)
class Study:
    """Datasets × algorithms × seeds under one protocol."""

    datasets: tuple[str, ...]
    """Names (`seqeval datasets list`), paths of files (.hdf5, .h5, .npz, .pkl, .pickle), or none: online
    alone."""
    algorithms: tuple[str, ...]
    """Names (`seqeval algorithms list`), with other values where wanted: "iql:expectile=0.9,name=iql-0.9".
    An algorithm of your own: path/to/mine.py:MyAlgo, then settings likewise."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One agent for each; the seed decides the order of arrival too."""
    protocol: Protocol = field(default_factory=Protocol)
    online: Online = field(default_factory=Online)
    evaluation: Evaluation = field(default_factory=Evaluation)
    env: str | None = None
    """Gymnasium environment of files and of none: needed where they name none, and goes before the one they
    name. D4RL's AntMaze, Maze2d and Kitchen are evaluated in it, if its spaces are theirs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""
    precision: Precision = "full"
    """full: products of float32. fast: large ones round what they multiply, to bfloat16 where the processor
    has it and to TF32 on a GPU."""
    trust_pickle: bool = False
    """Load pickles that run code when they are loaded, as Stable-Baselines3's replay buffers do."""

    def __post_init__(self) -> None:
        for name in ("datasets", "algorithms", "seeds"):
            values = getattr(self, name)
            if isinstance(values, str):
                raise UserError(f"{name}: wants several, as a tuple: ({values!r},)")
            if not values:
                raise UserError(f"{name}: name at least one")
            if repeated := sorted({str(v) for v in values if values.count(v) > 1}):
                raise UserError(f"{name}: {', '.join(repeated)} is named more than once")
        if min(self.seeds) < 0:
            raise UserError(f"seeds: {min(self.seeds)} is negative")
        if self.online.steps and self.protocol.regime == "retrain":
            raise UserError(
                "online.steps: under protocol.regime retrain a seed has an agent for each size, of which one "
                "alone could go on; the one that sees all of the data is that of the regime full"
            )

    def run(self, out: str | Path, **how: Any) -> pd.DataFrame:
        """Runs what is not finished of it in the directory `out` and returns all rows, one for each seed and
        point. `how`: jobs and what else `seqeval.execution.run` takes, which says the rest."""
        from seqeval import execution

        return execution.run(self, out, **how)

    def rows(self, out: str | Path, **how: Any) -> Iterator[Row]:
        """As `run`, but yields each new row as it comes, once it is stored."""
        from seqeval import execution

        return execution.rows(self, out, **how)
