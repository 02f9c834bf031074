"""Statistics and findings of cards on constructed datasets, and the contents of their figure."""

from __future__ import annotations

import textwrap
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import make_dataset
from seqeval.plots import card as drawing
from seqeval.plots import style

from seqeval import cli, datasets, environments
from seqeval.analysis import card
from seqeval.analysis.card import Card
from seqeval.types import Continuous, Dataset, Discrete, Environment, Reference, Vector

BOUNDS = Continuous(np.array([-2, -1], np.float32), np.array([2, 3], np.float32))


def made(
    lengths: tuple[int, ...] = (4, 4, 2),
    ends: str = "tct",
    dropped: tuple[int, ...] = (),
    **changed: np.ndarray,
) -> Dataset:
    """Episodes of `lengths` that terminate (t), are truncated (c) or incomplete (-).

    Row i observes (i, 1 / (i + 1)), acts (i / 100, 1 + i / 100) and is rewarded with i. The rows `dropped`
    are left out, as the data rules do where a next observation is not known; `changed` are arrays after that.
    """
    size = sum(lengths)
    rows = np.arange(size)
    last = np.cumsum(lengths) - 1
    flags = {"t": np.zeros(size, bool), "c": np.zeros(size, bool)}
    for row, end in zip(last, ends, strict=True):
        flags["t" if end == "t" else "c"][row] = True
    observations = np.stack([rows, 1 / (rows + 1)], 1).astype(np.float32)
    arrays: dict[str, np.ndarray] = {
        "observations": observations,
        "next_observations": np.concatenate([observations[1:], -observations[-1:]]),
        "actions": np.tile(np.array([[0, 1]], np.float32), (size, 1))
        + rows[:, None].astype(np.float32) / 100,
        "rewards": rows.astype(np.float32),
        "terminated": flags["t"],
        "truncated": flags["c"],
        "episode": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
    }
    returns = np.add.reduceat(arrays["rewards"].astype(np.float64), last + 1 - lengths)
    arrays = {name: np.delete(values, dropped, axis=0) for name, values in arrays.items()} | changed
    return Dataset(
        name="made-up",
        env_id="Made-v0",
        **arrays,
        episode_returns=returns,
        episode_complete=np.array([end != "-" for end in ends]),
        segments=(len(arrays["rewards"]),),
        reference=Reference(0.0, 20.0, "made up"),
        digest="",
    )


def examined(
    dataset: Dataset, actions: Continuous | Discrete = BOUNDS, time_limit: int | None = None
) -> Card:
    return card.examine(dataset, Environment("Made-v0", dataset.observation, actions, time_limit))


def test_the_statistics_of_a_sound_dataset() -> None:
    about = examined(made(), time_limit=4)
    assert (len(about.dataset), about.dropped) == (10, 0)
    assert card.facts(about)["terminated, truncated"] == "2, 1 transitions"
    assert about.lengths.tolist() == [4, 4, 2]
    assert about.dataset.episode_returns.tolist() == [6, 22, 17]
    assert about.scores is not None
    assert about.scores.tolist() == [30, 110, 85]
    assert about.reward_range == (0, 9)
    assert (about.consistent, about.duplicates, about.saturation) == (1.0, 0, (0.0, 0.0))
    assert about.rewards.counts.sum() == 10
    assert [histogram.counts.sum() for histogram in about.actions] == [10, 10]
    assert about.actions[1].edges[[0, -1]].tolist() == [-1, 3]
    assert about.findings == ()


def test_lengths_include_dropped_transitions() -> None:
    about = examined(made((4, 4, 1, 2), "tcct", dropped=(7, 8)))
    assert about.lengths.tolist() == [4, 4, 1, 2]
    assert (len(about.dataset), about.dropped) == (9, 2)
    assert about.findings == ()


def test_lengths_and_dropped_transitions_of_embedded_datasets() -> None:
    for name in ("pendulum-replay", "hopper-replay", "cartpole-replay"):
        whole, dropping = datasets.load(name), datasets.load(name, rules="qlearning")
        actions = environments.describe(whole.env_id).actions
        about, less = examined(whole, actions), examined(dropping, actions)
        assert about.dropped == 0
        assert less.lengths.tolist() == about.lengths.tolist()
        assert less.dropped == len(whole) - len(dropping) > 0


