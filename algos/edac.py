"""EDAC: An, Moon, Kim, Song, *Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble*
(arXiv 2110.01548).

SAC-N (`sac_n.py`) whose critics are kept apart: their loss also has, with gᵢ = ∂Qᵢ/∂a at the data's action,

    η / (N - 1) · mean over the batch of Σ_{i≠j} cos(gᵢ, gⱼ),

so that fewer critics than in SAC-N suffice. Minimising it takes second derivatives of the critics. N and η
are tuned for each dataset: see its recipe.

Departures: those of SAC-N; the sum is over all pairs, as in the paper's algorithm 1 (the authors' code takes
a random subset of min(N, |A|) critics at each update).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from seqeval.algorithm import Batch, Spec, per_replica

from . import sac_n
from ._losses import ensemble_loss
from ._networks import matmul_flops


@dataclass(frozen=True)
class Config(sac_n.Config):
    limits = {"critics": (2, inf), "eta": (0, inf)}
    batchable = (*sac_n.Config.batchable, "eta")
    ranges = {"critics": "10|20|50", "eta": "0|1|5"}  # around the paper's settings for Gym-MuJoCo

    eta: float = 1.0  # η: weight of the critics' diversity


@final
class EDAC(sac_n.SACN):
    Config = Config

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        q, gradients = self.critics.with_action_gradients(batch.observations, batch.actions)
        similarity = mean_similarity(gradients)
        loss = ensemble_loss(q, target) + per_replica(self.config.eta, similarity) * similarity
        return loss, {**sac_n.value_metrics(q), "similarity": similarity.detach()}


def mean_similarity(gradients: Tensor) -> Tensor:
    """mean of Σ_{i≠j} cos(gᵢ, gⱼ) / (N - 1) over the batch: gradients (R, N, B, action) -> (R,)."""
    norms = torch.linalg.vector_norm(gradients, dim=-1, keepdim=True)
    directions = gradients / (norms + 1e-10)
    # The sum over pairs is |Σ uᵢ|² - Σ |uᵢ|².
    pairs = directions.sum(1).square().sum(-1) - directions.square().sum((1, 3))
    return pairs.mean(-1) / (gradients.shape[1] - 1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    outer, _ = matmul_flops(b, o + a, config.hidden[0])
    to_actions, _ = matmul_flops(b, a, config.hidden[0])
    last, _ = matmul_flops(b, config.hidden[-1], 1)
    hidden = critic - outer - last  # of the products between hidden layers
    biases = 2 * b * sum(config.hidden)
    # Values; their gradients, down to the action; the way back up; weights and biases but the last layer's.
    critic_flops = critic + 2 * (hidden + to_actions) + (outer + hidden + biases)
    return sac_n.flops(spec, config) + config.critics * (critic_flops - 2 * critic - critic_inner)
