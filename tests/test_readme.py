"""The Python example in the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from seqeval import plugins

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs_unchanged(tmp_path: Path) -> None:
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if "load_policy" in block
    ]
    assert len(example.splitlines()) < 20
    script = tmp_path / "example.py"
    script.write_text(example.replace("points=5", "points=1").replace("grow_by=8", "grow_by=400"))
    result = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert re.search(r"^20000 +-?\d+\.\d+$", result.stdout, re.MULTILINE)
    assert re.search(r"^\[\[.*\]\]$", result.stdout, re.MULTILINE)  # the action of the policy
    assert (tmp_path / "runs" / "example" / "study.json").exists()


def test_the_example_of_sweeps_runs_unchanged() -> None:
    (example,) = re.findall(
        r"```python\n(from seqeval import LogUniform.*?)```", README.read_text(), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(example, names)
    variants = plugins.parse_all(names["study"].algorithms)  # type: ignore[attr-defined]
    assert len(variants) == 9 + 12 + 1
    assert variants[0].name == "iql:expectile=0.5 temperature=1.0"
