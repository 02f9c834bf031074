"""Imports go one way: from the command line down to the data types."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # a part may import from the layers above it in this list only
    {"durations", "errors", "signals", "seeding"},
    {"types", "time_left"},
    {"frames"},
    {"atomic_io", "loading", "slicing", "sweeps", "validation", "faults"},
    {"algorithm", "config", "figure_options", "references", "environments", "recipes"},
    {"replay", "analysis", "datasets", "replicated"},
    {"plugins"},
    {"evaluation", "collect"},
    {"training"},
    {"check", "execution"},
    {"policy"},
    {"policy_episodes"},
    {"choosing", "video"},
    {"cli"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
HEAVY = (
    *("torch", "gymnasium", "pandas", "matplotlib", "h5py", "stable_baselines3", "scipy", "plotly"),
    *("ray", "submitit", "tensorboard", "wandb", "envpool"),
)


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, relative imports included, except for type checkers only."""
    found: set[str] = set()
    package = module_name(path).rpartition(".")[0] if path.name != "__init__.py" else module_name(path)

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            name = ".".join(filter(None, [*parents, node.module]))
            found.update({name, *(f"{name}.{alias.name}" for alias in node.names)})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def module_name(path: Path) -> str:
    """The name under which a file is imported; algos/ and plots/ are installed inside the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "seqeval" else ("seqeval", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parts(path: Path) -> set[str]:
    """The parts of seqeval that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("seqeval.")} & HEIGHT.keys()


def test_relative_imports_are_counted() -> None:
    assert "seqeval.algos._networks" in imports(ROOT / "algos" / "iql.py")
    assert "seqeval.cli._terminal" in imports(ROOT / "seqeval" / "cli" / "__init__.py")


def test_every_part_has_a_layer() -> None:
    names = {path.relative_to(ROOT / "seqeval").parts[0] for path in ROOT.glob("seqeval/**/*.py")}
    assert {name.removesuffix(".py") for name in names} - {"__init__"} == HEIGHT.keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob("seqeval/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_import_from_lower_layers_only(path: Path) -> None:
    part = path.relative_to(ROOT / "seqeval").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    wrong = {other for other in parts(path) - {part} if HEIGHT[other] >= HEIGHT[part]}
    assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


def test_algorithms_import_the_contract_only_and_the_suite_imports_no_algorithm() -> None:
    for path in ROOT.glob("algos/*.py"):
        # The matmul backend.
        extra = {"training"} if path.name in ("_fast_cpu.py", "_encoders.py") else set()
        assert parts(path) <= {"algorithm", "types"} | extra, path.name
    for path in ROOT.glob("seqeval/**/*.py"):
        assert not any(name.startswith("seqeval.algos.") for name in imports(path)), path.name


def test_the_configuration_imports_no_launcher() -> None:
    assert parts(ROOT / "seqeval" / "config.py") == {
        *("errors", "loading", "slicing", "sweeps", "types", "validation")
    }


def test_plots_import_no_torch_and_are_imported_by_the_command_line_only() -> None:
    for path in ROOT.glob("plots/**/*.py"):
        assert parts(path) <= {"analysis", "atomic_io", "errors", "figure_options", "loading", "types"}, (
            path.name
        )
    for path in ROOT.glob("seqeval/**/*.py"):
        if any(name.startswith("seqeval.plots") for name in imports(path)):
            assert path.parent.name == "cli", path.name


def loaded(code: str) -> set[str]:
    """The top-level modules that some code loads."""
    command = [sys.executable, "-c", f"import sys, {code}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_and_its_command_line_loads_nothing_heavy() -> None:
    assert not {*HEAVY, "numpy", "rich"} & loaded("seqeval, seqeval.cli")


def test_a_card_is_computed_with_numpy_alone() -> None:
    path = ROOT / "seqeval" / "analysis" / "card.py"
    packages = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names
    assert packages == {"numpy", "seqeval"}
    assert parts(path) == {"frames", "types"}


def test_drawing_loads_no_torch() -> None:
    assert "torch" not in loaded("seqeval.plots.card, seqeval.plots.curves, seqeval.plots.report")
