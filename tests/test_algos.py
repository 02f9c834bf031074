"""Every algorithm against NumPy, against itself alone, and against a poisoned neighbour."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from torch.utils.flop_counter import FlopCounterMode

from seqeval import plugins
from seqeval.algorithm import Algorithm, select_replica
from seqeval.replay.samplers import draw_noise
from seqeval.seeding import stream
from seqeval.types import Batch, Spec

SPEC = Spec(observation_size=5, action_size=2)
SEEDS = [0, 1, 7, 3, 12]
NAMES = [name for name in plugins.names() if ":" not in name]


def make(name: str, seeds: list[int] = SEEDS, **changes) -> Algorithm:
    found = plugins.find(name)
    config = replace(found.Config(), **({"batch_size": 16, "hidden": (24, 20)} | changes))
    return found(SPEC, config, seeds, 100, torch.device("cpu"))


def batches(algorithm: Algorithm, count: int) -> list[Batch]:
    """Batches that each replica gets the same whoever runs beside it."""
    size, found = algorithm.config.batch_size, []
    for update in range(count):
        rngs = [stream(seed, "test", update) for seed in algorithm.seeds]

        def tensor(draw, rngs=rngs):
            return torch.from_numpy(np.stack([draw(rng) for rng in rngs])).to(torch.get_default_dtype())

        found.append(
            Batch(
                observations=tensor(lambda r: r.standard_normal((size, 5))),
                actions=tensor(lambda r: r.uniform(-1, 1, (size, 2))),
                rewards=tensor(lambda r: r.standard_normal(size)),
                next_observations=tensor(lambda r: r.standard_normal((size, 5))),
                terminated=tensor(lambda r: r.random(size) < 0.3),
                noise={k: tensor(lambda r, n=n: draw_noise(n, 1, r)[0]) for k, n in algorithm.noise.items()},
            )
        )
    return found


def of_replica(batch: Batch, replica: int) -> dict[str, np.ndarray]:
    fields = ("observations", "actions", "rewards", "next_observations", "terminated")
    values = {field: getattr(batch, field) for field in fields} | batch.noise
    return {name: value[replica].numpy() for name, value in values.items()}


def parameters(algorithm: Algorithm, name: str, replica: int) -> list[np.ndarray]:
    path, _, index = name.partition(".") if name[-1].isdigit() else (name, "", "")
    module = algorithm
    for part in path.split("."):
        module = getattr(module, part)
    where = (replica, int(index)) if index else (replica,)
    return [p[where].detach().numpy() for p in (*module.weights, *module.biases)]


@pytest.mark.parametrize(
    ("name", "worked_out"),
    [
        ("bc", reference.BC),
        ("td3_bc", reference.TD3BC),
        ("iql", reference.IQL),
        ("awac", reference.AWAC),
        ("cql", reference.CQL),
    ],
)
def test_updates_are_those_worked_out_in_numpy(name: str, worked_out: type, float64: None) -> None:
    algorithm = make(name)
    by_hand = [worked_out(algorithm, replica) for replica in range(len(SEEDS))]
    for batch in batches(algorithm, 4):
        metrics = algorithm.update(batch)
        for replica, hand in enumerate(by_hand):
            expected = hand.update(of_replica(batch, replica))
            assert metrics.keys() == expected.keys()
            for key, value in expected.items():
                assert metrics[key][replica].item() == pytest.approx(value, rel=1e-10, abs=1e-12), key
            for net_name, net in hand.networks().items():
                for ours, theirs in zip(
                    parameters(algorithm, net_name, replica), net.parameters, strict=True
                ):
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11, err_msg=net_name)
    if name in ("awac", "iql"):
        ours = algorithm.actor.log_std[:, 0].detach().numpy()
        np.testing.assert_allclose(ours, [hand.log_std for hand in by_hand], rtol=0, atol=1e-11)


def train(algorithm: Algorithm, count: int = 20, poison: int | None = None) -> dict:
    for index, batch in enumerate(batches(algorithm, count)):
        if index == 5 and poison is not None:
            batch.rewards[poison, 3] = batch.observations[poison, 3] = float("nan")
        algorithm.update(batch)
    return algorithm.state_dict()


def flat(state) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [tensor for value in values for tensor in flat(value)]


@pytest.mark.parametrize("name", NAMES)
def test_five_replicas_are_five_separate_runs(name: str, float64: None) -> None:
    together = train(make(name))
    for replica, seed in enumerate(SEEDS):
        alone = flat(train(make(name, [seed])))
        mine = flat(select_replica(together, replica))
        assert len(mine) == len(alone) > 5
        for ours, theirs in zip(mine, alone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_five_replicas_on_the_cpu_are_five_separate_runs_to_the_last_bit(name: str) -> None:
    together = train(make(name))
    for replica, seed in enumerate(SEEDS):
        alone = flat(train(make(name, [seed])))
        assert all(map(torch.equal, flat(select_replica(together, replica)), alone))


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_one_replica_leaves_the_others_as_they_were(name: str) -> None:
    clean, poisoned = train(make(name)), train(make(name), poison=2)
    for replica in range(len(SEEDS)):
        pairs = zip(
            flat(select_replica(clean, replica)), flat(select_replica(poisoned, replica)), strict=True
        )
        same = [torch.equal(a, b) for a, b in pairs]
        assert all(same) != (replica == 2)
    assert any(t.isnan().any() for t in flat(select_replica(poisoned, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_one_number_a_replica_and_actions_stay_inside(name: str) -> None:
    algorithm = make(name)
    for batch in batches(algorithm, 2):
        for value in algorithm.update(batch).values():
            assert value.shape == (len(SEEDS),)
            assert not value.requires_grad
    with torch.no_grad():
        actions = algorithm.act(100 * torch.randn(len(SEEDS), 9, 5))
    assert actions.shape == (len(SEEDS), 9, 2)
    assert actions.abs().max() <= 1
    assert algorithm.updates == 2


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_goes_on_identically(name: str) -> None:
    straight, first, second = make(name), make(name), make(name, [seed + 1 for seed in SEEDS])
    steps = batches(straight, 10)
    for batch in steps:
        straight.update(batch)
    for batch in steps[:5]:
        first.update(batch)
    second.load_state_dict(first.state_dict())
    for batch in steps[5:]:
        second.update(batch)
    assert all(map(torch.equal, flat(straight.state_dict()), flat(second.state_dict())))


@pytest.mark.parametrize("name", NAMES)
def test_an_update_does_not_change_its_batch(name: str) -> None:
    algorithm = make(name)
    before, after = batches(algorithm, 1)[0], batches(algorithm, 1)[0]
    algorithm.update(after)
    for replica in range(len(SEEDS)):
        for key, value in of_replica(before, replica).items():
            np.testing.assert_array_equal(value, of_replica(after, replica)[key])


@pytest.mark.parametrize("name", NAMES)
def test_flops_are_those_that_torch_counts(name: str, float64: None) -> None:
    algorithm = make(name)
    steps = batches(algorithm, 4)
    with FlopCounterMode(display=False) as counter:
        for batch in steps:
            algorithm.update(batch)
    module = importlib.import_module(f"seqeval.algos.{name}")
    assert counter.get_total_flops() == len(SEEDS) * 4 * module.flops(SPEC, algorithm.config)


def test_td3_bc_moves_actor_and_targets_at_every_second_update_only() -> None:
    algorithm = make("td3_bc")
    frozen = [p.clone() for p in algorithm.actor.parameters()]
    one, two = batches(algorithm, 2)
    assert "actor_loss" not in algorithm.update(one)
    assert all(map(torch.equal, algorithm.actor.parameters(), frozen))
    assert "actor_loss" in algorithm.update(two)
    assert not any(map(torch.equal, algorithm.actor.parameters(), frozen))


def test_bc_of_discrete_actions_is_a_classifier(float64: None) -> None:
    found = plugins.find("bc")
    config = found.Config(batch_size=64, dropout=0.0, hidden=(24,))
    one, two = (
        found(Spec(5, 3, discrete=True), config, seeds, 100, torch.device("cpu")) for seeds in ([0, 1], [1])
    )
    observations = torch.from_numpy(stream(0, "test").standard_normal((2, 64, 5)))
    chosen = observations[..., :3].argmax(-1)
    zeros = torch.zeros(2, 64)
    whole = Batch(observations, chosen, zeros, observations, zeros)
    half = Batch(observations[1:], chosen[1:], zeros[1:], observations[1:], zeros[1:])

    logits = one.actor(observations).detach().numpy()
    density = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(density, chosen.numpy()[..., None], -1)).mean((1, 2))
    np.testing.assert_allclose(one.update(whole)["loss"], expected, rtol=1e-12)
    two.update(half)
    for _ in range(300):
        one.update(whole)
        two.update(half)
    assert torch.equal(one.act(observations)[1], two.act(observations[1:])[0])
    assert one.act(observations).dtype == torch.int64
    assert (one.act(observations) == chosen).double().mean() > 0.95


def test_orthogonal_weights_are_orthogonal_and_differ_between_seeds() -> None:
    for weight in make("iql").value.weights[:2]:
        for w in weight.detach().double():
            gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
            torch.testing.assert_close(gram, 2 * torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-5)
        assert not torch.allclose(weight[0], weight[1])


def test_uniform_weights_are_torchs_default_in_distribution() -> None:
    ours = make("td3_bc", hidden=(400, 400)).actor.weights[1].detach()
    default = torch.nn.Linear(400, 400).weight.detach()
    assert ours.abs().max() <= 1 / 20
    assert ours.std().item() == pytest.approx(default.std().item(), rel=0.01)
