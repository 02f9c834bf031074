"""The settings of a study and of its execution: frozen dataclasses, which the command line uses too.

Each raises UserError for values of a wrong type, and for values that are not allowed. This module imports
neither torch nor data.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from seqeval.errors import UserError
from seqeval.sweeps import Sweep
from seqeval.types import DataRules, Order, Precision
from seqeval.validation import check_fields, refuse_unknown_keywords

if TYPE_CHECKING:
    from seqeval.slicing import Interaction, Schedule

    AlgorithmName = str | type  # `Study` replaces a class by its name
else:
    AlgorithmName = str

Overlap = Literal["auto", "on", "off"]


@refuse_unknown_keywords
@dataclass(frozen=True)
class Protocol:
    """Which data is visible when."""

    regime: Literal["stream", "retrain", "warm", "full"] = "stream"
    """stream: one continual run. retrain: a fresh agent at each of several sizes. warm: as retrain, but each
    size continues with the agent of the previous one. full: all of the data from the start."""
    start: int = 5000
    """T0: transitions visible before the first update; the smallest size of retrain and warm."""
    grow_by: int = 1
    """γ: transitions that arrive at a time (stream)."""
    updates_per_growth: int = 1
    """K: gradient updates between two arrivals (stream)."""
    order: Order = "shuffled"
    """Order of arrival."""
    window: int | None = None
    """W: only the newest W visible transitions are sampled; None: all of them."""
    sizes: int = 10
    """Number of sizes; the last one is the whole dataset (retrain, warm)."""
    spacing: Literal["linear", "geometric"] = "linear"
    """Spacing of the sizes between start and the whole dataset (retrain, warm)."""
    updates_per_size: int = 20_000
    """Gradient updates at each size (retrain, warm, full)."""
    counted_from_zero: bool = False
    """K⌈N/γ⌉ updates instead of K(A + 1); the additional ones follow once all data is visible (stream)."""
    normalizer: Literal["visible", "full"] = "visible"
    """Data that an algorithm's observation normaliser is computed from. full is a leak, which the paper's
    code has."""
    reward_scale: Literal["reference", "full"] = "reference"
    """What IQL's rewards are scaled by: the reference returns, or the best and worst episode of the full
    dataset, which is a leak that the paper's code has."""
    learning_rate_decay: bool = False
    """Cosine decay over the run for algorithms that have one (BC, and the actor of IQL)."""
    hold_out: float = 0.0
    """h: at least this fraction of the transitions, whole episodes by seed, never arrives. N and the x axis
    are those of the rest."""
    recipes: bool = True
    """Take the settings that an algorithm's authors publish for a dataset, where they do; settings given with
    the algorithm take precedence."""
    data_rules: DataRules = "strict"
    """strict: a transition at which an episode was cut is kept if its next observation is known. qlearning:
    D4RL's qlearning_dataset, which drops every timeout and the last transition."""

    def __post_init__(self) -> None:
        check_fields(self, "protocol")
        _require_positive(self, "protocol")
        if not 0 <= self.hold_out < 1:
            raise UserError(f"protocol.hold_out: must be at least 0 and below 1, not {self.hold_out}")
        if self.hold_out and self.reward_scale == "full":
            raise UserError(
                "protocol.hold_out: with protocol.reward_scale full, rewards are scaled by held-out episodes "
                "too; use --protocol.reward-scale reference"
            )

    def schedules(self, size: int) -> list[Schedule]:
        """The schedules of a run's replicas on `size` transitions: one, or one for each size (retrain).

        Without data there is one schedule without updates. Raises UserError if the protocol does not fit.
        """
        from seqeval.slicing import Steps, Stream, size_grid  # imports NumPy, which --help does not need

        if size == 0:
            return [Steps((), self.updates_per_size, self.window)]
        if self.regime == "stream":
            if self.hold_out and self.start > size:
                raise UserError(
                    f"protocol.start: {self.start} transitions cannot be visible at first, since "
                    f"--protocol.hold-out {self.hold_out:g} leaves {size} of the dataset; "
                    "make one of them smaller"
                )
            k = self.updates_per_growth
            return [Stream(size, self.start, self.grow_by, k, self.window, self.counted_from_zero)]
        sizes = size_grid(self.start, size, 1 if self.regime == "full" else self.sizes, self.spacing)
        if self.regime == "retrain":
            return [Steps((n,), self.updates_per_size, self.window) for n in sizes]
        return [Steps(sizes, self.updates_per_size, self.window)]

    def warnings(self, batch_size: int) -> list[str]:
        """Notes for the user, printed once per study."""
        if self.regime == "stream" and self.updates_per_growth * batch_size < self.grow_by:
            return [
                f"{self.grow_by} transitions arrive at a time but only {self.updates_per_growth} × "
                f"{batch_size} are sampled before the next arrival: some may never be used"
            ]
        return []


