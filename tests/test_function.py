"""Functions that users write, and the gradient check that tells whether their rules are right."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp.autograd import Function


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def leaf(values):
    return fastbp.tensor(values, dtype=fastbp.float64, requires_grad=True)


class Scale(Function):
    """y = c·x; also returns x + 1."""

    @staticmethod
    def forward(ctx, x, c):
        ctx.save_for_backward(x)
        ctx.c = c
        return x * c, x + 1

    @staticmethod
    def backward(ctx, dscaled, dshifted):
        (x,) = ctx.saved_tensors
        assert x.shape == dscaled.shape
        return dscaled * ctx.c + dshifted, None


def test_a_function_of_users_with_two_outputs_and_a_plain_argument():
    x = leaf([1.0, 2.0])
    scaled, shifted = Scale.apply(x, 3.0)
    assert scaled.tolist() == [3, 6]
    (scaled * shifted).sum().backward()  # 3x(x + 1)
    assert x.grad.tolist() == [9, 15]


def test_an_output_that_is_not_used_sends_zeros():
    x = leaf([1.0, 2.0])
    Scale.apply(x, 3.0)[1].sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_forward_of_a_function_is_not_recorded_inside():
    class Inner(Function):
        @staticmethod
        def forward(ctx, x):
            y = x * x
            assert not y.requires_grad
            return y

        @staticmethod
        def backward(ctx, dy):
            return dy * 7

    x = leaf([3.0])
    Inner.apply(x).backward()
    assert x.grad.item() == 7
    assert not Inner.apply(x.detach()).requires_grad


def test_needs_input_grad_tells_which_gradients_are_asked_for():
    seen = []

    class Product(Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, dy):
            seen.append(tuple(ctx.needs_input_grad))
            a, b = ctx.saved_tensors
            return dy * b if ctx.needs_input_grad[0] else None, dy * a if ctx.needs_input_grad[1] else None

    w, x = leaf([3.0]), fastbp.tensor([5.0], dtype=fastbp.float64)
    Product.apply(w, x).backward()
    Product.apply(x, w).backward()
    assert seen == [(True, False), (False, True)]
    assert w.grad.item() == 10


def test_none_is_no_gradient():
    class Stop(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            return None

    x = leaf([3.0])
    (Stop.apply(x) + x).backward()
    assert x.grad.item() == 1


@pytest.mark.parametrize(
    "gradients", [lambda dy: (dy, dy), lambda dy: dy.reshape(3, 1), lambda dy: dy[:2], lambda dy: ()]
)
def test_a_wrong_number_or_shape_of_gradients_is_refused(gradients):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            return gradients(dy)

    y = Wrong.apply(leaf([1.0, 2.0, 3.0]) * 1)
    with pytest.raises(RuntimeError, match="Wrong"):
        y.sum().backward()


def test_an_error_in_backward_leaves_leaves_as_they_were():
    class Fails(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            raise ZeroDivisionError

    x, w = leaf([1.0]), leaf([1.0])
    y = w * 3 + Fails.apply(x * 2)
    with pytest.raises(ZeroDivisionError):
        y.backward()
    assert x.grad is None
    assert (w * 2).requires_grad  # recording is on again


def test_returning_an_input_is_safe():
    class Identity(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, dy):
            return dy * 2

    x = leaf([3.0])
    y = Identity.apply(x)
    assert y is not x
    (y + x).backward()
    assert x.grad.item() == 3


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda dy: dy.to(fastbp.float32), r"\[Twice\] expected backward to give fastbp.float64, got fastbp.float32"),
        (lambda dy: 2.0, r"\[Twice\] expected tensors from backward, got float"),
    ],
)
def test_a_gradient_of_another_kind_is_refused(result, message):
    class Twice(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            return result(dy)

    x = leaf([1.0, 2.0])
    for y in (Twice.apply(x), Twice.apply(x * 1)):
        with pytest.raises(TypeError, match=message):
            y.sum().backward()
    assert x.grad is None


def test_forward_returns_tensors():
    class Number(Function):
        @staticmethod
        def forward(ctx, x):
            return 5

    for x in (leaf([1.0]), fastbp.ones(1)):
        with pytest.raises(TypeError, match=r"\[Number\] expected forward to return tensors, got int"):
            Number.apply(x)


# --- the gradient check -----------------------------------------------------------------------------------------------


def passes(function, *inputs):
    """Whether the check says yes; it may say no by False or by raising."""
    try:
        return fastbp.gradcheck(function, inputs)
    except (AssertionError, RuntimeError):
        return False


@pytest.mark.parametrize("error", [1.01, 0.0, -1.0])
def test_gradcheck_catches_a_wrong_rule(error):
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * x * (2 * error)

    x = leaf([[1.0, -2.0, 0.5]])
    assert not passes(Square.apply, x)
    assert passes(lambda t: t * t, x)


def test_gradcheck_catches_one_wrong_input_of_two_and_one_wrong_element():
    class Product(Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, dy):
            a, b = ctx.saved_tensors
            da = dy * b
            da[0] = 0.0
            return da, dy * a

    assert not passes(Product.apply, leaf(np.arange(1.0, 9.0)), leaf(np.arange(2.0, 10.0)))


def test_gradgradcheck_catches_a_rule_that_cannot_be_differentiated_again():
    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return 3 * dy * x.detach() * x.detach()

    x = leaf([[1.0, -2.0, 0.5]])
    assert fastbp.gradcheck(Cube.apply, x)
    assert fastbp.gradgradcheck(lambda t: t * t * t, x)
    with pytest.raises(fastbp.GradcheckError, match="expected a slope"):
        fastbp.gradgradcheck(Cube.apply, x)
    assert not fastbp.gradgradcheck(Cube.apply, x, raise_exception=False)


def test_gradgradcheck_needs_an_input():
    with pytest.raises(ValueError, match=r"\[gradgradcheck\] expected at least one input"):
        fastbp.gradgradcheck(lambda t: t, ())


def test_gradgradcheck_of_several_outputs_and_inputs():
    x, y = leaf([1.0, 2.0]), leaf([0.5, 3.0])
    assert fastbp.gradgradcheck(lambda a, b: (a * b, (a / b).sum(), a.detach()), (x, y))
