"""Algorithms for discrete actions and images, for one agent, in plain torch: its own layers, optimizer and
losses. Written from the papers; networks start with the weights of an algorithm under test."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

Values = Mapping[str, Tensor]  # of a minibatch, noise included
RATE = 3e-4


class Scale(nn.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.double() / 255 + self.offset


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """From a weight (in, out)."""
    layer = nn.Linear(*weight.shape)
    layer.weight.data, layer.bias.data = weight.detach().T.clone(), bias.detach().clone()
    return layer


def mlp(net, *index: int) -> list[nn.Module]:
    """The linear layers of one network of a replica-batched one, with ReLU between them."""
    layers: list[nn.Module] = []
    for weight, bias in zip(net.weights, net.biases, strict=True):
        layers += [linear(weight[index], bias[index]), nn.ReLU()]
    return layers[:-1]


def convolutions(module, replica: int, strides: tuple[int, ...], offset: float) -> nn.Sequential:
    layers: list[nn.Module] = [Scale(offset)]
    for weight, bias, stride in zip(module.weights, module.biases, strides, strict=True):
        layer = nn.Conv2d(weight.shape[2], weight.shape[1], 3, stride)
        layer.weight.data, layer.bias.data = weight[replica].detach().clone(), bias[replica].detach().clone()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def projection(module, replica: int) -> nn.Sequential:
    norm = nn.LayerNorm(module.scale.shape[-1])  # starts as identity, as the algorithm's
    return nn.Sequential(linear(module.weights[0][replica], module.biases[0][replica]), norm, nn.Tanh())


class Network(nn.Module):
    """An encoder if observations are images, and one or more heads."""

    def __init__(self, net, replica: int, copies: int | None = None) -> None:
        super().__init__()
        places = [(replica,)] if copies is None else [(replica, copy) for copy in range(copies)]
        self.heads = nn.ModuleList(nn.Sequential(*mlp(net, *place)) for place in places)
        self.encoder: nn.Module = nn.Identity()
        if net.encoder is not None and hasattr(net.encoder.last, "scale"):
            self.encoder = nn.Sequential(
                convolutions(net.encoder.convolutions, replica, (2, 1, 1, 1), -0.5),
                projection(net.encoder.last, replica),
            )
        elif net.encoder is not None:
            (last,) = mlp(net.encoder.last, replica)
            first = convolutions(net.encoder.convolutions, replica, (1,), 0.0)
            self.encoder = nn.Sequential(first, last, nn.ReLU())

    def forward(self, observations: Tensor) -> list[Tensor]:
        features = self.encoder(observations)
        return [head(features) for head in self.heads]


def frozen(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).requires_grad_(False)


def average(target: nn.Module, network: nn.Module, rate: float) -> None:
    with torch.no_grad():
        for old, new in zip(target.parameters(), network.parameters(), strict=True):
            old.copy_((1 - rate) * old + rate * new)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def taken(q: Tensor, actions: Tensor) -> Tensor:
    return q[torch.arange(len(actions)), actions]


class DiscreteCQL:
    def __init__(self, algorithm, replica: int) -> None:
        self.net = Network(algorithm.critic, replica)
        self.target, self.adam = frozen(self.net), torch.optim.Adam(self.net.parameters(), RATE)

    def update(self, b: Values) -> dict[str, Tensor]:
        with torch.no_grad():
            best = self.net(b["next_observations"])[0].max(1).indices
            value = taken(self.target(b["next_observations"])[0], best)
            y = b["rewards"] + 0.99 * (1 - b["terminated"]) * value
        q_all = self.net(b["observations"])[0]
        q = taken(q_all, b["actions"])
        bellman = functional.smooth_l1_loss(q, y)
        gap = (torch.log(q_all.exp().sum(1)) - q).mean()
        step(self.adam, bellman + 1.0 * gap)
        average(self.target, self.net, 0.005)
        return {"critic_loss": bellman, "conservative_loss": gap, "q": q.mean()}

    def networks(self) -> dict[str, nn.Module]:
        return {"critic": self.net, "target_critic": self.target}


class BCQ:
    def __init__(self, algorithm, replica: int) -> None:
        self.q, self.i = Network(algorithm.critic, replica), Network(algorithm.imitation, replica)
        self.target = frozen(self.q)
        self.adam = torch.optim.Adam([*self.q.parameters(), *self.i.parameters()], RATE)

    def update(self, b: Values) -> dict[str, Tensor]:
        with torch.no_grad():
            probabilities = self.i(b["next_observations"])[0].softmax(1)
            allowed = (probabilities / probabilities.max(1, keepdim=True).values > 0.3).double()
            best = (allowed * self.q(b["next_observations"])[0] + (1 - allowed) * -1e8).argmax(1)
            value = taken(self.target(b["next_observations"])[0], best)
            y = b["rewards"] + 0.99 * (1 - b["terminated"]) * value
        q = taken(self.q(b["observations"])[0], b["actions"])
        bellman = functional.smooth_l1_loss(q, y)
        logits = self.i(b["observations"])[0]
        imitation = functional.cross_entropy(logits, b["actions"])
        step(self.adam, bellman + imitation + 1e-2 * logits.pow(2).mean())
        average(self.target, self.q, 0.005)
        return {"critic_loss": bellman, "imitation_loss": imitation, "q": q.mean()}

    def networks(self) -> dict[str, nn.Module]:
        return {"critic": self.q, "imitation": self.i, "target_critic": self.target}


class DiscreteIQL:
    def __init__(self, algorithm, replica: int) -> None:
        self.v, self.pi = Network(algorithm.value, replica), Network(algorithm.actor.net, replica)
        self.q = Network(algorithm.critics, replica, 2)
        self.target = frozen(self.q)
        networks = (self.v, self.pi, self.q)
        self.adams = [torch.optim.Adam(network.parameters(), RATE) for network in networks]

    def update(self, b: Values) -> dict[str, Tensor]:
        s, a = b["observations"], b["actions"]
        with torch.no_grad():
            target_q = torch.minimum(*(taken(q, a) for q in self.target(s)))
        error = target_q - self.v(s)[0][:, 0]
        value_loss = (torch.where(error > 0, 0.7, 0.3) * error**2).mean()
        step(self.adams[0], value_loss)
        with torch.no_grad():
            advantage = target_q - self.v(s)[0][:, 0]
            weight = torch.exp(3 * advantage).clamp(max=100)
        policy = torch.distributions.Categorical(logits=self.pi(s)[0])
        actor_loss = -(weight * policy.log_prob(a)).mean()
        step(self.adams[1], actor_loss)
        with torch.no_grad():
            y = b["rewards"] + 0.99 * (1 - b["terminated"]) * self.v(b["next_observations"])[0][:, 0]
        values = [taken(q, a) for q in self.q(s)]
        critic_loss = sum(((q - y) ** 2).mean() for q in values)
        step(self.adams[2], critic_loss)
        average(self.target, self.q, 0.005)
        return {
            "value_loss": value_loss,
            "actor_loss": actor_loss,
            "critic_loss": critic_loss,
            "q": torch.stack(values).mean(),
            "advantage": advantage.mean(),
        }

    def networks(self) -> dict[str, nn.Module]:
        return {"value": self.v, "actor.net": self.pi, "critics": self.q, "target_critics": self.target}


def shifted(images: Tensor, noise: Tensor, pixels: int = 4) -> Tensor:
    """Padded by repeated edge pixels, then cut out at a random place."""
    height, width = images.shape[-2:]
    padded = functional.pad(images.double(), (pixels,) * 4, mode="replicate")
    corners = (noise * (2 * pixels + 1)).floor().long().tolist()
    cut = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack(cut)


class ImageBC:
    """Of discrete actions, with the encoder of DrQ and dropout 0.1."""

    def __init__(self, algorithm, replica: int) -> None:
        self.net = Network(algorithm.actor, replica)
        self.adam = torch.optim.Adam(self.net.parameters(), 1e-3)

    def update(self, b: Values) -> dict[str, Tensor]:
        x = self.net.encoder(shifted(b["observations"], b["shift"]))
        first, second, last = (layer for layer in self.net.heads[0] if isinstance(layer, nn.Linear))
        x = first(x).relu() * b["keep_0"] / 0.9
        x = second(x).relu() * b["keep_1"] / 0.9
        loss = functional.cross_entropy(last(x), b["actions"])
        step(self.adam, loss)
        return {"loss": loss}

    def networks(self) -> dict[str, nn.Module]:
        return {"actor": self.net}


class DrQBC:
    def __init__(self, algorithm, replica: int) -> None:
        self.encoder = convolutions(algorithm.encoder, replica, (2, 1, 1, 1), -0.5)
        self.pi = nn.Sequential(
            projection(algorithm.actor.projection, replica), *mlp(algorithm.actor.net, replica)
        )
        self.project = projection(algorithm.critics.projection, replica)
        self.heads = nn.ModuleList(nn.Sequential(*mlp(algorithm.critics.heads, replica, i)) for i in (0, 1))
        self.critic = nn.ModuleList([self.project, self.heads])
        self.target, self.count = frozen(self.critic), 0
        self.actor_adam = torch.optim.Adam(self.pi.parameters(), 1e-4)
        self.critic_adam = torch.optim.Adam([*self.encoder.parameters(), *self.critic.parameters()], 1e-4)

    @staticmethod
    def q(critic: nn.ModuleList, h: Tensor, a: Tensor) -> list[Tensor]:
        x = torch.cat([critic[0](h), a], 1)
        return [head(x)[:, 0] for head in critic[1]]

    def sample(self, h: Tensor, noise: Tensor) -> Tensor:
        mean = self.pi(h).tanh()
        share = min(self.count / 250_000, 1)
        std = (1 - share) * 1.0 + share * 0.1
        x = mean + (std * noise).clamp(-0.3, 0.3)
        return x - x.detach() + x.detach().clamp(-1, 1)

    def update(self, b: Values) -> dict[str, Tensor]:
        h = self.encoder(shifted(b["observations"], b["shift"]))
        with torch.no_grad():
            h2 = self.encoder(shifted(b["next_observations"], b["next_shift"]))
            value = torch.minimum(*self.q(self.target, h2, self.sample(h2, b["next_action"])))
            y = b["rewards"] + 0.99 ** b["steps"].double() * (1 - b["terminated"]) * value
        values = self.q(self.critic, h, b["actions"])
        critic_loss = sum(functional.mse_loss(q, y) for q in values)
        step(self.critic_adam, critic_loss)

        h = h.detach()
        action = self.sample(h, b["action"])
        q = torch.minimum(*self.q(self.critic, h, action))
        imitation = functional.mse_loss(action, b["actions"])
        actor_loss = -(2.5 / q.abs().mean().detach()) * q.mean() + imitation
        step(self.actor_adam, actor_loss)
        average(self.target, self.critic, 0.01)
        self.count += 1
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "imitation": imitation,
            "q": torch.stack(values).mean(),
        }
