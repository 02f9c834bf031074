"""Files of images: their layouts, and what is wrong with them in one line."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from image_data import env_id, slow_stack

from seqeval import datasets
from seqeval.analysis import card
from seqeval.datasets import _memory
from seqeval.environments import of
from seqeval.errors import UserError
from seqeval.frames import FrameStacks
from seqeval.types import Continuous, Dataset, Discrete, Image


def random_frames(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *(shape or (2, 3, 4))), np.uint8)


def fields(observations: np.ndarray, terminals: Sequence[int] = (2,), timeouts: Sequence[int] = (5,)) -> dict:
    """D4RL's fields: the rows where episodes terminate, and where they are cut."""
    rows = np.arange(len(observations))
    return {
        "observations": observations,
        "actions": rows % 3,
        "rewards": rows.astype(np.float32),
        "terminals": np.isin(rows, terminals),
        "timeouts": np.isin(rows, timeouts),
    }


def write(path: Path, raw: dict[str, Any], packed: tuple[int, ...] = (), **attributes: Any) -> str:
    with h5py.File(path, "w") as file:
        for key, values in raw.items():
            file[key] = values
        if packed:
            file["observations"].attrs["bit_packed_shape"] = packed
        file.attrs.update(attributes)
    return str(path)


def refusal(name: str, environment: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        datasets.load(name, environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def frames_in(dataset: Dataset) -> int:
    assert isinstance(dataset.observations, FrameStacks)
    return sum(map(len, dataset.observations.frames.parts))


# --- D4RL's layout ---


def test_single_frames_become_stacks_and_a_cut_step_without_next_frame_is_dropped(tmp_path: Path) -> None:
    frames = random_frames(8)
    dataset = datasets.load(write(tmp_path / "a.hdf5", fields(frames), env_id=env_id(2)))
    assert dataset.observation == Image(2, 3, 4, 2)
    # Rows 5 and 7 are cut, at a timeout and at the end of the file.
    assert dataset.rewards.tolist() == [0, 1, 2, 3, 4, 6]
    starts = {0: 0, 1: 0, 2: 0, 3: 3, 4: 3, 5: 6}
    for place, row in enumerate([0, 1, 2, 3, 4, 6]):
        start = starts[place]
        assert (dataset.observations[place] == slow_stack(frames[start:], row - start, 2)).all()
        if row != 2:  # a terminal one
            assert (dataset.next_observations[place] == slow_stack(frames[start:], row + 1 - start, 2)).all()
    assert (dataset.next_observations[2][2:] == frames[2]).all()


def test_of_next_observations_only_the_last_of_each_episode_are_stored(tmp_path: Path) -> None:
    frames = random_frames(8)
    following = np.concatenate([frames[1:], random_frames(1, seed=1)])
    following[[2, 5]] = random_frames(2, seed=2)
    raw = fields(frames) | {"next_observations": following}
    dataset = datasets.load(write(tmp_path / "a.hdf5", raw, env_id=env_id(2)))
    assert len(dataset) == 8
    assert frames_in(dataset) == 8 + 3
    assert (dataset.next_observations[:][:, 2:] == following).all()
    assert (dataset.next_observations[:][:, :2] == frames).all()
    assert not any("inside episodes" in note for note in dataset.notes)


def test_channels_that_come_last_are_moved_and_reported(tmp_path: Path) -> None:
    frames = random_frames(8)
    first = datasets.load(write(tmp_path / "a.hdf5", fields(frames), env_id=env_id(2)))
    moved = fields(np.ascontiguousarray(np.moveaxis(frames, 1, -1)))
    last = datasets.load(write(tmp_path / "b.hdf5", moved, env_id=env_id(2)))
    assert (last.observations[:] == first.observations[:]).all()
    assert "images have their channels last, 3×4×2: taken as 2×3×4" in last.notes
    np.savez(tmp_path / "c.npz", **moved)
    npz = datasets.load(str(tmp_path / "c.npz"), env_id(2))
    assert npz.digest == last.digest == first.digest


def test_without_an_environment_the_file_says_what_images_are(tmp_path: Path) -> None:
    frames = random_frames(8, 3, 12, 10)
    path = write(tmp_path / "a.hdf5", fields(frames), frame_stack=3)
    dataset = datasets.load(path, "none")
    assert dataset.observation == Image(3, 12, 10, 3)
    assert of(dataset).actions == Discrete(3, 0)
    grey = datasets.load(write(tmp_path / "b.hdf5", fields(frames[:, 0])), "none")
    assert grey.observation == Image(1, 12, 10, 1)


def test_images_of_on_and_off_become_0_and_255(tmp_path: Path) -> None:
    on = random_frames(8, 4, 10, 10) < 60
    packed = fields(np.packbits(on.reshape(8, -1), axis=1))
    bits = datasets.load(write(tmp_path / "a.hdf5", packed, (4, 10, 10)), "none")
    flags = datasets.load(write(tmp_path / "b.hdf5", fields(on)), "none")
    numbers = datasets.load(write(tmp_path / "c.hdf5", fields(on.astype(np.uint8))), "none")
    for dataset in (bits, flags, numbers):
        assert dataset.observation == Image(4, 10, 10, 1)
        assert (dataset.observations[:3] == on[:3] * np.uint8(255)).all()
    assert "images hold only 0 and 1: taken as off and on, 0 and 255" in numbers.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.astype(np.float32) / 255, "holds images of float32; store uint8 from 0 to 255"),
        (lambda f: f.astype(np.int64), "holds images of int64; store uint8 from 0 to 255"),
        (lambda f: f[:, :, :2], "holds images of 2×2×4, expected 2×3×4; is this the right environment"),
        (lambda f: np.concatenate([f] * 3, 1), "holds images of 6×3×4, expected 2×3×4; store single frames"),
        (lambda f: f[:0], "field 'observations' is empty"),
    ],
)
@pytest.mark.parametrize("with_next", [False, True])
def test_images_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, change, message: str, with_next: bool
) -> None:
    raw = fields(change(random_frames(8)))
    raw |= {"next_observations": raw["observations"]} if with_next else {}
    assert message in refusal(write(tmp_path / "a.hdf5", raw, env_id=env_id(3)))


