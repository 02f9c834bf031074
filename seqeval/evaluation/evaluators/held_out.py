"""How well the agents predict the held-out episodes, which never arrive."""

from __future__ import annotations

from seqeval.config import Study
from seqeval.errors import UserError
from seqeval.evaluation import Evaluator, Policies, Results, VisibleData
from seqeval.evaluation.evaluators._means import FIT, fit
from seqeval.types import Dataset


class HeldOut(Evaluator):
    """The measures of `prequential` on the held-out episodes.

    What follows a transition there counts as not arrived: targets look one step ahead, and critics of chunks
    of actions (`qc_fql`) have no TD error.
    """

    metrics = {f"held_out_{name}": metric for name, metric in FIT.items()}

    @classmethod
    def check(cls, dataset: Dataset, study: Study) -> None:
        if not study.protocol.hold_out:
            raise UserError(
                "evaluation.metrics: held-out needs held-out episodes; set --protocol.hold-out 0.1"
            )

    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        assert visible.held_out is not None
        found = fit(agents, visible, visible.held_out, visible.samples, "held_out")
        return {f"held_out_{name}": values for name, values in found.items()}
