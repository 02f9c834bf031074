"""Imports go one way, downward through the floors of the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"errors", "signals", "streams"},
    {"disk", "operators"},
    {"types", "slicing"},
    {"settings", "scores", "environments", "arithmetic"},
    {"algorithm", "scaling", "storage", "aggregate", "behaviour", "card"},
    {"buffer", "published", "tables"},
    {"agents", "sampling", "replicas", "datasets"},
    {"evaluation", "online", "updater"},
    {"lockstep", "plugins"},
    {"protocol"},
    {"study", "policy", "check"},
    {"launch"},
    {"cli"},
]
UPWARD = {"settings": {"launch"}}  # a study of its own accord: study.run(out) is what people write
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
HEAVY = (
    *("torch", "gymnasium", "pandas", "matplotlib", "h5py", "stable_baselines3", "scipy", "plotly"),
    *("ray", "submitit", "tensorboard", "envpool"),
)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, but for those that only type checkers see."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def rooms(path: Path) -> set[str]:
    """The parts of seqeval that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("seqeval.")} & HEIGHT.keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob("seqeval/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_imports_from_a_floor_above_or_its_own(path: Path) -> None:
    room = path.relative_to(ROOT / "seqeval").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    allowed = {room, *UPWARD.get(room, ())}
    wrong = {other for other in rooms(path) - allowed if HEIGHT[other] >= HEIGHT[room]}
    assert not wrong, f"{path.name} reaches up to {wrong}"


def test_algorithms_know_only_the_contract_and_the_suite_knows_no_algorithm() -> None:
    for path in ROOT.glob("algos/*.py"):
        of_products = {"arithmetic"} if path.name == "_mlp.py" else set()
        assert rooms(path) <= {"algorithm", "types"} | of_products, path.name
    for path in ROOT.glob("seqeval/**/*.py"):
        assert not any(name.startswith("seqeval.algos.") for name in imports(path)), path.name


def test_plots_know_nothing_of_torch_and_only_the_top_draws() -> None:
    for path in ROOT.glob("plots/**/*.py"):
        assert rooms(path) <= {"aggregate", "card", "disk", "errors", "tables", "types"}, path.name
    for path in ROOT.glob("seqeval/**/*.py"):
        if any(name.startswith("seqeval.plots") for name in imports(path)):
            assert path.parent.name == "cli", path.name


def test_importing_the_package_and_its_command_line_loads_nothing_heavy() -> None:
    code = "import sys, seqeval, seqeval.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_a_card_is_worked_out_with_numpy_alone() -> None:
    path = ROOT / "seqeval" / "card.py"
    packages = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names
    assert packages == {"numpy", "seqeval"}
    assert rooms(path) == {"types"}


def test_drawing_loads_no_torch() -> None:
    code = "import sys, seqeval.plots.card, seqeval.plots.curves, seqeval.plots.report; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "torch" not in loaded
