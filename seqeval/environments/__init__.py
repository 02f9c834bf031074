"""Make, check and describe Gymnasium environments.

A package of environments that Gymnasium does not know by itself is a file of this folder, listed in
`PACKAGES` by the namespace of its names.
"""

from __future__ import annotations

import ast
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import gymnasium
import numpy as np

from seqeval.environments import images
from seqeval.errors import UserError, nearest, one_line
from seqeval.types import Continuous, Dataset, Discrete, Environment, Image, Vector

PACKAGES = {
    "MinAtar": "minatar",
    "ALE": "atari",
    "dm_control_pixels": "dm_control",
}  # namespace -> file of this folder

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # the lowest and the highest value of each action


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress two of Gymnasium's warnings.

    One says that v4 environments are out of date, but D4RL's physics and rewards are those of v4. The other
    says that a name has no version, which `make` refuses.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is out of date.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*unversioned environment.*", category=UserWarning)
        yield


def make(env_id: str) -> gymnasium.Env:
    """Make an environment from its name, which options may follow:
    `Ant-v4?use_contact_forces=True&frame_skip=5`.

    Every environment also accepts the option `flatten_observation=True`, which turns other observations
    (e.g. dicts) into vectors with gymnasium.wrappers.FlattenObservation. Images become uint8 with channels
    first; the option `frame_stack=4` puts the newest 4 together. Raises UserError if there is no environment
    of exactly that name, or if it does not accept the options.
    """
    name, options = split(env_id)
    flatten, stack = options.pop("flatten_observation", False), options.pop("frame_stack", None)
    package = _package(env_id, name)
    try:
        with quiet():
            env = gymnasium.make(name, **getattr(package, "DEFAULTS", {}) | options)
            if package is not None:
                env = package.wrapped(env)
            if flatten:
                env = gymnasium.wrappers.FlattenObservation(env)
            elif images.is_image(env.observation_space):
                env = images.with_stacks(env, frame_stack(env_id))
            elif stack is not None:
                raise ValueError("frame_stack is for images, which its observations are not")
    except (gymnasium.error.Error, ImportError, ValueError, TypeError, NotImplementedError) as error:
        caused_by_options = {TypeError: bool(options), NotImplementedError: flatten}
        if not caused_by_options.get(type(error), True):  # a bug in the environment's own code
            raise
        reason = str(error).splitlines()[0].split(" Did you mean")[0].rstrip(".")
        hint = nearest(name, gymnasium.registry.keys() - {name})
        raise UserError(f"environment {env_id!r} cannot be made: {reason}{hint}") from error
    made = env.spec.id if env.spec else name
    if made != name.rpartition(":")[2]:
        env.close()
        raise UserError(f"environment {env_id!r}: use its full name, {made!r}")
    return env


def _package(env_id: str, name: str) -> Any:
    """The file of this folder that a name belongs to, its environments registered; None if there is none.
    Raises UserError if the package behind it is not installed."""
    namespace = name.rpartition(":")[2].partition("/")[0]
    if namespace not in PACKAGES:
        return None
    package = import_module(f"{__name__}.{PACKAGES[namespace]}")
    try:
        package.register()
    except ImportError as error:
        raise UserError(
            f"environment {env_id!r}: {one_line(error)}; pip install 'seqeval-rl[{package.EXTRA}]'"
        ) from error
    return package


def frame_stack(env_id: str) -> int:
    """How many frames make an observation of an environment, if these are images."""
    name, options = split(env_id)
    package = _package(env_id, name)
    return images.check_stack(env_id, options.get("frame_stack", package.FRAME_STACK if package else 1))


@cache
def known_packages() -> frozenset[str]:
    """The packages of environments that data may name: those of the suite's own datasets, and installed
    plug-ins of Gymnasium, which Gymnasium imports anyway."""
    points = entry_points(group="gymnasium.envs")
    return frozenset(
        {"gymnasium", "gymnasium_robotics", *(point.module.partition(".")[0] for point in points)}
    )


def refuse_import(source: str, env_id: str) -> None:
    """Raises UserError if making an environment that data names would import a module.

    Data may come from anybody. `module:Name` imports the module, which runs its code; only the user may ask
    for that, except for `known_packages` and for what is imported already.
    """
    module = env_id.partition("?")[0].rpartition(":")[0]
    if module and module not in sys.modules and module.partition(".")[0] not in known_packages():
        raise UserError(
            f"{source}: its environment {env_id!r} would import the module {module!r}; if you trust that "
            f"module, add --env {shlex.quote(env_id) if env_id.isprintable() else repr(env_id)}"
        )


