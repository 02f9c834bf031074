"""R instances of a `SingleAlgorithm`: each gives the numbers of a solo run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from seqeval.algorithm import Batch, Config, Noise, SingleAlgorithm, Spec, Vector
from seqeval.replicated import Replicated, replicate

SPEC = Spec(Vector(3), 2)
SEEDS = [4, 0, 9]
CPU = torch.device("cpu")


class RandomAgent(SingleAlgorithm):
    """Draws random numbers wherever it can."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.net = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.Adam(self.net.parameters(), 0.01)
        self.batches: list[Batch] = []

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"jitter": Noise("normal", (self.config.batch_size, 2))}

    def update(self, batch: Batch) -> dict[str, float | Tensor]:
        self.updates += 1
        self.batches.append(batch)
        target = batch.actions + batch.noise["jitter"] + torch.randn_like(batch.actions)
        loss = (torch.nn.functional.dropout(self.net(batch.observations)) - target).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss, "draw": torch.rand(()).item(), "count": self.updates}

    def act(self, observations: Tensor) -> Tensor:
        return self.net(observations).tanh()


def make(seeds: list[int] = SEEDS) -> Replicated:
    algorithm = replicate(RandomAgent)(SPEC, Config(batch_size=4), seeds, 100, CPU)
    assert isinstance(algorithm, Replicated)
    return algorithm


def batch(replicas: list[int], update: int) -> Batch:
    """A random batch; a replica's part depends on its number only."""

    def tensor(*shape: int) -> Tensor:
        generators = [torch.Generator().manual_seed(1000 * update + r) for r in replicas]
        return torch.stack([torch.randn(shape, generator=g) for g in generators])

    noise = {"jitter": tensor(4, 2)}
    return Batch(tensor(4, 3), tensor(4, 2), tensor(4), tensor(4, 3), torch.zeros(len(replicas), 4), noise)


def train(
    algorithm: Replicated, replicas: list[int], first: int = 0, last: int = 5
) -> list[dict[str, Tensor]]:
    return [algorithm.update(batch(replicas, update)) for update in range(first, last)]


def flat(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [tensor for value in values for tensor in flat(value)]


def same(one: Any, other: Any) -> bool:
    left, right = flat(one), flat(other)
    assert len(left) == len(right) > 0
    return all(map(torch.equal, left, right))


def test_replicated_class_keeps_the_name_and_is_made_once() -> None:
    made = replicate(RandomAgent)
    assert made is replicate(RandomAgent)
    assert (made.__name__, made.__module__, made.__doc__) == (
        "RandomAgent",
        __name__,
        RandomAgent.__doc__,
    )
    assert made.Config is RandomAgent.Config


def test_each_agent_gets_its_part_of_the_batch() -> None:
    algorithm, full = make(), batch([0, 1, 2], 0)
    algorithm.update(full)
    for replica, agent in enumerate(algorithm._agents):
        assert isinstance(agent, RandomAgent)
        (part,) = agent.batches
        for name in ("observations", "actions", "rewards", "next_observations", "terminated"):
            assert torch.equal(getattr(part, name), getattr(full, name)[replica])
        assert torch.equal(part.noise["jitter"], full.noise["jitter"][replica])
    assert algorithm.noise == {"jitter": Noise("normal", (4, 2))}


def test_metrics_have_a_replica_axis_and_are_detached() -> None:
    algorithm = make()
    (metrics,) = train(algorithm, [0, 1, 2], 0, 1)
    assert {name: value.shape for name, value in metrics.items()} == dict.fromkeys(
        ("loss", "draw", "count"), (3,)
    )
    assert not any(value.requires_grad for value in metrics.values())
    assert metrics["draw"].unique().numel() == 3
    assert metrics["count"].tolist() == [1, 1, 1]
    assert algorithm.updates == 1


def test_three_batched_agents_equal_three_solo_runs_to_the_last_bit() -> None:
    batched = make()
    metrics = train(batched, [0, 1, 2])
    for replica, seed in enumerate(SEEDS):
        solo = make([seed])
        torch.rand(7)  # other code may draw random numbers in between
        for actual, expected in zip(train(solo, [replica]), metrics, strict=True):
            assert all(torch.equal(actual[key][0], expected[key][replica]) for key in expected)
        assert same(solo.state_of(0), batched.state_of(replica))


def test_agent_depends_on_its_seed_and_not_on_the_global_random_state() -> None:
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(2)
    second = make()
    assert same(train(first, [0, 1, 2]), train(second, [0, 1, 2]))
    weights = [agent["agent"]["net"]["weight"] for agent in make([0, 0, 1]).state_dict()["replicas"]]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_random_state_is_restored_even_after_an_exception() -> None:
    before = torch.get_rng_state()
    algorithm = make()
    train(algorithm, [0, 1, 2])
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyError):
        algorithm.update(Batch(**{**vars(batch([0, 1, 2], 9)), "noise": {}}))
    assert torch.equal(torch.get_rng_state(), before)


def test_loaded_state_continues_and_shares_no_tensors_with_its_source() -> None:
    uninterrupted, resumed = make(), make([1, 2, 3])
    train(uninterrupted, [0, 1, 2], 0, 3)
    resumed.load_state_dict(uninterrupted.state_dict())
    # Resumed first: shared tensors would have been changed.
    metrics = train(resumed, [0, 1, 2], 3)
    assert same(metrics, train(uninterrupted, [0, 1, 2], 3))
    assert same(resumed.state_dict(), uninterrupted.state_dict())
    assert resumed.updates == 5


def test_state_of_one_replica_is_a_copy_that_continues_solo() -> None:
    batched = make()
    train(batched, [0, 1, 2], 0, 3)
    states = [batched.state_of(replica) for replica in range(3)]
    metrics = train(batched, [0, 1, 2], 3)
    for replica, seed in enumerate(SEEDS):
        solo = make([seed])
        solo.load_state_dict(states[replica])
        for actual, expected in zip(train(solo, [replica], 3), metrics, strict=True):
            assert all(torch.equal(actual[key][0], expected[key][replica]) for key in expected)
        assert same(solo.state_of(0), batched.state_of(replica))


def test_each_agent_acts_on_its_observations() -> None:
    algorithm = make()
    observations = torch.randn(3, 6, 3)
    with torch.no_grad():
        actions = algorithm.act(observations)
        for replica, agent in enumerate(algorithm._agents):
            assert torch.equal(actions[replica], agent.act(observations[replica]))
    assert actions.shape == (3, 6, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_state_of_a_gpu_is_separate_per_agent() -> None:
    class OnGpu(RandomAgent):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.net = self.net.to(self.device)
            self.optimizer = torch.optim.Adam(self.net.parameters(), 0.01)

        def update(self, batch: Batch) -> dict[str, float | Tensor]:
            self.updates += 1
            return {"draw": torch.rand((), device=self.device)}

    def draws(seeds: list[int]) -> Tensor:
        algorithm = replicate(OnGpu)(SPEC, Config(batch_size=4), seeds, 100, torch.device("cuda"))
        drawn = [algorithm.update(batch(seeds, update))["draw"] for update in range(3)]
        return torch.stack(drawn, 1)

    before = torch.cuda.get_rng_state()
    batched = draws(SEEDS)
    assert batched.unique().numel() == 9
    for replica, seed in enumerate(SEEDS):
        assert torch.equal(draws([seed])[0], batched[replica])
    assert torch.equal(torch.cuda.get_rng_state(), before)
