"""Networks, optimiser and losses for algorithms of your own, with a replica axis R.

An algorithm in your own file may import everything here; files whose names start with `_` may change. All of
it keeps the rules of `seqeval.algorithm`: replica i of R computes what it computes alone, on the CPU in
float32 to the last bit. Initial weights come from the rng stream of each seed; tensors are (R, B, ...), those
of an ensemble (R, N, B). Second derivatives work.

| name | what it is |
|---|---|
| `MLP` | linear layers with ReLU or GELU, optionally layer normalisation, dropout masks, N copies |
| `Critics` | an ensemble of N critics Q(s, a) |
| `GaussianActor` | a normal policy with a tanh mean, whose std does not depend on the state |
| `TanhGaussianActor`, `squashed_sample` | a tanh-Gaussian policy, as in soft actor-critic |
| `Scalar` | one learnable number per replica |
| `ObservationMLP` | an `MLP` on observations, with an encoder of its own where they are images |
| `Encoder` | images -> vectors: `minatar`, `drq` or `impala`; divides pixels by 255 |
| `random_shift`, `shift_noise` | images shifted at random, and the random numbers for it |
| `DiscreteCritics`, `CategoricalActor` | critics and softmax policy for discrete actions |
| `of_actions`, `log_prob`, `epsilon_greedy` | values and log-probabilities of discrete actions; exploration |
| `dropout_masks` | the random masks of dropout, for `Algorithm.noise` |
| `Adam`, `polyak_update`, `target_copy` | the optimiser and target networks |
| `td_target`, `ensemble_loss`, `expectile_loss`, … | losses; each cites its paper |
| `matmul_flops`, `network_flops` | FLOPs of a network's matrix products and convolutions |
"""

from __future__ import annotations

from ._discrete import CategoricalActor, DiscreteCritics, epsilon_greedy, huber_loss, log_prob, of_actions
from ._encoders import Encoder, EncoderName, ObservationMLP, network_flops, random_shift, shift_noise
from ._losses import ensemble_loss, expectile_loss, exponential_weights, softmax_weights, td_target
from ._networks import (
    MLP,
    Critics,
    GaussianActor,
    Scalar,
    TanhGaussianActor,
    dropout_masks,
    matmul_flops,
    squashed_sample,
)
from ._optim import Adam, polyak_update, target_copy

__all__ = [
    "MLP",
    "Adam",
    "CategoricalActor",
    "Critics",
    "DiscreteCritics",
    "Encoder",
    "EncoderName",
    "GaussianActor",
    "ObservationMLP",
    "Scalar",
    "TanhGaussianActor",
    "dropout_masks",
    "ensemble_loss",
    "epsilon_greedy",
    "expectile_loss",
    "exponential_weights",
    "huber_loss",
    "log_prob",
    "matmul_flops",
    "network_flops",
    "of_actions",
    "polyak_update",
    "random_shift",
    "shift_noise",
    "softmax_weights",
    "squashed_sample",
    "target_copy",
    "td_target",
]
