"""D4RL's datasets by name: searched, downloaded from a local server, refused."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import urllib3

from seqeval import cli, datasets, environments, references
from seqeval.config import Evaluation
from seqeval.datasets import _download, d4rl, embedded
from seqeval.errors import UserError
from seqeval.evaluation import VisibleData
from seqeval.evaluation.evaluators.episodes import Episodes
from seqeval.types import Dataset

HOPPER = "hopper-medium-v2"
FILE = "hopper_medium-v2.hdf5"
ROWS = {row["dataset"]: row for row in references.d4rl_table()}
ROBOTICS = importlib.util.find_spec("gymnasium_robotics") is not None
SIZES = {  # of D4RL's observations and actions
    "hopper": (11, 3),
    "halfcheetah": (17, 6),
    "walker2d": (17, 6),
    "ant": (111, 8),
    "pen": (45, 24),
    "door": (39, 28),
    "hammer": (46, 26),
    "relocate": (39, 30),
    "antmaze": (29, 8),
    "maze2d": (4, 2),
    "kitchen": (60, 9),
}


def fields_of(
    rows: int = 3000, observation: int = 11, action: int = 3, seed: int = 0
) -> dict[str, np.ndarray]:
    """D4RL's fields, episodes truncated every hundred rows; every reward is 1."""
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.standard_normal((rows, observation)).astype(np.float32),
        "next_observations": rng.standard_normal((rows, observation)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, action)).astype(np.float32),
        "rewards": np.ones(rows, np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 100 == 99,
        "infos/qpos": rng.standard_normal((rows, 6)),
        "metadata/algorithm": np.bytes_(b"SAC"),
    }


def content_of(fields: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in fields.items():
            file[name] = values
    return buffer.getvalue()


CONTENT = content_of(fields_of())
OTHER = content_of(fields_of(seed=1))  # another file, of the same length
LONGER = content_of(fields_of(3001))
assert len(CONTENT) == len(OTHER) < len(LONGER)
HALF = 3 * _download.CHUNK + 17  # bytes after which connections are interrupted
assert len(CONTENT) > HALF + _download.CHUNK


@dataclass
class Response:
    """The server's response to one request."""

    body: bytes = CONTENT
    status: int = 200
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True  # whether it supports Range
    if_range: bool = True  # whether it supports If-Range
    shift: int = 0  # offset of the range from the requested one
    length: int | None = None  # a wrong Content-Length
    endless: bool = False  # no Content-Length
    cut: int | None = None  # bytes after which it closes the connection
    before: Callable[[], Any] = lambda: None  # called before the response
    location: str | None = None  # of a redirection
    drip: float | None = None  # seconds between two single bytes of the body, which has no end
    start: bytes | None = None  # sent instead of all this, followed by single bytes without an end


@dataclass
class Server:
    """The responses to successive requests; the last one is repeated."""

    address: str
    responses: list[Response] = field(default_factory=lambda: [Response()])
    requests: list[dict[str, str]] = field(default_factory=list)  # their headers
    closed: threading.Event = field(default_factory=threading.Event)  # the test is over

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("Range") for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        state: Server = self.server.state
        response = state.responses[min(len(state.requests), len(state.responses) - 1)]
        state.requests.append(dict(self.headers))
        self.close_connection = True
        response.before()
        if response.start is not None:
            self.wfile.write(response.start)
            while not state.closed.wait(0.01):
                self.wfile.write(b"x")
            return
        begin, body = 0, response.body
        stale = response.if_range and self.headers.get("If-Range") not in (
            None,
            response.etag,
            response.modified,
        )
        if response.ranges and not stale and (requested := self.headers.get("Range")):
            begin = int(requested.removeprefix("bytes=").removesuffix("-")) + response.shift
        if begin and begin >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if begin else response.status)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        if response.etag:
            self.send_header("ETag", response.etag)
        if response.modified:
            self.send_header("Last-Modified", response.modified)
        rest = body[begin:]
        if response.location:
            self.send_header("Location", response.location)
        if not response.endless and response.drip is None:
            self.send_header("Content-Length", str(response.length or len(rest)))
        self.end_headers()
        while response.drip is not None:
            self.wfile.write(b"x")
            time.sleep(response.drip)
        self.wfile.write(rest[: response.cut])


