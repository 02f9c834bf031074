"""Algorithms for one agent in plain torch, written from their papers: autograd and torch's optimiser only."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = dict[str, Tensor]


class Net(nn.Module):
    """A copy of one network of a replica-batched one, built of torch's own modules."""

    def __init__(self, batched, *index: int) -> None:
        super().__init__()
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for weight, bias in zip(batched.weights, batched.biases, strict=True):
            linear = nn.Linear(*weight.shape[-2:])
            linear.weight.data, linear.bias.data = (
                weight[index].detach().T.clone(),
                bias[index].detach().clone(),
            )
            self.linears.append(linear)
        self.norms.extend(nn.LayerNorm(scale.shape[-1], eps=1e-6) for scale in batched.scales)
        self.masks: list[Tensor] = []  # dropout, with its gain, of the hidden layers

    def forward(self, *inputs: Tensor) -> Tensor:
        x = torch.cat(inputs, -1)
        for layer, linear in enumerate(self.linears):
            x = linear(x)
            if layer < len(self.linears) - 1:
                x = functional.relu(x)
                x = self.norms[layer](x) if self.norms else x
                x = x * self.masks[layer] if self.masks else x
        return x

    def arrays(self) -> list[Tensor]:
        """Weights (in, out), biases, scales and shifts, in the order of a replica-batched network."""
        linears, norms = list(self.linears), list(self.norms)
        return [
            *(linear.weight.detach().T for linear in linears),
            *(linear.bias.detach() for linear in linears),
            *(norm.weight.detach() for norm in norms),
            *(norm.bias.detach() for norm in norms),
        ]


def critics_of(batched, replica: int) -> nn.ModuleList:
    return nn.ModuleList(Net(batched, replica, copy) for copy in range(batched.weights[0].shape[1]))


def values(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> Tensor:
    """(N, B)"""
    return torch.stack([critic(observations, actions)[:, 0] for critic in critics])


def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    with torch.no_grad():
        for t, s in zip(target.parameters(), source.parameters(), strict=True):
            t.copy_((1 - rate) * t + rate * s)


class ReBRAC:
    def __init__(self, algorithm, replica: int) -> None:
        self.config = algorithm.config
        self.actor, self.critics = Net(algorithm.actor, replica), critics_of(algorithm.critics, replica)
        self.target_actor, self.targets = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), self.config.actor_learning_rate)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), self.config.critic_learning_rate)
        self.count, self.online_from, self.total = 0, None, algorithm.total_updates

    def update(self, b: Batch) -> dict[str, float]:
        c = self.config
        beta_actor, beta_critic = c.actor_penalty, c.critic_penalty
        if self.online_from is not None:
            share = 1 - (self.count - self.online_from) / (self.total - self.online_from)
            beta_actor, beta_critic = beta_actor * max(c.lowest_decay, share), 0.0
        self.count += 1
        with torch.no_grad():
            noise = (c.policy_noise * b["target_action"]).clamp(-c.noise_clip, c.noise_clip)
            a2 = (self.target_actor(b["next_observations"]).tanh() + noise).clamp(-1, 1)
            gap = ((a2 - b["next_actions"]) ** 2).sum(1)
            gap[b["next_actions_mask"] == 0] = 0
            v2 = values(self.targets, b["next_observations"], a2).min(0).values - beta_critic * gap
            y = c.reward_scale * b["rewards"] + c.discount * (1 - b["terminated"]) * v2
        q = values(self.critics, b["observations"], b["actions"])
        critic_loss = sum(functional.mse_loss(one, y) for one in q)
        self.critic_adam.zero_grad()
        critic_loss.backward()
        self.critic_adam.step()
        metrics = {"critic_loss": critic_loss.item(), "q": q.mean().item()}
        if self.count % c.policy_delay == 0:
            a = self.actor(b["observations"]).tanh()
            v = values(self.critics, b["observations"], a).min(0).values
            scale = 1 / v.abs().mean().item() if c.normalize_q else 1
            imitation = ((a - b["actions"]) ** 2).sum(1)
            loss = (beta_actor * imitation - scale * v).mean()
            self.actor_adam.zero_grad()
            loss.backward()
            self.actor_adam.step()
            polyak(self.target_actor, self.actor, c.target_rate)
            polyak(self.targets, self.critics, c.target_rate)
            metrics |= {"actor_loss": loss.item(), "imitation": imitation.mean().item()}
        return metrics

    def networks(self) -> dict[str, list[Tensor]]:
        return {
            "actor": self.actor.arrays(),
            "target_actor": self.target_actor.arrays(),
            **{f"critics.{i}": net.arrays() for i, net in enumerate(self.critics)},
            **{f"target_critics.{i}": net.arrays() for i, net in enumerate(self.targets)},
        }


