"""Evaluators of the user: their metrics become columns of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cluster import SMALL, checkpoints, differences, rows, run, run_partly
from conftest import Seqeval, refused

from seqeval import Evaluation, Online, Protocol, Study, UserError, loading
from seqeval.errors import PluginError

EVALUATORS = """
import numpy as np
from seqeval.evaluation import Evaluator, Metric

class MeanAction(Evaluator):
    "The mean action for the visible observations, and the number of these."

    metrics = {"mean_action": Metric("actions", None), "visible": Metric("transitions", None)}

    def evaluate(self, agents, visible):
        assert agents.seeds == self.seeds
        means, counts = [], []
        for replica in range(len(self.seeds)):
            rows = visible.rows(replica)
            observations = visible.buffer.observations[rows].numpy()
            everyone = np.broadcast_to(observations, (len(self.seeds), *observations.shape))
            means.append(float(agents.act(everyone)[replica].mean()))
            counts.append(len(np.unique(rows)))
        return {"mean_action": means, "visible": counts}

class AtZero(Evaluator):
    "The action for the observation zero."

    uses_data = False
    metrics = {"at_zero": Metric("actions", None)}

    def evaluate(self, agents, visible):
        assert visible.buffer is None or len(visible.samples) == len(self.seeds)
        return {"at_zero": agents.act(np.zeros((len(self.seeds), 1, 3)))[:, 0, 0].tolist()}

class NotFinite(Evaluator):
    metrics = {"q": Metric("return", "higher")}

    def evaluate(self, agents, visible):
        return {"q": [float("nan")] * len(self.seeds)}

class Named(Evaluator):
    metrics = {"at_zero": Metric("actions", None)}

    def evaluate(self, agents, visible):
        return {self.name: [1.0] * len(self.seeds)}

class Again(Named):
    name = "at_zero"

class Misspelt(Named):
    name = "at_zeros"

class TooFew(NotFinite):
    def evaluate(self, agents, visible):
        return {"q": [1.0] * (len(self.seeds) - 1)}

class Refuses(Evaluator):
    @classmethod
    def check(cls, dataset, study):
        from seqeval import UserError
        raise UserError(f"evaluator refuses {dataset.env_id}")

    def evaluate(self, agents, visible):
        return {}

class Incomplete(Evaluator):
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(EVALUATORS)
    return path


def study(file: Path, *names: str, episodes: bool = True, **settings: Any) -> Study:
    metrics = (("episodes",) if episodes else ()) + tuple(f"{file}:{name}" for name in names)
    defaults: dict[str, Any] = {"online": Online(steps=30)}
    return Study(
        ("pendulum-replay",),
        (f"td3_bc:{SMALL},name=td3_bc", f"bc:{SMALL},name=bc"),
        seeds=(0, 1),
        protocol=Protocol(start=19_000, grow_by=50),
        evaluation=Evaluation(points=2, episodes=1, metrics=metrics),
        **defaults | settings,
    )


def test_metrics_are_columns_of_offline_and_online_rows(file: Path, tmp_path: Path) -> None:
    table = run(study(file, "MeanAction", "AtZero"), tmp_path / "out")
    assert table[["eval/mean_action", "eval/at_zero", "return_mean"]].notna().all(axis=None)
    assert table["eval/mean_action"].between(-2, 2).all()
    assert table["eval/mean_action"].nunique() > len(table) / 2
    online = table[(table["phase"] == "online") & (table["variant"] == "td3_bc")]
    assert len(online) == 4
    learned = table[table["variant"] == "td3_bc"]
    assert (learned["eval/visible"] == learned["samples"]).all()


def test_evaluators_do_not_affect_each_other_or_the_process_that_runs_them(
    file: Path, tmp_path: Path
) -> None:
    both = study(file, "MeanAction", "AtZero")
    expected = run(both, tmp_path / "out")
    run(both, tmp_path / "two", jobs=2)
    assert differences()(tmp_path / "out", tmp_path / "two") == []
    for name, overlap in (("at_zero", "on"), ("mean_action", "on"), ("at_zero", "off")):
        evaluator = "AtZero" if name == "at_zero" else "MeanAction"
        table = run(study(file, evaluator), tmp_path / f"{name}-{overlap}", overlap=overlap)
        columns = ["variant", "seed", "samples", "score", f"eval/{name}"]
        pd.testing.assert_frame_equal(table[columns], expected[columns], check_exact=True)


def test_a_resumed_study_has_the_same_metrics(file: Path, tmp_path: Path) -> None:
    both = study(file, "MeanAction", "AtZero", online=Online(steps=300))
    run(both, tmp_path / "expected")
    run_partly(both, tmp_path / "out", 7)
    assert checkpoints(tmp_path / "out")
    run(both, tmp_path / "out")
    assert differences()(tmp_path / "expected", tmp_path / "out") == []


