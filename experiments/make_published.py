"""Make the published results of the package from tables of what other projects have released.

    python experiments/make_published.py path/to/published

The folder holds the tables in the layout and the spelling of their projects. For each source in
`seqeval.analysis.published.SOURCES` this writes up to three files to seqeval/analysis/published/:

NAME.curves.csv.gz    dataset, algorithm, phase, x, then seed and score, or mean, low and high
NAME.scores.csv       dataset, algorithm, statistic, mean, std, seeds
NAME.settings.csv.gz  dataset, algorithm, setting, score

x counts from the start of its phase: gradient updates offline, environment steps online. Success rates are in
percent. Left out: scores that a later version of the same table replaced, cells that the same source also has
per seed, and results that are not returns or scores of a policy.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import pandas as pd

OUT = Path(__file__).parents[1] / "seqeval" / "analysis" / "published"
OFFLINE_UPDATES = 1_000_000  # of the runs of QC
SCORES = ["dataset", "algorithm", "statistic", "mean", "std", "seeds"]


def corl_finetune(folder: Path) -> dict[str, pd.DataFrame]:
    curves = pd.read_csv(folder / "corl_finetune.csv.gz").rename(columns={"step": "x"})
    regrets = pd.read_csv(folder / "corl_finetune_regret.csv").groupby(["dataset", "algorithm"])["regret"]
    scores = regrets.agg(mean="mean", std=lambda values: values.std(ddof=0), seeds="size").reset_index()
    return {
        "curves.csv.gz": curves[["dataset", "algorithm", "seed", "phase", "x", "score"]],
        "scores.csv": scores.assign(statistic="regret")[SCORES].round(6),
    }


def tables_of(folder: Path, repository: str) -> dict[str, pd.DataFrame]:
    """The cells of a repository's tables that hold offline scores."""
    table = pd.read_csv(folder / "corl_tables.csv").rename(columns={"protocol": "statistic"})
    table = table[(table["source"] == repository) & table["statistic"].isin(["last", "best"])]
    return {"scores.csv": table.assign(seeds=5 if "JAX" in repository else 4)[SCORES]}


def qc(folder: Path) -> dict[str, pd.DataFrame]:
    files = ("qc_ogbench", "qc_ogbench_domains", "qc_robomimic")
    table = pd.concat([pd.read_csv(folder / f"{name}.csv.gz") for name in files])
    table = table.rename(
        columns={"task": "dataset", "method": "algorithm", "ci_low": "low", "ci_high": "high"}
    )
    # OGBench's own names of single tasks.
    table["dataset"] = table["dataset"].str.replace(r"-play-(task\d)$", r"-play-singletask-\1-v0", regex=True)
    learns_offline = table.groupby(["dataset", "algorithm"])["x"].transform("min") < OFFLINE_UPDATES
    online = (table["x"] > OFFLINE_UPDATES) | ~learns_offline
    table["phase"] = online.map({False: "offline", True: "online"})
    table["x"] -= OFFLINE_UPDATES * online
    table[["mean", "low", "high"]] = (100 * table[["mean", "low", "high"]]).round(4)
    return {"curves.csv.gz": table[["dataset", "algorithm", "phase", "x", "mean", "low", "high"]]}


def rebrac(folder: Path) -> dict[str, pd.DataFrame]:
    table = pd.read_csv(folder / "rebrac_eval.csv.gz").groupby(["dataset", "algorithm"])["score"]
    scores = table.agg(mean="mean", std=lambda values: values.std(ddof=0), seeds="size").reset_index()
    return {"scores.csv": scores.assign(statistic="last")[SCORES].round(4)}


def rebrac_eop(folder: Path) -> dict[str, pd.DataFrame]:
    table = pd.read_csv(folder / "rebrac_eop.csv.gz").rename(columns={"configuration": "setting"})
    return {"settings.csv.gz": table[["dataset", "algorithm", "setting", "score"]]}


def write(table: pd.DataFrame, path: Path) -> None:
    """Writes a table so that the same numbers always give the same bytes."""
    text = table.to_csv(index=False, lineterminator="\n").encode()
    path.write_bytes(gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    sources = {
        "corl-finetune": corl_finetune(options.folder),
        "corl-tables": tables_of(options.folder, "corl-team/CORL"),
        "jax-corl": tables_of(options.folder, "nissymori/JAX-CORL"),
        "qc": qc(options.folder),
        "rebrac": rebrac(options.folder),
        "rebrac-eop": rebrac_eop(options.folder),
    }
    for name, tables in sources.items():
        for ending, table in tables.items():
            path = options.out / f"{name}.{ending}"
            write(table, path)
            print(f"{path}: {len(table)} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
