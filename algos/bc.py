"""Behavioral cloning: a deterministic policy by regression on the data's actions; for discrete actions, a
classifier.

Pomerleau, *ALVINN* (NeurIPS 1988). The loss is the mean squared error of tanh π(s), or the cross-entropy for
discrete actions.

From images, a convolutional encoder is learned with the same loss, as in the BC baseline of V-D4RL (Lu et
al., arXiv 2206.04779): with the encoder `drq` each image is shifted at random by up to 4 pixels. Its other
settings are `hidden=(1024,1024),dropout=0,learning_rate=1e-4`; there the policy is also sampled from, with
noise of a std that falls, where here its mean is imitated.

Learning rate 1e-3 and dropout 0.1 are those of the BC baseline in the code of IQL (arXiv 2110.06169), which
the paper on sequential evaluation runs. Departures from it: that baseline maximises a likelihood; its
learning rate decays by a cosine, here with `protocol.learning_rate_decay` only, since `strict` keeps the rate
constant: a curve must not depend on how much data is still to come. BC does not learn online, where it would
imitate itself: its online points re-evaluate the policy learned offline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Image, Noise, Spec

from ._discrete import log_prob
from ._encoders import (
    EncoderName,
    ObservationMLP,
    encoder_name,
    network_flops,
    random_shift,
    shift_noise,
)
from ._networks import dropout_masks
from ._optim import Adam


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {"learning_rate": (0, inf), "dropout": (0, 0.99), "random_shift": (0, inf), "hidden": (1, inf)}
    batchable = ("learning_rate",)
    ranges = {"learning_rate": "log(1e-4,3e-3)"}

    learning_rate: float = 1e-3
    decay_learning_rate: bool = False  # to 0 by a cosine; set by protocol.learning_rate_decay
    dropout: float = 0.1  # probability of leaving out a hidden unit in an update
    encoder: EncoderName = "auto"  # of images: minatar below 32 pixels, otherwise drq
    random_shift: int = 4  # pixels by which images are shifted at most; not with the encoder minatar
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


class BC(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    action_spaces = ("continuous", "discrete")
    image_action_spaces = ("continuous", "discrete")
    learns_online = False
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        self.actor = ObservationMLP(
            "actor", spec, config.hidden, spec.action_size, seeds, device, "orthogonal", config.encoder
        )
        decay_over = total_updates if config.decay_learning_rate else None
        self.optimizer = Adam(self.actor, config.learning_rate, decay_over=decay_over)

    @property
    def noise(self) -> Mapping[str, Noise]:
        c = self.config
        shift = {"shift": shift_noise(c.batch_size)} if self._shifts else {}
        return dropout_masks(c.batch_size, c.hidden, c.dropout) | shift

    @property
    def _shifts(self) -> bool:
        """Whether images are shifted."""
        image, c = self.spec.observation, self.config
        return isinstance(image, Image) and c.random_shift > 0 and encoder_name(image, c.encoder) != "minatar"

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return config.decay_learning_rate

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c, observations = self.config, batch.observations
        self.updates += 1
        if self._shifts:
            observations = random_shift(observations, batch.noise["shift"], c.random_shift)
        masks = [batch.noise[name] for name in dropout_masks(c.batch_size, c.hidden, c.dropout)]
        outputs = self.actor(observations, masks, gain=1 / (1 - c.dropout))
        if self.spec.discrete:
            loss = -log_prob(outputs, batch.actions).mean(-1)
        else:
            loss = (outputs.tanh() - batch.actions).square().mean((1, 2))
        self.optimizer.minimize(loss)
        return {"loss": loss.detach()}

    def act(self, observations: Tensor) -> Tensor:
        outputs = self.actor(observations)
        return outputs.argmax(-1) if self.spec.discrete else outputs.tanh()

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        if not self.spec.discrete:
            return None
        return log_prob(self.actor(observations), actions)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products and convolutions in one update of one replica."""
    actor, inner = network_flops(spec, config.encoder, config.batch_size, config.hidden, spec.action_size)
    return 2 * actor + inner
