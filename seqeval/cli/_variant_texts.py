"""The arguments of `--algorithms` that give the variants of a study again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from seqeval import loading, plugins, sweeps
from seqeval.errors import UserError


def variant_texts(study: Mapping[str, Any]) -> list[str]:
    """The arguments of `--algorithms` for all variants of a study.json, one for each sweep.

    A plug-in is not imported, since a study that others made may name any file. Raises UserError if an
    algorithm has changed, or if no text gives its settings.
    """
    return list(
        dict.fromkeys(_variant_text(name, settings) for name, settings in study["algorithms"].items())
    )


def _variant_text(name: str, settings: Mapping[str, Any]) -> str:
    """The recorded text of a variant; where an earlier version has not recorded it, one that gives the same
    settings."""
    plugins.refuse_changed(name, dict(settings))
    if "text" in settings:
        return str(settings["text"])
    if not loading.is_built_in(plugins.ALGORITHMS, settings["algorithm"]):
        return _plugin_text(name, settings)
    variant = plugins.restore(name, dict(settings))
    default = plugins.find(variant.algorithm).Config()
    changed = [
        f"{field.name}={getattr(variant.config, field.name)}"
        for field in dataclasses.fields(variant.config)
        if getattr(variant.config, field.name) != getattr(default, field.name)
    ]
    full = f"{variant.algorithm}:{','.join([*changed, f'name={name}'])}"
    for text in (name, variant.algorithm, full):
        try:
            if plugins.parse(text) == dataclasses.replace(variant, sweep=None):
                return text
        except UserError:
            continue
    raise UserError(f"no text for --algorithms gives {name!r} with its recorded settings")


def _plugin_text(name: str, settings: Mapping[str, Any]) -> str:
    """The argument of `--algorithms` that gives a variant of a plug-in, by its recorded settings.

    Raises UserError if a setting cannot be written in it.
    """
    algorithm = settings["algorithm"]
    if len(sweeps.ITEMS.split(name)) > 1:  # not possible with name=, so it is the text that was given
        return name if name.startswith(f"{algorithm}:") else f"{algorithm.rpartition(':')[0]}:{name}"
    items = [f"{key}={_value_text(key, value)}" for key, value in settings["config"].items()]
    return f"{algorithm}:{','.join([*items, f'name={name}'])}"


def _value_text(key: str, value: Any) -> str:
    """A setting as `plugins.parse` reads it. Raises UserError if it cannot be written."""
    if isinstance(value, list):
        return f"({''.join(f'{_value_text(key, part)},' for part in value)})"
    unwritable = set("'\"\\,()")
    if isinstance(value, str) and (unwritable.intersection(value) or not value.isprintable()):
        raise UserError(f"the setting {key} is {value!r}, which --algorithms cannot express")
    return repr(value)
