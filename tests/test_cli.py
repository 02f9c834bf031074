"""The command line: the files it writes, its output and its exit codes."""

from __future__ import annotations

import errno
import gc
import json
import random
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
import torch
from conftest import CommandResult, Seqeval, refused

from seqeval import Evaluation, Study, atomic_io, cli, datasets, load_policy, plugins
from seqeval.algorithm import Memory
from seqeval.errors import UserError
from seqeval.execution.launchers import local
from seqeval.execution.storage import StudyDirectory, frame
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
    """The arguments of a small study. `more` may override an option: the last value counts."""
    return [
        *("run", "--datasets", "pendulum-replay", "--algorithms", *algorithms),
        *("--seeds", 0, *SHORT, "--jobs", jobs, "--out", out, *more),
    ]


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two algorithms with two seeds. Read-only."""
    out = tmp_path_factory.mktemp("cli") / "run"
    arguments = study(out, "--seeds", 0, 1, algorithms=(BC, TD3))
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert ended.value.code == 0
    return out


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of the finished study that a test may change."""
    return Path(shutil.copytree(finished_once, tmp_path / "run"))


def unwrapped(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def file_states(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The content and the modification time of each file in a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def small_file(path: Path, env_id: str | None = "Pendulum-v1", size: int = 300) -> Path:
    """Random transitions of Pendulum, without reference returns."""
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


# --- seqeval run ---


def test_run_writes_study_rows_policies_and_figures(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    ended = seqeval(*study(out))
    assert ended.code == 0
    folder = "runs/pendulum-replay/bc/seed-0"
    assert sorted(file_states(out)) == [
        ".lock",
        "curves.pdf",
        "curves.png",
        f"{folder}/finished.json",
        f"{folder}/policy.pt",
        f"{folder}/rows.jsonl",
        "study.json",
    ]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "curves.pdf").read_bytes().startswith(b"%PDF")
    rows = [json.loads(line) for line in (out / folder / "rows.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in rows] == [19_900, 19_950, 20_000]
    assert [row["updates"] for row in rows] == [1, 2, 3]
    assert {(row["status"], row["phase"], row["regime"], row["study"]) for row in rows} == {
        ("ok", "offline", "stream", "run")
    }
    for row in rows:
        assert row["episode_lengths"] == [200, 200]
        assert row["return_mean"] == pytest.approx(np.mean(row["episode_returns"]))
        assert row["metrics"].keys() == {"loss"}
    predicted = {"prequential_squared_error", "prequential_transitions"}
    assert [row["evaluations"].keys() for row in rows] == [predicted, predicted, set()]
    resolved = json.loads((out / "study.json").read_text())
    assert resolved["protocol"]["start"] == 19_900
    assert resolved["evaluation"] == {
        "points": 2,
        "episodes": 2,
        "every": None,
        "backend": "gymnasium",
        "metrics": ["episodes", "prequential", "initial-value"],
    }
    assert resolved["algorithms"]["bc"]["config"]["hidden"] == [8, 8]
    assert resolved["invocations"][0]["seeds"] == [0]
    assert {"torch", "gymnasium", "seqeval-rl"} <= resolved["invocations"][0]["versions"].keys()
    assert str(out / "curves.png") in ended.out
    assert "20000" in ended.out
    assert "100%" in unwrapped(ended.err)


def test_the_results_table_shows_full_dataset_names_without_a_terminal(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    ended = seqeval(*study(tmp_path / "run"))
    assert "pendulum-replay" in ended.out


def test_a_second_run_adds_a_seed_and_leaves_finished_runs_unchanged(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert seqeval(*study(out)).code == 0
    before = file_states(out / "runs")
    ended = seqeval(*study(out, "--seeds", 0, 1))
    assert ended.code == 0
    after = file_states(out / "runs")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [
        "pendulum-replay/bc/seed-1/finished.json",
        "pendulum-replay/bc/seed-1/policy.pt",
        "pendulum-replay/bc/seed-1/rows.jsonl",
    ]
    assert sorted(set(frame([out])["seed"])) == [0, 1]
    assert [
        invocation["seeds"] for invocation in json.loads((out / "study.json").read_text())["invocations"]
    ] == [
        [0],
        [0, 1],
    ]


def test_a_second_run_adds_an_algorithm_and_keeps_the_first(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert seqeval(*study(out)).code == 0
    before = file_states(out / "runs")
    assert seqeval(*study(out, algorithms=(TD3,))).code == 0
    after = file_states(out / "runs")
    assert {name: after[name] for name in before} == before
    assert set(frame([out])["variant"]) == {"bc", "td3"}


def test_a_second_run_of_a_finished_study_only_draws_the_figure(seqeval: Seqeval, finished: Path) -> None:
    before = file_states(finished / "runs")
    (finished / "curves.png").unlink()
    ended = seqeval(*study(finished, "--seeds", 0, 1, algorithms=(BC, TD3)))
    assert ended.code == 0
    assert "every run is finished" in unwrapped(ended.err)
    assert file_states(finished / "runs") == before
    assert (finished / "curves.png").exists()


def test_a_second_run_restarts_a_run_without_a_checkpoint(seqeval: Seqeval, finished: Path) -> None:
    before = frame([finished]).drop(columns=SECONDS)
    unfinished = finished / "runs/pendulum-replay/td3/seed-1"
    (unfinished / "policy.pt").unlink()
    rows = (unfinished / "rows.jsonl").read_bytes()
    (unfinished / "rows.jsonl").write_bytes(rows[: len(rows) // 2])
    other = file_states(finished / "runs/pendulum-replay/td3/seed-0")
    assert seqeval(*study(finished, "--seeds", 0, 1, algorithms=(BC, TD3))).code == 0
    pd.testing.assert_frame_equal(frame([finished]).drop(columns=SECONDS), before)
    assert file_states(finished / "runs/pendulum-replay/td3/seed-0") == other


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("--protocol.start", 19_800, ("protocol.start", "19900", "19800")),
        ("--protocol.order", "logged", ("protocol.order", "'shuffled'", "'logged'")),
        ("--evaluation.episodes", 3, ("evaluation.episodes", "2", "3")),
    ],
)
def test_a_second_run_with_another_protocol_is_refused(
    seqeval: Seqeval, finished: Path, option: str, value: object, parts: tuple[str, ...]
) -> None:
    before = file_states(finished)
    line = refused(seqeval(*study(finished, option, value)))
    assert all(part in line for part in (str(finished), *parts))
    assert file_states(finished) == before


def test_a_second_run_with_other_settings_of_a_variant_is_refused(seqeval: Seqeval, finished: Path) -> None:
    before = file_states(finished)
    line = refused(seqeval(*study(finished, algorithms=("bc:hidden=(8,8),dropout=0,name=bc",))))
    assert "bc.dropout is 0.1 there and 0.0 now" in line
    assert file_states(finished) == before


def test_two_parallel_jobs_give_the_same_rows_as_one(
    seqeval: Seqeval, finished_once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert seqeval(*study(out, "--seeds", 0, 1, algorithms=(BC, TD3), jobs=2)).code == 0
    pd.testing.assert_frame_equal(
        frame([out]).drop(columns=SECONDS), frame([finished_once]).drop(columns=SECONDS), check_exact=True
    )


def test_a_dataset_without_reference_returns_is_reported_in_returns(seqeval: Seqeval, tmp_path: Path) -> None:
    file, out = small_file(tmp_path / "custom.hdf5", env_id=None), tmp_path / "run"
    ended = seqeval(*study(out, "--datasets", file, "--env", "Pendulum-v1", "--protocol.start", 200))
    assert ended.code == 0
    assert " return " in ended.out
    assert frame([out])["score"].isna().all()


def test_changes_by_the_dataset_rules_are_printed_before_the_run(seqeval: Seqeval, tmp_path: Path) -> None:
    file = small_file(tmp_path / "custom.hdf5", size=310)
    ended = seqeval(*study(tmp_path / "run", "--datasets", file, "--protocol.start", 300))
    assert ended.code == 0
    assert "note: custom: dropped 1 truncated transitions" in unwrapped(ended.err)


# --- failures ---


def test_runs_with_losses_that_are_not_finite_are_named_with_exit_code_3(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = seqeval(
        *study(out, "--seeds", 0, 1, algorithms=("td3_bc:hidden=(8,8),learning_rate=1e30,name=wild",))
    )
    assert ended.code == 3
    for seed in (0, 1):
        assert f"pendulum-replay, wild, seed {seed}: failed from n = " in unwrapped(ended.out)
    assert "0 of 2" in ended.out
    rows = frame([out])
    assert (rows["status"] == "failed").any()
    assert rows.loc[rows["status"] == "failed", ["score", "return_mean"]].isna().all(axis=None)
    assert (out / "curves.png").exists()


def test_a_failed_seed_does_not_change_the_other_seed(
    seqeval: Seqeval, finished_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Agents.act_in_episodes

    def with_a_broken_replica(
        agents: Agents, observations: np.ndarray, rewards: np.ndarray, memory: Memory
    ) -> np.ndarray:
        actions = act(agents, observations, rewards, memory)
        actions[1:] = np.nan
        return actions

    monkeypatch.setattr(Agents, "act_in_episodes", with_a_broken_replica)
    out = tmp_path / "run"
    ended = seqeval(*study(out, "--seeds", 0, 1))
    assert ended.code == 3
    assert "pendulum-replay, bc, seed 1: failed from n = 19900 on" in unwrapped(ended.out)
    assert "seed 0: failed" not in ended.out
    assert "1 of 2" in ended.out
    rows = frame([out]).set_index("seed").drop(columns=SECONDS)
    assert (rows.loc[1, "status"] == "failed").all()
    whole = frame([finished_once]).set_index("seed").drop(columns=SECONDS)
    columns = ["samples", "episode_returns", "score", "train/loss"]
    pd.testing.assert_frame_equal(rows.loc[0, columns], whole[whole["variant"] == "bc"].loc[0, columns])


def test_if_all_seeds_fail_without_reference_returns_the_exit_code_is_3(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    file = small_file(tmp_path / "custom.hdf5")
    wild = "td3_bc:hidden=(8,8),batch_size=32,learning_rate=1e30,name=wild"
    more = ("--datasets", file, "--protocol.start", 200, "--protocol.updates-per-growth", 8)
    ended = seqeval(*study(tmp_path / "run", *more, algorithms=(wild,)))
    assert ended.code == 3
    assert "custom, wild, seed 0: failed from n = 200 on" in unwrapped(ended.out)


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


def test_a_job_with_a_user_error_stores_it_and_the_other_jobs_finish(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, run, out = small_file(tmp_path / "custom.hdf5"), local.run_payload, tmp_path / "run"

    def run_without_the_file(*arguments: Any) -> Iterator[Row | Failure]:
        file.unlink(missing_ok=True)
        return run(*arguments)

    monkeypatch.setattr(local, "run_payload", run_without_the_file)
    more = ("--datasets", file, "pendulum-replay", "--protocol.start", 200, "--protocol.grow-by", 9_900)
    ended = seqeval(*study(out, *more))
    assert ended.code == 2
    (why,) = re.findall(
        r"^seqeval: (custom · bc · seed 0: .*custom\.hdf5: no such file.*)$", ended.err, re.MULTILINE
    )
    assert (out / "runs/pendulum-replay/bc/seed-0/policy.pt").exists()
    assert (out / "runs/custom/bc/seed-0/error.txt").read_text() == why + "\n"
    header, line, figure = ended.out.splitlines()
    assert header.split()[:2] == ["dataset", "algorithm"]
    assert line.split()[:4] == ["pendulum-replay", "bc", "offline", "score"]
    assert figure == f"figure: {out}/curves.png and {out}/curves.pdf"


def test_the_results_table_includes_the_rows_of_a_job_that_crashed(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, calls = plugins.find("td3_bc"), iter(range(9))
    update = found.update

    def update_once(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise ZeroDivisionError
        return update(*arguments)

    monkeypatch.setattr(found, "update", update_once)
    ended = seqeval(*study(tmp_path / "run", algorithms=(TD3, BC)))
    assert ended.code == 3
    assert "td3 · seed 0: a plug-in or environment raised an exception\n" in ended.err
    assert "in update_once" in ended.err
    assert "ZeroDivisionError" in ended.err
    _, *lines, note, figure = ended.out.splitlines()
    assert [line.split()[1] for line in lines] == ["td3", "bc"]
    assert ["20000" in line.split() for line in lines] == [False, True]
    assert note == "note: pendulum-replay, td3: ends at n = 19900 of 20000"
    assert figure.startswith("figure: ")


def run_interrupted(seqeval: Seqeval, out: Path) -> CommandResult:
    """Runs a study that is interrupted between the first and the second evaluation of its first job."""
    act, calls = Agents.act_in_episodes, iter(range(300))

    def act_until_interrupted(
        agents: Agents, observations: np.ndarray, rewards: np.ndarray, memory: Memory
    ) -> np.ndarray:
        if next(calls) == 250:  # an episode has 200 steps
            raise KeyboardInterrupt
        return act(agents, observations, rewards, memory)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Agents, "act_in_episodes", act_until_interrupted)
        ended = seqeval(*study(out, "--seeds", 0, 1, algorithms=(BC, TD3)))
    gc.collect()  # files left open are reported here and not in another test
    return ended


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the next test checks this
def test_an_interrupted_study_resumes_to_the_rows_of_an_uninterrupted_one(
    seqeval: Seqeval, finished_once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = run_interrupted(seqeval, out)
    assert ended.code == 130
    assert ended.err.splitlines()[-1].startswith("seqeval: interrupted; run the same command again to resume")
    assert "Traceback" not in ended.err
    assert frame([out])["samples"].tolist() == [19_900, 19_900]
    assert seqeval(*study(out, "--seeds", 0, 1, algorithms=(BC, TD3))).code == 0
    pd.testing.assert_frame_equal(
        frame([out]).drop(columns=SECONDS), frame([finished_once]).drop(columns=SECONDS), check_exact=True
    )


def test_an_interrupted_study_closes_its_files(seqeval: Seqeval, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_interrupted(seqeval, tmp_path / "run")
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


# --- policies ---


@pytest.mark.parametrize("algorithm", ["bc", "td3"])
def test_a_loaded_policy_accepts_single_and_batched_observations(finished_once: Path, algorithm: str) -> None:
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


def test_a_policy_loaded_twice_gives_bitwise_equal_actions(finished_once: Path) -> None:
    observations = np.random.default_rng(0).standard_normal((7, 3))
    policies = [load_policy(str(finished_once), "pendulum-replay", "td3", 0) for _ in range(2)]
    first = policies[0](observations)
    np.testing.assert_array_equal(policies[0](observations), first)
    np.testing.assert_array_equal(policies[1](observations), first)
    other = load_policy(finished_once, "pendulum-replay", "td3", 1)
    assert not np.array_equal(other(observations), first)


def test_a_loaded_policy_reproduces_the_returns_of_its_last_row(finished_once: Path) -> None:
    from test_evaluation import Policies

    from seqeval.evaluation import VisibleData
    from seqeval.evaluation.evaluators.episodes import Episodes

    for variant in ("bc", "td3"):
        policy = load_policy(finished_once, "pendulum-replay", variant, 1)
        evaluator = Episodes(policy.env_id, [1], Evaluation(episodes=2))
        results = evaluator.evaluate(Policies((1,), policy), VisibleData((20_000,)))
        evaluator.close()
        rows = frame([finished_once])
        expected = rows[(rows["variant"] == variant) & (rows["seed"] == 1)]
        (returns,) = results["episode_returns"]
        np.testing.assert_allclose(returns, expected["episode_returns"].iloc[-1], rtol=1e-4)


def test_a_policy_refuses_observations_of_another_size(finished_once: Path) -> None:
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        load_policy(finished_once, "pendulum-replay", "bc", 0)(np.zeros(4))


@pytest.mark.parametrize(
    ("run", "part"),
    [
        (("hopper-replay", "bc", 0), "no 'hopper-replay' among its datasets: pendulum-replay"),
        (("pendulum-replay", "iql", 0), "no 'iql' among its algorithms: bc, td3"),
        (("pendulum-replay", "bc", 9), "seed 9 is missing or has not finished"),
    ],
)
def test_loading_a_policy_that_does_not_exist_is_refused(
    finished_once: Path, run: tuple[str, str, int], part: str
) -> None:
    with pytest.raises(UserError, match=re.escape(part)):
        load_policy(finished_once, *run)


def test_a_damaged_policy_is_refused_whichever_byte_is_wrong(finished_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished_once, out)
    file = StudyDirectory(out).run("pendulum-replay", "bc", 0).policy
    content, rng = file.read_bytes(), random.Random(0)
    for place in rng.sample(range(len(content)), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"policy\.pt: damaged, .* remove its folder and run the study"):
            load_policy(out, "pendulum-replay", "bc", 0)


@pytest.mark.parametrize("content", [{"a": 1}, [1], {"updates": 1, "agent": 3}, {"updates": "x"}])
def test_a_file_of_other_content_is_no_policy(finished_once: Path, tmp_path: Path, content: object) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished_once, out)
    run = StudyDirectory(out).run("pendulum-replay", "bc", 0)
    torch.save(content, run.policy)
    run.finished_record.write_text(json.dumps({"rows_bytes": run.rows.stat().st_size}))
    with pytest.raises(UserError, match=r"policy\.pt: (damaged|holds no policy)"):
        load_policy(out, "pendulum-replay", "bc", 0)


# --- seqeval plot and export ---


def test_plot_draws_several_studies_in_one_figure(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    other, figure = tmp_path / "other", tmp_path / "deep" / "both.pdf"
    assert seqeval(*study(other)).code == 0
    ended = seqeval("plot", finished, other, "--out", figure)
    assert ended.code == 0
    assert ended.out.split() == [str(figure.with_suffix(".png")), str(figure)]
    assert figure.read_bytes().startswith(b"%PDF")
    assert figure.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_plot_is_deterministic(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        assert seqeval("plot", finished, "--out", tmp_path / name).code == 0
    for ending in (".png", ".pdf"):
        one, two = ((tmp_path / name).with_suffix(ending).read_bytes() for name in ("one", "two"))
        assert one == two


def test_plot_refuses_different_datasets_with_one_name(seqeval: Seqeval, tmp_path: Path) -> None:
    for number in (1, 2):
        file = small_file(tmp_path / "custom.hdf5", size=300 + number * 100)
        out = tmp_path / f"run-{number}"
        assert seqeval(*study(out, "--datasets", file, "--protocol.start", 250)).code == 0
    line = refused(seqeval("plot", tmp_path / "run-1", tmp_path / "run-2", "--out", tmp_path / "figure.png"))
    assert "run-2: its data called 'custom' are not those of" in line


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_export_writes_all_rows(seqeval: Seqeval, finished: Path, tmp_path: Path, ending: str) -> None:
    table = tmp_path / f"rows.{ending}"
    ended = seqeval("export", finished, "--to", table)
    assert (ended.code, ended.out) == (0, f"12 rows in {table}\n")
    rows = pd.read_csv(table) if ending == "csv" else pd.read_parquet(table)
    assert len(rows) == 2 * 2 * 3
    assert {"train/loss", "train/critic_loss"} <= set(rows.columns)
    assert all(len(json.loads(text)) == 2 for text in rows["episode_returns"])


# --- seqeval datasets and algorithms ---


def test_datasets_list_has_a_line_for_each_name(seqeval: Seqeval) -> None:
    ended = seqeval("datasets", "list")
    assert (ended.code, ended.err) == (0, "")
    header, *lines = ended.out.splitlines()
    assert re.fullmatch(r"dataset +data +evaluated in", header)
    assert [line.split()[0] for line in lines] == datasets.names()
    assert re.search(r"^pendulum-replay +embedded +Pendulum-v1$", ended.out, re.MULTILINE)
    assert re.search(r"^hopper-medium-v2 +(downloadable|on disk) +Hopper-v4$", ended.out, re.MULTILINE)
    assert re.search(r"^antmaze-umaze-v2 .* no: no installed environment has its", ended.out, re.MULTILINE)
    assert re.search(r"^none +no data +in the environment that --env names$", ended.out, re.MULTILINE)


def test_datasets_show_describes_a_dataset(seqeval: Seqeval) -> None:
    ended = seqeval("datasets", "show", "pendulum-replay")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.partition("\n\n")[0].splitlines()
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in lines)
    assert facts["environment"] == "Pendulum-v1"
    assert facts["transitions"] == "20000"
    assert facts["episodes"] == "100, 100 of them complete"
    assert facts["terminated, truncated"] == "0, 100 transitions"
    assert facts["scores"].startswith("mean 83.29,")


def test_datasets_show_describes_a_file_and_changes_by_the_dataset_rules(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    file = small_file(tmp_path / "custom.hdf5", env_id=None, size=310)
    ended = seqeval("datasets", "show", file, "--env", "Pendulum-v1")
    assert ended.code == 0
    assert "transitions            309" in ended.out
    assert "4, 3 of them complete" in ended.out
    assert "none: no reference returns are known" in ended.out
    assert "dropped 1 truncated transitions" in ended.out


def test_algorithms_list_prints_one_algorithm_per_line(seqeval: Seqeval) -> None:
    ended = seqeval("algorithms", "list")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == plugins.names()
    assert "TD3+BC: Fujimoto, Gu" in ended.out


@pytest.mark.parametrize("name", [name for name in plugins.names() if ":" not in name])
def test_algorithms_show_prints_every_setting_with_its_default(seqeval: Seqeval, name: str) -> None:
    ended = seqeval("algorithms", "show", name)
    assert (ended.code, ended.err) == (0, "")
    assert "batch_size" in ended.out
    assert "learning_rate" in ended.out
    size = plugins.find(name).Config().batch_size
    assert re.search(rf"batch_size +int +{size} +(transitions|sequences)", ended.out)


@pytest.mark.parametrize("name", plugins.names())
def test_algorithms_show_does_not_shorten_settings_without_a_terminal(seqeval: Seqeval, name: str) -> None:
    shown = seqeval("algorithms", "show", name).out
    assert "normalize_observations" in shown
    assert "…" not in shown


def test_version_prints_the_version_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    cli.main(["--version"])
    assert capsys.readouterr().out == f"seqeval {version('seqeval-rl')}\n"


@pytest.mark.parametrize(
    "command", [[], ["run"], ["plot"], ["export"], ["datasets", "show"], ["algorithms", "show"]]
)
def test_help_is_printed_to_stdout(seqeval: Seqeval, command: list[str]) -> None:
    ended = seqeval(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "usage: seqeval" in ended.out


@pytest.mark.parametrize(
    "arguments", [[], ["datasets"], ["frobnicate"], ["run"], ["run", "--bogus", "1"], ["export", "x"]]
)
def test_an_invalid_command_has_exit_code_2(seqeval: Seqeval, arguments: list[str]) -> None:
    ended = seqeval(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert "Traceback" not in ended.err


# --- user errors ---


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
        (("--algorithms", "bc:dropout=much"), ("dropout must be a number, not 'much'",)),
        (("--algorithms", "bc:batch_size=0"), ("batch_size must be at least 1",)),
        (("--algorithms", "bc", "iql:name=bc"), ("two variants are named 'bc'",)),
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
def test_an_invalid_study_is_refused_before_anything_is_written(
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
def test_missing_inputs_are_refused_in_one_line(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(seqeval(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_plot_and_export_refuse_unknown_file_types(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    assert ".png, .pdf or .svg" in refused(seqeval("plot", finished, "--out", tmp_path / "figure.jpeg"))
    assert ".csv or .parquet" in refused(seqeval("export", finished, "--to", tmp_path / "rows.xlsx"))


def test_plot_refuses_a_study_given_twice(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    assert "same name" in refused(seqeval("plot", finished, finished, "--out", tmp_path / "figure.png"))


def test_run_refuses_a_folder_with_other_files(seqeval: Seqeval, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    assert "not empty and holds no study" in refused(seqeval(*study(tmp_path)))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_run_refuses_two_dataset_files_with_one_name(seqeval: Seqeval, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    files = [small_file(tmp_path / folder / "custom.hdf5") for folder in ("one", "two")]
    line = refused(seqeval(*study(tmp_path / "run", "--datasets", *files, "--protocol.start", 200)))
    assert "two are called 'custom'" in line


def test_run_refuses_a_file_as_study_directory(seqeval: Seqeval, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert str(tmp_path / "run") in refused(seqeval(*study(tmp_path / "run")))


def test_export_refuses_a_folder_as_output(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    assert "rows.csv" in refused(seqeval("export", finished, "--to", tmp_path / "rows.csv"))


# --- presets and regimes ---


def test_flags_override_the_defaults_of_a_preset(seqeval: Seqeval, tmp_path: Path) -> None:
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
    assert resolved["protocol"]["start"] == 19_800  # from the flag, not from the preset
    assert resolved["evaluation"]["every"] == 70
    assert (
        resolved["datasets"]["pendulum-replay"]["transitions"] == 20_000 - 100
    )  # as D4RL's qlearning_dataset does
    assert refused(seqeval(*study(tmp_path / "run"))).startswith("seqeval: ")


def test_studies_of_all_regimes_run_and_share_a_figure(seqeval: Seqeval, tmp_path: Path) -> None:
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


def test_a_full_disk_is_reported_in_one_line(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # an error in an open file has no name

    monkeypatch.setattr(atomic_io, "save_json", full)
    ended = seqeval(*study(tmp_path / "run"))
    assert ended.code == 2
    assert ended.err.endswith("No space left on device; free some space and run the same command again\n")
    assert "Traceback" not in ended.err


def test_a_string_instead_of_a_tuple_of_datasets_is_refused() -> None:
    with pytest.raises(UserError, match=r"datasets: must be a tuple of str.*write \('pendulum-replay',\)"):
        Study("pendulum-replay", ("bc",))
