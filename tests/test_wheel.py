"""The package as others install it: a wheel, used outside of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_all_that_is_needed_and_works_outside_of_the_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("seqeval", "algos", "plots"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            tmp_path,
            source,
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("seqeval_rl-")
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"seqeval"}
    assert (site / "seqeval" / "py.typed").is_file()
    packaged = {str(path.relative_to(site / "seqeval")) for path in (site / "seqeval").rglob("*.py")}
    here = {str(path.relative_to(ROOT / "seqeval")) for path in (ROOT / "seqeval").rglob("*.py")}
    here |= {
        str(path.relative_to(ROOT)) for name in ("algos", "plots") for path in (ROOT / name).rglob("*.py")
    }
    assert packaged == here
    page = {path.suffix for path in (site / "seqeval" / "plots" / "report").iterdir()}
    assert page == {".py", ".html", ".js", ".css"}

    script = (
        "import sys, seqeval.cli, seqeval.algos.bc as bc; print(bc.__file__); seqeval.cli.main(sys.argv[1:])"
    )
    study = "run --datasets pendulum-replay --algorithms bc:hidden=(8,8) --seeds 0 --jobs 1 --out o"
    protocol = "--protocol.start 19990 --evaluation.points 1 --evaluation.episodes 1"
    done = subprocess.run(
        [sys.executable, "-c", script, *study.split(), *protocol.split()],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site / "seqeval" / "algos" / "bc.py"))
    assert (work / "o" / "curves.pdf").stat().st_size > 5000
