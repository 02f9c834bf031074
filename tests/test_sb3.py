"""Algorithms of Stable-Baselines3: updates equal SB3's to the last bit, and the contract is fulfilled."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import pickle
import random
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from seqeval.algos import sb3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

import seqeval
from seqeval import Evaluation, Execution, Online, Protocol, Study, check, cli, load_policy, loading, plugins
from seqeval.algorithm import Algorithm
from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.types import Batch, Spec, Vector

CONTINUOUS, DISCRETE = Spec(Vector(5), 2), Spec(Vector(5), 3, discrete=True)
NAMES = [f"sb3:{name}" for name in sb3.names()]
SMALL = {"net_arch": (12, 10), "critic_net_arch": (14,), "batch_size": 8}
SEEDS = (3, 0, 7)
CPU = torch.device("cpu")


def make(name: str, seeds: tuple[int, ...] = SEEDS, total_updates: int = 100, **changes: Any) -> Algorithm:
    found = plugins.find(f"sb3:{name}")
    known = {field.name for field in dataclasses.fields(found.Config)}
    config = found.Config(**{key: value for key, value in (SMALL | changes).items() if key in known})
    spec = DISCRETE if found.action_spaces == ("discrete",) else CONTINUOUS
    return found(spec, config, seeds, total_updates, CPU)


def batch(algorithm: Algorithm, update: int) -> Batch:
    """A random batch; a replica's part depends on its seed only."""
    spec, size = algorithm.spec, algorithm.config.batch_size
    rngs = [stream(seed, "test", update) for seed in algorithm.seeds]

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(np.stack([rng.standard_normal((size, *shape), np.float32) for rng in rngs]))

    actions = normal(spec.action_size)
    return Batch(
        observations=normal(5),
        actions=actions.argmax(-1) if spec.discrete else actions.tanh(),
        rewards=normal(),
        next_observations=normal(5),
        terminated=(normal() > 0.5).float(),
    )


def train(algorithm: Algorithm, first: int = 0, last: int = 6) -> list[dict[str, Tensor]]:
    return [algorithm.update(batch(algorithm, update)) for update in range(first, last)]


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for part in inside for tensor in flat(part)]


def same(one: Any, other: Any) -> bool:
    left, right = flat(one), flat(other)
    assert len(left) == len(right) > 0
    return all(map(torch.equal, left, right))


def observations(algorithm: Algorithm, states: int = 50) -> Tensor:
    return torch.randn(states, 5, generator=torch.Generator().manual_seed(0)).repeat(
        len(algorithm.seeds), 1, 1
    )


def explore(algorithm: Algorithm, states: int = 50) -> Tensor:
    noise = torch.full(
        (len(algorithm.seeds), states, algorithm.spec.action_size), torch.nan
    )  # not used by SB3
    with torch.no_grad():
        return algorithm.explore(observations(algorithm, states), noise)


def act(algorithm: Algorithm) -> Tensor:
    with torch.no_grad():
        return algorithm.act(observations(algorithm))


# --- the contract ---


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_passes_seqeval_check(name: str) -> None:
    small = "net_arch=(12,10)" + (",critic_net_arch=(14,)" if name == "sb3:CrossQ" else "")
    results = list(check.examine(f"{name}:{small}"))
    assert [result.name for result in results] == list(check.RULES)
    assert all(result.status == "ok" for result in results), results


@pytest.mark.parametrize("name", sb3.names())
def test_three_batched_agents_equal_three_solo_runs_to_the_last_bit(name: str) -> None:
    batched = make(name)
    metrics, explored = train(batched), explore(batched)
    for replica, seed in enumerate(SEEDS):
        solo = make(name, (seed,))
        torch.rand(5)  # other code may draw random numbers in between
        for actual, expected in zip(train(solo), metrics, strict=True):
            assert all(torch.equal(actual[key][0], expected[key][replica]) for key in expected)
        assert torch.equal(explore(solo)[0], explored[replica])
        assert same(solo.state_of(0), batched.state_of(replica))