class Http(ThreadingHTTPServer):
    state: Server

    def handle_error(self, *_: Any) -> None:
        """Print no traceback if a client disconnects."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder without configuration, proxies or pauses between attempts."""
    for name in ("SEQEVAL_DATA", "XDG_CACHE_HOME", "D4RL_DATASET_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    return tmp_path / "home"


def moved_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace D4RL's URLs by those of the local server."""
    rows = [row | {"url": f"{address}/gym_mujoco/{row['url'].rpartition('/')[2]}"} for row in ROWS.values()]
    monkeypatch.setattr(references, "d4rl_table", lambda: tuple(rows))


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Http(("127.0.0.1", 0), Handler) as http:
        state = http.state = Server(f"http://127.0.0.1:{http.server_port}")
        moved_to(state.address, monkeypatch)
        # The default poll interval of half a second would take most of the test's time.
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.closed.set()
        http.shutdown()
        thread.join()


def cached(home: Path) -> Path:
    return home / ".cache" / "seqeval" / "datasets" / FILE


def put(folder: Path, content: bytes = CONTENT, name: str = FILE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def left_over(home: Path) -> set[str]:
    """Names of the files beside the dataset, except the record of the download and the lock file."""
    names = {path.name for path in cached(home).parent.iterdir() if path.suffix != ".lock"}
    return names - {FILE, f"{FILE}.sha256.json"}


def refusal(name: str = HOPPER, env_id: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        datasets.load(name, env_id)
    message = str(caught.value)
    assert "\n" not in message
    return message


def is_content(dataset: Dataset, seed: int = 0) -> bool:
    return np.array_equal(dataset.observations, fields_of(seed=seed)["observations"])


# --- names, environments and references ---


def test_a_dataset_is_downloaded_once_with_environment_and_references(
    server: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = datasets.load(HOPPER)
    assert is_content(dataset)
    assert (dataset.name, dataset.env_id, len(dataset)) == (HOPPER, "Hopper-v4", 3000)
    assert dataset.reference is not None
    assert (dataset.reference.minimum, dataset.reference.maximum) == (-20.272305, 3234.3)
    assert dataset.reference == references.of_environment("Hopper-v4")
    assert references.of_environment("Hopper-v4?ctrl_cost_weight=1.0") is None
    assert dataset.reference.score(3234.3) == 100
    assert dataset.behaviour_return == 100  # of the 30 episodes of 100 rows
    assert dataset.card == {"url": f"{server.address}/gym_mujoco/{FILE}"}
    assert cached(home).read_bytes() == CONTENT
    files = {FILE, f"{FILE}.sha256.json"}  # no part, no lock
    assert {path.name for path in cached(home).parent.iterdir()} == files
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"downloading {server.address}/gym_mujoco/{FILE} to {cached(home)}"
    assert lines[-1] == f"{FILE}: {len(CONTENT) / 1e6:.1f} MB of {len(CONTENT) / 1e6:.1f}"

    assert datasets.load(HOPPER).digest == dataset.digest
    assert server.ranges == [None]
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    datasets.load(HOPPER)
    shown = capsys.readouterr().err
    assert "━" in shown
    assert f"{len(CONTENT) / 1e3:.1f}/{len(CONTENT) / 1e3:.1f} kB" in shown


def test_the_command_line_shows_a_dataset_of_d4rl(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["datasets", "show", HOPPER])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "Hopper-v4" in shown
    assert "D4RL: random policy and SAC expert" in shown


def test_every_name_is_listed_and_its_environment_has_d4rls_sizes(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(ROWS) == 51
    assert sorted([*ROWS, *embedded.names(), "none"]) == datasets.names()
    without = set()
    for name, row in ROWS.items():
        assert d4rl.SOURCE.owns(name)
        family = name.partition("-")[0]
        environment = d4rl._logged_in(row)
        if environment is not None:
            without.add(family)
        elif row["gymnasium_id"].startswith("Adroit") and not ROBOTICS:
            assert "pip install 'seqeval-rl[adroit]'" in refusal(name)
            continue
        else:
            environment = environments.describe(d4rl._environment(row, None))
            limit = {"pen": 100}.get(family, 200 if "Adroit" in row["gymnasium_id"] else 1000)
            assert environment.time_limit == limit
        assert (environment.observation_size, environment.actions.size) == SIZES[family], name
    assert without == {"antmaze", "maze2d", "kitchen"}
    assert not home.exists()  # no file or folder was created


def test_listing_the_names_loads_no_torch_and_no_environments() -> None:
    code = "import sys; from seqeval import datasets; print(len(datasets.names())); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, modules = ended.stdout.splitlines()
    assert int(count) >= 51
    assert not {"torch", "gymnasium_robotics", "pandas"} & set(modules.split())


@pytest.mark.parametrize("name", ["hopper-medum-v2", "hopper-medium-v0", "hopper-medium"])
def test_a_misspelt_name_is_refused_with_the_nearest_name(home: Path, name: str) -> None:
    message = refusal(name)
    assert message.startswith(f"dataset {name!r} is not known; did you mean ")
    assert repr(HOPPER) in message


def test_another_environment_is_refused_before_any_download(server: Server) -> None:
    assert "was collected in Hopper-v4, not in Walker2d-v4" in refusal(HOPPER, "Walker2d-v4")
    assert server.requests == []
    assert datasets.load(HOPPER, "Hopper-v4").env_id == "Hopper-v4"


def test_ant_observes_111_numbers_with_contact_forces_of_zero(server: Server) -> None:
    """The 84 contact forces are 0 in the data, so they must be 0 in evaluation too, at no cost."""
    fields = fields_of(300, 111, 8)
    fields["observations"][:, 27:] = fields["next_observations"][:, 27:] = 0
    server.responses = [Response(content_of(fields))]
    dataset = datasets.load("ant-medium-v2")
    assert dataset.observation_size == 111
    assert dataset.reference is not None
    assert (
        dataset.reference == references.of_environment(dataset.env_id) == references.of_environment("Ant-v4")
    )
    assert references.of_environment("Ant-v4?use_contact_forces=True") is None  # it penalizes contact
    assert (dataset.reference.minimum, dataset.reference.maximum) == (-325.6, 3879.7)
    assert not any("forces" in note for note in dataset.notes)

    def play(env_id: str, forces: bool) -> tuple[float, float]:
        """Return of 20 steps, and the largest contact force in the observations."""
        env, total, largest = environments.make(env_id), 0.0, 0.0
        env.reset(seed=0)
        for action in np.random.default_rng(0).uniform(-1, 1, (20, 8)):
            observation, reward, *_ = env.step(action)
            total += float(reward)
            largest = max(largest, float(np.abs(observation[27:]).max())) if forces else 0.0
        env.close()
        return total, largest

    plain, silent = play("Ant-v4", forces=False), play(dataset.env_id, forces=True)
    assert silent == plain
    assert play("Ant-v4?use_contact_forces=True", forces=True)[1] > 0.1  # the forces without the option


def test_contact_forces_in_ant_data_are_noted(server: Server) -> None:
    server.responses = [Response(content_of(fields_of(300, 111, 8)))]
    assert any("contact forces" in note for note in datasets.load("ant-medium-v2").notes)


@pytest.mark.skipif(not ROBOTICS, reason="gymnasium-robotics is not installed")
def test_adroit_is_loaded_and_evaluated(server: Server) -> None:
    server.responses = [Response(content_of(fields_of(300, 45, 24)))]
    dataset = datasets.load("pen-human-v1")
    assert references.of_environment("AdroitHandPen-v1") is None  # 200 steps, not 100
    assert dataset.reference == references.of_environment(dataset.env_id)
    assert any("after the pen has fallen" in note for note in dataset.notes)
    assert not any("forces" in note for note in dataset.notes)
    evaluator = Episodes(dataset.env_id, [0], Evaluation(episodes=1))
    policies = SimpleNamespace(
        target_returns=(),
        start_episodes=lambda count, target=0: None,
        act_in_episodes=lambda observations, rewards, memory: np.zeros((1, 1, 24)),
    )
    results = evaluator.evaluate(policies, VisibleData((1,)))
    evaluator.close()
    assert results["episode_lengths"] == [[100]]  # D4RL's, of the environment's own 200
    assert results["episode_successes"] != [None]


@pytest.mark.skipif(not ROBOTICS, reason="gymnasium-robotics is not installed")
def test_the_notes_on_adroits_rewards_are_true() -> None:
    """If this fails, gymnasium-robotics has changed and the note in d4rl.py must be removed."""
    env = environments.make("gymnasium_robotics:AdroitHandDoor-v1")
    env.reset(seed=0)
    _, reward, *_ = env.step(np.zeros(28))
    inner = env.unwrapped
    distance = np.linalg.norm(
        inner.data.site_xpos[inner.grasp_site_id] - inner.data.site_xpos[inner.handle_site_id]
    )
    others = -0.1 * (inner.data.qpos[inner.door_hinge_addrs] - 1.57) ** 2 - 1e-5 * np.sum(inner.data.qvel**2)
    assert reward - others == pytest.approx(0.1 * distance)
    assert distance > 0.1
    env.close()

    env = environments.make("gymnasium_robotics:AdroitHandPen-v1?max_episode_steps=100")
    env.reset(seed=0)
    fallen = False
    env.action_space.seed(0)
    for _ in range(100):
        _, reward, terminated, *_ = env.step(env.action_space.sample())
        assert not terminated
        if env.unwrapped.data.xpos[env.unwrapped.obj_body_id][2] < 0.075:
            fallen = True
            assert -7 < reward < -3
    assert fallen
    env.close()


def test_adroit_without_its_package_is_refused_with_the_command_to_install_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(d4rl, "find_spec", lambda name: None)
    message = refusal("door-human-v1")
    assert "AdroitHandDoor-v1" in message
    assert "pip install 'seqeval-rl[adroit]'" in message
    assert server.requests == []


def test_a_different_count_than_qlearning_dataset_is_noted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (note,) = [note for note in datasets.load(HOPPER, rules="qlearning").notes if "in D4RL's" in note]
    assert note == f"2970 transitions, but 999998 in D4RL's {HOPPER}"  # 30 of 3000 rows are timeouts
    assert not any("in D4RL's" in note for note in datasets.load(HOPPER).notes)

    rows = tuple(row | {"usable_transitions": "2970"} for row in references.d4rl_table())
    monkeypatch.setattr(references, "d4rl_table", lambda: rows)
    assert not any("in D4RL's" in note for note in datasets.load(HOPPER, rules="qlearning").notes)


def test_columns_are_read_as_vectors(server: Server) -> None:
    fields = fields_of()
    columns = {name: fields[name][:, None] for name in ("rewards", "terminals", "timeouts")}
    server.responses = [Response(content_of(fields | columns))]
    assert is_content(datasets.load(HOPPER))


# --- folders ---


def test_folders_are_searched_in_order(
    server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, d4rls, seed_of = tmp_path / "own", home / ".d4rl" / "datasets", {}
    for seed, folder in enumerate((cached(home).parent, d4rls, own), start=2):
        put(folder, content_of(fields_of(seed=seed)))
        seed_of[folder] = seed
    monkeypatch.setenv("SEQEVAL_DATA", str(own))
    assert is_content(datasets.load(HOPPER), seed_of[own])
    (own / FILE).unlink()
    assert is_content(datasets.load(HOPPER), seed_of[d4rls])
    (d4rls / FILE).unlink()
    assert is_content(datasets.load(HOPPER), seed_of[cached(home).parent])
    cached(home).unlink()
    assert server.requests == []

    assert is_content(datasets.load(HOPPER))
    assert {path.name for path in own.iterdir()} == {FILE, f"{FILE}.sha256.json"}  # SEQEVAL_DATA
    assert len(server.requests) == 1


def test_xdg_and_d4rl_environment_variables_are_respected(
    server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    datasets.load(HOPPER)
    assert (tmp_path / "caches" / "seqeval" / "datasets" / FILE).read_bytes() == CONTENT
    assert not home.exists()

    monkeypatch.setenv("D4RL_DATASET_DIR", str(put(tmp_path / "d4rl", OTHER).parent))
    assert is_content(datasets.load(HOPPER), seed=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize("where", ["SEQEVAL_DATA", ".d4rl", "cache"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CONTENT[:-1000], "not a readable HDF5 file"),
        (b"<html>not found</html>", "not a readable HDF5 file"),
        (content_of({k: v for k, v in fields_of().items() if k != "rewards"}), "field 'rewards' is missing"),
        (
            content_of(fields_of(observation=12)),
            "shape (3000, 12), expected (3000, 11) for 3000 'observations' of Hopper-v4",
        ),
    ],
)
def test_a_damaged_file_is_refused_and_left_unchanged(
    server: Server,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    content: bytes,
    says: str,
) -> None:
    folders = {
        "SEQEVAL_DATA": tmp_path / "own",
        ".d4rl": home / ".d4rl" / "datasets",
        "cache": cached(home).parent,
    }
    if where == "SEQEVAL_DATA":
        monkeypatch.setenv("SEQEVAL_DATA", str(folders[where]))
    path = put(folders[where], content)
    message = refusal()
    assert message.startswith(f"{path}: ")
    assert says in message
    assert f"replace it by a complete {FILE}, or remove it to have {HOPPER} downloaded" in message
    assert path.read_bytes() == content
    assert server.requests == []


# --- interrupted connections ---


def test_an_interrupted_download_is_resumed_where_it_ended(
    server: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.responses = [Response(cut=HALF), Response()]
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.requests[1]["If-Range"] == '"one"'
    assert cached(home).read_bytes() == CONTENT
    assert (
        f"{FILE}: the connection ended after {HALF} of {len(CONTENT)} bytes; trying again in 0 s"
        in capsys.readouterr().err
    )


def test_a_download_gives_up_after_several_tries_and_the_next_call_resumes_it(
    server: Server, home: Path
) -> None:
    steps = [Response(cut=1000 * (i + 1)) for i in range(_download.TRIES)]
    server.responses = steps
    message = refusal()
    have = sum(1000 * (i + 1) for i in range(_download.TRIES))
    assert (
        f"the connection ended after {have} of {len(CONTENT)} bytes; "
        f"to install it by hand, put {FILE} into {cached(home).parent}" in message
    )
    assert len(server.requests) == _download.TRIES
    assert left_over(home) == {f"{FILE}.part", f"{FILE}.part.json"}

    server.responses.append(Response())
    assert is_content(datasets.load(HOPPER))
    assert server.ranges[-1] == f"bytes={have}-"
    assert left_over(home) == set()


@pytest.mark.parametrize("known", [True, False])
def test_a_stopped_download_is_resumed_only_if_the_file_can_be_identified(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if not known:
        server.responses = [Response(etag=None, endless=True)]

    sizes = iter([HALF])

    def interrupted(response: urllib3.HTTPResponse, *_: Any, **__: Any) -> bytes:
        if size := next(sizes, None):
            return response.read(size)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.HTTPResponse, "read1", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load(HOPPER)
    assert cached(home).with_name(f"{FILE}.part").read_bytes() == CONTENT[:HALF]
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={HALF}-" if known else None]


def test_a_complete_download_that_was_not_renamed_is_not_repeated(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_download.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load(HOPPER)
    assert left_over(home) == {f"{FILE}.part", f"{FILE}.part.json"}
    assert is_content(datasets.load(HOPPER))
    assert len(server.requests) == 1


def test_a_partial_file_without_a_valid_record_is_not_resumed(server: Server, home: Path) -> None:
    put(cached(home).parent, OTHER[:HALF], f"{FILE}.part")
    assert is_content(datasets.load(HOPPER))
    put(cached(home).parent, OTHER[:HALF], f"{FILE}.part")
    put(cached(home).parent, b"{", f"{FILE}.part.json")
    cached(home).unlink()
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, None]


def test_a_server_without_ranges_sends_the_whole_file_again(server: Server, home: Path) -> None:
    server.responses = [Response(cut=HALF, ranges=False), Response(ranges=False)]
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert cached(home).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "changed",
    [
        Response(OTHER, etag='"two"'),
        Response(OTHER, etag='"two"', if_range=False),  # sends the rest of another file
        Response(OTHER, etag='W/"two"', if_range=False),
    ],
)
def test_parts_of_two_versions_are_never_joined(server: Server, home: Path, changed: Response) -> None:
    server.responses = [Response(cut=HALF), changed]
    assert is_content(datasets.load(HOPPER), seed=1)
    assert cached(home).read_bytes() == OTHER
    assert server.ranges[1] == f"bytes={HALF}-"


MONDAY, FRIDAY = "Mon, 06 Jan 2020 10:00:00 GMT", "Fri, 10 Jan 2020 10:00:00 GMT"


@pytest.mark.parametrize("etag", [None, 'W/"one"'])  # If-Range takes no weak tag
@pytest.mark.parametrize("if_range", [True, False])
def test_without_a_strong_etag_versions_are_distinguished_by_date(
    server: Server, home: Path, etag: str | None, if_range: bool
) -> None:
    server.responses = [Response(cut=HALF, etag=etag, modified=MONDAY), Response(etag=etag, modified=MONDAY)]
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.requests[1]["If-Range"] == MONDAY

    shutil.rmtree(cached(home).parent)
    server.requests.clear()
    server.responses[1] = Response(OTHER, etag=etag, modified=FRIDAY, if_range=if_range)
    assert is_content(datasets.load(HOPPER), seed=1)
    assert cached(home).read_bytes() == OTHER


def test_a_range_other_than_the_requested_one_is_rejected(server: Server, home: Path) -> None:
    server.responses = [Response(cut=HALF), Response(shift=-10), Response()]
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={HALF}-", None]
    assert cached(home).read_bytes() == CONTENT


def test_without_etags_versions_are_distinguished_by_length(server: Server, home: Path) -> None:
    server.responses = [Response(cut=HALF, etag=None), Response(LONGER, etag=None)]
    datasets.load(HOPPER)
    assert cached(home).read_bytes() == LONGER
    assert server.ranges == [None, f"bytes={HALF}-", None]
    assert "If-Range" not in server.requests[1]


def test_a_partial_file_longer_than_the_file_is_discarded(server: Server, home: Path) -> None:
    server.responses = [Response(LONGER, cut=len(CONTENT) + 10, etag=None), Response(etag=None)]
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={len(CONTENT) + 10}-", None]
    assert cached(home).read_bytes() == CONTENT


def test_without_etag_and_length_nothing_is_resumed(server: Server, home: Path) -> None:
    server.responses = [Response(cut=HALF, endless=True, etag=None), Response(endless=True, etag=None)]
    message = refusal()  # only the content shows that it is incomplete
    assert "not a readable HDF5 file" in message
    assert left_over(home) == set()
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, None]


# --- wrong files and errors ---


@pytest.mark.parametrize("lie", [100, -100])
def test_a_wrong_content_length_leaves_no_file(server: Server, home: Path, lie: int) -> None:
    server.responses = [Response(length=len(CONTENT) + lie, ranges=False)]
    message = refusal()
    expected = (
        f"the connection ended after {len(CONTENT)} of {len(CONTENT) + 100} bytes"
        if lie > 0
        else "not a readable HDF5 file"
    )
    assert expected in message
    assert not cached(home).exists()
    assert len(server.requests) == (_download.TRIES if lie > 0 else 1)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\n<!DOCTYPE html><html><body>log in first</body></html>", "a web page"),
        (b"no such thing", "not a readable HDF5 file"),
        (b"", "not a readable HDF5 file"),
        (content_of({"observations": np.zeros((3, 11))}), "field 'actions' is missing"),
    ],
)
def test_a_download_that_is_not_a_dataset_is_refused_and_deleted(
    server: Server, home: Path, body: bytes, what: str
) -> None:
    server.responses = [Response(body)]
    message = refusal()
    assert message.startswith(
        f"{server.address}/gym_mujoco/{FILE}: the downloaded file is not the dataset and was deleted"
    )
    assert what in message
    assert f"put {FILE} into {cached(home).parent} or the folder that SEQEVAL_DATA names" in message
    assert not cached(home).exists()
    assert left_over(home) == set()


@pytest.mark.parametrize("status", [404, 403])
def test_a_missing_or_forbidden_url_is_not_retried(server: Server, home: Path, status: int) -> None:
    server.responses = [Response(b"<html>gone</html>", status=status)]
    message = refusal()
    assert message.startswith(f"{server.address}/gym_mujoco/{FILE}: HTTP {status} ")
    assert f"put {FILE} into {cached(home).parent} or the folder that SEQEVAL_DATA names" in message
    assert len(server.requests) == 1
    assert left_over(home) == set()


def test_server_errors_are_retried(server: Server) -> None:
    server.responses = [Response(b"", status=503), Response(b"", status=500), Response()]
    assert is_content(datasets.load(HOPPER))
    assert len(server.requests) == 3


@pytest.mark.timeout(30)
def test_a_body_that_hardly_arrives_counts_as_a_broken_connection(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_download, "INTERVAL", 0.2)
    monkeypatch.setattr(_download, "TRIES", 2)
    server.responses = [Response(drip=0.01, etag=None, ranges=False)]
    assert "fewer than 1000 bytes per second arrive" in refusal()
    assert len(server.requests) == 2


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Endless: ", "its headers were not complete after 0.2 s"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", "fewer than 1000 bytes per second"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08000000", "fewer than 1000 bytes"),
    ],
    ids=["header", "size of a chunk", "header of gzip"],
)
def test_bytes_that_are_not_part_of_the_body_do_not_keep_a_download_alive(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, reason: str
) -> None:
    monkeypatch.setattr(_download, "INTERVAL", 0.2)
    monkeypatch.setattr(_download, "TRIES", 2)
    server.responses = [Response(start=start)]
    assert reason in refusal()
    assert len(server.requests) == 2


@pytest.mark.timeout(30)
@pytest.mark.parametrize("response", [Response(drip=0.0), Response(length=10**12)])
def test_a_body_without_an_end_is_refused_and_deleted(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, response: Response
) -> None:
    monkeypatch.setattr(_download, "MOST_BYTES", 200 if response.drip == 0 else 10**9)
    server.responses = [response]
    assert "GB, so it is not a dataset" in refusal()
    assert len(server.requests) == 1
    assert left_over(home) == set()


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/file.hdf5", "file:///etc/passwd"])
def test_a_redirection_to_another_protocol_is_refused(server: Server, home: Path, location: str) -> None:
    server.responses = [Response(b"", status=302, location=location)]
    assert "it leads to an address that cannot be used" in refusal()
    assert left_over(home) == set()


def test_a_changed_download_is_refused(server: Server, home: Path) -> None:
    datasets.load(HOPPER)
    cached(home).write_bytes(OTHER)
    assert f"{FILE}: has changed since it was downloaded; remove it to have it downloaded again" in refusal()
    cached(home).unlink()
    server.responses = [Response(OTHER)]
    message = refusal()
    assert "not the one that was downloaded earlier and was deleted; remove " in message
    assert not cached(home).exists()
    record = cached(home).with_name(f"{FILE}.sha256.json")
    assert json.loads(record.read_text()) == {
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    record.write_text("{")
    assert f"{record}: damaged" in refusal()
    record.unlink()
    assert is_content(datasets.load(HOPPER), seed=1)


@pytest.mark.parametrize("content", ["[]", "{}", '{"length": 1}', "3"])
def test_a_damaged_record_of_a_part_starts_the_download_again(
    server: Server, home: Path, content: str
) -> None:
    put(cached(home).parent, b"part", f"{FILE}.part")
    put(cached(home).parent, content.encode(), f"{FILE}.part.json")
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None]


def test_without_a_network_the_download_fails_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    moved_to(address, monkeypatch)
    monkeypatch.setattr(_download.time, "sleep", lambda _: pytest.fail("it waited"))
    monkeypatch.setenv("SEQEVAL_DATA", str(tmp_path / "own"))
    message = refusal()
    assert re.match(rf"{address}/gym_mujoco/{FILE}: the server cannot be reached \(.*refused\); ", message)
    assert f"put {FILE} into {tmp_path / 'own'} or" in message


def test_a_silent_server_times_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = threading.Event()
    monkeypatch.setattr(_download, "TIMEOUT", 0.1)
    monkeypatch.setattr(_download, "TRIES", 2)
    server.responses = [Response(b"", before=lambda: woken.wait(10))]
    try:
        assert "timed out" in refusal()
        assert len(server.requests) == 2
    finally:
        woken.set()


@pytest.mark.parametrize("own", [True, False])
def test_a_folder_that_cannot_be_written_to_is_refused(
    server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEQEVAL_DATA" if own else "XDG_CACHE_HOME", str(tmp_path / "file"))
    message = refusal()
    assert message.startswith(str(tmp_path / "file"))
    assert message.endswith("set SEQEVAL_DATA to a writable folder")
    assert server.requests == []


def test_a_full_disk_is_reported_and_the_partial_file_kept(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([HALF])

    def full(response: urllib3.HTTPResponse, *_: Any, **__: Any) -> bytes:
        if size := next(sizes, None):
            return response.read(size)
        raise OSError(28, "No space left on device")  # as writing the next chunk would

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.HTTPResponse, "read1", full)
        assert "cannot be written (No space left on device)" in refusal()
    assert is_content(datasets.load(HOPPER))
    assert server.ranges == [None, f"bytes={HALF}-"]


# --- two processes ---


def test_of_two_processes_one_downloads_and_the_other_waits(server: Server, home: Path) -> None:
    waiting = threading.Event()
    server.responses = [Response(before=lambda: waiting.wait(30)), Response(status=404)]
    code = (
        "import sys; from pathlib import Path; from seqeval.datasets import _download; "
        "_download.fetch(sys.argv[1], Path(sys.argv[2]), lambda path: None)"
    )
    command = [sys.executable, "-c", code, f"{server.address}/{FILE}", str(cached(home))]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    firsts: list[str] = []

    def first_line(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        firsts.append(process.stderr.readline())
        if "waiting for another process" in firsts[-1]:
            waiting.set()

    readers = [threading.Thread(target=first_line, args=(process,)) for process in both]
    for reader in readers:
        reader.start()
    for process, reader in zip(both, readers, strict=True):
        reader.join()
        process.communicate(timeout=30)
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(line.split()[0] for line in firsts) == ["downloading", f"{FILE}:"]
    assert len(server.requests) == 1
    assert {path.name for path in cached(home).parent.iterdir()} == {FILE, f"{FILE}.sha256.json"}
    assert cached(home).read_bytes() == CONTENT


def test_if_the_downloading_process_fails_the_waiting_one_downloads(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, waiting = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        waiting.wait(30)

    server.responses = [Response(status=404, before=hold), Response()]
    outcomes: list[str] = []

    def fetch() -> None:
        try:
            _download.fetch(f"{server.address}/{FILE}", cached(home), lambda path: None)
            outcomes.append("fetched")
        except UserError as error:
            outcomes.append(str(error))

    first, second = threading.Thread(target=fetch), threading.Thread(target=fetch)
    monkeypatch.setattr(_download, "_report", lambda line: "waiting" in line and waiting.set())
    first.start()
    assert started.wait(10)
    second.start()
    first.join()
    second.join()
    assert "HTTP 404" in outcomes[0]
    assert outcomes[1] == "fetched"
    assert cached(home).read_bytes() == CONTENT
