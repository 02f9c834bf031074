"""What can be chosen of a measurement, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqeval.types import Precision, Spec

Part = Literal["a", "b", "c", "d", "e", "f", "g"]
Algorithm = Literal["bc", "td3_bc", "iql", "awac", "cql"]
Backend = Literal["gymnasium", "envpool"]
Result = dict[str, Any]
SPEC, TRANSITIONS = Spec(11, 3), 100_000
EPISODES = 10  # of each seed, in an evaluation


@dataclass(frozen=True)
class Options:
    parts: tuple[Part, ...] = ("a", "b", "c", "d", "e", "f", "g")
    algorithms: tuple[Algorithm, ...] = ("bc", "td3_bc", "iql", "awac", "cql")
    """Of the parts a, d and g."""
    replicas: tuple[int, ...] = (1, 5, 20, 60)
    """R, in the parts a, b and d."""
    precision: Precision = "full"
    """Of part a; the machine's rate stays that of float32 on the CPU."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 2_000_000)
    """Transitions of the datasets of part d."""
    rounds: int = 5
    """Turns of measuring; medians are reported, and the best start-up."""
    seconds: float = 1.0
    """Of each measurement, at least; the machine's own take a tenth."""
    episode_steps: int = 200
    """Length of the episodes of part b."""
    grow_by: int = 16
    """γ of the study of part c: the larger, the shorter it is."""
    shape: tuple[int, int, int, int] = (12, 5, 5, 200)
    """Datasets, algorithms, seeds and points of the study of part f."""
    out: Path = Path("runs/benchmark.json")
