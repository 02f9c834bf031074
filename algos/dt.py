"""DT: Chen, Lu, Rajeswaran, Lee, Grover, Laskin, Abbeel, Srinivas, Mordatch, *Decision Transformer:
Reinforcement Learning via Sequence Modeling* (arXiv 2106.01345).

A causal transformer reads the last `context` steps as tokens (return-to-go, state, action), each with an
embedding of its time in the episode, and predicts each action from what comes before it. Training (algorithm
1): squared error of the logged actions of sequences, which start anywhere in an episode, all transitions
being equally likely. Acting: the first return-to-go is the target return, and every reward is subtracted from
it. A study evaluates at each of `target_returns`; the first gives returns and score, the others the columns
such as "return_mean at target 1800".

As in the authors' code: ReLU, dropout on tokens, attention and what each block adds, weight decay on all
parameters, a learning rate that warms up linearly, gradients clipped at a norm, weights from N(0, 0.02²).
Departures: sequences shorter than the context are padded at the end, where attention does not look, not at
the beginning; layer normalisation and embeddings are decayed as all weights are.

Under `strict` a sequence is sampled once its episode is complete, when its returns-to-go are known, and
observations are normalised by what is visible. So the transitions of the episode that is arriving are not
used, and new transitions are not forced into the next minibatch. DT does not learn online.

DT has no critic, so no `q_value` and no `td_error`; and as an action depends on the target return and on
earlier steps, it has no `log_prob` of a single transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Dataset, Memory, Noise, Order, Sampling, Spec, UserError

from ._optim import Adam
from ._transformer import GPT, Linear, Weights, dropout_noise, gpt_flops


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "context": (1, inf),
        "layers": (1, inf),
        "heads": (1, inf),
        "embedding": (1, inf),
        "longest_episode": (1, inf),
        "learning_rate": (0, inf),
        "learning_rate_warmup": (1, inf),
        "weight_decay": (0, inf),
        "gradient_clip": (0, inf),
        "dropout": (0, 0.99),
        "reward_scale": (0, inf),
    }
    batchable = ("learning_rate", "weight_decay")
    ranges = {"learning_rate": "log(3e-5,1e-3)"}  # around the paper's 1e-4

    batch_size: int = 64  # sequences in a minibatch
    normalize_observations: bool = True  # by mean and std of the visible data
    target_returns: tuple[float, ...] = ()  # required: e.g. (3600,1800); the first gives the score
    reward_scale: float = 0.001  # factor of returns-to-go and target returns
    context: int = 20  # steps that the policy sees
    layers: int = 3
    heads: int = 1  # of the attention
    embedding: int = 128  # width of the tokens
    longest_episode: int = 1000  # steps of an episode that have an embedding of their own
    learning_rate: float = 1e-4
    learning_rate_warmup: int = 10_000  # updates over which the learning rate rises linearly
    weight_decay: float = 1e-4
    gradient_clip: float = 0.25  # norm of the gradient, at most
    dropout: float = 0.1  # probability of leaving out a value in an update

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding % self.heads:
            raise UserError(f"embedding must be a multiple of heads = {self.heads}, not {self.embedding}")


class Model(nn.Module):
    """Embeds (return-to-go, state, action) of each step, and predicts actions from the state tokens."""

    def __init__(self, spec: Spec, config: Config, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        weights, width = Weights("model", seeds, device), config.embedding
        self.time = weights.normal(config.longest_episode, width)
        self.returns, self.states = Linear(weights, 1, width), Linear(weights, spec.observation_size, width)
        self.actions = Linear(weights, spec.action_size, width)
        self.gpt = GPT(weights, config.layers, config.heads, width)
        self.head = Linear(weights, width, spec.action_size)

    def forward(
        self,
        returns: Tensor,
        states: Tensor,
        actions: Tensor,
        times: Tensor,
        masks: Mapping[str, Tensor] | None = None,
        gain: float = 1.0,
    ) -> Tensor:
        """returns and times (R, B, K), states (R, B, K, observation), actions (R, B, K, action) -> predicted
        actions (R, B, K, action), each from what comes before it."""
        replicas, size, steps = times.shape
        longest = self.time.shape[1]
        first = longest * torch.arange(replicas, device=times.device).view(-1, 1, 1)
        rows = (times.clamp(max=longest - 1) + first).flatten()
        time = self.time.flatten(0, 1).index_select(0, rows).view(replicas, size * steps, -1)
        inputs = (
            (self.returns, returns.unsqueeze(-1)), (self.states, states), (self.actions, actions)
        )  # fmt: skip
        tokens = torch.stack([embed(values.flatten(1, 2)) + time for embed, values in inputs], 2)
        hidden = self.gpt(tokens.view(replicas, size, 3 * steps, -1), masks, gain)
        predicted = self.head(hidden[:, :, 1::3].flatten(1, 2))
        return predicted.tanh().view(replicas, size, steps, -1)


@final
class DT(Algorithm):
    Config = Config
    policy_parts = ("model",)
    learns_online = False
    needs_episodes = "complete"
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        self.model = Model(spec, config, seeds, device)
        self.optimizer = Adam(
            self.model,
            config.learning_rate,
            config.weight_decay,
            warm_up=config.learning_rate_warmup,
            clip=config.gradient_clip,
        )

    @classmethod
    def check_data(cls, config: Config, dataset: Dataset, order: Order) -> list[str]:
        if not config.target_returns:
            raise UserError(
                f"dt: no target return for {dataset.name}; give one or more, the first for the score, as in "
                '--algorithms "dt:target_returns=(3600,1800)"'
            )
        if config.scale_rewards:
            raise UserError("dt: target returns are in the environment's units; leave scale_rewards False")
        longest = int(np.bincount(dataset.episode).max())
        if config.context > longest:
            raise UserError(
                f"dt: context = {config.context}, but no episode of {dataset.name} has more than {longest} "
                "steps"
            )
        if longest > config.longest_episode:
            raise UserError(
                f"dt: an episode of {dataset.name} has {longest} steps; set longest_episode={longest}"
            )
        return []

    @property
    def noise(self) -> Mapping[str, Noise]:
        c = self.config
        return dropout_noise(c.batch_size, 3 * c.context, c.layers, c.heads, c.embedding, c.dropout)

    @property
    def sampling(self) -> Sampling:
        return Sampling("sequences", self.config.context, returns_to_go=True, times=True, best_episodes=1.0)

    @property
    def target_returns(self) -> tuple[float, ...]:
        return self.config.target_returns

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.returns_to_go is not None
        assert batch.times is not None
        assert batch.mask is not None
        self.updates += 1
        returns = self.config.reward_scale * batch.returns_to_go.where(batch.returns_to_go.isfinite(), 0)
        gain = 1 / (1 - self.config.dropout)
        predicted = self.model(
            returns, batch.observations, batch.actions, batch.times, batch.noise or None, gain
        )
        error = (predicted - batch.actions).square().mean(-1) * batch.mask
        loss = error.flatten(1).sum(1) / batch.mask.flatten(1).sum(1)
        self.optimizer.minimize(loss)
        return {"loss": loss.detach()}

    def start_episodes(self, count: int, target: int = 0) -> Memory:
        # Without data, as in `seqeval check`, no target return is required.
        wanted = self.target_returns[target] if self.target_returns else 0.0
        shape = (len(self.seeds), count, self.config.context)
        zeros = {"states": self.spec.observation_size, "actions": self.spec.action_size}
        return {
            "step": torch.zeros(shape[:2], dtype=torch.int64, device=self.device),
            "return": torch.full(shape[:2], wanted, device=self.device),  # that remains to be earned
            "returns": torch.zeros(shape, device=self.device),
            **{name: torch.zeros(*shape, size, device=self.device) for name, size in zeros.items()},
        }

    def act(self, observations: Tensor) -> Tensor:
        memory = self.start_episodes(observations.shape[1])
        return self.act_in_episodes(observations, observations.new_zeros(observations.shape[:2]), memory)

    def act_in_episodes(self, observations: Tensor, rewards: Tensor, memory: Memory) -> Tensor:
        step, context = memory["step"], self.config.context
        memory["return"] -= rewards
        place = step.clamp(max=context - 1).unsqueeze(-1)  # of this step in the context
        now = torch.arange(context, device=self.device) == place
        full = (step >= context).unsqueeze(-1)
        for name, value in (
            ("returns", self.config.reward_scale * memory["return"]),
            ("states", observations),
        ):
            _shift_and_write(memory[name], full, now, value)
        _shift_and_write(memory["actions"], full, now, torch.zeros_like(memory["actions"][:, :, 0]))
        times = step.unsqueeze(-1) - place + torch.arange(context, device=self.device)
        predicted = self.model(memory["returns"], memory["states"], memory["actions"], times)
        actions = predicted[now].view(*step.shape, -1)
        memory["actions"][now] = actions.flatten(0, 1)
        step += 1
        return actions


def _shift_and_write(values: Tensor, full: Tensor, now: Tensor, value: Tensor) -> None:
    """Writes this step's value to the context (R, E, K, ...), from which the oldest step leaves where it is
    full."""
    extra = (1,) * (values.dim() - 3)
    full, now = full.view(*full.shape, *extra), now.view(*now.shape, *extra)
    values.copy_(torch.where(now, value.unsqueeze(2), torch.where(full, values.roll(-1, 2), values)))


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    c = config
    rows = 2 * c.batch_size * c.context * c.embedding
    embeddings = rows * (1 + spec.observation_size + spec.action_size)
    gpt = gpt_flops(c.batch_size, 3 * c.context, c.layers, c.embedding)
    return 2 * embeddings + 3 * (gpt + rows * spec.action_size)