def test_incomplete_episodes_count_only_if_there_are_no_others() -> None:
    assert examined(made(ends="tc-")).counted.tolist() == [True, True, False]
    assert examined(made(ends="---")).counted.all()


def test_next_observations_are_compared_only_inside_episodes() -> None:
    data = made()
    jumping = data.next_observations.copy()
    jumping[[1, 3, 7]] += 5  # 3 and 7 end their episodes
    about = examined(replace(data, next_observations=jumping))
    assert about.consistent == 6 / 7
    alone = examined(made((1, 1, 1), "ttt"))
    assert alone.consistent is None
    assert "none inside an episode" in card.facts(alone)["next observations"]


@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "next_observations", "terminated"])
def test_a_transition_is_a_copy_only_if_every_number_is_equal(field: str) -> None:
    """Rows 0, 4 and 9 are equal until the sign of one number changes."""
    data = made()
    names = ("observations", "actions", "rewards", "next_observations", "terminated")
    arrays = {name: getattr(data, name).copy() for name in names}
    arrays["rewards"][0] = 5
    for values in arrays.values():
        values[[4, 9]] = values[0]
    copies = replace(data, **arrays)
    assert examined(copies).duplicates == 2
    assert "2 transitions (20 %) are exact copies of another" in examined(copies).findings
    changed = arrays[field]
    changed[4] = ~changed[4] if field == "terminated" else -changed[4]
    assert examined(replace(data, **arrays)).duplicates == 1


def test_copies_are_counted_as_numpy_counts_them() -> None:
    rng = np.random.default_rng(0)
    size = 20_000  # more than two chunks
    small = {name: rng.integers(0, 3, (size, 2)).astype(np.float32) for name in ("observations", "actions")}
    rows = np.concatenate([*small.values(), np.zeros((size, 1), np.float32)], 1)
    data = made((size,), "c", **small, next_observations=small["observations"], rewards=rows[:, 4])
    assert examined(data).duplicates == size - len(np.unique(rows, axis=0))
    different = made((size,), "c", observations=rng.random((size, 2), np.float32))
    assert examined(different).duplicates == 0


# --- findings ---


def finding(about: Card) -> str:
    (found,) = about.findings
    return found


def test_constant_rewards_are_a_finding() -> None:
    assert finding(examined(made(rewards=np.full(10, 0.5, np.float32)))) == "every reward is 0.5"


def test_episodes_that_end_early_without_any_terminal_are_a_finding() -> None:
    early = finding(examined(made(ends="ccc"), time_limit=4))
    assert early.startswith("no transition is terminal, yet 1 of 3 episodes end before")
    assert examined(made((4, 4, 2), "cc-"), time_limit=4).findings == ()  # the file ends, not the episode
    assert examined(made((4, 4), "cc", dropped=(3, 7)), time_limit=4).findings == ()
    assert examined(made(ends="ccc")).findings == ()


def test_terminals_at_the_time_limit_are_a_finding() -> None:
    late = finding(examined(made((4, 4, 2), "ttt"), time_limit=4))
    assert late.startswith("2 of 3 terminals are at the environment's limit of 4 steps: are they timeouts?")
    assert examined(made((4, 2, 2), "ttt"), time_limit=4).findings == ()


def test_episodes_longer_than_the_limit_are_a_finding() -> None:
    assert finding(examined(made((5, 3, 2), "ttt"), time_limit=4)).startswith("1 of 3 episodes are longer")


def test_a_log_without_any_episode_end_is_a_finding() -> None:
    assert finding(examined(made((10,), "-"))).startswith("no episode is complete")
    assert finding(examined(made(ends="t-t"))) == "1 episodes before the last are not complete"


def test_observations_that_never_change_are_a_finding() -> None:
    data = made()
    observations = data.observations.copy()
    observations[:, 1] = 7
    assert finding(examined(replace(data, observations=observations))) == (
        "of 2 numbers in an observation number 1 never changes"
    )
    still = replace(data, next_observations=data.observations)
    assert examined(still).findings == ("8 non-terminal transitions leave the observation unchanged",)


