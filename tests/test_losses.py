"""The shared losses, against numbers computed by hand."""

from __future__ import annotations

import math

import torch
from seqeval.algos import _losses

from seqeval.types import Batch


def assert_equal(actual: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected))


def test_td_target_stops_at_terminations() -> None:
    empty = torch.zeros(2, 2, 1)
    rewards, terminated = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    batch = Batch(empty, empty, rewards, empty, terminated)
    next_value = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    assert_equal(_losses.td_target(batch, next_value, 0.5), [[6.0, 2.0], [18.0, 24.0]])


def test_ensemble_loss_is_the_sum_of_two_mean_squared_errors() -> None:
    q = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]]])
    target = torch.tensor([[1.0, 4.0], [0.0, 1.0]])
    assert_equal(_losses.ensemble_loss(q, target), [2.0 + 2.0, 0.5 + 0.0])


def test_expectile_loss_weighs_errors_by_their_sign() -> None:
    error = torch.tensor([[1.0, -1.0, 2.0, 0.0], [-2.0, -2.0, 0.0, 0.0]])
    assert_equal(_losses.expectile_loss(error, 0.75), [(0.75 + 0.25 + 0.75 * 4) / 4, 2 * 0.25 * 4 / 4])


def test_expectile_loss_at_one_half_is_half_the_mean_squared_error() -> None:
    error = torch.tensor([[1.0, -3.0]], requires_grad=True)
    loss = _losses.expectile_loss(error, 0.5)
    assert_equal(loss.detach(), [2.5])
    (gradient,) = torch.autograd.grad(loss.sum(), error)
    assert_equal(gradient, [[0.5, -1.5]])


def test_exponential_weights_are_capped() -> None:
    weights = _losses.exponential_weights(torch.tensor([[0.0, 1.0, -1.0, 9.0]]), 2.0, 100.0)
    assert_equal(weights, [[1.0, math.exp(2), math.exp(-2), 100.0]])


def test_softmax_weights_sum_to_one_in_each_replica() -> None:
    weights = _losses.softmax_weights(torch.tensor([[0.0, 2 * math.log(3)], [5.0, 5.0]]), 2.0)
    assert_equal(weights, [[0.25, 0.75], [0.5, 0.5]])
