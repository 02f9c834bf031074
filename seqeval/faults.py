"""Tells faults of plug-ins and environments from those of the suite, by the frames of their tracebacks."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from seqeval.errors import PluginError, UserError

DEPENDENCIES = {  # whose frames are neither the suite's nor a plug-in's
    *("torch", "numpy", "gymnasium", "mujoco", "stable_baselines3", "minari", "h5py", "pandas", "matplotlib"),
    *("cloudpickle", "filelock", "requests", "rich", "tyro", "xxhash", "gymnasium_robotics", "sb3_contrib"),
    *("envpool", "ray", "submitit", "tensorboard"),
}
CALLERS = {"seqeval", "gymnasium", *sys.stdlib_module_names}  # that call plug-ins and environments directly


def plugin_error(error: BaseException) -> PluginError | None:
    """The error of a plug-in or environment that raised an exception; None if it was raised elsewhere."""
    if isinstance(error, PluginError):
        return error
    frames, caller, found = [], "seqeval", False
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        foreign = package not in DEPENDENCIES | CALLERS
        found = found or (foreign and caller in CALLERS)
        if found and foreign:
            frames.append((frame, line))
        caller = package
    if not frames:
        return None
    shown = traceback.StackSummary.extract(iter(frames)).format()
    lines = [*shown, *traceback.format_exception_only(error)]
    return PluginError("".join(lines).rstrip(), "".join(traceback.format_exception(error)))


@contextmanager
def reported() -> Iterator[None]:
    """Raises a fault of a plug-in or environment as PluginError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if found := plugin_error(error):
            raise found from error
        raise
