"""A study with every name looked up and every value checked, and the jobs that remain to be run."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from typing import Any

import torch

from seqeval import datasets, environments, evaluation, plugins, recipes
from seqeval.algorithm import structure
from seqeval.config import Protocol, Study
from seqeval.errors import UserError
from seqeval.execution.provenance import git_commit, processor
from seqeval.execution.remaining import remaining
from seqeval.execution.storage import StudyDirectory
from seqeval.loading import code_sha256
from seqeval.plugins import Variant
from seqeval.recipes import Recipe
from seqeval.replay.episodes import BestEpisodes
from seqeval.slicing import arriving_size
from seqeval.training.agents import spec_of
from seqeval.training.arrival import arrival
from seqeval.training.job import Job, Replica
from seqeval.training.matmul import MatmulBackend, default_backend
from seqeval.training.trainer import reward_scale
from seqeval.types import Dataset, Environment, Image

# Orders that differ from another one only where a dataset has several segments.
ONE_SEGMENT = {"segments": "shuffled", "segments-by-episode": "episodes"}
IN_TURN = ("segments", "segments-by-episode", "logged")  # orders in which segments arrive one after the other
RECORDED = (
    *("seqeval-rl", "torch", "gymnasium", "mujoco", "numpy", "h5py", "pandas", "stable-baselines3"),
    *("sb3-contrib", "gymnasium-robotics", "envpool"),  # if they are installed
)


@dataclass(frozen=True)
class ResolvedStudy:
    """A study whose names have been looked up and whose values have been checked.

    It holds a description of each dataset, not the data.
    """

    study: Study
    descriptions: Mapping[str, Mapping[str, Any]]  # of each dataset, by its name; see `_describe`
    environments: Mapping[str, Environment]  # likewise
    variants: Sequence[Variant]
    device: str
    backend: MatmulBackend
    data_notes: Sequence[str] = ()  # what algorithms and evaluators note on datasets
    recipes: Mapping[str, Mapping[str, Recipe]] = field(default_factory=dict)  # by dataset and variant

    @property
    def notes(self) -> list[str]:
        """Notes for the user before the study runs."""
        described, protocol = self.descriptions.values(), self.study.protocol
        notes = [f"{entry['name']}: {note}" for entry in described for note in entry["notes"]]
        notes += dict.fromkeys(self.data_notes)
        notes += self._recipe_notes()
        notes += [note for variant in self.variants for note in self._online_notes(variant)]
        if protocol.order in ONE_SEGMENT:
            single = [entry["name"] for entry in described if len(entry["segments"]) == 1]
            same = ONE_SEGMENT[protocol.order]
            notes += [f"{name}: has only one segment, so the order is the same as {same}" for name in single]
        for variant in self.variants:
            if plugins.find(variant.algorithm).learns_offline:
                sizes = {self.variant_on(name, variant).config.batch_size for name in self.descriptions}
                notes += [f"{variant.name}: {note}" for note in protocol.warnings(max(sizes))]
        if self.study.precision == "fast" and self.backend.operands == "float32":
            notes.append(
                "precision: this processor does not support bfloat16, so fast is the same as full here"
            )
        return notes

    def _online_notes(self, variant: Variant) -> list[str]:
        """What a variant does in the online phase, where that is not the usual."""
        if self.study.online.steps and not plugins.find(variant.algorithm).learns_online:
            return [f"{variant.name}: does not learn online; its online rows evaluate the same policy"]
        online = self._online(variant).get("online", {})
        updates, mix = online.get("updates_per_step", 1), online.get("mix", "uniform")
        if (updates, mix) == (1, "uniform"):
            return []
        made = f"{updates} update{'s' * (updates > 1)} after each step; minibatches are "
        source = "sampled uniformly" if mix == "uniform" else f"{100 * mix:g} % online data"
        return [f"{variant.name}: online, {made}{source}"]

    def variant_on(self, dataset: str, variant: Variant) -> Variant:
        """A variant with its settings on a dataset."""
        recipe = self.recipes.get(dataset, {}).get(variant.name)
        return variant if recipe is None else plugins.with_recipe(variant, recipe)

    def _recipe_notes(self) -> list[str]:
        """What the recipes change, and where there is none."""
        notes = []
        for variant in self.variants:
            if not self.study.protocol.recipes or not recipes.exists(variant.algorithm):
                continue
            of_datasets = {name: self.recipes.get(name, {}).get(variant.name) for name in self.descriptions}
            if without := [name for name, recipe in of_datasets.items() if recipe is None]:
                names = ", ".join(without)
                notes.append(f"{variant.name}: no recipe for {names}, so the defaults are used")
            for name, recipe in of_datasets.items():
                if recipe is None:
                    continue
                title = f"{variant.name} on {name}"
                settings = asdict(self.variant_on(name, variant).config)
                changes = [
                    f"{key} {value}"
                    for key, value in settings.items()
                    if key not in variant.given and value != getattr(variant.config, key)
                ]
                notes.append(
                    f"{title}: recipe of {recipe.source} ({recipe.phase}): "
                    f"{', '.join(changes) or 'the same as the defaults'}"
                )
                notes += [
                    f"{title}: {theirs} is not applied: {why}" for theirs, why in recipe.without.items()
                ]
        return notes

    def resumed(self, stored: Mapping[str, Any]) -> ResolvedStudy:
        """With the matmul backend that `stored`, the study of the directory, was started with."""
        return replace(self, backend=MatmulBackend(**stored["matmul"][self.device]))

    def is_finished(self, directory: StudyDirectory) -> bool:
        """Whether every run has finished. Unlike `jobs` this reads no checkpoint."""
        return all(
            directory.run(name, variant.name, seed).finished
            for name in self.descriptions
            for variant in self.variants
            for seed in self.seeds(variant)
        )

    def seeds(self, variant: Variant) -> tuple[int, ...]:
        """The seeds of the runs of a variant."""
        return self.study.seeds if variant.sweep is None else self.study.sweep_seeds or self.study.seeds

    def jobs(self, directory: StudyDirectory, workers: int = 1, group: bool = False) -> list[Job]:
        """The jobs of all runs that have not finished.

        The seeds of a variant on a dataset share a job, and so do variants that differ in batchable settings
        only, unless that would leave workers idle; with `group` so do datasets with equal spaces. On the CPU
        a run's numbers are the same, to the last bit, in any job; on a GPU they are not, so there the number
        of workers does not divide jobs.
        """
        batches: dict[Any, list[Job]] = {}
        for name, entry in self.descriptions.items():
            for together in self._batchable_variants(name):
                job = self._job(name, entry["transitions"], together)
                for number, part in enumerate(remaining(job, directory)):
                    key = (name, together[0].name, number)
                    batches.setdefault(_group_key(part) if group else key, []).append(part)
        shares = -(-workers // len(batches)) if batches and self.device == "cpu" else 1
        jobs = []
        for parts in batches.values():
            replicas = [replica for part in parts for replica in part.replicas]
            # A share has the same variants and seeds on all datasets.
            runs = list(dict.fromkeys((replica.variant.name, replica.seed) for replica in replicas))
            for share in range(shares):
                of_share = set(runs[share::shares])
                chosen = [r for r in replicas if (r.variant.name, r.seed) in of_share]
                if chosen:
                    jobs.append(parts[0].with_replicas(chosen))
        return jobs

    def _batchable_variants(self, dataset: str) -> list[list[Variant]]:
        """The variants on a dataset, those together that can be trained in one job."""
        groups: dict[Any, list[Variant]] = {}
        for variant in (self.variant_on(dataset, variant) for variant in self.variants):
            groups.setdefault((variant.algorithm, structure(variant.config)), []).append(variant)
        return list(groups.values())

    def _job(self, dataset: str, size: int, variants: Sequence[Variant]) -> Job:
        """All seeds of some variants of an algorithm on a dataset."""
        learns_offline = plugins.find(variants[0].algorithm).learns_offline
        schedules = self.study.protocol.schedules(size if learns_offline else 0)
        return Job(
            self.study,
            tuple(
                Replica(dataset, variant, seed, schedule)
                for variant in variants
                for seed in self.seeds(variant)
                for schedule in schedules
            ),
            {name: entry["given"] for name, entry in self.descriptions.items()},
            self.environments,
            {name: entry["transitions"] for name, entry in self.descriptions.items()},
            self.device,
            self.backend,
        )

    def describe(self) -> dict[str, Any]:
        """The study as plain values, for the study directory."""
        return {
            "protocol": asdict(self.study.protocol),
            "online": asdict(self.study.online),
            "evaluation": asdict(self.study.evaluation),
            "evaluators": {name: code_sha256(name) for name in self.study.evaluation.metrics},
            "metrics": evaluation.declared(self.study.evaluation),
            "precision": self.study.precision,
            "matmul": {self.device: asdict(self.backend)},
            "datasets": dict(self.descriptions),
            "algorithms": {v.name: v.settings() | self._online(v) for v in self.variants},
            "recipes": {
                dataset: {name: self._describe_recipe(dataset, name) for name in of_variants}
                for dataset, of_variants in self.recipes.items()
            },
            "invocations": [
                {
                    "began": datetime.now(UTC).isoformat(timespec="seconds"),
                    "seeds": list(self.study.seeds),
                    "sweep_seeds": list(self.study.sweep_seeds),
                    "env": self.study.env,
                    "trust_pickle": self.study.trust_pickle,
                    "updates": {  # of each run
                        name: {v.name: self._updates(name, v) for v in self.variants}
                        for name in self.descriptions
                    },
                    "device": self.device,
                    "versions": {"python": platform.python_version()}
                    | {name: version(name) for name in RECORDED if any(distributions(name=name))},
                    "git_commit": git_commit(),
                    "platform": platform.platform(),
                    "processor": processor(),
                }
            ],
        }

    def _online(self, variant: Variant) -> dict[str, Any]:
        """The resolved settings of an algorithm's online phase, if it has one."""
        found, online = plugins.find(variant.algorithm), self.study.online
        if not (online.steps and found.learns_online):
            return {}
        return {"online": asdict(online.with_defaults(found.updates_per_step, found.mix))}

    def _describe_recipe(self, dataset: str, name: str) -> dict[str, Any]:
        """A recipe as plain values, with all settings of the variant on the dataset."""
        variant = next(variant for variant in self.variants if variant.name == name)
        config = asdict(self.variant_on(dataset, variant).config)
        return {**asdict(self.recipes[dataset][name]), "given": sorted(variant.given), "config": config}

    def _updates(self, dataset: str, variant: Variant) -> int:
        size, variant = self.descriptions[dataset]["transitions"], self.variant_on(dataset, variant)
        job = self._job(dataset, size, [variant])
        return job.total_updates(job.replicas[0])


