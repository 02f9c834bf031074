"""Recipes: which of the published settings a dataset takes, and how a study applies and reports them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Seqeval, refused

import seqeval as suite
from seqeval import plugins, recipes
from seqeval.config import PRESETS, Evaluation, Execution, Online, Protocol, Study
from seqeval.execution.jobs import ResolvedStudy, resolve
from seqeval.execution.storage import StudyDirectory

WITH_RECIPES = ("bc10", "dt", "edac", "fql", "iql", "qc_fql", "rebrac", "rlpd", "sac_n")


# --- resolution ---


@pytest.fixture
def table(monkeypatch) -> None:
    """Recipes of an invented algorithm."""

    def row(dataset: str, source: str, setting: str, value: str, phase: str = "offline") -> dict[str, str]:
        parameter, note = f"their_{setting}={value}", "" if setting else "a leak"
        values = (dataset, phase, setting, value, parameter, f"{source}:file.py", note)
        return dict(
            zip(("dataset", "phase", "setting", "value", "parameter", "source", "note"), values, strict=True)
        )

    rows = (
        row("*", "authors/code", "beta", "0"),
        row("*", "authors/code", "rate", "0.1"),
        row("hopper-*", "authors/code", "beta", "1"),
        row("hopper-medium-*", "authors/code", "beta", "2"),
        row("hopper-medium-v2", "authors/code", "beta", "3"),
        row("hopper-*", "authors/code", "", "true"),
        row("hopper-*", "authors/code", "beta", "4", "finetune"),
        row("*", "others/code", "rate", "0.7"),
        row("hopper-medium-v2", "others/code", "alpha", "5"),
        row("ant-v2", "others/code", "beta", "6"),
    )
    monkeypatch.setattr(recipes, "_table", lambda algorithm: rows if algorithm == "invented" else ())


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("dataset", "online", "source", "settings"),
    [
        ("hopper-medium-v2", False, "authors/code", {"beta": 3, "rate": 0.1}),
        ("hopper-medium-v1", False, "authors/code", {"beta": 2, "rate": 0.1}),
        ("hopper-random-v2", False, "authors/code", {"beta": 1, "rate": 0.1}),
        ("ant-v2", False, "others/code", {"beta": 6, "rate": 0.7}),
        ("hopper-medium-v2", True, "authors/code", {"beta": 4}),
        ("ant-v2", True, "others/code", {"beta": 6, "rate": 0.7}),  # none for fine-tuning
        ("Hopper_medium-v2", False, "authors/code", {"beta": 3, "rate": 0.1}),
    ],
)
def test_one_source_and_the_closest_name_win(dataset: str, online: bool, source: str, settings: dict) -> None:
    recipe = recipes.find("invented", dataset, online)
    assert recipe is not None
    assert (recipe.source, recipe.settings) == (source, settings)
    assert recipe.origins.keys() == settings.keys()


@pytest.mark.usefixtures("table")
def test_defaults_of_a_source_alone_are_no_recipe() -> None:
    assert recipes.find("invented", "walker2d-v2") is None
    assert recipes.find("other", "hopper-medium-v2") is None


@pytest.mark.usefixtures("table")
def test_settings_without_a_counterpart_are_kept_apart() -> None:
    recipe = recipes.find("invented", "hopper-random-v2")
    assert recipe is not None
    assert recipe.without == {"their_=true": "a leak"}


# --- the recipes of the package ---


def test_the_algorithms_that_have_recipes() -> None:
    assert tuple(name for name in plugins.names() if recipes.exists(name)) == WITH_RECIPES
    assert not recipes.exists("sb3:TD3")
    assert not recipes.exists("/some/file.py:Mine")


@pytest.mark.parametrize("algorithm", WITH_RECIPES)
def test_every_recipe_is_a_valid_config(algorithm: str) -> None:
    table = recipes._table(algorithm)
    names = {row["dataset"].replace("*", "x") for row in table} - {"x"}
    assert len(names) > 3
    for name in names:
        for online in (False, True):
            if recipe := recipes.find(algorithm, name, online):
                plugins.with_recipe(plugins.parse(algorithm), recipe)


def test_recipes_are_those_that_authors_published(shared: Path) -> None:
    """Values read again from the original tables, by their names there."""
    expected = {
        ("rebrac", "hopper-medium-v2", "actor_penalty"): "actor_bc_coef",
        ("rebrac", "walker2d-random-v2", "critic_penalty"): "critic_bc_coef",
        ("rebrac", "antmaze-large-play-v2", "discount"): "gamma",
        ("rebrac", "maze2d-umaze-v1", "critic_learning_rate"): "critic_learning_rate",
        ("edac", "walker2d-medium-v2", "eta"): "eta",
        ("edac", "pen-human-v1", "actor_learning_rate"): "policy_lr",
        ("sac_n", "hopper-medium-v2", "critics"): "num_critics",
    }
    for (algorithm, dataset, setting), parameter in expected.items():
        recipe = recipes.find(algorithm, dataset)
        assert recipe is not None
        with (shared / "recipes" / f"{algorithm}.csv").open(newline="") as file:
            (value,) = (
                row["value"]
                for row in csv.DictReader(file)
                if (row["dataset"], row["phase"], row["parameter"]) == (dataset, "offline", parameter)
                and row["source"].startswith(recipe.source)
            )
        assert recipe.settings[setting] == float(value)


def test_iql_takes_its_authors_settings_of_each_family() -> None:
    def settings(dataset: str) -> tuple[float, float, float]:
        config = plugins.with_recipe(plugins.parse("iql"), recipes.find("iql", dataset)).config
        return config.temperature, config.expectile, config.actor_dropout

    assert settings("walker2d-medium-v2") == (3.0, 0.7, 0.0)
    assert settings("antmaze-umaze-v2") == (10.0, 0.9, 0.0)
    assert settings("pen-human-v1") == settings("kitchen-mixed-v0") == (0.5, 0.7, 0.1)


# --- studies ---


@pytest.fixture
def hopper(tmp_path: Path) -> Path:
    """A small file with the name of a D4RL dataset and the spaces of Pendulum."""
    rng, path, size = np.random.default_rng(0), tmp_path / "hopper_medium-v2.hdf5", 60
    with h5py.File(path, "w") as file:
        file["observations"] = rng.standard_normal((size, 3)).astype(np.float32)
        file["next_observations"] = rng.standard_normal((size, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-2, 2, (size, 1)).astype(np.float32)
        file["rewards"] = rng.standard_normal(size).astype(np.float32)
        file["terminals"] = np.zeros(size, bool)
        file["timeouts"] = np.arange(size) % 20 == 19
    return path


STRICT = Protocol()
SMALL = "hidden=(8,8),batch_size=16"


def make_study(hopper: Path, protocol: Protocol = STRICT, **options) -> Study:
    algorithms = ("rebrac", "rebrac:actor_penalty=0.5,name=mine", "td3_bc")
    datasets = (str(hopper), "pendulum-replay")
    return Study(datasets, algorithms, (0,), replace(protocol, start=50), env="Pendulum-v1", **options)


def config_on(resolved: ResolvedStudy, dataset: str, name: str):
    variant = next(variant for variant in resolved.variants if variant.name == name)
    return resolved.variant_on(dataset, variant).config


def test_a_recipe_applies_to_its_dataset_and_settings_by_hand_win(hopper: Path) -> None:
    resolved = resolve(make_study(hopper))
    default = plugins.find("rebrac").Config()
    recipe = replace(default, actor_penalty=0.01, critic_penalty=0.01)
    assert config_on(resolved, "hopper_medium-v2", "rebrac") == recipe
    assert config_on(resolved, "hopper_medium-v2", "mine") == replace(recipe, actor_penalty=0.5)
    assert config_on(resolved, "pendulum-replay", "rebrac") == default
    assert config_on(resolved, "hopper_medium-v2", "td3_bc") == plugins.find("td3_bc").Config()


def test_jobs_of_datasets_with_other_recipes_are_apart(hopper: Path, tmp_path: Path) -> None:
    study = replace(make_study(hopper), algorithms=("rebrac", "td3_bc"))
    jobs = resolve(study).jobs(StudyDirectory(tmp_path / "out"), group=True)
    configs = {tuple(job.datasets): job.config for job in jobs if job.runs[0].variant == "rebrac"}
    assert configs[("hopper_medium-v2",)].actor_penalty == 0.01
    assert configs[("pendulum-replay",)].actor_penalty == 1.0


@pytest.mark.parametrize("protocol", [replace(Protocol(), recipes=False), PRESETS["paper"][0]])
def test_recipes_can_be_switched_off_and_are_off_in_the_papers_preset(
    hopper: Path, protocol: Protocol
) -> None:
    resolved = resolve(make_study(hopper, protocol=replace(protocol, data_rules="strict")))
    assert config_on(resolved, "hopper_medium-v2", "rebrac") == plugins.find("rebrac").Config()
    assert not any("recipe" in note for note in resolved.notes)


def test_notes_name_the_settings_and_the_datasets_without_a_recipe(hopper: Path) -> None:
    notes = resolve(make_study(hopper)).notes
    assert (
        "rebrac on hopper_medium-v2: recipe of DT6A/ReBRAC (offline): actor_penalty 0.01, critic_penalty 0.01"
        in notes
    )
    assert "mine on hopper_medium-v2: recipe of DT6A/ReBRAC (offline): critic_penalty 0.01" in notes
    assert "rebrac: no recipe for pendulum-replay, so the defaults are used" in notes
    assert not any("td3_bc" in note for note in notes)


def test_what_was_published_for_fine_tuning_is_taken_where_an_online_phase_follows(hopper: Path) -> None:
    antmaze = hopper.rename(hopper.with_name("antmaze-umaze-v2.hdf5"))
    offline, online = (resolve(replace(make_study(antmaze), online=Online(steps=steps))) for steps in (0, 10))
    assert config_on(offline, "antmaze-umaze-v2", "rebrac").reward_scale == 100
    assert offline.recipes["antmaze-umaze-v2"]["rebrac"].phase == "offline"
    assert online.recipes["antmaze-umaze-v2"]["rebrac"].phase == "finetune"


def test_a_study_records_recipes_and_its_policies_load(
    hopper: Path, tmp_path: Path, seqeval: Seqeval
) -> None:
    out = tmp_path / "out"
    study = Study(
        (str(hopper),),
        (f"rebrac:{SMALL},actor_layer_norm=True,name=small",),
        (0,),
        Protocol(start=50),
        evaluation=Evaluation(points=1, episodes=1),
        env="Pendulum-v1",
    )
    suite.run(study, out, Execution(jobs=1))
    stored = json.loads((out / "study.json").read_text())["recipes"]["hopper_medium-v2"]["small"]
    assert stored["source"] == "DT6A/ReBRAC"
    assert stored["given"] == ["actor_layer_norm", "batch_size", "hidden"]
    assert stored["config"]["critic_penalty"] == 0.01
    assert stored["config"]["batch_size"] == 16
    assert stored["config"]["actor_layer_norm"] is True
    assert stored["origins"]["critic_penalty"].startswith("critic_bc_coef=0.01 in configs/")
    policy = suite.load_policy(out, "hopper_medium-v2", "small", 0)
    assert policy(np.zeros((4, 3), np.float32)).shape == (4, 1)

    command = f"run --datasets {hopper} --algorithms {study.algorithms[0]} --seeds 0 --env Pendulum-v1"
    options = "--protocol.start 50 --evaluation.points 1 --evaluation.episodes 1"
    again = seqeval(*command.split(), *options.split(), "--out", out)
    assert again.code == 0, again.err
    heading, line = (row.split() for row in again.out.splitlines()[:2])
    assert line[heading.index("recipe")] == "DT6A/ReBRAC"

    message = refused(seqeval(*command.split(), *options.split(), "--protocol.no-recipes", "--out", out))
    assert "protocol.recipes is True there and False now" in message


def test_show_prints_settings_and_sources(seqeval: Seqeval) -> None:
    shown = seqeval("algorithms", "show", "rebrac", "--dataset", "hopper-medium-v2").out
    assert "settings of DT6A/ReBRAC, phase offline" in shown
    (line,) = (line for line in shown.splitlines() if " actor_penalty " in line)
    assert "0.01" in line
    assert "actor_bc_coef=0.01 in configs/rebrac/hopper/hopper_medium.yaml" in line
    assert "conflict" in next(line for line in shown.splitlines() if " critic_penalty " in line)

    shown = seqeval("algorithms", "show", "edac:eta=3", "--dataset", "pen-human-v1").out
    assert "not applied: reward_mean=true" in shown
    assert next(line.split() for line in shown.splitlines() if " eta " in line) == ["eta", "3.0", "given"]
    assert "has no recipe" in seqeval("algorithms", "show", "bc", "--dataset", "hopper-medium-v2").out


@pytest.mark.parametrize("algorithm", ["rebrac", "bc"])  # with recipes, and without
def test_show_refuses_a_misspelled_dataset(seqeval: Seqeval, algorithm: str) -> None:
    message = refused(seqeval("algorithms", "show", algorithm, "--dataset", "hopper-meduim-v2"))
    assert f"{algorithm} has no recipe for it; did you mean 'hopper-medium-v2'" in message


@pytest.mark.parametrize("dataset", ["pendulum-replay", "hopper_medium-v2", "minari:mine/log-v0"])
def test_show_prints_the_defaults_for_a_known_dataset_without_a_recipe(
    seqeval: Seqeval, dataset: str
) -> None:
    shown = seqeval("algorithms", "show", "bc", "--dataset", dataset)
    assert shown.code == 0, shown.err
    assert f"bc has no recipe for {dataset}" in shown.out