def test_a_study_without_episodes_has_rows_without_returns(file: Path, tmp_path: Path) -> None:
    found = list(rows(study(file, "AtZero", episodes=False, online=Online()), tmp_path / "out"))
    assert len(found) == 2 * 2 * 3
    for row in found:
        assert (row.status, row.return_mean, row.score, row.episode_returns) == ("ok", None, None, [])
        assert row.evaluations.keys() == {"at_zero"}


def test_a_metric_that_is_not_finite_is_nan_in_the_table(file: Path, tmp_path: Path) -> None:
    table = run(study(file, "NotFinite", online=Online()), tmp_path / "out")
    assert table["eval/q"].isna().all()
    assert (table["status"] == "ok").all()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_metrics_are_stored_and_exported(seqeval: Seqeval, file: Path, tmp_path: Path, ending: str) -> None:
    arguments = (
        *("run", "--datasets", "pendulum-replay", "--algorithms", "bc:hidden=(8,8)", "--seeds", 0),
        *("--protocol.start", 19_900, "--protocol.grow-by", 50, "--evaluation.points", 1),
        *("--evaluation.episodes", 1, "--evaluation.metrics", "episodes", f"{file}:AtZero"),
    )
    assert seqeval(*arguments, "--jobs", 1, "--out", tmp_path / "out").code == 0
    table = tmp_path / f"rows.{ending}"
    assert seqeval("export", tmp_path / "out", "--to", table).code == 0
    exported = pd.read_csv(table) if ending == "csv" else pd.read_parquet(table)
    assert exported["eval/at_zero"].notna().all()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (
            "episods",
            "did you mean 'episodes'?; known evaluators: episodes, fqe, held-out, initial-value, preq",
        ),
        ("mine.py:MeanActon", "there is no 'MeanActon' in this file; did you mean 'MeanAction'?"),
        ("mine.py:Incomplete", "Incomplete has no evaluate"),
        ("mine.py:np", "np is not an Evaluator of seqeval.evaluation"),
        ("mine.py:Refuses", "evaluator refuses Pendulum-v1"),
        ("nowhere.py:Mine", "nowhere.py: No such file or directory"),
    ],
)
def test_unusable_evaluators_are_refused_in_one_line(
    seqeval: Seqeval, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("run", "--datasets", "pendulum-replay", "--algorithms", "bc", "--out", "out")
    assert part in refused(seqeval(*arguments, "--evaluation.metrics", name))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("AtZero", "Again"), r"two evaluators return 'at_zero'; rename one of them"),
        (("TooFew",), r"TooFew: the metric 'q' has 1 values for 2 replicas"),
    ],
)
def test_metrics_with_a_wrong_name_or_length_are_refused(
    file: Path, tmp_path: Path, names: tuple[str, ...], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        run(study(file, *names, online=Online()), tmp_path / "out")


def test_an_evaluator_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"evaluation\.metrics: episodes is named more than once"):
        Evaluation(metrics=("episodes", "episodes"))


def test_evaluators_may_not_change_between_calls(file: Path, tmp_path: Path) -> None:
    offline = study(file, "AtZero", online=Online())
    run(offline, tmp_path / "out")
    with pytest.raises(UserError, match=r"evaluation\.metrics is \['episodes', .*AtZero'\] there and"):
        run(study(file, online=Online()), tmp_path / "out")


def test_an_evaluator_that_raises_fails_its_job(file: Path, tmp_path: Path) -> None:
    file.write_text(
        EVALUATORS.replace("assert visible.buffer is None", "1 / 0; assert visible.buffer is None")
    )
    for overlap in ("off", "on"):
        with pytest.raises(PluginError, match=r"(?s)td3_bc · seed 0, 1: a plug-in.*ZeroDivisionError"):
            run(study(file, "AtZero", online=Online()), tmp_path / overlap, overlap=overlap)


def test_an_undeclared_metric_is_a_fault_of_the_evaluator(
    seqeval: Seqeval, file: Path, tmp_path: Path
) -> None:
    ended = seqeval(
        *("run", "--datasets", "pendulum-replay", "--algorithms", "bc:hidden=(8,8)", "--seeds", 0),
        *("--protocol.start", 19_900, "--protocol.grow-by", 50, "--evaluation.points", 1),
        *("--evaluation.metrics", f"{file}:Misspelt", "--jobs", 1, "--out", tmp_path / "out"),
    )
    assert ended.code == 3
    assert "a plug-in or environment raised an exception" in ended.err
    assert "Misspelt returns eval/at_zeros, but 'at_zeros' is not declared in Misspelt.metrics" in ended.err
    assert "did you mean 'at_zero'?" in ended.err


def test_a_changed_file_of_an_evaluator_is_refused(file: Path, tmp_path: Path) -> None:
    run(study(file, "AtZero"), tmp_path / "out")
    file.write_text(EVALUATORS + "# changed\n")
    loading._executed.clear()  # as in another process
    with pytest.raises(UserError, match=r"evaluators.*mine\.py:AtZero is .* restore the file"):
        run(study(file, "AtZero"), tmp_path / "out")