def _group_key(job: Job) -> tuple[Any, ...]:
    """Equal for jobs whose replicas can be trained together."""
    replica = job.replicas[0]
    total, offline = job.total_updates(replica), replica.schedule.updates
    return (
        replica.variant.algorithm,
        structure(job.config),
        spec_of(job.environments[replica.dataset]),
        total if job.algorithm.depends_on_total_updates(job.config) else None,
        job.done,
        offline if job.done >= offline else None,
    )


def resolve(study: Study, device: str | None = None) -> ResolvedStudy:
    """Looks up every name and checks every value. Raises UserError for the first that is wrong.

    `device` is given if the study will not run on this machine.
    """
    variants = plugins.parse_all([str(name) for name in study.algorithms])
    if study.protocol.learning_rate_decay and not study.online.steps:
        variants = [_with_decay(variant) for variant in variants]
    if device is None:
        if study.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: torch finds no CUDA device on this machine; use --device cpu")
        device = "cuda" if study.device != "cpu" and torch.cuda.is_available() else "cpu"
    descriptions: dict[str, dict[str, Any]] = {}
    logged_in: dict[str, Environment] = {}
    notes: list[str] = []
    found: dict[str, dict[str, Recipe]] = {}
    for given in study.datasets:
        dataset = datasets.load(given, study.env, study.protocol.data_rules, study.trust_pickle)
        study.protocol.schedules(arriving_size(study.protocol.hold_out, dataset.episode_lengths))
        notes += evaluation.check(dataset, study)
        of_dataset = _recipes(study, dataset.name, variants)
        for variant in variants:
            recipe = of_dataset.get(variant.name)
            on_dataset = plugins.with_recipe(variant, recipe) if recipe else variant
            notes += [f"{variant.name}: {note}" for note in _check_fit(study, dataset, on_dataset)]
        if dataset.name in descriptions:
            raise UserError(f"datasets: two are called {dataset.name!r}; rename one file")
        descriptions[dataset.name] = _describe(given, dataset, study.protocol)
        logged_in[dataset.name] = environments.of(dataset)
        found[dataset.name] = of_dataset
    backend = default_backend(device, study.precision)
    return ResolvedStudy(
        study, descriptions, logged_in, variants, device, backend, list(dict.fromkeys(notes)), found
    )


