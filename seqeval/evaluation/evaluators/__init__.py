"""The built-in evaluators: one file for each; see `seqeval.evaluation.Evaluator`."""
