"""Cal-QL, RLPD, FQL, QC-FQL and DT for one agent in plain torch, written from their papers: autograd, torch's
own modules and optimisers."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

Batch = dict[str, Tensor]


def net_of(batched, *index: int) -> nn.Sequential:
    """A copy of one network of a replica-batched one."""
    modules: list[nn.Module] = []
    for layer, weight in enumerate(batched.weights):
        linear = nn.Linear(*weight.shape[-2:])
        linear.weight.data = weight[index].detach().T.clone()
        linear.bias.data = batched.biases[layer][index].detach().clone()
        modules.append(linear)
        if layer < len(batched.weights) - 1:
            activation = nn.ReLU() if batched.activation == "relu" else nn.GELU(approximate="tanh")
            norm = [nn.LayerNorm(weight.shape[-1], eps=1e-6)] if batched.layer_norm else []
            modules += [*norm, activation] if batched.layer_norm == "before" else [activation, *norm]
    return nn.Sequential(*modules)


def critics_of(batched, replica: int) -> nn.ModuleList:
    return nn.ModuleList(net_of(batched, replica, place) for place in range(batched.weights[0].shape[1]))


def q_of(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> Tensor:
    """(N, ...)"""
    return torch.stack([critic(torch.cat([observations, actions], -1)).squeeze(-1) for critic in critics])


def arrays(net: nn.Sequential) -> list[Tensor]:
    """Weights (in, out), biases, scales and shifts, in the order of a replica-batched network."""
    linears = [module for module in net if isinstance(module, nn.Linear)]
    norms = [module for module in net if isinstance(module, nn.LayerNorm)]
    return [
        *(linear.weight.detach().T for linear in linears),
        *(linear.bias.detach() for linear in linears),
        *(norm.weight.detach() for norm in norms),
        *(norm.bias.detach() for norm in norms),
    ]


def polyak(targets: nn.Module, sources: nn.Module) -> None:
    with torch.no_grad():
        for target, source in zip(targets.parameters(), sources.parameters(), strict=True):
            target.copy_(0.995 * target + 0.005 * source)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimiser on a loss that may have gradients to other parameters too."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = grad
    optimizer.step()


class SquashedGaussian(nn.Module):
    """A policy that knows the density of its actions by torch's distributions."""

    def __init__(self, actor, replica: int) -> None:
        super().__init__()
        self.net, self.range = net_of(actor.net, replica), actor.log_std_range
        self.scale = nn.Parameter(torch.tensor(1.0)) if actor.learned_scale else None
        self.offset = nn.Parameter(torch.tensor(-1.0)) if actor.learned_scale else None

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(observations).chunk(2, -1)
        if self.scale is not None:
            log_std = self.scale * log_std + self.offset
        std = log_std.clamp(*self.range).exp()
        squashed = TransformedDistribution(Normal(mean, std), [TanhTransform(cache_size=1)])
        raw = mean + std * noise
        action = squashed.transforms[0](raw)
        return action, squashed.log_prob(action).sum(-1)


