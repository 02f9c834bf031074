"""The algorithms for one agent in NumPy, with hand-written gradients: no torch, no autograd."""

from __future__ import annotations

import numpy as np


class Net:
    """Linear layers with ReLU between them; keeps the inputs of its last call for the backward pass."""

    def __init__(self, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
        self.parameters = [np.array(p, np.float64) for p in (*weights, *biases)]
        self.layers = len(weights)

    @classmethod
    def of(cls, mlp, *index: int) -> Net:
        """A copy of one network of a replica-batched one."""
        return cls(
            [w[index].detach().numpy() for w in mlp.weights], [b[index].detach().numpy() for b in mlp.biases]
        )

    def __call__(self, x: np.ndarray, masks: list[np.ndarray] | None = None) -> np.ndarray:
        self.inputs, self.masks = [], masks
        for layer in range(self.layers):
            self.inputs.append(x)
            x = x @ self.parameters[layer] + self.parameters[self.layers + layer]
            if layer < self.layers - 1:
                x = np.maximum(x, 0)
                x = x * masks[layer] if masks else x
        return x

    def backward(self, grad: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Gradients of the parameters and of the input of the last call."""
        weights, biases = [], []
        for layer in reversed(range(self.layers)):
            weights.insert(0, self.inputs[layer].T @ grad)
            biases.insert(0, grad.sum(0))
            grad = grad @ self.parameters[layer].T
            if layer > 0:
                grad = grad * self.masks[layer - 1] if self.masks else grad
                grad = grad * (self.inputs[layer] > 0)
        return weights + biases, grad

    def copy(self) -> Net:
        return Net(self.parameters[: self.layers], self.parameters[self.layers :])

    def polyak_update(self, other: Net, rate: float) -> None:
        self.parameters = [p + rate * (q - p) for p, q in zip(self.parameters, other.parameters, strict=True)]


class Adam:
    """Kingma & Ba (arXiv 1412.6980), algorithm 1."""

    def __init__(self, rate: float) -> None:
        self.rate, self.step, self.first, self.second = rate, 0, None, None

    def __call__(self, parameters: list[np.ndarray], grads: list[np.ndarray]) -> list[np.ndarray]:
        self.step += 1
        self.first = [0.1 * g + 0.9 * m for g, m in zip(grads, self.first or [0.0] * len(grads), strict=True)]
        self.second = [
            0.001 * g**2 + 0.999 * v for g, v in zip(grads, self.second or [0.0] * len(grads), strict=True)
        ]
        out = []
        for p, m, v in zip(parameters, self.first, self.second, strict=True):
            m_hat, v_hat = m / (1 - 0.9**self.step), v / (1 - 0.999**self.step)
            out.append(p - self.rate * m_hat / (np.sqrt(v_hat) + 1e-8))
        return out


def minimize(net: Net, adam: Adam, grad_out: np.ndarray) -> None:
    grads, _ = net.backward(grad_out)
    net.parameters = adam(net.parameters, grads)


class BC:
    def __init__(self, algorithm, replica: int) -> None:
        self.actor, self.adam = Net.of(algorithm.actor, replica), Adam(1e-3)

    def update(self, b: dict[str, np.ndarray]) -> dict[str, float]:
        keep = [b["keep_0"] / 0.9, b["keep_1"] / 0.9]
        actions = np.tanh(self.actor(b["observations"], keep))
        error = actions - b["actions"]
        minimize(self.actor, self.adam, 2 * error / error.size * (1 - actions**2))
        return {"loss": (error**2).mean()}

    def networks(self) -> dict[str, Net]:
        return {"actor": self.actor}


class TD3BC:
    def __init__(self, algorithm, replica: int) -> None:
        self.actor = Net.of(algorithm.actor, replica)
        self.critics = [Net.of(algorithm.critics, replica, i) for i in (0, 1)]
        self.target_actor, self.targets = self.actor.copy(), [q.copy() for q in self.critics]
        self.actor_adam, self.critic_adams, self.count = Adam(3e-4), [Adam(3e-4), Adam(3e-4)], 0

    def update(self, b: dict[str, np.ndarray]) -> dict[str, float]:
        self.count += 1
        size = len(b["rewards"])
        noise = np.clip(0.2 * b["target_action"], -0.5, 0.5)
        next_actions = np.clip(np.tanh(self.target_actor(b["next_observations"])) + noise, -1, 1)
        x = np.concatenate([b["next_observations"], next_actions], 1)
        value = np.minimum(*(q(x)[:, 0] for q in self.targets))
        target = b["rewards"] + 0.99 * (1 - b["terminated"]) * value
        x = np.concatenate([b["observations"], b["actions"]], 1)
        losses, values = [], []
        for critic, adam in zip(self.critics, self.critic_adams, strict=True):
            q = critic(x)[:, 0]
            losses.append(((q - target) ** 2).mean())
            values.append(q.mean())
            minimize(critic, adam, (2 * (q - target) / size)[:, None])
        metrics = {"critic_loss": sum(losses), "q": np.mean(values)}
        if self.count % 2 == 0:
            actions = np.tanh(self.actor(b["observations"]))
            q = self.critics[0](np.concatenate([b["observations"], actions], 1))[:, 0]
            scale = 2.5 / np.abs(q).mean()
            error = actions - b["actions"]
            _, grad = self.critics[0].backward(np.full((size, 1), -scale / size))
            grad = grad[:, b["observations"].shape[1] :] + 2 * error / error.size
            minimize(self.actor, self.actor_adam, grad * (1 - actions**2))
            self.target_actor.polyak_update(self.actor, 0.005)
            for t, q_net in zip(self.targets, self.critics, strict=True):
                t.polyak_update(q_net, 0.005)
            metrics |= {"actor_loss": (error**2).mean() - scale * q.mean(), "imitation": (error**2).mean()}
        return metrics

    def networks(self) -> dict[str, Net]:
        pairs = {f"critics.{i}": q for i, q in enumerate(self.critics)}
        targets = {f"target_critics.{i}": q for i, q in enumerate(self.targets)}
        return {"actor": self.actor, "target_actor": self.target_actor} | pairs | targets


class AWAC:
    def __init__(self, algorithm, replica: int) -> None:
        self.actor = Net.of(algorithm.actor.net, replica)
        self.critics = [Net.of(algorithm.critics, replica, i) for i in (0, 1)]
        self.targets = [q.copy() for q in self.critics]
        self.log_std = np.zeros(algorithm.spec.action_size)
        self.actor_adam, self.critic_adams = Adam(3e-4), [Adam(3e-4), Adam(3e-4)]

    def sample(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return np.tanh(self.actor(observations)) + np.exp(self.log_std) * noise

    def update(self, b: dict[str, np.ndarray]) -> dict[str, float]:
        size, observations = len(b["rewards"]), b["observations"]
        next_actions = self.sample(b["next_observations"], b["next_action"])
        x = np.concatenate([b["next_observations"], next_actions], 1)
        target = b["rewards"] + 0.99 * (1 - b["terminated"]) * np.minimum(*(q(x)[:, 0] for q in self.targets))
        x = np.concatenate([observations, b["actions"]], 1)
        losses, values = [], []
        for critic, target_net, adam in zip(self.critics, self.targets, self.critic_adams, strict=True):
            q = critic(x)[:, 0]
            losses.append(((q - target) ** 2).mean())
            values.append(q.mean())
            minimize(critic, adam, (2 * (q - target) / size)[:, None])
            target_net.polyak_update(critic, 0.005)

        sampled = np.concatenate([observations, self.sample(observations, b["action"])], 1)
        value = np.minimum(*(q(sampled)[:, 0] for q in self.critics))
        advantage = np.minimum(*(q(x)[:, 0] for q in self.critics)) - value
        weights = np.exp(advantage / 2) / np.exp(advantage / 2).sum()
        mean, std = np.tanh(self.actor(observations)), np.exp(self.log_std)
        z = (b["actions"] - mean) / std
        log_prob = (-0.5 * z**2 - self.log_std - 0.5 * np.log(2 * np.pi)).sum(1)
        grads, _ = self.actor.backward(-weights[:, None] * z / std * (1 - mean**2))
        grads.append(-(weights[:, None] * (z**2 - 1)).sum(0))
        decayed = [p * (1 - 3e-4 * 1e-4) for p in (*self.actor.parameters, self.log_std)]
        *self.actor.parameters, self.log_std = self.actor_adam(decayed, grads)
        return {
            "critic_loss": sum(losses),
            "actor_loss": -(weights * log_prob).sum(),
            "q": np.mean(values),
            "advantage": advantage.mean(),
        }

    def networks(self) -> dict[str, Net]:
        pairs = {f"critics.{i}": q for i, q in enumerate(self.critics)}
        targets = {f"target_critics.{i}": q for i, q in enumerate(self.targets)}
        return {"actor.net": self.actor} | pairs | targets


class CQL:
    def __init__(self, algorithm, replica: int) -> None:
        self.actor = Net.of(algorithm.actor.net, replica)
        self.critics = [Net.of(algorithm.critics, replica, i) for i in (0, 1)]
        self.targets = [q.copy() for q in self.critics]
        self.scale, self.offset, self.log_temperature = np.ones(1), -np.ones(1), np.zeros(1)
        self.size = algorithm.spec.action_size
        self.actor_adam, self.critic_adams, self.adam = Adam(3e-4), [Adam(3e-4), Adam(3e-4)], Adam(3e-4)

    def policy(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        out = self.actor(observations)
        raw = out[:, self.size :]
        return out[:, : self.size], np.clip(self.scale * raw + self.offset, -20, 2), raw

    @staticmethod
    def squash(mean: np.ndarray, log_std: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        action = np.tanh(mean + np.exp(log_std) * noise)
        normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        return action, (normal - np.log(1 - action**2)).sum(-1)

    def update(self, b: dict[str, np.ndarray]) -> dict[str, float]:
        s, s2, size = b["observations"], b["next_observations"], len(b["rewards"])
        mean2, log_std2, _ = self.policy(s2)
        mean, log_std, raw = self.policy(s)
        temperature = np.exp(self.log_temperature[0])

        a2, _ = self.squash(mean2, log_std2, b["next_action"])
        x = np.concatenate([s2, a2], 1)
        target = b["rewards"] + 0.99 * (1 - b["terminated"]) * np.minimum(*(q(x)[:, 0] for q in self.targets))
        sampled, density = self.squash(mean[:, None], log_std[:, None], b["sampled"])
        sampled2, density2 = self.squash(mean2[:, None], log_std2[:, None], b["next_sampled"])
        uniform = 2 * b["uniform"] - 1
        densities = np.concatenate([np.full(density.shape, self.size * np.log(0.5)), density, density2], 1)
        proposals = np.concatenate([uniform, sampled, sampled2], 1)
        count = proposals.shape[1]
        pairs = np.concatenate([np.repeat(s[:, None], count, 1), proposals], 2).reshape(size * count, -1)

        # The actor's loss uses the critics before their update.
        action, log_prob = self.squash(mean, log_std, b["action"])
        x = np.concatenate([s, action], 1)
        both = np.stack([q(x)[:, 0] for q in self.critics])
        chosen = both.argmin(0)
        grad_action = np.zeros_like(action)
        for i, critic in enumerate(self.critics):
            _, grad = critic.backward(np.where(chosen == i, -1 / size, 0.0)[:, None])
            grad_action += grad[:, s.shape[1] :]
        noise, std = b["action"], np.exp(log_std)
        # d log_prob / d raw action = 2 tanh; d log_prob / d log_std adds -1 for the normal's own density
        grad_raw = temperature / size * 2 * action + grad_action * (1 - action**2)
        grad_log_std = grad_raw * std * noise - temperature / size
        grad_log_std = grad_log_std * (
            (self.scale * raw + self.offset > -20) & (self.scale * raw + self.offset < 2)
        )
        grad_out = np.concatenate([grad_raw, grad_log_std * self.scale], 1)
        self.actor(s)
        grads, _ = self.actor.backward(grad_out)
        grads += [np.array([(grad_log_std * raw).sum()]), np.array([grad_log_std.sum()])]

        losses, gaps, values, critic_grads = [], [], [], []
        data = np.concatenate([s, b["actions"]], 1)
        for critic in self.critics:
            q_all = critic(pairs)[:, 0].reshape(size, count) - densities
            soft = np.log(np.exp(q_all).sum(1))
            share = np.exp(q_all - soft[:, None])
            from_pairs, _ = critic.backward(5 * share.reshape(-1, 1) / size)
            q = critic(data)[:, 0]
            from_data, _ = critic.backward(((2 * (q - target) - 5) / size)[:, None])
            critic_grads.append([m + n for m, n in zip(from_pairs, from_data, strict=True)])
            losses.append(((q - target) ** 2).mean())
            gaps.append((soft - q).mean())
            values.append(q.mean())

        (self.log_temperature,) = self.adam(
            [self.log_temperature], [np.array([-(log_prob - self.size).mean()])]
        )
        *self.actor.parameters, self.scale, self.offset = self.actor_adam(
            [*self.actor.parameters, self.scale, self.offset], grads
        )
        for critic, target_net, adam, grads in zip(
            self.critics, self.targets, self.critic_adams, critic_grads, strict=True
        ):
            critic.parameters = adam(critic.parameters, grads)
            target_net.polyak_update(critic, 0.005)
        return {
            "critic_loss": sum(losses),
            "conservative_loss": sum(gaps),
            "actor_loss": (temperature * log_prob - both.min(0)).mean(),
            "q": np.mean(values),
            "entropy": -log_prob.mean(),
            "temperature": temperature,
        }

    def networks(self) -> dict[str, Net]:
        pairs = {f"critics.{i}": q for i, q in enumerate(self.critics)}
        targets = {f"target_critics.{i}": q for i, q in enumerate(self.targets)}
        return {"actor.net": self.actor} | pairs | targets


class IQL:
    def __init__(self, algorithm, replica: int) -> None:
        self.value, self.actor = Net.of(algorithm.value, replica), Net.of(algorithm.actor.net, replica)
        self.critics = [Net.of(algorithm.critics, replica, i) for i in (0, 1)]
        self.targets = [q.copy() for q in self.critics]
        self.log_std = np.zeros(algorithm.spec.action_size)
        self.value_adam, self.actor_adam, self.critic_adams = Adam(3e-4), Adam(3e-4), [Adam(3e-4), Adam(3e-4)]

    def update(self, b: dict[str, np.ndarray]) -> dict[str, float]:
        size = len(b["rewards"])
        x = np.concatenate([b["observations"], b["actions"]], 1)
        target_q = np.minimum(*(q(x)[:, 0] for q in self.targets))

        error = target_q - self.value(b["observations"])[:, 0]
        weight = np.where(error < 0, 0.3, 0.7)
        minimize(self.value, self.value_adam, (-2 * weight * error / size)[:, None])

        advantage = target_q - self.value(b["observations"])[:, 0]
        imitate = np.minimum(np.exp(3 * advantage), 100)
        mean, std = np.tanh(self.actor(b["observations"])), np.exp(self.log_std)
        z = (b["actions"] - mean) / std
        log_prob = (-0.5 * z**2 - self.log_std - 0.5 * np.log(2 * np.pi)).sum(1)
        grads, _ = self.actor.backward(-(imitate / size)[:, None] * z / std * (1 - mean**2))
        grad_log_std = -(imitate[:, None] * (z**2 - 1)).sum(0) / size
        *self.actor.parameters, self.log_std = self.actor_adam(
            [*self.actor.parameters, self.log_std], [*grads, grad_log_std]
        )

        next_value = self.value(b["next_observations"])[:, 0]
        target = b["rewards"] + 0.99 * (1 - b["terminated"]) * next_value
        losses, values = [], []
        for critic, adam in zip(self.critics, self.critic_adams, strict=True):
            q = critic(x)[:, 0]
            losses.append(((q - target) ** 2).mean())
            values.append(q.mean())
            minimize(critic, adam, (2 * (q - target) / size)[:, None])
        for t, q_net in zip(self.targets, self.critics, strict=True):
            t.polyak_update(q_net, 0.005)
        return {
            "value_loss": (weight * error**2).mean(),
            "actor_loss": -(imitate * log_prob).mean(),
            "critic_loss": sum(losses),
            "q": np.mean(values),
            "advantage": advantage.mean(),
        }

    def networks(self) -> dict[str, Net]:
        pairs = {f"critics.{i}": q for i, q in enumerate(self.critics)}
        targets = {f"target_critics.{i}": q for i, q in enumerate(self.targets)}
        return {"value": self.value, "actor.net": self.actor} | pairs | targets
