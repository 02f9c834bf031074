"""Options and results of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from seqeval.types import Precision, Spec, Vector

Part = Literal["a", "b", "c", "d", "e", "f", "g", "h", "i"]
Algorithm = Literal[
    *("bc", "td3_bc", "iql", "awac", "cql", "rebrac", "sac_n", "edac"),
    *("bc10", "cal_ql", "dt", "fql", "qc_fql", "rlpd"),
]
OF_THE_PAPER: tuple[Algorithm, ...] = ("bc", "td3_bc", "iql", "awac", "cql")  # in its first figure
Backend = Literal["gymnasium", "envpool"]
Result = dict[str, Any]
SPEC, TRANSITIONS = Spec(Vector(11), 3), 100_000
EPISODES = 10  # per seed and evaluation


@dataclass(frozen=True)
class Options:
    parts: tuple[Part, ...] = ("a", "b", "c", "d", "e", "f", "g", "h")
    """Part i is measured with `--peers`, and then no other unless it is named."""
    algorithms: tuple[Algorithm, ...] = get_args(Algorithm)
    """In parts a, d, g and h; in part i those of the paper's first figure."""
    replicas: tuple[int, ...] = (1, 5, 20, 60)
    """R, in parts a, b, d, h and i."""
    precision: Precision = "full"
    """Of parts a, h and i; on the CPU the machine's peak is always that of float32."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 2_000_000)
    """Sizes of the datasets of part d, in transitions."""
    rounds: int = 5
    """Repetitions; medians are reported, and the fastest start-up."""
    seconds: float = 1.0
    """Minimum length of a measurement; those of the machine's peak take a tenth."""
    episode_steps: int = 200
    """Length of the episodes of part b."""
    grow_by: int = 16
    """γ of the study of part c; a larger γ makes it shorter."""
    shape: tuple[int, int, int, int] = (12, 5, 5, 200)
    """Datasets, algorithms, seeds and points per curve of the study of part f."""
    peers: Path | None = None
    """A checkout of CORL: part i compares its updates, and d3rlpy's if it is installed, with ours."""
    processes: int = 1
    """Parallel processes of part i."""
    out: Path = Path("runs/benchmark.json")
