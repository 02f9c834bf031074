"""The rule on settings that are declared batchable: replicas that differ in one are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, get_type_hints

import torch

from seqeval.algorithm import Config, merge_configs, replica_values
from seqeval.check.replicas import exploration_is_independent
from seqeval.check.rules import difference, expect, expect_equal, rule
from seqeval.check.saving import states_can_be_split_and_joined
from seqeval.check.subject import CPU, HALF, SEEDS, UPDATES, Subject
from seqeval.errors import UserError

REPLICAS = range(len(SEEDS))


@rule(
    "replicas that differ in a batchable setting learn as with equal settings",
    "Config.batchable",
    exploration_is_independent,
    states_can_be_split_and_joined,
)
def batchable_settings_keep_replicas_apart(subject: Subject) -> None:
    for name in subject.config.batchable:
        configs = _with_three_values(subject.config, name)
        together = _learn(subject, configs)
        apart = [_learn(subject, [config] * len(SEEDS)) for config in configs]
        for replica, config in enumerate(configs):
            # Of equal shapes and addresses, so that the products of any algorithm are rounded alike.
            expected = f"replica {replica} of 3 that differ in {name} to equal that of 3 with {name} "
            expected += f"{getattr(config, name):g}, to the last bit"
            expect_equal(apart[replica][replica], together[replica], expected)
        values = ", ".join(f"{getattr(config, name):g}" for config in configs)
        expected = f"the batchable {name} to matter, with the other settings as they are"
        # Made-up images look much alike to a policy, so what also learns from vectors is judged there.
        if not (subject.images and subject.found.action_spaces):
            expect(_matters(subject, configs, apart), expected, f"the same for {values}")


def _with_three_values(config: Config, name: str) -> list[Config]:
    """The config, and two with other values of a setting that it accepts; itself where there are too few.
    None, which stands for a number of the algorithm's choice, gives way to 1."""
    if getattr(config, name) is None:
        change: dict[str, Any] = {name: 1.0}
        config = replace(config, **change)
    value, found = getattr(config, name), [config]
    whole = get_type_hints(type(config))[name] is int
    others = [value + n for n in (1, 2, -1, -2)] if whole else [0.3 * value, 0.01 * value, 1.0, 0.1]
    for other in others:
        try:
            changed = replace(config, **{name: other})
        except UserError:
            continue
        if changed not in found:
            found.append(changed)
    return [*found, config, config][: len(SEEDS)]


def _learn(subject: Subject, configs: Sequence[Config]) -> list[dict[str, Any]]:
    """All that the settings of each replica change in a short training, offline and then online."""
    algorithm = subject.make(config=merge_configs(configs, CPU))
    metrics = subject.train(algorithm)
    explored, batch = subject.explore(algorithm), subject.batch(algorithm, UPDATES)
    with torch.no_grad():
        errors = algorithm.td_error(batch)
    snapshots = [subject.snapshot(algorithm, replica) for replica in REPLICAS]
    if algorithm.learns_online:
        algorithm.start_online()
        metrics += subject.train(algorithm, UPDATES, UPDATES + HALF)
    sampling = asdict(algorithm.sampling)
    discounts = sampling.pop("discount")
    sampled = discounts if isinstance(discounts, tuple) else (discounts,) * len(SEEDS)
    returns = replica_values(algorithm.discount, len(SEEDS))
    return [
        {
            f"{name} of update {number}": value[replica]
            for number, of_update in enumerate(metrics, 1)
            for name, value in of_update.items()
        }
        | snapshots[replica]
        | {
            "explore": explored[replica],
            "td_error": None if errors is None else errors[replica],
            "discount": returns[replica],
            "sampling": {**sampling, "discount": sampled[replica]},
        }
        for replica in REPLICAS
    ]


def _matters(subject: Subject, configs: Sequence[Config], apart: Sequence[Sequence[dict[str, Any]]]) -> bool:
    """Whether what replica 0 learns depends on the value of the setting: in float32, or else in float64."""
    if len(set(map(repr, configs))) == 1 or _differ(apart):
        return True
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _differ([_learn(subject, [config] * len(SEEDS)) for config in configs])
    except Exception:
        return True  # it requires float32, which may be too coarse to tell
    finally:
        torch.set_default_dtype(default)


def _differ(apart: Sequence[Sequence[dict[str, Any]]]) -> bool:
    return any(difference(apart[0][0], other[0]) is not None for other in apart[1:])
