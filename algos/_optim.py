"""Adam with a replica axis, and target networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from seqeval.algorithm import per_replica

from . import _fast_cpu

H = TypeVar("H")
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
        learning_rate: float | Tensor,
        weight_decay: float | Tensor = 0.0,
        decay_over: int | None = None,
    ) -> None:
        """Learning rate and weight decay: a number, or one for each replica (R,). `decay_over`: total number
        of steps, over which the learning rate decays by a cosine."""
        self.parameters = list(network.parameters())
        self.exp_avg = [torch.zeros_like(p) for p in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(p) for p in self.parameters]
        self.steps = torch.zeros((), device=self.parameters[0].device)
        replicas = len(self.parameters[0])
        rates, decays = _of_replicas(learning_rate, replicas), _of_replicas(weight_decay, replicas)
        # On a GPU with equal settings, a step is one call for all replicas.
        self._split = self.steps.is_cpu or len(set(zip(rates, decays, strict=True))) > 1
        self._groups = [
            self._group(place, rate, decay, decay_over)
            for (rate, decay), place in _places(zip(rates, decays, strict=True)).items()
        ]

    def _group(self, replicas: list[int], rate: float, weight_decay: float, decay_over: int | None) -> _Group:
        parts = self._parts_of(replicas, self.parameters, self.exp_avg, self.exp_avg_sq)
        rates = None
        if decay_over is not None:
            # The learning rate of each step, counted from 1, indexed by a tensor: a CUDA graph replays no
            # number of the host. On a GPU the fused kernel requires float32.
            values = [0.0, *(rate * cosine_decay(step, decay_over) for step in range(1, decay_over + 1))]
            dtype = torch.float64 if self.steps.is_cpu else torch.float32
            rates = torch.tensor(values, dtype=dtype, device=self.steps.device)
        return _Group(replicas, *parts, rate, rates, weight_decay)

    def _parts_of(self, replicas: list[int], *tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Of each list of tensors (R, ...), the views of these replicas' parts, or the tensors themselves."""
        if not self._split:
            return [[tensor.detach() for tensor in of_kind] for of_kind in tensors]
        parts = ([tensor.detach().unbind() for tensor in of_kind] for of_kind in tensors)
        return [[part[replica] for part in of_kind for replica in replicas] for of_kind in parts]

    @torch.no_grad()
    def minimize(self, losses: Tensor) -> None:
        """Take one step on the losses (R,), each of which depends on its own replica's parameters only."""
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad():
            losses.sum().backward()
        grads = [p.grad for p in self.parameters if p.grad is not None]
        self.steps += 1
        for group in self._groups:
            (parts,) = self._parts_of(group.replicas, grads)
            rate = group.rate if group.rates is None else group.rates.take(self.steps.long())
            _fast_cpu.adamw_(
                group.parameters,
                parts,
                group.exp_avg,
                group.exp_avg_sq,
                self.steps,
                rate,
                group.weight_decay,
            )

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


def target_copy(network: M) -> M:
    """A copy without gradients, to be updated by `polyak_update`."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def polyak_update(targets: Iterable[nn.Module], networks: Iterable[nn.Module], rate: float | Tensor) -> None:
    """target ← (1 - rate) · target + rate · network, for each parameter of each pair; `rate` is a number or
    one for each replica (R,)."""
    old = [p for target in targets for p in target.parameters()]
    new = [p for network in networks for p in network.parameters()]
    if not isinstance(rate, Tensor):
        _fast_cpu.lerp_(old, new, rate)
        return
    for target, parameter in zip(old, new, strict=True):
        target.lerp_(parameter, per_replica(rate, parameter))


class _Group(NamedTuple):
    """Replicas with equal settings, and their parts of the parameters and averages."""

    replicas: list[int]
    parameters: list[Tensor]
    exp_avg: list[Tensor]
    exp_avg_sq: list[Tensor]
    rate: float
    rates: Tensor | None  # of each step, if the rate decays
    weight_decay: float


def _of_replicas(setting: float | Tensor, replicas: int) -> list[float]:
    return setting.tolist() if isinstance(setting, Tensor) else [setting] * replicas


def _places(values: Iterable[H]) -> dict[H, list[int]]:
    """The places of each value."""
    places: dict[H, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return places