def test_fields_of_unequal_length_and_damaged_images_are_refused(tmp_path: Path) -> None:
    raw = fields(random_frames(8)) | {"next_observations": random_frames(8)}
    short = raw | {"terminals": raw["terminals"][:5]}
    assert "field 'terminals' has shape (5,)" in refusal(write(tmp_path / "a.hdf5", short, env_id=env_id(2)))
    short = raw | {"next_observations": raw["next_observations"][:5]}
    message = refusal(write(tmp_path / "b.hdf5", short, env_id=env_id(2)))
    assert "field 'next_observations' holds 5 images, 'observations' 8" in message
    path = tmp_path / "c.hdf5"
    with h5py.File(path, "w") as file:
        for key, values in raw.items():
            file.create_dataset(key, data=values, compression="gzip" if values.ndim > 1 else None)
        offset = file["observations"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 20] = bytes(20)
    path.write_bytes(content)
    assert "field 'observations' cannot be read completely" in refusal(str(path), env_id(2))


def test_a_stack_longer_than_every_episode_is_refused(tmp_path: Path) -> None:
    raw = fields(random_frames(8))
    assert datasets.load(write(tmp_path / "a.hdf5", raw, env_id=env_id(4))).observation == Image(2, 3, 4, 4)
    message = refusal(write(tmp_path / "b.hdf5", raw, env_id=env_id(5)))
    assert "frame_stack is 5, but the longest episode has 4 frames; use a smaller frame_stack" in message


@pytest.mark.parametrize("stack", [0, True, 1.5])
def test_a_frame_stack_is_a_whole_number(tmp_path: Path, stack) -> None:
    path = write(tmp_path / "a.hdf5", fields(random_frames(8)), frame_stack=stack)
    assert "attribute 'frame_stack' must be a whole number" in refusal(path, "none")
    assert "frame_stack must be a whole number" in refusal(path, env_id(stack))