def _recipes(study: Study, dataset: str, variants: Sequence[Variant]) -> dict[str, Recipe]:
    """The recipe of each variant for a dataset, where there is one and the study takes recipes."""
    if not study.protocol.recipes:
        return {}
    found = {v.name: recipes.find(v.algorithm, dataset, study.online.steps > 0) for v in variants}
    return {name: recipe for name, recipe in found.items() if recipe is not None}


def _check_fit(study: Study, dataset: Dataset, variant: Variant) -> list[str]:
    """Notes on how an algorithm learns from a dataset in a study. Raises UserError if it cannot."""
    algorithm = plugins.find(variant.algorithm)
    space = environments.of(dataset).actions
    kind = "discrete" if isinstance(space, environments.Discrete) else "continuous"
    images = isinstance(spec_of(environments.of(dataset)).observation, Image)
    supported = algorithm.image_action_spaces if images else algorithm.action_spaces
    if kind not in supported:
        where, hint = dataset.environment, "`seqeval algorithms list` shows what each algorithm supports"
        if not supported:
            what = "images" if images else "vectors"
            raise UserError(f"{variant.name}: does not learn from {what}, which {where} has; {hint}")
        raise UserError(
            f"{variant.name}: supports {' or '.join(supported)} actions{' from images' * images}, but those "
            f"of {where} are {kind}; {hint}"
        )
    if dataset.env_id is None and study.online.steps:
        raise UserError(
            f"{dataset.name}: has no environment for an online phase; remove online.steps, or give an "
            "environment with the same spaces with --env"
        )
    if not len(dataset) and not (study.online.steps and algorithm.learns_online):
        why = (
            "it does not learn online" if study.online.steps else "there is no online phase; set online.steps"
        )
        raise UserError(f"{variant.name}: cannot learn anything without a dataset, since {why}")
    if not algorithm.learns_offline and not study.online.steps:
        raise UserError(f"{variant.name}: learns online only, with the data mixed in; set online.steps")
    if not len(dataset) and study.online.mix not in (None, "uniform"):
        raise UserError(
            f"online.mix: without a dataset there is no offline data to mix; remove {study.online.mix}"
        )
    reward_scale(variant.config, dataset, study.protocol)
    if variant.config.normalize_observations and isinstance(dataset.observation, Image):
        raise UserError(
            f"{variant.name}: images of {dataset.name} are not normalized; set normalize_observations=False"
        )
    if algorithm.needs_episodes is not None:
        _check_episodes(study, dataset, variant, algorithm.needs_episodes == "complete")
    return algorithm.check_data(variant.config, dataset, study.protocol.order)


