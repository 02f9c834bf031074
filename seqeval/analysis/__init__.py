"""From rows to statistics: pure functions of the table that `execution.storage.frame` returns.

lines         the mean curve of each (dataset, variant, study), and its last points
completeness  which seeds and lines are complete, and which can be compared over datasets
statistics    the statistics of a line, in one registry: final value, area, online gain, ...
summaries     run values over seeds and over datasets: mean, median, IQM, optimality gap, ...
curves        the same at every x; ranks, samples to a level, overtaking
metrics       the metrics of evaluators (`eval/…`) as values, and code lengths
tuning        what tuning costs: best of k settings, effects of settings, rules of choice
agreement     which metric could have chosen: rank correlation and regret@k at every x
bootstrap     estimators and their intervals
provenance    which studies rows come from
"""

# ruff: noqa: F401 (this module only gathers the names)

from .agreement import agreement
from .completeness import (
    comparable_rows,
    complete_rows,
    describe_absent,
    describe_incomplete,
    exclude,
    incomplete_seeds,
    invocation_seeds,
    missing_seeds,
    planned_seeds,
    unfinished_lines,
    with_planned_end,
)
from .curves import aggregate_curves, mean_ranks, overtakings
from .lines import (
    LINE,
    frozen_lines,
    last_points,
    line_labels,
    mean_curves,
    smoothed,
    unevaluated_datasets,
    variants,
    with_values,
)
from .metrics import (
    BY_EPISODES,
    PREFIX,
    ascending,
    declared_metrics,
    default_metric,
    late_seeds,
    lower_is_better,
    with_code_length,
    with_metric,
)
from .provenance import Studies, Study, datasets_of, in_study_order, studies_of, with_studies
from .statistics import STATISTICS, Statistic, final_values, forgetting
from .summaries import aggregate, means_over_seeds, performance_profile, probability_of_improvement
