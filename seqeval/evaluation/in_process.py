"""Evaluations, one after the other: who asks for one, goes on, and comes back for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from seqeval.evaluation.episodes import Episodes, Evaluator
from seqeval.training.agents import Agents

States = Sequence[Mapping[str, Any]]  # what `Agents.state_of` gives, of each replica


class Evaluations(Protocol):
    """Of R agents, wherever they are played."""

    def begin(self, samples: Sequence[int], states: Callable[[], States]) -> None:
        """Asks for the episodes of agents that have seen so many samples and are now in these states. The
        answer to what was asked before has been taken."""

    def over(self, seconds: float = 0.0) -> bool:
        """Whether the answer is there, now or within so many seconds."""

    def take(self) -> tuple[list[Episodes], float]:
        """The answer, waited for: the episodes of each replica, and the seconds that it took to play them.
        Raises what kept them from being played."""

    def close(self) -> None:
        """Ends what is going on, and gives back what it holds."""


class Here:
    """Plays in this process, and nothing goes on meanwhile."""

    def __init__(self, agents: Agents, evaluator: Evaluator) -> None:
        self._agents, self._evaluator = agents, evaluator
        self._answer: tuple[list[Episodes], float] | None = None

    def begin(self, samples: Sequence[int], states: Callable[[], States]) -> None:
        self._answer = timed(self._evaluator, self._agents, samples)

    def over(self, seconds: float = 0.0) -> bool:
        return True

    def take(self) -> tuple[list[Episodes], float]:
        assert self._answer is not None, "begin() comes first"
        return self._answer

    def close(self) -> None:
        self._evaluator.close()


class HereAtFirst:
    """Plays in this process until that has taken so many seconds together, and then in another: which takes
    seconds to start, and some hundred megabytes, so that it pays for those alone who evaluate for long."""

    def __init__(self, here: Callable[[], Here], other: Callable[[], Evaluations], seconds: float) -> None:
        self._here, self._other, self._left = here, other, seconds
        self._now: Evaluations | None = None

    def begin(self, samples: Sequence[int], states: Callable[[], States]) -> None:
        if self._now is None:
            self._now = self._here() if self._left > 0 else self._other()
        elif isinstance(self._now, Here) and self._left <= 0:
            self._now.close()
            self._now = self._other()
        self._now.begin(samples, states)

    def over(self, seconds: float = 0.0) -> bool:
        assert self._now is not None, "begin() comes first"
        return self._now.over(seconds)

    def take(self) -> tuple[list[Episodes], float]:
        assert self._now is not None, "begin() comes first"
        episodes, seconds = self._now.take()
        self._left -= seconds
        return episodes, seconds

    def close(self) -> None:
        if self._now is not None:
            self._now.close()


def timed(evaluator: Evaluator, agents: Agents, samples: Sequence[int]) -> tuple[list[Episodes], float]:
    """The episodes, and the seconds that it took to play them."""
    began = time.perf_counter()
    episodes = evaluator(agents.act, samples)
    return episodes, time.perf_counter() - began