@refuse_unknown_keywords
@dataclass(frozen=True)
class Online:
    """The online phase: once the data is used up, each agent continues in an environment of its own."""

    steps: int = 0
    """E_on: environment steps of each agent; 0: no online phase."""
    updates_per_step: int | None = None
    """Gradient updates after each step (default: what the algorithm's authors use, 1 for most)."""
    mix: Literal["uniform"] | float | None = None
    """uniform: minibatches are sampled from offline and online data together. A number between 0 and 1: the
    share of each minibatch that is online data (default: what the algorithm's authors use, uniform for
    most)."""

    def __post_init__(self) -> None:
        check_fields(self, "online")
        if self.steps < 0:
            raise UserError(f"online.steps: must be at least 0, not {self.steps}")
        if self.updates_per_step is not None and self.updates_per_step < 1:
            raise UserError(f"online.updates_per_step: must be at least 1, not {self.updates_per_step}")
        for name in ("updates_per_step", "mix"):
            if not self.steps and getattr(self, name) is not None:
                raise UserError(f"online.{name}: has no effect without an online phase; set online.steps")
        if self.mix not in (None, "uniform") and not (isinstance(self.mix, float) and 0 < self.mix < 1):
            raise UserError(f"online.mix: must be uniform or a number between 0 and 1, not {self.mix}")

    def with_defaults(self, updates_per_step: int, mix: Literal["uniform"] | float) -> Online:
        """With an algorithm's own values where none are given."""
        if not self.steps:
            return self
        given = {name: value for name, value in vars(self).items() if value is not None}
        return Online(**({"updates_per_step": updates_per_step, "mix": mix} | given))

    def schedule(self, size: int, window: int | None) -> Interaction:
        """The schedule of each replica after `size` transitions of offline data."""
        from seqeval.slicing import Interaction

        share = self.mix if isinstance(self.mix, float) and size else None
        return Interaction(size, self.steps, self.updates_per_step or 1, window, share)


@refuse_unknown_keywords
@dataclass(frozen=True)
class Evaluation:
    """When and how the agents are evaluated."""

    points: int = 20
    """P: number of intervals between evaluations. They are at n = start + i (N − start)/P for i = 0 … P, so P
    intervals give P + 1 offline points (stream; otherwise one per size); online P more points follow."""
    episodes: int = 10
    """E: episodes at each point."""
    every: int | None = None
    """Evaluate every so many transitions instead of at even steps (stream, online)."""
    backend: Literal["gymnasium", "envpool"] = "gymnasium"
    """Whose environments run the episodes. envpool: EnvPool's, which are faster; their returns agree with
    Gymnasium's in distribution only."""
    metrics: tuple[str, ...] = ("episodes", "prequential", "initial-value")
    """What is measured at each point, optionally with settings: episodes (where there is an environment),
    prequential, initial-value, "fqe:updates=500", held-out, soft-opc, evaluators of installed packages, or
    path/to/mine.py:Name."""

    def __post_init__(self) -> None:
        check_fields(self, "evaluation")
        _require_positive(self, "evaluation")
        if repeated := sorted({name for name in self.metrics if self.metrics.count(name) > 1}):
            raise UserError(f"evaluation.metrics: {', '.join(repeated)} is named more than once")


