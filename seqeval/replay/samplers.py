"""Samplers: what a minibatch is made of. One class for each kind of `Sampling`, listed in `SAMPLERS`.

`indices` draws which rows each replica sees, `slicing` says which may be drawn. Facts of a transition that
lie in other rows of the data are used only once they have arrived: once the row's position in the replica's
order of arrival is less than the number of visible transitions.

A new kind of minibatch is a class here, a name in `Sampling.kind`, its fields in `Batch`, and their made-up
values in `check.subject`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Sampling
from seqeval.replay.buffer import Buffer
from seqeval.replay.episodes import ended_episodes
from seqeval.replay.images import ImageRows
from seqeval.replay.indices import Indices
from seqeval.replay.normalization import ObservationNormalizer, RewardScale
from seqeval.types import Batch, Dataset

NEVER = np.iinfo(np.int32).max  # position of a row that does not arrive


class Sampler(ABC):
    """Makes the minibatches of R replicas from a buffer."""

    def __init__(
        self,
        buffer: Buffer,
        sampling: Sampling,
        rewards: Sequence[RewardScale],
        normalizer: ObservationNormalizer | None,
        orders: Sequence[np.ndarray],
        datasets: Sequence[Dataset],
    ) -> None:
        """`rewards` and `orders` (the buffer's row of each position) have an entry for each replica, and
        `datasets` are those of the buffer."""
        self.buffer, self.sampling, self.normalizer = buffer, sampling, normalizer
        self._scale: tuple[Tensor, Tensor] | None = None
        if any(scale != RewardScale() for scale in rewards):
            self._scale = (
                self._column([s.factor for s in rewards]),
                self._column([s.offset for s in rewards]),
            )
        if sampling.rows:
            origins = [_origins(buffer, order, datasets) for order in orders]
            self._origins = torch.tensor(origins, device=buffer.device).T.unsqueeze(-1)
        self._arrival: Tensor | None = None  # (R, rows): position of each row in the order of arrival
        if sampling.kind != "transitions" or sampling.returns_to_go:
            arrival = np.full((len(orders), len(buffer.rewards)), NEVER, np.int32)
            for replica, order in enumerate(orders):
                arrival[replica, order] = np.arange(len(order), dtype=np.int32)
            self._arrival = torch.from_numpy(arrival).to(buffer.device)
            if sampling.returns_to_go:
                self._prepare_returns(arrival, datasets, rewards)
        powers = [[[discount**step for step in range(sampling.length)]] for discount in self._discounts()]
        self._powers = torch.tensor(powers, dtype=buffer.rewards.dtype, device=buffer.device)

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.buffer.rewards.dtype, device=self.buffer.device).unsqueeze(1)

    @abstractmethod
    def sample(self, indices: Indices) -> Batch:
        """The minibatch of an update."""

    def _batch(self, indices: Indices, rows: Tensor, last: Tensor, **fields: Any) -> Batch:
        """A minibatch of `rows`, (R, B) or (R, B, L), whose next observations are those of the rows
        `last`."""
        values: dict[str, Any] = {
            "observations": self._observations(self.buffer.observations, rows),
            "actions": _gather(self.buffer.actions, rows),
            "next_observations": self._observations(self.buffer.next_observations, last),
            "terminated": _gather(self.buffer.terminated, last),
            "noise": indices.noise,
        }
        return Batch(**values, **self._optional_fields(indices, rows), **fields)

    def _consecutive(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """The sampled rows and those that follow them, (R, B, length), as far as they have arrived and belong
        to the same episode; and whether they do. Beyond, the last such row is repeated."""
        assert self.buffer.continues is not None
        assert self._arrival is not None
        row = indices.rows.long()
        rows, mask = [row], [torch.ones_like(row, dtype=torch.bool)]
        for _ in range(self.sampling.length - 1):
            following = (row + 1).clamp(max=len(self.buffer.rewards) - 1)
            arrived = self._arrival.gather(1, following) < indices.visible.unsqueeze(1)
            reached = mask[-1] & _gather(self.buffer.continues, row) & arrived
            row = torch.where(reached, following, row)
            rows.append(row)
            mask.append(reached)
        return torch.stack(rows, -1), torch.stack(mask, -1)

    def _optional_fields(self, indices: Indices, rows: Tensor) -> dict[str, Any]:
        """The fields that the algorithm asks for, of `rows`, (R, B) or (R, B, L)."""
        fields: dict[str, Any] = {}
        dtype = self.buffer.rewards.dtype
        if self.sampling.rows:
            fields["rows"] = self._own_rows(rows)
        if self.sampling.times:
            assert self.buffer.times is not None
            fields["times"] = _gather(self.buffer.times, rows)
        if self.sampling.next_actions:
            assert self.buffer.continues is not None
            continues = _gather(self.buffer.continues, rows)
            # Elsewhere the following row belongs to another episode, which may not have arrived.
            fields["next_actions"] = _gather(self.buffer.actions, rows + continues.to(rows.dtype))
            fields["next_actions_mask"] = continues.to(dtype)
        if self.sampling.returns_to_go:
            flat = rows.flatten(1).long()
            known = self._known_from.gather(1, flat) < indices.visible.unsqueeze(1)
            returns = torch.where(known, self._returns.gather(1, flat), -torch.inf)
            fields["returns_to_go"] = returns.view(rows.shape)
            fields["returns_to_go_mask"] = known.view(rows.shape).to(dtype)
        return fields

    def _own_rows(self, rows: Tensor) -> Tensor:
        """The rows counted from the start of the replica's dataset, which its online transitions follow.
        Unlike rows of the buffer they do not depend on other replicas."""
        data, online = self._origins
        flat = rows.flatten(1).long()
        return (flat - torch.where(flat < self.buffer.size, data, online)).view(rows.shape)

    def _prepare_returns(
        self, arrival: np.ndarray, datasets: Sequence[Dataset], rewards: Sequence[RewardScale]
    ) -> None:
        """For each replica and row: the discounted return to go, and the position from which it is known:
        that of the last to arrive from this row to the end of its episode."""
        known = np.full(arrival.shape, NEVER, np.int32)
        for offset, dataset in zip(self.buffer.offsets, datasets, strict=True):
            for first, last in ended_episodes(dataset):
                span = slice(offset + first, offset + last)
                known[:, span] = np.maximum.accumulate(arrival[:, span][:, ::-1], 1)[:, ::-1]
        discounts = np.broadcast_to(self._discounts(), len(rewards)).tolist()
        sums = {discount: self._discounted_sums(discount, datasets) for discount in set(discounts)}
        returns = np.stack(
            [
                scale.factor * sums[discount][0] + scale.offset * sums[discount][1]
                for scale, discount in zip(rewards, discounts, strict=True)
            ]
        )
        self._known_from = torch.from_numpy(known).to(self.buffer.device)
        self._returns = torch.from_numpy(returns).to(self.buffer.device, self.buffer.rewards.dtype)

    def _discounted_sums(self, discount: float, datasets: Sequence[Dataset]) -> tuple[np.ndarray, np.ndarray]:
        """For each row of the buffer the discounted sums, to the end of its episode, of logged rewards, and
        of 1."""
        sums, ones = np.zeros(len(self.buffer.rewards)), np.zeros(len(self.buffer.rewards))
        for offset, dataset in zip(self.buffer.offsets, datasets, strict=True):
            logged = dataset.rewards.tolist()
            for first, last in ended_episodes(dataset):
                total = count = 0.0
                for row in reversed(range(first, last)):
                    total, count = logged[row] + discount * total, 1 + discount * count
                    sums[offset + row], ones[offset + row] = total, count
        return sums, ones

    def _discounts(self) -> tuple[float, ...]:
        """One for all replicas, or one for each."""
        discount = self.sampling.discount
        return discount if isinstance(discount, tuple) else (discount,)

    def _observations(self, values: Tensor | ImageRows, rows: Tensor) -> Tensor:
        if isinstance(values, ImageRows):
            return values[rows]
        gathered = _gather(values, rows)
        if self.normalizer is None:
            return gathered
        flat = gathered.flatten(1, -2)
        return self.normalizer(flat).view(gathered.shape)

    def _rewards(self, rows: Tensor) -> Tensor:
        rewards = _gather(self.buffer.rewards, rows)
        if self._scale is None:
            return rewards
        factor, offset = self._scale
        flat = rewards.flatten(1)
        return (flat * factor + offset).view(rewards.shape)


class TransitionSampler(Sampler):
    """Single transitions."""

    def sample(self, indices: Indices) -> Batch:
        rows = indices.rows
        return self._batch(indices, rows, rows, rewards=self._rewards(rows))


class NStepSampler(Sampler):
    """Sums of up to n discounted rewards over consecutive visible transitions."""

    def sample(self, indices: Indices) -> Batch:
        rows, mask = self._consecutive(indices)
        steps = mask.sum(-1)
        last = rows.gather(-1, (steps - 1).unsqueeze(-1)).squeeze(-1)
        rewards = (self._rewards(rows) * self._powers * mask).sum(-1)
        return self._batch(indices, indices.rows, last, rewards=rewards, steps=steps)


class SequenceSampler(Sampler):
    """Up to L consecutive visible transitions of one episode, from the sampled one on; padded by copies of
    the last."""

    def sample(self, indices: Indices) -> Batch:
        rows, mask = self._consecutive(indices)
        mask = mask.to(self.buffer.rewards.dtype)
        return self._batch(indices, rows, rows, rewards=self._rewards(rows), mask=mask)


SAMPLERS: dict[str, type[Sampler]] = {
    "transitions": TransitionSampler,
    "n_step": NStepSampler,
    "sequences": SequenceSampler,
}


def make_sampler(
    buffer: Buffer,
    sampling: Sampling,
    rewards: Sequence[RewardScale],
    normalizer: ObservationNormalizer | None,
    orders: Sequence[np.ndarray],
    datasets: Sequence[Dataset],
) -> Sampler:
    """The sampler of a kind; see `Sampler`."""
    return SAMPLERS[sampling.kind](buffer, sampling, rewards, normalizer, orders, datasets)


def _origins(buffer: Buffer, order: np.ndarray, datasets: Sequence[Dataset]) -> tuple[int, int]:
    """What the buffer's rows of a replica exceed its own ones by: of its data, and of its online
    transitions, which come after all of the data."""
    row = int(order[0]) if len(order) else 0
    place = int(np.searchsorted(buffer.offsets, row, side="right")) - 1
    online = order[order >= buffer.size]
    first = int(online[0]) if len(online) else buffer.size
    return buffer.offsets[place], first - len(datasets[place])


def _gather(values: Tensor, rows: Tensor) -> Tensor:
    """The values of `rows`, of any shape, with that shape in front."""
    return values.index_select(0, rows.reshape(-1)).view(*rows.shape, *values.shape[1:])
