"""Does an algorithm keep the contract of `seqeval.algorithm`? A kit of checks, each with a line to say.

In the manner of Gymnasium's `check_env`: made-up minibatches of a few transitions and a few updates, nothing
that depends on how well the algorithm learns. An algorithm of continuous and of discrete actions is put
through all of it with each.
"""

from __future__ import annotations

import copy
import io
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from seqeval import plugins
from seqeval.algorithm import ActionSpace, Algorithm, Config, Noise
from seqeval.check.tracing import Recorder, Trace
from seqeval.replay.samplers import draw_noise
from seqeval.replicated import Replicated
from seqeval.seeding import stream
from seqeval.training.updater import WARM_UP
from seqeval.types import Batch, Spec

SPECS: dict[ActionSpace, tuple[Spec, Spec]] = {
    "continuous": (Spec(observation_size=5, action_size=2), Spec(observation_size=3, action_size=1)),
    "discrete": (
        Spec(observation_size=5, action_size=3, discrete=True),
        Spec(observation_size=3, action_size=2, discrete=True),
    ),
}
SEEDS = (3, 0, 7)
BATCH_SIZE = 16
UPDATES = 8
HALF = UPDATES // 2
TOTAL_UPDATES = 100
STATES = 4  # that `act` is asked about
MANY = 64  # of them, for two policies to differ in one, and for exploration to go as far as it may
CPU = torch.device("cpu")
CLOSE = (1e-4, 1e-5)  # rtol and atol of replicas together against each alone, in float32
CLOSER = (0.0, 1e-9)  # in float64, where even what Adam would make up for shows
EXACT = (0.0, 0.0)


class Fault(Exception):
    """What an algorithm does that the contract has otherwise: what was expected, and what came."""


@dataclass(frozen=True)
class Check:
    """`run` raises Fault, or whatever the algorithm raises."""

    title: str
    read: str  # where the contract says so
    needs: tuple[str, ...]  # checks without which this one says nothing
    run: Callable[[Kit], None]


@dataclass(frozen=True)
class Result:
    """What came of a check; `message` is empty where all is well."""

    name: str
    title: str
    status: Literal["ok", "failed", "skipped"]
    message: str = ""


CHECKS: dict[str, Check] = {}


def examine(text: str) -> Iterator[Result]:
    """The result of every check of an algorithm, which is named as in a study, with settings if wanted.

    Raises UserError where there is none, or where its settings will not do.
    """
    found = plugins.find(plugins.split(text)[0])
    config = Config() if plugins.config_fault(found) else plugins.parse(text).config
    config = replace(config, batch_size=min(config.batch_size, BATCH_SIZE))
    spaces = ("continuous",) if _spaces_fault(found) else found.action_spaces
    kits = [Kit(found, config, space) for space in spaces]
    fine: set[str] = set()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a study
    try:
        for name, check in CHECKS.items():
            result = _result(name, check, kits, fine)
            if result.status == "ok":
                fine.add(name)
            yield result
    finally:
        torch.set_num_threads(threads)


def _result(name: str, check: Check, kits: Sequence[Kit], fine: set[str]) -> Result:
    if missing := [need for need in check.needs if need not in fine]:
        return Result(
            name, check.title, "skipped", f"says nothing while this is not so: {CHECKS[missing[0]].title}"
        )
    for kit in kits:
        try:
            check.run(kit)
            continue
        except Fault as fault:
            message = str(fault)
        except Exception as error:
            message = f"expected no exception, got {kit.told(error)}"
        where = f"with {kit.space} actions " if len(kits) > 1 else ""
        return Result(name, check.title, "failed", f"{where}{message}; see {check.read}")
    return Result(name, check.title, "ok")


def rule(
    title: str, read: str, needs: Sequence[str] = ()
) -> Callable[[Callable[[Kit], None]], Callable[[Kit], None]]:
    """Makes a function a check, under its own name."""

    def register(run: Callable[[Kit], None]) -> Callable[[Kit], None]:
        CHECKS[run.__name__] = Check(title, f"seqeval/algorithm.py, {read}", tuple(needs), run)
        return run

    return register


@dataclass(frozen=True)
class Trial:
    """An algorithm after `UPDATES` updates, and what was seen of them."""

    algorithm: Algorithm
    metrics: list[Any]  # of each update
    counts: list[int]  # `updates` after each
    changed: list[str]  # tensors of a batch that an update changed