@refuse_unknown_keywords
@dataclass(frozen=True)
class Ray:
    """How a Ray cluster runs the jobs of a study."""

    address: str | None = None
    """Address of the cluster: host:port, or auto for one that runs on this machine. None: RAY_ADDRESS, else a
    cluster of this machine alone that ends with the study."""
    gpus_per_job: float = 0.0
    """GPUs of each job; below 1 it is a share of a GPU, with 0 jobs run on the CPU."""
    retries: int = 10
    """How often a job whose process or machine dies is resumed."""

    def __post_init__(self) -> None:
        check_fields(self, "ray")
        if self.gpus_per_job < 0 or (self.gpus_per_job > 1 and self.gpus_per_job % 1):
            raise UserError(f"ray.gpus_per_job: a share up to 1 or a whole number, not {self.gpus_per_job:g}")
        if self.retries < 0:
            raise UserError(f"ray.retries: must be at least 0, not {self.retries}")


@refuse_unknown_keywords
@dataclass(frozen=True)
class Slurm:
    """What each job of a study requests from Slurm."""

    partition: str | None = None
    """None: the cluster's default."""
    time_limit: int = 60
    """Minutes. A job that needs longer is saved shortly before the limit, requeued and resumed."""
    cpus: int = 1
    """A job trains with one thread; with a second CPU it evaluates in parallel (see overlap)."""
    gpus: int = 0
    """With 0 jobs run on the CPU."""
    memory: float = 4.0
    """GB."""
    more: tuple[str, ...] = ()
    """Other options of sbatch: account=NAME qos=NAME constraint=NAME ..."""
    detach: bool = False
    """Return at once instead of waiting; `seqeval status` shows the progress."""

    def __post_init__(self) -> None:
        check_fields(self, "slurm")
        if self.time_limit < 5:
            raise UserError(f"slurm.time_limit: minutes, at least 5, not {self.time_limit}")
        if self.cpus < 1 or self.gpus < 0 or self.memory <= 0:
            raise UserError(
                f"slurm: {self.cpus} cpus, {self.gpus} gpus and {self.memory:g} GB of memory are not possible"
            )
        if wrong := [option for option in self.more if not option.strip("-").partition("=")[0]]:
            raise UserError(f"slurm.more: {wrong[0]!r} is not an option; write options as account=NAME")


