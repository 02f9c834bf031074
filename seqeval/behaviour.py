"""Makes datasets: trains one off-policy agent of Stable-Baselines3 and logs it at D4RL's levels (2004.07219).

    random          rollouts of the agent before training, at its initial weights
    medium          rollouts of the first checkpoint that is a third of the way from random to best
    expert          rollouts of the fully trained agent
    medium-expert   the head of medium, then the head of expert, half of the transitions each
    medium-replay   the log of training up to the medium checkpoint
    full-replay     the log of the whole training

Checkpoints are evaluated over 10 deterministic episodes, on the same initial states each time. The fully
trained agent is the best checkpoint, since off-policy training does not end at its best. The third is of the
normalised score: random + (best - random) / 3, where random is the mean return of uniformly random actions.

Rollouts are stochastic, with the exploration that the agent has at the end of its training: a sample of the
policy (SAC, TQC, CrossQ); ε-greedy with the final exploration rate (DQN, QRDQN); the deterministic action
plus its action noise (TD3, DDPG). Stable-Baselines3 gives TD3 and DDPG no noise at all unless told to, and
their log would then hold next to no exploration and their rollouts one action per state; here they get
Gaussian noise with a standard deviation of 0.1 of half the action range, in training and in rollouts. The
setting `action_noise` is that share (0 for none), for every algorithm that takes noise. Before
`learning_starts` the agents of Stable-Baselines3 act uniformly at random, and so does the log.

What is logged is what the environment received and gave back: actions in its own units (float32, or int64
numbers where they are discrete), observations after the last step of an episode and not after its reset. A
timeout is a step that was truncated and not terminated. In a file that is joined, of two policies or of a
training that was interrupted, the episode cut at the joint is marked as a timeout; the end of a file is not.

The work is kept in OUT/making, and the same recipe goes on there. At each checkpoint it holds the agent, the
log and the weights; what came after the last of them is lost in an interruption and done again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import h5py
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqeval import environments
from seqeval.errors import UserError, nearest
from seqeval.streams import stream

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

LEVELS = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")
CONTRIB = ("CrossQ", "QRDQN", "TQC")  # the off-policy algorithms of sb3_contrib
CHECKPOINT_EPISODES, REFERENCE_EPISODES = 10, 100
# First seeds of the episodes that are evaluated: no evaluation sees another's initial states.
CHECKPOINT_SEED, BEST_SEED, RANDOM_SEED = 10_000, 20_000, 30_000
DEFAULT_NOISE = 0.1  # of a deterministic policy, as a share of half the action range
PLAIN_EVERY = 10.0  # seconds between two lines of progress where the output is no terminal

Tell = Callable[[int, str], None]  # progress: how much is done, and a note
Act = Callable[[gymnasium.Env, Any], Any]  # a policy: environment and observation to action


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers of the files."""

    env_id: str
    algorithm: str  # an off-policy class of stable_baselines3 or sb3_contrib
    steps: int  # of training
    transitions: int  # of each file that is rolled out
    seed: int = 0
    checkpoints: int = 20  # evaluations while training, evenly spaced, the last at its end
    settings: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the class

    @property
    def marks(self) -> set[int]:
        """The steps at which the agent is evaluated."""
        return {round(self.steps * (k + 1) / self.checkpoints) for k in range(self.checkpoints)}

    def file(self, out: Path, level: str) -> Path:
        """`<env>-<level>.hdf5` in `out`; the environment's name is in lower case and without version."""
        namespace, name, _ = gymnasium.envs.registration.parse_env_id(self.env_id.rpartition(":")[2])
        return out / f"{namespace + '-' if namespace else ''}{name}-{level}.hdf5".lower()

    def command(self, level: str) -> str:
        """The command that makes one level of it."""
        values = ("env", self.env_id), ("algorithm", self.algorithm), ("steps", self.steps)
        more = ("transitions", self.transitions), ("seed", self.seed), ("checkpoints", self.checkpoints)
        flags = [f"--{key} {value}" for key, value in (*values, *more)]
        if self.settings:
            texts = (shlex.quote(f"{key}={value!r}") for key, value in sorted(self.settings.items()))
            flags.append(f"--settings {' '.join(texts)}")
        return f"seqeval datasets make {' '.join(flags)} --levels {level}"


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """The settings given as `key=value`, values as Python literals. Raises UserError where one is not."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--settings {text!r}: not of the form key=value")
        if key in settings:
            raise UserError(f"--settings {key}: given twice")
        try:
            settings[key] = ast.literal_eval(value)
            json.dumps(settings[key])  # so that it can be kept with the work and on the card
        except (ValueError, SyntaxError, TypeError):
            raise UserError(
                f"--settings {text}: {value!r} is no Python number, string, tuple, list or dict; "
                f"a string is quoted twice, as in {key}=\"'auto'\""
            ) from None
    return settings


def make(recipe: Recipe, levels: Sequence[str], out: Path, console: Console | None = None) -> dict[str, Path]:
    """Trains the agent of a recipe and writes a file in `out`, and a card beside it, for each of the levels.

    Returns the files by level. Progress goes to the console, if there is one. After an interruption the same
    call goes on, from OUT/making. Raises UserError for a recipe that cannot be followed, before anything is
    written; where a file exists that this recipe's work in `out` has not written; and where the trained
    agent is no better than random, so that there are no levels and no reference returns.
    """
    console = console or Console(quiet=True)
    check(recipe, levels)
    paths = {level: recipe.file(out, level) for level in dict.fromkeys(levels)}
    work = out / "making"
    _admit(recipe, paths, work)
    work.mkdir(parents=True, exist_ok=True)
    with _locked(work), _one_thread():
        _save_json(work / "recipe.json", asdict(recipe))
        if missing := [level for level, path in paths.items() if not path.exists()]:
            training = train(recipe, work, console)
            references = _references(training, console)
            for level in missing:
                _write_level(training, references, level, paths[level], console)
    # The recipe goes last: until then the same command finds its files and tidies up what is left.
    for path in sorted(work.iterdir(), key=lambda path: path.name == "recipe.json"):
        path.unlink()
    work.rmdir()
    return paths


# --- what is refused ---


def check(recipe: Recipe, levels: Sequence[str]) -> None:
    """Raises UserError where a recipe names what there is not or means nothing."""
    for level in levels:
        if level not in LEVELS:
            raise UserError(
                f"level {level!r} is not known{nearest(level, LEVELS)}; known: {', '.join(LEVELS)}"
            )
    if not levels:
        raise UserError(f"--levels: name at least one of {', '.join(LEVELS)}")
    for flag, least in (("steps", 1), ("transitions", 2), ("seed", 0), ("checkpoints", 1)):
        if (value := getattr(recipe, flag)) < least:
            raise UserError(f"--{flag}: must be at least {least}, not {value}")
    if recipe.checkpoints > recipe.steps:
        raise UserError(f"--checkpoints: {recipe.checkpoints} do not fit into {recipe.steps} steps")
    actions = environments.describe(recipe.env_id).actions
    cls = find_algorithm(recipe.algorithm)
    _check_settings(recipe, inspect.signature(cls).parameters)
    discrete, for_discrete = isinstance(actions, environments.Discrete), _is_discrete(cls)
    if discrete != for_discrete:
        kinds = {True: "discrete", False: "continuous"}
        raise UserError(
            f"algorithm {recipe.algorithm!r} takes {kinds[for_discrete]} actions, those of "
            f"{recipe.env_id} are {kinds[discrete]}; use {'DQN' if discrete else 'SAC, TD3 or DDPG'}"
        )
    if isinstance(actions, environments.Discrete) and actions.first != 0:
        raise UserError(
            f"environment {recipe.env_id!r}: its actions begin at {actions.first}, those of "
            f"Stable-Baselines3's {recipe.algorithm} at 0; wrap it in gymnasium.wrappers.TransformAction"
        )
    with _environment(recipe.env_id) as env:
        try:
            build(recipe, env, buffer_size=1)
        except Exception as error:  # whatever Stable-Baselines3 and torch make of a setting's value
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{recipe.algorithm} cannot be built with these --settings: {reason}") from error


def _check_settings(recipe: Recipe, parameters: Any) -> None:
    given = {"policy", "env", "_init_setup_model"}
    known = parameters.keys() - given - {"seed"} | {"net_arch"}
    for key in recipe.settings:
        if key == "seed":
            raise UserError("--settings seed: has a flag of its own, --seed")
        if key in given:
            raise UserError(f"--settings {key}: is given by the command itself")
        if key not in known:
            raise UserError(
                f"--settings {key}: {recipe.algorithm} has no such setting{nearest(key, known)}; "
                f"known: {', '.join(sorted(known))}"
            )
    for key in ("buffer_size", "batch_size"):
        size = recipe.settings.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"--settings {key}: must be a whole number of at least 1, not {size!r}")
    noise = recipe.settings.get("action_noise", 0.0)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise UserError(
            f"--settings action_noise: must be a standard deviation as a share of half the action range, "
            f"not {noise!r}"
        )


def _is_discrete(cls: type) -> bool:
    """Whether an algorithm is for discrete actions: it then explores ε-greedily."""
    return "exploration_final_eps" in inspect.signature(cls).parameters


def find_algorithm(name: str) -> type[OffPolicyAlgorithm]:
    """The off-policy class of a name. Raises UserError where there is none, or it has no replay buffer."""
    import stable_baselines3
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    modules = [stable_baselines3]
    with suppress(ImportError):
        modules.append(importlib.import_module("sb3_contrib"))
    everything = {key: value for module in modules for key, value in vars(module).items()}
    known = {k: v for k, v in everything.items() if inspect.isclass(v) and issubclass(v, BaseAlgorithm)}
    usable = {k: v for k, v in known.items() if issubclass(v, OffPolicyAlgorithm)}
    if name in usable:
        return usable[name]
    hint = f"off-policy are {', '.join(sorted(usable))}"
    if name in known:
        raise UserError(f"algorithm {name!r} is on-policy and has no replay buffer to make a log of; {hint}")
    if name in CONTRIB:
        raise UserError(
            f"algorithm {name!r} is in sb3_contrib, which is not installed: pip install sb3-contrib"
        )
    raise UserError(f"algorithm {name!r} is not known{nearest(name.upper(), usable)}; {hint}")


def _admit(recipe: Recipe, paths: dict[str, Path], work: Path) -> None:
    """Raises UserError where `work` is another recipe's, or a file to be written is there already."""
    kept = work / "recipe.json"
    if kept.is_file():
        try:
            before = json.loads(kept.read_text())
        except ValueError as error:
            raise UserError(f"{kept}: damaged, not JSON ({error}); remove {work}") from error
        _same(before, json.loads(json.dumps(asdict(recipe))), work)
    elif work.is_dir() and any(path.suffix != ".partial" for path in work.iterdir()):
        raise UserError(f"{work}: not empty and holds no recipe.json; give another --out")
    for level, path in paths.items():
        card = path.with_suffix(".json")
        # The card is written before the file: a card alone is a level that was cut short.
        here = [path] if path.exists() else [card] if card.exists() else []
        if here and not (kept.is_file() and _made_by(card) == recipe.command(level)):
            raise UserError(f"{here[0]}: exists already; remove it or give another --out")