class CalQL:
    def __init__(self, algorithm, replica: int) -> None:
        self.config, self.size = algorithm.config, algorithm.spec.action_size
        self.actor = SquashedGaussian(algorithm.actor, replica)
        self.critics = critics_of(algorithm.critics, replica)
        self.targets = copy.deepcopy(self.critics)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.optimizers = [
            torch.optim.Adam(parameters, 3e-4)
            for parameters in ([self.log_temperature], self.actor.parameters(), self.critics.parameters())
        ]
        self.online = False

    def update(self, b: Batch) -> dict[str, float]:
        c, s, s2 = self.config, b["observations"], b["next_observations"]
        count = c.sampled_actions
        many = s.unsqueeze(1).expand(-1, count, -1)
        many2 = s2.unsqueeze(1).expand(-1, count, -1)
        action, log_prob = self.actor.sample(s, b["action"])
        temperature = self.log_temperature.exp().detach()
        temperature_loss = -self.log_temperature * (log_prob.detach() - self.size).mean()
        value = q_of(self.critics, s, action).min(0).values
        actor_loss = (temperature * log_prob - value).mean()
        with torch.no_grad():
            if c.max_target_backup:
                a2, _ = self.actor.sample(many2, b["next_action"])
                next_value = q_of(self.targets, many2, a2).min(0).values.max(-1).values
            else:
                a2, _ = self.actor.sample(s2, b["next_action"])
                next_value = q_of(self.targets, s2, a2).min(0).values
            target = b["rewards"] + c.discount * (1 - b["terminated"]) * next_value
            a, density = self.actor.sample(many, b["sampled"])
            a2, density2 = self.actor.sample(many2, b["next_sampled"])
        bound = b["returns_to_go"][:, None].expand(-1, count)
        td = gap = mean = torch.zeros(())
        for critic in self.critics:
            one = nn.ModuleList([critic])
            q = q_of(one, s, b["actions"])[0]
            at_uniform = q_of(one, many, 2 * b["uniform"] - 1)[0]
            at_policy, at_next = q_of(one, many, a)[0], q_of(one, many, a2)[0]
            if not self.online:
                at_policy, at_next = torch.maximum(at_policy, bound), torch.maximum(at_next, bound)
            terms = [at_uniform - self.size * math.log(0.5), at_policy - density, at_next - density2]
            td = td + ((q - target) ** 2).mean()
            gap = gap + (torch.cat(terms, -1).logsumexp(-1) - q).mean()
            mean = mean + q.mean() / 2
        weight = c.weight_online if self.online else 5.0 if c.weight is None else c.weight
        losses = (temperature_loss, actor_loss, td + weight * gap)
        grads = [
            torch.autograd.grad(loss, optimizer.param_groups[0]["params"], retain_graph=True)
            for loss, optimizer in zip(losses, self.optimizers, strict=True)
        ]
        for optimizer, parts in zip(self.optimizers, grads, strict=True):
            for parameter, grad in zip(optimizer.param_groups[0]["params"], parts, strict=True):
                parameter.grad = grad
            optimizer.step()
        polyak(self.targets, self.critics)
        return {
            "critic_loss": td.item(),
            "conservative_loss": gap.item(),
            "actor_loss": actor_loss.item(),
            "q": mean.item(),
            "entropy": -log_prob.mean().item(),
            "temperature": temperature.item(),
        }

    def networks(self) -> dict[str, list[Tensor]]:
        return {
            "actor.net": arrays(self.actor.net),
            **{f"critics.{i}": arrays(net) for i, net in enumerate(self.critics)},
            **{f"target_critics.{i}": arrays(net) for i, net in enumerate(self.targets)},
        }


class RLPD:
    def __init__(self, algorithm, replica: int) -> None:
        self.config, self.size, self.count = algorithm.config, algorithm.spec.action_size, 0
        self.actor = SquashedGaussian(algorithm.actor, replica)
        self.critics = critics_of(algorithm.critics, replica)
        self.targets = copy.deepcopy(self.critics)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.temperature_adam = torch.optim.Adam([self.log_temperature], 3e-4)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), 3e-4)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), 3e-4)

    def update(self, b: Batch) -> dict[str, float]:
        c = self.config
        self.count += 1
        temperature = self.log_temperature.exp()
        with torch.no_grad():
            a2, log_prob = self.actor.sample(b["next_observations"], b["next_action"])
            chosen = sorted(range(c.critics), key=lambda place: -b["subset"][place].item())[: c.min_critics]
            of_chosen = nn.ModuleList(self.targets[place] for place in chosen)
            next_value = q_of(of_chosen, b["next_observations"], a2).min(0).values
            if c.backup_entropy:
                next_value -= temperature * log_prob
            target = b["rewards"] + c.discount * (1 - b["terminated"]) * next_value
        q = q_of(self.critics, b["observations"], b["actions"])
        critic_loss = ((q - target) ** 2).mean()
        step(self.critic_adam, critic_loss)
        polyak(self.targets, self.critics)
        metrics = {"critic_loss": critic_loss.item(), "q": q.mean().item()}
        if self.count % c.actor_delay == 0:
            action, log_prob = self.actor.sample(b["observations"], b["action"])
            value = q_of(self.critics, b["observations"], action).mean(0)
            actor_loss = (temperature.detach() * log_prob - value).mean()
            entropy = -log_prob.detach().mean()
            step(self.actor_adam, actor_loss)
            step(self.temperature_adam, temperature * (entropy + self.size / 2))
            metrics |= {"actor_loss": actor_loss.item(), "entropy": entropy.item()}
            metrics["temperature"] = temperature.item()
        return metrics

    networks = CalQL.networks


