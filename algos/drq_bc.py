"""DrQ+BC: Lu, Ball, Rudner, Parker-Holder, Osborne, Teh, *Challenges and Opportunities in Offline
Reinforcement Learning from Visual Observations* (V-D4RL, arXiv 2206.04779).

DrQ-v2 (Yarats, Fergus, Lazaric, Pinto, arXiv 2107.09645) whose actor also imitates the data, as in TD3+BC.
Each image is shifted at random by up to 4 pixels, then encoded by convolutions that only the critics train:

- critics and encoder: y = Σ γᵏ rₖ over n steps + γⁿ min Q'(sₙ, a′), a′ = π(sₙ) + noise;
- actor: mean (a - data's action)² - λ mean min Q(s, a), a = π(s) + noise, λ = α/mean|min Q|.

The noise is normal, clipped at 0.3; its std falls linearly from 1 to 0.1. sₙ is encoded by the encoder
itself, which has no target copy. Actor and critics each project the encoded image to 50 numbers. As in the
authors' code, critics, actor and targets are updated in this order. Settings are those of the paper; their
code for offline data has `n_step=1,learning_rate=3e-4,noise_updates=125000`.

Departures: hidden layers start from orthogonal weights of gain √2, theirs of gain 1. n-step returns are
shorter at the end of an episode, where theirs leave those transitions out. Online, the same updates continue,
imitation included; the noise on actions is not clipped then. Under `strict` n-step returns are over
transitions that have arrived: in the order `shuffled` most are of one step until much of the data has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn

from seqeval import algorithm
from seqeval.algorithm import (
    Algorithm,
    Batch,
    Dataset,
    Image,
    Noise,
    Order,
    Sampling,
    Spec,
    per_replica,
    replica_values,
)

from ._encoders import DrQConvolutions, Projection, convolution_flops, random_shift, shift_noise
from ._losses import ensemble_loss
from ._networks import MLP, Critics, matmul_flops
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "alpha": (0, inf),
        "n_step": (1, inf),
        "random_shift": (0, inf),
        "noise_start": (0, inf),
        "noise_end": (0, inf),
        "noise_updates": (1, inf),
        "noise_clip": (0, inf),
        "features": (1, inf),
        "hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate", "alpha")
    ranges = {"alpha": "log(0.5,10)", "learning_rate": "log(5e-5,5e-4)"}  # around the paper's 2.5 and 1e-4

    learning_rate: float = 1e-4  # of actor, critics and encoder
    discount: float = 0.99
    target_rate: float = 0.01  # Polyak averaging: weight of the new parameters
    alpha: float = 2.5  # weight of the normalized Q against imitation
    n_step: int = 3  # rewards that are summed
    random_shift: int = 4  # pixels by which images are shifted at most
    noise_start: float = 1.0  # std of the noise on actions, at first
    noise_end: float = 0.1  # and at last
    noise_updates: int = 250_000  # over which it falls
    noise_clip: float = 0.3  # bound of that noise in updates
    features: int = 50  # numbers that an encoded image is projected to
    hidden: tuple[int, ...] = (1024, 1024)  # widths of the hidden layers


class ImageActor(nn.Module):
    """A deterministic policy with tanh, for encoded images."""

    def __init__(
        self, inputs: int, actions: int, config: Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__()
        sizes = [config.features, *config.hidden, actions]
        self.projection = Projection("actor.projection", inputs, config.features, seeds, device)
        self.net = MLP("actor", sizes, seeds, device, "orthogonal", last_gain=1.0)

    def forward(self, encoded: Tensor) -> Tensor:
        """(R, B, inputs) -> (R, B, action), within (-1, 1)."""
        return self.net(self.projection(encoded)).tanh()


class ImageCritics(nn.Module):
    """Twin critics of each replica for encoded images, with one projection."""

    def __init__(
        self, inputs: int, actions: int, config: Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__()
        sizes = (config.features, actions)
        self.projection = Projection("critics.projection", inputs, config.features, seeds, device)
        self.heads = Critics(sizes, config.hidden, seeds, device, "orthogonal", last_gain=1.0)

    def forward(self, encoded: Tensor, actions: Tensor) -> Tensor:
        """(R, B, inputs), (R, B, action) -> (R, 2, B)."""
        return self.heads(self.projection(encoded), actions)

    def forward_frozen(self, encoded: Tensor, actions: Tensor) -> Tensor:
        """As `forward`, with gradients to the actions but not to the weights."""
        return self.heads.forward_frozen(self.projection(encoded).detach(), actions)


@final
class DrQBC(Algorithm):
    Config = Config
    policy_parts = ("encoder", "actor")
    action_spaces = ()
    image_action_spaces = ("continuous",)
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        assert isinstance(spec.observation, Image)
        self.encoder = DrQConvolutions(spec.observation, "encoder", seeds, device)
        sizes = DrQConvolutions.map_size(spec.observation), spec.action_size
        self.actor = ImageActor(*sizes, config, seeds, device)
        self.critics = ImageCritics(*sizes, config, seeds, device)
        self.target_critics = target_copy(self.critics)
        self.actor_optimizer = Adam(self.actor, config.learning_rate)
        self.critic_optimizer = Adam(nn.ModuleList([self.encoder, self.critics]), config.learning_rate)
        discounts = replica_values(config.discount, len(seeds))
        powers = [[discount**step for step in range(config.n_step + 1)] for discount in discounts]
        self._powers = torch.tensor(powers, dtype=torch.get_default_dtype(), device=device)

    @classmethod
    def check_data(cls, config: Any, dataset: Dataset, order: Order) -> list[str]:
        if config.n_step > 1 and order in ("shuffled", "segments"):
            return [
                f"in the order {order} most n-step returns of drq_bc are of one step until much of the data "
                "has arrived; --protocol.order episodes lets episodes arrive in one piece"
            ]
        return []

    @property
    def noise(self) -> Mapping[str, Noise]:
        c = self.config
        action = Noise("normal", (c.batch_size, self.spec.action_size))
        noise = {"action": action, "next_action": action}
        if c.random_shift:
            noise |= {"shift": shift_noise(c.batch_size), "next_shift": shift_noise(c.batch_size)}
        return noise

    @property
    def sampling(self) -> Sampling:
        discount = self.config.discount
        if isinstance(discount, Tensor):
            discount = tuple(discount.tolist())
        return Sampling("n_step", self.config.n_step, discount)

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        encoded = self._encode(batch, "observations", "shift")
        target = self._target(batch)
        std = self._noise_std()
        q = self.critics(encoded, batch.actions)
        critic_loss = ensemble_loss(q, target)
        self.critic_optimizer.minimize(critic_loss)

        encoded = encoded.detach()
        actions = self._noisy(self.actor(encoded), batch.noise["action"], std)
        value = self.critics.forward_frozen(encoded, actions).amin(1)
        scale = value.detach().abs().mean(-1).reciprocal()
        scale = per_replica(c.alpha, scale) * scale
        imitation = (actions - batch.actions).square().mean((1, 2))
        actor_loss = imitation - scale * value.mean(-1)
        self.actor_optimizer.minimize(actor_loss)
        polyak_update([self.target_critics], [self.critics], c.target_rate)
        return {
            "critic_loss": critic_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "imitation": imitation.detach(),
            "q": q.detach().mean((1, 2)),
        }

    def _encode(self, batch: Batch, field: str, shift: str) -> Tensor:
        """The images of a field of the batch, shifted and encoded."""
        images: Tensor = getattr(batch, field)
        if self.config.random_shift:
            images = random_shift(images, batch.noise[shift], self.config.random_shift)
        return self.encoder(images)

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        encoded = self._encode(batch, "next_observations", "next_shift")
        next_actions = self._noisy(self.actor(encoded), batch.noise["next_action"], self._noise_std())
        next_value = self.target_critics(encoded, next_actions).amin(1)
        assert batch.steps is not None
        discount = self._powers.gather(1, batch.steps)
        return batch.rewards + discount * (1 - batch.terminated) * next_value

    def _noise_std(self) -> Tensor:
        """Of the noise on actions, () after the updates made up to now, counted on the device."""
        c = self.config
        share = (self.critic_optimizer.steps / c.noise_updates).clamp(max=1)
        return (1 - share) * c.noise_start + share * c.noise_end

    def _noisy(self, actions: Tensor, noise: Tensor, std: Tensor) -> Tensor:
        """The actions with clipped noise, within [-1, 1]; the gradient is that of the actions without."""
        clip = self.config.noise_clip
        noisy = (actions + (std * noise).clamp(-clip, clip)).clamp(-1, 1)
        return actions + (noisy - actions).detach()

    def act(self, observations: Tensor) -> Tensor:
        return self.actor(self.encoder(observations))

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return (self.act(observations) + self._noise_std() * noise).clamp(-1, 1)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critics(self.encoder(observations), actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        q = self.critics(self._encode(batch, "observations", "shift"), batch.actions)
        return q - self._target(batch).unsqueeze(1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products and convolutions in one update of one replica."""
    assert isinstance(spec.observation, Image)
    b, a = config.batch_size, spec.action_size
    encoder, inner = convolution_flops(DrQConvolutions, spec.observation, b)
    projection, _ = matmul_flops(b, DrQConvolutions.map_size(spec.observation), config.features)
    actor, _ = matmul_flops(b, config.features, *config.hidden, a)
    critics = 2 * matmul_flops(b, config.features + a, *config.hidden, 1)[0]
    target_flops = encoder + 2 * projection + actor + critics
    critic_flops = 2 * encoder + inner + 3 * (projection + critics)
    actor_flops = 2 * projection + 3 * actor + projection + 2 * critics
    return target_flops + critic_flops + actor_flops