class Kit:
    """An algorithm to be checked with actions of one kind, and how to put it to work."""

    def __init__(self, found: type[Algorithm], config: Config, space: ActionSpace) -> None:
        self.found, self.config, self.space = found, config, space

    def make(
        self, seeds: Sequence[int] = SEEDS, spec: Spec | None = None, device: torch.device = CPU
    ) -> Algorithm:
        return self.found(spec or SPECS[self.space][0], self.config, seeds, TOTAL_UPDATES, device)

    def sizes(self) -> list[Algorithm]:
        """One and three replicas, at two sizes of observations and actions."""
        return [self.make(seeds, spec) for spec in SPECS[self.space] for seeds in (SEEDS[:1], SEEDS)]

    @cached_property
    def fresh(self) -> list[Algorithm]:
        """Of all sizes, never updated."""
        return self.sizes()

    @cached_property
    def trials(self) -> list[Trial]:
        """Of all sizes, updated."""
        trials = []
        for algorithm in self.sizes():
            trial = Trial(algorithm, [], [], [])
            for update in range(UPDATES):
                batch, before = self.batch(algorithm, update), self.batch(algorithm, update)
                trial.metrics.append(algorithm.update(batch))
                trial.counts.append(algorithm.updates)
                trial.changed.extend(
                    name
                    for name, value in _tensors(before).items()
                    if not torch.equal(value, _tensors(batch)[name])
                )
            trials.append(trial)
        return trials

    def batch(self, algorithm: Algorithm, update: int, data_of: Sequence[int] | None = None) -> Batch:
        """What each replica gets at an update, the same in whatever company it is.

        `data_of`: the seeds that the data is drawn from, those of the algorithm unless told.
        """
        spec, size = algorithm.spec, self.config.batch_size
        rngs = [stream(seed, "check", update) for seed in (data_of or algorithm.seeds)]

        def tensor(draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
            values = np.stack([draw(rng) for rng in rngs])
            kind = torch.int64 if values.dtype == np.int64 else torch.get_default_dtype()
            return torch.from_numpy(values).to(algorithm.device, kind)

        def actions(rng: np.random.Generator) -> np.ndarray:
            if spec.discrete:
                return rng.integers(spec.action_size, size=size)
            return rng.uniform(-1, 1, (size, spec.action_size))

        return Batch(
            observations=tensor(lambda rng: rng.standard_normal((size, spec.observation_size))),
            actions=tensor(actions),
            rewards=tensor(lambda rng: rng.standard_normal(size)),
            next_observations=tensor(lambda rng: rng.standard_normal((size, spec.observation_size))),
            terminated=tensor(lambda rng: rng.random(size) < 0.3),
            noise={
                name: tensor(lambda rng, noise=noise: draw_noise(noise, 1, rng)[0])  # type: ignore[misc]
                for name, noise in algorithm.noise.items()
            },
        )

    def train(self, algorithm: Algorithm, first: int = 0, last: int = UPDATES) -> list[dict[str, Tensor]]:
        """Makes the updates from `first` up to `last`, and returns their metrics."""
        return [algorithm.update(self.batch(algorithm, update)) for update in range(first, last)]

    def observations(self, algorithm: Algorithm, states: int = STATES) -> Tensor:
        """Observations (R, states, observation) from near zero to far away; the same for each replica."""
        values = stream(0, "check", "act").standard_normal((states, algorithm.spec.observation_size))
        values *= np.logspace(-1, 3, states)[:, None]
        one = torch.from_numpy(values).to(algorithm.device, torch.get_default_dtype())
        return one.repeat(len(algorithm.seeds), 1, 1)

    def act(self, algorithm: Algorithm, states: int = STATES) -> Tensor:
        with torch.no_grad():
            return algorithm.act(self.observations(algorithm, states))

    def explore(self, algorithm: Algorithm) -> Tensor:
        """What comes of the same observations for each replica, and of noise of its own seed."""
        shape = (MANY, algorithm.spec.action_size)
        noise = [stream(seed, "check", "explore").standard_normal(shape) for seed in algorithm.seeds]
        normal = torch.from_numpy(np.stack(noise)).to(algorithm.device, torch.get_default_dtype())
        with torch.no_grad():
            return algorithm.explore(self.observations(algorithm, MANY), normal)

    def learnt(self, algorithm: Algorithm) -> Any:
        """What an algorithm has learnt. The random state of a single one is no part of that."""
        state = algorithm.state_dict()
        if isinstance(algorithm, Replicated):
            state = state | {"replicas": [replica["agent"] for replica in state["replicas"]]}
        return copy.deepcopy(state)

    def all_of(self, algorithm: Algorithm) -> dict[str, Any]:
        """What an algorithm has learnt, and what it does by it."""
        # A policy that draws at random is told by a check of its own, and not by every one that compares.
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return {"state_dict": algorithm.state_dict(), "act": self.act(algorithm)}

    def one_of(self, algorithm: Algorithm, replica: int) -> dict[str, Any]:
        """The same of one replica."""
        whole = self.all_of(algorithm)
        return {"state_dict": algorithm.state_of(replica), "act": whole["act"][replica]}

    @property
    def file(self) -> str | None:
        """The algorithm's own."""
        return getattr(sys.modules.get(self.found.__module__), "__file__", None)

    def at(self, line: int | None) -> str:
        """A line of the algorithm's own file, in brackets; nothing where there is none to tell."""
        return "" if line is None else f" ({self.file}, line {line})"

    def told(self, error: Exception) -> str:
        """An exception, and where in the algorithm's own file it came from."""
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.file]
        where = self.at(lines[-1] if lines else None)
        return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


