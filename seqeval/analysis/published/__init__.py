"""Published results of other projects, and the comparison of a study with them.

sources      the sources: citation, licence, unit, meaning of the x axis; their files in this folder
scores       reference scores of all sources in one table
ends         the ends of a study's phases against reference scores
overlay      published curves on the x axis of a study
runs         the curves of the paper's three figures (Sujit et al., arXiv 2212.08131) as rows, on our x axis
comparison   which of these belong to a study, and whether its curves lie within their spread
"""

# ruff: noqa: F401 (this module only gathers the names)

from .comparison import average_as_published, compare, format_reasons, matching_runs, protocol_differences
from .ends import compare_ends
from .overlay import overlay
from .runs import FIGURES, datasets, runs
from .scores import STATISTICS, reference_scores
from .sources import OUR_NAMES, PAPER, SOURCES, Source, curves, find, settings
