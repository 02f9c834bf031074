"""The kit of checks: it passes what keeps the contract, and tells each breach of it from the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from seqeval import check, cli, plugins
from seqeval.check import Result
from seqeval.errors import UserError
from seqeval.execution.storage import frame

README = Path(__file__).parents[1] / "README.md"

BATCHED = '''
from dataclasses import dataclass, replace
import numpy as np
import torch
from seqeval import algorithm
from seqeval.algorithm import Algorithm, Noise, SingleAlgorithm, stream

@dataclass(frozen=True)
class Config(algorithm.Config):
    learning_rate: float = 1e-2
    clip: float | None = None

class Good(Algorithm):
    """Linear imitation of jittered actions."""
    Config = Config

    def __init__(self, spec, config, seeds, total_updates, device):
        super().__init__(spec, config, seeds, total_updates, device)
        draws = [self.first_weights(stream(seed, "weights")) for seed in seeds]
        weights = torch.tensor(np.stack(draws), device=device, dtype=torch.get_default_dtype())
        self.net = torch.nn.ParameterDict({"weights": torch.nn.Parameter(weights)})
        self.optimiser = torch.optim.Adam(self.net.parameters(), config.learning_rate)

    def first_weights(self, rng):
        return rng.standard_normal((self.spec.observation_size, self.spec.action_size))

    @property
    def noise(self):
        return {"jitter": Noise("normal", (self.config.batch_size, self.spec.action_size))}

    def errors(self, batch):
        aim = batch.actions + 0.1 * batch.rewards.unsqueeze(-1) + 0.1 * batch.noise["jitter"]
        return (self.mean(batch.observations) - aim).square()  # (R, B, action)

    def losses(self, batch):
        return self.errors(batch).mean((1, 2))

    def descend(self, losses):
        self.optimiser.zero_grad()
        losses.sum().backward()
        self.optimiser.step()

    def update(self, batch):
        self.updates += 1
        losses = self.losses(batch)
        self.descend(losses)
        return {"loss": losses.detach()}

    def mean(self, observations):
        return (observations @ self.net["weights"]).tanh()

    def act(self, observations):
        return self.mean(observations)

class Repeats(Good):
    """Every second update is of the weights, and an update can be replayed."""
    period = 2

    def __init__(self, *given):
        super().__init__(*given)
        rate = self.config.learning_rate
        self.optimiser = torch.optim.Adam(self.net.parameters(), rate, fused=True, capturable=True)
        self.steady = torch.nn.ParameterDict({"weights": self.net["weights"].detach().clone()})
        self.steady.requires_grad_(False)

    def update(self, batch):
        self.updates += 1
        losses = self.losses(batch)
        if self.updates % 2:
            return {"first": losses.detach()}
        self.descend(losses)
        self.keep()
        return {"loss": losses.detach()}

    def keep(self):
        self.steady["weights"].lerp_(self.net["weights"].detach(), 0.1)

class Chooses(Good):
    """With discrete actions too, and an exploration of its own."""
    action_spaces = ("continuous", "discrete")

    def errors(self, batch):
        if self.spec.discrete:
            chosen = torch.nn.functional.one_hot(batch.actions, self.spec.action_size)
            batch = replace(batch, actions=chosen)
        return super().errors(batch)

    def choose(self, values):
        return values.argmax(-1) if self.spec.discrete else values.tanh()

    def act(self, observations):
        return self.choose(observations @ self.net["weights"])

    def explore(self, observations, noise):
        return self.choose(observations @ self.net["weights"] + noise)
'''

SINGLE = '''
class GoodSingle(SingleAlgorithm):
    """The same for one agent, with torch's own randomness."""
    Config = Config

    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size).to(device)
        self.optimiser = torch.optim.Adam(self.net.parameters(), config.learning_rate)

    def update(self, batch):
        self.updates += 1
        aim = batch.actions + 0.1 * batch.rewards.unsqueeze(-1) + 0.1 * torch.randn_like(batch.actions)
        loss = (self.net(batch.observations).tanh() - aim).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss, "plain": loss.item()}

    def act(self, observations):
        return self.net(observations).tanh()

