"""Check that two checkouts of seqeval compute the same rows and policies, to the last bit.

    python experiments/compare_checkouts.py OLD NEW [--only stream online] [--out runs/compare]

OLD and NEW are folders; each needs its own virtual environment in `.venv` (`make install`). Both run a fixed
set of small studies through their command lines. OLD runs every study once, in one process. NEW does the same
and, for some studies, also uses two jobs, --group or evaluation in a subprocess, or is killed and resumed.
Each of these must give OLD's rows and policies. `OLD OLD` checks that the studies are deterministic.

Names of studies and columns of seconds are not compared. Columns that only NEW has are listed. The tensors of
a policy are compared without their names. The exit code is 1 if there is a difference.

The results of OLD are kept in --out and reused, unless OLD has uncommitted changes.
"""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import tyro
from exact_comparison import differences, rows_of, run_folders

from seqeval.cli import handle_errors, plain_console
from seqeval.errors import UserError, nearest

KILLS = 4
LONGEST = 1.0  # seconds of training before a kill, at most

PLUGIN = '''"""Behavioural cloning for one agent, with random numbers from torch's global random state."""

import torch
from seqeval.algorithm import SingleAlgorithm


class Cloning(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        first, last = torch.nn.Linear(spec.observation_size, 32), torch.nn.Linear(32, spec.action_size)
        self.actor = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Dropout(0.1), last, torch.nn.Tanh())
        self.optimiser = torch.optim.Adam(self.actor.parameters(), 1e-3)

    def update(self, batch):
        self.updates += 1
        loss = (self.actor.train()(batch.observations) - batch.actions).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}

    def act(self, observations):
        return self.actor.eval()(observations)

    def explore(self, observations):
        actions = self.act(observations)
        return (actions + 0.1 * torch.randn_like(actions)).clamp(-1, 1)
'''


@dataclass(frozen=True)
class Mode:
    """Arguments of `seqeval run` that must not affect results, and how often the command is killed."""

    arguments: str
    kills: int = 0


MODES = {
    "plain": Mode("--jobs 1 --overlap off"),
    "jobs": Mode("--jobs 2 --overlap off"),
    "overlap": Mode("--jobs 1 --overlap on"),
    "killed": Mode("--jobs 1 --overlap off --save-every 0.05", KILLS),
    "group": Mode("--jobs 1 --overlap off --group"),
    "group-jobs": Mode("--jobs 2 --overlap off --group"),
    "group-overlap": Mode("--jobs 1 --overlap on --group"),
    "group-killed": Mode("--jobs 1 --overlap off --group --save-every 0.05", KILLS),
}


@dataclass(frozen=True)
class Case:
    """A study: arguments of `seqeval run`, and the modes in which NEW runs it besides `plain`."""

    arguments: str
    modes: tuple[str, ...] = ()


def small(*names: str, sizes: str = "hidden") -> str:
    """Algorithms with small networks, as arguments."""
    return " ".join(
        f"'{name}:{sizes}=(32,32),batch_size=32,name={name.removeprefix('sb3:')}'" for name in names
    )


