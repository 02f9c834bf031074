"""Policies at every point of a curve."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cluster import SMALL, rows, run, run_partly
from conftest import Seqeval

from seqeval import Evaluation, Online, Protocol, Study, UserError, load_policies, load_policy, plugins
from seqeval.execution.storage import StudyDirectory
from seqeval.training.agents import Agents
from seqeval.types import Continuous, Discrete, Environment, Image, Vector

OBSERVATIONS = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
IMAGES = np.random.default_rng(0).integers(256, size=(10, 1, 15, 16), dtype=np.uint8)
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3",),
    seeds=(0, 1),
    protocol=Protocol(start=19_000, grow_by=10),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=30),
)
SINGLE = """
import torch
from seqeval.algorithm import SingleAlgorithm

class Mine(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size)
        self.adam = torch.optim.Adam(self.net.parameters())

    def update(self, batch):
        self.updates += 1
        loss = (self.net(batch.observations) - batch.actions).square().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return {"loss": loss}

    def act(self, observations):
        return self.net(observations).tanh()
"""
BOUND = np.ones(2, np.float32)
SPACES = {
    "continuous": Environment("made up", Vector(3), Continuous(-BOUND, BOUND), None),
    "discrete": Environment("made up", Vector(3), Discrete(4, 0), None),
    "continuous images": Environment("made up", Image(1, 15, 16), Continuous(-BOUND, BOUND), None),
    "discrete images": Environment("made up", Image(1, 15, 16), Discrete(4, 0), None),
}


def kept(out: Path) -> dict[str, bytes]:
    """The files of kept policies."""
    return {str(file.relative_to(out)): file.read_bytes() for file in out.glob("runs/*/*/*/policies/*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with policies. Read-only."""
    out = tmp_path_factory.mktemp("kept") / "study"
    run(STUDY, out, keep_policies=True)
    return out


def test_there_is_a_policy_at_each_row_and_the_last_is_the_final_one(finished: Path) -> None:
    for seed in STUDY.seeds:
        policies = load_policies(finished, "pendulum-replay", "td3", seed)
        stored = [row for row in StudyDirectory(finished).rows() if row["seed"] == seed]
        assert list(policies) == [row["samples"] for row in stored]
        actions = {n: policy(OBSERVATIONS) for n, policy in policies.items()}
        final = load_policy(finished, "pendulum-replay", "td3", seed)(OBSERVATIONS)
        np.testing.assert_array_equal(actions[20_030], final)
        assert len({values.tobytes() for values in actions.values()}) == len(actions)
        at = load_policy(finished, "pendulum-replay", "td3", seed, samples=19_000)(OBSERVATIONS)
        np.testing.assert_array_equal(at, actions[19_000])


def test_a_policy_is_that_of_a_study_which_ends_there(finished: Path, tmp_path: Path) -> None:
    """Without the online phase the final policy is the one at N."""
    run(replace(STUDY, online=Online()), tmp_path / "short")
    expected = load_policy(tmp_path / "short", "pendulum-replay", "td3", 1)(OBSERVATIONS)
    found = load_policy(finished, "pendulum-replay", "td3", 1, samples=20_000)(OBSERVATIONS)
    np.testing.assert_array_equal(found, expected)


def test_keeping_policies_changes_no_row(finished: Path, tmp_path: Path) -> None:
    run(STUDY, tmp_path / "without")
    assert not kept(tmp_path / "without")
    for one, other in zip(
        StudyDirectory(finished).rows(), StudyDirectory(tmp_path / "without").rows(), strict=True
    ):
        for row in (one, other):
            del row["train_seconds"], row["eval_seconds"], row["study"]
        assert one == other


