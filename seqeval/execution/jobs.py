"""A study resolved, and how it splits into pieces of work that know nothing of each other."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import distributions, version
from math import inf
from pathlib import Path
from typing import Any

import torch

from seqeval import datasets, environments, evaluation, plugins
from seqeval.config import Evaluation, Study
from seqeval.errors import UserError
from seqeval.evaluation.episodes import Evaluator
from seqeval.evaluation.in_process import Evaluations, Here, HereAtFirst
from seqeval.evaluation.in_subprocess import Beside
from seqeval.execution.storage import Cell, RunDirectory
from seqeval.plugins import Variant
from seqeval.training import trainer
from seqeval.training.agents import Agents
from seqeval.training.lockstep import Due
from seqeval.training.matmul import MatmulBackend, default_backend
from seqeval.types import Dataset, Environment, Row, Spec

RECORDED = (
    *("seqeval-rl", "torch", "gymnasium", "mujoco", "numpy", "h5py", "pandas", "stable-baselines3"),
    *("sb3-contrib", "gymnasium-robotics", "envpool"),  # where they are installed
)


@dataclass(frozen=True)
class Players:
    """Agents as those of a piece of work, on the CPU, and what they are evaluated in: for another process."""

    variant: Variant
    environment: Environment
    seeds: tuple[int, ...]  # of the replicas
    updates: int
    env_id: str
    evaluation: Evaluation

    def __call__(self) -> tuple[Agents, Evaluator]:
        found, device = plugins.find(self.variant.algorithm), torch.device("cpu")
        return (
            trainer.make_agents(
                found, self.variant.config, self.environment, self.seeds, self.updates, device
            ),
            evaluation.evaluator(self.env_id, self.seeds, self.evaluation),
        )


@dataclass(frozen=True)
class Part:
    """Seeds of one variant on one dataset, trained together. Those that go on were saved at one update."""

    study: Study
    dataset: str  # as the user gave it
    dataset_name: str
    variant: Variant
    seeds: tuple[int, ...]
    spec: Spec
    updates: int  # of each replica
    replicas_of_seed: int  # more than one where a seed trains an agent for each size
    device: str
    arithmetic: MatmulBackend
    done: int = 0  # updates of each replica that were made before it was stopped

    @property
    def title(self) -> str:
        return _title([self.dataset_name], self.variant, self.seeds)

    @property
    def replicas(self) -> int:
        return len(self.seeds) * self.replicas_of_seed

    def cells(self, out: RunDirectory) -> list[Cell]:
        """Where its seeds are kept."""
        return [out.cell(self.dataset_name, self.variant.name, seed) for seed in self.seeds]

    def remaining(self, out: RunDirectory) -> list[Part]:
        """What of it is not finished as things stand now, in parts that go on from one update."""
        unfinished = _unfinished(out, self.dataset_name, self.variant.name, self.seeds)
        return [replace(self, seeds=seeds, done=done) for done, seeds in unfinished.items()]

    def agents(self, dataset: Dataset) -> Agents:
        return trainer.make_agents(
            plugins.find(self.variant.algorithm),
            self.variant.config,
            environments.of(dataset),
            [seed for seed, _ in trainer.replicas(self.study.protocol, self.seeds, len(dataset))],
            self.updates,
            torch.device(self.device),
        )

    def rows(
        self,
        agents: Agents,
        dataset: Dataset,
        out: RunDirectory,
        save_every: float = inf,
        stop: Callable[[], bool] = lambda: False,
        overlap: float = inf,
    ) -> Generator[Row | Due, None, None]:
        """Trains the agents, whose updates are due to the caller (see `lockstep`), and stores their cells;
        yields each row once it is stored.

        Goes on from what was saved, if it was, and saves every so many seconds. Ends between two updates once
        `stop` says so, with all saved and no cell finished. Once evaluations have taken `overlap` seconds, a
        process of their own makes them, while training goes on; on the CPU that changes no number.
        """
        cells = dict(zip(self.seeds, self.cells(out), strict=True))
        labels = {
            "study": out.path.resolve().name,
            "algorithm": self.variant.algorithm,
            "variant": self.variant.name,
        }
        with ExitStack() as open_cells:
            states: list[dict[str, Any]] = []
            for cell in cells.values():
                saved = cell.saved() if self.done else None
                cell.begin(saved)
                cell.tell(self.done, self.updates, None, save_every)
                open_cells.callback(cell.close)
                if self.done:
                    assert saved is not None, f"{cell.folder} has changed since the study began"
                    states += saved["states"]
            evaluations = open_cells.enter_context(closing(self._evaluations(agents, dataset, overlap)))
            study = self.study
            course = trainer.course_of(
                agents,
                dataset,
                study.protocol,
                study.evaluation,
                labels,
                study.online,
                states if self.done else None,
                evaluations,
            )
            began = last = time.monotonic()
            for event in course:
                if isinstance(event, Row):
                    cells[event.seed].append(event)
                    yield event
                elif isinstance(event, Due):
                    yield event
                elif (stopping := stop()) or time.monotonic() - last > save_every:
                    self._save(cells, event.states(), began, None if stopping else save_every)
                    last = time.monotonic()
                    if stopping:
                        return
        seeds = agents.algorithm.seeds
        # Of a seed's replicas the last has seen all of the data.
        last_of = {seed: replica for replica, seed in enumerate(seeds)}
        for seed, cell in cells.items():
            cell.finish({"updates": self.updates} | agents.state_of(last_of[seed]))

    def _evaluations(self, agents: Agents, dataset: Dataset, overlap: float) -> Evaluations:
        seeds, env_id, how = agents.algorithm.seeds, dataset.env_id, self.study.evaluation

        def here() -> Here:
            return Here(agents, evaluation.evaluator(env_id, seeds, how))

        if env_id is None or overlap == inf:
            return here()
        players = Players(self.variant, environments.of(dataset), seeds, self.updates, env_id, how)
        return HereAtFirst(here, partial(Beside, players, env_id), overlap)

    def _save(
        self, cells: Mapping[int, Cell], states: list[dict[str, Any]], began: float, every: float | None
    ) -> None:
        each, updates = self.replicas_of_seed, states[0]["updates"]
        speed = (updates - self.done) / (time.monotonic() - began)
        for place, cell in enumerate(cells.values()):
            cell.save(updates, states[place * each : (place + 1) * each])
            cell.tell(updates, self.updates, speed, every)


@dataclass(frozen=True)
class Work:
    """A piece of work: parts of one variant whose updates are made together. Most have one part."""

    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        names = dict.fromkeys(part.dataset_name for part in self.parts)
        seeds = sorted({seed for part in self.parts for seed in part.seeds})
        return _title(list(names), self.parts[0].variant, seeds)

    @property
    def updates(self) -> int:
        """Of all replicas together."""
        return sum(part.updates * part.replicas for part in self.parts)

    @property
    def done(self) -> int:
        """Those of them that were made before it was stopped."""
        return sum(part.done * part.replicas for part in self.parts)

    def cells(self, out: RunDirectory) -> list[Cell]:
        """Where it is kept."""
        return [cell for part in self.parts for cell in part.cells(out)]


def _title(datasets: Sequence[str], variant: Variant, seeds: Sequence[int]) -> str:
    more = f" and {len(datasets) - 1} more" if len(datasets) > 1 else ""
    return f"{datasets[0]}{more} · {variant.name} · seed {', '.join(map(str, seeds))}"


@dataclass(frozen=True)
class Resolved:
    """A study whose every name has been looked up and whose every value has been checked.

    Of the datasets it keeps what there is to say about them and not the data.
    """

    study: Study
    datasets: dict[str, dict[str, Any]]  # by the name the user gave; see `_about`
    specs: dict[str, Spec]  # likewise
    variants: list[Variant]
    device: str
    arithmetic: MatmulBackend

    @property
    def notes(self) -> list[str]:
        """What the user should know before it runs."""
        notes = [f"{about['name']}: {note}" for about in self.datasets.values() for note in about["notes"]]
        for variant in self.variants:
            if self.study.online.steps and not plugins.find(variant.algorithm).learns_online:
                notes.append(
                    f"{variant.name}: does not learn online, where its rows evaluate the same policy"
                )
        if self.study.protocol.order == "segments":
            single = [about["name"] for about in self.datasets.values() if len(about["segments"]) == 1]
            notes += [f"{name}: one segment alone, so the order is the same as shuffled" for name in single]
        for variant in self.variants:
            notes += [f"{variant.name}: {w}" for w in self.study.protocol.warnings(variant.config.batch_size)]
        if self.study.precision == "fast" and self.arithmetic.operands == "float32":
            notes.append("precision: this processor has no products of bfloat16, so fast is full here")
        return notes

    def continued(self, recorded: Mapping[str, Any]) -> Resolved:
        """With the arithmetic that its run directory was begun with; `recorded` is what that holds."""
        return replace(self, arithmetic=MatmulBackend(**recorded["arithmetic"][self.device]))

    def pending(self, out: RunDirectory, workers: int = 1, group: bool = False) -> list[Work]:
        """What is not finished yet. Seeds stay together, unless workers would be idle; with `group` datasets
        do, where the agents on them can be updated together.

        On the CPU a seed's numbers are the same, to the last bit, in whatever company it trains; on a GPU
        they are not, so there the number of workers splits nothing.
        """
        todo: list[Part] = []
        for given, about in self.datasets.items():
            for variant in self.variants:
                each = len(self.study.protocol.schedules(about["transitions"]))
                name, seeds, updates = about["name"], self.study.seeds, self._updates(about, variant)
                how = self.specs[given], updates, each, self.device, self.arithmetic
                todo += Part(self.study, given, name, variant, seeds, *how).remaining(out)
        together: dict[Any, list[Part]] = {}
        for number, part in enumerate(todo):
            together.setdefault(_company(part) if group else number, []).append(part)
        shares = -(-workers // len(together)) if todo and self.device == "cpu" else 1
        works = [
            Work(tuple(replace(part, seeds=mine) for part in parts if (mine := part.seeds[share::shares])))
            for parts in together.values()
            for share in range(shares)
        ]
        return [work for work in works if work.parts]

    def _updates(self, about: Mapping[str, Any], variant: Variant) -> int:
        """How many each replica makes on a dataset."""
        found = plugins.find(variant.algorithm)
        return trainer.updates(self.study.protocol, self.study.online, about["transitions"], found)

    def describe(self) -> dict[str, Any]:
        """The study as plain values, for the run directory."""
        return {
            "protocol": asdict(self.study.protocol),
            "online": asdict(self.study.online),
            "evaluation": asdict(self.study.evaluation),
            "precision": self.study.precision,
            "arithmetic": {self.device: asdict(self.arithmetic)},
            "datasets": {about["name"]: about for about in self.datasets.values()},
            "algorithms": {variant.name: variant.settings() for variant in self.variants},
            "runs": [
                {
                    "began": datetime.now(UTC).isoformat(timespec="seconds"),
                    "seeds": list(self.study.seeds),
                    "updates": {  # of each cell that was asked for
                        about["name"]: {v.name: self._updates(about, v) for v in self.variants}
                        for about in self.datasets.values()
                    },
                    "device": self.device,
                    "versions": {"python": platform.python_version()}
                    | {name: version(name) for name in RECORDED if any(distributions(name=name))},
                    "git_commit": _git_commit(),
                    "platform": platform.platform(),
                    "processor": processor(),
                }
            ],
        }


def _company(part: Part) -> tuple[Any, ...]:
    """What parts have in common that can be updated together."""
    variant = part.variant
    total = part.updates if plugins.find(variant.algorithm).counts_down(variant.config) else None
    return variant.name, part.spec, total


def _unfinished(
    out: RunDirectory, dataset: str, variant: str, seeds: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """The seeds that are not finished, by the updates after which they were saved; 0 where they were not."""
    found: dict[int, tuple[int, ...]] = {}
    for seed in seeds:
        cell = out.cell(dataset, variant, seed)
        if not cell.finished:
            saved = cell.saved()
            done = 0 if saved is None else saved["updates"]
            found[done] = (*found.get(done, ()), seed)
    return found


def resolve(study: Study, device: str | None = None) -> Resolved:
    """Looks every name up and checks every value. Raises UserError for the first that will not do.

    `device` is given where the study will run on other machines than this one.
    """
    variants = plugins.parse_all(study.algorithms)
    if study.protocol.learning_rate_decay and not study.online.steps:
        variants = [_decaying(variant) for variant in variants]
    if device is None:
        if study.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: torch finds no CUDA device here; use --device cpu")
        device = "cuda" if study.device != "cpu" and torch.cuda.is_available() else "cpu"
    abouts: dict[str, dict[str, Any]] = {}
    specs: dict[str, Spec] = {}
    for given in study.datasets:
        dataset = datasets.load(given, study.env, study.protocol.data_rules, study.trust_pickle)
        study.protocol.schedules(len(dataset))
        evaluation.check(dataset.env_id, study.evaluation)
        for variant in variants:
            _fit(study, dataset, variant)
        if dataset.name in {about["name"] for about in abouts.values()}:
            raise UserError(f"datasets: two are called {dataset.name!r}; rename one file")
        abouts[given] = _about(given, dataset, study.protocol.order)
        specs[given] = trainer.spec(environments.of(dataset))
    return Resolved(study, abouts, specs, variants, device, default_backend(device, study.precision))


def _fit(study: Study, dataset: Dataset, variant: Variant) -> None:
    """Raises UserError where an algorithm cannot learn from a dataset as the study has it."""
    found = plugins.find(variant.algorithm)
    space = environments.of(dataset).actions
    kind = "discrete" if isinstance(space, environments.Discrete) else "continuous"
    if kind not in found.action_spaces:
        raise UserError(
            f"{variant.name}: learns {' or '.join(found.action_spaces)} actions, and those of "
            f"{dataset.environment} are {kind}; `seqeval algorithms list` says which algorithm learns which"
        )
    if dataset.env_id is None and study.online.steps:
        raise UserError(
            f"{dataset.name}: has no environment to go on in online; leave out online.steps, or name one of "
            f"the same sizes with --env"
        )
    if not len(dataset) and not (study.online.steps and found.learns_online):
        why = (
            "it does not learn online" if study.online.steps else "there is no online phase; set online.steps"
        )
        raise UserError(f"{variant.name}: without a dataset it would learn nothing, since {why}")
    if not len(dataset) and study.online.mix != "uniform":
        raise UserError(
            f"online.mix: without a dataset there is nothing to mix with; leave {study.online.mix} out"
        )
    trainer.reward_scale(variant.config, dataset, study.protocol)


def _decaying(variant: Variant) -> Variant:
    """With the decay of its learning rate switched on, where it has one."""
    if not hasattr(variant.config, "decay_learning_rate"):
        return variant
    config: Any = variant.config
    return replace(variant, config=replace(config, decay_learning_rate=True))


def _about(given: str, dataset: Dataset, order: str) -> dict[str, Any]:
    in_turn = len(dataset.segments) > 1 and order in ("segments", "logged")
    return {
        "name": dataset.name,
        "given": given,
        "env_id": dataset.env_id,
        "logged_in": None if dataset.logged_in is None else dataset.logged_in.plain(),
        "transitions": len(dataset),
        "segments": list(dataset.segments),
        "segments_in_turn": list(dataset.segment_names) if in_turn else [],
        "episodes": len(dataset.episode_returns),
        "behaviour_return": dataset.behaviour_return,
        "reference": None if dataset.reference is None else asdict(dataset.reference),
        "digest": dataset.digest,
        "notes": list(dataset.notes),
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, `+` behind it where files differ; else None."""
    here = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        commit = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*here, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changes.stdout else "")


def processor() -> str:
    """The processor's name, as far as the platform tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
