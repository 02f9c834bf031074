"""`seqeval algorithms` and `seqeval check`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap

import tyro

from seqeval.errors import UserError, nearest

from . import _exit_codes
from ._terminal import plain_console


def list_algorithms() -> None:
    """List the algorithms of the suite and of installed packages, with the actions they support, and
    whether they learn from images."""
    from seqeval import plugins

    for name in plugins.names():
        try:
            found = plugins.find(name)
            first_line = describe(found).partition("\n")[0]
            kinds = dict.fromkeys((*found.action_spaces, *found.image_action_spaces))
            images = ("images",) if found.image_action_spaces else ()
            description = f"{', '.join((*kinds, *images)):28}  {first_line}"
        except UserError as error:  # a broken package must not hide the others
            description = f"cannot be used: {error}"
        print(f"{name:10} {description}")


def show_algorithm(name: tyro.conf.Positional[str], dataset: str | None = None, online: bool = False) -> None:
    """Show what an algorithm does and its settings.

    Args:
        name: Name of an algorithm, or path/to/file.py:Class; with `dataset` also settings, as in a study.
        dataset: Show the settings that a study takes on this dataset, with their sources.
        online: With an online phase; authors may publish other settings for it.
    """
    from seqeval import plugins

    if dataset is not None:
        _show_recipe(name, dataset, online)
        return
    found = plugins.find(name)
    if fault := plugins.config_fault(found):
        raise UserError(f"algorithm {name!r}: {fault}")
    print(describe(found))
    phases = "offline and online" if found.learns_online else "offline only"
    kinds = [f"{' and '.join(found.action_spaces)} actions"] if found.action_spaces else []
    if found.image_action_spaces:
        kinds.append(f"{' and '.join(found.image_action_spaces)} actions from images")
    print(f"\nSupports {', '.join(kinds)}; learns {phases}.")
    print(f'\nSettings, as in "{name}:key=value,key=value,name=label":')
    comments = {
        key: text for cls in reversed(found.Config.__mro__) for key, text in field_comments(cls).items()
    }
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    defaults = found.Config()
    for field in dataclasses.fields(defaults):
        kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        default = repr(getattr(defaults, field.name))
        table.add_row(*map(escape, (f"  {field.name}", kind, default, comments.get(field.name, ""))))
    plain_console(stderr=False).print(table)


def _show_recipe(name: str, dataset: str, online: bool) -> None:
    """Prints the settings of an algorithm on a dataset, and where each comes from."""
    from rich.markup import escape
    from rich.table import Table

    from seqeval import plugins, recipes

    variant = plugins.parse(name)
    recipe = recipes.find(variant.algorithm, dataset, online)
    if recipe is None:
        _refuse_unknown(variant.algorithm, dataset)
        print(f"{name} has no recipe for {dataset}: a study takes its defaults.")
    else:
        print(f"{name} on {dataset}: settings of {recipe.source}, phase {recipe.phase}.")
        variant = plugins.with_recipe(variant, recipe)
    table = Table(box=None, show_header=False, pad_edge=False)
    for setting, value in dataclasses.asdict(variant.config).items():
        origin = "default" if recipe is None else recipe.origins.get(setting, "default")
        origin = "given" if setting in variant.given else origin
        table.add_row(*map(escape, (f"  {setting}", repr(value), origin)))
    plain_console(stderr=False).print(table)
    for theirs, why in () if recipe is None else recipe.without.items():
        print(f"not applied: {theirs}: {why}")


def _refuse_unknown(algorithm: str, dataset: str) -> None:
    """Raises UserError for a dataset that neither a source nor a recipe knows, which may be misspelled."""
    from seqeval import datasets, recipes

    known = {recipes.normalized(name) for name in datasets.names()}
    if recipes.normalized(dataset) in known or any(source.owns(dataset) for source in datasets.sources()):
        return
    hint = nearest(dataset, recipes.datasets(algorithm) or datasets.names())
    raise UserError(
        f"dataset {dataset!r} is not known, and {algorithm} has no recipe for it{hint or '; '}"
        f"{'' if hint else '`seqeval datasets list` prints the known names'}"
    )


def check_plugin(name: tyro.conf.Positional[str]) -> int:
    """Test an algorithm or an evaluator against its contract. Takes some seconds and needs no data.

    The contracts are those of seqeval.algorithm and seqeval.evaluation.

    Prints a line for each rule, and for a broken one what was expected and found. Exits with 0 if all rules
    are kept, with 4 if one is broken.

    Args:
        name: path/to/file.py:Class or a name, optionally with settings as in `seqeval run`.
    """
    from rich.console import Console
    from rich.markup import escape

    from seqeval import check

    console = Console(soft_wrap=True, highlight=False)
    counts = {"ok": 0, "failed": 0, "skipped": 0}
    untested: dict[str, int] = {}  # rules that could not be tested, by the title of the rule that failed
    for result in check.examine(name):
        counts[result.status] += 1
        title = escape(result.rule.title)
        if result.cause is not None:
            untested[result.cause.title] = untested.get(result.cause.title, 0) + 1
        elif result.status == "ok":
            console.print(f"[green]ok[/]      {title}")
        else:
            console.print(f"[bold red]FAILED[/]  [bold]{title}[/]")
            contract = result.rule.contract
            for word, text in (("expected", result.expected), ("got", result.got), ("see", contract)):
                console.print(f"        {word:9} {escape(text)}")
    for title, count in untested.items():
        rules = "1 rule was" if count == 1 else f"{count} rules were"
        console.print(f'{rules} not tested because this one failed: "{escape(title)}"')
    words = {"ok": "ok", "failed": "failed", "skipped": "not tested"}
    console.print(", ".join(f"{counts[status]} {word}" for status, word in words.items() if counts[status]))
    return _exit_codes.BROKEN_CONTRACT if counts["failed"] else _exit_codes.SUCCESS


def describe(found: type) -> str:
    """The docstring of an algorithm's class or, if it has none, of its module."""
    return inspect.cleandoc(found.__doc__ or getattr(inspect.getmodule(found), "__doc__", None) or "")


def field_comments(config: type) -> dict[str, str]:
    """The comment after each field of a dataclass, read from its source code.

    A dataclass created by a function has no source code; its comments are in the fields' metadata.
    """
    if config is object:
        return {}
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):  # created by a function
        return {f.name: f.metadata["comment"] for f in dataclasses.fields(config) if "comment" in f.metadata}
    return dict(re.findall(r"^    (\w+): .*?  # (.*)$", source, re.MULTILINE))


app = tyro.extras.SubcommandApp()
app.command(name="list")(list_algorithms)
app.command(name="show")(show_algorithm)
