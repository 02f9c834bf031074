"""Rules on what an algorithm declares, accepts and returns: broken examples fail in the right ones."""

from __future__ import annotations

import pytest
from contract_examples import Examine, assert_only_these_fail, make_examine

BROKEN = {
    "OutOfBounds": (
        """
class OutOfBounds(Good):
    def act(self, observations):
        return observations @ self.net["weights"]
""",
        {"actions_are_in_bounds"},
    ),
    "FlatActions": (
        """
class FlatActions(Good):
    def act(self, observations):
        return self.mean(observations).squeeze(-1)
""",
        {"actions_have_shape"},
    ),
    "MetricPerTransition": (
        """
class MetricPerTransition(Good):
    def update(self, batch):
        losses = self.errors(batch).mean(-1).detach()
        return super().update(batch) | {"losses": losses}
""",
        {"metrics_are_valid"},
    ),
    "MetricOverReplicas": (
        """
class MetricOverReplicas(Good):
    def update(self, batch):
        return {"loss": super().update(batch)["loss"].mean()}
""",
        {"metrics_are_valid"},
    ),
    "MetricWithGradients": (
        """
class MetricWithGradients(Good):
    def update(self, batch):
        return super().update(batch) | {"size": self.net["weights"].square().mean((1, 2))}
""",
        {"metrics_are_valid"},
    ),
    "DoesNotCountUpdates": (
        """
class DoesNotCountUpdates(Good):
    def update(self, batch):
        found = super().update(batch)
        self.updates -= 1
        return found
""",
        {"updates_are_counted"},
    ),
    "ChangesTheBatch": (
        """
class ChangesTheBatch(Good):
    def losses(self, batch):
        batch.rewards.mul_(0.5)
        return super().losses(batch)
""",
        {"batch_is_unchanged"},
    ),
    "NoiseOfAllReplicas": (
        """
class NoiseOfAllReplicas(Good):
    @property
    def noise(self):
        return {"jitter": Noise("normal", (len(self.seeds), self.config.batch_size, self.spec.action_size))}
""",
        {"noise_is_valid"},
    ),
    "UnknownNoise": (
        """
class UnknownNoise(Good):
    @property
    def noise(self):
        return {"jitter": Noise("gamma", (self.config.batch_size, self.spec.action_size))}
""",
        {"noise_is_valid"},
    ),
    "RaisesInUpdate": (
        """
class RaisesInUpdate(Good):
    def update(self, batch):
        return super().update(batch) | {"other": batch.noise["undeclared"]}
""",
        {"can_be_updated"},
    ),
    "RaisesWhenBuilt": (
        """
class RaisesWhenBuilt(Good):
    def first_weights(self, rng):
        raise ValueError("not for you")
""",
        {"can_be_built"},
    ),
    "ConfigWithoutDataclass": (
        """
class ConfigWithoutDataclass(Good):
    class Config(algorithm.Config):
        learning_rate: float = 1e-2
""",
        {"config_is_valid"},
    ),
    "ConfigWithoutBase": (
        """
class ConfigWithoutBase(Good):
    @dataclass(frozen=True)
    class Config:
        batch_size: int = 8
""",
        {"config_is_valid"},
    ),
    "ConfigWithRequiredField": (
        """
class ConfigWithRequiredField(Good):
    @dataclass(frozen=True, kw_only=True)
    class Config(algorithm.Config):
        alpha: float
""",
        {"config_is_valid"},
    ),
    "SingleMetricPerTransition": (
        """
class SingleMetricPerTransition(GoodSingle):
    def update(self, batch):
        return super().update(batch) | {"rewards": batch.rewards}
""",
        {"metrics_are_valid"},
    ),
    "SingleOutOfBounds": (
        """
class SingleOutOfBounds(GoodSingle):
    def act(self, observations):
        return self.net(observations)
""",
        {"actions_are_in_bounds"},
    ),
    "SingleHalfPrecision": (
        """
class SingleHalfPrecision(GoodSingle):
    def act(self, observations):
        return super().act(observations).half()
""",
        {"actions_have_shape"},
    ),
    "NoActionSpaces": (
        """
class NoActionSpaces(Good):
    action_spaces = ()
""",
        {"declarations_are_valid"},
    ),
    "ActionSpaceNotInATuple": (
        """
class ActionSpaceNotInATuple(BothActionSpaces):
    action_spaces = "discrete"
""",
        {"declarations_are_valid"},
    ),
    "UnknownActionSpace": (
        """
class UnknownActionSpace(GoodSingle):
    action_spaces = ("continuous", "Discrete")
""",
        {"declarations_are_valid"},
    ),
    "LearnsOnlineIsText": (
        """
class LearnsOnlineIsText(GoodSingle):
    learns_online = "yes"
""",
        {"declarations_are_valid"},
    ),
    "FailsWithDiscreteActions": (
        """
class FailsWithDiscreteActions(Good):
    action_spaces = ("continuous", "discrete")
""",
        {"can_be_updated"},
    ),
    "ChoosesFloats": (
        """
class ChoosesFloats(BothActionSpaces):
    def act(self, observations):
        return super().act(observations).float()
""",
        {"actions_have_shape"},
    ),
    "ChoosesOneHot": (
        """
class ChoosesOneHot(DiscreteSingle):
    def act(self, observations):
        return torch.nn.functional.one_hot(super().act(observations), self.spec.action_size)
""",
        {"actions_have_shape"},
    ),
    "ChoosesFromOneUp": (
        """
class ChoosesFromOneUp(DiscreteSingle):
    def act(self, observations):
        return super().act(observations) + 1
""",
        {"actions_are_in_bounds"},
    ),
}