def _same(there: dict[str, Any], here: dict[str, Any], work: Path, group: str = "") -> None:
    for key in [*here, *(there.keys() - here.keys())]:
        before, now = there.get(key), here.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            _same(before, now, work, f"{group}{key}.")
        elif before != now:
            raise UserError(
                f"{work}: begun with {group}{key} {before!r}, not {now!r}; "
                "give that value to go on there, or another --out"
            )


def _made_by(card: Path) -> str | None:
    with suppress(OSError, ValueError):
        return json.loads(card.read_text()).get("made_by")
    return None


# --- the agent ---


def build(recipe: Recipe, env: gymnasium.Env, **changes: Any) -> OffPolicyAlgorithm:
    """The agent of a recipe before training, on an environment; with `changes` to its settings."""
    cls = find_algorithm(recipe.algorithm)
    settings = {"device": "cpu"} | recipe.settings | changes
    if "net_arch" in settings:
        widths = settings.pop("net_arch")
        widths = list(widths) if isinstance(widths, tuple) else widths
        settings["policy_kwargs"] = {**(settings.get("policy_kwargs") or {}), "net_arch": widths}
    if "buffer_size" not in settings:
        default = inspect.signature(cls).parameters["buffer_size"].default
        settings["buffer_size"] = min(default, recipe.steps)
    if "action_noise" in settings or noise_of(recipe):
        settings["action_noise"] = _gaussian(noise_of(recipe), env.action_space)
    return cls("MlpPolicy", env, seed=recipe.seed, **settings)


