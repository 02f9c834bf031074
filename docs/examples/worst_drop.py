"""A statistic of runs: how far the value ever falls below its best up to then, offline."""

import numpy as np
import pandas as pd

from seqeval.analysis.lines import RUN, run_curves
from seqeval.analysis.statistics import statistic


@statistic("worst_drop", "worst drop", "lost at most, below the best value up to then")
def worst_drops(rows):
    """The largest fall of each run below its running maximum; 0 if it never falls."""
    curves = run_curves(rows[rows["phase"] == "offline"])
    found = [(*key, (np.maximum.accumulate(values) - values).max()) for key, n, values in curves]
    return pd.DataFrame(found, columns=[*RUN, "unit", "value"])
