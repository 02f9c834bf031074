"""Every algorithm: against NumPy, independent replicas, checkpoints, FLOPs, initial weights."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from seqeval.algos import _fast_cpu
from torch.utils.flop_counter import FlopCounterMode
from training_setup import BUILT_IN, OTHER_KINDS, SMALL

from seqeval import plugins
from seqeval.algorithm import Algorithm, select_replica
from seqeval.check.subject import Subject
from seqeval.seeding import stream
from seqeval.types import Batch, Image, Spec, Vector

SPEC = Spec(Vector(5), 2)
SPECS = {
    "discrete": Spec(Vector(5), 3, discrete=True),
    "continuous images": Spec(Image(1, 17, 19, stack=3), 2),
    "discrete images": Spec(Image(4, 10, 11), 3, discrete=True),
}
SEEDS = [0, 1, 7, 3, 12]
# Those for vectors and continuous actions, and then all others: "bcq discrete".
NAMES = [*BUILT_IN, *(f"{name} {kind}" for name, kind in OTHER_KINDS)]


def make(text: str, seeds: list[int] = SEEDS, **changes) -> Algorithm:
    name, _, kind = text.partition(" ")
    found = plugins.find(name)
    config = replace(found.Config(), **({"batch_size": 16} | SMALL.get(name, {"hidden": (24, 20)}) | changes))
    return found(SPECS.get(kind, SPEC), config, seeds, 100, torch.device("cpu"))


def batches(algorithm: Algorithm, count: int) -> list[Batch]:
    """Random batches; a replica's part depends on its seed only."""
    # The algorithm's own spec decides what is in them.
    subject = Subject(type(algorithm), algorithm.config, "continuous")
    return [subject.batch(algorithm, update) for update in range(count)]


def of_replica(batch: Batch, replica: int) -> dict[str, np.ndarray]:
    values = {name: value for name, value in vars(batch).items() if name != "noise" and value is not None}
    values |= batch.noise
    return {name: value[replica].numpy() for name, value in values.items()}


def parameters(algorithm: Algorithm, name: str, replica: int) -> list[np.ndarray]:
    """Weights and biases of one network; a digit at the end of its path selects one of the critics."""
    path, _, index = name.partition(".") if name[-1].isdigit() else (name, "", "")
    module = algorithm
    for part in path.split("."):
        module = getattr(module, part)
    position = (replica, int(index)) if index else (replica,)
    return [p[position].detach().numpy() for p in (*module.weights, *module.biases)]


@pytest.mark.parametrize(
    ("name", "numpy_algorithm"),
    [
        ("bc", reference.BC),
        ("td3_bc", reference.TD3BC),
        ("iql", reference.IQL),
        ("awac", reference.AWAC),
        ("cql", reference.CQL),
    ],
)
@pytest.mark.parametrize("private_operators", [True, False])
def test_updates_equal_those_in_numpy(
    name: str, numpy_algorithm: type, private_operators: bool, float64: None, monkeypatch
) -> None:
    monkeypatch.setattr(_fast_cpu, "PRIVATE_OPERATORS", private_operators)
    algorithm = make(name)
    references = [numpy_algorithm(algorithm, replica) for replica in range(len(SEEDS))]
    for batch in batches(algorithm, 4):
        metrics = algorithm.update(batch)
        for replica, numpy_agent in enumerate(references):
            expected = numpy_agent.update(of_replica(batch, replica))
            assert metrics.keys() == expected.keys()
            for key, value in expected.items():
                assert metrics[key][replica].item() == pytest.approx(value, rel=1e-10, abs=1e-12), key
            for net_name, net in numpy_agent.networks().items():
                for actual, desired in zip(
                    parameters(algorithm, net_name, replica), net.parameters, strict=True
                ):
                    np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-11, err_msg=net_name)
    if name in ("awac", "iql"):
        log_stds = algorithm.actor.log_std[:, 0].detach().numpy()
        np.testing.assert_allclose(log_stds, [agent.log_std for agent in references], rtol=0, atol=1e-11)


def train(algorithm: Algorithm, count: int = 20, poison: int | None = None) -> dict:
    for index, batch in enumerate(batches(algorithm, count)):
        if index == 5 and poison is not None:
            batch.rewards[poison, 3] = float("nan")
            if batch.observations.is_floating_point():
                batch.observations[poison, 3] = float("nan")
        algorithm.update(batch)
    return algorithm.state_dict()


def flat(state) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [tensor for value in values for tensor in flat(value)]