@rule("Config is a frozen dataclass that extends seqeval.algorithm.Config", "Config")
def config(kit: Kit) -> None:
    if fault := plugins.config_fault(kit.found):
        raise Fault(fault)


@rule("action_spaces and learns_online say what it can be used for", "_Learner")
def declared(kit: Kit) -> None:
    if fault := _spaces_fault(kit.found):
        raise Fault(fault)
    online = kit.found.learns_online
    _expect(isinstance(online, bool), "learns_online to be True or False", repr(online))


@rule("it is built for 1 and 3 replicas, at two sizes", "Algorithm.__init__", ["config", "declared"])
def builds(kit: Kit) -> None:
    for algorithm in kit.fresh:
        _expect(algorithm.updates == 0, "updates to be 0 at first", algorithm.updates)


@rule("noise is declared as it can arrive", "Noise", ["builds"])
def noise(kit: Kit) -> None:
    kinds = get_args(get_type_hints(Noise)["kind"])
    for algorithm in kit.fresh:
        for name, declared in algorithm.noise.items():
            _expect(isinstance(declared, Noise), f"noise {name!r} to be a Noise", declared)
            _expect(declared.kind in kinds, f"noise {name!r} to be of {', '.join(kinds)}", declared.kind)
    for one, three in zip(kit.fresh[::2], kit.fresh[1::2], strict=True):
        told = f"the noise that one replica declares, {dict(one.noise)}, for each of three"
        _expect(three.noise == one.noise, told, dict(three.noise))


@rule("update takes a batch of 1 and 3 replicas, at two sizes", "Algorithm.update", ["noise"])
def updates(kit: Kit) -> None:
    for trial, fresh in zip(kit.trials, kit.fresh, strict=True):
        later = trial.algorithm.noise
        _expect(later == fresh.noise, f"noise to stay as declared at first, {dict(fresh.noise)}", dict(later))


@rule("metrics are (R,), finite and detached", "Algorithm.update", ["updates"])
def metrics(kit: Kit) -> None:
    for trial in kit.trials:
        shape = (len(trial.algorithm.seeds),)
        for found in trial.metrics:
            _expect(isinstance(found, dict), "update to return a dict", type(found).__name__)
            for name, value in found.items():
                metric = f"metric {name!r}"
                _expect(isinstance(value, Tensor), f"{metric} to be a tensor", type(value).__name__)
                _expect(value.shape == shape, f"{metric} to be {_of(kit, shape)}", tuple(value.shape))
                _expect(not value.requires_grad, f"{metric} to be detached", "one with a gradient")
                _expect(bool(value.isfinite().all()), f"{metric} to be finite", value.tolist())


@rule("updates counts up by one at each update", "Algorithm.updates", ["updates"])
def counted(kit: Kit) -> None:
    for trial in kit.trials:
        expected = list(range(1, UPDATES + 1))
        _expect(trial.counts == expected, f"updates to go {expected}", trial.counts)


@rule("update leaves its batch as it was", "Algorithm.update", ["updates"])
def batch(kit: Kit) -> None:
    for trial in kit.trials:
        _expect(not trial.changed, "a batch as it was", f"other {', '.join(dict.fromkeys(trial.changed))}")