def test_actions_at_a_bound_are_a_finding_with_the_worst_dimension() -> None:
    actions = made().actions.copy()
    actions[:4, 0], actions[5:9, 1] = (-2, 2, 1.9995, 5), -1
    actions[9, 1] = -0.99
    about = examined(made(actions=actions))
    assert about.saturation == (0.4, 0.4)
    assert finding(about) == "40 % of the numbers in actions are at a bound, most of all in number 0: 40 %"
    assert about.actions[0].counts[[0, -1]].tolist() == [1, 3]  # values beyond a bound count there
    assert "40 % of their numbers" in card.facts(about)["actions"]


def test_actions_that_never_change_are_a_finding() -> None:
    actions = made().actions.copy()
    actions[:, 0] = 0.5
    assert finding(examined(made(actions=actions))) == "of 2 numbers in an action number 0 never changes"


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ([5, 6, 8], "of 5 actions numbers 7 and 9 are never taken"),
        ([5, 6, 8, 9], "of 5 actions number 7 is never taken"),
        ([9], "of 5 actions numbers 5, 6, 7 and 8 are never taken"),
    ],
)
def test_discrete_actions_that_are_never_taken_are_a_finding(taken: list[int], words: str) -> None:
    about = examined(made(actions=np.resize(taken, 10).astype(np.int64)), Discrete(5, 5))
    assert finding(about) == words
    assert about.actions[0].counts.tolist() == [np.resize(taken, 10).tolist().count(n) for n in range(5, 10)]
    assert card.facts(about)["action"] == "one of 5"
    assert f"{taken[0]}: " in card.facts(about)["actions"]


def test_many_dimensions_are_counted_instead_of_listed() -> None:
    data = made(observations=np.ones((10, 30), np.float32), next_observations=np.zeros((10, 30), np.float32))
    assert finding(examined(data)) == "of 30 numbers in an observation 30 never change"


# --- formatting ---


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (1e-6, "< 0.1 %"), (1 - 1e-6, "> 99.9 %"), (0.3849, "38.5 %"), (0.5, "50 %")],
)
def test_shares_are_never_rounded_to_none_or_all(share: float, text: str) -> None:
    assert card.percent(share) == text


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [0.0, 0.0],
        [1e-45, 2e-45],
        [1.0, np.nextafter(1.0, 2)],
        [-3e38, 3e38],
        [1e300, -1e300],
        [0.0, 1.0, 2.0, 1e9],
        [5e-324, 0.0],
    ],
)
def test_a_histogram_counts_everything_whatever_the_range(values: list[float]) -> None:
    found = card.histogram(np.array(values))
    assert found.counts.sum() == len(values)
    assert (np.diff(found.edges) > 0).all()
    assert found.edges[0] <= min(values)
    assert found.edges[-1] >= max(values)


def test_a_histogram_equals_numpys() -> None:
    values = np.random.default_rng(0).standard_normal(30_000)
    mine, (counts, edges) = card.histogram(values, 20), np.histogram(values, 20)
    assert np.abs(mine.counts - counts).sum() <= 2  # rounding at the edges differs
    np.testing.assert_allclose(mine.edges, edges)


def test_the_chart_fits_80_columns_and_shows_every_count() -> None:
    values = np.r_[np.zeros(1_000_000), -1.2345e-9, -987654.321]
    lines = card.chart(values)
    assert len(lines) == 8
    assert max(map(len, lines)) <= 80
    assert [int(line.split()[-1]) for line in lines] == [1, 0, 0, 0, 0, 0, 0, 1_000_001]
    assert "▏" in lines[0]
    assert "█" * 40 in lines[-1]


def test_every_fact_fits_80_columns() -> None:
    facts = card.facts(examined(made(), time_limit=4))
    assert all(len(key) + 2 + len(value) <= 80 for key, value in facts.items())
    assert textwrap.shorten(facts["scores"], 80) == "mean 75.00, highest 110.00"


def test_computing_a_card_takes_little_memory() -> None:
    data = make_dataset(episodes=2000, length=100)
    environment = Environment("Pendulum-v1", Vector(3), Continuous(np.full(1, -2.0), np.full(1, 2.0)), 100)
    own = sum(value.nbytes for value in vars(data).values() if isinstance(value, np.ndarray))
    tracemalloc.start()
    card.examine(data, environment)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * own  # rows of Pendulum are 42 bytes, and eight more for each row count