@pytest.mark.parametrize("name", NAMES)
def test_five_batched_replicas_equal_five_solo_runs(name: str, float64: None) -> None:
    batched = train(make(name))
    for replica, seed in enumerate(SEEDS):
        solo = flat(train(make(name, [seed])))
        selected = flat(select_replica(batched, replica))
        assert len(selected) == len(solo) > 5
        for actual, expected in zip(selected, solo, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_five_batched_replicas_equal_five_solo_runs_to_the_last_bit_on_the_cpu(name: str) -> None:
    batched = train(make(name))
    for replica, seed in enumerate(SEEDS):
        solo = flat(train(make(name, [seed])))
        assert all(map(torch.equal, flat(select_replica(batched, replica)), solo))


# An image cannot be NaN, and BC uses no rewards.
@pytest.mark.parametrize("name", [name for name in NAMES if not re.match("bc.* images", name)])
def test_nan_in_one_replica_does_not_change_the_others(name: str) -> None:
    clean, poisoned = train(make(name)), train(make(name), poison=2)
    for replica in range(len(SEEDS)):
        pairs = zip(
            flat(select_replica(clean, replica)), flat(select_replica(poisoned, replica)), strict=True
        )
        same = [torch.equal(a, b) for a, b in pairs]
        assert all(same) != (replica == 2)
    assert any(t.isnan().any() for t in flat(select_replica(poisoned, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_one_number_per_replica_and_actions_are_within_bounds(name: str) -> None:
    algorithm = make(name)
    for batch in batches(algorithm, 2):
        for value in algorithm.update(batch).values():
            assert value.shape == (len(SEEDS),)
            assert not value.requires_grad
    subject, spec = Subject(type(algorithm), algorithm.config, "continuous"), algorithm.spec
    with torch.no_grad():
        actions = algorithm.act(subject.observations(algorithm, 9))
    if spec.discrete:
        assert actions.shape == (len(SEEDS), 9)
        assert actions.dtype == torch.int64
        assert actions.min() >= 0
        assert actions.max() < spec.action_size
    else:
        assert actions.shape == (len(SEEDS), 9, spec.action_size)
        assert actions.abs().max() <= 1
    assert algorithm.updates == 2


@pytest.mark.parametrize("name", NAMES)
def test_loaded_state_continues_identically(name: str) -> None:
    uninterrupted, saved, resumed = make(name), make(name), make(name, [seed + 1 for seed in SEEDS])
    steps = batches(uninterrupted, 10)
    for batch in steps:
        uninterrupted.update(batch)
    for batch in steps[:5]:
        saved.update(batch)
    resumed.load_state_dict(saved.state_dict())
    for batch in steps[5:]:
        resumed.update(batch)
    assert all(map(torch.equal, flat(uninterrupted.state_dict()), flat(resumed.state_dict())))


@pytest.mark.parametrize("name", NAMES)
def test_an_update_does_not_change_its_batch(name: str) -> None:
    algorithm = make(name)
    before, after = batches(algorithm, 1)[0], batches(algorithm, 1)[0]
    algorithm.update(after)
    for replica in range(len(SEEDS)):
        for key, value in of_replica(before, replica).items():
            np.testing.assert_array_equal(value, of_replica(after, replica)[key])


@pytest.mark.parametrize("name", NAMES)
def test_flops_equal_those_that_torch_counts(name: str, float64: None) -> None:
    algorithm = make(name)
    steps = batches(algorithm, 2 * (algorithm.period or 1))
    with FlopCounterMode(display=False) as counter:
        for batch in steps:
            algorithm.update(batch)
    module = importlib.import_module(f"seqeval.algos.{name.partition(' ')[0]}")
    expected = module.flops(algorithm.spec, algorithm.config)
    assert counter.get_total_flops() == len(SEEDS) * len(steps) * expected


def test_td3_bc_updates_the_actor_at_every_second_update_only() -> None:
    algorithm = make("td3_bc")
    initial = [p.clone() for p in algorithm.actor.parameters()]
    first, second = batches(algorithm, 2)
    assert "actor_loss" not in algorithm.update(first)
    assert all(map(torch.equal, algorithm.actor.parameters(), initial))
    assert "actor_loss" in algorithm.update(second)
    assert not any(map(torch.equal, algorithm.actor.parameters(), initial))


def test_bc_is_a_classifier_for_discrete_actions(float64: None) -> None:
    found = plugins.find("bc")
    config = found.Config(batch_size=64, dropout=0.0, hidden=(24,))
    pair, solo = (
        found(Spec(Vector(5), 3, discrete=True), config, seeds, 100, torch.device("cpu"))
        for seeds in ([0, 1], [1])
    )
    observations = torch.from_numpy(stream(0, "test").standard_normal((2, 64, 5)))
    chosen = observations[..., :3].argmax(-1)
    zeros = torch.zeros(2, 64)
    batch = Batch(observations, chosen, zeros, observations, zeros)
    second_half = Batch(observations[1:], chosen[1:], zeros[1:], observations[1:], zeros[1:])

    logits = pair.actor(observations).detach().numpy()
    density = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(density, chosen.numpy()[..., None], -1)).mean((1, 2))
    np.testing.assert_allclose(pair.update(batch)["loss"], expected, rtol=1e-12)
    solo.update(second_half)
    for _ in range(300):
        pair.update(batch)
        solo.update(second_half)
    assert torch.equal(pair.act(observations)[1], solo.act(observations[1:])[0])
    assert pair.act(observations).dtype == torch.int64
    assert (pair.act(observations) == chosen).double().mean() > 0.95


def test_orthogonal_weights_are_orthogonal_and_differ_between_seeds() -> None:
    for weight in make("iql").value.weights[:2]:
        for w in weight.detach().double():
            gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
            torch.testing.assert_close(gram, 2 * torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-5)
        assert not torch.allclose(weight[0], weight[1])


def test_uniform_weights_have_the_distribution_of_torchs_default() -> None:
    weights = make("td3_bc", hidden=(400, 400)).actor.weights[1].detach()
    default = torch.nn.Linear(400, 400).weight.detach()
    assert weights.abs().max() <= 1 / 20
    assert weights.std().item() == pytest.approx(default.std().item(), rel=0.01)
