"""FQL: Park, Li, Levine, *Flow Q-Learning* (arXiv 2502.02538).

Three networks are trained at the same time (algorithm 1). A flow μ(s, z) imitates the data: its velocity at
x_t = (1 - t) z + t a, for noise z and t ~ U[0, 1], is regressed on a - z, and `flow_steps` Euler steps from z
give an action. A one-step policy π(s, z) is distilled from the flow with weight `alpha`, and maximises Q. Two
critics learn from π's actions at the next state; as in the authors' code, targets use their mean by default.
All losses use the weights before the update. GELU, and layer normalisation in the critics, follow that code.
`alpha` is tuned per task: 10 is only a default.

Online the same updates continue, on offline and online data together, and actions are sampled from π. At
evaluation the authors sample π's noise too; here the noise of each step of an episode is a fixed draw of the
seed, so that evaluations are reproducible and differ along a curve by what was learned. No target network of
the policy; images are not supported. `strict` withholds nothing: every update uses single transitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Memory, Noise, Spec, UserError, per_replica, stream

from ._networks import MLP, Critics, matmul_flops
from ._optim import Adam, polyak_update, target_copy

DRAWS = 1024  # of the policy's noise at evaluation
EPISODE = 389  # draws between the first ones of two episodes: prime, so that episodes differ


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "flow_steps": (1, inf),
        "hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate", "alpha")
    ranges = {"alpha": "3|10|30|100|300|1000"}  # values that the authors chose; few tasks need up to 30000

    learning_rate: float = 3e-4  # of flow, policy and critics
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    alpha: float = 10.0  # weight of the distillation against Q; tuned per task
    normalize_q: bool = False  # divide Q by its mean absolute value over the minibatch
    flow_steps: int = 10  # Euler steps
    target_aggregation: Literal["mean", "min"] = "mean"  # of the two critics in the target
    layer_norm: bool = True  # of the critics
    hidden: tuple[int, ...] = (512, 512, 512, 512)  # widths of the hidden layers

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise UserError(f"alpha must be greater than 0, not {self.alpha}")


class Chunks(NamedTuple):
    """What an update learns from: A' = the numbers of an action, or of a chunk of actions."""

    observations: Tensor  # (R, B, observation)
    actions: Tensor  # (R, B, A')
    rewards: Tensor  # (R, B)
    next_observations: Tensor  # (R, B, observation)
    discount: Tensor  # (R, B): of the value of the next observation; 0 where none follows
    complete: Tensor | float = 1.0  # (R, B): 0 where the critics learn nothing
    present: Tensor | float = 1.0  # (R, B, A'): 0 where there is no action to imitate


class FixedNoise(nn.Module):
    """The policy's noise at evaluation, from each replica's seed."""

    def __init__(self, seeds: Sequence[int], size: int, device: torch.device) -> None:
        super().__init__()
        draws = [torch.from_numpy(stream(seed, "policy").standard_normal((DRAWS, size))) for seed in seeds]
        self.register_buffer("draws", torch.stack(draws).to(device, torch.get_default_dtype()))

    def forward(self, steps: Tensor) -> Tensor:
        """Of these steps of the episodes, (R, E) -> (R, E, size)."""
        replicas = torch.arange(len(self.draws), device=steps.device).unsqueeze(1)
        places = (steps + EPISODE * torch.arange(steps.shape[1], device=steps.device)) % DRAWS
        return self.draws[replicas, places]

    def first(self, count: int) -> Tensor:
        """(R, count, size), the same for all states: an action must not depend on the other states."""
        return self.draws[:, :1].expand(-1, count, -1)


