"""The sources of published results: citation, licence, unit, and what their x axis means.

To add a source, add it to `SOURCES` and to experiments/make_published.py, which writes its files:
NAME.curves.csv.gz (learning curves on full data, then online), NAME.scores.csv (scores of tables) and
NAME.settings.csv.gz (scores of every setting of a sweep). The paper's own runs, `sujit`, have files of their
own (runs.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from seqeval.errors import UserError, nearest

PAPER = "sujit"
D4RL_SCORE = "D4RL normalised score"
SUCCESS_RATE = "success rate in %"
OUR_NAMES: Mapping[str, str] = {
    "10% BC": "bc10",
    "AWAC": "awac",
    "BC": "bc",
    "CQL": "cql",
    "Cal-QL": "cal_ql",
    "DT": "dt",
    "EDAC": "edac",
    "FQL": "fql",
    "IQL": "iql",
    "QC-FQL": "qc_fql",
    "RLPD": "rlpd",
    "ReBRAC": "rebrac",
    "SAC-N": "sac_n",
    "TD3+BC": "td3_bc",
}  # the published names of algorithms that the suite has, with its own names


@dataclass(frozen=True)
class Source:
    """A project whose results are in the package."""

    name: str
    content: str
    citation: str
    address: str  # of the repository
    file: str  # of the repository that the numbers are from
    licence: str
    unit: str  # of its scores
    x: str  # what its x axis means; a sentence, also where it has none
    spread: str  # what stands next to its means; empty where the source releases nothing


FULL_DATA = (
    "Offline, x counts gradient updates on the full dataset, which is not data seen: every update may use "
    "all of the data. Online, x counts environment steps."
)
NO_X = "No x axis: scores after training on the full dataset. Nothing says how much data they need."

_ALL = (
    Source(
        PAPER,
        "the paper's own runs: learning curves of 3 to 8 seeds on 15 D4RL datasets",
        "Sujit et al. 2023, arXiv 2212.08131 (TMLR)",
        "https://github.com/shivakanthsujit/seq_eval",
        "curves of its figures",
        "none stated",
        D4RL_SCORE,
        "x counts the transitions seen, as in our own curves; a point is the mean of a seed's evaluations in "
        "the 50 000 updates up to it.",
        "standard deviation over seeds",
    ),
    Source(
        "corl-finetune",
        "offline training and fine-tuning: learning curves of 4 seeds on AntMaze and Adroit",
        "Tarasov et al. 2023, CORL, arXiv 2210.07105 (NeurIPS Datasets and Benchmarks)",
        "https://github.com/tinkoff-ai/CORL, https://github.com/corl-team/CORL (ReBRAC)",
        "results/bin/finetune_scores.pickle",
        "Apache-2.0",
        D4RL_SCORE,
        FULL_DATA
        + " There is one update per step. The source has no x: its points were reconstructed from the "
        "configuration files.",
        "standard deviation over seeds",
    ),
    Source(
        "corl-tables",
        "offline scores of 10 algorithms on 30 D4RL datasets, 4 seeds",
        "Tarasov et al. 2023, CORL, arXiv 2210.07105 (NeurIPS Datasets and Benchmarks)",
        "https://github.com/corl-team/CORL",
        "README.md",
        "Apache-2.0",
        D4RL_SCORE,
        NO_X,
        "standard deviation over seeds",
    ),
    Source(
        "jax-corl",
        "offline scores of 4 algorithms on D4RL's locomotion datasets, 5 seeds of 5 episodes",
        "Nishimori 2024, JAX-CORL",
        "https://github.com/nissymori/JAX-CORL",
        "README.md",
        "MIT",
        D4RL_SCORE,
        NO_X + " The source does not say whether its scores are the last ones.",
        "standard deviation over seeds",
    ),
    Source(
        "qc",
        "offline training and fine-tuning: mean learning curves on 25 OGBench and 3 robomimic tasks",
        "Li, Zhou, Levine 2025, Q-chunking, arXiv 2507.07969 (NeurIPS)",
        "https://github.com/ColinQiyangLi/qc",
        "plot_data/*.pkl",
        "MIT",
        SUCCESS_RATE,
        FULL_DATA + " The number of seeds is not stated. Sparse rewards in scene and puzzle-3x3; 100 million "
        "transitions in cube-quadruple. The means over tasks (all, cube-double, ...) are the source's own. "
        "Its summary table has other offline scores, which come from another evaluation.",
        "95 % bootstrap interval",
    ),
    Source(
        "rebrac",
        "final scores of the best settings of ReBRAC, TD3+BC, IQL and SAC-RND on 36 D4RL datasets, 10 seeds",
        "Tarasov et al. 2023, ReBRAC, arXiv 2305.09836 (NeurIPS)",
        "https://github.com/DT6A/ReBRAC",
        "eop/bin/profiles_data.pickle",
        "Apache-2.0",
        D4RL_SCORE,
        NO_X + " ReBRAC's Adroit human and cloned datasets are missing in the source.",
        "standard deviation over seeds",
    ),
    Source(
        "rebrac-eop",
        "the score of every setting that ReBRAC, TD3+BC and IQL were tuned with, on 36 D4RL datasets",
        "Tarasov et al. 2023, ReBRAC, arXiv 2305.09836 (NeurIPS)",
        "https://github.com/DT6A/ReBRAC",
        "eop/bin/eop_all.pickle",
        "Apache-2.0",
        D4RL_SCORE,
        NO_X + " A score is the mean of 4 tuning seeds, so the best setting's is optimistic. The last "
        "setting of TD3+BC is its authors' (0.4).",
        "",
    ),
)
SOURCES: Mapping[str, Source] = {source.name: source for source in _ALL}


def find(name: str) -> Source:
    """The source with a name. Raises UserError, with the nearest names, if there is none."""
    if name not in SOURCES:
        raise UserError(
            f"unknown source of published results {name!r}; known: {', '.join(SOURCES)}"
            f"{nearest(name, SOURCES)}"
        )
    return SOURCES[name]


def curves(name: str) -> pd.DataFrame:
    """The learning curves of a source: dataset, algorithm, phase, x, seed, score, low, high.

    `algorithm` is the published name. A source that releases means only has no seeds (NaN) and an interval
    from `low` to `high`; others have no interval (NaN). Empty if the source has no learning curves. The
    paper's own runs are `runs`.
    """
    columns = ["dataset", "algorithm", "phase", "x", "seed", "score", "low", "high"]
    return _table(name, "curves.csv.gz").rename(columns={"mean": "score"}).reindex(columns=columns)


def settings(name: str) -> pd.DataFrame:
    """The scores of every setting of a sweep: dataset, algorithm, setting, score. Empty if there are none."""
    return _table(name, "settings.csv.gz").reindex(columns=["dataset", "algorithm", "setting", "score"])


def table_scores(name: str) -> pd.DataFrame:
    """The scores of a source's tables: dataset, algorithm, statistic, mean, std, seeds. Empty without any."""
    columns = ["dataset", "algorithm", "statistic", "mean", "std", "seeds"]
    return _table(name, "scores.csv").reindex(columns=columns)


@cache
def _table(name: str, ending: str) -> pd.DataFrame:
    """A file of a source; an empty table if the source has none. Cached, so not to be modified."""
    path = files("seqeval.analysis.published") / f"{find(name).name}.{ending}"
    if not path.is_file():
        return pd.DataFrame()
    with path.open("rb") as file:
        return pd.read_csv(file, compression="gzip" if ending.endswith(".gz") else None)


def require_dataset(name: str, known: Iterable[str]) -> None:
    """Raises UserError, with the nearest names, unless a dataset is one of the known ones."""
    known = sorted(set(known))
    if name not in known:
        raise UserError(
            f"no published results on the dataset {name!r}{nearest(name, known)}; "
            "`seqeval published show SOURCE` lists the datasets of a source"
        )
