"""How well the agents predict the transitions that arrive next, before any update sees them.

Dawid, *Statistical Theory: The Prequential Approach* (Journal of the Royal Statistical Society A 147, 1984);
code lengths from it: Bornschein, Li, Hutter, *Sequential Learning of Neural Networks for Prequential MDL*
(arXiv 2210.07931).
"""

from __future__ import annotations

from seqeval.evaluation import Evaluator, Metric, Policies, Results, VisibleData
from seqeval.evaluation.evaluators._means import FIT, fit


class Prequential(Evaluator):
    """The row at n is about the transitions that arrive after n, up to the next point of the offline phase,
    predicted by the agents of that row.

    stream: the transitions between two points. retrain and warm: those between two sizes. There are none at
    N, so neither in full, nor online. `prequential_transitions` is their number.
    """

    metrics = {f"prequential_{name}": metric for name, metric in FIT.items()} | {
        "prequential_transitions": Metric("transitions", None),
        # Added to the table of rows by `analysis.with_code_length`.
        "prequential_code_length": Metric("nats, actions in [-1, 1]", "lower"),
    }

    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        assert visible.arriving is not None
        counts = [len(visible.arriving(replica)) for replica in range(len(self.seeds))]
        known = [n + count for n, count in zip(visible.samples, counts, strict=True)]
        found = fit(agents, visible, visible.arriving, known, "prequential")
        return {f"prequential_{name}": values for name, values in found.items()} | {
            "prequential_transitions": [count or None for count in counts]
        }
