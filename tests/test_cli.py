"""The command line, in this process: what it writes, what it prints, and how it ends."""

from __future__ import annotations

import errno
import gc
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import Ended, Seqeval, refused

from seqeval import Study, atomic_io, cli, datasets, load_policy, plugins
from seqeval.errors import UserError
from seqeval.execution import WorkFailed
from seqeval.execution.launchers import local
from seqeval.execution.storage import frame
from seqeval.execution.worker import Failure
from seqeval.training.agents import Agents
from seqeval.types import Row

BC = "bc:hidden=(8,8),name=bc"
TD3 = "td3_bc:hidden=(8,8),batch_size=32,name=td3"
SHORT = (
    *("--protocol.start", "19900", "--protocol.grow-by", "50"),
    *("--evaluation.points", "2", "--evaluation.episodes", "2"),
)
SECONDS = ["train_seconds", "eval_seconds"]


def study(out: Path, *more: object, algorithms: tuple[str, ...] = (BC,), jobs: int = 1) -> list[object]:
    """The arguments of a small study; of an option given twice the later counts."""
    return [
        *("run", "--datasets", "pendulum-replay", "--algorithms", *algorithms),
        *("--seeds", 0, *SHORT, "--jobs", jobs, "--out", out, *more),
    ]


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two algorithms with two seeds; to be read, not run in."""
    out = tmp_path_factory.mktemp("cli") / "run"
    arguments = study(out, "--seeds", 0, 1, algorithms=(BC, TD3))
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert ended.value.code == 0
    return out


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """The same, in a copy to do anything with."""
    return Path(shutil.copytree(finished_once, tmp_path / "run"))


def flowing(text: str) -> str:
    """A text as it was before it was broken into lines to fit a screen."""
    return " ".join(text.split())


def states(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The bytes and the time of change of each file below a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def small_file(path: Path, env_id: str | None = "Pendulum-v1", size: int = 300) -> Path:
    """A log of Pendulum, for which nobody has published reference returns."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.standard_normal((size, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-2, 2, (size, 1)).astype(np.float32)
        file["rewards"] = rng.standard_normal(size).astype(np.float32)
        file["terminals"] = np.arange(size) % 100 == 99
        file["timeouts"] = np.zeros(size, bool)
        if env_id:
            file.attrs["env_id"] = env_id
    return path


# --- run ---


