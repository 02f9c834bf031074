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
| `dropout_masks` | the random masks of dropout, for `Algorithm.noise` |
| `Adam`, `polyak_update`, `target_copy` | the optimiser and target networks |
| `td_target`, `ensemble_loss`, `expectile_loss`, … | losses; each cites its paper |
| `matmul_flops` | FLOPs of a network's matrix products |
"""

from __future__ import annotations

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
    "Critics",
    "GaussianActor",
    "Scalar",
    "TanhGaussianActor",
    "dropout_masks",
    "ensemble_loss",
    "expectile_loss",
    "exponential_weights",
    "matmul_flops",
    "polyak_update",
    "softmax_weights",
    "squashed_sample",
    "target_copy",
    "td_target",
]
