"""QC-FQL: Li, Zhou, Levine, *Reinforcement Learning with Action Chunking* (arXiv 2507.07969).

FQL (`fql`) whose policies and critics treat h = `chunk_length` consecutive actions as one: flow and policy
give chunks, Q(s, a_1..h) bootstraps from the state after the chunk, its target being the
discounted sum of the chunk's rewards plus γ^h Q(s_h, π(s_h)). A chunk is executed open loop: the policy is
asked again after h steps, or when an episode starts. Online it explores in the same way and also samples
chunks of online transitions.

As in the authors' code the critics learn from complete chunks only, so a chunk that an episode's end cuts
short trains the flow alone, on the actions that it has. `fql`'s notes on evaluation hold here too, for the
noise of a chunk.

Actions of a chunk that have not arrived are 0 in the inputs of the networks, and imitation leaves them out.

Under `strict` a chunk reaches as far as consecutive transitions have arrived. So the last h - 1 transitions
that have arrived train the critics only once the following ones are visible. It needs an order in which
episodes arrive in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Batch, Dataset, Memory, Order, Sampling, Spec, UserError, replica_values

from . import fql
from .fql import FQL, Chunks


@dataclass(frozen=True)
class Config(fql.Config):
    limits = {"chunk_length": (1, inf)}

    alpha: float = 100.0  # weight of the distillation against Q; tuned per task
    chunk_length: int = 5  # h, the actions that are chosen at a time


@final
class QCFQL(FQL):
    Config = Config
    needs_episodes = "parts"

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        # γ⁰ to γ^h of each replica, (R, 1, h + 1), by Python's power: torch's rounds differently by shape.
        powers = [
            [[discount**steps for steps in range(config.chunk_length + 1)]]
            for discount in replica_values(config.discount, len(seeds))
        ]
        self._discounts = torch.tensor(powers, dtype=torch.get_default_dtype(), device=device)

    @classmethod
    def check_data(cls, config: Any, dataset: Dataset, order: Order) -> list[str]:
        longest = int(np.bincount(dataset.episode).max()) if len(dataset) else config.chunk_length
        if config.chunk_length > longest:
            raise UserError(
                f"qc_fql: chunk_length = {config.chunk_length}, but no episode of {dataset.name} has more "
                f"than {longest} steps"
            )
        return []

    @property
    def chunk_size(self) -> int:
        return self.config.chunk_length * self.spec.action_size

    @property
    def exploration_size(self) -> int:
        return self.chunk_size

    @property
    def sampling(self) -> Sampling:
        return Sampling("sequences", self.config.chunk_length)

    def chunks(self, batch: Batch) -> Chunks:
        assert batch.mask is not None
        return Chunks(
            batch.observations[:, :, 0],
            (batch.actions * batch.mask.unsqueeze(-1)).flatten(2),
            (batch.rewards * self._discounts[..., :-1] * batch.mask).sum(-1),
            batch.next_observations[:, :, -1],
            self._discounts[..., -1] * (1 - batch.terminated[:, :, -1]),
            batch.mask[:, :, -1],
            batch.mask.repeat_interleave(self.spec.action_size, -1),
        )

    @property
    def remembers(self) -> bool:
        return True

    def start_episodes(self, count: int, target: int = 0) -> Memory:
        shape = (len(self.seeds), count, self.config.chunk_length, self.spec.action_size)
        return super().start_episodes(count) | {"chunk": torch.zeros(shape, device=self.device)}

    def act(self, observations: Tensor) -> Tensor:
        count = observations.shape[1]
        return self._next_of_chunk(observations, self.fixed_noise.first(count), self.start_episodes(count))

    def act_in_episodes(self, observations: Tensor, rewards: Tensor, memory: Memory) -> Tensor:
        noise = self.fixed_noise(memory["step"] // self.config.chunk_length)
        return self._next_of_chunk(observations, noise, memory)

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return self._next_of_chunk(observations, noise, self.start_episodes(observations.shape[1]))

    def explore_in_episodes(
        self, observations: Tensor, noise: Tensor, rewards: Tensor, memory: Memory
    ) -> Tensor:
        return self._next_of_chunk(observations, noise, memory)

    def q_value(self, observations: Tensor, actions: Tensor) -> None:
        return None  # its critics value chunks

    def td_error(self, batch: Batch) -> Tensor:
        """Of chunks, whose targets reach h steps ahead; NaN for a chunk that is cut short: its value is never
        learned."""
        complete = self.chunks(batch).complete
        assert isinstance(complete, Tensor)
        return super().td_error(batch).where(complete.unsqueeze(1) > 0, torch.nan)

    def _next_of_chunk(self, observations: Tensor, noise: Tensor, memory: Memory) -> Tensor:
        """The next action of each episode's chunk; of a new chunk where the last one has been executed."""
        chunk, place = memory["chunk"], memory["step"] % self.config.chunk_length
        fresh = self.sample(observations, noise).view(chunk.shape)
        chunk.copy_(torch.where((place == 0)[..., None, None], fresh, chunk))
        memory["step"] += 1
        places = place[..., None, None].expand(*place.shape, 1, chunk.shape[-1])
        return chunk.gather(2, places).squeeze(2)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    return fql.flops(spec, config, config.chunk_length)
