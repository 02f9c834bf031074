"""One look for every figure: sizes for a paper, colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

TEXT_WIDTH = 5.5  # inches: a NeurIPS page

# Okabe & Ito's palette (https://jfly.uni-koeln.de/color/), its yellow left out: too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# An algorithm that comes with the suite always has the same colour, whatever else is drawn.
OWN = {"bc": COLOURS[6], "td3_bc": COLOURS[0], "iql": COLOURS[1], "awac": COLOURS[2], "cql": COLOURS[3]}
DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))

RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # text that stays text
    "svg.fonttype": "none",
}


class Line(NamedTuple):
    """How a line is drawn and called."""

    label: str
    colour: str
    dash: object


def lines(variants: Iterable[tuple[str, str]], called: Mapping[str, str]) -> dict[tuple[str, str], Line]:
    """A style for each (variant, study): the colour is the variant's, the dash is of what the study is
    `called`, which the label adds in brackets unless it is empty.

    Algorithms that come with the suite keep their colours; others take the free ones in the order of first
    sight, and a second round of colours takes the next dash.
    """
    pairs = list(dict.fromkeys(variants))
    names = list(dict.fromkeys(variant for variant, _ in pairs))
    dashed = list(dict.fromkeys(called[study] for _, study in pairs))
    free = [colour for colour in COLOURS if colour not in {OWN[name] for name in names if name in OWN}]
    others = [name for name in names if name not in OWN]
    palette = [*free, *(colour for colour in COLOURS if colour not in free)]
    looks = {name: (OWN[name], 0) for name in names if name in OWN}
    for index, name in enumerate(others):
        taken, place = divmod(index, len(palette))
        looks[name] = palette[place], taken + (place >= len(free))
    found = {}
    for variant, study in pairs:
        colour, turn = looks[variant]
        label = f"{variant} ({called[study]})" if called[study] else variant
        found[variant, study] = Line(
            label, colour, DASHES[(turn + dashed.index(called[study])) % len(DASHES)]
        )
    return found


def save(figure: Figure, path: Path) -> list[Path]:
    """Saves a figure as PNG and as PDF beside each other (`path` with either ending), or as `path` says
    where it ends otherwise. Returns what was written."""
    paths = (
        [path.with_suffix(ending) for ending in (".png", ".pdf")]
        if path.suffix in (".png", ".pdf")
        else [path]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in paths:
        # No time of day in the file: the same rows give the same bytes.
        metadata = {"CreationDate": None} if file.suffix == ".pdf" else None
        figure.savefig(file, dpi=300, metadata=metadata)
    return paths


def context() -> mpl.rc_context:  # type: ignore[name-defined]
    return mpl.rc_context(RC)