def noise_of(recipe: Recipe) -> float:
    """The standard deviation of its Gaussian action noise, as a share of half the action range."""
    from stable_baselines3 import TD3

    default = DEFAULT_NOISE if issubclass(find_algorithm(recipe.algorithm), TD3) else 0.0  # DDPG is a TD3
    return recipe.settings.get("action_noise", default)


def _gaussian(deviation: float, space: gymnasium.Space) -> Any:
    """Noise for actions that are scaled to [-1, 1], as Stable-Baselines3 adds it; None for none."""
    from stable_baselines3.common.noise import NormalActionNoise

    assert space.shape is not None
    return NormalActionNoise(np.zeros(space.shape), np.full(space.shape, deviation)) if deviation else None


def greedy(agent: OffPolicyAlgorithm) -> Act:
    """Its deterministic policy."""
    return lambda env, observation: agent.predict(observation, deterministic=True)[0]


def _uniform(env: gymnasium.Env, _: Any) -> Any:
    return env.action_space.sample()


def exploring(agent: OffPolicyAlgorithm) -> Act:
    """Its policy as it explores at the end of training (see the module's docstring)."""
    if _is_discrete(type(agent)):
        agent.exploration_rate = agent.exploration_final_eps  # type: ignore[attr-defined]

    def act(env: gymnasium.Env, observation: Any) -> Any:
        action, _ = agent.predict(observation, deterministic=False)
        if agent.action_noise is None:
            return action
        scaled = agent.policy.scale_action(action) + agent.action_noise()
        return agent.policy.unscale_action(np.clip(scaled, -1, 1))

    return act


