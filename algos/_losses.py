"""Losses that several algorithms share, or that their papers name.

Each tensor starts with the replica axis R; a loss is reduced within a replica, to (R,). A setting is a
number, or one for each replica (R,).
"""

from __future__ import annotations

from torch import Tensor

from seqeval.algorithm import Batch, per_replica


def td_target(
    batch: Batch, next_value: Tensor, discount: float | Tensor, reward_scale: float | Tensor = 1.0
) -> Tensor:
    """r + γ (1 - terminated) V(s'): one-step temporal-difference target, for `next_value` (R, B) -> (R, B).

    Rewards are multiplied by `reward_scale`.

    Sutton, *Learning to Predict by the Methods of Temporal Differences* (Machine Learning 3, 1988).
    """
    unscaled = not isinstance(reward_scale, Tensor) and reward_scale == 1
    rewards = batch.rewards if unscaled else per_replica(reward_scale, batch.rewards) * batch.rewards
    return rewards + per_replica(discount, next_value) * (1 - batch.terminated) * next_value


def ensemble_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σᵢ mean (Qᵢ - y)²: squared errors of N critics, q (R, N, B), to one target (R, B) -> (R,).

    Fujimoto, van Hoof, Meger, *Addressing Function Approximation Error in Actor-Critic Methods* (arXiv
    1802.09477), algorithm 1.
    """
    return (q - target.unsqueeze(1)).square().mean(-1).sum(-1)


def expectile_loss(error: Tensor, expectile: float | Tensor) -> Tensor:
    """mean |τ - 1(u < 0)| u²: asymmetric squared error, for errors u (R, B) and expectile τ -> (R,).

    Kostrikov, Nair, Levine, *Offline Reinforcement Learning with Implicit Q-Learning* (arXiv 2110.06169),
    equation 5.
    """
    asymmetry = (per_replica(expectile, error) - (error.detach() < 0).to(error.dtype)).abs()
    return (asymmetry * error.square()).mean(-1)


def exponential_weights(
    advantage: Tensor, inverse_temperature: float | Tensor, maximum: float | Tensor
) -> Tensor:
    """min(exp(β A), maximum): weights of advantage-weighted regression, (R, B) -> (R, B).

    Kostrikov, Nair, Levine (arXiv 2110.06169), equation 7, with the cap of the authors' code.
    """
    scaled = per_replica(inverse_temperature, advantage) * advantage
    return scaled.exp().clamp(max=per_replica(maximum, advantage))


def softmax_weights(advantage: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax(A / λ) over the minibatch: weights that sum to 1 in each replica, (R, B) -> (R, B).

    Nair, Gupta, Dalal, Levine, *AWAC* (arXiv 2006.09359), normalized as in the authors' code.
    """
    return (advantage / per_replica(temperature, advantage)).softmax(-1)


def clipped_noise(noise: Tensor, std: float | Tensor, bound: float | Tensor) -> Tensor:
    """clip(std · noise, -bound, bound): noise on the target action, for N(0, 1) `noise` (R, B, action).

    Fujimoto, van Hoof, Meger (arXiv 1802.09477), equation 14.
    """
    limit = per_replica(bound, noise)
    return (noise * per_replica(std, noise)).clamp(-limit, limit)
