"""Courses of agents on several datasets, whose updates are made together.

A GPU is far from full with a few replicas of small networks. Agents of one algorithm on other datasets can be
replicas beside them where observations and actions have the same sizes: each course draws from its own data
as it would alone, and what all have drawn is one minibatch of one algorithm, which holds all their replicas.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from seqeval.algorithm import Algorithm
from seqeval.replay.samplers import Draw
from seqeval.training.agents import Agents
from seqeval.training.updater import Drawn, Share, make_updater

E = TypeVar("E")


@dataclass
class Due:
    """An update that a course waits for."""

    agents: Agents
    share: Share
    draw: Draw
    updates: int  # made before
    alone: bool  # the agents act from one update to the next, so that it is not worth it to join others
    seconds: float = 0.0  # that it took, once it has been made; of one that is made for several, a share


def in_lockstep(courses: Sequence[Generator[E | Due, None, None]]) -> Iterator[E]:
    """What happens in courses of one algorithm, but the updates that are due there: it makes them.

    The courses that are furthest behind make theirs together, so that all that begin with equally many
    updates stay together; a course that is over leaves. Once one raises, all are closed.
    """
    with ExitStack() as closing:
        for course in courses:
            closing.callback(course.close)
        due: dict[int, Due] = {}
        companies: dict[tuple[int, ...], Company] = {}
        ready = list(range(len(courses)))
        while True:
            for number in ready:
                for event in courses[number]:
                    if isinstance(event, Due):
                        due[number] = event
                        break
                    yield event
            if not due:
                return
            behind = min(each.updates for each in due.values())
            ready = [number for number, each in due.items() if each.updates == behind]
            for members in _together({number: due[number] for number in ready}):
                if members not in companies:
                    for others in [others for others in companies if set(others) & set(members)]:
                        del companies[others]
                    companies[members] = Company([due[number] for number in members])
                companies[members].update([due.pop(number) for number in members])


def _together(due: Mapping[int, Due]) -> list[tuple[int, ...]]:
    """Which courses make one update."""
    several = tuple(sorted(number for number, each in due.items() if not each.alone))
    return [several] * bool(several) + [(number,) for number, each in due.items() if each.alone]


class Company:
    """Agents who learn as the replicas of one algorithm: where they are those of one course, of their own."""

    def __init__(self, due: Sequence[Due]) -> None:
        for each in due:
            each.agents.come_home()
        algorithms = [each.agents.algorithm for each in due]
        self._algorithm = algorithms[0] if len(due) == 1 else _joined(algorithms)
        self._updater = make_updater(self._algorithm, [each.share for each in due])
        self._states: list[Callable[[], Any]] = []  # of each course's replicas
        first = 0
        for algorithm in algorithms:
            replicas = range(first, first := first + len(algorithm.seeds))
            self._states.append(partial(_states, self._algorithm, replicas))

    def update(self, due: Sequence[Due]) -> None:
        """Makes the update that each of the courses waits for, in the same order."""
        began = time.perf_counter()
        self._updater.update([Drawn(each.draw, each.agents.observations) for each in due])
        seconds = time.perf_counter() - began
        for each, states in zip(due, self._states, strict=True):
            each.seconds = seconds * each.share.replicas / len(self._algorithm.seeds)
            if each.agents.algorithm is not self._algorithm:
                each.agents.learnt_elsewhere(self._algorithm.updates, states)


def _joined(algorithms: Sequence[Algorithm]) -> Algorithm:
    """All their replicas as one algorithm, each as it is now after equally many updates."""
    first = algorithms[0]
    seeds = [seed for algorithm in algorithms for seed in algorithm.seeds]
    joined = type(first)(first.spec, first.config, seeds, first.total_updates, first.device)
    joined.load_states([state for each in algorithms for state in _states(each, range(len(each.seeds)))])
    return joined


def _states(algorithm: Algorithm, replicas: range) -> list[dict[str, Any]]:
    return [algorithm.state_of(replica) for replica in replicas]
