"""Make the datasets that are part of the package: every step of an agent while it learns.

    python experiments/make_embedded.py cartpole-replay --out datasets

Each is the level full-replay of `seqeval datasets make` under another name. It includes exploration, so the
behaviour changes from random to good in the course of the file. If it is interrupted, run the same command
again to resume. The numbers depend on the processor, because rounding differs and training diverges from
the first update on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from seqeval import collect
from seqeval.collect import CollectConfig
from seqeval.errors import UserError

OUT = Path(__file__).parents[1] / "seqeval" / "datasets" / "data"
RECIPES = {
    "pendulum-replay": CollectConfig(
        *("Pendulum-v1", "SAC"),
        steps=20_000,
        transitions=20_000,
        checkpoints=10,
        settings={"learning_rate": 1e-3, "learning_starts": 1_000},
    ),
    "hopper-replay": CollectConfig(
        *("Hopper-v4", "SAC"),
        steps=60_000,
        transitions=60_000,
        seed=1,
        checkpoints=12,
        settings={"learning_starts": 1_000, "learning_rate": 1e-3, "batch_size": 256},
    ),
    "cartpole-replay": CollectConfig(
        *("CartPole-v1", "DQN"),
        steps=20_000,
        transitions=20_000,
        settings={
            "learning_rate": 1e-3,
            "batch_size": 64,
            "learning_starts": 1_000,
            "tau": 0.01,
            "target_update_interval": 1,
            "train_freq": 4,
            "gradient_steps": 2,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.04,
            "net_arch": (256, 256),
        },
    ),
}


def make(name: str, out: Path) -> None:
    """Make one dataset in a temporary folder, then move it to `out` under its name."""
    path, work = out / f"{name}.hdf5", out / f"making-{name}"
    card_path = path.with_suffix(".json")
    for old in (path, card_path):
        if old.exists():
            raise UserError(f"{old}: exists already; remove it or give another --out")
    made = work / RECIPES[name].file(work, "full-replay").name
    if not made.exists() or (work / "making").exists():
        collect.make(RECIPES[name], ["full-replay"], work, Console(stderr=True))
    card = json.loads(made.with_suffix(".json").read_text())
    card |= {"name": name, "licence": "Apache-2.0", "made_by": f"experiments/make_embedded.py {name}"}
    made.replace(path)
    card_path.write_text(json.dumps(card, indent=2) + "\n")
    made.with_suffix(".json").unlink()
    work.rmdir()
    size = path.stat().st_size / 1e6
    print(f"{path}: {size:.2f} MB, {card['transitions']} transitions, best {card['reference_max']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=list(RECIPES))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    try:
        for name in options.names:
            make(name, options.out)
    except UserError as error:
        sys.exit(f"make_embedded: {error}")


if __name__ == "__main__":
    main()