def _exploration(recipe: Recipe) -> str:
    """How its rollouts explore, in words."""
    cls = find_algorithm(recipe.algorithm)
    if _is_discrete(cls):
        default = inspect.signature(cls).parameters["exploration_final_eps"].default
        return f"ε-greedy with ε = {recipe.settings.get('exploration_final_eps', default)}"
    noise = noise_of(recipe)
    return f"with action noise of {noise} of half the action range" if noise else "stochastic"


def episode_returns(env_id: str, act: Act, seed: int, episodes: int, tell: Tell | None = None) -> np.ndarray:
    """Undiscounted returns of a policy in an environment of its own: (episodes,) float64."""
    returns = []
    with _environment(env_id) as env:
        env.action_space.seed(seed)
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(act(env, observation))
                total += float(reward)
                over = terminated or truncated
            returns.append(total)
            if tell is not None:
                tell(episode + 1, f"mean {np.mean(returns):.1f}")
    return np.array(returns)


@contextmanager
def _environment(env_id: str) -> Iterator[gymnasium.Env]:
    """An environment that is closed in the end."""
    env = environments.make(env_id)
    try:
        yield env
    finally:
        env.close()


# --- the log ---


class Log:
    """Transitions in the order they were taken, under D4RL's names, up to a capacity.

    `fields` are arrays of `capacity` rows, of which `size` are filled: float32, flags bool, and actions
    float32 (capacity, action) or, where discrete, int64 (capacity,).
    """

    def __init__(self, env_id: str, capacity: int) -> None:
        about = environments.describe(env_id)
        discrete = isinstance(about.actions, environments.Discrete)
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "observations": ((about.observation_size,), np.float32),
            "actions": ((), np.int64) if discrete else ((about.actions.size,), np.float32),
            "rewards": ((), np.float32),
            "next_observations": ((about.observation_size,), np.float32),
            "terminals": ((), np.bool_),
            "timeouts": ((), np.bool_),
        }
        self.size = 0
        self.fields: dict[str, np.ndarray] = {
            key: np.zeros((capacity, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }

    def append(self, **step: Any) -> None:
        for key, values in self.fields.items():
            values[self.size] = step[key]
        self.size += 1

    def rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        return {key: values[first:last] for key, values in self.fields.items()}

    def cut(self, row: int) -> None:
        """Ends the episode of a row there: with a timeout, unless it terminates."""
        self.fields["timeouts"][row] = not self.fields["terminals"][row]


class Logged(gymnasium.Wrapper):
    """An environment whose every step is logged, as it received and answered it."""

    def __init__(self, env: gymnasium.Env, log: Log) -> None:
        super().__init__(env)
        self.log = log

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self.observation = np.copy(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        following, reward, terminated, truncated, info = self.env.step(action)
        self.log.append(
            observations=self.observation,
            actions=action,
            rewards=reward,
            next_observations=following,
            terminals=terminated,
            timeouts=truncated and not terminated,
        )
        self.observation = np.copy(following)
        return following, reward, terminated, truncated, info


# --- training ---


class Training:
    """A training and what is kept of it in a folder.

    progress.json               the last state that was saved; it names the files that count
    model-<step>.zip            the agent there, as Stable-Baselines3 saves it
    log-<first>-<last>.npz      parts of the log, one behind the other
    weights-<step>.pt           of the policy: before training, and at each checkpoint
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.log = Log(recipe.env_id, recipe.steps)
        self.returns: dict[int, float] = {}  # of the checkpoints, by step: means over deterministic episodes
        self.resumed_at: list[int] = []  # steps
        self._parts: list[tuple[int, int]] = []
        self._state = folder / "progress.json"
        if self._state.exists():
            self._read()

    def _read(self) -> None:
        state = json.loads(self._state.read_text())
        self.returns = dict(state["returns"])
        self.resumed_at, self._parts = state["resumed_at"], [tuple(part) for part in state["parts"]]
        for first, last in self._parts:
            with np.load(self._part(first, last)) as part:
                for key, values in self.log.fields.items():
                    values[first:last] = part[key]
            self.log.size = last
        for step in self.resumed_at:
            self.log.cut(step - 1)

    def _part(self, first: int, last: int) -> Path:
        return self.folder / f"log-{first}-{last}.npz"

    def weights(self, step: int) -> Path:
        return self.folder / f"weights-{step}.pt"

    def _model(self, step: int) -> Path:
        return self.folder / f"model-{step}.zip"

    @property
    def over(self) -> bool:
        return self.log.size == self.recipe.steps

    @property
    def best(self) -> int:
        """The step of the checkpoint with the highest return, the first of them."""
        return max(self.returns, key=lambda step: self.returns[step])

    def agent(self, env: gymnasium.Env) -> OffPolicyAlgorithm:
        """The agent to go on with: a new one, or the one last saved with its replay buffer filled again."""
        if self.log.size == 0:
            agent = build(self.recipe, env)
            self.keep_weights(agent, 0)
            return agent
        step = self.log.size
        device = self.recipe.settings.get("device", "cpu")
        agent = find_algorithm(self.recipe.algorithm).load(self._model(step), env=env, device=device)
        # Its own seed again would repeat the initial states and the noise that the log has already.
        agent.set_random_seed(int(stream(self.recipe.seed, "resumed", step).integers(2**31)))
        self.resumed_at.append(step)
        self.log.cut(step - 1)
        _fill(agent, self.log)
        return agent

    def keep_weights(self, agent: OffPolicyAlgorithm, step: int) -> None:
        import torch

        with _replacing(self.weights(step)) as partial:
            torch.save(agent.policy.state_dict(), partial)

    def save(self, agent: OffPolicyAlgorithm) -> None:
        """Keeps the state of now, in one step."""
        first, last = self._parts[-1][1] if self._parts else 0, self.log.size
        part: Any = self.log.rows(first, last)
        with _replacing(self._part(first, last)) as partial, partial.open("wb") as file:
            np.savez(file, **part)
        with _replacing(self._model(last)) as partial, partial.open("wb") as file:
            agent.save(file)
        self._parts.append((first, last))
        state = {"returns": [*self.returns.items()], "resumed_at": self.resumed_at, "parts": self._parts}
        _save_json(self._state, state)
        for model in self.folder.glob("model-*.zip"):
            if model != self._model(last):
                model.unlink()


def train(recipe: Recipe, folder: Path, console: Console) -> Training:
    """Trains the agent of a recipe to its last step, from wherever `folder` says that it is."""
    training = Training(recipe, folder)
    if not training.over:
        title = f"training {recipe.algorithm} in {recipe.env_id}"
        with _progress(console, title, recipe.steps) as tell, _environment(recipe.env_id) as env:
            done = training.log.size
            agent = training.agent(Logged(env, training.log))
            # Stable-Baselines3 adds the steps already done to those asked for: schedules stay as they were.
            agent.learn(recipe.steps - done, _watch(training, tell), reset_num_timesteps=done == 0)
            training.save(agent)
    return training


def _watch(training: Training, tell: Tell) -> BaseCallback:
    """What happens beside the learning: evaluation and weights at checkpoints, then the saving."""
    from stable_baselines3.common.callbacks import BaseCallback

    recipe, marks = training.recipe, training.recipe.marks
    note = ""

    class Watch(BaseCallback):
        unsaved = False

        def _on_rollout_start(self) -> None:
            # Only here is the last step in the replay buffer and learnt from, and the next not yet taken.
            if self.unsaved:
                training.save(cast("OffPolicyAlgorithm", self.model))
                self.unsaved = False

        def _on_step(self) -> bool:
            nonlocal note
            step, agent = training.log.size, cast("OffPolicyAlgorithm", self.model)
            if step in marks:
                returns = episode_returns(recipe.env_id, greedy(agent), CHECKPOINT_SEED, CHECKPOINT_EPISODES)
                training.returns[step] = float(returns.mean())
                training.keep_weights(agent, step)
                self.unsaved = True
                note = f"last return {training.returns[step]:.1f}"
            tell(step, note)
            return step < recipe.steps  # Stable-Baselines3 would go on to the end of its train_freq

    return Watch()


def _fill(agent: OffPolicyAlgorithm, log: Log) -> None:
    """Puts the newest transitions of a log into the agent's replay buffer, as the agent itself would have."""
    buffer, fields = agent.replay_buffer, log.fields
    assert buffer is not None
    continuous = isinstance(agent.action_space, gymnasium.spaces.Box)
    for row in range(max(0, log.size - buffer.buffer_size), log.size):
        action = fields["actions"][row]
        buffer.add(
            fields["observations"][row][None],
            fields["next_observations"][row][None],
            agent.policy.scale_action(action)[None] if continuous else np.array([action]),
            fields["rewards"][row][None],
            # An episode that was cut is done and timed out: the value of what follows counts.
            np.array([fields["terminals"][row] or fields["timeouts"][row]]),
            [{"TimeLimit.truncated": bool(fields["timeouts"][row])}],
        )


# --- the levels ---


@dataclass(frozen=True)
class References:
    """Returns of REFERENCE_EPISODES episodes, and the checkpoint that is called medium."""

    random: np.ndarray
    best: np.ndarray
    medium: int  # step

    def facts(self, best_step: int) -> dict[str, Any]:
        return {
            "reference_min": float(self.random.mean()),
            "reference_max": float(self.best.mean()),
            "reference_source": (
                f"mean return over {REFERENCE_EPISODES} episodes of a uniformly random policy and of the "
                f"best checkpoint of the behaviour agent (step {best_step}, deterministic)"
            ),
        }


def _references(training: Training, console: Console) -> References:
    """Raises UserError where the trained agent is no better than random."""
    recipe, step = training.recipe, training.best
    env_id, episodes = recipe.env_id, REFERENCE_EPISODES
    with _progress(console, "reference returns, trained", episodes) as tell:
        with _player(recipe, training.weights(step)) as agent:
            best = episode_returns(env_id, greedy(agent), BEST_SEED, episodes, tell)
    with _progress(console, "reference returns, random", episodes) as tell:
        random = episode_returns(env_id, _uniform, RANDOM_SEED, episodes, tell)
    low, high = float(random.mean()), training.returns[step]
    if not (high > low and best.mean() > low):
        raise UserError(
            f"{recipe.algorithm} in {env_id} got no better than random in {recipe.steps} steps: its best "
            f"checkpoint (step {step}) has a return of {high:.2f}, {best.mean():.2f} over {episodes} "
            f"episodes, random actions {low:.2f}; the training is kept in {training.folder}; give other "
            "--settings or more --steps, and another --out"
        )
    reaching = [s for s, value in training.returns.items() if value >= low + (high - low) / 3]
    return References(random, best, min(reaching))


@contextmanager
def _player(recipe: Recipe, weights: Path) -> Iterator[OffPolicyAlgorithm]:
    """The agent at some weights, only to act."""
    import torch

    with _environment(recipe.env_id) as env:
        agent = build(recipe, env, buffer_size=1)
        state = torch.load(weights, map_location=agent.device, weights_only=True)
        agent.policy.load_state_dict(state)
        yield agent


def rollout(
    recipe: Recipe, weights: Path, purpose: str, transitions: int, tell: Tell
) -> dict[str, np.ndarray]:
    """The fields of so many transitions of an agent that explores; the same whenever it is asked for."""
    log = Log(recipe.env_id, transitions)
    with _environment(recipe.env_id) as env, _player(recipe, weights) as agent:
        seed = int(stream(recipe.seed, "rollout", purpose).integers(2**31))
        agent.set_random_seed(seed)
        logged, act, over = Logged(env, log), exploring(agent), True
        observation, _ = logged.reset(seed=seed)
        while log.size < transitions:
            if over and log.size:
                observation, _ = logged.reset()
            if over and agent.use_sde:
                agent.policy.reset_noise()  # type: ignore[operator]
            observation, _, terminated, truncated, _ = logged.step(act(logged, observation))
            over = terminated or truncated
            tell(log.size, "")
    return log.fields


def _level(
    training: Training, level: str, medium: int, console: Console
) -> tuple[dict[str, np.ndarray], str]:
    """The fields of a level, and what it is in words."""
    recipe = training.recipe
    agent = f"{_package(recipe)} {recipe.algorithm}"
    if level in ("medium-replay", "full-replay"):
        last = medium if level == "medium-replay" else recipe.steps
        return training.log.rows(0, last), f"{agent} while it learns, steps 0 to {last}, seed {recipe.seed}"
    steps = {"random": 0, "medium": medium, "expert": training.best}
    words = {
        "random": "before training",
        "medium": f"at step {medium}, the first checkpoint a third of the way from random to best",
        "expert": f"at step {training.best}, its best checkpoint",
    }
    half = recipe.transitions // 2
    parts = {"medium": half, "expert": recipe.transitions - half}
    parts = parts if level == "medium-expert" else {level: recipe.transitions}
    fields: list[dict[str, np.ndarray]] = []
    for part, size in parts.items():
        title = f"rolling out {level}" + (f", {part}" if len(parts) > 1 else "")
        with _progress(console, title, size) as tell:
            fields.append(rollout(recipe, training.weights(steps[part]), part, size, tell))
    for joined in fields[:-1]:
        joined["timeouts"][-1] = not joined["terminals"][-1]
    behaviour = ", then ".join(words[part] for part in parts)
    return (
        {key: np.concatenate([part[key] for part in fields]) for key in fields[0]},
        f"{agent} {behaviour}, {_exploration(recipe)}, seed {recipe.seed}",
    )


def _write_level(
    training: Training, references: References, level: str, path: Path, console: Console
) -> None:
    """Writes the file of a level and its card; the file is there once both are."""
    recipe = training.recipe
    fields, behaviour = _level(training, level, references.medium, console)
    facts = references.facts(training.best)
    with _replacing(path) as partial:
        with h5py.File(partial, "w") as file:
            file.attrs.update({"env_id": recipe.env_id, "behaviour": behaviour, **facts})
            for key, values in fields.items():
                file.create_dataset(key, data=values, compression="gzip", compression_opts=9, shuffle=True)
        card = {
            "name": path.stem,
            "env_id": recipe.env_id,
            "level": level,
            "algorithm": recipe.algorithm,
            "steps": recipe.steps,
            "behaviour": behaviour,
            "behaviour_settings": _settings(recipe),
            "transitions": len(fields["rewards"]),
            "episodes": int((fields["terminals"] | fields["timeouts"]).sum()),
            **facts,
            "reference_std": [float(references.random.std()), float(references.best.std())],
            "checkpoint_returns": [[step, value] for step, value in training.returns.items()],
            "resumed_at": training.resumed_at,
            "versions": _versions(recipe),
            "made_by": recipe.command(level),
            "sha256": hashlib.sha256(partial.read_bytes()).hexdigest(),
        }
        _save_json(path.with_suffix(".json"), card)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What was set about the agent, its noise included where that is not Stable-Baselines3's default."""
    noise = noise_of(recipe)
    return recipe.settings | ({"action_noise": noise} if noise else {})


def _package(recipe: Recipe) -> str:
    contrib = find_algorithm(recipe.algorithm).__module__.startswith("sb3_contrib")
    return "sb3-contrib" if contrib else "Stable-Baselines3"


def _versions(recipe: Recipe) -> dict[str, str]:
    packages = ["gymnasium", "mujoco", "stable-baselines3", "torch", "numpy"]
    if _package(recipe) == "sb3-contrib":
        packages.append("sb3-contrib")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


# --- files, locks, progress ---


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A partial file to write into, which takes the name when all of it is on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _save_json(path: Path, value: Any) -> None:
    with _replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder. Raises UserError where one is in it."""
    if sys.platform == "win32":  # which has no such locks
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is at work there") from error
        yield
    finally:
        os.close(handle)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch: faster for small networks, and numbers that do not depend on the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _progress(console: Console, title: str, total: int) -> Iterator[Tell]:
    """A bar on a terminal, elsewhere a plain line now and then and one at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    shown = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, note="")

        def tell(done: int, note: str) -> None:
            nonlocal shown
            now, every = time.monotonic(), 0.1 if console.is_terminal else PLAIN_EVERY
            if done < total and now - shown < every:
                return
            shown = now
            bar.update(task, completed=done, note=note)
            if not console.is_terminal:
                line = f"{done / total:4.0%}  {title}: {done} of {total}"
                console.print(f"{line}  ·  {note}" if note else line, highlight=False, markup=False)

        yield tell