class FQL:
    """Also QC-FQL: then an action is a chunk of `chunk_length` of them."""

    def __init__(self, algorithm, replica: int) -> None:
        self.config, self.length = algorithm.config, getattr(algorithm.config, "chunk_length", 1)
        self.flow, self.policy = net_of(algorithm.flow, replica), net_of(algorithm.policy, replica)
        self.critics = critics_of(algorithm.critics, replica)
        self.targets = copy.deepcopy(self.critics)
        parameters = [*self.flow.parameters(), *self.policy.parameters(), *self.critics.parameters()]
        self.adam = torch.optim.Adam(parameters, 3e-4)  # one for all, as in the authors' code

    def update(self, b: Batch) -> dict[str, float]:
        c = self.config
        if "mask" in b:
            mask, rewards = b["mask"], torch.zeros(len(b["mask"]))
            for place in range(self.length):
                rewards += c.discount**place * b["rewards"][:, place] * mask[:, place]
            s, s2, ends = b["observations"][:, 0], b["next_observations"][:, -1], b["terminated"][:, -1]
            actions = (b["actions"] * mask[..., None]).reshape(len(s), -1)
        else:
            mask, rewards = torch.ones(len(b["rewards"]), 1), b["rewards"]
            s, s2, ends, actions = b["observations"], b["next_observations"], b["terminated"], b["actions"]
        t, start = b["flow_time"], b["flow_start"]
        velocity = self.flow(torch.cat([s, (1 - t) * start + t * actions, t], 1))
        error = ((velocity - (actions - start)) ** 2).view(len(s), self.length, -1)
        flow_loss = (error * mask[..., None]).mean()

        with torch.no_grad():
            taught = b["policy"]
            for place in range(c.flow_steps):
                now = torch.full((len(s), 1), place / c.flow_steps)
                taught = taught + self.flow(torch.cat([s, taught, now], 1)) / c.flow_steps
            taught = taught.clamp(-1, 1)
            a2 = self.policy(torch.cat([s2, b["next_policy"]], 1)).clamp(-1, 1)
            both = q_of(self.targets, s2, a2)
            next_value = both.mean(0) if c.target_aggregation == "mean" else both.min(0).values
            target = rewards + c.discount**self.length * (1 - ends) * next_value
        chosen = self.policy(torch.cat([s, b["policy"]], 1))
        distillation = ((chosen - taught) ** 2).mean()
        frozen = copy.deepcopy(self.critics).requires_grad_(False)
        value = q_of(frozen, s, chosen.clamp(-1, 1)).mean(0)
        q_loss = -value.mean()
        if c.normalize_q:
            q_loss = q_loss / value.abs().mean().detach()
        q = q_of(self.critics, s, actions)
        critic_loss = (((q - target) ** 2) * mask[:, -1]).mean()
        step(self.adam, flow_loss + c.alpha * distillation + q_loss + critic_loss)
        polyak(self.targets, self.critics)
        return {
            "flow_loss": flow_loss.item(),
            "distillation": distillation.item(),
            "policy_loss": (c.alpha * distillation + q_loss).item(),
            "critic_loss": critic_loss.item(),
            "q": q.mean().item(),
        }

    def networks(self) -> dict[str, list[Tensor]]:
        return {
            "flow": arrays(self.flow),
            "policy": arrays(self.policy),
            **{f"critics.{i}": arrays(net) for i, net in enumerate(self.critics)},
            **{f"target_critics.{i}": arrays(net) for i, net in enumerate(self.targets)},
        }


