"""Agents that know nothing of replicas, run side by side: each as it would be alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from seqeval.algorithm import Batch, Config, Noise, SingleAlgorithm, Spec
from seqeval.replicated import Replicated, replicated

SPEC = Spec(observation_size=3, action_size=2)
SEEDS = [4, 0, 9]
CPU = torch.device("cpu")


class Dreamer(SingleAlgorithm):
    """Uses torch's global randomness wherever it can."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.net = torch.nn.Linear(3, 2)
        self.optimiser = torch.optim.Adam(self.net.parameters(), 0.01)
        self.seen: list[Batch] = []

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"jitter": Noise("normal", (self.config.batch_size, 2))}

    def update(self, batch: Batch) -> dict[str, float | Tensor]:
        self.updates += 1
        self.seen.append(batch)
        aim = batch.actions + batch.noise["jitter"] + torch.randn_like(batch.actions)
        loss = (torch.nn.functional.dropout(self.net(batch.observations)) - aim).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss, "draw": torch.rand(()).item(), "count": self.updates}

    def act(self, observations: Tensor) -> Tensor:
        return self.net(observations).tanh()


def make(seeds: list[int] = SEEDS) -> Replicated:
    algorithm = replicated(Dreamer)(SPEC, Config(batch_size=4), seeds, 100, CPU)
    assert isinstance(algorithm, Replicated)
    return algorithm


def batch(replicas: list[int], update: int) -> Batch:
    """A batch in which each replica's numbers are its own."""

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
    mine, theirs = flat(one), flat(other)
    assert len(mine) == len(theirs) > 0
    return all(map(torch.equal, mine, theirs))


def test_the_class_goes_by_the_name_of_the_single_one_and_is_made_once() -> None:
    made = replicated(Dreamer)
    assert made is replicated(Dreamer)
    assert (made.__name__, made.__module__, made.__doc__) == ("Dreamer", __name__, Dreamer.__doc__)
    assert made.Config is Dreamer.Config


def test_each_agent_sees_its_own_part_of_the_batch() -> None:
    algorithm, whole = make(), batch([0, 1, 2], 0)
    algorithm.update(whole)
    for replica, agent in enumerate(algorithm._agents):
        assert isinstance(agent, Dreamer)
        (mine,) = agent.seen
        for name in ("observations", "actions", "rewards", "next_observations", "terminated"):
            assert torch.equal(getattr(mine, name), getattr(whole, name)[replica])
        assert torch.equal(mine.noise["jitter"], whole.noise["jitter"][replica])
    assert algorithm.noise == {"jitter": Noise("normal", (4, 2))}


def test_metrics_are_of_each_replica_and_detached() -> None:
    algorithm = make()
    (metrics,) = train(algorithm, [0, 1, 2], 0, 1)
    assert {name: value.shape for name, value in metrics.items()} == dict.fromkeys(
        ("loss", "draw", "count"), (3,)
    )
    assert not any(value.requires_grad for value in metrics.values())
    assert metrics["draw"].unique().numel() == 3
    assert metrics["count"].tolist() == [1, 1, 1]
    assert algorithm.updates == 1


def test_three_together_are_three_alone_to_the_last_bit() -> None:
    together = make()
    found = train(together, [0, 1, 2])
    for replica, seed in enumerate(SEEDS):
        alone = make([seed])
        torch.rand(7)  # what others draw between them is nothing to it
        for mine, theirs in zip(train(alone, [replica]), found, strict=True):
            assert all(torch.equal(mine[key][0], theirs[key][replica]) for key in theirs)
        assert same(alone.state_of(0), together.state_of(replica))


def test_one_seed_is_one_agent_whatever_the_global_state_was() -> None:
    torch.manual_seed(1)
    one = make()
    torch.manual_seed(2)
    other = make()
    assert same(train(one, [0, 1, 2]), train(other, [0, 1, 2]))
    weights = [agent["agent"]["net"]["weight"] for agent in make([0, 0, 1]).state_dict()["replicas"]]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_global_state_is_left_as_it_was_even_by_an_exception() -> None:
    before = torch.get_rng_state()
    algorithm = make()
    train(algorithm, [0, 1, 2])
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyError):
        algorithm.update(Batch(**{**vars(batch([0, 1, 2], 9)), "noise": {}}))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_state_goes_on_and_shares_nothing_with_where_it_came_from() -> None:
    straight, resumed = make(), make([1, 2, 3])
    train(straight, [0, 1, 2], 0, 3)
    resumed.load_state_dict(straight.state_dict())
    on = train(resumed, [0, 1, 2], 3)  # before the other goes on: it would find moments changed
    assert same(on, train(straight, [0, 1, 2], 3))
    assert same(resumed.state_dict(), straight.state_dict())
    assert resumed.updates == 5


def test_the_state_of_one_goes_on_alone_and_is_a_copy() -> None:
    together = make()
    train(together, [0, 1, 2], 0, 3)
    states = [together.state_of(replica) for replica in range(3)]
    found = train(together, [0, 1, 2], 3)
    for replica, seed in enumerate(SEEDS):
        alone = make([seed])
        alone.load_state_dict(states[replica])
        for mine, theirs in zip(train(alone, [replica], 3), found, strict=True):
            assert all(torch.equal(mine[key][0], theirs[key][replica]) for key in theirs)
        assert same(alone.state_of(0), together.state_of(replica))


def test_acting_is_each_agents_own() -> None:
    algorithm = make()
    observations = torch.randn(3, 6, 3)
    with torch.no_grad():
        actions = algorithm.act(observations)
        for replica, agent in enumerate(algorithm._agents):
            assert torch.equal(actions[replica], agent.act(observations[replica]))
    assert actions.shape == (3, 6, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_its_random_state_is_kept_apart_too() -> None:
    class OnGpu(Dreamer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.net = self.net.to(self.device)
            self.optimiser = torch.optim.Adam(self.net.parameters(), 0.01)

        def update(self, batch: Batch) -> dict[str, float | Tensor]:
            self.updates += 1
            return {"draw": torch.rand((), device=self.device)}

    def draws(seeds: list[int]) -> Tensor:
        algorithm = replicated(OnGpu)(SPEC, Config(batch_size=4), seeds, 100, torch.device("cuda"))
        on = [algorithm.update(batch(seeds, update))["draw"] for update in range(3)]
        return torch.stack(on, 1)

    before = torch.cuda.get_rng_state()
    together = draws(SEEDS)
    assert together.unique().numel() == 9
    for replica, seed in enumerate(SEEDS):
        assert torch.equal(draws([seed])[0], together[replica])
    assert torch.equal(torch.cuda.get_rng_state(), before)
