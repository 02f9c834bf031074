"""Algorithms that keep the contract; broken ones of the tests extend them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Noise, Sampling, SingleAlgorithm, per_replica, stream


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
        self.optimizer = self.make_optimizer()

    def make_optimizer(self):
        return torch.optim.Adam(self.net.parameters(), self.config.learning_rate)

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


@dataclass(frozen=True)
class TunedConfig(Config):
    batchable = ("learning_rate", "reward_weight", "spread")
    ranges = {"learning_rate": "log(1e-3,1e-1)", "spread": "0|0.1"}

    reward_weight: float = 0.1
    spread: float = 0.1


class Tuned(Good):
    """Replicas may differ in three settings."""

    Config = TunedConfig

    def __init__(self, *given):
        super().__init__(*given)
        self.online = False

    def make_optimizer(self):
        return None  # torch's have one rate

    def start_online(self):
        self.online = True

    def weight(self):
        return self.config.reward_weight

    def errors(self, batch):
        rewards = per_replica(self.weight(), batch.rewards) * batch.rewards
        target = batch.actions + rewards.unsqueeze(-1) + 0.1 * batch.noise["jitter"]
        return (self.mean(batch.observations) - target).square()

    def descend(self, losses):
        weights = self.net["weights"]
        (gradient,) = torch.autograd.grad(losses.sum(), weights)
        with torch.no_grad():
            weights -= per_replica(self.config.learning_rate, gradient) * gradient

    def explore(self, observations, noise):
        actions = self.act(observations)
        return (actions + per_replica(self.config.spread, noise) * noise).clamp(-1, 1)

    def td_error(self, batch):
        return (self.act(batch.observations).mean(-1) - batch.rewards).unsqueeze(1)


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


class Exploring(Good):
    """Explores with its noise."""

    def explore(self, observations, noise):
        return (self.mean(observations) + 0.3 * noise).clamp(-1, 1)


class Bootstrapping(Good):
    """Moves towards targets of temporal differences, and uses what else a batch of transitions may hold."""

    sampling = Sampling(next_actions=True, returns_to_go=True, rows=True)

    def next_values(self, batch):
        """(R, B) from the next observations, 0 where no value follows."""
        return (1 - batch.terminated) * self.mean(batch.next_observations).detach().mean(-1)

    def repeated(self, batch):
        """(R, B): how far the next logged action is, 0 where there is none."""
        return batch.next_actions_mask * (batch.next_actions - batch.actions).square().mean(-1)

    def returns(self, batch):
        """(R, B): the return to go, 0 where it is unknown."""
        return torch.where(batch.returns_to_go_mask > 0, batch.returns_to_go, 0)

    def losses(self, batch):
        target = batch.rewards + 0.9 * self.next_values(batch) + 0.1 * self.returns(batch)
        weights = 1 + 0.1 * target.abs() + self.repeated(batch)
        return (weights.unsqueeze(-1) * self.errors(batch)).mean((1, 2))


class Measured(BothActionSpaces):
    """Has a stochastic policy and two critics for evaluators."""

    std = 0.5

    def preferences(self, observations):
        return observations @ self.net["weights"]

    def log_prob(self, observations, actions):
        if self.spec.discrete:
            return (
                self.preferences(observations).log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
            )
        return torch.distributions.Normal(self.mean(observations), self.std).log_prob(actions).sum(-1)

    def values(self, observations, actions):
        """(R, C, B)."""
        if self.spec.discrete:
            actions = torch.nn.functional.one_hot(actions, self.spec.action_size)
        value = (self.preferences(observations) * actions).sum(-1)
        return torch.stack([value, 2 * value], 1)

    def q_value(self, observations, actions):
        return self.values(observations, actions).amin(1)

    def next_values(self, batch):
        """(R, B), 0 where none follows."""
        value = self.preferences(batch.next_observations).tanh().amax(-1)
        return torch.where(batch.terminated > 0, 0.0, value)

    def td_error(self, batch):
        target = batch.rewards + 0.9 * self.next_values(batch)
        return self.values(batch.observations, batch.actions) - target.unsqueeze(1)


class Sequential(Good):
    """Learns from sequences, without what lies behind their ends."""

    noise = {}
    sampling = Sampling("sequences", 4, next_actions=True, returns_to_go=True)

    def mask(self, batch):
        return batch.mask

    def errors(self, batch):
        errors = (self.mean(batch.observations.flatten(1, 2)) - batch.actions.flatten(1, 2)).square()
        repeated = (batch.next_actions - batch.actions).square() * batch.next_actions_mask.unsqueeze(-1)
        return self.mask(batch).flatten(1, 2).unsqueeze(-1) * (errors + 0.1 * repeated.flatten(1, 2))


class ManySteps(Good):
    """Learns from sums of rewards over several steps, offline only."""

    learns_online = False
    sampling = Sampling("n_step", 3, 0.9)

    def errors(self, batch):
        kept = 0.9**batch.steps * (1 - batch.terminated)
        value = kept * self.mean(batch.next_observations).detach().mean(-1)
        return super().errors(replace(batch, rewards=batch.rewards + value))


class Restored(Good):
    """Keeps a parameter, a number and a list beside its networks, and saves them."""

    def __init__(self, *given):
        super().__init__(*given)
        self.temperature = torch.nn.Parameter(torch.ones(len(self.seeds)))
        self.rate, self.recent = 1.0, [1.0]

    def losses(self, batch):
        with torch.no_grad():
            self.temperature *= 0.99
        self.rate *= 0.99
        self.recent = [*self.recent[-3:], self.rate]
        return super().losses(batch) * self.temperature.detach() * self.rate * sum(self.recent)

    def state_dict(self):
        kept = {"temperature": self.temperature.detach(), "rate": self.rate, "recent": self.recent}
        return super().state_dict() | kept

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.temperature.data.copy_(state["temperature"])
        self.rate, self.recent = state["rate"], list(state["recent"])


class Normalizing(GoodSingle):
    """Uses batch normalization: statistics of the batch in an update, running ones in `act`."""

    def __init__(self, spec, *rest):
        super().__init__(spec, *rest)
        self.norm = torch.nn.BatchNorm1d(spec.observation_size).to(self.device)

    def update(self, batch):
        self.norm.train()
        return super().update(replace(batch, observations=self.norm(batch.observations)))

    def act(self, observations):
        self.norm.eval()
        return super().act(self.norm(observations))


class ClippedWithin(Good):
    """Clips the gradient of each replica by its own norm."""

    def descend(self, losses):
        self.optimizer.zero_grad()
        losses.sum().backward()
        gradient = self.net["weights"].grad
        gradient /= gradient.norm(dim=(1, 2), keepdim=True).clamp(min=1e-3)
        self.optimizer.step()


class DrawsBySeed(GoodSingle):
    """Draws random numbers of NumPy from its seed and the number of the update."""

    def update(self, batch):
        jitter = np.random.default_rng((self.seed, self.updates)).standard_normal()
        return super().update(replace(batch, rewards=batch.rewards + jitter))
