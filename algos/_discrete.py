"""Networks and losses for discrete actions, from vectors or images, with a replica axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqeval.algorithm import Spec

from ._encoders import EncoderName, ObservationMLP
from ._networks import Init


class DiscreteCritics(ObservationMLP):
    """An ensemble of `copies` critics of each replica, which give Q of all actions at once."""

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        init: Init,
        encoder: EncoderName = "auto",
        copies: int = 2,
        **network: Any,
    ) -> None:
        """`network` are further arguments of the `MLP`."""
        super().__init__(
            "critics", spec, hidden, spec.action_size, seeds, device, init, encoder, copies, **network
        )

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:  # type: ignore[override]
        """(R, B, observation), (R, B) int64 -> (R, N, B)."""
        return of_actions(super().forward(observations), actions.unsqueeze(1))


class CategoricalActor(nn.Module):
    """A softmax policy over the actions per replica."""

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        encoder: EncoderName = "auto",
        last_gain: float = math.sqrt(2),
    ) -> None:
        super().__init__()
        self.net = ObservationMLP(
            "actor", spec, hidden, spec.action_size, seeds, device, "orthogonal", encoder, last_gain=last_gain
        )

    def mode(self, observations: Tensor) -> Tensor:
        """The most probable actions: (R, B, observation) -> (R, B) int64."""
        return self.net(observations).argmax(-1)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Sampled actions, (R, B) int64, from N(0, 1) `noise` (R, B, actions)."""
        # argmax of logits + Gumbel noise, -log(-log U), for the uniform number U = Φ(noise).
        gumbel = -(-torch.special.log_ndtr(noise)).log()
        return (self.net(observations) + gumbel).argmax(-1)

    def log_prob(
        self, observations: Tensor, actions: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0
    ) -> Tensor:
        """Log-probability of actions: (R, B, observation), (R, B) int64 -> (R, B); masks and gain as in
        `MLP`."""
        return log_prob(self.net(observations, masks, gain), actions)


def of_actions(values: Tensor, actions: Tensor) -> Tensor:
    """The values of actions among those of all: (..., B, actions), (..., B) int64 -> (..., B). The leads are
    broadcast."""
    places = actions.unsqueeze(-1).expand(*values.shape[:-1], 1)
    return values.gather(-1, places).squeeze(-1)


def log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """log softmax of actions: (R, B, actions), (R, B) int64 -> (R, B)."""
    return of_actions(logits, actions) - logits.logsumexp(-1)


def huber_loss(error: Tensor) -> Tensor:
    """mean of e²/2 where |e| < 1, elsewhere |e| - 1/2: errors (R, B) -> (R,).

    Mnih et al., *Human-level control through deep reinforcement learning* (Nature 518, 2015), which clips the
    gradient of the squared error so.
    """
    return functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").mean(-1)


def epsilon_greedy(greedy: Tensor, noise: Tensor, epsilon: float) -> Tensor:
    """Uniformly random actions with probability `epsilon`, otherwise the greedy ones: (R, E) int64.

    N(0, 1) `noise` (R, E, 1 + actions): the first number decides, the largest of the others is the action.
    """
    threshold = torch.special.ndtri(torch.tensor(epsilon, dtype=torch.float64)).item()
    return torch.where(noise[..., 0] < threshold, noise[..., 1:].argmax(-1), greedy)
