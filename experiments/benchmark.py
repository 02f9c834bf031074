"""Measure the speed of seqeval, relative to what the machine can do.

    python experiments/benchmark.py [--parts a b] [--algorithms td3_bc] [--out bench.json]

Nine parts. Each prints a table under the command that reproduces it; all results are written as JSON:

(a) updates: updates per second, summed over R replicas, at Hopper's sizes, including minibatch and noise
    sampling; FLOPs of the matrix products in an update; their rate as a share of the machine's peak; and peak
    memory of the process (on a GPU, of torch). On a GPU also the time that the updates of the paper's first
    figure would take there, with the best R measured for each algorithm.
(b) evaluation: steps per second of R × E episodes with Gymnasium, and with EnvPool if it is installed and has
    the environment, relative to stepping Gymnasium's environment with the same actions. All episodes have the
    same length; the policy is an untrained TD3+BC actor. EnvPool has one thread per processor, so its steps
    per second of wall time are given too.
(c) end to end: `seqeval run` on a small study; its time in updates, in evaluation and in everything else.
(d) growth: seconds per update against the size of the dataset, all of it visible, and against R.
(e) start-up: CPU seconds of `seqeval --help` and `import seqeval`, the fastest of several; whether torch is
    loaded.
(f) statistics: every figure, the table and the report of a large synthetic study, each in its own process;
    and in one process: loading its rows, the IQM along x with 500 resamples, drawing it. Measured once.
(g) cores: updates per second of wall time of two parallel processes, relative to one process.
(h) shares: what an update's time on the CPU consists of: matrix products, other operators on tensors,
    optimiser with target networks, gathering the minibatch, drawing indices and noise, and the rest (Python,
    autograd, dispatch). An operator's time is measured around its call, the whole in updates without this.
(i) peers, with `--peers CORL_DIR` only: updates per second of seqeval, CORL and d3rlpy (if it is installed)
    in turns, at equal widths and batch size, on the same data; ratios are medians over the turns.

The machine's peak is the rate of the fastest float32 product in torch: `torch.mm` and oneDNN's operator, each
at a small and a large size. It is measured in turns with the updates, since the load of the machine varies; a
share is the median over the turns. One thread. On the CPU, (a), (b), (d), (h) and (i) count CPU seconds, so
that other processes matter little. In (c) evaluation does not overlap training, so the shares of time add up.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from functools import partial

import torch
import tyro
from rich.console import Console
from rich.table import Table
from speed.evaluations import evaluate
from speed.figures import drawing
from speed.options import Options, Result
from speed.peers import peers
from speed.processes import end_to_end, start_up
from speed.shares import KINDS, shares
from speed.updates import FIGURE, cores, figure_hours, growth, updates

from seqeval.cli import plain_console
from seqeval.execution import provenance


def _percent(kind: str, result: Result) -> str:
    return f"{result[kind]:.0%}"


# Each part: title, function that measures it, and columns of its table.
Column = tuple[str, Callable[[Result], str]]
WORK: tuple[Column, ...] = (
    ("algorithm", lambda r: r["algorithm"]),
    ("device", lambda r: r["device"]),
    ("R", lambda r: str(r["replicas"])),
)
SHARE: Column = ("share", lambda r: f"{r['share']:.0%}")
PARTS: dict[str, tuple[str, Callable[[Options], Iterator[Result]], tuple[Column, ...]]] = {
    "a": (
        "updates",
        updates,
        (
            *WORK,
            ("updates/s", lambda r: f"{r['updates_per_second']:.0f}"),
            ("MFLOP per update", lambda r: f"{r['flops_per_update'] / 1e6:.0f}"),
            ("GFLOP/s", lambda r: f"{r['updates_per_second'] * r['flops_per_update'] / 1e9:.0f}"),
            ("machine's peak", lambda r: f"{r['machine_flops_per_second'] / 1e9:.0f}"),
            SHARE,
            ("peak MB", lambda r: "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.0f}"),
        ),
    ),
    "b": (
        "evaluation",
        evaluate,
        (
            ("environment", lambda r: r["environment"]),
            ("backend", lambda r: r["backend"]),
            ("R × E", lambda r: f"{r['replicas']} × {r['episodes']}"),
            ("steps/s", lambda r: f"{r['steps_per_second']:.0f}"),
            ("bare steps/s", lambda r: f"{r['bare_steps_per_second']:.0f}"),
            SHARE,
            ("steps/s of wall time", lambda r: f"{r['steps_per_second_of_wall_time']:.0f}"),
        ),
    ),
    "c": (
        "end to end",
        end_to_end,
        (("time in", lambda r: r["what"]), ("seconds", lambda r: f"{r['seconds']:.2f}"), SHARE),
    ),
    "d": (
        "growth",
        growth,
        (
            ("against", lambda r: r["along"]),
            *WORK,
            ("transitions", lambda r: f"{r['transitions']}"),
            ("µs per update", lambda r: f"{r['seconds_per_update'] * 1e6:.0f}"),
            ("relative to the first", lambda r: f"{r['times_the_first']:.2f}"),
        ),
    ),
    "e": (
        "start-up",
        start_up,
        (
            ("process", lambda r: r["what"]),
            ("CPU seconds", lambda r: f"{r['seconds']:.3f}"),
            ("target", lambda r: f"{r['target']}"),
            ("met", lambda r: "yes" if r["met"] else "no"),
            ("loads torch", lambda r: "yes" if r["loads_torch"] else "no"),
        ),
    ),
    "f": (
        "statistics",
        drawing,
        (
            ("work", lambda r: r["what"]),
            ("CPU seconds", lambda r: f"{r['cpu_seconds']:.2f}"),
            ("seconds", lambda r: f"{r['seconds']:.2f}"),
            ("runs", lambda r: f"{r['runs']}"),
            ("rows", lambda r: f"{r['rows']}"),
        ),
    ),
    "g": (
        "two parallel processes",
        cores,
        (
            ("algorithm", lambda r: r["algorithm"]),
            ("R", lambda r: str(r["replicas"])),
            ("updates/s of one", lambda r: f"{r['alone']:.0f}"),
            ("updates/s of two", lambda r: f"{r['together']:.0f}"),
            ("speedup", lambda r: f"{r['times']:.2f}"),
        ),
    ),
    "h": (
        "shares of an update",
        shares,
        (
            ("algorithm", lambda r: r["algorithm"]),
            ("R", lambda r: str(r["replicas"])),
            ("µs per update", lambda r: f"{r['seconds'] / r['replicas'] * 1e6:.0f}"),
            *((kind, partial(_percent, kind)) for kind in KINDS),
        ),
    ),
    "i": (
        "peers",
        peers,
        (
            ("algorithm", lambda r: r["algorithm"]),
            ("contender", lambda r: r["contender"]),
            ("updates/s", lambda r: f"{r['updates_per_second']:.0f}"),
            ("peer", lambda r: r["peer"]),
            ("its updates/s", lambda r: f"{r['peer_updates_per_second']:.0f}"),
            ("ratio", lambda r: f"{r['ratio']:.2f}"),
        ),
    ),
}


def command(part: str, options: Options) -> str:
    """The command that reproduces a part."""
    words = ["python experiments/benchmark.py --parts", part]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in ("parts", "out") and value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return " ".join(words)


def measure(part: str, options: Options, console: Console) -> Result:
    title, measurements, columns = PARTS[part]
    table = Table(box=None, header_style="bold")
    for index, (header, _) in enumerate(columns):
        table.add_column(header, justify="right" if index else "left")
    load, results = os.getloadavg()[0], []
    with console.status(f"({part}) {title}") as status:
        for result in measurements(options):
            results.append(result)
            table.add_row(*(show(result) for _, show in columns))
            status.update(f"({part}) {title}: {len(results)} measured")
    reproduce = command(part, options)
    console.print(
        f"({part}) {title}; load {load:.1f} at the start: {reproduce}", highlight=False, soft_wrap=True
    )
    console.print(table)
    return {"command": reproduce, "load": load, "results": results}


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    console = plain_console(stderr=False)
    about: Result = {"processor": provenance.processor(), "torch": torch.__version__, "threads": 1}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    console.print(*(f"{key} {value}" for key, value in about.items()), sep=", ", highlight=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about["parts"] = {}
    default = options.parts == Options.parts
    for part in ("i",) if options.peers is not None and default else options.parts:
        measured = about["parts"][part] = measure(part, options, console)
        if part == "a" and (hours := figure_hours(measured["results"])) is not None:
            measured["figure_hours"] = hours
            figure = f"the {FIGURE / 1e6:.0f} million updates of the paper's first figure"
            console.print(f"{figure} take {hours:.1f} h on this GPU", highlight=False)
        options.out.write_text(json.dumps(about, indent=2) + "\n")
    console.print(f"results: {options.out}", highlight=False)


if __name__ == "__main__":
    main()