def test_images_that_do_not_fit_into_memory_stay_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = random_frames(400, 3, 30, 30)
    raw = fields(frames, terminals=[99, 199], timeouts=[299])
    path = write(tmp_path / "a.hdf5", raw, frame_stack=2)
    loaded = datasets.load(path, "none")
    monkeypatch.setattr(_memory, "free_memory", lambda: frames.nbytes)
    mapped = datasets.load(path, "none")
    assert isinstance(mapped.observations, FrameStacks)
    (part,) = mapped.observations.frames.parts
    assert isinstance(part, np.memmap)
    assert (mapped.observations[:] == loaded.observations[:]).all()
    assert any("they are read from the file whenever they are sampled" in note for note in mapped.notes)
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        for key, values in raw.items():
            file.create_dataset(key, data=values, compression="gzip" if values.ndim > 1 else None)
    assert "cannot be read from the file as they are needed" in refusal(str(tmp_path / "b.hdf5"), "none")


def test_a_mixture_of_images_shares_the_frames_of_its_parts(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write(tmp_path / f"{name}.hdf5", fields(random_frames(8, seed=seed)), env_id=env_id(2))
    one, other = (datasets.load(str(tmp_path / f"{name}.hdf5")) for name in "ab")
    mixture = datasets.load(f"mix:{tmp_path}/a.hdf5:4+{tmp_path}/b.hdf5")
    assert (mixture.observations[:] == np.concatenate([one.observations[:4], other.observations[:]])).all()
    assert (mixture.next_observations[4:] == other.next_observations[:]).all()
    assert mixture.truncated[3]
    assert frames_in(mixture) == 16


def test_a_card_describes_images(tmp_path: Path) -> None:
    frames = random_frames(8)
    frames[4] = frames[3]
    dataset = datasets.load(write(tmp_path / "a.hdf5", fields(frames), env_id=env_id(2)))
    found = card.examine(dataset, of(dataset))
    assert card.facts(found)["observation"] == "2 frames of 2×3×4, channels first"
    assert found.consistent == 1
    assert found.duplicates == 0
    assert "1 non-terminal transition leave the observation unchanged" in found.findings


# --- V-D4RL ---


def v_d4rl_episode(length: int, size: int, seed: int) -> dict[str, np.ndarray]:
    rng, rows = np.random.default_rng(seed), np.arange(length)
    return {
        "observation": random_frames(length, 3, size, size, seed=seed),
        "action": rng.uniform(-1, 1, (length, 6)).astype(np.float32),
        "reward": rows.astype(np.float32),
        "discount": np.ones(length, np.float32),
        "step_type": np.select([rows == 0, rows == length - 1], [0, 2], 1).astype(np.int64),
    }


def write_hdf5(path: Path, *episodes: dict[str, np.ndarray], rows: slice = slice(None)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key in episodes[0]:
            values = np.concatenate([episode[key] for episode in episodes])[rows]
            file.create_dataset(key, data=values, compression="gzip")


def write_npz(path: Path, episode: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = episode["step_type"]
    np.savez_compressed(
        path,
        image=np.moveaxis(episode["observation"], 1, -1),
        action=episode["action"],
        reward=episode["reward"],
        discount=episode["discount"],
        is_first=kinds == 0,
        is_last=kinds == 2,
        is_terminal=np.zeros(len(kinds), bool),
    )


def check_v_d4rl(dataset: Dataset, episodes: list[dict[str, np.ndarray]]) -> None:
    """Row t of the file has the action that led to its image."""
    assert dataset.observation.shape == (9, *episodes[0]["observation"].shape[2:])
    row = 0
    for episode in episodes:
        for step in range(1, len(episode["action"])):
            frames = episode["observation"]
            assert (dataset.observations[row] == slow_stack(frames, step - 1, 3)).all()
            assert (dataset.next_observations[row] == slow_stack(frames, step, 3)).all()
            assert (dataset.actions[row] == episode["action"][step]).all()
            assert dataset.rewards[row] == step
            row += 1
    assert row == len(dataset)
    assert dataset.truncated.sum() == len(episodes)
    assert not dataset.terminated.any()
    assert dataset.episode_complete.all()
    assert dataset.reference is not None
    assert dataset.reference.score(500.0) == 50


def test_v_d4rl_is_read_from_shards_of_hdf5(tmp_path: Path) -> None:
    folder = tmp_path / "walker_walk" / "medium" / "84px"
    episodes = [v_d4rl_episode(length, 12, seed) for seed, length in enumerate((5, 4, 6))]
    write_hdf5(
        folder / "0.hdf5", *episodes, rows=slice(0, 7)
    )  # the second episode continues in the next file
    write_hdf5(folder / "1.hdf5", *episodes, rows=slice(7, None))
    dataset = datasets.load(f"v-d4rl:{folder}", "none")
    check_v_d4rl(dataset, episodes)
    assert dataset.name == "walker_walk-medium-84px"
    space = of(dataset).actions
    assert isinstance(space, Continuous)
    assert space.low.tolist() == [-1] * 6


def test_v_d4rl_is_read_from_an_npz_file_for_each_episode(tmp_path: Path) -> None:
    episodes = [v_d4rl_episode(length, 12, seed) for seed, length in enumerate((5, 4))]
    for number, episode in enumerate(episodes):
        write_npz(tmp_path / f"{number}.npz", episode)
    dataset = datasets.load(f"v-d4rl:{tmp_path}", "none")
    check_v_d4rl(dataset, episodes)
    assert any("channels last" in note for note in dataset.notes)


def test_v_d4rl_that_does_not_fit_into_memory_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = [v_d4rl_episode(60, 20, seed) for seed in range(2)]
    for number, episode in enumerate(episodes):
        write(tmp_path / f"{number}.hdf5", episode)
    monkeypatch.setattr(_memory, "free_memory", lambda: episodes[0]["observation"].nbytes)
    dataset = datasets.load(f"v-d4rl:{tmp_path}", "none")
    check_v_d4rl(dataset, episodes)
    assert isinstance(dataset.observations, FrameStacks)
    assert [isinstance(part, np.memmap) for part in dataset.observations.frames.parts] == [True, True]
    write_hdf5(tmp_path / "0.hdf5", episodes[0])
    assert "`h5repack -l CONTI` writes it again" in refusal(f"v-d4rl:{tmp_path}", "none")


def test_v_d4rl_of_mixed_sizes_or_without_a_field_is_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "0.hdf5", v_d4rl_episode(5, 12, 0))
    write_hdf5(tmp_path / "1.hdf5", v_d4rl_episode(5, 10, 0))
    assert "holds images of 3×10×10, but 0.hdf5 of 3×12×12" in refusal(f"v-d4rl:{tmp_path}", "none")
    write_hdf5(tmp_path / "1.hdf5", {"observation": random_frames(5, 3, 12, 12)})
    assert "field 'action' of V-D4RL is missing" in refusal(f"v-d4rl:{tmp_path}", "none")
    assert "has no .hdf5 or .npz files" in refusal(f"v-d4rl:{tmp_path}/nothing")
    write_hdf5(tmp_path / "1.hdf5", v_d4rl_episode(5, 12, 0))
    assert "no part of the path names a task" in refusal(f"v-d4rl:{tmp_path}")


# --- DQN Replay ---


def write_checkpoint(folder: Path, number: int, **arrays: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for field, values in arrays.items():
        with gzip.open(folder / f"$store$_{field}_ckpt.{number}.gz", "wb") as file:
            np.save(file, values)


def dopamine(frames: np.ndarray, lengths: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """A checkpoint of whole episodes, and of a last one that is cut, each padded with three empty frames."""
    columns: dict[str, list] = {"observation": [], "action": [], "reward": [], "terminal": []}
    first = 0
    for number, length in enumerate(lengths):
        for _ in range(3):
            for column, value in zip(columns.values(), (np.zeros_like(frames[0]), 0, 0, 0), strict=True):
                column.append(value)
        for step in range(length):
            ends = step == length - 1 and number < len(lengths) - 1
            values = (frames[first], 1 + first % 3, float(first), ends)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            first += 1
    types = {"observation": np.uint8, "action": np.int32, "reward": np.float32, "terminal": np.uint8}
    return {key: np.array(values, types[key]) for key, values in columns.items()}


def test_dqn_replay_leaves_out_padding_and_keeps_stacks_within_episodes(tmp_path: Path) -> None:
    folder, frames = tmp_path / "Breakout" / "1" / "replay_logs", random_frames(12, 8, 8)
    write_checkpoint(folder, 0, **dopamine(frames, (4, 5, 3)))
    write_checkpoint(folder, 1, **dopamine(frames[::-1].copy(), (6, 6)))
    dataset = datasets.load(f"dqn-replay:{folder}", "none")
    assert dataset.observation == Image(1, 8, 8, 4)
    # The last step of a checkpoint has no next observation.
    assert dataset.rewards.tolist() == [*range(11), *range(11)]
    assert np.flatnonzero(dataset.terminated).tolist() == [3, 8, 11 + 5]
    singles = frames[:, None]
    for row, (start, step) in {0: (0, 0), 3: (0, 3), 4: (4, 0), 8: (4, 4), 10: (9, 1)}.items():
        assert (dataset.observations[row] == slow_stack(singles[start:], step, 4)).all()
    assert (dataset.next_observations[9] == slow_stack(singles[9:], 1, 4)).all()
    assert (dataset.observations[11 + 6] == slow_stack(singles[::-1][6:], 0, 4)).all()
    one = datasets.load(f"dqn-replay:{folder}?checkpoints=1", "none")
    assert len(one) == 11
    assert (one.observations[:] == dataset.observations[11:]).all()
    assert "rewards are clipped to [-1, 1] in the logs, but not in evaluation" in one.notes


def test_dqn_replay_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    name = f"dqn-replay:{tmp_path}"
    assert "has no files $store$_observation_ckpt.N.gz" in refusal(name, "none")
    made = dopamine(random_frames(8, 8, 8), (4, 4))
    write_checkpoint(tmp_path, 0, **made)
    assert "has no checkpoint 1; it has 0-0" in refusal(f"{name}?checkpoints=0-1", "none")
    assert "write ?checkpoints=3" in refusal(f"{name}?first=1", "none")
    assert "no part of the path names a game" in refusal(name)
    write_checkpoint(tmp_path, 0, reward=made["reward"][:3])
    assert "has shape (3,), but the images of the checkpoint" in refusal(name, "none")
    (tmp_path / "$store$_reward_ckpt.0.gz").write_bytes(b"no")
    assert "not a gzipped NumPy array" in refusal(name, "none")
    (tmp_path / "$store$_reward_ckpt.0.gz").unlink()
    assert "no such file" in refusal(name, "none")


# --- the embedded data set ---


def test_breakout_replay_shows_an_agent_that_learns() -> None:
    pytest.importorskip("minatar")
    dataset = datasets.load("breakout-replay")
    assert dataset.observation == Image(4, 10, 10, 1)
    assert 40_000 <= len(dataset) <= 60_000
    assert np.unique(dataset.observations[:1000]).tolist() == [0, 255]
    returns = dataset.episode_returns
    assert returns[-200:].mean() > 4 * returns[:200].mean()
    file = resources.files("seqeval.datasets.data") / "breakout-replay.hdf5"
    assert len(file.read_bytes()) <= 1_000_000
    # The brick that a step removes, from the picture of one step to the next, gives its reward.
    bricks = (dataset.observations[:300][:, 3] > 0).sum((1, 2)).astype(int)
    inside = dataset.episode[1:300] == dataset.episode[:299]
    removed = bricks[:-1] - bricks[1:]
    assert (removed[inside] == dataset.rewards[:299][inside]).all()
