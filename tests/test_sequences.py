"""Cal-QL, RLPD, FQL, QC-FQL, DT and 10% BC: against plain torch, what they remember, what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_sequences as plain
import torch
from conftest import make_dataset
from test_algos import batches, make
from test_ensembles import assert_same, of_replica
from torch import Tensor

from seqeval import plugins
from seqeval.errors import UserError
from seqeval.types import Spec, Vector

CPU = torch.device("cpu")


def assert_same_metrics(metrics: dict[str, Tensor], replica: int, expected: dict[str, float]) -> None:
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        assert metrics[key][replica].item() == pytest.approx(value, rel=1e-7, abs=1e-8), key


@pytest.mark.parametrize(
    ("name", "reference", "settings"),
    [
        ("cal_ql", plain.CalQL, {}),
        ("cal_ql", plain.CalQL, {"max_target_backup": False, "weight": 1.0, "sampled_actions": 3}),
        ("rlpd", plain.RLPD, {"critics": 5, "actor_delay": 4}),
        ("rlpd", plain.RLPD, {"critics": 4, "min_critics": 1, "backup_entropy": False, "actor_delay": 1}),
        ("rlpd", plain.RLPD, {"critics": 3, "layer_norm": False, "actor_delay": 3}),
        ("fql", plain.FQL, {}),
        ("fql", plain.FQL, {"flow_steps": 10, "normalize_q": True, "target_aggregation": "min"}),
        ("fql", plain.FQL, {"layer_norm": False, "alpha": 0.3}),
        ("qc_fql", plain.FQL, {}),
        ("qc_fql", plain.FQL, {"chunk_length": 1, "normalize_q": True}),
    ],
    ids=str,
)
def test_twenty_updates_equal_those_in_plain_torch(
    name: str, reference: type, settings: dict, float64: None
) -> None:
    algorithm = make(name, [0, 7], **settings)
    agents = [reference(algorithm, replica) for replica in range(2)]
    for update, batch in enumerate(batches(algorithm, 20)):
        metrics = algorithm.update(batch)
        for replica, agent in enumerate(agents):
            assert_same_metrics(metrics, replica, agent.update(of_replica(batch, replica)))
        if update == 0:
            assert_same(algorithm, agents, 1e-9)
    assert_same(algorithm, agents, 1e-6)


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "dropout": 0.0, "heads": 1}], ids=str)
def test_twenty_updates_of_dt_equal_those_in_plain_torch(settings: dict, float64: None) -> None:
    """The learning rate warms up over 12 updates, and the gradient is clipped."""
    few = {"batch_size": 5, "learning_rate": 1e-3, "learning_rate_warmup": 12, "gradient_clip": 0.1}
    algorithm = make("dt", [0, 7], **few, **settings)
    agents = [plain.DT(algorithm, replica) for replica in range(2)]

    def assert_same_parameters(tolerance: float) -> None:
        for replica, agent in enumerate(agents):
            for key, value in algorithm.model.named_parameters():
                torch.testing.assert_close(value[replica], agent.p[key], rtol=0, atol=tolerance, msg=key)

    for update, batch in enumerate(batches(algorithm, 20)):
        metrics = algorithm.update(batch)
        for replica, agent in enumerate(agents):
            assert_same_metrics(metrics, replica, agent.update(of_replica(batch, replica)))
        if update == 0:
            assert_same_parameters(1e-9)
    assert_same_parameters(1e-6)


def test_online_cal_ql_is_not_calibrated_and_has_a_weight_of_its_own(float64: None) -> None:
    algorithm = make("cal_ql", [0, 7], weight_online=0.5)
    agents = [plain.CalQL(algorithm, replica) for replica in range(2)]
    for update, batch in enumerate(batches(algorithm, 8)):
        if update == 4:
            algorithm.start_online()
            for agent in agents:
                agent.online = True
        metrics = algorithm.update(batch)
        for replica, agent in enumerate(agents):
            assert_same_metrics(metrics, replica, agent.update(of_replica(batch, replica)))
    assert_same(algorithm, agents, 1e-6)


def test_where_no_return_is_known_cal_ql_is_cql(float64: None) -> None:
    cql, cal_ql = make("cql"), make("cal_ql", max_target_backup=False, orthogonal_init=False)
    for batch in batches(cal_ql, 5):
        unknown = replace(batch, returns_to_go=torch.full_like(batch.rewards, -torch.inf))
        expected = cql.update(batch)
        for name, value in cal_ql.update(unknown).items():
            assert torch.equal(value, expected[name]), name


def test_dt_acts_on_its_last_steps_and_on_the_return_that_remains(float64: None) -> None:
    algorithm = make("dt", [0, 7], reward_scale=0.1, longest_episode=6)
    agents = [plain.DT(algorithm, replica) for replica in range(2)]
    rng, episodes, context = np.random.default_rng(0), 2, algorithm.config.context
    observations = torch.from_numpy(rng.standard_normal((8, 2, episodes, 5)))
    rewards = torch.from_numpy(rng.standard_normal((8, 2, episodes)))
    rewards[0] = 0
    for target, wanted in enumerate(algorithm.target_returns):
        memory, taken = algorithm.start_episodes(episodes, target), []
        for step in range(8):
            with torch.no_grad():
                taken.append(algorithm.act_in_episodes(observations[step], rewards[step], memory).clone())
            first = max(0, step + 1 - context)
            remaining = wanted - rewards.cumsum(0)
            for replica, agent in enumerate(agents):
                for episode in range(episodes):
                    at = (slice(first, step + 1), replica, episode)
                    predicted = agent.predict(
                        0.1 * remaining[at],
                        observations[at],
                        torch.stack(taken)[at],  # attention does not reach the action of this step
                        torch.arange(first, step + 1),
                        {},
                    )
                    torch.testing.assert_close(
                        taken[step][replica, episode], predicted[-1], rtol=0, atol=1e-12
                    )


def test_qc_fql_executes_a_chunk_before_it_asks_again() -> None:
    algorithm = make("qc_fql", [0, 7], chunk_length=3)
    states = torch.from_numpy(np.random.default_rng(0).standard_normal((7, 2, 2, 5))).float()
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((7, 2, 2, 6))).float()
    memory, rewards = algorithm.start_episodes(2), torch.zeros(2, 2)
    with torch.no_grad():
        for step in range(7):
            action = algorithm.explore_in_episodes(states[step], noise[step], rewards, memory)
            # The second replica starts a new episode after four steps.
            starts = [3 * (step // 3), 3 * (step // 3) if step < 4 else 4 + 3 * ((step - 4) // 3)]
            for replica, asked in enumerate(starts):
                chunk = algorithm.sample(states[asked], noise[asked])[replica].view(2, 3, 2)
                assert torch.equal(action[replica], chunk[:, step - asked])
            if step == 3:
                for name, start in algorithm.start_episodes(2).items():
                    memory[name][1] = start[1]


def test_the_noise_of_fql_at_evaluation_differs_by_step_episode_and_seed() -> None:
    algorithm = make("fql", [0, 7])
    memory, same = algorithm.start_episodes(3), torch.ones(2, 3, 5)
    with torch.no_grad():
        first = algorithm.act(same)
        actions = [algorithm.act_in_episodes(same, torch.zeros(2, 3), memory) for _ in range(4)]
    # An action of `act` does not depend on the other states, so all have the noise of a first step.
    assert torch.equal(first, actions[0][:, :1].expand_as(first))
    everything = torch.stack(actions).flatten(0, 2)
    assert len(everything.unique(dim=0)) == len(everything) == 24


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bc10:share=1.5", "share must be between 0 and 1, not 1.5"),
        ("rlpd:min_critics=11", "min_critics must be at most critics = 10, not 11"),
        ("rlpd:critics=0", "critics must be at least 1, not 0"),
        ("fql:alpha=0", "alpha must be greater than 0, not 0.0"),
        ("qc_fql:alpha=-1", "alpha must be greater than 0, not -1.0"),
        ("qc_fql:chunk_length=0", "chunk_length must be at least 1, not 0"),
        ("dt:context=0", "context must be at least 1, not 0"),
        ("dt:heads=3", "embedding must be a multiple of heads = 3, not 128"),
    ],
)
def test_bad_settings_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        plugins.parse(text)
    assert str(refused.value) == f"algorithm {text!r}: {message}"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dt", {}, "dt: no target return for tiny; give one or more, the first for the score"),
        ("dt", {"target_returns": (1.0,)}, "dt: context = 20, but no episode of tiny has more than 10 steps"),
        (
            "dt",
            {"target_returns": (1.0,), "context": 5, "longest_episode": 9},
            "dt: an episode of tiny has 10 steps; set longest_episode=10",
        ),
        ("dt", {"target_returns": (1.0,), "scale_rewards": True}, "leave scale_rewards False"),
        ("qc_fql", {"chunk_length": 11}, "chunk_length = 11, but no episode of tiny has more than 10 steps"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_line(name: str, settings: dict, message: str) -> None:
    found = plugins.find(name)
    with pytest.raises(UserError) as refused:
        found.check_data(found.Config(**settings), make_dataset(), "episodes")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_cal_ql_notes_that_returns_are_known_late_in_a_shuffled_order() -> None:
    found = plugins.find("cal_ql")
    assert found.check_data(found.Config(), make_dataset(), "episodes") == []
    (note,) = found.check_data(found.Config(), make_dataset(), "shuffled")
    assert "--protocol.order episodes" in note


def test_a_discrete_spec_is_not_supported_by_them() -> None:
    for name in ("cal_ql", "rlpd", "fql", "qc_fql", "dt"):
        assert plugins.find(name).action_spaces == ("continuous",)
    found = plugins.find("bc10")
    config = found.Config(hidden=(8,), dropout=0.0)
    agent = found(Spec(Vector(3), 2, discrete=True), config, [0], 10, CPU)
    assert agent.act(torch.zeros(1, 4, 3)).dtype == torch.int64
