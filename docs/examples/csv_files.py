"""CSV files, given by path: a column for each number of a transition.

Columns: `observation_0`, `observation_1`, …, `action_0`, …, `reward`, `terminal` and, optionally, `timeout`.
"""

import numpy as np
import pandas as pd

from seqeval.datasets import Source, _files
from seqeval.errors import UserError

FLAGS = {"terminals": "terminal", "timeouts": "timeout"}


def load(name, options):
    """The dataset of a file. Raises UserError if a column is missing."""
    path = _files.existing(name)
    table = pd.read_csv(path)
    raw = {"observations": _matrix(table, "observation_"), "actions": _matrix(table, "action_")}
    for column in ("reward", "terminal"):
        if column not in table:
            raise UserError(f"{path}: has no column {column!r}; its columns are {', '.join(table.columns)}")
    raw["rewards"] = table["reward"].to_numpy(np.float32)
    raw |= {field: table[column].to_numpy(bool) for field, column in FLAGS.items() if column in table}
    return _files.assemble(path, raw, {}, options)


def _matrix(table, prefix):
    columns = [column for column in table if column.startswith(prefix)]
    return table[columns].to_numpy(np.float32)


SOURCE = Source(load, endings=(".csv",))