@refuse_unknown_keywords
@dataclass(frozen=True)
class Execution:
    """How a study is executed. On a CPU these settings do not affect results."""

    jobs: int | None = None
    """Jobs to run in parallel (default: one per core; one on a GPU; all that a Ray cluster has room for; all
    jobs at once in Slurm)."""
    group: bool = False
    """Train an algorithm's replicas on all datasets with equal observation and action sizes in one job, to
    use a GPU that few replicas leave idle. All these datasets are in memory at the same time."""
    save_every: float = 60.0
    """Seconds between two checkpoints of each job."""
    redo: tuple[str, ...] = ()
    """Variants whose runs are removed and trained again, for an algorithm whose file has changed. If it is
    interrupted, run the command without this flag to resume."""
    keep_policies: bool = False
    """Also store the policy at every point of a curve, for `load_policy(..., samples=n)`; points that were
    trained without it keep none. With the built-in algorithms' networks a policy of Hopper takes 0.28 MB."""
    launcher: str = "local"
    """Where the jobs run: local (this machine), ray, slurm, a launcher of an installed package, or
    path/to/mine.py:Name. Every machine must see the output directory."""
    ray: Ray = field(default_factory=Ray)
    slurm: Slurm = field(default_factory=Slurm)
    overlap: Overlap = "auto"
    """on: each job evaluates in a second process, on the CPU, while it trains. auto: on a GPU; on a CPU if
    there are more cores than jobs and evaluations take more than a few seconds; on a cluster if a job has
    more than one CPU."""
    log: Literal["tensorboard", "wandb"] | None = None
    """Also write scores, returns and losses for TensorBoard, to OUT/tensorboard, or for Weights & Biases, to
    OUT/wandb and its server (with WANDB_MODE=offline not to the server)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"jobs: must be at least 1, not {self.jobs}")
        if not self.save_every >= 0:
            raise UserError(f"save_every: must be a number of seconds, not {self.save_every}")
        for name, settings, default in (("ray", self.ray, Ray()), ("slurm", self.slurm, Slurm())):
            if self.launcher != name and settings != default:
                raise UserError(f"{name}: these settings have no effect without --launcher {name}")
        if self.log is not None and self.detached:
            raise UserError(f"log: {self.log} needs the command to wait for rows; remove slurm.detach")

    @property
    def detached(self) -> bool:
        """Whether the command returns before the jobs have ended."""
        return self.launcher == "slurm" and self.slurm.detach


def _algorithm_name(given: object) -> object:
    """The name of a class of an algorithm, the text of a sweep; anything else unchanged."""
    if isinstance(given, Sweep):
        return str(replace(given, algorithm=str(_algorithm_name(given.algorithm))))
    if isinstance(given, type) and not hasattr(given, "Config"):
        raise UserError(
            f"algorithms: {given.__name__} is not an algorithm; give a name, or a subclass of "
            "seqeval.Algorithm or seqeval.SingleAlgorithm"
        )
    if not isinstance(given, type):
        return given
    from seqeval.loading import reference  # searches packages, which --help does not need

    return reference(given, "seqeval.algos")


def _require_positive(settings: Protocol | Evaluation, group: str) -> None:
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise UserError(f"{group}.{item.name}: must be at least 1, not {value}")


Preset = Literal["strict", "paper", "mixed"]
PRESETS: dict[Preset, tuple[Protocol, Evaluation]] = {
    "strict": (Protocol(), Evaluation()),
    # The released code of Sujit et al. without its bugs, but with its leaks.
    "paper": (
        Protocol(
            counted_from_zero=True,
            normalizer="full",
            reward_scale="full",
            learning_rate_decay=True,
            recipes=False,
            data_rules="qlearning",
        ),
        Evaluation(every=5000),
    ),
    # Their third experiment without the leaks: joined datasets that arrive in turn, and a window.
    "mixed": (Protocol(order="segments", window=200_000), Evaluation()),
}


@refuse_unknown_keywords
@dataclass(frozen=True)
class Study:
    """Datasets × algorithms × seeds under one protocol."""

    datasets: tuple[str, ...]
    """Names (`seqeval datasets list`), paths of files (.hdf5, .h5, .npz, .pkl, .pickle), or none: no offline
    data."""
    algorithms: tuple[AlgorithmName, ...]
    """Names (`seqeval algorithms list`), optionally with settings: "iql:expectile=0.9,name=iql-0.9". Your own
    algorithm: path/to/mine.py:MyAlgo, optionally with settings. Sweeps: "iql:expectile=0.5|0.7|0.9" for each
    value, "td3_bc:random(12),alpha=log(0.5,10)" for 12 random ones. In Python also a class or a Sweep."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run for each; the seed also determines the order of arrival."""
    protocol: Protocol = field(default_factory=Protocol)
    online: Online = field(default_factory=Online)
    evaluation: Evaluation = field(default_factory=Evaluation)
    env: str | None = None
    """Gymnasium environment of datasets that are files, and of none: required if a file names none, and takes
    precedence over the one it names. "none": a file has no environment, and agents are measured on its data
    alone. D4RL's AntMaze, Maze2d and Kitchen are evaluated in it if its spaces are the same."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one."""
    precision: Precision = "full"
    """full: float32 matrix products. fast: the operands of large matrix products are rounded, to bfloat16 if
    the processor supports it, to TF32 on a GPU."""
    trust_pickle: bool = False
    """Load pickles that run code while loading, such as replay buffers of Stable-Baselines3."""
    sweep_seeds: tuple[int, ...] = ()
    """Seeds of the variants of sweeps; none: those of `seeds`."""

    def __post_init__(self) -> None:
        if isinstance(self.algorithms, list | tuple):
            object.__setattr__(self, "algorithms", tuple(map(_algorithm_name, self.algorithms)))
        check_fields(self)
        for name in ("datasets", "algorithms", "seeds", "sweep_seeds"):
            values = getattr(self, name)
            if not values and name != "sweep_seeds":
                raise UserError(f"{name}: name at least one")
            if repeated := sorted({str(v) for v in values if values.count(v) > 1}):
                raise UserError(f"{name}: {', '.join(repeated)} is named more than once")
            if name.endswith("seeds") and min(values, default=0) < 0:
                raise UserError(f"{name}: {min(values)} is negative")
        if self.online.steps and self.protocol.regime == "retrain":
            raise UserError(
                "online.steps: protocol.regime retrain trains a separate agent for each size, so there is no "
                "single agent to continue online; use protocol.regime full for the agent that sees all data"
            )