def with_options(env_id: str, options: Mapping[str, Any]) -> str:
    """The environment's name with more options. Raises UserError if an option cannot be written."""
    if not options:
        return env_id
    text = "&".join(f"{key}={value!r}" for key, value in options.items())
    written = f"{env_id}{'&' if '?' in env_id else '?'}{text}"
    split(written)
    return written


def split(env_id: str) -> tuple[str, dict[str, Any]]:
    """Split an environment's name from its options. Raises UserError if something is not an option."""
    name, _, text = env_id.partition("?")
    options = {}
    for item in text.split("&") if text else []:
        key, _, value = item.partition("=")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise UserError(
                f"environment {env_id!r}: {item!r} is not an option; write options as name=value, as in "
                "Ant-v4?use_contact_forces=True, with words in quotes"
            ) from error
    return name, options


def spaces_text(environment: Environment) -> str:
    """A description of an environment's observation and action space."""
    space = environment.actions
    seen = environment.observation
    if isinstance(seen, Image):
        frames = f"{seen.stack} frames" if seen.stack > 1 else "1 frame"
        observations = f"observations of {frames} of {seen.channels}×{seen.height}×{seen.width}"
    else:
        observations = f"observations of {seen.size} numbers"
    if isinstance(space, Discrete):
        return f"{observations} and {space.size} discrete actions"
    low, high = (" ".join(f"{x:g}" for x in np.unique(bound)) for bound in (space.low, space.high))
    return f"{observations} and actions of {space.size} from {low} to {high}"


def of(dataset: Dataset) -> Environment:
    """The environment in which a dataset was collected."""
    return describe(dataset.environment) if dataset.logged_in is None else dataset.logged_in


@cache
def describe(env_id: str, bounds: Bounds | None = None) -> Environment:
    """Describe an environment: its observations, action space and time limit.

    `bounds` are those of vector actions that the environment does not bound. Raises UserError for an unknown
    environment and for unsupported spaces: observations must be flat vectors or images of uint8, actions
    bounded vectors or discrete.
    """
    observation, space, limit = spaces(env_id)
    return Environment(env_id, observation, _actions(env_id, space, bounds), limit)


@cache
def spaces(env_id: str) -> tuple[Vector | Image, Any, int | None]:
    """The observations, the action space (Box, which may be unbounded, or Discrete) and the time limit of
    an environment.

    Raises UserError as `describe` does.
    """
    with closing(make(env_id)) as env:
        observation, action, spec = env.observation_space, env.action_space, env.spec
    seen: Vector | Image
    if images.is_image(observation):
        assert observation.shape is not None, "an image has a shape"
        (channels, height, width), stack = observation.shape, frame_stack(env_id)
        seen = Image(channels // stack, height, width, stack)
    elif isinstance(observation, gymnasium.spaces.Box) and len(observation.shape) == 1:
        seen = Vector(observation.shape[0])
    else:
        hint = "; add the option flatten_observation=True if the data holds them as vectors"
        raise UserError(
            f"environment {env_id!r}: observations must be a flat vector or an image of uint8, not "
            f"{observation}{hint * observation.is_np_flattenable}"
        )
    limit = spec.max_episode_steps if spec else None
    is_vector = isinstance(action, gymnasium.spaces.Box) and len(action.shape) == 1
    if is_vector or isinstance(action, gymnasium.spaces.Discrete):
        return seen, action, limit
    raise UserError(f"environment {env_id!r}: actions must be a flat vector or discrete, not {action}")


def has_bounded_actions(env_id: str) -> bool:
    """Whether the environment bounds its actions, or numbers them. Raises UserError as `describe` does."""
    _, space, _ = spaces(env_id)
    return isinstance(space, gymnasium.spaces.Discrete) or space.is_bounded()


def _actions(
    env_id: str, space: gymnasium.spaces.Box | gymnasium.spaces.Discrete, bounds: Bounds | None
) -> Continuous | Discrete:
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n), int(space.start))
    low, high = space.low, space.high
    if bounds is not None and not space.is_bounded():
        low, high = np.array(bounds[0]), np.array(bounds[1])
        if low.shape != space.shape:
            raise UserError(
                f"environment {env_id!r}: has actions of {space.shape[0]} numbers, but the data gives bounds "
                f"of {len(low)}"
            )
    elif not space.is_bounded():
        raise UserError(
            f"environment {env_id!r}: its actions are unbounded, so they cannot be mapped to [-1, 1]; give "
            "their bounds in the file of the data (attributes action_low and action_high, HDF5 or npz), or "
            "name a registered environment with bounded actions with --env"
        )
    return Continuous(low.astype(np.float32), high.astype(np.float32))