class DT:
    """The parameters are a copy of one replica's, by name; the computation goes sequence by sequence and, in
    attention, token by token."""

    def __init__(self, algorithm, replica: int) -> None:
        self.config, self.count = algorithm.config, 0
        named = algorithm.model.named_parameters()
        self.p = {name: nn.Parameter(value[replica].detach().clone()) for name, value in named}
        c = self.config
        self.adam = torch.optim.AdamW(self.p.values(), c.learning_rate, weight_decay=c.weight_decay)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return normal * self.p[f"{name}.scale"] + self.p[f"{name}.shift"]

    def predict(
        self, returns: Tensor, states: Tensor, actions: Tensor, times: Tensor, masks: Batch
    ) -> Tensor:
        """One sequence of K steps -> (K, action); `masks` are its dropout masks."""
        gain = 1 / (1 - self.config.dropout)

        def drop(name: str, x: Tensor) -> Tensor:
            return x if name not in masks else x * masks[name] * gain

        tokens = []
        for place, time in enumerate(times.tolist()):
            when = self.p["time"][min(time, self.config.longest_episode - 1)]
            tokens.append(self.linear("returns", returns[place : place + 1]) + when)
            tokens.append(self.linear("states", states[place]) + when)
            tokens.append(self.linear("actions", actions[place]) + when)
        x = drop("keep_tokens", self.norm("gpt.first_norm", torch.stack(tokens)))
        for layer in range(self.config.layers):
            block = f"gpt.blocks.{layer}"
            q, k, v = self.linear(f"{block}.inputs", self.norm(f"{block}.norm1", x)).chunk(3, -1)
            width = q.shape[-1] // self.config.heads
            heads = []
            for head in range(self.config.heads):
                part = slice(head * width, (head + 1) * width)
                rows = []
                for place in range(len(x)):
                    scores = k[: place + 1, part] @ q[place, part] / math.sqrt(width)
                    share = torch.zeros(len(x)).index_put((torch.arange(place + 1),), scores.softmax(0))
                    name = f"keep_shares_{layer}"
                    share = share if name not in masks else share * masks[name][head, place] * gain
                    rows.append(share @ v[:, part])
                heads.append(torch.stack(rows))
            x = x + drop(f"keep_attended_{layer}", self.linear(f"{block}.outputs", torch.cat(heads, -1)))
            hidden = self.linear(f"{block}.up", self.norm(f"{block}.norm2", x)).relu()
            x = x + drop(f"keep_mlp_{layer}", self.linear(f"{block}.down", hidden))
        return self.linear("head", self.norm("gpt.last_norm", x)[1::3]).tanh()

    def update(self, b: Batch) -> dict[str, float]:
        c = self.config
        self.count += 1
        total = torch.zeros(())
        for row in range(len(b["mask"])):
            masks = {name: value[row] for name, value in b.items() if name.startswith("keep_")}
            returns = b["returns_to_go"][row]
            returns = c.reward_scale * returns.where(returns.isfinite(), torch.zeros(()))
            predicted = self.predict(
                returns, b["observations"][row], b["actions"][row], b["times"][row], masks
            )
            valid = b["mask"][row] > 0
            total = total + ((predicted - b["actions"][row]) ** 2)[valid].sum()
        loss = total / (b["mask"].sum() * b["actions"].shape[-1])
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.p.values(), c.gradient_clip)
        self.adam.param_groups[0]["lr"] = c.learning_rate * min(1, self.count / c.learning_rate_warmup)
        self.adam.step()
        return {"loss": loss.item()}
