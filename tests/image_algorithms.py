"""Small algorithms that see images, for the tests."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Batch, Image, Noise, stream


@final
class LinearQ(Algorithm):
    """Q learning on the pixels themselves. Each replica computes on its own."""

    action_spaces = ("continuous", "discrete")
    image_action_spaces = ("continuous", "discrete")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert isinstance(self.spec.observation, Image)
        inputs = self.spec.observation.shape
        self.size = inputs[0] * inputs[1] * inputs[2]
        starts = [
            stream(seed, "weights").standard_normal((self.size, self.spec.action_size)) for seed in self.seeds
        ]
        weights = torch.stack([torch.from_numpy(start) for start in starts]).float()
        self.net = torch.nn.ParameterDict({"weights": weights.to(self.device)}).requires_grad_(False)

    @property
    def noise(self) -> dict[str, Noise]:
        return {"shift": Noise("uniform", (self.config.batch_size,))}

    def values(self, replica: int, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        return (images.reshape(len(images), self.size).float() / 255).clone() @ self.net["weights"][
            replica
        ].clone()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        losses = []
        for replica in range(len(self.seeds)):
            after = self.values(replica, batch.next_observations[replica]).max(-1).values
            target = batch.rewards[replica] + 0.9 * (1 - batch.terminated[replica]) * after
            now = self.values(replica, batch.observations[replica])
            chosen = batch.actions[replica].unsqueeze(-1)
            error = (target + 0.1 * batch.noise["shift"][replica]).unsqueeze(-1) - now.gather(-1, chosen)
            step = torch.zeros_like(now).scatter(-1, chosen, error)
            pixels = batch.observations[replica].reshape(len(now), self.size).float() / 255
            self.net["weights"][replica] += 0.05 / len(now) * (pixels.T @ step)
            losses.append(error.square().mean())
        return {"loss": torch.stack(losses)}

    def act(self, observations: Tensor) -> Tensor:
        return torch.stack([self.values(r, part).argmax(-1) for r, part in enumerate(observations)])

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return torch.where(noise[..., 0] > 0, self.act(observations), noise.argmax(-1))

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        values = torch.stack([self.values(r, part) for r, part in enumerate(observations)])
        return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