def test_a_resumed_study_has_the_policies_of_an_uninterrupted_one(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    for count in (2, 3, 4):
        run_partly(STUDY, out, count, keep_policies=True)
    stray = out / "runs/pendulum-replay/td3/seed-0/policies/20030.pt"
    stray.write_bytes(b"of a point after the checkpoint")
    next(rows(STUDY, out, keep_policies=True))
    assert not stray.exists()
    run(STUDY, out, keep_policies=True)
    found, expected = kept(out), kept(finished)
    assert found.keys() == expected.keys()
    for file in expected:
        one, other = (torch.load(folder / file, weights_only=True) for folder in (out, finished))
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_run_that_starts_again_keeps_no_earlier_policy(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    (out / "runs/pendulum-replay/td3/seed-0/finished.json").unlink()
    run(STUDY, out)
    assert not load_policies(out, "pendulum-replay", "td3", 0)
    assert load_policies(out, "pendulum-replay", "td3", 1)


def test_regimes_that_train_an_agent_for_each_size_keep_each(tmp_path: Path) -> None:
    protocol = Protocol(regime="retrain", start=500, sizes=3, updates_per_size=20)
    run(replace(STUDY, protocol=protocol, online=Online()), tmp_path / "study", keep_policies=True)
    policies = load_policies(tmp_path / "study", "pendulum-replay", "td3", 0)
    assert list(policies) == [500, 10_250, 20_000]
    assert len({policy(OBSERVATIONS).tobytes() for policy in policies.values()}) == 3


def test_a_missing_policy_is_one_line_with_those_that_are_there(finished: Path, tmp_path: Path) -> None:
    stored = "19000, 19340, 19670, 20000, 20010, 20020, 20030"
    with pytest.raises(UserError, match=rf"no policy of .* at 5 samples; policies are stored at: {stored}$"):
        load_policy(finished, "pendulum-replay", "td3", 0, samples=5)
    run(replace(STUDY, online=Online()), tmp_path / "without")
    with pytest.raises(
        UserError, match=r"stored at: none; only runs that are trained with --keep-policies keep them"
    ):
        load_policy(tmp_path / "without", "pendulum-replay", "td3", 0, samples=20_000)
    with pytest.raises(UserError, match="no 'sac' among its algorithms: td3"):
        load_policies(finished, "pendulum-replay", "sac", 0)


@pytest.mark.parametrize("name", plugins.names())
def test_a_policy_is_small_and_acts_as_its_agent(name: str) -> None:
    algorithm = plugins.find(name)
    for space in (*algorithm.action_spaces, *(f"{space} images" for space in image_action_spaces(name))):
        agents, fresh = (
            Agents(
                algorithm,
                [algorithm.Config()] * len(seeds),
                [SPACES[space]] * len(seeds),
                seeds,
                10,
                torch.device("cpu"),
            )
            for seeds in ((3, 4), (5,))  # other weights at first
        )
        policy = agents.policy_of(1)
        fresh.load_policy(policy)
        observations = IMAGES if "images" in space else OBSERVATIONS
        states = np.broadcast_to(observations, (2, *observations.shape))
        np.testing.assert_allclose(fresh.act(states[:1])[0], agents.act(states)[1], rtol=1e-4, atol=1e-5)
        assert _numbers(policy) < 0.6 * _numbers(agents.state_of(1))


def image_action_spaces(name: str) -> tuple[str, ...]:
    """Of built-in algorithms, not of those of Stable-Baselines3."""
    return () if ":" in name else plugins.find(name).image_action_spaces


def _numbers(state: object) -> int:
    """How many numbers a nested state holds."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(_numbers, values))


def test_a_single_agent_of_a_plug_in_is_kept_without_its_optimizer(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SINGLE)
    study = replace(STUDY, algorithms=(f"{tmp_path}/mine.py:Mine:name=mine",), online=Online())
    run(study, tmp_path / "study", keep_policies=True)
    for seed in (0, 1):
        policies = load_policies(tmp_path / "study", "pendulum-replay", "mine", seed)
        final = load_policy(tmp_path / "study", "pendulum-replay", "mine", seed)
        np.testing.assert_array_equal(policies[20_000](OBSERVATIONS), final(OBSERVATIONS))
    file = tmp_path / "study/runs/pendulum-replay/mine/seed-0/policies/20000.pt"
    (agent,) = torch.load(file, weights_only=True)["algorithm"]["replicas"]
    assert agent.keys() == {"updates", "net"}


def test_the_flag_of_the_command_line(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (
        *("run", "--datasets", "pendulum-replay", "--algorithms", f"bc:{SMALL},name=bc", "--seeds", 0),
        *("--protocol.start", 19_900, "--protocol.grow-by", 50, "--evaluation.points", 1),
        *("--evaluation.episodes", 1, "--jobs", 1, "--keep-policies", "--out", out),
    )
    assert seqeval(*arguments).code == 0
    assert list(load_policies(out, "pendulum-replay", "bc", 0)) == [19_900, 20_000]
