"""Options and results of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from seqeval.types import Precision, Spec, Vector

Part = Literal["a", "b", "c", "d", "e", "f", "g"]
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
    parts: tuple[Part, ...] = ("a", "b", "c", "d", "e", "f", "g")
    algorithms: tuple[Algorithm, ...] = get_args(Algorithm)
    """In parts a, d and g."""
    replicas: tuple[int, ...] = (1, 5, 20, 60)
    """R, in parts a, b and d."""
    precision: Precision = "full"
    """Of part a; on the CPU the machine's peak is always that of float32."""
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
    out: Path = Path("runs/benchmark.json")
