"""Evaluation in a second process while training continues.

The process has agents of its own, on the CPU, and receives the states of the evaluated agents with each
request, so on the CPU its results are the same to the last bit as those of the training process. It is not a
`multiprocessing` process: a job may itself be one, which may not have children, and scripts that run a study
need no `if __name__ == "__main__":` for it.
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
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, BinaryIO, Protocol

from seqeval import signals
from seqeval.errors import PluginError, UserError
from seqeval.evaluation import Evaluator, Policies, VisibleData
from seqeval.evaluation.runners import Outcome, SavablePolicies, timed
from seqeval.faults import plugin_error

COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from seqeval.evaluation.runners import in_subprocess; in_subprocess.serve()"
)


class EvaluationFailed(Exception):
    """The evaluating process raised; the message holds its traceback."""


class LoadablePolicies(Policies, Protocol):
    """Policies that take the states of others."""

    def load_states(self, states: Sequence[Any]) -> None: ...


class EvaluationSetup(Protocol):
    """Creates what the process needs; pickled."""

    def session(self) -> AbstractContextManager[None]:
        """The numeric settings of the training process."""

    def create(self, dataset: str) -> tuple[LoadablePolicies, list[Evaluator]]:
        """Agents and evaluators for the replicas of a dataset."""


class SubprocessRunner:
    """A process that evaluates. `close` kills it, and it ends by itself if this process ends in any way."""

    def __init__(self, setup: EvaluationSetup, env_ids: Sequence[str]) -> None:
        with signals.blocked_in_children():
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self._reply: tuple[str, Any] | None = None
        self._thread = threading.Thread(daemon=True)
        self._outbox = [_registrations(env_ids), pickle.dumps(setup)]

    def submit(self, dataset: str, agents: SavablePolicies, visible: VisibleData) -> None:
        import torch

        # Serialised at once, since training goes on to change the tensors.
        states = io.BytesIO()
        torch.save(agents.states(), states)
        self._outbox.append(pickle.dumps((dataset, visible.samples, states.getbuffer().tobytes())))
        self._reply = None
        self._thread = threading.Thread(target=self._communicate, daemon=True)
        self._thread.start()

    def _communicate(self) -> None:
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None
        assert replies is not None
        with suppress(OSError, EOFError, pickle.UnpicklingError):  # the process died: no reply
            for message in self._outbox:
                pickle.dump(message, requests)
            requests.flush()
            self._outbox.clear()
            self._reply = pickle.load(replies)

    def collect(self, seconds: float) -> Outcome | None:
        """See `EvaluationRunner`. Raises UserError for what the user can fix, for example if the process was
        killed, PluginError for a fault of an evaluator or environment, otherwise EvaluationFailed."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            return None
        if self._reply is None:
            raise _died(self._process.wait())
        kind, content = self._reply
        if kind == "outcome":
            return Outcome(*content)
        if kind == "plugin error":
            raise PluginError(*content)
        raise UserError(content) if kind == "user error" else EvaluationFailed(content)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._thread.ident is not None:
            self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # unsent requests are no longer needed
                pipe.close()


def _died(code: int) -> Exception:
    if code >= 0:
        return EvaluationFailed(f"the evaluating process ended with exit code {code} and without a reply")
    return UserError(
        f"the evaluating process was killed ({signal.Signals(-code).name}; out of memory?); run the same "
        "command again to resume"
    )


def _registrations(env_ids: Sequence[str]) -> bytes:
    """How Gymnasium creates the environments, by value if the running script registered them: the evaluating
    process does not run that script."""
    import cloudpickle
    import gymnasium

    specs = [gymnasium.registry.get(env_id.partition("?")[0]) for env_id in env_ids]
    with _script_pickled_by_value():
        return cloudpickle.dumps(specs)


@contextmanager
def _script_pickled_by_value() -> Iterator[None]:
    """Makes cloudpickle pickle what a script defines by value, also in a multiprocessing child, where the
    script's module has another name."""
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
    """The process: replies to one request after the other until it is killed or its input is closed."""
    signals.ignore()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an environment prints must not end up among the replies
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    source = os.fdopen(os.dup(0), "rb")
    threading.Thread(target=_receive, args=(source, requests), daemon=True).start()
    try:
        for outcome in _outcomes(requests):
            _send(replies, ("outcome", tuple(outcome)))
    except UserError as error:
        _send(replies, ("user error", str(error)))
    except Exception as error:
        found = plugin_error(error)
        _send(replies, ("plugin error", found.args) if found else ("bug", traceback.format_exc()))
    os._exit(0)  # the receiving thread would keep the process alive


def _receive(source: BinaryIO, requests: queue.SimpleQueue[bytes]) -> None:
    """Ends this process at once when the training process is gone."""
    try:
        while True:
            requests.put(pickle.load(source))
    finally:
        os._exit(1)


def _send(replies: BinaryIO, reply: tuple[str, Any]) -> None:
    pickle.dump(reply, replies)
    replies.flush()


def _outcomes(requests: queue.SimpleQueue[bytes]) -> Iterator[Outcome]:
    registrations, setup_bytes = requests.get(), requests.get()
    import gymnasium
    import torch

    for spec in pickle.loads(registrations):
        if spec is not None:
            gymnasium.registry.setdefault(spec.id, spec)
    torch.set_num_threads(1)
    setup: EvaluationSetup = pickle.loads(setup_bytes)
    ready: dict[str, tuple[LoadablePolicies, list[Evaluator]]] = {}
    with setup.session():
        while True:
            dataset, samples, states = pickle.loads(requests.get())
            if dataset not in ready:
                ready[dataset] = setup.create(dataset)
            agents, evaluators = ready[dataset]
            agents.load_states(torch.load(io.BytesIO(states), map_location="cpu", weights_only=True))
            yield timed(evaluators, agents, VisibleData(samples))
