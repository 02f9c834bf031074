"""The contract of figures: how a figure is found, and how its rows are prepared."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import made_up
import pandas as pd
import pytest
from conftest import Seqeval, refused
from matplotlib.figure import Figure
from seqeval.plots import FigureKind, find, names

from seqeval import analysis, load, plots
from seqeval.errors import UserError

SOURCE = """
from matplotlib.figure import Figure
from seqeval.plots import FigureKind

def figure(rows, options):
    drawn = Figure()
    drawn.suptitle(f"{len(rows)} rows of {rows['study'].iloc[0]}")
    return drawn

WINS = FigureKind(figure)
OTHER = figure
"""


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a distribution that registers entry points in the group of figures."""
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def install(distribution: str, **entry_points: str) -> None:
        folder = tmp_path / "site" / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
        (folder / "entry_points.txt").write_text(f"[seqeval.figures]\n{lines}")
        (tmp_path / "site" / f"{distribution}.py").write_text(SOURCE)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, distribution, raising=False)

    return install


def test_a_figure_in_a_file_is_drawn_by_its_path(seqeval: Seqeval, tmp_path: Path) -> None:
    (tmp_path / "my figures.py").write_text(SOURCE)
    study = made_up.write(tmp_path, made_up.rows(study="run"))
    out = tmp_path / "wins.svg"
    ended = seqeval("plot", study, "--figure", f"{tmp_path}/my figures.py:WINS", "--out", out)
    assert ended == (0, f"{out}\n", "")
    assert "54 rows of" in out.read_text()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("wins.py:WIN", "there is no 'WIN' in this file; did you mean 'WINS'?; write path/to/file.py:Name"),
        ("wins.py", "wins.py: the name of the figure is missing; write wins.py:WINS"),
        ("wins.py:OTHER", "wins.py: OTHER is not a FigureKind of seqeval.plots"),
        ("missing.py:WINS", "No such file or directory; check the path in path/to/file.py:Name"),
        ("broken.py:WINS", "line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_without_the_figure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wins.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    with pytest.raises(UserError) as refusal:
        find(reference)
    assert message in str(refusal.value)


def test_a_figure_of_an_installed_package_is_found_by_its_name(register: Callable[..., None]) -> None:
    register("more_figures", wins="more_figures:WINS", bad="more_figures:OTHER", lost="more_figures:LOST")
    assert {"wins", "curves"} <= set(names())
    assert isinstance(find("wins"), FigureKind)
    with pytest.raises(UserError, match="is not a FigureKind"):
        find("bad")
    with pytest.raises(UserError, match=r"figure 'lost' \(more_figures:LOST\): AttributeError"):
        find("lost")


def test_a_name_that_is_defined_twice_is_refused(register: Callable[..., None]) -> None:
    register("first_figures", wins="first_figures:WINS", ranks="first_figures:WINS")
    register("second_figures", wins="second_figures:WINS")
    with pytest.raises(UserError, match="first_figures:WINS, second_figures:WINS; uninstall all but one"):
        find("wins")
    with pytest.raises(UserError, match="figure 'ranks' is built in"):
        find("ranks")


def test_rows_are_prepared_as_the_figure_declares() -> None:
    def draw(rows: object) -> Figure:
        return Figure()

    rows = made_up.rows(points=(1000, made_up.SIZE, made_up.SIZE + 100))
    rows = analysis.with_studies(rows, made_up.studies(rows))
    torn = rows[(rows["seed"] > 0) | (rows["samples"] < made_up.SIZE)]
    as_is, notes = FigureKind(draw, complete=False).prepare(torn)
    assert len(as_is) == len(torn)
    assert len(notes) == 6
    with pytest.raises(UserError, match="--leave-out-incomplete"):
        FigureKind(draw).prepare(torn)
    kept, notes = FigureKind(draw).prepare(torn, leave_out=True)
    assert set(kept["seed"]) == {1, 2}
    assert len(notes) == 6
    scored, notes = FigureKind(draw, scores=True).prepare(rows)
    assert set(scored["phase"]) == {"offline"}
    assert notes == []


@pytest.mark.parametrize("name", [name for name in names() if find(name).tables is None])
def test_every_figure_draws_what_load_returns(name: str, tmp_path: Path) -> None:
    parts = [made_up.rows(study=study) for study in ("K1", "K4")]
    paths = [
        made_up.write(tmp_path, part, updates_per_growth=k) for part, k in zip(parts, (1, 4), strict=True)
    ]
    rows = load(map(str, paths))
    assert rows["study"].unique().tolist() == ["K1", "K4"]
    assert plots.draw(rows, name).axes
    if name != "sensitivity":  # which needs several studies
        assert plots.draw(load(paths[0]), name).axes
        assert plots.draw(rows[rows["study"] == "K4"], name).axes


def test_what_draw_leaves_out_is_a_warning_and_what_it_cannot_draw_an_error(tmp_path: Path) -> None:
    whole = made_up.rows()
    torn = load(made_up.write(tmp_path, whole[(whole["seed"] > 0) | (whole["samples"] < made_up.SIZE)]))
    with pytest.raises(UserError, match="statistics need every seed"):
        plots.draw(torn, "ranks")
    with pytest.warns(UserWarning, match="one, bc, seed 0: ends at n = 2000, others at 3000"):
        assert plots.draw(torn, "ranks", leave_out_incomplete=True).axes
    with pytest.raises(UserError, match="ranks does not draw published runs"):
        plots.draw(torn, "ranks", published=torn)
    joined = pd.concat([torn, whole.assign(study="other")])
    with pytest.raises(UserError, match=r"do not describe the study 'other'; load all studies in one call"):
        plots.draw(joined)


def test_published_runs_are_refused_by_figures_that_do_not_take_them(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    (tmp_path / "wins.py").write_text(SOURCE)
    arguments = ("--figure", f"{tmp_path}/wins.py:WINS", "--published", "--out", tmp_path / "a.svg")
    assert "--published works only with --figure curves" in refused(seqeval("plot", tmp_path, *arguments))
