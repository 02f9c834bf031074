"""How fast the suite is, against what the machine allows.

    python experiments/benchmark.py [--parts a b] [--algorithms td3_bc] [--out bench.json]

Seven parts, each a table headed by the command that makes it again, and all of it as JSON:

(a) updates: seed-updates per second of R replicas at Hopper's sizes, drawing the minibatches and their noise
    included; FLOPs of an update's matrix products; the rate that these make, as a share of the machine's; and
    the most memory that the process held (on a GPU, the most that torch did). On a GPU it also prints how
    long the updates of the paper's first figure would take there, each algorithm's at the best R measured.
(b) evaluation: steps per second of R × E episodes in Gymnasium's environments, and in EnvPool's where it is
    installed and has them, against those of Gymnasium's bare environment that is given the same actions.
    Every episode has the same length, and the policy is a fresh TD3+BC actor. EnvPool has threads on as many
    processors as there are: its steps per second of wall time stand beside.
(c) end to end: `seqeval run` on a small study; what of its time are updates, evaluation, everything else.
(d) growth: seconds of a seed-update against the dataset's size, all of it visible, and against R.
(e) start-up: `seqeval --help` and `import seqeval`, the best of some processes, and whether torch is loaded.
(f) statistics: every figure, the table and the report of a large study that nobody trained, each as a whole
    process; and in one process its rows loaded, the IQM along x with 500 repetitions, and this drawn. Once.
(g) cores: seed-updates per second of wall time of two processes at once, against one's alone.

The machine's rate is that of the best float32 product that torch has by any path: `torch.mm` and oneDNN's
operator, each at a small and a large size. It is measured in turns with the updates, so that both see the
same machine, and a share is the median of the turns' shares. One thread; on the CPU the seconds of (a), (b)
and (d) are those that the process computed in, so that turns of other processes are not counted.
In (c) evaluation does not overlap training, so that shares of time add up.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator

import torch
import tyro
from rich.console import Console
from rich.table import Table
from speed.evaluations import evaluate
from speed.figures import drawing
from speed.options import Options, Result
from speed.processes import end_to_end, start_up
from speed.updates import FIGURE, cores, figure_hours, growth, updates

from seqeval.cli import plain_console
from seqeval.execution import jobs

# Of each part: its name, how it is measured, and the columns of its table.
Column = tuple[str, Callable[[Result], str]]
WORK: tuple[Column, ...] = (
    ("algorithm", lambda r: r["algorithm"]),
    ("device", lambda r: r["device"]),
    ("R", lambda r: str(r["replicas"])),
)
SHARE: Column = ("share", lambda r: f"{r['share']:.0%}")
PARTS: dict[str, tuple[str, Callable[[Options], Iterator[Result]], tuple[Column, ...]]] = {
    "a": (
        "updates, one seed's each",
        updates,
        (
            *WORK,
            ("updates/s", lambda r: f"{r['updates_per_second']:.0f}"),
            ("MFLOP each", lambda r: f"{r['flops_per_update'] / 1e6:.0f}"),
            ("GFLOP/s", lambda r: f"{r['updates_per_second'] * r['flops_per_update'] / 1e9:.0f}"),
            ("the machine's", lambda r: f"{r['machine_flops_per_second'] / 1e9:.0f}"),
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
            ("of wall time", lambda r: f"{r['steps_per_second_of_wall_time']:.0f}"),
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
            ("along", lambda r: r["along"]),
            *WORK,
            ("transitions", lambda r: f"{r['transitions']}"),
            ("µs per seed-update", lambda r: f"{r['seconds_per_update'] * 1e6:.0f}"),
            ("times the first", lambda r: f"{r['times_the_first']:.2f}"),
        ),
    ),
    "e": (
        "start-up",
        start_up,
        (
            ("process", lambda r: r["what"]),
            ("seconds", lambda r: f"{r['seconds']:.3f}"),
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
        "two processes at once",
        cores,
        (
            ("algorithm", lambda r: r["algorithm"]),
            ("R", lambda r: str(r["replicas"])),
            ("updates/s alone", lambda r: f"{r['alone']:.0f}"),
            ("both", lambda r: f"{r['together']:.0f}"),
            ("times", lambda r: f"{r['times']:.2f}"),
        ),
    ),
}


def command(part: str, options: Options) -> str:
    """What makes a part's numbers again."""
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
    for place, (header, _) in enumerate(columns):
        table.add_column(header, justify="right" if place else "left")
    load, results = os.getloadavg()[0], []
    with console.status(f"({part}) {title}") as status:
        for result in measurements(options):
            results.append(result)
            table.add_row(*(shown(result) for _, shown in columns))
            status.update(f"({part}) {title}: {len(results)} measured")
    made_by = command(part, options)
    console.print(f"({part}) {title}; load {load:.1f} before it: {made_by}", highlight=False, soft_wrap=True)
    console.print(table)
    return {"command": made_by, "load": load, "results": results}


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    console = plain_console(stderr=False)
    about: Result = {"processor": jobs.processor(), "torch": torch.__version__, "threads": 1}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    console.print(*(f"{key} {value}" for key, value in about.items()), sep=", ", highlight=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about["parts"] = {}
    for part in options.parts:
        found = about["parts"][part] = measure(part, options, console)
        if part == "a" and (hours := figure_hours(found["results"])) is not None:
            found["figure_hours"] = hours
            figure = f"the {FIGURE / 1e6:.0f} million updates of the paper's first figure"
            console.print(f"{figure}, on this GPU: {hours:.1f} h", highlight=False)
        options.out.write_text(json.dumps(about, indent=2) + "\n")
    console.print(f"all of it: {options.out}", highlight=False)


if __name__ == "__main__":
    main()
