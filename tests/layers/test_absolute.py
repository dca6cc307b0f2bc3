"""The absolute value."""

import torch

from lipnets.layers import Abs, build


def test_abs_takes_the_absolute_value_and_keeps_gradient_norms() -> None:
    x = torch.tensor([[-2.0, 3.0, -0.5]], requires_grad=True)
    out = build("abs")(x)
    assert isinstance(build("abs"), Abs)
    assert out.tolist() == [[2.0, 3.0, 0.5]]
    out.backward(torch.tensor([[1.0, 2.0, 4.0]]))
    assert x.grad.tolist() == [[-1.0, 2.0, -4.0]]
