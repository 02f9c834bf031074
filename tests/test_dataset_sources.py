"""The registry of dataset sources: which source owns a name, and sources of installed packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import make_dataset

from seqeval import datasets
from seqeval.datasets import (
    LoadOptions,
    Source,
    d4rl,
    dqn_replay,
    embedded,
    hdf5,
    minari,
    mixed,
    none,
    npz,
    pickles,
    v_d4rl,
)
from seqeval.errors import UserError

PLUGIN = """
from conftest import make_dataset
from seqeval.datasets import Source

def load(name, options):
    dataset = make_dataset(env_id=options.env_id or "Pendulum-v1")
    dataset.card.update(name=name, rules=options.rules, trust_pickle=options.trust_pickle)
    return dataset

SOURCE = Source(load, names=lambda: ["robots:arm"], endings=(".bag",), prefix="robots:")
FILES = Source(load, endings=(".bag",))
NOTHING = "not a source"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; the registry is built anew for the test."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "robot_data.py").write_text(PLUGIN)
    datasets.sources.cache_clear()
    yield tmp_path
    datasets.sources.cache_clear()
    sys.modules.pop("robot_data", None)


def install(site: Path, *entry_points: str) -> None:
    info = site / "robot_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: robot-data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[seqeval.datasets]", *entry_points, ""]))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("pendulum-replay", embedded),
        ("hopper-medium-v2", d4rl),
        ("none", none),
        ("folder/data.hdf5", hdf5),
        ("DATA.H5", hdf5),
        ("data.npz", npz),
        ("data.pkl", pickles),
        ("data.pickle", pickles),
        ("minari:mujoco/hopper/medium-v0", minari),
        ("mix:one.hdf5+two.hdf5", mixed),
        ("v-d4rl:walker_walk/medium/84px", v_d4rl),
        ("dqn-replay:Breakout/1/replay_logs?checkpoints=0-3", dqn_replay),
        ("minari:data.hdf5", minari),  # a prefix takes precedence over an ending
    ],
)
def test_each_name_belongs_to_one_source(name: str, source: object) -> None:
    assert datasets.find(name) is source.SOURCE  # type: ignore[attr-defined]


def test_every_module_without_underscore_is_a_source() -> None:
    folder = Path(datasets.__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert len(modules) == 10
    owned = {id(getattr(datasets, module).SOURCE) for module in modules}
    assert owned <= {id(source) for source in datasets.sources()}


def test_an_unknown_ending_is_refused_with_all_registered_endings() -> None:
    assert datasets.file_endings() == (".h5", ".hdf5", ".npz", ".pickle", ".pkl")
    with pytest.raises(UserError, match=r"must end in one of \.h5, \.hdf5, \.npz, \.pickle, \.pkl$"):
        datasets.load("data.csv")


def test_an_installed_package_adds_a_source(site: Path) -> None:
    install(site, "robots = robot_data:SOURCE", "bags = robot_data:FILES")
    dataset = datasets.load("robots:arm", "Pendulum-v1?g=5.0", "qlearning", True)
    assert dataset.env_id == "Pendulum-v1?g=5.0"
    assert dataset.card == {"name": "robots:arm", "rules": "qlearning", "trust_pickle": True}
    assert datasets.load("folder/run.BAG").card["name"] == "folder/run.BAG"
    assert "robots:arm" in datasets.names()
    assert ".bag" in datasets.file_endings()
    with pytest.raises(UserError, match=r"did you mean 'robots:arm'.*\.bag, \.h5"):
        datasets.load("robot:arm")


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        ("robots = robot_data:NOTHING", "TypeError: not a seqeval.datasets.Source"),
        ("robots = robot_data:MISSING", "AttributeError"),
        ("robots = missing_package:SOURCE", "ModuleNotFoundError: No module named 'missing_package'"),
    ],
)
def test_a_broken_source_of_a_package_is_refused_in_one_line(
    site: Path, entry_point: str, reason: str
) -> None:
    install(site, entry_point)
    with pytest.raises(UserError) as caught:
        datasets.load("pendulum-replay")
    message = str(caught.value)
    assert message.startswith("dataset source 'robots' (")
    assert reason in message
    assert message.endswith("repair or uninstall the package that registers it")
    assert "\n" not in message


def test_the_options_of_a_source_have_the_defaults_of_load() -> None:
    received: list[LoadOptions] = []
    source = Source(lambda name, options: received.append(options) or make_dataset(), prefix="test:")
    source.load("test:x", LoadOptions())
    assert received == [LoadOptions(env_id=None, rules="strict", trust_pickle=False)]


def test_listing_the_names_imports_no_download_library() -> None:
    code = "import sys; from seqeval import datasets; datasets.names(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"requests", "minari", "torch"} & set(done.stdout.split())
