"""Behavioural cloning that is robust to noise in observations: an algorithm for one agent."""

from dataclasses import dataclass
from math import inf

import torch
from torch import nn

from seqeval import algorithm


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {"learning_rate": (0, inf), "noise": (0, inf)}

    learning_rate: float = 1e-3
    noise: float = 0.1  # std of what is added to observations
    hidden: int = 64  # width of the hidden layer


class NoisyCloning(algorithm.SingleAlgorithm):
    Config = Config
    learns_online = False  # the policy stays as it is once the data is used up

    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.actor = nn.Sequential(
            nn.Linear(spec.observation_size, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, spec.action_size),
        ).to(device)
        self.optimizer = torch.optim.Adam(self.actor.parameters(), config.learning_rate)

    def update(self, batch):
        self.updates += 1
        noise = self.config.noise * torch.randn_like(batch.observations)
        loss = (self.act(batch.observations + noise) - batch.actions).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss}

    def act(self, observations):
        return self.actor(observations).tanh()
