"""What `seqeval datasets list` says of each name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gymnasium
import pytest
from conftest import Seqeval
from test_minari import root, store  # noqa: F401  # root is a fixture

from seqeval import datasets
from seqeval.datasets import d4rl


def line(seqeval: Seqeval, name: str) -> list[str]:
    """Location and environment of a dataset, as printed."""
    ended = seqeval("datasets", "list")
    assert (ended.code, ended.err) == (0, "")
    (found,) = [text for text in ended.out.splitlines() if text.startswith(f"{name} ")]
    return [part.strip() for part in found.split("  ") if part][1:]


def test_a_file_of_d4rl_on_disk_is_said_to_be_there(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQEVAL_DATA", str(tmp_path))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert line(seqeval, "hopper-medium-v2") == ["downloadable", "Hopper-v4"]
    (tmp_path / "hopper_medium-v2.hdf5").write_bytes(b"")
    assert line(seqeval, "hopper-medium-v2") == ["on disk", "Hopper-v4"]
    assert line(seqeval, "hopper-expert-v2") == ["downloadable", "Hopper-v4"]


def test_a_package_that_is_not_installed_is_named(seqeval: Seqeval, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> object:
        return None if name == "gymnasium_robotics" else importlib.util.find_spec(name)

    monkeypatch.setattr(d4rl, "find_spec", find_spec)
    assert line(seqeval, "pen-human-v1")[1] == "no: pip install 'seqeval-rl[adroit]'"


def test_local_minari_sets_are_listed_with_their_environment(seqeval: Seqeval, root: Path) -> None:  # noqa: F811
    store(root, gymnasium.make("Pendulum-v1"))
    assert line(seqeval, "minari:small/made-v0") == ["on disk", "Pendulum-v1"]
    store(root, gymnasium.make("Pendulum-v1"), name="bare-v0", env_spec=False)
    assert line(seqeval, "minari:bare-v0")[1].startswith("no: it records no environment")


def test_a_source_without_a_listing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = datasets.Source(lambda name, options: None, names=lambda: ("mine",))
    monkeypatch.setattr(datasets, "sources", lambda: (source,))
    assert datasets.listings() == {"mine": datasets.Listing("")}