@pytest.fixture(scope="module")
def examine(tmp_path_factory: pytest.TempPathFactory) -> Examine:
    return make_examine(tmp_path_factory.mktemp("examples"), *(code for code, _ in BROKEN.values()))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_algorithm_fails_in_the_right_rules(examine: Examine, name: str) -> None:
    assert_only_these_fail(examine(name), BROKEN[name][1])


@pytest.mark.parametrize(
    ("name", "rule", "text"),
    [
        ("MetricPerTransition", "metrics_are_valid", "expected metric 'losses' to be (1,), got (1, 16)"),
        (
            "SingleMetricPerTransition",
            "metrics_are_valid",
            "'rewards' to be () from each of 1 agents, (1,) together, got",
        ),
        ("OutOfBounds", "actions_are_in_bounds", "expected actions within [-1, 1], got one of size"),
        ("FlatActions", "actions_have_shape", "expected actions (1, 4, 1), got (1, 4)"),
        (
            "NoActionSpaces",
            "declarations_are_valid",
            "action_spaces to be a tuple of 'continuous' or 'discrete', got ()",
        ),
        ("ActionSpaceNotInATuple", "declarations_are_valid", "got 'discrete'"),
        (
            "LearnsOnlineIsText",
            "declarations_are_valid",
            "expected learns_online to be True or False, got 'yes'",
        ),
        (
            "FailsWithDiscreteActions",
            "can_be_updated",
            "with discrete actions expected no exception, got RuntimeError: ",
        ),
        (
            "ChoosesFloats",
            "actions_have_shape",
            "with discrete actions expected actions of torch.int64, because they are discrete",
        ),
        ("ChoosesOneHot", "actions_have_shape", "(1, 4) together, got (1, 4, 3)"),
        ("ChoosesFromOneUp", "actions_are_in_bounds", "expected actions from 0 to 2, got one that is 3"),
        (
            "DoesNotCountUpdates",
            "updates_are_counted",
            "expected updates to be 1 after update 1, got 0;",
        ),
        ("ChangesTheBatch", "batch_is_unchanged", "expected an unchanged batch, got rewards different by"),
        ("NoiseOfAllReplicas", "noise_is_valid", "(1, 16, 2)"),
        ("RaisesWhenBuilt", "can_be_built", "expected no exception, got ValueError: not for you ("),
        ("RaisesInUpdate", "can_be_updated", "KeyError: 'undeclared'"),
        ("ConfigWithoutDataclass", "config_is_valid", "decorated with @dataclass(frozen=True)"),
        ("ConfigWithoutBase", "config_is_valid", "must extend seqeval.algorithm.Config"),
        ("ConfigWithRequiredField", "config_is_valid", "without arguments"),
    ],
)
def test_a_failure_says_what_was_expected_and_found(
    examine: Examine, name: str, rule: str, text: str
) -> None:
    assert text in examine(name)[rule].message