COMMON = (
    "--seeds 0 1 --device cpu --protocol.start 1000 --protocol.grow-by 250 "
    "--evaluation.points 3 --evaluation.episodes 2"
)
FIVE = small("bc", "td3_bc", "iql", "awac", "cql")
TD3 = small("sb3:TD3", sizes="net_arch")
CLONING = "'{plugin}:Cloning:batch_size=32,name=cloning'"
ALL = f"{FIVE} {TD3} {CLONING}"
PENDULUM = "--datasets mix:pendulum-replay:4000,name=pendulum"
TWO = "--datasets mix:pendulum-replay:1500+pendulum-replay:10%,name=two"
HOPPERS = (
    "--datasets mix:hopper-replay:3000,name=short mix:hopper-replay:4000,name=long "
    "mix:hopper-replay:2000+hopper-replay:1000,name=joined"
)
SIZES = "--protocol.sizes 3 --protocol.updates-per-size 12"
STUDIES = {
    "stream": Case(
        "--datasets pendulum-replay --protocol.grow-by 1000 --algorithms bc td3_bc iql awac cql sb3:TD3"
    ),
    "small": Case(f"{PENDULUM} --algorithms {ALL}"),
    "retrain": Case(f"{PENDULUM} {SIZES} --protocol.regime retrain --algorithms {ALL}"),
    "warm": Case(f"{PENDULUM} {SIZES} --protocol.regime warm --algorithms {ALL}"),
    "full": Case(f"{PENDULUM} {SIZES} --protocol.regime full --algorithms {ALL}"),
    "paper": Case(f"{HOPPERS} --preset paper --evaluation.every 1500 --algorithms {FIVE}", ("group",)),
    "paper-online": Case(
        f"{PENDULUM} --preset paper --evaluation.every 2000 --online.steps 40 --algorithms {FIVE}"
    ),
    "window": Case(f"{PENDULUM} --protocol.window 600 --online.steps 30 --algorithms {ALL}"),
    "arrivals": Case(
        f"{PENDULUM} --protocol.grow-by 100 --protocol.updates-per-growth 3 "
        f"--algorithms {small('td3_bc', 'iql')}"
    ),
    "episodes": Case(f"{PENDULUM} --protocol.order episodes --algorithms {small('bc', 'td3_bc')}"),
    "logged": Case(f"{PENDULUM} --protocol.order logged --algorithms {small('bc', 'td3_bc')}"),
    "return": Case(f"{PENDULUM} --protocol.order return --algorithms {small('bc', 'td3_bc')}"),
    "segments": Case(f"{TWO} --preset mixed --protocol.window 2000 --algorithms {small('td3_bc', 'cql')}"),
    "seeds": Case(f"{PENDULUM} --seeds 0 1 2 3 7 --algorithms {small('td3_bc', 'cql')}", ("jobs",)),
    "fast": Case(f"{PENDULUM} --precision fast --algorithms td3_bc iql"),
    "online": Case(f"{PENDULUM} --online.steps 60 --online.updates-per-step 2 --algorithms {ALL}"),
    "online-half": Case(f"{PENDULUM} --online.steps 60 --online.mix 0.5 --algorithms {ALL}"),
    "online-only": Case(
        f"--datasets none --env Pendulum-v1 --online.steps 300 --algorithms {small('td3_bc')} {TD3}",
        ("overlap", "killed"),
    ),
    "discrete": Case(
        f"--datasets cartpole-replay --online.steps 200 --protocol.grow-by 500 "
        f"--algorithms {small('bc')} {small('sb3:DQN', sizes='net_arch')}",
        ("killed",),
    ),
    "modes": Case(
        f"{PENDULUM} --protocol.grow-by 20 --online.steps 100 --algorithms {small('bc', 'td3_bc')} {CLONING}",
        ("jobs", "overlap", "killed"),
    ),
    "modes-retrain": Case(
        f"{PENDULUM} {SIZES} --protocol.regime retrain --algorithms {small('td3_bc', 'iql')}",
        ("overlap", "killed"),
    ),
    "group": Case(
        f"{HOPPERS} --protocol.grow-by 20 --algorithms {small('td3_bc', 'iql')}",
        ("group", "group-jobs", "group-killed"),
    ),
    "group-decay": Case(
        f"{HOPPERS} --protocol.learning-rate-decay --algorithms {small('bc', 'iql')}", ("group",)
    ),
    "group-online": Case(
        f"{HOPPERS} --protocol.window 800 --online.steps 100 --algorithms {small('bc', 'td3_bc')}",
        ("group", "group-overlap", "group-killed"),
    ),
    "group-all": Case(f"{HOPPERS} --online.steps 20 --algorithms {ALL}", ("group",)),
    "group-warm": Case(f"{HOPPERS} {SIZES} --protocol.regime warm --algorithms {FIVE}", ("group",)),
    "group-retrain": Case(f"{HOPPERS} {SIZES} --protocol.regime retrain --algorithms {FIVE}", ("group",)),
}


class CommandFailed(Exception):
    """A `seqeval run` ended with an exit code other than 0."""