@rule(
    "act maps (R, E, observation) to (R, E, action), or to (R, E) where discrete",
    "Algorithm.act",
    ["updates"],
)
def acts(kit: Kit) -> None:
    for algorithm in (*kit.fresh, *(trial.algorithm for trial in kit.trials)):
        _expect_actions(kit, algorithm, kit.act(algorithm), STATES)


@rule("actions are within [-1, 1], or from 0 to n - 1 where discrete", "Algorithm.act", ["acts"])
def bounds(kit: Kit) -> None:
    for algorithm in (*kit.fresh, *(trial.algorithm for trial in kit.trials)):
        _expect_bounds(algorithm, kit.act(algorithm))


@rule("act draws nothing at random", "Algorithm.act", ["acts"])
def steady(kit: Kit) -> None:
    algorithm = kit.fresh[-1]
    _same(kit.act(algorithm), kit.act(algorithm), "two calls of act with the same observations to agree")


@rule("the same seeds give the same numbers again", "rule 4, and SingleAlgorithm on randomness", ["acts"])
def repeats(kit: Kit) -> None:
    one, other = kit.make(), kit.make()
    _same(kit.all_of(one), kit.all_of(other), "two of the same seeds to begin alike")
    same = "two of the same seeds to learn alike from the same batches"
    _same(kit.train(one), kit.train(other), same)
    _same(kit.all_of(one), kit.all_of(other), same)


@rule("other seeds give other numbers", "Algorithm", ["acts"])
def seeds(kit: Kit) -> None:
    one, other = (kit.make([seed]) for seed in SEEDS[:2])
    for update in range(HALF):
        for algorithm in (one, other):
            algorithm.update(kit.batch(algorithm, update, data_of=SEEDS[:1]))
    differ = _difference(kit.act(one, MANY), kit.act(other, MANY), EXACT)
    _expect(differ is not None, "two seeds to act differently, as their first weights do", "the same actions")


@rule("act changes nothing", "Algorithm.act", ["repeats"])
def harmless(kit: Kit) -> None:
    plain, acting = kit.make(), kit.make()
    for update in range(HALF):
        plain.update(kit.batch(plain, update))
        acting.update(kit.batch(acting, update))
        before = copy.deepcopy(acting.state_dict())
        kit.act(acting)
        _same(before, acting.state_dict(), "the state to be as it was before act")
    _same(plain.state_dict(), acting.state_dict(), "updates to be the same with act between them")


@rule("explore returns actions as act does", "Algorithm.explore", ["bounds", "steady", "harmless"])
def explores(kit: Kit) -> None:
    for algorithm in (*kit.sizes(), *(trial.algorithm for trial in kit.trials)):
        actions = kit.explore(algorithm)
        _expect_actions(kit, algorithm, actions, MANY)
        _expect_bounds(algorithm, actions)


@rule(
    "exploration is the same again",
    "Algorithm.explore, and SingleAlgorithm on randomness",
    ["explores", "repeats"],
)
def explores_again(kit: Kit) -> None:
    one, other = kit.make(), kit.make()
    for first in (0, HALF):
        told = "the same noise and the same seeds to give the same exploration"
        _same(kit.explore(one), kit.explore(other), told)
        kit.train(one, first, first + HALF)
        kit.train(other, first, first + HALF)


@rule("explore changes nothing that is learnt", "Algorithm.explore", ["explores", "repeats"])
def explores_only(kit: Kit) -> None:
    plain, exploring = kit.make(), kit.make()
    for update in range(HALF):
        plain.update(kit.batch(plain, update))
        exploring.update(kit.batch(exploring, update))
        before = kit.learnt(exploring)
        kit.explore(exploring)
        _same(before, kit.learnt(exploring), "what is learnt to be as it was before explore")
    if not isinstance(plain, Replicated):  # whose random state goes on where it explores
        _same(kit.learnt(plain), kit.learnt(exploring), "updates to be the same with explore between them")


@rule("saved and loaded it goes on as if nothing had been", "state_dict", ["repeats"])
def saves(kit: Kit) -> None:
    straight, resumed = kit.make(), kit.make()
    kit.train(straight, 0, HALF)
    resumed.load_state_dict(_stored(straight.state_dict()))
    _same(kit.all_of(straight), kit.all_of(resumed), "the loaded one to be as the saved one")
    on = "the loaded one to go on as the saved one"
    _same(kit.train(straight, HALF), kit.train(resumed, HALF), on)
    _same(kit.all_of(straight), kit.all_of(resumed), on)


