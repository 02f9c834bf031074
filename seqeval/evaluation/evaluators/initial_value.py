"""The value that the agents' own critics expect of their policies from the start of an episode."""

from __future__ import annotations

from seqeval.evaluation import Evaluator, Metric, Policies, Results, VisibleData
from seqeval.evaluation.evaluators._means import first_rows, mean_q


class InitialValue(Evaluator):
    """Mean of min Q(s₀, π(s₀)) over the first observations of the logged episodes whose first transition is
    visible.

    In units of the environment's rewards: divided by the factor that the algorithm's rewards are scaled by.
    An offset of them (r - 1 in AntMaze) remains in it.
    """

    metrics = {"initial_value": Metric("discounted return", "higher")}

    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        rows, dataset = visible.rows, visible.dataset
        assert rows is not None
        assert dataset is not None
        values = mean_q(agents, visible, lambda place: first_rows(dataset, visible.offset, rows(place)))
        return {} if values is None else {"initial_value": values}