def test_run_writes_the_study_its_rows_its_policies_and_both_figures(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "run"
    ended = seqeval(*study(out))
    assert ended.code == 0
    cell = "cells/pendulum-replay/bc/seed-0"
    assert sorted(states(out)) == [
        ".lock",
        f"{cell}/finished.json",
        f"{cell}/policy.pt",
        f"{cell}/rows.jsonl",
        "curves.pdf",
        "curves.png",
        "study.json",
    ]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "curves.pdf").read_bytes().startswith(b"%PDF")
    rows = [json.loads(line) for line in (out / cell / "rows.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in rows] == [19_900, 19_950, 20_000]
    assert [row["updates"] for row in rows] == [1, 2, 3]
    assert {(row["status"], row["phase"], row["regime"], row["study"]) for row in rows} == {
        ("ok", "offline", "stream", "run")
    }
    for row in rows:
        assert row["episode_lengths"] == [200, 200]
        assert row["return_mean"] == pytest.approx(np.mean(row["episode_returns"]))
        assert row["metrics"].keys() == {"loss"}
    resolved = json.loads((out / "study.json").read_text())
    assert resolved["protocol"]["start"] == 19_900
    assert resolved["evaluation"] == {"points": 2, "episodes": 2, "every": None, "backend": "gymnasium"}
    assert resolved["algorithms"]["bc"]["config"]["hidden"] == [8, 8]
    assert resolved["runs"][0]["seeds"] == [0]
    assert {"torch", "gymnasium", "seqeval-rl"} <= resolved["runs"][0]["versions"].keys()
    assert str(out / "curves.png") in ended.out
    assert "20000" in ended.out
    assert "100%" in flowing(ended.err)


def test_the_table_of_results_names_datasets_in_full_where_there_is_no_terminal(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    ended = seqeval(*study(tmp_path / "run"))
    assert "pendulum-replay" in ended.out


def test_run_again_adds_a_seed_and_leaves_finished_cells_alone(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert seqeval(*study(out)).code == 0
    before = states(out / "cells")
    ended = seqeval(*study(out, "--seeds", 0, 1))
    assert ended.code == 0
    after = states(out / "cells")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [
        "pendulum-replay/bc/seed-1/finished.json",
        "pendulum-replay/bc/seed-1/policy.pt",
        "pendulum-replay/bc/seed-1/rows.jsonl",
    ]
    assert sorted(set(frame([out])["seed"])) == [0, 1]
    assert [run["seeds"] for run in json.loads((out / "study.json").read_text())["runs"]] == [[0], [0, 1]]


def test_run_again_adds_an_algorithm_and_keeps_the_one_before(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert seqeval(*study(out)).code == 0
    before = states(out / "cells")
    assert seqeval(*study(out, algorithms=(TD3,))).code == 0
    after = states(out / "cells")
    assert {name: after[name] for name in before} == before
    assert set(frame([out])["variant"]) == {"bc", "td3"}


def test_run_again_with_nothing_to_do_says_so_and_draws_the_figure(seqeval: Seqeval, finished: Path) -> None:
    before = states(finished / "cells")
    (finished / "curves.png").unlink()
    ended = seqeval(*study(finished, "--seeds", 0, 1, algorithms=(BC, TD3)))
    assert ended.code == 0
    assert "every cell is finished" in flowing(ended.err)
    assert states(finished / "cells") == before
    assert (finished / "curves.png").exists()


def test_run_again_does_an_unfinished_cell_from_its_beginning(seqeval: Seqeval, finished: Path) -> None:
    before = frame([finished]).drop(columns=SECONDS)
    cell = finished / "cells/pendulum-replay/td3/seed-1"
    (cell / "policy.pt").unlink()
    rows = (cell / "rows.jsonl").read_bytes()
    (cell / "rows.jsonl").write_bytes(rows[: len(rows) // 2])
    other = states(finished / "cells/pendulum-replay/td3/seed-0")
    assert seqeval(*study(finished, "--seeds", 0, 1, algorithms=(BC, TD3))).code == 0
    pd.testing.assert_frame_equal(frame([finished]).drop(columns=SECONDS), before)
    assert states(finished / "cells/pendulum-replay/td3/seed-0") == other


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("--protocol.start", 19_800, ("protocol.start", "19900", "19800")),
        ("--protocol.order", "logged", ("protocol.order", "'shuffled'", "'logged'")),
        ("--evaluation.episodes", 3, ("evaluation.episodes", "2", "3")),
    ],
)
def test_run_again_with_another_protocol_is_refused(
    seqeval: Seqeval, finished: Path, option: str, value: object, parts: tuple[str, ...]
) -> None:
    before = states(finished)
    line = refused(seqeval(*study(finished, option, value)))
    assert all(part in line for part in (str(finished), *parts))
    assert states(finished) == before


def test_run_again_with_another_value_under_the_same_name_is_refused(
    seqeval: Seqeval, finished: Path
) -> None:
    before = states(finished)
    line = refused(seqeval(*study(finished, algorithms=("bc:hidden=(8,8),dropout=0,name=bc",))))
    assert "bc.dropout is 0.1 there and 0.0 now" in line
    assert states(finished) == before


def test_two_jobs_give_the_rows_of_one(seqeval: Seqeval, finished_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert seqeval(*study(out, "--seeds", 0, 1, algorithms=(BC, TD3), jobs=2)).code == 0
    pd.testing.assert_frame_equal(
        frame([out]).drop(columns=SECONDS), frame([finished_once]).drop(columns=SECONDS), check_exact=True
    )


def test_a_file_without_reference_returns_is_run_in_returns(seqeval: Seqeval, tmp_path: Path) -> None:
    file, out = small_file(tmp_path / "mine.hdf5", env_id=None), tmp_path / "run"
    ended = seqeval(*study(out, "--datasets", file, "--env", "Pendulum-v1", "--protocol.start", 200))
    assert ended.code == 0
    assert " return " in ended.out
    assert frame([out])["score"].isna().all()


def test_what_the_data_rules_did_is_said_before_the_run(seqeval: Seqeval, tmp_path: Path) -> None:
    file = small_file(tmp_path / "mine.hdf5", size=310)
    ended = seqeval(*study(tmp_path / "run", "--datasets", file, "--protocol.start", 300))
    assert ended.code == 0
    assert "note: mine: dropped 1 truncated transitions" in flowing(ended.err)


# --- failures ---


def test_seeds_whose_losses_are_not_finite_end_with_code_3_and_are_named(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = seqeval(
        *study(out, "--seeds", 0, 1, algorithms=("td3_bc:hidden=(8,8),learning_rate=1e30,name=wild",))
    )
    assert ended.code == 3
    for seed in (0, 1):
        assert f"pendulum-replay, wild, seed {seed}: failed from n = " in flowing(ended.out)
    assert "0 of 2" in ended.out
    rows = frame([out])
    assert (rows["status"] == "failed").any()
    assert rows.loc[rows["status"] == "failed", ["score", "return_mean"]].isna().all(axis=None)
    assert (out / "curves.png").exists()


def test_one_seed_of_two_that_fails_leaves_the_other_as_it_would_have_been(
    seqeval: Seqeval, finished_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Agents.act

    def with_a_broken_replica(agents: Agents, observations: np.ndarray) -> np.ndarray:
        actions = act(agents, observations)
        actions[1:] = np.nan
        return actions

    monkeypatch.setattr(Agents, "act", with_a_broken_replica)
    out = tmp_path / "run"
    ended = seqeval(*study(out, "--seeds", 0, 1))
    assert ended.code == 3
    assert "pendulum-replay, bc, seed 1: failed from n = 19900 on" in flowing(ended.out)
    assert "seed 0: failed" not in ended.out
    assert "1 of 2" in ended.out
    rows = frame([out]).set_index("seed").drop(columns=SECONDS)
    assert (rows.loc[1, "status"] == "failed").all()
    whole = frame([finished_once]).set_index("seed").drop(columns=SECONDS)
    columns = ["samples", "episode_returns", "score", "train/loss"]
    pd.testing.assert_frame_equal(rows.loc[0, columns], whole[whole["variant"] == "bc"].loc[0, columns])


def test_seeds_that_all_fail_on_data_without_reference_returns_end_with_code_3(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    file = small_file(tmp_path / "mine.hdf5")
    wild = "td3_bc:hidden=(8,8),batch_size=32,learning_rate=1e30,name=wild"
    more = ("--datasets", file, "--protocol.start", 200, "--protocol.updates-per-growth", 8)
    ended = seqeval(*study(tmp_path / "run", *more, algorithms=(wild,)))
    assert ended.code == 3
    assert "mine, wild, seed 0: failed from n = 200 on" in flowing(ended.out)


def test_a_failed_study_can_be_plotted_and_exported(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wild = "td3_bc:hidden=(8,8),learning_rate=1e30,name=wild"
    assert seqeval(*study(out, algorithms=(wild, BC))).code == 3
    assert seqeval("plot", out, "--out", tmp_path / "figure.svg").code == 0
    assert (tmp_path / "figure.svg").exists()
    assert seqeval("export", out, "--to", tmp_path / "rows.parquet").code == 0
    exported = pd.read_parquet(tmp_path / "rows.parquet")
    assert set(exported.loc[exported["variant"] == "wild", "status"]) >= {"failed"}
    assert set(exported.loc[exported["variant"] == "bc", "status"]) == {"ok"}


def test_a_piece_that_cannot_go_on_leaves_the_others_finished_and_word_of_why(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, rows, out = small_file(tmp_path / "mine.hdf5"), local.rows, tmp_path / "run"

    def rows_without_the_file(*arguments: Any) -> Iterator[Row | Failure]:
        file.unlink()
        return rows(*arguments)

    monkeypatch.setattr(local, "rows", rows_without_the_file)
    more = ("--datasets", file, "pendulum-replay", "--protocol.start", 200, "--protocol.grow-by", 9_900)
    ended = seqeval(*study(out, *more))
    assert ended.code == 2
    (why,) = re.findall(
        r"^seqeval: (mine · bc · seed 0: .*mine\.hdf5: no such file.*)$", ended.err, re.MULTILINE
    )
    assert (out / "cells/pendulum-replay/bc/seed-0/policy.pt").exists()
    assert (out / "cells/mine/bc/seed-0/error.txt").read_text() == why + "\n"
    header, line, figure = ended.out.splitlines()
    assert header.split()[:2] == ["dataset", "algorithm"]
    assert line.split()[:4] == ["pendulum-replay", "bc", "offline", "score"]
    assert figure == f"figure: {out}/curves.png and {out}/curves.pdf"


def test_a_piece_that_breaks_off_is_in_the_table_as_far_as_it_came(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, calls = plugins.find("td3_bc"), iter(range(9))
    update = found.update

    def update_once(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise ZeroDivisionError
        return update(*arguments)

    monkeypatch.setattr(found, "update", update_once)
    with pytest.raises(WorkFailed, match=r"(?s)td3 · seed 0:\nTraceback.*ZeroDivisionError"):
        cli.main([str(argument) for argument in study(tmp_path / "run", algorithms=(TD3, BC))])
    _, *lines, note, figure = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["bc", "td3"]
    assert ["20000" in line.split() for line in lines] == [True, False]
    assert note == "note: pendulum-replay, td3: ends at n = 19900 of 20000"
    assert figure.startswith("figure: ")


def stop(seqeval: Seqeval, out: Path) -> Ended:
    """A study of which the first piece is stopped between its first and its second point."""
    act, calls = Agents.act, iter(range(300))

    def act_until_stopped(agents: Agents, observations: np.ndarray) -> np.ndarray:
        if next(calls) == 250:  # an episode has 200 steps
            raise KeyboardInterrupt
        return act(agents, observations)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Agents, "act", act_until_stopped)
        ended = seqeval(*study(out, "--seeds", 0, 1, algorithms=(BC, TD3)))
    gc.collect()  # what a stopped process does not close is noticed here and not in another test
    return ended


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the next test's business
def test_a_run_that_is_stopped_keeps_its_rows_and_ends_up_as_if_it_had_not_been(
    seqeval: Seqeval, finished_once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = stop(seqeval, out)
    assert ended.code == 130
    assert ended.err.splitlines()[-1].startswith("seqeval: stopped; the same command goes on")
    assert "Traceback" not in ended.err
    assert frame([out])["samples"].tolist() == [19_900, 19_900]
    assert seqeval(*study(out, "--seeds", 0, 1, algorithms=(BC, TD3))).code == 0
    pd.testing.assert_frame_equal(
        frame([out]).drop(columns=SECONDS), frame([finished_once]).drop(columns=SECONDS), check_exact=True
    )


def test_a_run_that_is_stopped_closes_its_files(seqeval: Seqeval, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stop(seqeval, tmp_path / "run")
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == []


# --- policies ---


@pytest.mark.parametrize("algorithm", ["bc", "td3"])
def test_a_loaded_policy_acts_on_one_and_on_many_observations_within_bounds(
    finished_once: Path, algorithm: str
) -> None:
    policy = load_policy(finished_once, "pendulum-replay", algorithm, 1)
    assert policy.env_id == "Pendulum-v1"
    observations = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32) * [1, 1, 8]
    actions = policy(observations)
    assert actions.shape == (4, 5, 1)
    assert np.isfinite(actions).all()
    assert (np.abs(actions) <= 2).all()
    assert actions.std() > 0
    assert policy(observations[0]).shape == (5, 1)
    assert policy(observations[0, 0]).shape == (1,)
    np.testing.assert_allclose(policy(observations[0, 0]), actions[0, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(policy(observations[0]), actions[0], rtol=1e-5, atol=1e-6)


def test_a_policy_that_is_loaded_twice_acts_the_same_to_the_last_bit(finished_once: Path) -> None:
    observations = np.random.default_rng(0).standard_normal((7, 3))
    policies = [load_policy(str(finished_once), "pendulum-replay", "td3", 0) for _ in range(2)]
    first = policies[0](observations)
    np.testing.assert_array_equal(policies[0](observations), first)
    np.testing.assert_array_equal(policies[1](observations), first)
    other = load_policy(finished_once, "pendulum-replay", "td3", 1)
    assert not np.array_equal(other(observations), first)


def test_a_loaded_policy_earns_the_returns_of_its_last_row(finished_once: Path) -> None:
    from seqeval.evaluation.gymnasium import Evaluator

    for variant in ("bc", "td3"):
        policy = load_policy(finished_once, "pendulum-replay", variant, 1)
        evaluate = Evaluator(policy.env_id, [1], 2)
        (episodes,) = evaluate(policy, [20_000])
        evaluate.close()
        rows = frame([finished_once])
        mine = rows[(rows["variant"] == variant) & (rows["seed"] == 1)]
        np.testing.assert_allclose(episodes.returns, mine["episode_returns"].iloc[-1], rtol=1e-4)


def test_a_policy_refuses_observations_of_another_size(finished_once: Path) -> None:
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        load_policy(finished_once, "pendulum-replay", "bc", 0)(np.zeros(4))


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        (("hopper-replay", "bc", 0), "no 'hopper-replay' among its datasets: pendulum-replay"),
        (("pendulum-replay", "iql", 0), "no 'iql' among its algorithms: bc, td3"),
        (("pendulum-replay", "bc", 9), "seed 9 is not there or not finished"),
    ],
)
def test_a_policy_that_is_not_there_is_refused(
    finished_once: Path, cell: tuple[str, str, int], part: str
) -> None:
    with pytest.raises(UserError, match=re.escape(part)):
        load_policy(finished_once, *cell)


# --- plot, export ---


def test_plot_draws_several_studies_into_one_figure(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    other, figure = tmp_path / "other", tmp_path / "deep" / "both.pdf"
    assert seqeval(*study(other)).code == 0
    ended = seqeval("plot", finished, other, "--out", figure)
    assert ended.code == 0
    assert ended.out.split() == [str(figure.with_suffix(".png")), str(figure)]
    assert figure.read_bytes().startswith(b"%PDF")
    assert figure.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_plot_draws_the_same_bytes_twice(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        assert seqeval("plot", finished, "--out", tmp_path / name).code == 0
    for ending in (".png", ".pdf"):
        one, two = ((tmp_path / name).with_suffix(ending).read_bytes() for name in ("one", "two"))
        assert one == two


def test_plot_refuses_one_name_for_two_data_sets(seqeval: Seqeval, tmp_path: Path) -> None:
    for number in (1, 2):
        file = small_file(tmp_path / "mine.hdf5", size=300 + number * 100)
        out = tmp_path / f"run-{number}"
        assert seqeval(*study(out, "--datasets", file, "--protocol.start", 250)).code == 0
    line = refused(seqeval("plot", tmp_path / "run-1", tmp_path / "run-2", "--out", tmp_path / "figure.png"))
    assert "run-2: its data called 'mine' are not those of" in line


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_export_writes_every_row_into_one_table(
    seqeval: Seqeval, finished: Path, tmp_path: Path, ending: str
) -> None:
    table = tmp_path / f"rows.{ending}"
    ended = seqeval("export", finished, "--to", table)
    assert (ended.code, ended.out) == (0, f"12 rows in {table}\n")
    rows = pd.read_csv(table) if ending == "csv" else pd.read_parquet(table)
    assert len(rows) == 2 * 2 * 3
    assert {"train/loss", "train/critic_loss"} <= set(rows.columns)
    assert all(len(json.loads(text)) == 2 for text in rows["episode_returns"])


# --- what is there ---


def test_datasets_list_prints_a_name_a_line(seqeval: Seqeval) -> None:
    ended = seqeval("datasets", "list")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == datasets.names()
    assert "pendulum-replay" in ended.out


def test_datasets_show_tells_what_is_in_a_dataset(seqeval: Seqeval) -> None:
    ended = seqeval("datasets", "show", "pendulum-replay")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.partition("\n\n")[0].splitlines()
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in lines)
    assert facts["environment"] == "Pendulum-v1"
    assert facts["transitions"] == "20000"
    assert facts["episodes"] == "100, 100 of them complete"
    assert facts["terminated, truncated"] == "0, 100 transitions"
    assert facts["scores"].startswith("mean 83.29,")


def test_datasets_show_tells_what_is_in_a_file_and_what_the_rules_did(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    file = small_file(tmp_path / "mine.hdf5", env_id=None, size=310)
    ended = seqeval("datasets", "show", file, "--env", "Pendulum-v1")
    assert ended.code == 0
    assert "transitions            309" in ended.out
    assert "4, 3 of them complete" in ended.out
    assert "none: no reference returns are known" in ended.out
    assert "dropped 1 truncated transitions" in ended.out


def test_algorithms_list_prints_an_algorithm_a_line(seqeval: Seqeval) -> None:
    ended = seqeval("algorithms", "list")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == plugins.names()
    assert "Behavioural cloning" in ended.out


@pytest.mark.parametrize("name", [name for name in plugins.names() if ":" not in name])
def test_algorithms_show_prints_every_setting_with_its_default(seqeval: Seqeval, name: str) -> None:
    ended = seqeval("algorithms", "show", name)
    assert (ended.code, ended.err) == (0, "")
    assert "batch_size" in ended.out
    assert "learning_rate" in ended.out
    assert re.search(r"batch_size +int +256 +transitions", ended.out)


@pytest.mark.parametrize("name", plugins.names())
def test_algorithms_show_prints_settings_in_full_where_there_is_no_terminal(
    seqeval: Seqeval, name: str
) -> None:
    shown = seqeval("algorithms", "show", name).out
    assert "normalize_observations" in shown
    assert "…" not in shown


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    cli.main(["--version"])
    assert capsys.readouterr().out == f"seqeval {version('seqeval-rl')}\n"


@pytest.mark.parametrize(
    "command", [[], ["run"], ["plot"], ["export"], ["datasets", "show"], ["algorithms", "show"]]
)
def test_help_is_printed_on_stdout(seqeval: Seqeval, command: list[str]) -> None:
    ended = seqeval(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "usage: seqeval" in ended.out


@pytest.mark.parametrize(
    "arguments", [[], ["datasets"], ["frobnicate"], ["run"], ["run", "--bogus", "1"], ["export", "x"]]
)
def test_a_command_that_is_not_understood_ends_with_code_2(seqeval: Seqeval, arguments: list[str]) -> None:
    ended = seqeval(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert "Traceback" not in ended.err


# --- the user's errors ---


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--datasets", "pendulum-reply"), ("'pendulum-reply'", "did you mean 'pendulum-replay'")),
        (("--datasets", "nowhere.hdf5"), ("nowhere.hdf5: no such file",)),
        (
            ("--datasets", "pendulum-replay", "pendulum-replay"),
            ("datasets: pendulum-replay", "more than once"),
        ),
        (("--datasets",), ("datasets: name at least one",)),
        (("--env", "Hopper-v4"), ("'pendulum-replay'", "Hopper-v4", "--env")),
        (("--algorithms", "iqll"), ("'iqll'", "did you mean 'iql'")),
        (("--algorithms", "bc:droput=0"), ("'droput'", "did you mean 'dropout'")),
        (("--algorithms", "bc:dropout=much"), ("dropout must be float",)),
        (("--algorithms", "bc:batch_size=0"), ("batch_size must be at least 1",)),
        (("--algorithms", "bc", "iql:name=bc"), ("two variants are called 'bc'",)),
        (("--algorithms",), ("algorithms: name at least one",)),
        (("--seeds", "-1"), ("seeds: -1 is negative",)),
        (("--seeds", "3", "3"), ("seeds: 3 is named more than once",)),
        (("--seeds",), ("seeds: name at least one",)),
        (("--protocol.start", "0"), ("protocol.start: must be at least 1",)),
        (("--protocol.start", "20001"), ("protocol.start", "20001", "20000")),
        (("--protocol.window", "49"), ("protocol.window", "49", "50")),
        (("--evaluation.points", "0"), ("evaluation.points: must be at least 1",)),
        (("--jobs", "0"), ("jobs: must be at least 1, not 0",)),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_before_anything_is_written(
    seqeval: Seqeval, tmp_path: Path, more: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    line = refused(seqeval(*study(tmp_path / "run", *more)))
    assert all(part in line for part in parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("datasets", "show", "pendulum-reply"),
        ("datasets", "show", "nowhere.hdf5"),
        ("datasets", "show", "pendulum-replay", "--env", "Hopper-v4"),
        ("algorithms", "show", "iqll"),
        ("plot", "--out", "figure.png"),
        ("plot", "nowhere", "--out", "figure.png"),
        ("export", "nowhere", "--to", "rows.csv"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(seqeval(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_plot_and_export_refuse_endings_they_do_not_know(
    seqeval: Seqeval, finished: Path, tmp_path: Path
) -> None:
    assert ".png, .pdf or .svg" in refused(seqeval("plot", finished, "--out", tmp_path / "figure.jpeg"))
    assert ".csv or .parquet" in refused(seqeval("export", finished, "--to", tmp_path / "rows.xlsx"))


def test_plot_refuses_a_study_that_is_named_twice(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    assert "one name" in refused(seqeval("plot", finished, finished, "--out", tmp_path / "figure.png"))


def test_run_refuses_a_folder_with_something_else_in_it(seqeval: Seqeval, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    assert "not empty and holds no study" in refused(seqeval(*study(tmp_path)))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_run_refuses_two_files_of_one_name(seqeval: Seqeval, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    files = [small_file(tmp_path / folder / "mine.hdf5") for folder in ("one", "two")]
    line = refused(seqeval(*study(tmp_path / "run", "--datasets", *files, "--protocol.start", 200)))
    assert "two are called 'mine'" in line


def test_run_refuses_a_path_that_is_a_file(seqeval: Seqeval, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert str(tmp_path / "run") in refused(seqeval(*study(tmp_path / "run")))


def test_export_refuses_a_path_that_is_a_folder(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    assert "rows.csv" in refused(seqeval("export", finished, "--to", tmp_path / "rows.csv"))


# --- presets and regimes ---


def test_a_preset_gives_defaults_and_flags_go_before_it(seqeval: Seqeval, tmp_path: Path) -> None:
    assert (
        seqeval(
            *study(
                tmp_path / "run", "--preset", "paper", "--evaluation.every", "70", "--protocol.start", "19800"
            )
        ).code
        == 0
    )
    resolved = json.loads((tmp_path / "run" / "study.json").read_text())
    assert resolved["protocol"]["normalizer"] == "full"
    assert resolved["protocol"]["start"] == 19_800  # the flag's, not the preset's
    assert resolved["evaluation"]["every"] == 70
    assert resolved["datasets"]["pendulum-replay"]["transitions"] == 20_000 - 100  # qlearning_dataset
    assert refused(seqeval(*study(tmp_path / "run"))).startswith("seqeval: ")


def test_regimes_run_and_share_a_figure(seqeval: Seqeval, tmp_path: Path) -> None:
    folders = []
    for regime in ("retrain", "warm", "full"):
        folders.append(tmp_path / regime)
        settings = ("--protocol.regime", regime, "--protocol.sizes", "3", "--protocol.updates-per-size", "4")
        assert seqeval(*study(folders[-1], *settings)).code == 0
    rows = frame(folders)
    assert rows.groupby("regime")["samples"].nunique().to_dict() == {"full": 1, "retrain": 3, "warm": 3}
    assert seqeval("plot", *folders, "--out", tmp_path / "all.svg").code == 0
    assert "bc (retrain)" in (tmp_path / "all.svg").read_text()
    assert "sizes" in refused(
        seqeval(*study(tmp_path / "no", *settings[:1], "warm", "--protocol.sizes", "9999"))
    )


def test_a_full_disk_is_one_line_whoever_meets_it(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a file that is open: without its name

    monkeypatch.setattr(atomic_io, "save_json", full)
    ended = seqeval(*study(tmp_path / "run"))
    assert ended.code == 2
    assert ended.err.endswith("No space left on device; make room and give the same command again\n")
    assert "Traceback" not in ended.err


def test_names_that_are_one_word_are_refused() -> None:
    with pytest.raises(UserError, match=r"datasets: wants several, as a tuple: \('pendulum-replay',\)"):
        Study("pendulum-replay", ("bc",))
