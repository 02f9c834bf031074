"""Algorithms by name, and how the text of a variant becomes a config."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqeval import cli, load_policy, plugins
from seqeval.algorithm import Algorithm, Config
from seqeval.errors import UserError
from seqeval.execution.storage import frame
from seqeval.plugins import Variant
from seqeval.types import Spec

OWN = ("bc", "iql", "td3_bc")


def refusal(text: str) -> str:
    """The message with which a variant is refused; always a single line."""
    with pytest.raises(UserError) as caught:
        plugins.parse(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def through_json(variant: Variant) -> Variant:
    return plugins.restore(variant.name, json.loads(json.dumps(variant.settings())))


# --- find ---


def test_the_algorithms_that_come_with_the_suite_are_known() -> None:
    assert set(OWN) <= set(plugins.names())
    assert not any(name.startswith("_") for name in plugins.names())


@pytest.mark.parametrize("name", plugins.names())
def test_a_found_algorithm_has_a_frozen_config_of_its_own(name: str) -> None:
    found = plugins.find(name)
    assert issubclass(found, Algorithm)
    assert found is not Algorithm
    config = found.Config()
    assert isinstance(config, Config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 1  # type: ignore[misc]


@pytest.mark.parametrize(("word", "near"), [("iqll", "iql"), ("td3-bc", "td3_bc"), ("td3bc", "td3_bc")])
def test_an_unknown_algorithm_is_refused_with_the_near_ones(word: str, near: str) -> None:
    with pytest.raises(UserError) as caught:
        plugins.find(word)
    message = str(caught.value)
    assert repr(word) in message
    assert f"did you mean {near!r}" in message
    assert all(name in message for name in plugins.names())


@pytest.mark.parametrize("word", ["_fast_cpu", "_networks", "__init__", "", "os", "../algos/bc", "quicksort"])
def test_what_is_no_algorithm_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="is not known"):
        plugins.find(word)


# --- parse ---


@pytest.mark.parametrize("name", plugins.names())
def test_a_name_alone_is_the_algorithm_with_its_defaults(name: str) -> None:
    variant = plugins.parse(name)
    assert (variant.name, variant.algorithm) == (name, name)
    assert variant.config == plugins.find(name).Config()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("bc:batch_size=64", "batch_size", 64),
        ("bc:dropout=0.25", "dropout", 0.25),
        ("bc:dropout=0", "dropout", 0.0),  # a float given as an int
        ("bc:learning_rate=1e-4", "learning_rate", 1e-4),
        ("iql:temperature=10", "temperature", 10.0),
        ("bc:normalize_observations=True", "normalize_observations", True),
        ("iql:scale_rewards=False", "scale_rewards", False),
        ("bc:hidden=(8,8)", "hidden", (8, 8)),
        ("bc:hidden=(8, 16, 8)", "hidden", (8, 16, 8)),
        ("bc:hidden=(8,)", "hidden", (8,)),
        ("iql:log_std_range=(-4,1.5)", "log_std_range", (-4.0, 1.5)),
    ],
)
def test_a_value_is_taken_in_the_type_of_its_field(text: str, key: str, value: Any) -> None:
    variant = plugins.parse(text)
    assert variant.name == text
    found = getattr(variant.config, key)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, tuple):
        assert [type(item) for item in found] == [type(item) for item in value]
    others = dataclasses.asdict(plugins.parse(variant.algorithm).config) | {key: value}
    assert dataclasses.asdict(variant.config) == others


@pytest.mark.parametrize(
    "text",
    [
        "bc:hidden=(8,8),dropout=0,name=small",
        "bc:name=small,hidden=(8,8),dropout=0",
        "bc:dropout=0,name=small,hidden=(8,8)",
    ],
)
def test_values_and_name_come_in_any_order_and_commas_in_tuples_part_nothing(text: str) -> None:
    variant = plugins.parse(text)
    assert (variant.name, variant.algorithm) == ("small", "bc")
    assert dataclasses.asdict(variant.config) | {"hidden": (8, 8), "dropout": 0.0} == dataclasses.asdict(
        variant.config
    )


def test_a_name_may_hold_what_a_legend_needs() -> None:
    assert plugins.parse("iql:expectile=0.9,name=IQL τ=0.9").name == "IQL τ=0.9"


def test_an_unknown_algorithm_in_a_variant_is_refused() -> None:
    assert "did you mean 'iql'" in refusal("iqll:expectile=0.9")


@pytest.mark.parametrize(
    ("text", "near"), [("iql:expectil=0.9", "'expectile'"), ("bc:batchsize=1", "'batch_size'")]
)
def test_an_unknown_key_is_refused_with_the_near_ones(text: str, near: str) -> None:
    message = refusal(text)
    assert repr(text) in message
    assert "did you mean" in message
    assert near in message
    assert "seqeval algorithms show" in message


@pytest.mark.parametrize("key", ["updates", "Config", "__class__", "hidden ", ""])
def test_a_key_that_is_no_field_of_the_config_is_refused(key: str) -> None:
    assert f"bc has no {key!r}" in refusal(f"bc:{key}=1")


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("bc:batch_size=1.5", "batch_size", "int"),
        ("bc:batch_size=64.0", "batch_size", "int"),
        ("bc:batch_size=True", "batch_size", "int"),
        ("bc:batch_size=", "batch_size", "int"),
        ("bc:dropout=True", "dropout", "float"),
        ("bc:dropout=much", "dropout", "float"),
        ("bc:dropout='0.1'", "dropout", "float"),
        ("bc:learning_rate=nan", "learning_rate", "float"),
        ("bc:learning_rate=1e-3*2", "learning_rate", "float"),
        ("bc:learning_rate=None", "learning_rate", "float"),
        ("bc:normalize_observations=1", "normalize_observations", "bool"),
        ("bc:normalize_observations=true", "normalize_observations", "bool"),
        ("bc:hidden=8", "hidden", "tuple"),
        ("bc:hidden=(8)", "hidden", "tuple"),
        ("bc:hidden=(8.5,8)", "hidden", "tuple"),
        ("bc:hidden=(8,x)", "hidden", "tuple"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_type_that_is_wanted(
    text: str, key: str, wanted: str
) -> None:
    message = refusal(text)
    assert repr(text) in message
    assert f"{key} must be {wanted}" in message


@pytest.mark.parametrize("text", ["bc:dropout={[]:1}", "bc:dropout={{}}"])
def test_a_value_that_cannot_be_made_is_refused(text: str) -> None:
    assert "dropout must be float" in refusal(text)


@pytest.mark.parametrize(
    "text", ["iql:log_std_range=(1,)", "iql:log_std_range=(1,2,3)", "iql:log_std_range=()"]
)
def test_a_tuple_of_another_length_is_refused(text: str) -> None:
    assert "log_std_range" in refusal(text)


@pytest.mark.parametrize("text", ["bc:dropout=0.1,dropout=0.2", "bc:name=a,name=b"])
def test_a_key_that_is_given_twice_is_refused(text: str) -> None:
    assert text.partition(":")[2].partition("=")[0] in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "bc:learning_rate=-1",
        "bc:dropout=1.5",
        "bc:dropout=-0.1",
        "bc:hidden=(0,)",
        "bc:hidden=(8,-8)",
        "td3_bc:policy_delay=0",
    ],
)
def test_a_value_that_means_nothing_is_refused_before_anything_is_trained(text: str) -> None:
    assert text.partition(":")[2].partition("=")[0] in refusal(text)


def test_a_value_that_the_config_itself_refuses_is_the_users_to_mend() -> None:
    assert "batch_size must be at least 1, not 0" in refusal("bc:batch_size=0")


@pytest.mark.parametrize(
    ("text", "item"), [("bc:dropout", "'dropout'"), ("bc:dropout=0,0.5", "'0.5'"), ("bc:dropout=0,", "''")]
)
def test_an_item_without_an_equals_sign_is_refused(text: str, item: str) -> None:
    message = refusal(text)
    assert item in message
    assert "key=value" in message


def test_an_empty_name_is_refused() -> None:
    assert "1 to 100 characters" in refusal("bc:name=")
    assert "1 to 100 characters" in refusal("bc:dropout=0,name=")


# --- parse_all ---


def test_a_study_has_its_variants_in_the_order_they_were_asked_for() -> None:
    texts = ["td3_bc", "bc", "bc:dropout=0", "bc:dropout=0,name=plain"]
    assert [variant.name for variant in plugins.parse_all(texts)] == ["td3_bc", "bc", "bc:dropout=0", "plain"]


@pytest.mark.parametrize("texts", [["bc", "bc"], ["bc", "iql:name=bc"], ["bc:name=x", "bc:dropout=0,name=x"]])
def test_two_variants_of_one_name_are_refused(texts: list[str]) -> None:
    with pytest.raises(UserError, match="two variants are called") as caught:
        plugins.parse_all(texts)
    assert "name=" in str(caught.value)


# --- restore ---


@pytest.mark.parametrize(
    "text",
    [
        *plugins.names(),
        "bc:hidden=(8,),dropout=0,batch_size=7,name=small",
        "iql:log_std_range=(-4,1),scale_rewards=False,expectile=0.9",
        "td3_bc:learning_rate=1e-30,alpha=0.1,policy_delay=3",
    ],
)
def test_a_variant_comes_back_from_json_as_it_was(text: str) -> None:
    variant = plugins.parse(text)
    restored = through_json(variant)
    assert restored == variant
    for field in dataclasses.fields(variant.config):
        before, after = getattr(variant.config, field.name), getattr(restored.config, field.name)
        assert type(before) is type(after), field.name


def test_a_variant_with_an_infinite_value_comes_back_or_was_refused() -> None:
    """`max_weight=1e999` is how IQL's cap is taken off."""
    try:
        variant = plugins.parse("iql:max_weight=1e999")
    except UserError:
        return
    assert through_json(variant) == variant


