"""Evaluations in another process, while training goes on in this one.

That process has agents of its own, on the CPU. With each question it gets the states that the agents were in,
and so it does to the last bit what they would have done here on the CPU. It is no process of
multiprocessing's: a piece of work may itself be one that may have no children, and a script that runs a
study need not stand under `if __name__ == "__main__":`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from seqeval import signals
from seqeval.errors import UserError

if TYPE_CHECKING:
    from seqeval.evaluation.episodes import Episodes, Evaluator
    from seqeval.evaluation.in_process import States
    from seqeval.training.agents import Agents

BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from seqeval.evaluation import in_subprocess; in_subprocess.serve()"
)


class EvaluationFailed(Exception):
    """The process beside raised: the message holds its traceback."""


class Beside:
    """A process that plays the episodes of R agents. It is killed by `close`, and ends by itself where this
    process does, however that comes about."""

    def __init__(self, make: Callable[[], tuple[Agents, Evaluator]], env_id: str) -> None:
        """`make` is called there, and pickled on the way."""
        import torch

        from seqeval.training import matmul

        with signals.blocked_in_children():
            self._process = subprocess.Popen(
                [sys.executable, "-c", BEGIN, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self._answer: tuple[str, Any, float] | None = None
        self._thread = threading.Thread(daemon=True)
        job = torch.get_default_dtype(), matmul.current(), make
        self._news = [_registration(env_id), pickle.dumps(job)]

    def begin(self, samples: Sequence[int], states: Callable[[], States]) -> None:
        import torch

        # As bytes at once: what they are of goes on learning.
        whole = io.BytesIO()
        torch.save(states(), whole)
        self._news.append(pickle.dumps((list(samples), whole.getbuffer().tobytes())))
        self._answer = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        with suppress(OSError, EOFError, pickle.UnpicklingError):  # it has died, and there is no answer
            for news in self._news:
                pickle.dump(news, to)
            to.flush()
            self._news.clear()
            self._answer = pickle.load(back)

    def over(self, seconds: float = 0.0) -> bool:
        if seconds:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def take(self) -> tuple[list[Episodes], float]:
        """See `here.Evaluations`. Raises UserError for what is the user's to mend, as that the process was
        killed, and else EvaluationFailed."""
        self._thread.join()
        if self._answer is None:
            raise _died(self._process.wait())
        kind, what, seconds = self._answer
        if kind == "played":
            return what, seconds
        raise UserError(what) if kind == "users" else EvaluationFailed(what)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._thread.ident is not None:
            self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was not written is not wanted any more
                pipe.close()


def _died(code: int) -> Exception:
    if code >= 0:
        return EvaluationFailed(f"the process that evaluates ended with exit code {code} and said nothing")
    return UserError(
        f"the process that evaluates was killed ({signal.Signals(-code).name}; out of memory?); the same "
        "command goes on where it was saved"
    )


def _registration(env_id: str) -> bytes:
    """How Gymnasium makes an environment, by value where it is of the script that runs: what that has
    registered, the other process has not."""
    import cloudpickle
    import gymnasium

    spec = gymnasium.registry.get(env_id.partition("?")[0])
    with _scripts_by_value():
        return cloudpickle.dumps(spec)


@contextmanager
def _scripts_by_value() -> Iterator[None]:
    """cloudpickle takes what a script defines by value, also where the script has another name because a
    process of multiprocessing's has imported it."""
    import cloudpickle

    main = sys.modules["__main__"]
    if main.__name__ == "__main__" or main.__name__ not in sys.modules:
        yield
        return
    cloudpickle.register_pickle_by_value(main)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(main)


def serve() -> None:
    """The process: answers one question after the other, until it is killed or hears no more."""
    signals.ignore()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an environment prints is no answer
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    hearing = os.fdopen(os.dup(0), "rb")
    threading.Thread(target=_listen, args=(hearing, questions), daemon=True).start()
    try:
        for answer in _answers(questions):
            _say(answers, answer)
    except UserError as error:
        _say(answers, ("users", str(error), 0.0))
    except Exception:
        _say(answers, ("ours", traceback.format_exc(), 0.0))
    os._exit(0)  # the thread that listens would keep it


def _listen(hearing: BinaryIO, questions: queue.SimpleQueue[bytes]) -> None:
    """Ends this process at once where the other end is gone, whatever it is at."""
    try:
        while True:
            questions.put(pickle.load(hearing))
    finally:
        os._exit(1)


def _say(answers: BinaryIO, answer: tuple[str, Any, float]) -> None:
    pickle.dump(answer, answers)
    answers.flush()


def _answers(questions: queue.SimpleQueue[bytes]) -> Iterator[tuple[str, Any, float]]:
    registered, job = questions.get(), questions.get()
    import gymnasium
    import torch

    from seqeval.evaluation.in_process import timed
    from seqeval.training import matmul

    spec = pickle.loads(registered)
    if spec is not None:
        gymnasium.registry.setdefault(spec.id, spec)
    torch.set_num_threads(1)
    dtype, how, make = pickle.loads(job)
    torch.set_default_dtype(dtype)
    with matmul.using(how):
        agents, evaluator = make()
        while True:
            samples, states = pickle.loads(questions.get())
            agents.load_states(torch.load(io.BytesIO(states), map_location="cpu", weights_only=True))
            yield "played", *timed(evaluator, agents, samples)
