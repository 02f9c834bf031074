"""Algorithms that keep the contract, and what the tests of `seqeval check` do with broken ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from seqeval import check
from seqeval.check import Result

WORKING = '''
from dataclasses import dataclass, replace
import numpy as np
import torch
from seqeval import algorithm
from seqeval.algorithm import Algorithm, Noise, SingleAlgorithm, stream

@dataclass(frozen=True)
class Config(algorithm.Config):
    learning_rate: float = 1e-2
    clip: float | None = None

class Good(Algorithm):
    """Linear imitation of noisy actions."""
    Config = Config

    def __init__(self, spec, config, seeds, total_updates, device):
        super().__init__(spec, config, seeds, total_updates, device)
        rows = [self.first_weights(stream(seed, "weights")) for seed in seeds]
        weights = torch.tensor(np.stack(rows), device=device, dtype=torch.get_default_dtype())
        self.net = torch.nn.ParameterDict({"weights": torch.nn.Parameter(weights)})
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.learning_rate)

    def first_weights(self, rng):
        return rng.standard_normal((self.spec.observation_size, self.spec.action_size))

    @property
    def noise(self):
        return {"jitter": Noise("normal", (self.config.batch_size, self.spec.action_size))}

    def errors(self, batch):
        target = batch.actions + 0.1 * batch.rewards.unsqueeze(-1) + 0.1 * batch.noise["jitter"]
        return (self.mean(batch.observations) - target).square()  # (R, B, action)

    def losses(self, batch):
        return self.errors(batch).mean((1, 2))

    def descend(self, losses):
        self.optimizer.zero_grad()
        losses.sum().backward()
        self.optimizer.step()

    def update(self, batch):
        self.updates += 1
        losses = self.losses(batch)
        self.descend(losses)
        return {"loss": losses.detach()}

    def mean(self, observations):
        return (observations @ self.net["weights"]).tanh()

    def act(self, observations):
        return self.mean(observations)

class Replayable(Good):
    """Trains in every second update, and updates can be replayed on a GPU."""
    period = 2

    def __init__(self, *given):
        super().__init__(*given)
        rate = self.config.learning_rate
        self.optimizer = torch.optim.Adam(self.net.parameters(), rate, fused=True, capturable=True)
        self.slow = torch.nn.ParameterDict({"weights": self.net["weights"].detach().clone()})
        self.slow.requires_grad_(False)

    def update(self, batch):
        self.updates += 1
        losses = self.losses(batch)
        if self.updates % 2:
            return {"first": losses.detach()}
        self.descend(losses)
        self.keep()
        return {"loss": losses.detach()}

    def keep(self):
        self.slow["weights"].lerp_(self.net["weights"].detach(), 0.1)

class BothActionSpaces(Good):
    """Supports discrete actions too, and explores with noise."""
    action_spaces = ("continuous", "discrete")

    def errors(self, batch):
        if self.spec.discrete:
            chosen = torch.nn.functional.one_hot(batch.actions, self.spec.action_size)
            batch = replace(batch, actions=chosen)
        return super().errors(batch)

    def choose(self, values):
        return values.argmax(-1) if self.spec.discrete else values.tanh()

    def act(self, observations):
        return self.choose(observations @ self.net["weights"])

    def explore(self, observations, noise):
        return self.choose(observations @ self.net["weights"] + noise)

class GoodSingle(SingleAlgorithm):
    """The same for one agent, with random numbers of torch."""
    Config = Config

    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.learning_rate)

    def update(self, batch):
        self.updates += 1
        target = batch.actions + 0.1 * batch.rewards.unsqueeze(-1) + 0.1 * torch.randn_like(batch.actions)
        loss = (self.net(batch.observations).tanh() - target).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss, "plain": loss.item()}

    def act(self, observations):
        return self.net(observations).tanh()

class DiscreteSingle(GoodSingle):
    """Discrete actions only; explores with one random action in four."""
    action_spaces = ("discrete",)
    learns_online = False

    def update(self, batch):
        return super().update(replace(batch, actions=torch.eye(self.spec.action_size)[batch.actions]))

    def act(self, observations):
        return self.net(observations).argmax(-1)

    def explore(self, observations):
        greedy = self.act(observations)
        return torch.where(torch.rand(greedy.shape) < 0.25, torch.randint_like(greedy, 2), greedy)
'''

Examine = Callable[[str], dict[str, Result]]


def make_examine(folder: Path, *codes: str) -> Examine:
    """Writes the working algorithms and others to a file; the function returned checks one by its name."""
    file = folder / "examples.py"
    file.write_text(WORKING + "".join(codes))
    return lambda name: {result.name: result for result in check.examine(f"{file}:{name}")}


def assert_only_these_fail(results: Mapping[str, Result], expected: set[str]) -> None:
    """Asserts which rules fail, that each says where the contract is, and why others are skipped."""
    assert results.keys() == check.RULES.keys()
    failed = {name: result.message for name, result in results.items() if result.status == "failed"}
    assert failed.keys() == expected, failed
    for name, message in failed.items():
        assert "\n" not in message
        assert message.endswith(f"; see seqeval/algorithm.py, {check.RULES[name].contract}")
    skipped = {name for name, result in results.items() if result.status == "skipped"}
    for name in skipped:
        assert (skipped | failed.keys()) & {needed.name for needed in check.RULES[name].needs}