class FQL(Algorithm):
    Config = Config
    policy_parts = ("policy", "fixed_noise")
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        size, actions = spec.observation_size, self.chunk_size
        sizes = [size + actions + 1, *config.hidden, actions]  # the flow also sees the time
        self.flow = MLP("flow", sizes, seeds, device, "xavier", activation="gelu")
        sizes = [size + actions, *config.hidden, actions]
        self.policy = MLP("policy", sizes, seeds, device, "xavier", activation="gelu")
        self.critics = Critics(
            (size, actions), config.hidden, seeds, device, "xavier", activation="gelu",
            layer_norm="after" if config.layer_norm else None,
        )  # fmt: skip
        self.target_critics = target_copy(self.critics)
        self.fixed_noise = FixedNoise(seeds, actions, device)
        self.flow_optimizer = Adam(self.flow, config.learning_rate)
        self.policy_optimizer = Adam(self.policy, config.learning_rate)
        self.critic_optimizer = Adam(self.critics, config.learning_rate)

    @property
    def chunk_size(self) -> int:
        """Numbers in what the networks treat as one action."""
        return self.spec.action_size

    @property
    def noise(self) -> Mapping[str, Noise]:
        size = self.config.batch_size
        names = ("flow_start", "policy", "next_policy")
        normal = {name: Noise("normal", (size, self.chunk_size)) for name in names}
        return {**normal, "flow_time": Noise("uniform", (size, 1))}

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def chunks(self, batch: Batch) -> Chunks:
        """What an update learns from: here the transitions of the minibatch."""
        discount = per_replica(self.config.discount, batch.terminated) * (1 - batch.terminated)
        return Chunks(batch.observations, batch.actions, batch.rewards, batch.next_observations, discount)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c, noise, chunks = self.config, batch.noise, self.chunks(batch)
        self.updates += 1
        start, time = noise["flow_start"], noise["flow_time"]
        between = (1 - time) * start + time * chunks.actions
        velocity = self.flow(torch.cat([chunks.observations, between, time], -1))
        error = (velocity - (chunks.actions - start)).square()
        flow_loss = (error * chunks.present).mean((1, 2))

        with torch.no_grad():
            flow_actions = self.flow_actions(chunks.observations, noise["policy"])
        actions = self.policy(torch.cat([chunks.observations, noise["policy"]], -1))
        distillation = (actions - flow_actions).square().mean((1, 2))
        value = self.critics.forward_frozen(chunks.observations, actions.clamp(-1, 1)).mean(1)
        scale = 1 / value.detach().abs().mean(-1) if c.normalize_q else 1.0
        policy_loss = per_replica(c.alpha, distillation) * distillation - scale * value.mean(-1)

        target = self._target(chunks, noise["next_policy"])
        q = self.critics(chunks.observations, chunks.actions)
        critic_loss = ((q - target.unsqueeze(1)).square().mean(1) * chunks.complete).mean(-1)

        self.flow_optimizer.minimize(flow_loss)
        self.policy_optimizer.minimize(policy_loss)
        self.critic_optimizer.minimize(critic_loss)
        polyak_update([self.target_critics], [self.critics], c.target_rate)
        return {
            "flow_loss": flow_loss.detach(),
            "distillation": distillation.detach(),
            "policy_loss": policy_loss.detach(),
            "critic_loss": critic_loss.detach(),
            "q": q.detach().mean((1, 2)),
        }

    @torch.no_grad()
    def _target(self, chunks: Chunks, noise: Tensor) -> Tensor:
        next_actions = self.sample(chunks.next_observations, noise)
        next_value = self.target_critics(chunks.next_observations, next_actions)
        mean = self.config.target_aggregation == "mean"
        return chunks.rewards + chunks.discount * (next_value.mean(1) if mean else next_value.amin(1))

    def flow_actions(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions of the flow from N(0, 1) noise (R, B, A'), by Euler's method."""
        actions, steps = noise, self.config.flow_steps
        for step in range(steps):
            time = torch.full_like(actions[..., :1], step / steps)
            actions = actions + self.flow(torch.cat([observations, actions, time], -1)) / steps
        return actions.clamp(-1, 1)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions of the one-step policy from N(0, 1) noise (R, B, A')."""
        return self.policy(torch.cat([observations, noise], -1)).clamp(-1, 1)

    @property
    def remembers(self) -> bool:
        return False  # its memory only chooses the noise

    def start_episodes(self, count: int, target: int = 0) -> Memory:
        return {"step": torch.zeros(len(self.seeds), count, dtype=torch.int64, device=self.device)}

    def act(self, observations: Tensor) -> Tensor:
        return self.sample(observations, self.fixed_noise.first(observations.shape[1]))

    def act_in_episodes(self, observations: Tensor, rewards: Tensor, memory: Memory) -> Tensor:
        actions = self.sample(observations, self.fixed_noise(memory["step"]))
        memory["step"] += 1
        return actions

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return self.sample(observations, noise)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        return self.critics(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        chunks = self.chunks(batch)
        target = self._target(chunks, batch.noise["next_policy"])
        return self.critics(chunks.observations, chunks.actions) - target.unsqueeze(1)


def flops(spec: Spec, config: Config, chunk: int = 1) -> float:
    """FLOPs of the matrix products in one update of one replica; `chunk` actions are treated as one."""
    b, o, a = config.batch_size, spec.observation_size, chunk * spec.action_size
    flow, flow_inner = matmul_flops(b, o + a + 1, *config.hidden, a)
    policy, policy_inner = matmul_flops(b, o + a, *config.hidden, a)
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    flow_flops = 2 * flow + flow_inner + config.flow_steps * flow
    policy_flops = 2 * policy + policy_inner + 2 * 2 * critic + policy  # Q with gradients to it; at s'
    critic_flops = 2 * critic + 2 * (2 * critic + critic_inner)
    return flow_flops + policy_flops + critic_flops
