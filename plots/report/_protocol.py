"""The protocol of a study in sentences."""

from __future__ import annotations

from seqeval.analysis import Study

from .._text import capitalized, counted, spaced

ORDERS = {
    "shuffled": "in uniformly random order",
    "episodes": "in whole episodes, in random order",
    "logged": "in the order of the file",
    "segments": "segment by segment, shuffled inside each segment",
    "segments-by-episode": "segment by segment, in whole episodes in random order inside each segment",
    "return": "in whole episodes, from the lowest return to the highest",
}
LEAKS = {
    "normalizer": "observations are normalized with the mean and standard deviation of the full dataset",
    "reward_scale": "rewards are scaled by the best and worst episode return of the full dataset",
}


def describe(study: Study) -> str:
    """When data becomes visible, how agents are evaluated, and what happens online."""
    protocol, online = study["protocol"], study["online"]
    sentences = []
    if _has_data(study):
        sentences += [_arrival(protocol), _batches(protocol)]
        sentences += [f"{capitalized(text)}." for text in leaks(study)]
        if protocol["data_rules"] == "qlearning":
            sentences.append(
                "Transitions are those of D4RL's qlearning_dataset, without timeouts and the last transition."
            )
        if protocol["learning_rate_decay"]:
            sentences.append("Learning rates with a decay follow a cosine over all updates.")
    sentences.append(_evaluation(protocol, study["evaluation"]))
    if online["steps"]:
        sentences.append(_online(study))
    return " ".join(sentences)


def leaks(study: Study) -> list[str]:
    """The settings of a study that use data before it arrives."""
    return [text for key, text in LEAKS.items() if study["protocol"][key] == "full"]


def _has_data(study: Study) -> bool:
    return any(dataset["transitions"] for dataset in study["datasets"].values())


def _arrival(protocol: Study) -> str:
    regime, order = protocol["regime"], ORDERS[protocol["order"]]
    start = counted(protocol["start"], "transition")
    updates = counted(protocol["updates_per_size"], "gradient update")
    if regime == "stream":
        count = protocol["updates_per_growth"]
        every = "gradient update" if count == 1 else counted(count, "gradient update")
        return (
            f"The data arrives {order}: {start} before the first update, then {spaced(protocol['grow_by'])} "
            f"after every {every}, until all are visible."
        )
    if regime == "full":
        return f"All data is visible from the start, for {updates}."
    steps = "even" if protocol["spacing"] == "linear" else "geometric"
    agent = "a fresh agent" if regime == "retrain" else "the agent of the previous size"
    return (
        f"The data grows in {spaced(protocol['sizes'])} sizes, {order}, in {steps} steps from {start} to all;"
        f" at each size {agent} makes {updates}."
    )


def _batches(protocol: Study) -> str:
    window = protocol["window"]
    visible = f"the newest {counted(window, 'transition')}" if window else "all visible transitions"
    forced = "; new transitions are always in the next minibatch" if protocol["regime"] == "stream" else ""
    return f"Minibatches are drawn uniformly from {visible}{forced}."


def _evaluation(protocol: Study, evaluation: Study) -> str:
    if evaluation["every"]:
        when = f"every {counted(evaluation['every'], 'transition')}"
    elif protocol["regime"] == "stream":
        when = f"at the start and after {spaced(evaluation['points'])} even steps of each phase"
    else:
        when = "at each size"
    episodes = counted(evaluation["episodes"], "episode")
    return f"Evaluation: {when}, the deterministic policy runs for {episodes} in separate environments."


def _online(study: Study) -> str:
    online = study["online"]
    usual = {"updates_per_step": 1, "mix": "uniform"}
    given = {name: value for name, value in online.items() if value is not None}
    common = usual | given
    action = f"act in the environment for {counted(online['steps'], 'step')}, {_updates(common)}"
    if not _has_data(study):
        return f"Agents {action}."
    text = f"After the end of the data, the same agents {action}; minibatches are drawn {_mix(common)}."
    for name, settings in study["algorithms"].items():
        own = settings.get("online", usual)
        if any(own[key] != common[key] for key in usual):
            text += f" {name}: {_updates(own)}; minibatches are drawn {_mix(own)}."
    return text


def _updates(online: Study) -> str:
    return f"with {counted(online['updates_per_step'], 'gradient update')} after each step"


def _mix(online: Study) -> str:
    if online["mix"] == "uniform":
        return "uniformly from offline and online data together"
    return f"{100 * online['mix']:g} % from online data and the rest from offline data"