# --- the figure and the command ---


def test_the_figure_shows_the_statistics_of_the_card() -> None:
    about = examined(made(ends="tc-"))
    figure = drawing.figure(about)
    returns, _, rewards, order, actions = figure.axes
    assert figure.get_suptitle() == "made-up: 10 transitions, 3 episodes"
    assert returns.get_xlabel() == "score (dashed: mean, 70.0)"
    assert returns.lines[0].get_xdata()[0] == 70
    assert returns.patches[0].get_data().values.sum() == 2  # the third episode is not complete
    assert rewards.patches[0].get_data().values.sum() == 10
    complete, cut = (collection.get_offsets().tolist() for collection in order.collections)
    assert (complete, cut) == ([[0, 30], [4, 110]], [[8, 85]])
    assert "hollow" in order.get_xlabel()
    assert [text.get_text() for text in actions.get_yticklabels()] == ["0", "1"]
    for place, patch in enumerate(actions.patches):
        shape = patch.get_data()
        heights = (shape.values - shape.baseline) / drawing.RIDGE
        highest = max(histogram.counts.max() for histogram in about.actions)
        np.testing.assert_allclose(heights * highest, about.actions[place].counts, atol=1e-9)


def test_without_references_the_figure_is_in_returns() -> None:
    returns, *_, actions = drawing.figure(
        examined(replace(made(actions=np.arange(10) % 2), reference=None), Discrete(2, 0))
    ).axes
    assert returns.get_xlabel() == "return (dashed: mean, 15.0)"
    assert [bar.get_height() for bar in actions.patches] == [0.5, 0.5]


def test_the_figure_is_reproducible(tmp_path: Path) -> None:
    about = examined(made())
    first, again = (style.save(drawing.figure(about), tmp_path / f"{name}.png") for name in "ab")
    assert [path.suffix for path in first] == [".png", ".pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_the_show_command_prints_and_draws_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["datasets", "show", "pendulum-replay", "--figure", str(tmp_path / "card.png")])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "lengths                median 200, from 200 to 200 steps" in shown
    assert "Returns of 100 episodes:" in shown
    assert "suspicious" not in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.pdf", "card.png"]


def test_the_show_command_prints_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, size = tmp_path / "twice.hdf5", 400
    with h5py.File(path, "w") as file:
        file.attrs["env_id"] = "Pendulum-v1"
        for name, width in (("observations", 3), ("next_observations", 3), ("actions", 1)):
            file[name] = np.tile(np.arange(200.0)[:, None] / 200 + np.arange(width), (2, 1))
        file["rewards"] = np.zeros(size)
        file["terminals"] = np.arange(size) % 200 == 199
    with pytest.raises(SystemExit):
        cli.main(["datasets", "show", str(path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("suspicious")]
    for part in (
        "every reward is 0",
        "2 of 2 terminals are at",
        "leave the observation unchanged",
        "200 transitions (50 %)",
    ):
        assert any(part in line for line in lines), part
    assert len(lines) == 4


def test_the_show_command_refuses_an_unknown_figure_format_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["datasets", "show", "nowhere.hdf5", "--figure", "card.jpeg"])
    assert ended.value.code == 2
    assert ".png, .pdf or .svg" in capsys.readouterr().err


def test_the_only_action_dimension_is_drawn_as_shares_between_its_bounds() -> None:
    actions = np.array([[-2], [-2], [-2], [0], [0], [0], [0], [0], [2], [2]], np.float32)
    bounds = Continuous(np.array([-2], np.float32), np.array([2], np.float32))
    figure = drawing.figure(examined(made(actions=actions), bounds))
    (ax,) = [ax for ax in figure.axes if ax.get_xlabel() == "action"]
    assert ax.get_ylabel() == "share of transitions"
    assert ax.get_xlim() == (-2, 2)
    (steps,) = ax.patches
    shares = steps.get_data().values
    assert shares.sum() == pytest.approx(1)
    assert (shares[0], shares[-1]) == pytest.approx((0.3, 0.2))
    ax.get_figure().draw_without_rendering()
    assert all(tick.get_text().endswith("%") for tick in ax.get_yticklabels())
