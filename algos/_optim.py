"""Adam with a replica axis, and target networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from . import _fast_cpu

M = TypeVar("M", bound=nn.Module)


class Adam:
    """Adam (Kingma & Ba, arXiv 1412.6980) for the parameters of a network; with weight decay, AdamW
    (Loshchilov & Hutter, arXiv 1711.05101).

    On the CPU each replica's part of a parameter is updated as a separate tensor: the fused kernel rounds the
    last few elements of a tensor differently from the others, and which those are would depend on the number
    of replicas.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float = 0.0,
        decay_over: int | None = None,
        warm_up: int | None = None,
        clip: float | None = None,
    ) -> None:
        """`decay_over`: total number of steps, over which the learning rate decays by a cosine. `warm_up`:
        steps over which it rises linearly. `clip`: the norm of a replica's gradient, at most."""
        self.parameters = list(network.parameters())
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.exp_avg = [torch.zeros_like(p) for p in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(p) for p in self.parameters]
        self.clip = clip
        self.steps = torch.zeros((), device=self.parameters[0].device)
        self._parts = [_by_replica(tensors) for tensors in (self.parameters, self.exp_avg, self.exp_avg_sq)]
        # The learning rate of each step, counted from 1, indexed by a tensor: a CUDA graph replays no number
        # of the host. On a GPU the fused kernel requires float32.
        self.rates: Tensor | None = None
        if decay_over is not None or warm_up is not None:
            steps = range(1, (decay_over or warm_up or 0) + 1)
            decay = [1.0 if decay_over is None else cosine_decay(step, decay_over) for step in steps]
            rise = [1.0 if warm_up is None else min(1.0, step / warm_up) for step in steps]
            rates = [learning_rate * a * b for a, b in zip(decay, rise, strict=True)]
            dtype = torch.float64 if self.steps.is_cpu else torch.float32
            self.rates = torch.tensor([0.0, *rates], dtype=dtype, device=self.steps.device)

    @torch.no_grad()
    def minimize(self, losses: Tensor) -> None:
        """Take one step on the losses (R,), each of which depends on its own replica's parameters only."""
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad():
            losses.sum().backward()
        parameters, exp_avg, exp_avg_sq = self._parts
        whole = [p.grad for p in self.parameters if p.grad is not None]
        if self.clip is not None:
            clip_norms(whole, self.clip)
        grads = _by_replica(whole)
        self.steps += 1
        rate: float | Tensor = self.learning_rate
        if self.rates is not None:  # the last one stays
            rate = self.rates.take(self.steps.long().clamp(max=len(self.rates) - 1))
        _fast_cpu.adamw_(parameters, grads, exp_avg, exp_avg_sq, self.steps, rate, self.weight_decay)

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "exp_avg": list(self.exp_avg),
            "exp_avg_sq": list(self.exp_avg_sq),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps.copy_(state["steps"])
        saved = (*state["exp_avg"], *state["exp_avg_sq"])
        for tensor, value in zip((*self.exp_avg, *self.exp_avg_sq), saved, strict=True):
            tensor.copy_(value)


def cosine_decay(update: int, total: int) -> float:
    """Factor of the learning rate at an update counted from 1: from 1 towards 0 (arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * (update - 1) / total))


def clip_norms(grads: Sequence[Tensor], maximum: float) -> None:
    """Scales the gradients (R, ...) of each replica so that their norm over all parameters is at most
    `maximum`, as torch.nn.utils.clip_grad_norm_ does."""
    squares = torch.zeros(len(grads[0]), dtype=grads[0].dtype, device=grads[0].device)
    for grad in grads:
        # Replica by replica on the CPU: how torch sums a tensor there depends on its shape.
        parts = [part.square().sum() for part in grad] if grad.is_cpu else None
        squares = squares + (grad.flatten(1).square().sum(1) if parts is None else torch.stack(parts))
    factors = (maximum / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factors.view(-1, *(1,) * (grad.dim() - 1)))


def target_copy(network: M) -> M:
    """A copy without gradients, to be updated by `polyak_update`."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def polyak_update(targets: Iterable[nn.Module], networks: Iterable[nn.Module], rate: float) -> None:
    """target ← (1 - rate) · target + rate · network, for each parameter of each pair."""
    _fast_cpu.lerp_(
        [p for target in targets for p in target.parameters()],
        [p for network in networks for p in network.parameters()],
        rate,
    )


def _by_replica(tensors: Sequence[Tensor]) -> list[Tensor]:
    """On the CPU, views of each replica's part of tensors (R, ...); on a GPU, the tensors themselves."""
    on_cpu = tensors[0].device.type == "cpu"
    return [part for tensor in tensors for part in tensor.detach().unbind()] if on_cpu else list(tensors)
