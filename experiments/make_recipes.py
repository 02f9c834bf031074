"""Make the recipes of the package from tables of what authors publish.

    python experiments/make_recipes.py path/to/recipes

The folder holds one table per algorithm, with the columns algorithm, dataset, phase, parameter, value, source
and note, in the authors' spelling. Each becomes seqeval/recipes/ALGORITHM.csv, in the settings of our
algorithm; see `seqeval.recipes` for its columns. Parameters of the authors' own protocol (numbers of updates,
evaluations, sizes of buffers) are left out.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

OUT = Path(__file__).parents[1] / "seqeval" / "recipes"
COLUMNS = ("dataset", "phase", "setting", "value", "parameter", "source", "note")
WORDS = {"true": "True", "false": "False"}
Convert = Callable[[str, str], str]  # the authors' value and the dataset -> ours


@dataclass(frozen=True)
class Rules:
    """How the table of one algorithm is converted."""

    file: str
    method: str  # in the table
    sources: tuple[str, ...]  # repositories, the authors' first
    settings: Mapping[str, str]  # parameter -> our setting
    convert: Mapping[str, tuple[str, Convert]] = field(default_factory=dict)  # parameter -> setting, function
    fixed: Mapping[str, str] = field(default_factory=dict)  # parameter -> the only value, which is ours too
    without: Mapping[str, str] = field(default_factory=dict)  # parameter -> why it has no setting
    off: tuple[str, ...] = ("false", "none", "0.0", "0")  # values of `without` that need not be mentioned


def antmaze_scale(value: str, dataset: str) -> str:
    """ReBRAC's `normalize_reward`: 100 r in AntMaze."""
    if value == "true" and not fnmatch.fnmatch(dataset, "antmaze-*"):
        raise ValueError(f"normalize_reward of {dataset}")
    return "100.0" if value == "true" else "1.0"