@pytest.mark.parametrize("name", sb3.names())
def test_resumed_agent_equals_an_uninterrupted_one(name: str) -> None:
    uninterrupted, resumed = make(name, target_update_interval=4), make(name, target_update_interval=4)
    train(uninterrupted, 0, 3)
    file = io.BytesIO()
    torch.save(uninterrupted.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(explore(uninterrupted), explore(resumed))
    assert same(train(uninterrupted, 3), train(resumed, 3))
    assert torch.equal(explore(uninterrupted), explore(resumed))
    assert same(uninterrupted.state_dict(), resumed.state_dict())


# --- as in SB3 ---


class Spaces(gymnasium.Env):
    observation_space = Box(-np.inf, np.inf, (5,))

    def __init__(self, discrete: bool) -> None:
        self.action_space = Discrete(3) if discrete else Box(-1, 1, (2,))


@pytest.mark.parametrize("name", sb3.names())
def test_updates_equal_sb3s_to_the_last_bit(name: str) -> None:
    adapter = make(name, (4,), learning_rate=1e-2, target_update_interval=8)
    discrete = adapter.spec.discrete
    # The random state that `Replicated` gives to an agent.
    torch.manual_seed(int(stream(4, "torch").integers(2**63)))
    widths: Any = {"pi": [12, 10], "qf": [14]} if name == "CrossQ" else [12, 10]
    options = {"target_update_interval": 8} if discrete else {}
    plain = sb3.find(name).model_class(
        "MlpPolicy",
        Spaces(discrete),
        learning_rate=1e-2,
        batch_size=8,
        buffer_size=10,
        policy_kwargs={"net_arch": widths},
        **options,
    )
    plain.set_logger(Logger(None, []))
    weights = dict(adapter._agents[0].model.policy.state_dict())
    assert same(dict(plain.policy.state_dict()), weights)
    before = [weight.clone() for weight in weights.values()]
    for update in range(20):
        minibatch = batch(adapter, update)

        def sample(size: int, env: object, b: Batch = minibatch) -> ReplayBufferSamples:
            actions = b.actions[0, :, None] if discrete else b.actions[0]
            dones, rewards = b.terminated[0, :, None], b.rewards[0, :, None]
            return ReplayBufferSamples(b.observations[0], actions, b.next_observations[0], dones, rewards)

        plain.replay_buffer.sample = sample
        plain.train(gradient_steps=1, batch_size=8)
        plain._on_step()  # called by SB3 at each environment step
        plain.policy.set_training_mode(False)
        recorded, metrics = dict(plain.logger.name_to_value), adapter.update(minibatch)
        plain.logger.dump()
        assert metrics.keys() <= {key.removeprefix("train/") for key in recorded}
        assert all(value.item() == np.float32(recorded[f"train/{key}"]) for key, value in metrics.items())
    weights = dict(adapter._agents[0].model.policy.state_dict())
    assert not all(map(torch.equal, before, weights.values()))
    assert same(dict(plain.policy.state_dict()), weights)
    expected, _ = plain.policy.predict(observations(adapter)[0].numpy(), deterministic=True)
    np.testing.assert_allclose(act(adapter)[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in ("DQN", "QRDQN") if name in sb3.names()])
def test_target_network_is_updated_at_its_interval(name: str) -> None:
    algorithm = make(name, target_update_interval=4)
    attribute = {"DQN": "q_net", "QRDQN": "quantile_net"}[name]
    changed = []
    for update in range(9):
        models = [agent.model for agent in algorithm._agents]
        before = [[p.clone() for p in getattr(model, f"{attribute}_target").parameters()] for model in models]
        algorithm.update(batch(algorithm, update))
        for model, old in zip(models, before, strict=True):
            target = list(getattr(model, f"{attribute}_target").parameters())
            if not all(map(torch.equal, old, target)):
                changed.append(update + 1)
                assert all(map(torch.equal, target, getattr(model, attribute).parameters()))
    assert changed == [4, 4, 4, 8, 8, 8]


@pytest.mark.parametrize("name", sb3.names())
def test_networks_are_in_evaluation_mode_between_updates(name: str) -> None:
    algorithm = make(name, SEEDS[:1])
    policy = algorithm._agents[0].model.policy
    assert not any(module.training for module in policy.modules())
    train(algorithm, 0, 3)
    assert not any(module.training for module in policy.modules())


def test_metrics_are_those_that_sb3_records() -> None:
    entropy = {"ent_coef", "ent_coef_loss"}
    assert [metrics.keys() for metrics in train(make("SAC"), 0, 2)] == 2 * [
        {"actor_loss", "critic_loss"} | entropy
    ]
    assert [set(metrics) for metrics in train(make("TD3"), 0, 2)] == [
        {"critic_loss"},
        {"critic_loss", "actor_loss"},  # recorded at every second update only
    ]
    assert [set(metrics) for metrics in train(make("DQN"), 0, 1)] == [{"loss"}]
    assert train(make("SAC", ent_coef=0.25), 0, 1)[0]["ent_coef"].tolist() == [0.25] * 3


def test_global_random_states_do_not_change() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    sb3.find.__wrapped__("SAC")  # without the cache
    algorithm = make("SAC")
    train(algorithm)
    explore(algorithm)
    explore(make("DQN"))
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


# --- exploration ---


@pytest.mark.parametrize("name", sb3.names())
def test_exploration_is_random_and_reproducible(name: str) -> None:
    first, second = make(name), make(name)
    actions = explore(first)
    assert not torch.equal(actions, act(first))
    assert not torch.equal(actions, explore(first))  # the random state advances
    assert torch.equal(actions, explore(second))
    assert actions.dtype == act(first).dtype
    assert actions.min() >= (0 if first.spec.discrete else -1)


def test_exploration_noise_has_the_configured_std() -> None:
    for std in (0.0, 0.05):
        algorithm = make("TD3", exploration_noise=std)
        noise = explore(algorithm) - act(algorithm)
        assert noise.std().item() == pytest.approx(std, rel=0.15)
    assert explore(make("DDPG", exploration_noise=5.0)).abs().max() == 1


def test_random_actions_become_rarer_over_the_updates_of_the_run() -> None:
    rates = {"exploration_fraction": 0.5, "exploration_initial_eps": 1.0, "exploration_final_eps": 0.1}
    algorithm = make("DQN", total_updates=20, **rates)

    def share() -> float:
        greedy = algorithm.act(observations(algorithm, 2000))
        return 1.5 * (explore(algorithm, 2000) != greedy).float().mean().item()  # one in three is greedy

    assert share() == pytest.approx(1.0, abs=0.05)
    train(algorithm, 0, 5)
    assert share() == pytest.approx(0.55, abs=0.05)
    assert algorithm._agents[0].model.exploration_rate == pytest.approx(0.55)
    resumed = make("DQN", total_updates=20, **rates)
    resumed.load_state_dict(algorithm.state_dict())
    assert torch.equal(explore(resumed), explore(algorithm))
    train(algorithm, 5, 11)
    assert share() == pytest.approx(0.1, abs=0.03)


def test_exploration_with_probability_zero_is_greedy() -> None:
    greedy = make("DQN", exploration_initial_eps=0.0, exploration_final_eps=0.0)
    assert torch.equal(explore(greedy), act(greedy))


# --- names and settings ---


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        plugins.parse(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_algorithms_are_found_by_name() -> None:
    assert {"sb3:SAC", "sb3:TD3", "sb3:DDPG", "sb3:DQN"} <= set(NAMES) <= set(plugins.names())
    assert "sb3" not in plugins.names()
    assert plugins.find("sb3:SAC") is plugins.find("sb3:SAC")
    assert plugins.find("sb3:SAC").__name__ == "SAC"
    assert plugins.find("sb3:DQN").action_spaces == ("discrete",)
    assert plugins.find("sb3:TD3").action_spaces == ("continuous",)
    assert plugins.split("sb3:SAC:gamma=0.9,name=a:b") == ("sb3:SAC", "gamma=0.9,name=a:b")
    assert plugins.split("sb3:SAC") == ("sb3:SAC", "")


@pytest.mark.parametrize(
    ("text", "name", "changes"),
    [
        ("sb3:SAC", "sb3:SAC", {}),
        ("sb3:SAC:learning_rate=1e-3,name=sac-fast", "sac-fast", {"learning_rate": 1e-3}),
        ("sb3:SAC:ent_coef=0.2", "sb3:SAC:ent_coef=0.2", {"ent_coef": 0.2}),
        ("sb3:SAC:ent_coef=auto_0.1,name=x", "x", {"ent_coef": "auto_0.1"}),
        ("sb3:SAC:target_entropy=-2,name=x", "x", {"target_entropy": -2.0}),
        ("sb3:DQN:net_arch=(8,),max_grad_norm=1,name=x", "x", {"net_arch": (8,), "max_grad_norm": 1.0}),
    ],
)
def test_settings_survive_parsing_and_storing(text: str, name: str, changes: dict[str, Any]) -> None:
    variant = plugins.parse(text)
    assert (variant.name, variant.algorithm) == (name, ":".join(text.split(":")[:2]))
    assert variant.config == plugins.find(variant.algorithm).Config(**changes)
    assert variant.settings().keys() == {"algorithm", "config", "text"}
    assert plugins.restore(name, json.loads(json.dumps(variant.settings()))) == variant
    assert pickle.loads(pickle.dumps(variant)) == variant


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_sb3(name: str) -> None:
    model_class = sb3.find(name.removeprefix("sb3:")).model_class
    config = plugins.find(name).Config()
    parameters = inspect.signature(model_class).parameters
    added = {"normalize_observations", "scale_rewards", "net_arch", "critic_net_arch", "exploration_noise"}
    for field in dataclasses.fields(config):
        if field.name not in added:
            assert getattr(config, field.name) == parameters[field.name].default, field.name
    # The parameters left out are listed, so that additions by a new version of SB3 are noticed.
    left_out = parameters.keys() - {field.name for field in dataclasses.fields(config)}
    of_training_loop = {
        "policy", "env", "buffer_size", "learning_starts", "train_freq", "gradient_steps", "action_noise",
        "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage", "n_steps", "policy_kwargs",
        "stats_window_size", "tensorboard_log", "verbose", "seed", "device", "_init_setup_model",
    }  # fmt: skip
    sde = {"use_sde", "sde_sample_freq", "use_sde_at_warmup"}
    without_effect = {"target_update_interval"} if "ent_coef" in parameters else set()
    assert left_out - of_training_loop <= sde | without_effect


def test_network_widths_are_those_of_sb3_unless_set() -> None:
    widths = {"SAC": (256, 256), "TD3": (400, 300), "DDPG": (400, 300), "DQN": (64, 64), "QRDQN": (64, 64)}
    for name, expected in widths.items():
        if name in sb3.names():
            assert plugins.find(f"sb3:{name}").Config().net_arch == expected
    assert make("SAC")._agents[0].model.policy.net_arch == [12, 10]
    if "CrossQ" in sb3.names():
        config = plugins.find("sb3:CrossQ").Config()
        assert (config.net_arch, config.critic_net_arch) == ((256, 256), (1024, 1024))
        assert make("CrossQ")._agents[0].model.policy.net_arch == {"pi": [12, 10], "qf": [14]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sb3:SACC", "algorithm 'sb3:SACC' is not known; did you mean 'sb3:SAC'"),
        ("sb3", "algorithm 'sb3' is not known; did you mean 'sb3:"),
        ("sb3:", "is not known"),
        ("sb3:learning_rate=1", "is not known"),
        ("bc:SAC", "'SAC' is not of the form key=value"),
        ("sb3:PPO", "sb3:PPO cannot learn from logged data: it is on-policy"),
        ("sb3:A2C:gamma=0.9", "sb3:A2C cannot learn from logged data"),
        ("sb3:HerReplayBuffer", "is not known"),
        ("sb3:SAC:gama=0.9", "sb3:SAC has no setting 'gama'; did you mean 'gamma'"),
        ("sb3:SAC:target_update_interval=2", "has no setting 'target_update_interval'"),
        ("sb3:SAC:buffer_size=5", "has no setting 'buffer_size'"),
        ("sb3:SAC:gamma=1.5", "gamma must be between 0 and 1"),
        ("sb3:SAC:ent_coef=autp", "ent_coef must be auto, auto_0.1 or the like, or a number, not 'autp'"),
        ("sb3:SAC:ent_coef=auto_0", "ent_coef must be"),
        ("sb3:SAC:ent_coef=-1", "ent_coef must be"),
        ("sb3:SAC:target_entropy=high", "target_entropy must be auto or a number, not 'high'"),
        ("sb3:SAC:net_arch=(0,)", "net_arch must be at least 1"),
        ("sb3:DQN:target_update_interval=0", "target_update_interval must be at least 1"),
        ("sb3:DQN:exploration_fraction=0", "exploration_fraction must be between"),
        ("sb3:TD3:exploration_noise=-1", "exploration_noise must be at least 0"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(text: str, message: str) -> None:
    assert message in refusal(text)


def test_message_without_contrib_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"SAC": stable_baselines3.SAC, "PPO": stable_baselines3.PPO}
    monkeypatch.setattr(sb3, "_installed", lambda: plain)
    sb3.find.cache_clear()
    assert [name for name in plugins.names() if name.startswith("sb3:")] == ["sb3:SAC"]
    assert "pip install 'seqeval-rl[contrib]'" in refusal("sb3:TQC")
    sb3.find.cache_clear()


def test_a_package_that_registers_the_familys_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_registered", lambda kind, name: ["other:Thing"])
    assert "other:Thing" in refusal("sb3:SAC")


@pytest.mark.parametrize("name", NAMES)
def test_algorithms_show_prints_sb3s_docstring_and_a_comment_on_each_setting(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["algorithms", "show", name])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert ":param" not in shown
    assert "Stable-Baselines3" in shown
    kind = plugins.find(name).action_spaces[0]
    assert f"Supports {kind} actions, {kind} actions from images; learns offline and online." in shown
    settings = shown.partition("\nSettings, as in ")[2].splitlines()[1:]
    assert {line.split()[0] for line in settings} == {
        field.name for field in dataclasses.fields(plugins.find(name).Config)
    }
    assert all(len(line.split("  ")) > 3 and line.rstrip()[-1].isalnum() for line in settings), shown


# --- in a study ---


def test_study_learns_online_and_its_policy_acts(tmp_path: Path) -> None:
    small = "net_arch=(8,8),batch_size=8,name=small"
    study = Study(
        datasets=("none",),
        env="CartPole-v1",
        algorithms=(f"sb3:DQN:{small}",),
        seeds=(0, 1),
        online=Online(steps=30),
        evaluation=Evaluation(points=2, episodes=1),
    )
    rows = seqeval.run(study, tmp_path, Execution(jobs=1))
    assert (rows["status"] == "ok").all()
    assert set(rows["algorithm"]) == {"sb3:DQN"}
    assert rows["updates"].max() == 30
    assert rows["train/loss"].notna().any()
    policy = load_policy(tmp_path, "none (CartPole-v1)", "small", seed=1)
    actions = policy(np.random.default_rng(0).standard_normal((3, 2, 4)))
    assert actions.shape == (3, 2)
    assert set(actions.ravel()) <= {0, 1}
    assert policy([0.0, 0.0, 0.1, 0.0]).shape == ()  # one observation, one number


def test_study_learns_offline_then_online(tmp_path: Path) -> None:
    small = "net_arch=(8,8),batch_size=8,name=small"
    study = Study(
        datasets=("pendulum-replay",),
        algorithms=(f"sb3:SAC:{small}",),
        seeds=(0,),
        protocol=Protocol(start=19_990),
        online=Online(steps=10),
        evaluation=Evaluation(points=1, episodes=1),
    )
    rows = seqeval.run(study, tmp_path, Execution(jobs=1))
    assert (rows["status"] == "ok").all()
    assert set(rows["phase"]) == {"offline", "online"}
    policy = load_policy(tmp_path, "pendulum-replay", "small", seed=0)
    assert policy(np.ones((3, 3), np.float32)).shape == (3, 1)


def test_discrete_algorithms_are_refused_for_continuous_actions(tmp_path: Path) -> None:
    study = Study(datasets=("pendulum-replay",), algorithms=("sb3:DQN",), seeds=(0,))
    with pytest.raises(UserError, match="sb3:DQN: supports discrete actions, but those of Pendulum-v1 are"):
        seqeval.run(study, tmp_path, Execution(jobs=1))
