"""A study from Python: train, draw, and use a policy."""

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study

study = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc",),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=8),
    evaluation=Evaluation(points=5),
)

if __name__ == "__main__":
    rows = seqeval.run(study, "runs/example", Execution(jobs=1))
    print(rows.groupby("samples")["score"].mean())
    seqeval.plots.draw(rows).savefig("curves.png")
    policy = seqeval.load_policy("runs/example", "pendulum-replay", "bc", seed=0)
    print(policy([[1.0, 0.0, 0.0]]))  # observations in, actions out, both in the environment's units