def run_study(checkout: Path, arguments: list[str], out: Path, kills: int) -> tuple[Path, int]:
    """Runs `seqeval run` of a checkout, killed and resumed up to `kills` times.

    Returns the study directory and how often it was killed. What the command prints is written to `out`.log.
    Raises CommandFailed.
    """
    killed = 0
    command = [".venv/bin/python", "-m", "seqeval.cli", "run", *arguments, "--out", str(out)]
    log = out.with_name(f"{out.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        while killed < kills and _is_killed(command, checkout, out, output):
            killed += 1
        code = subprocess.run(command, cwd=checkout, stdout=output, stderr=output, check=False).returncode
    if code:
        last = "".join(log.read_text().splitlines()[-1:])
        raise CommandFailed(f"exit code {code}: {last} (see {log})")
    return out, killed


def _is_killed(command: list[str], checkout: Path, out: Path, output: IO[str]) -> bool:
    """Starts a command and kills it, with its workers, at a random time of training; False if it ended."""
    with subprocess.Popen(command, cwd=checkout, stdout=output, stderr=output, process_group=0) as process:
        _wait_for_training(process, out)
        try:
            process.wait(random.uniform(0, LONGEST))
            return False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True


def _wait_for_training(process: subprocess.Popen[bytes], out: Path) -> None:
    """Returns when a file of a run has been written since the call, or when the process has ended."""
    began = time.time()
    while process.poll() is None:
        with suppress(FileNotFoundError):  # a temporary file, renamed in the meantime
            if any(file.stat().st_mtime >= began for file in out.glob("*/*/*/seed-*/*")):
                return
        time.sleep(0.01)


def run_old(checkout: Path, arguments: list[str], out: Path) -> Path:
    """Runs a study, unless an earlier call has; returns the study directory, whose name begins with `out`."""
    out = out.with_name(f"{out.name}-{hashlib.sha256(repr((arguments, PLUGIN)).encode()).hexdigest()[:8]}")
    if not out.exists():
        unfinished = out.with_name(f"{out.name}-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        run_study(checkout, arguments, unfinished, kills=0)
        unfinished.rename(out)
    return out


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out; None if there are uncommitted changes, or if it is no git checkout."""
    git = ["git", "-C", str(checkout)]
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=False)
    if status.returncode or status.stdout:
        return None
    return subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()


def check_imports(checkout: Path) -> None:
    """Raises UserError if the virtual environment of a checkout is missing or imports another's code."""
    python = checkout / ".venv" / "bin" / "python"
    if not python.exists():
        raise UserError(f"{checkout}: no virtual environment; run `make install` in it")
    code = "import seqeval, seqeval.algos; print(*seqeval.__path__, *seqeval.algos.__path__, sep='\\n')"
    for line in subprocess.check_output([python, "-c", code], cwd=checkout, text=True).splitlines():
        if not Path(line).resolve().is_relative_to(checkout):
            raise UserError(f"{checkout}: its .venv imports {line}; run `make install` in it")


def compare(old: Future[Path], new: Future[tuple[Path, int]]) -> tuple[str, bool, set[str]]:
    """The result in one line, whether all is the same, and the columns that only NEW has."""
    try:
        old_out, (new_out, killed) = old.result(), new.result()
    except CommandFailed as error:
        return str(error), False, set()
    found = differences(old_out, new_out, tensor_names=False)
    if found:
        more = f" (and {len(found) - 1} more differences)" if found[1:] else ""
        return f"{found[0]}{more}", False, set()
    old_rows, new_rows = (
        [row for run in run_folders(out).values() for row in rows_of(run)] for out in (old_out, new_out)
    )
    runs = len(run_folders(new_out))
    kills = f", killed {killed} times" if killed else ""
    columns = {column for row in new_rows for column in row} - {column for row in old_rows for column in row}
    return f"same {runs} runs, {len(new_rows)} rows{kills}", True, columns


def main(
    old: tyro.conf.Positional[Path],
    new: tyro.conf.Positional[Path],
    only: tuple[str, ...] = (),
    out: Path = Path("runs/compare"),
    jobs: int | None = None,
) -> int:
    """
    Args:
        old: The checkout whose results are expected.
        new: The checkout that is tested.
        only: Names of studies; by default all of them.
        out: Folder of the study directories. Those of an earlier NEW with the same folder name are removed.
        jobs: Commands to run in parallel (default: one per core).
    """
    if unknown := [name for name in only if name not in STUDIES]:
        raise UserError(f"only: no study {unknown[0]!r}{nearest(unknown[0], STUDIES)}")
    old, new, out = old.resolve(), new.resolve(), out.resolve()
    for checkout in (old, new):
        check_imports(checkout)
    commit = commit_of(old)
    old_out, new_out = out / "old" / (commit or f"{old.name}-uncommitted"), out / "new" / new.name
    for folder in [new_out] if commit else [new_out, old_out]:
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    plugin = out / "plugin.py"
    plugin.write_text(PLUGIN)

    console, comparisons, all_same, new_columns = plain_console(stderr=False), [], True, set[str]()
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        for name in only or STUDIES:
            case = STUDIES[name]
            study = shlex.split(f"{COMMON} {case.arguments.format(plugin=plugin)}")
            expected = pool.submit(run_old, old, [*study, *MODES["plain"].arguments.split()], old_out / name)
            for mode in ("plain", *case.modes):
                arguments = [*study, *MODES[mode].arguments.split()]
                folder = new_out / f"{name}-{mode}"
                tested = pool.submit(run_study, new, arguments, folder, MODES[mode].kills)
                comparisons.append((name, mode, expected, tested))
        for number, (name, mode, expected, tested) in enumerate(comparisons, start=1):
            result, same, columns = compare(expected, tested)
            console.print(f"{number:3} of {len(comparisons)}  {name:14}{mode:15}{result}", markup=False)
            all_same, new_columns = all_same and same, new_columns | columns
    if new_columns:
        console.print(f"columns that only {new} has: {', '.join(sorted(new_columns))}")
    console.print("the same rows and policies, bit for bit" if all_same else "not the same")
    return int(not all_same)


if __name__ == "__main__":
    with handle_errors("compare_checkouts"):
        code = tyro.cli(main, description=__doc__)
    sys.exit(code)
