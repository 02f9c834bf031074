"""The paper's own runs (Sujit et al., arXiv 2212.08131), as rows like a study's, and a study beside them.

runs         the curves of its three figures, on our x axis
comparison   which of them belong to a study, and whether its curves lie among theirs
"""

from .comparison import averaged, compare, counterparts, differences, in_words
from .runs import FIGURES, datasets, runs

__all__ = [
    "FIGURES",
    "averaged",
    "compare",
    "counterparts",
    "datasets",
    "differences",
    "in_words",
    "runs",
]
