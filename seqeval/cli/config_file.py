"""`seqeval run --config`: the settings in a TOML file, or those of an earlier study, as flags."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from seqeval.config import Evaluation, Execution, Online, Protocol, Study
from seqeval.errors import UserError, nearest
from seqeval.validation import convert


def expanded(arguments: list[str]) -> list[str]:
    """The arguments of `run`, after the flags that --config stands for: the last value of a flag counts."""
    paths = [value for flag, value in pairwise(arguments) if flag == "--config"]
    paths += [value.removeprefix("--config=") for value in arguments if value.startswith("--config=")]
    return [*(flag for path in paths for flag in flags(Path(path))), *arguments]


def flags(path: Path) -> Iterator[str]:
    """The flags of a file. Raises UserError if it cannot be read or has an unknown key."""
    known = dict(_settings(Study)) | dict(_settings(Execution)) | {"out": Path, "preset": str}
    for key, value in _flat(_read(path)):
        if key not in known:
            raise UserError(f"{path}: {_unknown(key, list(known))}")
        _check_type(path, key, value, known[key])
        group, _, name = f"--{key.replace('_', '-')}".rpartition(".")
        prefix = f"{group}." if group else "--"
        name = name.removeprefix("--")
        if known[key] is bool and isinstance(value, bool):
            yield prefix + name if value else f"{prefix}no-{name}"
        else:
            yield prefix + name
            yield from map(str, value if isinstance(value, list) else [value])


def _check_type(path: Path, key: str, value: Any, hint: Any) -> None:
    """Raises UserError unless the value is of the type of a setting, as in Python."""
    if get_origin(hint) is tuple and not isinstance(value, list):
        raise UserError(
            f"{path}: {key}: must be a list; write {key.rpartition('.')[2]} = {json.dumps([value])}"
        )
    try:
        convert(value, hint)
    except ValueError as error:
        raise UserError(f"{path}: {key}: {error}") from None
    except TypeError:
        return  # a path, which the command line reads


def _unknown(key: str, known: Sequence[str]) -> str:
    """What is wrong with a key that is not a setting."""
    groups = {name.partition(".")[0] for name in known if "." in name}
    group, _, name = key.rpartition(".")
    if key in groups:
        return f"{key} is a group of settings; write them below [{key}]"
    if group and group not in groups:
        return f"[{group}] is not a group of settings{nearest(group, groups)}"
    if not group and (elsewhere := [other for other in known if other.endswith(f".{key}")]):
        return f"{key} is not a setting; did you mean {' or '.join(map(repr, elsewhere))}?"
    names = [other.removeprefix(f"{group}.") for other in known if other.rpartition(".")[0] == group]
    return f"{key} is not a setting{nearest(name, names)}"


def _settings(group: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The names and types of all settings, with a dot where they are in a group."""
    for name, hint in get_type_hints(group).items():
        if is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _settings(hint, f"{name}.")
        else:
            yield prefix + name, hint


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = prefix + key.replace("-", "_")
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
        return _of_study(path, json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(
            f"{path}: {reason}; --config takes a TOML file or the study.json of a study"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _of_study(path: Path, study: Any) -> dict[str, Any]:
    """The settings of a study, from its study.json."""
    if not isinstance(study, dict) or "invocations" not in study:
        raise UserError(f"{path}: not the study.json of a study; other settings go into a TOML file")
    from seqeval import analysis

    from ._variant_texts import variant_texts  # imports torch, which other files do not need

    last = study["invocations"][-1]
    seeds, sweep_seeds = analysis.invocation_seeds(study)
    settings = {group: study[group] for group in ("protocol", "online", "evaluation", "precision")}
    return settings | {
        "datasets": [dataset["given"] for dataset in study["datasets"].values()],
        "algorithms": variant_texts(study),
        "seeds": seeds,
        "sweep_seeds": sweep_seeds,
        **{key: last[key] for key in ("env", "trust_pickle") if key in last},
    }


def study_again(
    directory: Path,
    datasets: Iterable[str],
    variants: Iterable[str],
    seeds: Iterable[int],
    sweep_seeds: Iterable[int] = (),
) -> Study:
    """The study in a directory with these of its datasets and variants, and other seeds.

    A variant of a sweep comes with the whole sweep. Raises UserError if an algorithm has changed.
    """
    from seqeval.execution.storage import StudyDirectory

    study = StudyDirectory(directory).study()
    chosen = {
        "datasets": {name: study["datasets"][name] for name in datasets},
        "algorithms": {name: study["algorithms"][name] for name in variants},
    }
    values = _of_study(directory / "study.json", study | chosen)
    groups: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("protocol", Protocol),
        ("online", Online),
        ("evaluation", Evaluation),
    )
    values |= {group: create(**_with_tuples(values[group])) for group, create in groups}
    device = study["invocations"][-1]["device"]
    values |= {"seeds": tuple(seeds), "sweep_seeds": tuple(sweep_seeds), "device": device}
    return Study(**_with_tuples(values))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of JSON, where settings have tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