@rule("3 replicas together are 3 alone", "rules 1 to 4", ["steady", "harmless"])
def alone(kit: Kit) -> None:
    _compare_alone(kit, CLOSE)
    if not issubclass(kit.found, Replicated):
        with _float64():
            try:
                kit.train(kit.make(), 0, 1)
            except Exception:
                return  # it insists on float32: then that is how near one can look
            _compare_alone(kit, CLOSER)


def _compare_alone(kit: Kit, tolerance: tuple[float, float]) -> None:
    together = kit.make()
    found = kit.train(together)
    for replica, seed in enumerate(SEEDS):
        single = kit.make([seed])
        told = f"replica {replica} of 3 to be what it is alone"
        _same(_replica_of(kit.train(single), 0), _replica_of(found, replica), told, tolerance)
        _same(kit.one_of(single, 0), kit.one_of(together, replica), told, tolerance)


@rule("3 replicas together explore as 3 alone", "rule 2", ["alone", "explores_again", "explores_only"])
def explores_alone(kit: Kit) -> None:
    together = kit.make()
    kit.train(together, 0, HALF)
    found = kit.explore(together)
    for replica, seed in enumerate(SEEDS):
        single = kit.make([seed])
        kit.train(single, 0, HALF)
        told = f"replica {replica} of 3 to explore as it does alone"
        _same(kit.explore(single)[0], found[replica], told, CLOSE)


@rule("NaN in one replica leaves the others as they were", "rules 2 and 3", ["repeats"])
def nan(kit: Kit) -> None:
    clean, poisoned = kit.make(), kit.make()
    for update in range(UPDATES):
        clean.update(kit.batch(clean, update))
        batch = kit.batch(poisoned, update)
        if update == 1:
            batch.observations[1, 3] = batch.rewards[1, 3] = torch.nan
        poisoned.update(batch)
    for replica in (0, 2):
        told = f"replica {replica} to be the same with NaN in the batch of replica 1"
        _same(kit.one_of(clean, replica), kit.one_of(poisoned, replica), told)


@rule("replicas' states go on alone, and joined again", "Algorithm.state_of", ["saves", "alone"])
def parts(kit: Kit) -> None:
    together = kit.make()
    kit.train(together, 0, HALF)
    states = [_stored(together.state_of(replica)) for replica in range(len(SEEDS))]
    joined = kit.make()
    joined.load_states([_stored(state) for state in states])  # a copy: optimisers keep what they are given
    kit.train(together, HALF)
    for replica, seed in enumerate(SEEDS):
        single = kit.make([seed])
        single.load_state_dict(states[replica])
        kit.train(single, HALF)
        told = f"the state of replica {replica}, loaded with R = 1, to go on as among 3"
        _same(kit.one_of(together, replica), kit.one_of(single, 0), told, CLOSE)
    kit.train(joined, HALF)
    _same(kit.all_of(together), kit.all_of(joined), "replicas whose states were joined to go on as before")


@rule("with a period, updates repeat as a GPU would replay them", "Algorithm.period", ["counted"])
def period(kit: Kit) -> None:
    for device in _devices():
        algorithm = kit.make(device=device)
        period = algorithm.period
        if period is None:
            return
        whole = isinstance(period, int) and period >= 1
        _expect(whole, "period to be None or a whole number from 1", repr(period))
        first = WARM_UP * period
        kit.train(algorithm, 0, first)
        numbers = _numbers(algorithm)
        names: list[list[str]] = []
        recent: list[Trace] = []
        for update in range(first, first + period + UPDATES):
            batch = kit.batch(algorithm, update)
            with Recorder(kit.file) as recorder:
                names.append(list(algorithm.update(batch)))
            for operator in recorder.operators:
                if why := operator.waits():
                    told = f"an update without the host, got {operator.called}, which {why}"
                    raise Fault(f"expected {told}{kit.at(operator.line)}")
            recent.append(Trace(recorder.operators, _tensors(batch)))
            if len(recent) > period:
                again = f"update {update + 1} to repeat update {update + 1 - period}"
                if found := recent.pop(0).difference(recent[-1]):
                    what, line = found
                    raise Fault(f"expected {again}, got one that {what}{kit.at(line)}")
                before = names[-1 - period]
                _expect(names[-1] == before, f"{again} with its metrics {before}", names[-1])
        _same(numbers, _numbers(algorithm), "no number on the host but updates to change")