# --- a class in a file ---

MINE = '''
"""An algorithm of mine."""

from dataclasses import dataclass
from typing import Literal

import torch

from seqeval import algorithm
from seqeval.algorithm import Algorithm, SingleAlgorithm


@dataclass(frozen=True)
class Settings(algorithm.Config):
    alpha: float = 1.0  # how much of it
    kind: Literal["soft", "hard"] = "soft"
    clip: float | None = None
    tag: str = "none"


class Mine(SingleAlgorithm):
    Config = Settings

    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size).to(device)

    def update(self, batch):
        self.updates += 1
        return {"alpha": self.config.alpha}

    def act(self, observations):
        return self.net(observations).tanh()


class Half(SingleAlgorithm):
    def update(self, batch):
        return {}


class Unstorable(Mine):
    @dataclass(frozen=True)
    class Config(algorithm.Config):
        rates: list[float] | None = None
        name: str = "reserved"


class NoAlgorithm:
    pass


number = 3
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


@pytest.mark.parametrize(
    ("settings", "name", "changes"),
    [
        ("", "Mine", {}),
        (":alpha=2", "Mine:alpha=2", {"alpha": 2.0}),
        (":alpha=2,name=x", "x", {"alpha": 2.0}),
        (":name=x", "x", {}),
        (":kind=hard,clip=0.5,tag=a.py:B", "Mine:kind=hard,clip=0.5,tag=a.py:B",
         {"kind": "hard", "clip": 0.5, "tag": "a.py:B"}),
        (":clip=None,kind='soft'", "Mine:clip=None,kind='soft'", {}),
    ],
)  # fmt: skip
def test_a_class_in_a_file_is_a_variant_as_any(
    mine: Path, monkeypatch: pytest.MonkeyPatch, settings: str, name: str, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(mine.parent)
    for path in ("mine.py", "./mine.py", f"../{mine.parent.name}/mine.py", mine):
        variant = plugins.parse(f"{path}:Mine{settings}")
        assert (variant.name, variant.algorithm) == (name, f"{mine}:Mine")
        assert variant.config == plugins.find(f"{path}:Mine").Config(**changes)
        assert through_json(variant) == variant
        assert pickle.loads(pickle.dumps(variant)) == variant


def test_a_class_in_a_file_is_built_as_an_algorithm_and_loaded_once(mine: Path) -> None:
    found = plugins.find(f"{mine}:Mine")
    assert plugins.find(f"{mine}:Mine") is found
    assert issubclass(found, Algorithm)
    assert found.__name__ == "Mine"
    algorithm = found(Spec(3, 2), found.Config(), [4, 5], 10, torch.device("cpu"))
    assert algorithm.act(torch.zeros(2, 7, 3)).shape == (2, 7, 2)
    module = sys.modules[found.__module__]
    assert module.__file__ == str(mine)
    assert pickle.loads(pickle.dumps(found.Config(alpha=3.0))) == found.Config(alpha=3.0)


def test_files_of_one_name_in_two_folders_are_two_modules(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    other.write_text(MINE.replace("alpha: float = 1.0", "alpha: float = 5.0"))
    assert plugins.parse(f"{mine}:Mine").config.alpha == 1.0  # type: ignore[attr-defined]
    assert plugins.parse(f"{other}:Mine").config.alpha == 5.0  # type: ignore[attr-defined]
    assert "give one another name=" in refusal_of_all(f"{mine}:Mine", f"{other}:Mine")


def refusal_of_all(*texts: str) -> str:
    with pytest.raises(UserError) as caught:
        plugins.parse_all(texts)
    return str(caught.value)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("mine.py:Mein", ("mine.py: no 'Mein' in it", "did you mean 'Mine'", "the file has Mine, Half")),
        ("mine.py", ("no '' in it", "path/to/file.py:Name")),
        ("mine.py:", ("no '' in it",)),
        ("nowhere.py:Mine", ("nowhere.py: No such file",)),
        ("nowhere.py", ("nowhere.py: No such file",)),
        ("folder.py:Mine", ("folder.py: Is a directory",)),
        ("mine.py:number", ("mine.py: number is neither an Algorithm nor a SingleAlgorithm",)),
        ("mine.py:NoAlgorithm", ("NoAlgorithm is neither an Algorithm nor a SingleAlgorithm",)),
        ("mine.py:Settings", ("Settings is neither",)),
        ("mine.py:SingleAlgorithm", ("SingleAlgorithm has no act and no update",)),
        ("mine.py:Half", ("Half has no act",)),
        ("mine.py:Unstorable", ("must not have a field called name",)),
        ("mine.py:Mine:alpah=2", ("Mine has no 'alpah'", "did you mean 'alpha'")),
        ("mine.py:Mine:kind=loud", ("kind must be", "'soft', 'hard'")),
        ("mine.py:Mine:clip=much", ("clip must be float | None",)),
        ("mine.py:Mine:alpha", ("not of the form key=value",)),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_a_line(
    mine: Path, monkeypatch: pytest.MonkeyPatch, reference: str, told: tuple[str, ...]
) -> None:
    monkeypatch.chdir(mine.parent)
    Path("folder.py").mkdir()
    message = refusal(reference)
    assert all(text in message for text in told), message


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "import torch\n\nimport nowhere_at_all\n",
            "line 3: ModuleNotFoundError: No module named 'nowhere_at",
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError: division by zero"),
        ("x = (1,\n\ny = 2\n", "line 1: SyntaxError: '(' was never closed"),
        ("raise ValueError('two\\nlines')\n", "line 1: ValueError: two lines"),
        ("import sys\nsys.exit(4)\n", "line 2: SystemExit: 4"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError: "),
        ("raise KeyboardInterrupt\n", None),
    ],
)
def test_a_file_that_raises_is_told_with_the_line(tmp_path: Path, code: str, told: str | None) -> None:
    file = tmp_path / "broken.py"
    file.write_text(code)
    if told is None:
        with pytest.raises(KeyboardInterrupt):
            plugins.parse(f"{file}:Mine")
        return
    before = set(sys.modules)
    assert f"{file}, {told}" in refusal(f"{file}:Mine")
    assert not any("broken" in name for name in set(sys.modules) - before)
    file.write_text(MINE)  # once it is mended it is taken, in the same process
    assert plugins.parse(f"{file}:Mine").name == "Mine"


def test_a_config_of_a_type_that_cannot_be_stored_is_refused(mine: Path) -> None:
    mine.write_text(
        MINE.replace('name: str = "reserved"', "pass").replace(
            " | None = None\n        p", " = ()\n        p"
        )
    )
    assert "rates = () is not of its type" in refusal(f"{mine}:Unstorable")


def test_a_file_that_has_changed_is_not_the_variant_any_more(mine: Path) -> None:
    variant = plugins.parse(f"{mine}:Mine")
    settings = variant.settings()
    assert settings["algorithm"] == f"{mine}:Mine"
    assert len(settings["code"]) == 64
    with pytest.raises(UserError, match=r"mine\.py is no longer the file that it was"):
        plugins.restore("Mine", settings | {"code": "0" * 64})


def tiny_study(out: Path, *algorithms: object, jobs: int = 1) -> list[str]:
    words = ("run", "--datasets", "pendulum-replay", "--algorithms", *algorithms, "--seeds", 0, 1)
    protocol = ("--protocol.start", 19990, "--protocol.grow-by", 5)
    evaluation = ("--evaluation.points", 1, "--evaluation.episodes", 1)
    return [str(word) for word in (*words, *protocol, *evaluation, "--jobs", jobs, "--out", out)]


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_a_study_of_a_file_runs_in_processes_of_its_own_and_its_policy_acts(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert ended(tiny_study(out, f"{mine}:Mine:alpha=3", jobs=2)) == 0
    rows = frame([out])
    assert set(rows["variant"]) == {"Mine:alpha=3"}
    assert set(rows["train/alpha"]) == {3.0}
    stored = json.loads((out / "study.json").read_text())["algorithms"]["Mine:alpha=3"]
    assert stored == plugins.parse(f"{mine}:Mine:alpha=3").settings()

    policies = [load_policy(out, "pendulum-replay", "Mine:alpha=3", seed) for seed in (0, 1)]
    actions = [policy(np.ones((2, 3), np.float32)) for policy in policies]
    assert actions[0].shape == (2, 1)
    assert not np.array_equal(*actions)

    # What was done is left alone, wherever the file lies now; but a changed file is another algorithm.
    moved = tmp_path / "moved" / "mine.py"
    moved.parent.mkdir()
    moved.write_text(MINE)
    capsys.readouterr()
    assert ended(tiny_study(out, f"{moved}:Mine:alpha=3")) == 0
    assert "every cell is finished" in capsys.readouterr().err
    changed = tmp_path / "changed.py"
    changed.write_text(MINE.replace("clip: float", "a_new_one: int = 1\n    clip: float"))
    assert ended(tiny_study(out, f"{changed}:Mine:alpha=3")) == 2
    assert "Mine:alpha=3.code is " in capsys.readouterr().err


def test_a_file_that_changes_while_a_study_runs_fails_its_own_piece_alone(mine: Path) -> None:
    from seqeval.execution import worker
    from seqeval.execution.storage import RunDirectory

    cell = RunDirectory(mine.parent / "out").cell("data", "Mine", 0)
    parcel = worker.Parcel("the piece", (cell,), pickle.dumps(plugins.parse(f"{mine}:Mine")))
    plugins._load.cache_clear()  # as in another process
    mine.write_text(MINE + "# saved again\n")
    reports: list[worker.Report] = []
    assert not list(
        worker.do_parcel(0, parcel, mine.parent / "out", reports.append, lambda: False, 60.0, inf)
    )
    (report,) = reports
    assert report.over
    assert report.failure is not None
    assert report.failure.users
    assert report.failure.text.startswith("the piece: Mine: ")
    assert cell.error.read_text() == report.failure.text + "\n"


# --- entry points ---


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, in which `pack` puts some."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.startswith("made_up_")]:
        del sys.modules[name]


def pack(site: Path, package: str, code: str, **entry_points: str) -> None:
    (site / f"{package}.py").write_text(code)
    about = site / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[seqeval.algorithms]", *lines, ""]))


def test_an_entry_point_is_an_algorithm_by_name(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(installed, "made_up_one", MINE, mine="made_up_one:Mine", half="made_up_one:Half")
    pack(installed, "made_up_two", "raise OSError('no disk')", broken="made_up_two:Mine")
    assert {"mine", "half", "broken", "bc"} <= set(plugins.names())
    variant = plugins.parse("mine:alpha=2")
    assert (variant.name, variant.algorithm) == ("mine:alpha=2", "mine")
    assert variant.settings().keys() == {"algorithm", "config"}
    assert pickle.loads(pickle.dumps(variant)) == variant
    assert "made_up_one:Half" in refusal("half")
    assert "OSError: no disk" in refusal("broken")
    assert "did you mean 'mine'" in refusal("mien")

    assert ended(["algorithms", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "mine       continuous            An algorithm of mine." in lines
    assert any(line.startswith("broken     cannot be used: ") for line in lines)
    assert ended(["algorithms", "show", "mine"]) == 0
    assert re.search(r"^  alpha +float +1\.0 +how much of it", capsys.readouterr().out, re.MULTILINE)

    assert ended(tiny_study(tmp_path / "run", "mine", jobs=2)) == 0
    assert set(frame([tmp_path / "run"])["algorithm"]) == {"mine"}


def test_an_entry_point_with_the_name_of_another_is_refused_where_it_could_be_meant(installed: Path) -> None:
    own = plugins.find("bc")
    for package in ("made_up_one", "made_up_two"):
        pack(installed, package, MINE, bc=f"{package}:Mine", twice=f"{package}:Mine")
    assert plugins.names().count("bc") == 1
    assert plugins.find("bc") is own
    message = refusal("bc:dropout=0")
    assert "'bc' comes with the suite" in message
    assert "made_up_one:Mine, made_up_two:Mine" in message
    assert "made_up_one:Mine, made_up_two:Mine" in refusal("twice")
    assert plugins.parse("iql").name == "iql"


def test_a_class_in_a_file_is_shown(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["algorithms", "show", f"{mine}:Mine"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("An algorithm of mine.\n")
    assert re.search(r"^  alpha +float +1\.0 +how much of it", out, re.MULTILINE)
    assert "Literal['soft', 'hard']" in out
