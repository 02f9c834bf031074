"""The paper's own runs (Sujit et al., arXiv 2212.08131) as rows, and the comparison of a study with them.

runs         the curves of its three figures, on our x axis
comparison   which of them belong to a study, and whether its curves lie within their spread
"""

# ruff: noqa: F401 (this module only gathers the names)

from .comparison import average_as_published, compare, format_reasons, matching_runs, protocol_differences
from .runs import FIGURES, datasets, runs