def _numbers(algorithm: Algorithm) -> dict[str, Any]:
    """What of its state is on the host, but for `updates`."""
    found = _leaves(algorithm.state_dict())
    return {name: value for name, value in found.items() if name != "updates" and not torch.is_tensor(value)}


def _devices() -> list[torch.device]:
    """Those that there are here."""
    return [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


@rule("what comes back is on the device that it was given", "Algorithm.__init__", ["explores", "metrics"])
def device(kit: Kit) -> None:
    for device in _devices():
        algorithm = kit.make(device=device)
        (found,) = kit.train(algorithm, 0, 1)
        acting = {"actions": kit.act(algorithm), "exploration": kit.explore(algorithm)}
        for name, value in (found | acting).items():
            _expect(value.device.type == device.type, f"{name} on {device}", value.device)


def _expect(true: bool, expected: str, got: object) -> None:
    if not true:
        raise Fault(f"expected {expected}, got {got}")


def _expect_actions(kit: Kit, algorithm: Algorithm, actions: Any, states: int) -> None:
    """Actions of every replica in so many states, as far as their tensor goes."""
    spec = algorithm.spec
    shape = (len(algorithm.seeds), states, *(() if spec.discrete else (spec.action_size,)))
    dtype = torch.int64 if spec.discrete else torch.get_default_dtype()
    wanted = "torch.int64, as discrete ones are" if spec.discrete else "torch's default dtype"
    _expect(isinstance(actions, Tensor), "actions in a tensor", type(actions).__name__)
    _expect(actions.shape == shape, f"actions {_of(kit, shape)}", f"{tuple(actions.shape)}")
    _expect(actions.dtype == dtype, f"actions of {wanted}", actions.dtype)
    _expect(bool(actions.isfinite().all()), "actions to be finite", "some that are not")


def _expect_bounds(algorithm: Algorithm, actions: Tensor) -> None:
    if algorithm.spec.discrete:
        highest = algorithm.spec.action_size - 1
        for action in (actions.min().item(), actions.max().item()):
            _expect(0 <= action <= highest, f"actions from 0 to {highest}", f"one that is {action}")
    else:
        largest = actions.abs().max().item()
        _expect(largest <= 1, "actions within [-1, 1]", f"one of size {largest:.4g}")


def _spaces_fault(found: type[Algorithm]) -> str | None:
    """What is wrong with the `action_spaces` of an algorithm, in words; None if nothing."""
    spaces, known = found.action_spaces, get_args(ActionSpace)
    if isinstance(spaces, tuple) and spaces and all(space in known for space in spaces):
        return None
    return f"expected action_spaces to be a tuple of {' or '.join(map(repr, known))}, got {spaces!r}"


def _same(one: Any, other: Any, expected: str, tolerance: tuple[float, float] = EXACT) -> None:
    if difference := _difference(one, other, tolerance):
        raise Fault(f"expected {expected}, got {difference}")


def _difference(one: Any, other: Any, tolerance: tuple[float, float]) -> str | None:
    """The first place where two nested values differ, in words; None where there is none."""
    ours, theirs = _leaves(one), _leaves(other)
    for path in ours.keys() ^ theirs.keys():
        return f"{path} in one of them alone"
    for path, a in ours.items():
        b = theirs[path]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            if not np.array_equal(a, b):
                return f"{path} {a!r} and {b!r}"
        elif a.shape != b.shape:
            return f"{path} {tuple(a.shape)} and {tuple(b.shape)}"
        elif not torch.allclose(a.double(), b.double(), *tolerance, equal_nan=True):
            return f"{path} different by {(a.double() - b.double()).abs().max().item():.2g}"
    return None


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """What is in nested mappings, lists and tuples, each with its path."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {path.removeprefix("."): value}
    return {p: v for key, inside in value.items() for p, v in _leaves(inside, f"{path}.{key}").items()}


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch, by name."""
    return {f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "noise"} | batch.noise


def _replica_of(found: list[dict[str, Tensor]], replica: int) -> list[dict[str, Tensor]]:
    """One replica's metrics; those of another shape are the fault of another check."""
    return [{name: value[replica] for name, value in each.items() if value.dim() == 1} for each in found]


def _stored(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a run directory."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _of(kit: Kit, shape: tuple[int, ...]) -> str:
    """A shape as the author of the algorithm sees it."""
    if issubclass(kit.found, Replicated):
        return f"{shape[1:]} from each of {shape[0]} agents, {shape} together"
    return str(shape)


@contextmanager
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