def _check_episodes(study: Study, dataset: Dataset, variant: Variant, complete: bool) -> None:
    """Raises UserError if episodes do not arrive in one piece, or none is complete when it is needed."""
    protocol = study.protocol
    if protocol.order in ("shuffled", "segments"):
        other = "segments-by-episode" if protocol.order == "segments" else "episodes"
        raise UserError(
            f"{variant.name}: learns from episodes, whose transitions do not arrive one after the other in "
            f"the order {protocol.order}; use --protocol.order {other}"
        )
    if complete:
        for seed in study.seeds:
            size = arriving_size(protocol.hold_out, dataset.episode_lengths)
            order = arrival(protocol, dataset, seed, size).order
            for schedule in protocol.schedules(size):
                BestEpisodes(1.0, schedule, order, dataset)


def _with_decay(variant: Variant) -> Variant:
    """With learning-rate decay switched on, if the algorithm has it."""
    if not hasattr(variant.config, "decay_learning_rate"):
        return variant
    config: Any = variant.config
    return replace(variant, config=replace(config, decay_learning_rate=True))


def _describe(given: str, dataset: Dataset, protocol: Protocol) -> dict[str, Any]:
    arriving = arriving_size(protocol.hold_out, dataset.episode_lengths)
    # Held-out episodes move the borders of segments, for each seed to somewhere else.
    in_turn = len(dataset.segments) > 1 and protocol.order in IN_TURN and not protocol.hold_out
    return {
        "name": dataset.name,
        "given": given,
        "env_id": dataset.env_id,
        "logged_in": None if dataset.logged_in is None else dataset.logged_in.to_json(),
        "transitions": arriving,  # N
        "held_out": len(dataset) - arriving,  # transitions that never arrive
        "segments": list(dataset.segments),
        "segments_in_turn": list(dataset.segment_names) if in_turn else [],
        "episodes": len(dataset.episode_returns),
        "behaviour_return": dataset.behaviour_return,
        "reference": None if dataset.reference is None else asdict(dataset.reference),
        "digest": dataset.digest,
        "notes": list(dataset.notes),
    }