class ChoosesSingle(GoodSingle):
    """With discrete actions alone, of which it explores one in four at random."""
    action_spaces = ("discrete",)
    learns_online = False

    def update(self, batch):
        return super().update(replace(batch, actions=torch.eye(self.spec.action_size)[batch.actions]))

    def act(self, observations):
        return self.net(observations).argmax(-1)

    def explore(self, observations):
        greedy = self.act(observations)
        return torch.where(torch.rand(greedy.shape) < 0.25, torch.randint_like(greedy, 2), greedy)
'''

# What each does otherwise than it should, and the checks that are to say so.
BROKEN = {
    "ScaledByAll": (
        """
class ScaledByAll(Good):
    def losses(self, batch):
        errors = self.errors(batch)
        return errors.mean((1, 2)) / errors.detach().mean() + 0.1 * self.net["weights"].square().mean((1, 2))
""",
        {"alone", "nan"},
    ),
    "MeanOverReplicas": (
        """
class MeanOverReplicas(Good):
    def descend(self, losses):
        super().descend(losses / len(self.seeds))
""",
        {"alone"},
    ),
    "ClippedTogether": (
        """
class ClippedTogether(Good):
    def descend(self, losses):
        self.optimiser.zero_grad()
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1e-3)
        self.optimiser.step()
""",
        {"alone", "nan"},
    ),
    "OneSeedForAll": (
        """
class OneSeedForAll(Good):
    def first_weights(self, rng):
        return super().first_weights(stream(self.seeds[0], "weights"))
""",
        {"alone"},
    ),
    "NoSeed": (
        """
class NoSeed(Good):
    def first_weights(self, rng):
        return super().first_weights(stream(0, "weights"))
""",
        {"seeds"},
    ),
    "RandomAct": (
        """
class RandomAct(Good):
    def act(self, observations):
        mean = self.mean(observations)
        return (mean + 0.1 * torch.randn_like(mean)).clamp(-1, 1)
""",
        {"steady"},
    ),
    "OutOfBounds": (
        """
class OutOfBounds(Good):
    def act(self, observations):
        return observations @ self.net["weights"]
""",
        {"bounds"},
    ),
    "FlatActions": (
        """
class FlatActions(Good):
    def act(self, observations):
        return self.mean(observations).squeeze(-1)
""",
        {"acts"},
    ),
    "CountingAct": (
        """
class CountingAct(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.net["calls"] = torch.nn.Parameter(torch.zeros(len(self.seeds)))
    def act(self, observations):
        self.net["calls"] += 1
        return super().act(observations)
""",
        {"harmless"},
    ),
    "MetricOfTheBatch": (
        """
class MetricOfTheBatch(Good):
    def update(self, batch):
        losses = self.errors(batch).mean(-1).detach()
        return super().update(batch) | {"losses": losses}
""",
        {"metrics"},
    ),
    "MetricOfAll": (
        """
class MetricOfAll(Good):
    def update(self, batch):
        return {"loss": super().update(batch)["loss"].mean()}
""",
        {"metrics"},
    ),
    "MetricWithGradients": (
        """
class MetricWithGradients(Good):
    def update(self, batch):
        return super().update(batch) | {"size": self.net["weights"].square().mean((1, 2))}
""",
        {"metrics"},
    ),
    "CountsNothing": (
        """
class CountsNothing(Good):
    def update(self, batch):
        found = super().update(batch)
        self.updates -= 1
        return found
""",
        {"counted"},
    ),
    "ForgetsTheOptimiser": (
        """
class ForgetsTheOptimiser(Good):
    def state_dict(self):
        return {"updates": self.updates, "net": self.net.state_dict()}
    def load_state_dict(self, state):
        self.updates = state["updates"]
        self.net.load_state_dict(state["net"])
""",
        {"saves"},
    ),
    "ForgetsThePolicy": (
        """
class ForgetsThePolicy(Good):
    def _parts(self):
        return {}
""",
        {"saves"},
    ),
    "ChangesTheBatch": (
        """
class ChangesTheBatch(Good):
    def losses(self, batch):
        batch.rewards.mul_(0.5)
        return super().losses(batch)
""",
        {"batch"},
    ),
    "GlobalRandomness": (
        """
class GlobalRandomness(Good):
    def losses(self, batch):
        return super().losses(batch) * np.random.uniform(0.5, 1.5)
""",
        {"repeats"},
    ),
    "NoiseForAll": (
        """
class NoiseForAll(Good):
    @property
    def noise(self):
        return {"jitter": Noise("normal", (len(self.seeds), self.config.batch_size, self.spec.action_size))}
""",
        {"noise"},
    ),
    "NoiseOfNoKind": (
        """
class NoiseOfNoKind(Good):
    @property
    def noise(self):
        return {"jitter": Noise("gamma", (self.config.batch_size, self.spec.action_size))}
""",
        {"noise"},
    ),
    "Raises": (
        """
class Raises(Good):
    def update(self, batch):
        return super().update(batch) | {"other": batch.noise["undeclared"]}
""",
        {"updates"},
    ),
    "CannotBeBuilt": (
        """
class CannotBeBuilt(Good):
    def first_weights(self, rng):
        raise ValueError("not for you")
""",
        {"builds"},
    ),
    "NoDataclass": (
        """
class NoDataclass(Good):
    class Config(algorithm.Config):
        learning_rate: float = 1e-2
""",
        {"config"},
    ),
    "ConfigOfItsOwn": (
        """
class ConfigOfItsOwn(Good):
    @dataclass(frozen=True)
    class Config:
        batch_size: int = 8
""",
        {"config"},
    ),
    "NeedsAnArgument": (
        """
class NeedsAnArgument(Good):
    @dataclass(frozen=True, kw_only=True)
    class Config(algorithm.Config):
        alpha: float
""",
        {"config"},
    ),
    "SingleMetricOfTheBatch": (
        """
class SingleMetricOfTheBatch(GoodSingle):
    def update(self, batch):
        return super().update(batch) | {"rewards": batch.rewards}
""",
        {"metrics"},
    ),
    "SingleRandomAct": (
        """
class SingleRandomAct(GoodSingle):
    def act(self, observations):
        return super().act(observations) * torch.rand(())
""",
        {"steady"},
    ),
    "SingleForgetsTheOptimiser": (
        """
class SingleForgetsTheOptimiser(GoodSingle):
    def _parts(self):
        return {"net": self.net}
""",
        {"saves"},
    ),
    "SingleGlobalRandomness": (
        """
class SingleGlobalRandomness(GoodSingle):
    def update(self, batch):
        batch.observations[0] += np.random.uniform(0.5, 1.5)
        return super().update(batch)
""",
        {"repeats", "batch"},
    ),
    "SingleKnowsTheOthers": (
        """
class SingleKnowsTheOthers(GoodSingle):
    shared = torch.zeros(())
    def __init__(self, spec, config, seed, *rest):
        super().__init__(spec, config, seed, *rest)
        type(self).shared = torch.zeros(())
    def update(self, batch):
        self.shared += batch.rewards.mean()
        with torch.no_grad():
            self.net.bias += 0.1 * self.shared
        return super().update(batch)
""",
        {"repeats"},
    ),
    "SingleOutOfBounds": (
        """
class SingleOutOfBounds(GoodSingle):
    def act(self, observations):
        return self.net(observations)
""",
        {"bounds"},
    ),
    "SingleInHalf": (
        """
class SingleInHalf(GoodSingle):
    def act(self, observations):
        return super().act(observations).half()
""",
        {"acts"},
    ),
    "NoSpaces": (
        """
class NoSpaces(Good):
    action_spaces = ()
""",
        {"declared"},
    ),
    "SpaceNotInATuple": (
        """
class SpaceNotInATuple(Chooses):
    action_spaces = "discrete"
""",
        {"declared"},
    ),
    "SpaceOfNoKind": (
        """
class SpaceOfNoKind(GoodSingle):
    action_spaces = ("continuous", "Discrete")
""",
        {"declared"},
    ),
    "OnlinePerhaps": (
        """
class OnlinePerhaps(GoodSingle):
    learns_online = "yes"
""",
        {"declared"},
    ),
    "NotForDiscrete": (
        """
class NotForDiscrete(Good):
    action_spaces = ("continuous", "discrete")
""",
        {"updates"},
    ),
    "ChoosesInFloat": (
        """
class ChoosesInFloat(Chooses):
    def act(self, observations):
        return super().act(observations).float()
""",
        {"acts"},
    ),
    "ChoosesOneHot": (
        """
class ChoosesOneHot(ChoosesSingle):
    def act(self, observations):
        return torch.nn.functional.one_hot(super().act(observations), self.spec.action_size)
""",
        {"acts"},
    ),
    "ChoosesFromOne": (
        """
class ChoosesFromOne(ChoosesSingle):
    def act(self, observations):
        return super().act(observations) + 1
""",
        {"bounds"},
    ),
    "ChoosesTogether": (
        """
class ChoosesTogether(Chooses):
    def losses(self, batch):
        losses = super().losses(batch)
        return losses * losses.detach().mean() if self.spec.discrete else losses
""",
        {"alone", "nan"},
    ),
    "ExploresTooFar": (
        """
class ExploresTooFar(Good):
    def explore(self, observations, noise):
        return self.act(observations) + 0.1 * noise
""",
        {"explores"},
    ),
    "ExploresFlat": (
        """
class ExploresFlat(Chooses):
    def explore(self, observations, noise):
        return super().explore(observations, noise)[0]
""",
        {"explores"},
    ),
    "ExploresWithoutNoise": (
        """
class ExploresWithoutNoise(Good):
    def explore(self, observations):
        return self.act(observations)
""",
        {"explores"},
    ),
    "ExploresAnyhow": (
        """
class ExploresAnyhow(Good):
    def explore(self, observations, noise):
        return self.act(observations) * np.random.uniform(0.5, 1)
""",
        {"explores_again"},
    ),
    "ExploresTogether": (
        """
class ExploresTogether(Chooses):
    def explore(self, observations, noise):
        return super().explore(observations, noise.mean(0))
""",
        {"explores_alone"},
    ),
    "ExploresAndLearns": (
        """
class ExploresAndLearns(Good):
    def explore(self, observations, noise):
        self.net["weights"] *= 0.99
        return self.act(observations)
""",
        {"explores_only"},
    ),
    "ExploresAndRemembers": (
        """
class ExploresAndRemembers(Good):
    explored = 0
    def explore(self, observations, noise):
        self.explored += 1
        return self.act(observations)
    def errors(self, batch):
        return super().errors(batch) + self.explored * self.mean(batch.observations)
""",
        {"explores_only"},
    ),
    "NoPeriod": (
        """
class NoPeriod(Repeats):
    period = 0
""",
        {"period"},
    ),
    "RepeatsLater": (
        """
class RepeatsLater(Repeats):
    period = 3
""",
        {"period"},
    ),
    "LooksAtALoss": (
        """
class LooksAtALoss(Repeats):
    def descend(self, losses):
        if losses.sum() != 1e9:
            super().descend(losses)
""",
        {"period"},
    ),
    "PicksLosses": (
        """
class PicksLosses(Repeats):
    def losses(self, batch):
        weights = self.net["weights"]
        return super().losses(batch) + 0 * weights[weights > 9].sum()
""",
        {"period"},
    ),
    "DecaysOnTheHost": (
        """
class DecaysOnTheHost(Repeats):
    def losses(self, batch):
        return super().losses(batch) / self.updates
""",
        {"period"},
    ),
    "DecaysItsOptimiser": (
        """
class DecaysItsOptimiser(Repeats):
    def descend(self, losses):
        self.optimiser.param_groups[0]["weight_decay"] = 0.1 / self.updates
        super().descend(losses)
""",
        {"period"},
    ),
    "PutsInPlace": (
        """
class PutsInPlace(Repeats):
    def keep(self):
        kept = self.steady["weights"].lerp(self.net["weights"].detach(), 0.1)
        self.steady["weights"] = torch.nn.Parameter(kept, requires_grad=False)
""",
        {"period"},
    ),
    "BringsANumber": (
        """
class BringsANumber(Repeats):
    def losses(self, batch):
        return super().losses(batch) * torch.tensor(0.5)
""",
        {"period"},
    ),
    "OtherMetrics": (
        """
class OtherMetrics(Repeats):
    def update(self, batch):
        found = super().update(batch)
        return found if self.updates % 3 else {"third": next(iter(found.values()))}
""",
        {"period"},
    ),
    "CountsOnTheHost": (
        """
class CountsOnTheHost(Repeats):
    made = 0
    def keep(self):
        super().keep()
        self.made += 1
    def state_dict(self):
        return super().state_dict() | {"made": self.made}
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.made = state["made"]
""",
        {"period"},
    ),
    "SingleExploresTooFar": (
        """
class SingleExploresTooFar(GoodSingle):
    def explore(self, observations):
        return self.act(observations) + 0.1 * torch.randn(self.spec.action_size)
""",
        {"explores"},
    ),
    "SingleExploresAnyhow": (
        """
class SingleExploresAnyhow(GoodSingle):
    def explore(self, observations):
        return self.act(observations) * np.random.uniform(0.5, 1)
""",
        {"explores_again"},
    ),
    "SingleExploresAndCounts": (
        """
class SingleExploresAndCounts(GoodSingle):
    def explore(self, observations):
        self.updates += 1
        return self.act(observations) * torch.rand(())
""",
        {"explores_only"},
    ),
}

Examine = Callable[[str], dict[str, Result]]


@pytest.fixture(scope="module")
def examine(tmp_path_factory: pytest.TempPathFactory) -> Examine:
    """The results of a class of this file, by the check's name."""
    file = tmp_path_factory.mktemp("check") / "broken.py"
    file.write_text(BATCHED + SINGLE + "".join(code for code, _ in BROKEN.values()))
    return lambda name: {result.name: result for result in check.examine(f"{file}:{name}")}


def not_ok(results: dict[str, Result]) -> dict[str, str]:
    return {name: result.message for name, result in results.items() if result.status == "failed"}


@pytest.mark.parametrize("name", [name for name in plugins.names() if ":" not in name])
def test_every_algorithm_of_the_suite_passes(name: str) -> None:
    results = list(check.examine(f"{name}:hidden=(24,20)"))
    assert [result.name for result in results] == list(check.CHECKS)
    assert all(result.status == "ok" and not result.message for result in results), results


@pytest.mark.parametrize("name", ["Good", "GoodSingle", "Repeats", "Chooses", "ChoosesSingle"])
def test_what_keeps_the_contract_passes(examine: Examine, name: str) -> None:
    assert {result.status for result in examine(name).values()} == {"ok"}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_contract_fails_in_the_right_checks_alone(examine: Examine, name: str) -> None:
    results = examine(name)
    assert results.keys() == check.CHECKS.keys()
    failed = not_ok(results)
    assert failed.keys() == BROKEN[name][1], failed
    for message in failed.values():
        assert "\n" not in message
        assert message.endswith(tuple(f"; see {each.read}" for each in check.CHECKS.values()))
    skipped = {key for key, result in results.items() if result.status == "skipped"}
    assert all(
        skipped & set(check.CHECKS[key].needs) or failed.keys() & set(check.CHECKS[key].needs)
        for key in skipped
    )


@pytest.mark.parametrize(
    ("name", "key", "told"),
    [
        ("MetricOfTheBatch", "metrics", "expected metric 'losses' to be (1,), got (1, 16)"),
        ("SingleMetricOfTheBatch", "metrics", "'rewards' to be () from each of 1 agents, (1,) together, got"),
        ("OutOfBounds", "bounds", "expected actions within [-1, 1], got one of size"),
        ("FlatActions", "acts", "expected actions (1, 4, 1), got (1, 4)"),
        (
            "NoSpaces",
            "declared",
            "action_spaces to be a tuple of 'continuous' or 'discrete', got ()",
        ),
        ("SpaceNotInATuple", "declared", "got 'discrete'"),
        ("OnlinePerhaps", "declared", "expected learns_online to be True or False, got 'yes'"),
        ("NotForDiscrete", "updates", "with discrete actions expected no exception, got RuntimeError: "),
        ("ChoosesInFloat", "acts", "with discrete actions expected actions of torch.int64, as discrete ones"),
        ("ChoosesOneHot", "acts", "(1, 4) together, got (1, 4, 3)"),
        ("ChoosesFromOne", "bounds", "expected actions from 0 to 2, got one that is 3"),
        ("ExploresTooFar", "explores", "expected actions within [-1, 1], got one of size 1."),
        ("ExploresFlat", "explores", "with continuous actions expected actions (1, 64, 2), got (64, 2)"),
        ("ExploresTogether", "explores_alone", "expected replica 0 of 3 to explore as it does alone, got "),
        ("NoPeriod", "period", "expected period to be None or a whole number from 1, got 0"),
        ("RepeatsLater", "period", "expected update 13 to repeat update 10, got one that calls aten."),
        ("LooksAtALoss", "period", "aten._local_scalar_dense.default, which reads a tensor's value on the"),
        ("PicksLosses", "period", "aten.index.Tensor, which indexes by a mask"),
        ("DecaysOnTheHost", "period", "aten.div.Tensor with 9 where it had 7 ("),
        ("DecaysItsOptimiser", "period", "update 10 to repeat update 8, got one that calls aten._fused_adam"),
        ("PutsInPlace", "period", "aten.lerp.Scalar with memory 0x"),
        ("BringsANumber", "period", "aten.lift_fresh.default with memory 0x"),
        ("OtherMetrics", "period", "to repeat update 7 with its metrics ['first'], got ['third']"),
        ("CountsOnTheHost", "period", "no number on the host but updates to change, got made 3 and 8"),
        ("CountsNothing", "counted", "expected updates to go [1, 2, 3, 4, 5, 6, 7, 8], got [0, 0,"),
        ("ForgetsTheOptimiser", "saves", "the loaded one to go on as the saved one, got "),
        ("ChangesTheBatch", "batch", "expected a batch as it was, got other rewards"),
        ("NoiseForAll", "noise", "(1, 16, 2)"),
        ("CannotBeBuilt", "builds", "expected no exception, got ValueError: not for you ("),
        ("Raises", "updates", "KeyError: 'undeclared'"),
        ("NoDataclass", "config", "decorated with @dataclass(frozen=True)"),
        ("ConfigOfItsOwn", "config", "must extend seqeval.algorithm.Config"),
        ("NeedsAnArgument", "config", "without arguments"),
    ],
)
def test_a_failure_says_what_was_expected_and_what_came(
    examine: Examine, name: str, key: str, told: str
) -> None:
    assert told in examine(name)[key].message


def test_an_exception_is_told_with_its_line(examine: Examine) -> None:
    code = BATCHED + SINGLE + "".join(code for code, _ in BROKEN.values())
    line = code[: code.index('raise ValueError("not for you")')].count("\n") + 1
    assert f"broken.py, line {line})" in examine("CannotBeBuilt")["builds"].message


def seqeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_prints_a_line_a_check_and_ends_with_0_or_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BATCHED + BROKEN["RandomAct"][0])
    assert seqeval("check", f"{file}:Good:learning_rate=0.1") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(check.CHECKS)
    assert all(line.startswith("ok ") for line in lines)
    assert last == f"{len(lines)} ok"
    assert seqeval("check", f"{file}:RandomAct") == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("failed ")]) == 1
    skipped = len([line for line in lines if line.startswith("skipped ")])
    assert last == f"{len(lines) - 1 - skipped} ok, 1 failed, {skipped} skipped"


@pytest.mark.parametrize(
    ("reference", "told"),
    [("bcc", "did you mean 'bc'"), ("bc:droput=0", "'dropout'"), ("nowhere.py:Mine", "nowhere.py")],
)
def test_what_cannot_be_checked_is_the_users_to_mend(
    capsys: pytest.CaptureFixture[str], reference: str, told: str
) -> None:
    assert seqeval("check", reference) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    with pytest.raises(UserError):
        list(check.examine(reference))


def test_the_readmes_algorithm_passes_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().partition("\n## Your own algorithm\n")[2].partition("\n## ")[0]
    commands, code = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    assert len(code.splitlines()) <= 80
    monkeypatch.chdir(tmp_path)
    Path("crr.py").write_text(code)
    assert "seqeval check crr.py:CRR " in commands
    assert seqeval("check", "crr.py:CRR") == 0, capsys.readouterr().out
    assert "seqeval run --datasets pendulum-replay --algorithms bc crr.py:CRR " in commands
    small = "hidden=(8,8),batch_size=32"
    study = f"run --datasets pendulum-replay --algorithms crr.py:CRR:{small},name=CRR --seeds 0 1 --jobs 1"
    protocol = "--protocol.start 19900 --protocol.grow-by 50 --evaluation.points 2 --evaluation.episodes 1"
    assert seqeval(*study.split(), *protocol.split(), "--out", "out") == 0
    rows = frame([Path("out")])
    assert set(rows["variant"]) == {"CRR"}
    assert rows.groupby("seed")["samples"].max().tolist() == [20000, 20000]
    assert (rows["status"] == "ok").all()
    assert rows["train/better"].between(0, 1).all()
