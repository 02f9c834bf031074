"""An algorithm that learns from n-step returns: weights of imitation by an n-step advantage."""

from dataclasses import dataclass

import torch
from torch import nn

from seqeval import algorithm
from seqeval.algorithm import Sampling


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {"length": (1, 100), "discount": (0, 1)}

    learning_rate: float = 1e-3
    discount: float = 0.99
    length: int = 5  # n


class NStepWeights(algorithm.SingleAlgorithm):
    Config = Config
    learns_online = False

    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.actor = nn.Linear(spec.observation_size, spec.action_size).to(device)
        self.value = nn.Linear(spec.observation_size, 1).to(device)
        parameters = [*self.actor.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.Adam(parameters, config.learning_rate)

    @property
    def sampling(self):
        return Sampling("n_step", length=self.config.length, discount=self.config.discount)

    def update(self, batch):
        self.updates += 1
        # `rewards` are sums over `steps` transitions, at most n: fewer where the next is not visible yet.
        kept = self.config.discount**batch.steps * (1 - batch.terminated)
        with torch.no_grad():
            target = batch.rewards + kept * self.value(batch.next_observations).squeeze(-1)
        advantage = target - self.value(batch.observations).squeeze(-1)
        weights = advantage.detach().softmax(-1)
        errors = (self.act(batch.observations) - batch.actions).square().mean(-1)
        loss = advantage.square().mean() + (weights * errors).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss, "steps": batch.steps.float().mean()}

    def act(self, observations):
        return self.actor(observations).tanh()
