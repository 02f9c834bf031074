"""What was done and what is missing, in sentences, from what the run directories say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from seqeval import analysis

Study = Mapping[str, Any]  # as study.json holds it

ORDERS = {
    "shuffled": "in uniformly random order",
    "episodes": "in whole episodes, these in random order",
    "logged": "in the order of the file",
    "segments": "part by part where it was joined from several, shuffled inside each",
    "return": "in whole episodes, from the lowest return to the highest",
}
LEAKS = {
    "normalizer": "observations are normalised with the mean and deviation of the full dataset",
    "reward_scale": "rewards are scaled by the best and worst episode of the full dataset",
}


def protocol(study: Study) -> list[str]:
    """What may be seen when, how it is evaluated, and what happens online."""
    said, online, evaluation = study["protocol"], study.get("online", {}), study["evaluation"]
    sentences = []
    if any(about["transitions"] for about in study["datasets"].values()):
        sentences += [_arrival(said), _batches(said)]
        sentences += [f"{text[0].upper()}{text[1:]}." for text in leaks(study)]
        if said["data_rules"] == "qlearning":
            sentences.append(
                "Transitions are those of D4RL's qlearning_dataset: none at a timeout, and not the last."
            )
        if said["learning_rate_decay"]:
            sentences.append("Learning rates that have a decay follow a cosine over the run.")
    sentences.append(_evaluation(said, evaluation))
    if online.get("steps"):
        sentences.append(_online(study, online))
    return sentences


def leaks(study: Study) -> list[str]:
    """What of data yet to come is used."""
    return [text for key, text in LEAKS.items() if study["protocol"][key] == "full"]


def _arrival(said: Study) -> str:
    regime, order, updates = said["regime"], ORDERS[said["order"]], said["updates_per_size"]
    if regime == "stream":
        many = said["updates_per_growth"]
        every = "gradient update" if many == 1 else counted(many, "gradient update")
        return (
            f"The data arrives {order}: {counted(said['start'], 'transition')} before the first update, then "
            f"{spaced(said['grow_by'])} after every {every}, until all are visible."
        )
    if regime == "full":
        return f"All of the data is visible from the start, for {counted(updates, 'gradient update')}."
    steps = "even" if said["spacing"] == "linear" else "geometric"
    who = "a fresh agent makes" if regime == "retrain" else "the agent of the size before makes"
    return (
        f"The data comes in {spaced(said['sizes'])} sizes, {order}, in {steps} steps from "
        f"{counted(said['start'], 'transition')} to all; at each {who} {counted(updates, 'gradient update')}."
    )


def _batches(said: Study) -> str:
    seen = f"the newest {counted(said['window'], 'transition')}" if said["window"] else "all that is visible"
    drawn = f"A minibatch is drawn uniformly from {seen}"
    if said["regime"] != "stream":
        return f"{drawn}."
    return f"{drawn}; what has just arrived is in the next one for certain."


def _evaluation(said: Study, evaluation: Study) -> str:
    if evaluation.get("every"):
        when = f"every {counted(evaluation['every'], 'transition')}"
    elif said["regime"] == "stream":
        when = f"at the start and at {spaced(evaluation['points'])} even steps of each phase"
    else:
        when = "at each size"
    episodes = counted(evaluation["episodes"], "episode")
    return f"Evaluation: {when} the deterministic policy plays {episodes} in environments of its own."


def _online(study: Study, online: Study) -> str:
    share = online["mix"]
    of = (
        "from the data and from what the agent has seen online as one"
        if share == "uniform"
        else f"{100 * share:g} % of each from what the agent has seen online, the rest from the data"
    )
    each = counted(online["updates_per_step"], "gradient update")
    begins = "The agents act" if _no_data(study) else "Once the data is used up the same agents act"
    drawn = f", with {each} after each step" + ("." if _no_data(study) else f": minibatches are drawn {of}.")
    return f"{begins} in an environment of their own for {counted(online['steps'], 'step')}{drawn}"


def _no_data(study: Study) -> bool:
    return not any(about["transitions"] for about in study["datasets"].values())


def warnings(rows: pd.DataFrame, studies: Mapping[str, Study], leave_out: bool) -> list[str]:
    """What a reader must know before any number: seeds that failed, stopped or are missing, lines that end
    early, data seen before it arrives, and versions mixed in a study. With `leave_out` statistics leave
    incomplete seeds out."""
    found = [
        f"{name}: not evaluated, since it has no environment" for name in analysis.unevaluated_datasets(rows)
    ]
    for name, study in studies.items():
        mine = [
            *_incomplete(rows[rows["study"] == name], leave_out),
            *_missing(rows[rows["study"] == name], study),
            *(f"{text}, a leak" for text in leaks(study)),
            *_mixed_versions(study),
        ]
        found += [f"{name}: {line}" for line in mine] if len(studies) > 1 else mine
    return found


def _incomplete(rows: pd.DataFrame, leave_out: bool) -> list[str]:
    """A line for each line of a figure that has seeds which are not all there."""
    found: dict[tuple[str, str], list[str]] = {}
    for dataset, variant, _, seed, why in analysis.incomplete_seeds(rows):
        found.setdefault((dataset, variant), []).append(f"seed {seed} {why}")
    of = rows.groupby(["dataset", "variant"])["seed"].nunique()
    out = ", left out of the statistics" if leave_out else ""
    return [
        f"{dataset}, {variant}: {len(seeds)} of {counted(int(of[dataset, variant]), 'seed')} incomplete{out} "
        f"({'; '.join(seeds)})"
        for (dataset, variant), seeds in found.items()
    ]


def _missing(rows: pd.DataFrame, study: Study) -> list[str]:
    """Seeds of the study that have no rows, and lines that end before they should."""
    seeds = asked(study)
    short = analysis.unfinished_lines(rows).set_index(["dataset", "variant"])
    there = set(rows[["dataset", "variant", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    found = []
    for dataset in study["datasets"]:
        for variant in study["algorithms"]:
            missing = [str(seed) for seed in seeds if (dataset, variant, seed) not in there]
            if missing:
                of = counted(len(seeds), "seed")
                found.append(f"{dataset}, {variant}: {len(missing)} of {of} missing ({listed(missing)})")
            if (dataset, variant) in short.index:
                end, planned = short.loc[(dataset, variant), ["end", "planned"]]
                found.append(f"{dataset}, {variant}: ends at n = {spaced(end)} of {spaced(planned)}")
    return found


def _mixed_versions(study: Study) -> list[str]:
    """Packages of which a study's runs had different versions."""
    packages = dict.fromkeys(package for run in study["runs"] for package in run["versions"])
    found = []
    for package in packages:
        versions = sorted({run["versions"].get(package, "none") for run in study["runs"]})
        if len(versions) > 1:
            found.append(f"its runs had different versions of {package} ({', '.join(versions)})")
    return found


def asked(study: Study) -> list[int]:
    """Every seed that some run of a study was asked for."""
    return sorted({seed for run in study["runs"] for seed in run["seeds"]})


def spaced(number: float) -> str:
    """A whole number with a narrow space for every three digits."""
    return f"{number:,.0f}".replace(",", "\u202f")


def counted(count: int, noun: str) -> str:
    return f"{spaced(count)} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """Of a, b, c: a, b and c."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