class EDAC:
    """SAC-N where the config has no `eta`."""

    def __init__(self, algorithm, replica: int) -> None:
        self.config, self.eta = algorithm.config, getattr(algorithm.config, "eta", None)
        self.actor, self.critics = Net(algorithm.actor.net, replica), critics_of(algorithm.critics, replica)
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), requires_grad=True)
        c = self.config
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), c.actor_learning_rate)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), c.critic_learning_rate)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], c.actor_learning_rate)

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(observations).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(*self.config.log_std_range).exp())
        squash = torch.distributions.TanhTransform(cache_size=1)
        policy = torch.distributions.TransformedDistribution(normal, [squash])
        action = squash(mean + normal.stddev * noise)
        return action, policy.log_prob(action).sum(-1)

    def diversity(self, b: Batch) -> Tensor:
        actions = b["actions"].clone().requires_grad_()
        directions = []
        for critic in self.critics:
            (slope,) = torch.autograd.grad(
                critic(b["observations"], actions).sum(), actions, create_graph=True
            )
            directions.append(slope / (slope.norm(dim=1, keepdim=True) + 1e-10))  # as in the authors' code
        count = len(directions)
        pairs = sum(
            (directions[i] * directions[j]).sum(1) for i in range(count) for j in range(count) if i != j
        )
        return pairs.mean() / (count - 1)

    def update(self, b: Batch) -> dict[str, float]:
        c = self.config
        alpha = self.log_alpha.detach().exp()
        action, log_prob = self.sample(b["observations"], b["action"])
        gap = (log_prob.detach() - action.shape[1]).mean()
        alpha_loss = -self.log_alpha * gap
        actor_loss = (alpha * log_prob - values(self.critics, b["observations"], action).min(0).values).mean()
        with torch.no_grad():
            a2, log_prob2 = self.sample(b["next_observations"], b["next_action"])
            v2 = values(self.targets, b["next_observations"], a2).min(0).values - alpha * log_prob2
            y = b["rewards"] + c.discount * (1 - b["terminated"]) * v2
        q = values(self.critics, b["observations"], b["actions"])
        critic_loss = ((q - y) ** 2).mean(1).sum()
        metrics = {"q": q.mean().item(), "q_std": q.detach().std(0, unbiased=False).mean().item()}
        if self.eta is not None:
            similarity = self.diversity(b)
            critic_loss = critic_loss + self.eta * similarity
            metrics["similarity"] = similarity.item()
        for adam, loss in (
            (self.alpha_adam, alpha_loss),
            (self.actor_adam, actor_loss),
            (self.critic_adam, critic_loss),
        ):
            parameters = adam.param_groups[0]["params"]
            for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = grad
        for adam in (self.alpha_adam, self.actor_adam, self.critic_adam):
            adam.step()
        polyak(self.targets, self.critics, c.target_rate)
        return metrics | {
            "critic_loss": critic_loss.item(),
            "actor_loss": actor_loss.item(),
            "entropy": -log_prob.mean().item(),
            "temperature": alpha.item(),
        }

    def networks(self) -> dict[str, list[Tensor]]:
        return {
            "actor.net": self.actor.arrays(),
            **{f"critics.{i}": net.arrays() for i, net in enumerate(self.critics)},
            **{f"target_critics.{i}": net.arrays() for i, net in enumerate(self.targets)},
        }


class IQL:
    """With dropout in the actor."""

    def __init__(self, algorithm, replica: int) -> None:
        self.config, rate = algorithm.config, algorithm.config.learning_rate
        self.value, self.actor = Net(algorithm.value, replica), Net(algorithm.actor.net, replica)
        self.log_std = torch.zeros(algorithm.spec.action_size, requires_grad=True)
        self.critics = critics_of(algorithm.critics, replica)
        self.targets = copy.deepcopy(self.critics)
        self.value_adam = torch.optim.Adam(self.value.parameters(), rate)
        self.actor_adam = torch.optim.Adam([*self.actor.parameters(), self.log_std], rate)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), rate)

    def update(self, b: Batch) -> dict[str, float]:
        c, s = self.config, b["observations"]
        with torch.no_grad():
            q_target = values(self.targets, s, b["actions"]).min(0).values
        error = q_target - self.value(s)[:, 0]
        weight = torch.where(error < 0, 1 - c.expectile, c.expectile)
        value_loss = (weight * error**2).mean()
        self.value_adam.zero_grad()
        value_loss.backward()
        self.value_adam.step()

        with torch.no_grad():
            advantage = q_target - self.value(s)[:, 0]
            weights = (c.temperature * advantage).exp().clamp(max=c.max_weight)
        keep = [b[f"keep_{layer}"] / (1 - c.actor_dropout) for layer in range(len(c.hidden))]
        self.actor.masks = keep
        mean = self.actor(s).tanh()
        self.actor.masks = []
        z = (b["actions"] - mean) / self.log_std.exp()
        log_prob = (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(1)
        actor_loss = -(weights * log_prob).mean()
        self.actor_adam.zero_grad()
        actor_loss.backward()
        self.actor_adam.step()

        with torch.no_grad():
            y = b["rewards"] + c.discount * (1 - b["terminated"]) * self.value(b["next_observations"])[:, 0]
        q = values(self.critics, s, b["actions"])
        critic_loss = ((q - y) ** 2).mean(1).sum()
        self.critic_adam.zero_grad()
        critic_loss.backward()
        self.critic_adam.step()
        polyak(self.targets, self.critics, c.target_rate)
        return {
            "value_loss": value_loss.item(),
            "actor_loss": actor_loss.item(),
            "critic_loss": critic_loss.item(),
            "q": q.mean().item(),
            "advantage": advantage.mean().item(),
        }

    def networks(self) -> dict[str, list[Tensor]]:
        return {
            "value": self.value.arrays(),
            "actor.net": self.actor.arrays(),
            **{f"critics.{i}": net.arrays() for i, net in enumerate(self.critics)},
            **{f"target_critics.{i}": net.arrays() for i, net in enumerate(self.targets)},
        }
