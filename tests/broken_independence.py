"""Plug-ins with faults in what actions and updates depend on: other replicas, other states, masked values."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from plugin_faults import breaks
from working_plugins import (
    Bootstrapping,
    BothActionSpaces,
    Exploring,
    Good,
    GoodSingle,
    Normalizing,
    Sequential,
)

from seqeval.algorithm import Noise, Sampling, stream


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update 1, got loss")
class ScaledByAllReplicas(Good):
    def losses(self, batch):
        errors = self.errors(batch)
        return errors.mean((1, 2)) / errors.detach().mean() + 0.1 * self.net["weights"].square().mean((1, 2))


@breaks("replicas_are_independent", "")
class MeanOverReplicas(Good):
    def descend(self, losses):
        super().descend(losses / len(self.seeds))


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update ")
class ClippedTogether(Good):
    def descend(self, losses):
        self.optimizer.zero_grad()
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1e-3)
        self.optimizer.step()


@breaks("replicas_are_independent", "")
class OneSeedForAllReplicas(Good):
    def first_weights(self, rng):
        return super().first_weights(stream(self.seeds[0], "weights"))


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update ")
class ChoosesWithSharedLoss(BothActionSpaces):
    def losses(self, batch):
        losses = super().losses(batch)
        return losses * losses.detach().mean() if self.spec.discrete else losses


@breaks("exploration_keeps_replicas_apart", "explore to choose the actions of replica 1 from its own")
class ExploresWithSharedNoise(BothActionSpaces):
    def explore(self, observations, noise):
        return super().explore(observations, noise.mean(0))


@breaks("act_keeps_replicas_apart", "act to choose the actions of replica 1 from its own observations")
class ActsWithAnothersObservations(Good):
    def act(self, observations):
        return self.mean(observations.roll(1, 0))


@breaks("act_keeps_replicas_apart", "other actions when those of replica 0 change")
class CentresOverReplicas(Good):
    def act(self, observations):
        return self.mean(observations - 0.5 * observations.mean(0))


@breaks("act_keeps_replicas_apart", "act to choose the actions of replica 1 from its own observations")
class ActsLateWithOthers(Good):
    def act(self, observations):
        return self.mean(observations.mean(0, keepdim=True) if self.updates > 30 else observations)


@breaks("act_keeps_replicas_apart", "with discrete actions, got other actions")
class ChoosesWithOthers(BothActionSpaces):
    def act(self, observations):
        if self.spec.discrete:
            observations = observations + observations.flip(0)
        return super().act(observations)


@breaks("act_keeps_states_apart", "act to choose an action from its own state alone")
class CentresOverStates(Good):
    def act(self, observations):
        return self.mean(observations - observations.mean(1, keepdim=True))


@breaks("act_keeps_states_apart", "the same action in one state as in a batch of 64")
class ActsByPlace(Good):
    def act(self, observations):
        places = torch.arange(observations.shape[1]) / 100
        return self.mean(observations + places.view(1, -1, 1))


@breaks("act_keeps_states_apart", "act to choose an action from its own state alone")
class SingleNormalizesOverStates(Normalizing):
    def __init__(self, spec, *rest):
        super().__init__(spec, *rest)
        self.norm = torch.nn.BatchNorm1d(spec.observation_size, track_running_stats=False)


@breaks("act_changes_nothing", "the same state before and after act, got replicas.0.agent.norm.running_mean")
class SingleNormalizesWhileActing(Normalizing):
    def act(self, observations):
        self.norm.train()
        return GoodSingle.act(self, self.norm(observations))


@breaks("act_changes_nothing", "act to leave what it is given as it is, got observations different")
class ActClipsInPlace(Good):
    def act(self, observations):
        return self.mean(observations.clamp_(-5, 5))


@breaks("act_is_deterministic", "the actions of act to stay as they are when act is called again")
class ActReusesItsMemory(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.memory = torch.zeros(100)

    def act(self, observations):
        actions = self.mean(observations)
        if observations.shape[1] > 10:
            self.memory.fill_(9.0)
            return actions
        return self.memory[: actions.numel()].view(actions.shape).copy_(actions)


@breaks(
    "exploration_keeps_replicas_apart",
    "explore to choose the actions of replica 1 from its own observations and noise",
)
class ExploresWithAnothersNoise(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, noise.roll(1, 0))


@breaks("exploration_keeps_replicas_apart", "other actions when those of replica 0 change")
class ExploresByAllReplicas(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, noise * observations.std((0, 1)).mean())


@breaks("exploration_keeps_states_apart", "explore to choose an action from its own state alone")
class ExploresOverStates(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, noise - noise.mean(1, keepdim=True))


@breaks("exploration_keeps_states_apart", "explore to choose an action from its own state alone")
class SingleExploresOverStates(GoodSingle):
    def explore(self, observations):
        spread = observations.std(0).mean()
        return (self.act(observations) + 0.01 * spread * torch.randn(self.spec.action_size)).clamp(-1, 1)


@breaks("exploration_changes_nothing", "explore to leave what it is given as it is, got noise different")
class ExploreScalesInPlace(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, noise.mul_(0.5))


@breaks("exploration_uses_noise", "explore to depend on its noise")
class ExploresWithoutChance(Exploring):
    def explore(self, observations, noise):
        return 0.5 * self.act(observations)


@breaks("exploration_is_reproducible", "the same noise and the same seeds to give the same exploration")
class ExploresByTime(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, noise * (time.perf_counter() % 1))


@breaks("exploration_is_independent", "replica 0 of 3 to explore as it does solo")
class ExploresByNumberOfReplicas(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, noise / len(self.seeds))


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update 41, got loss different")
class LeaksLate(Good):
    def losses(self, batch):
        losses = super().losses(batch)
        return losses * (1 + losses.detach().mean()) if self.updates > 40 else losses


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update 17, got loss different")
class LeaksRarely(Good):
    """Every 17th update."""

    def losses(self, batch):
        losses = super().losses(batch)
        return losses * (1 + losses.detach().mean()) if self.updates % 17 == 0 else losses


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update 1, got loss")
class NormalizesOverReplicas(Good):
    def losses(self, batch):
        mean = batch.observations.mean((0, 1))
        return super().losses(replace(batch, observations=batch.observations - mean))


@breaks("replicas_are_independent", "replica 1 of 3 to equal its solo run in update 1, got loss")
class UsesAnothersRewards(Good):
    def losses(self, batch):
        return super().losses(replace(batch, rewards=batch.rewards[:1].expand_as(batch.rewards)))


@breaks("replicas_are_independent", "replica 1 of 3 to equal its solo run in update 1, got loss")
class UsesAnothersNoise(Good):
    def losses(self, batch):
        jitter = batch.noise["jitter"]
        return super().losses(replace(batch, noise={"jitter": jitter[:1].expand_as(jitter)}))


@breaks("replicas_are_independent", "replica 1 of 3 to equal its solo run in update 1, got loss")
class WeighsReplicasByOrder(Good):
    def losses(self, batch):
        return super().losses(batch) * torch.arange(1, 1 + len(self.seeds))


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run")
class AddsReplicasUp(Good):
    def losses(self, batch):
        return super().losses(batch).cumsum(0)


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update ")
class StopsTogether(Good):
    """Whether a replica learns is decided by the loss of the worst."""

    def losses(self, batch):
        losses = super().losses(batch)
        return losses * float(losses.max() <= losses[0])


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update ")
class SharesATarget(Good):
    """One target network for all replicas."""

    def __init__(self, *given):
        super().__init__(*given)
        start = self.net["weights"].detach().mean(0, keepdim=True).repeat(len(self.seeds), 1, 1)
        self.target = torch.nn.ParameterDict({"weights": start}).requires_grad_(False)

    def losses(self, batch):
        self.target["weights"].lerp_(self.net["weights"].detach().mean(0), 0.1)
        pull = (self.net["weights"] - self.target["weights"]).square().mean((1, 2))
        return super().losses(batch) + pull


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update ")
class SharesALearningRate(Good):
    """The learning rate follows the loss of all replicas."""

    def descend(self, losses):
        self.optimizer.param_groups[0]["lr"] = 0.01 / (1 + losses.mean().item())
        super().descend(losses)


@breaks("replicas_are_independent", "replica 0 of 3 to equal its solo run in update ")
class SharesATable(Good):
    """All replicas use the table of the first, by rows of the dataset."""

    sampling = Sampling(rows=True)

    def __init__(self, *given):
        super().__init__(*given)
        self.table = torch.nn.ParameterDict({"seen": torch.zeros(len(self.seeds), 2000)}).requires_grad_(
            False
        )

    def losses(self, batch):
        seen = self.table["seen"][0]
        weights = 1 / (1 + seen[batch.rows])
        seen.index_put_((batch.rows.flatten(),), torch.ones(()), accumulate=True)
        return (weights.unsqueeze(-1) * self.errors(batch)).mean((1, 2))


@breaks("replicas_are_independent", "seven in only one of them")
class SingleMetricOfOneSeed(GoodSingle):
    def update(self, batch):
        return super().update(batch) | ({"seven": 7.0} if self.seed == 7 else {})


@breaks("nan_stays_in_its_replica", "replica 0 to be the same with NaN in the batch of replica 1")
class ClipsRarely(Good):
    """By a norm over replicas that made-up gradients do not reach."""

    def descend(self, losses):
        self.optimizer.zero_grad()
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1e6)
        self.optimizer.step()


@breaks("nan_stays_in_its_replica", "replica 0 to be the same with NaN in the batch of replica 1")
class SkipsTogether(Good):
    """Skips an update of all replicas because of one."""

    def descend(self, losses):
        if losses.isfinite().all():
            super().descend(losses)


@breaks("masked_values_are_not_used", "the same updates with other values in padding, where mask is 0")
class UsesPadding(Sequential):
    def mask(self, batch):
        return torch.ones_like(batch.mask)


@breaks("masked_values_are_not_used", "other values in next_actions where next_actions_mask is 0")
class UsesMaskedActions(Bootstrapping):
    def repeated(self, batch):
        return (batch.next_actions - batch.actions).square().mean(-1)


@breaks("terminated_is_used", "no value follows a terminal transition, got the same for any terminated")
class BootstrapsAtTheEnd(Good):
    def losses(self, batch):
        following = self.mean(batch.next_observations).detach().mean(-1)
        return super().losses(replace(batch, rewards=batch.rewards + 0.9 * following))


@breaks("noise_is_used", "an update to use its noise 'unused', got the same for any noise")
class DeclaresUnusedNoise(Good):
    @property
    def noise(self):
        return super().noise | {"unused": Noise("uniform", (self.config.batch_size,))}


@breaks(
    "total_updates_are_declared", "the same with total_updates 100 and 153, as depends_on_total_updates says"
)
class DecaysUndeclared(Good):
    @classmethod
    def depends_on_total_updates(cls, config):
        return False

    def losses(self, batch):
        return super().losses(batch) * (1 - self.updates / self.total_updates)


@breaks("total_updates_are_declared", "in update 51, got loss different")
class DecaysLateUndeclared(Good):
    @classmethod
    def depends_on_total_updates(cls, config):
        return False

    def losses(self, batch):
        losses = super().losses(batch)
        return losses / 2 if 2 * self.updates > self.total_updates else losses