LEAK = "computed from the whole dataset, most of which has not arrived"
ENSEMBLE = {
    "actor_learning_rate": "actor_learning_rate",
    "policy_lr": "actor_learning_rate",
    "critic_learning_rate": "critic_learning_rate",
    "qf_lr": "critic_learning_rate",
    "batch_size": "batch_size",
    "gamma": "discount",
    "discount": "discount",
    "tau": "target_rate",
    "soft_target_tau": "target_rate",
    "num_critics": "critics",
    "num_qs": "critics",
    "eta": "eta",
}
ENSEMBLE_FIXED = {
    "hidden_dim": "256",
    "layer_size": "256",
    "n_hidden_layers": "3",
    "num_p_layers": "3",
    "num_q_layers": "3",
    "alpha_learning_rate": "0.0003",
    "use_automatic_entropy_tuning": "true",
    "deterministic_backup": "false",
    "target_update_period": "1",
}
ENSEMBLE_WITHOUT = {
    "max_q_backup": "targets that maximise over ten sampled actions do not exist here",
    "reward_mean": LEAK,
    "reward_std": LEAK,
    "normalize_reward": LEAK,
}
EDAC_SOURCES = ("snu-mllab/EDAC", "corl-team/CORL")
RULES = {
    "rebrac": Rules(
        "rebrac.csv",
        "ReBRAC",
        ("DT6A/ReBRAC", "corl-team/CORL"),
        {
            "actor_learning_rate": "actor_learning_rate",
            "critic_learning_rate": "critic_learning_rate",
            "actor_bc_coef": "actor_penalty",
            "critic_bc_coef": "critic_penalty",
            "actor_ln": "actor_layer_norm",
            "critic_ln": "critic_layer_norm",
            "batch_size": "batch_size",
            "gamma": "discount",
            "tau": "target_rate",
            "policy_noise": "policy_noise",
            "noise_clip": "noise_clip",
            "policy_freq": "policy_delay",
            "normalize_q": "normalize_q",
            "normalize_states": "normalize_observations",
            "expl_noise": "exploration_noise",
            "min_decay_coef": "lowest_decay",
        },
        convert={"normalize_reward": ("reward_scale", antmaze_scale)},
        fixed={"hidden_dim": "256", "actor_n_hiddens": "3", "critic_n_hiddens": "3"},
        without={"use_calibration": "calibration does not exist here", "use_tanh": "does not exist here"},
    ),
    "sac_n": Rules(
        *("sac_n.csv", "SAC-N", EDAC_SOURCES, {k: v for k, v in ENSEMBLE.items() if k != "eta"}),
        fixed=ENSEMBLE_FIXED | {"eta": "-1.0"},
        without=ENSEMBLE_WITHOUT,
    ),
    "edac": Rules(
        *("edac.csv", "EDAC", EDAC_SOURCES, ENSEMBLE), fixed=ENSEMBLE_FIXED, without=ENSEMBLE_WITHOUT
    ),
    "iql": Rules(
        "iql.csv",
        "IQL",
        ("ikostrikov/implicit_q_learning",),
        {
            "batch_size": "batch_size",
            "discount": "discount",
            "expectile": "expectile",
            "temperature": "temperature",
            "tau": "target_rate",
            "actor_lr": "learning_rate",
        },
        convert={"dropout_rate": ("actor_dropout", lambda value, _: "0.0" if value == "none" else value)},
        fixed={
            "hidden_dims": "[256, 256]",
            "critic_lr": "0.0003",
            "value_lr": "0.0003",
            "log_std_min": "-5.0",
            "state_dependent_std": "false",
            "tanh_squash_distribution": "false",
        },
    ),
    "dt": Rules(
        "dt.csv",
        "DT",
        ("corl-team/CORL",),
        {
            "batch_size": "batch_size",
            "target_returns": "target_returns",
            "reward_scale": "reward_scale",
            "seq_len": "context",
            "num_layers": "layers",
            "num_heads": "heads",
            "embedding_dim": "embedding",
            "episode_len": "longest_episode",
            "learning_rate": "learning_rate",
            "warmup_steps": "learning_rate_warmup",
            "weight_decay": "weight_decay",
            "clip_grad": "gradient_clip",
            "embedding_dropout": "dropout",
        },
        fixed={"attention_dropout": "0.1", "residual_dropout": "0.1", "betas": "[0.9, 0.999]"},
    ),
    "fql": Rules(
        "fql.csv",
        "FQL",
        ("seohongpark/fql",),
        {
            "batch_size": "batch_size",
            "alpha": "alpha",
            "discount": "discount",
            "tau": "target_rate",
            "lr": "learning_rate",
            "flow_steps": "flow_steps",
            "normalize_q_loss": "normalize_q",
            "layer_norm": "layer_norm",
            "value_hidden_dims": "hidden",
        },
        convert={"q_agg": ("target_aggregation", lambda value, _: repr(value))},
        fixed={
            "actor_hidden_dims": "[512, 512, 512, 512]",
            "actor_layer_norm": "false",
            "balanced_sampling": "0",
        },
        without={"encoder": "observations are vectors"},
    ),
    "rlpd": Rules(
        "rlpd.csv",
        "RLPD",
        ("ikostrikov/rlpd",),
        {
            "batch_size": "batch_size",
            "discount": "discount",
            "tau": "target_rate",
            "actor_lr": "learning_rate",
            "num_qs": "critics",
            "num_min_qs": "min_critics",
            "backup_entropy": "backup_entropy",
            "critic_layer_norm": "layer_norm",
            "hidden_dims": "hidden",
            "utd_ratio": "actor_delay",
        },
        convert={"reward_transform": ("scale_rewards", lambda value, _: "True")},  # r - 1
        fixed={
            "critic_lr": "0.0003",
            "temp_lr": "0.0003",
            "init_temperature": "1.0",
            "offline_ratio": "0.5",
            "pretrain_steps": "0",
            "target_entropy": "-action_dim / 2",
        },
        without={"start_training": "no random steps before the first update"},
    ),
    "bc10": Rules(
        "bc.csv",
        "10% BC",
        ("corl-team/CORL",),
        {
            "batch_size": "batch_size",
            "frac": "share",
            "lr": "learning_rate",
            "normalize": "normalize_observations",
        },
        # Its network is ours without dropout.
        convert={"hidden_dims": ("dropout", lambda value, _: "0.0")},
        fixed={"discount": "1.0", "max_traj_len": "1000"},
    ),
    "qc_fql": Rules(
        "qc.csv",
        "QC-FQL",
        ("ColinQiyangLi/qc",),
        {
            "batch_size": "batch_size",
            "alpha": "alpha",
            "horizon_length": "chunk_length",
            "discount": "discount",
            "tau": "target_rate",
            "lr": "learning_rate",
            "flow_steps": "flow_steps",
            "normalize_q_loss": "normalize_q",
            "layer_norm": "layer_norm",
            "value_hidden_dims": "hidden",
        },
        convert={"q_agg": ("target_aggregation", lambda value, _: repr(value))},
        fixed={
            "action_chunking": "true",
            "actor_hidden_dims": "[512, 512, 512, 512]",
            "actor_layer_norm": "false",
            "actor_type": "distill-ddpg",
            "num_qs": "2",
            "use_fourier_features": "false",
            "utd_ratio": "1",
            "weight_decay": "0.0",
        },
        without={
            "ogbench_dataset_dir": "the study names its dataset",
            "sparse": "rewards are used as the dataset has them",
            "start_training": "no random steps before the first update",
        },
    ),
}


def convert(algorithm: str, folder: Path) -> list[dict[str, str]]:
    """The rows of an algorithm's recipes."""
    rules, rows = RULES[algorithm], []
    with (folder / rules.file).open(newline="") as file:
        table = [row for row in csv.DictReader(file) if row["algorithm"] == rules.method]
    covered: set[tuple[str, str]] = set()  # datasets and phases of the sources before
    for repository in rules.sources:
        own = [row for row in table if row["source"].partition(":")[0] == repository]
        for row in own:
            if (row["dataset"], row["phase"]) not in covered:
                rows += _converted(rules, row)
        covered |= {(row["dataset"], row["phase"]) for row in own if row["dataset"] != "*"}
    return rows


def _converted(rules: Rules, row: Mapping[str, str]) -> list[dict[str, str]]:
    """The row of a recipe, or none if the parameter is not part of it."""
    parameter, value, dataset = row["parameter"], row["value"], row["dataset"]
    setting, note = rules.settings.get(parameter), row["note"]
    if setting is not None:
        value = WORDS.get(value, value)
    elif parameter in rules.convert:
        setting, function = rules.convert[parameter]
        value = function(value, dataset)
    elif parameter in rules.without and value not in rules.off:
        setting, note = "", rules.without[parameter]
    else:
        if value != rules.fixed.get(parameter, value):
            raise ValueError(f"{row['source']}: {parameter} is {value} for {dataset}, which cannot be set")
        return []
    theirs = f"{parameter}={row['value']}"
    values = (dataset, row["phase"], setting, value, theirs, row["source"], note)
    return [dict(zip(COLUMNS, values, strict=True))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the authors' tables")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    for algorithm in RULES:
        path = options.out / f"{algorithm}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(convert(algorithm, options.folder))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
