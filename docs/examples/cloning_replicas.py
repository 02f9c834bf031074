"""The same algorithm for R agents that are trained together: every tensor starts with the replica axis R."""

from dataclasses import dataclass
from math import inf

from seqeval.algos.networks import MLP, Adam

from seqeval import algorithm
from seqeval.algorithm import Noise, per_replica


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {"learning_rate": (0, inf), "noise": (0, inf)}
    batchable = ("learning_rate", "noise")  # a sweep over these is trained in one job
    ranges = {"noise": "log(0.01,1)"}  # what a random search draws from

    learning_rate: float = 1e-3
    noise: float = 0.1  # std of what is added to observations
    hidden: tuple[int, ...] = (64,)  # widths of the hidden layers


class NoisyCloning(algorithm.Algorithm):
    Config = Config
    learns_online = False
    policy_parts = ("actor",)  # what `act` reads, and --keep-policies stores
    period = 1  # every update calls the same operators, so a GPU can replay it

    def __init__(self, spec, config, seeds, total_updates, device):
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = [spec.observation_size, *config.hidden, spec.action_size]
        self.actor = MLP("actor", sizes, seeds, device, "orthogonal")
        self.optimizer = Adam(self.actor, config.learning_rate)

    @classmethod
    def depends_on_total_updates(cls, config):
        return False

    @property
    def noise(self):  # random numbers come with the batch, from the streams of each replica's seed
        return {"observations": Noise("normal", (self.config.batch_size, self.spec.observation_size))}

    def update(self, batch):
        self.updates += 1
        noise = batch.noise["observations"]
        noise = noise * per_replica(self.config.noise, noise)
        error = self.act(batch.observations + noise) - batch.actions
        loss = error.square().mean((1, 2))  # (R,): within each replica
        self.optimizer.minimize(loss)
        return {"loss": loss.detach()}

    def act(self, observations):
        return self.actor(observations).tanh()
