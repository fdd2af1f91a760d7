"""The one table of differentiable operations: what is called and on which inputs.

`f` is the library, fastbp or torch: the names are the same in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.ops import unary


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.2, 3.0, shape)


def unit(*shape):
    return lambda rng: rng.uniform(0.05, 0.95, shape)


def apart(*shape):
    """Values at least 0.1 apart and at least 0.05 away from 0 and ±0.5: no tie, no kink within a difference step."""
    size = int(np.prod(shape))
    return lambda rng: rng.permutation(np.arange(size) - size // 2 + 0.55).reshape(shape) * 0.1


def between(*shape):
    """As `apart`, never within a difference step of a value of `apart`."""
    return lambda rng: apart(*shape)(rng) + 0.03


def labels(rows, classes, ignored=None):
    """int64 labels; the row `ignored` carries PyTorch's ignore_index."""

    def draw(rng):
        values = np.array(rng.integers(0, classes, rows))
        if ignored is not None:
            values[ignored] = -100
        return values

    return draw


def probabilities(*shape):
    def draw(rng):
        values = rng.uniform(0.1, 1.0, shape)
        return values / values.sum(1, keepdims=True)

    return draw


@dataclass(frozen=True)
class Case:
    """An operation and the inputs it is tried on; all are differentiated but the last `fixed` ones (targets)."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Callable[[np.random.Generator], np.ndarray], ...]
    fixed: int

    def arrays(self, dtype: type = np.float64) -> list[np.ndarray]:
        """The inputs, the same in every run; integers stay integers."""
        rng = np.random.default_rng([ord(letter) for letter in self.name])
        drawn = [np.asarray(draw(rng)) for draw in self.inputs]
        return [array.astype(dtype) if array.dtype.kind == "f" else array for array in drawn]

    def tensors(self, library: Any, dtype: type = np.float64) -> list[Any]:
        """The inputs as tensors of a library, those that are differentiated recording gradients."""
        tensors = [library.tensor(array) for array in self.arrays(dtype)]
        for tensor in tensors[: len(tensors) - self.fixed]:
            tensor.requires_grad_()
        return tensors


def case(name: str, function: Callable[..., Any], *inputs: Any, fixed: int = 0) -> Case:
    return Case(name, function, inputs, fixed)


CASES = [
    # element-wise, one input
    case("neg", lambda f, x: -x, normal(3, 5)),
    case("exp", lambda f, x: f.exp(x), normal(3, 5)),
    case("log", lambda f, x: f.log(x), positive(3, 5)),
    case("log1p", lambda f, x: f.log1p(x), positive(17)),
    case("expm1", lambda f, x: f.expm1(x), normal(17)),
    case("sqrt", lambda f, x: f.sqrt(x), positive(3, 5)),
    case("square", lambda f, x: f.square(x), normal(3, 5)),
    case("abs", lambda f, x: f.abs(x), apart(3, 6)),
    case("sin", lambda f, x: f.sin(x), normal(33)),
    case("cos", lambda f, x: f.cos(x), normal(33)),
    case("erf", lambda f, x: f.erf(x), normal(33)),
    case("reciprocal", lambda f, x: f.reciprocal(x), positive(3, 5)),
    case("clamp", lambda f, x: f.clamp(x, -0.5, 0.5), apart(4, 9)),
    case("clamp_min", lambda f, x: x.clamp(min=-0.5), apart(4, 9)),
    case("clamp_max", lambda f, x: x.clamp(max=0.5), apart(4, 9)),
    case("tanh", lambda f, x: f.tanh(x), normal(3, 5)),
    case("sigmoid", lambda f, x: f.sigmoid(x), normal(3, 5)),
    case("relu", lambda f, x: f.relu(x), apart(4, 9)),
    case("leaky_relu", lambda f, x: f.nn.functional.leaky_relu(x, 0.1), apart(4, 9)),
    case("leaky_relu_negative_slope", lambda f, x: f.nn.functional.leaky_relu(x, -0.3), apart(4, 9)),
    case("elu", lambda f, x: f.nn.functional.elu(x, 1.5), apart(4, 9)),
    case("gelu", lambda f, x: f.nn.functional.gelu(x), normal(4, 9)),
    case("gelu_tanh", lambda f, x: f.nn.functional.gelu(x, approximate="tanh"), normal(4, 9)),
    case("silu", lambda f, x: f.nn.functional.silu(x), normal(4, 9)),
    case("softplus", lambda f, x: f.nn.functional.softplus(x), normal(4, 9)),
    case("selu", lambda f, x: f.nn.functional.selu(x), apart(4, 9)),
    case("logsigmoid", lambda f, x: f.nn.functional.logsigmoid(x * 30), normal(4, 9)),
    case("mish", lambda f, x: f.nn.functional.mish(x), normal(4, 9)),
    case("strided", lambda f, x: f.exp(x.T[1:, ::2]), normal(4, 9)),
    # element-wise, two inputs and broadcasting
    case("add", lambda f, a, b: a + b, normal(3, 4), normal(3, 4)),
    case("sub_row", lambda f, a, b: a - b, normal(3, 4), normal(4)),
    case("mul_column", lambda f, a, b: a * b, normal(3, 4), normal(3, 1)),
    case("div_both_ways", lambda f, a, b: a / b, normal(3, 1, 4), positive(2, 1)),
    case("mul_scalar_tensor", lambda f, a, b: a * b, normal(2, 3), normal()),
    case("pow", lambda f, a, b: a**b, positive(3, 4), normal(3, 4)),
    case("maximum", lambda f, a, b: f.maximum(a, b), apart(4, 5), between(4, 5)),
    case("minimum", lambda f, a, b: f.minimum(a, b[:, :1]), apart(4, 5), between(4, 5)),
    case("where", lambda f, a, b: f.where(a.detach() > 0, a, b), apart(4, 5), normal(5)),
    case("functions", lambda f, a, b: f.add(f.mul(a, b), f.sub(f.div(a, b), f.pow(b, 2))), normal(3, 4), positive(4)),
    case("same_twice", lambda f, x: x * x + x, normal(3, 4)),
    # with Python numbers
    case("numbers", lambda f, x: (2 + x) * 3 - x / 4 + (1 - x), normal(3, 4)),
    case("number_over", lambda f, x: 2 / x, positive(3, 4)),
    case("square_by_power", lambda f, x: x**2, normal(3, 4)),
    case("cube", lambda f, x: x**3, normal(3, 4)),
    case("root_by_power", lambda f, x: x**0.5, positive(3, 4)),
    case("number_to_the", lambda f, x: 2**x, normal(3, 4)),
    # reductions
    case("sum", lambda f, x: x.sum(), normal(3, 4, 5)),
    case("sum_last", lambda f, x: x.sum(-1), normal(3, 4, 5)),
    case("sum_first_keepdim", lambda f, x: x.sum(dim=0, keepdim=True), normal(3, 4, 5)),
    case("sum_outer_axes", lambda f, x: x.sum(dim=(0, 2)), normal(3, 4, 5)),
    case("sum_of_view", lambda f, x: x.permute(2, 0, 1).sum((0, 1)), normal(3, 4, 5)),
    case("mean", lambda f, x: x.mean(), normal(3, 4, 5)),
    case("mean_middle", lambda f, x: x.mean(1), normal(3, 4, 5)),
    case("mean_axes_keepdim", lambda f, x: f.mean(x, dim=(1, 2), keepdim=True), normal(3, 4, 5)),
    case("var", lambda f, x: x.var(), normal(3, 4)),
    case("var_biased", lambda f, x: x.var(dim=0, correction=0), normal(6, 4)),
    case("var_axes", lambda f, x: f.var(x, dim=(0, 2), keepdim=True), normal(3, 4, 5)),
    case("std", lambda f, x: f.std(x, dim=1), normal(3, 4)),
    case("norm", lambda f, x: x.norm(), normal(3, 4)),
    case("norm_dim", lambda f, x: f.norm(x, dim=1, keepdim=True), normal(3, 4)),
    case("max", lambda f, x: x.max(), apart(3, 5)),
    case("min", lambda f, x: f.min(x), apart(3, 5)),
    case("max_dim", lambda f, x: x.max(dim=1).values, apart(3, 5)),
    case("min_dim_keepdim", lambda f, x: f.min(x, 0, keepdim=True)[0], apart(3, 5)),
    case("amax", lambda f, x: x.amax(dim=(0, 2)), apart(3, 4, 5)),
    case("amin", lambda f, x: x.amin(dim=-1, keepdim=True), apart(3, 4, 5)),
    case("logsumexp", lambda f, x: f.logsumexp(x, dim=1), normal(4, 7)),
    case("logsumexp_axes", lambda f, x: x.logsumexp((0, 1), keepdim=True), normal(2, 3, 4)),
    case("softmax", lambda f, x: f.softmax(x, dim=-1), normal(4, 7)),
    case("softmax_first", lambda f, x: f.softmax(x, dim=0), normal(4, 3, 2)),
    case("log_softmax", lambda f, x: f.log_softmax(x, dim=1), normal(4, 7)),
    case("log_softmax_middle", lambda f, x: f.log_softmax(x, 1), normal(2, 5, 3)),
    # shapes
    case("reshape", lambda f, x: x.reshape(4, -1), normal(2, 6)),
    case("transpose", lambda f, x: x.transpose(0, 2) * 2, normal(2, 3, 4)),
    case("permute", lambda f, x: x.permute(1, 2, 0).reshape(6, 4), normal(4, 2, 3)),
    case("expand", lambda f, x: x.expand(5, 3, 4), normal(3, 1)),
    case("squeeze", lambda f, x: x.squeeze(1).unsqueeze(0), normal(3, 1, 2)),
    case("flatten", lambda f, x: x.flatten(1), normal(2, 3, 4)),
    case("cat", lambda f, a, b: f.cat([a, b, a], dim=1), normal(3, 2), normal(3, 4)),
    case("stack", lambda f, a, b: f.stack([a, b], dim=1), normal(3, 2), normal(3, 2)),
    case("split", lambda f, x: f.cat(x.split(2, dim=1)[::-1], dim=0) * 2, normal(3, 6)),
    case("chunk", lambda f, x: f.stack(list(f.chunk(x, 3, dim=1))[::-1]), normal(3, 6)),
    case("t", lambda f, x: x.t() * 2, normal(3, 4)),
    case("movedim", lambda f, x: f.movedim(x, 0, -1), normal(2, 3, 4)),
    case("index_select", lambda f, x, i: f.index_select(x, 1, i), normal(3, 4), labels(5, 4), fixed=1),
    case("gather", lambda f, x, i: f.gather(x, 1, i), normal(3, 4), labels((3, 2), 4), fixed=1),
    case("slice", lambda f, x: x[1:, ::2], normal(3, 6)),
    case("pick_repeated_rows", lambda f, x: x[[2, 0, 2]], normal(3, 4)),
    case("pick_pairs", lambda f, x: x[[0, 1, 1], [3, 0, 0]], normal(2, 4)),
    case("mask", lambda f, x: x[x.detach() > 0] * 2, apart(3, 6)),
    case("clone", lambda f, x: x.clone(), normal(3, 4)),
    case("to", lambda f, x: x.to(f.float64) * 1, normal(3, 4)),
    # matrix products
    case("matmul_1_1", lambda f, a, b: a @ b, normal(5), normal(5)),
    case("dot", lambda f, a, b: f.dot(a, b), normal(5), normal(5)),
    case("matmul_2_1", lambda f, a, b: a @ b, normal(3, 5), normal(5)),
    case("matmul_1_2", lambda f, a, b: a @ b, normal(5), normal(5, 3)),
    case("matmul_2_2", lambda f, a, b: f.matmul(a, b), normal(3, 5), normal(5, 4)),
    case("matmul_transposed", lambda f, a, b: a.T @ b.T, normal(5, 3), normal(4, 5)),
    case("matmul_3_2", lambda f, a, b: a @ b, normal(2, 3, 5), normal(5, 4)),
    case("matmul_2_3", lambda f, a, b: a @ b, normal(3, 5), normal(2, 5, 4)),
    case("matmul_3_3", lambda f, a, b: a.matmul(b), normal(2, 3, 5), normal(2, 5, 4)),
    case("matmul_3_1", lambda f, a, b: a @ b, normal(2, 3, 5), normal(5)),
    case("matmul_1_3", lambda f, a, b: a @ b, normal(3), normal(2, 3, 4)),
    case("matmul_4_broadcast", lambda f, a, b: a @ b, normal(2, 1, 3, 5), normal(3, 5, 2)),
    case("linear", lambda f, x, w, b: f.nn.functional.linear(x, w, b), normal(7, 5), normal(3, 5), normal(3)),
    case("linear_without_bias", lambda f, x, w: f.nn.functional.linear(x, w), normal(7, 5), normal(3, 5)),
    case("linear_one_sample", lambda f, x, w, b: f.nn.functional.linear(x, w, b), normal(5), normal(3, 5), normal(3)),
    case("linear_3d", lambda f, x, w, b: f.nn.functional.linear(x, w, b), normal(2, 4, 5), normal(3, 5), normal(3)),
    # normalisation
    case(
        "layer_norm",
        lambda f, x, w, b: f.nn.functional.layer_norm(x, (5,), w, b),
        normal(7, 5),
        normal(5),
        normal(5),
    ),
    case("layer_norm_without_bias", lambda f, x, w: f.nn.functional.layer_norm(x, (5,), w), normal(5), normal(5)),
    case(
        "layer_norm_bias",
        lambda f, x, b: f.nn.functional.layer_norm(x, (5,), f.ones(5, dtype=x.dtype), b),
        normal(7, 5),
        normal(5),
    ),
    case(
        "layer_norm_two_dims",
        lambda f, x, w, b: f.nn.functional.layer_norm(x, (3, 4), w, b, eps=0.1),
        normal(2, 2, 3, 4),
        normal(3, 4),
        normal(3, 4),
    ),
    case("layer_norm_strided", lambda f, x: f.nn.functional.layer_norm(x.T, (7,)), normal(7, 5)),
    case("rms_norm", lambda f, x, w: f.nn.functional.rms_norm(x, (5,), w), normal(7, 5), normal(5)),
    case("rms_norm_two_dims", lambda f, x: f.nn.functional.rms_norm(x, (3, 4), eps=0.1), normal(2, 3, 4)),
    case(
        "batch_norm",
        lambda f, x, w, b: f.nn.functional.batch_norm(x, None, None, w, b, training=True),
        normal(7, 5),
        normal(5),
        normal(5),
    ),
    case(
        "batch_norm_running",
        lambda f, x, w: f.nn.functional.batch_norm(
            x, f.zeros(5, dtype=x.dtype), f.ones(5, dtype=x.dtype), w, training=True, eps=0.1
        ),
        normal(7, 5),
        normal(5),
    ),
    case(
        "batch_norm_bias",
        lambda f, b, x: f.nn.functional.batch_norm(x, None, None, None, b, training=True),
        normal(5),
        normal(7, 5),
        fixed=1,
    ),
    case(
        "batch_norm_channels",
        lambda f, x, w, b: f.nn.functional.batch_norm(x, None, None, w, b, training=True),
        normal(3, 5, 4),
        normal(5),
        normal(5),
    ),
    case(
        "batch_norm_given",
        lambda f, x, w, b: f.nn.functional.batch_norm(
            x, f.full((5,), 0.3, dtype=x.dtype), f.full((5,), 1.7, dtype=x.dtype), w, b
        ),
        normal(7, 5),
        normal(5),
        normal(5),
    ),
    case(
        "batch_norm_given_channels",
        lambda f, x: f.nn.functional.batch_norm(x, f.zeros(5, dtype=x.dtype), f.ones(5, dtype=x.dtype)),
        normal(3, 5, 4),
    ),
    # tables
    case("embedding", lambda f, w, i: f.nn.functional.embedding(i, w), normal(6, 3), labels((4, 2), 6), fixed=1),
    # losses
    *(
        case(
            f"{name}_{reduction}",
            lambda f, x, t, name=name, reduction=reduction: getattr(f.nn.functional, name)(x, t, reduction=reduction),
            *inputs,
            fixed=1,
        )
        for reduction in ("mean", "sum", "none")
        for name, inputs in {
            "mse_loss": (normal(4, 3), normal(4, 3)),
            "l1_loss": (apart(4, 3), between(4, 3)),
            "binary_cross_entropy": (unit(4, 3), unit(4, 3)),
            "binary_cross_entropy_with_logits": (normal(4, 3), unit(4, 3)),
            "cross_entropy": (normal(6, 4), labels(6, 4, ignored=2)),
        }.items()
    ),
    case("mse_loss_target", lambda f, x, t: f.nn.functional.mse_loss(x, t), normal(4, 3), normal(4, 3)),
    case("l1_loss_target", lambda f, x, t: f.nn.functional.l1_loss(x, t), apart(4, 3), between(4, 3)),
    case(
        "cross_entropy_more_dimensions",
        lambda f, x, t: f.nn.functional.cross_entropy(x, t),
        normal(2, 4, 3),
        labels((2, 3), 4),
        fixed=1,
    ),
    case(
        "cross_entropy_weighted_smoothed",
        lambda f, x, t: f.nn.functional.cross_entropy(
            x, t, weight=f.arange(1, 5, dtype=x.dtype), label_smoothing=0.1, ignore_index=-100
        ),
        normal(6, 4),
        labels(6, 4, ignored=3),
        fixed=1,
    ),
    case(
        "cross_entropy_probabilities",
        lambda f, x, t: f.nn.functional.cross_entropy(x, t, label_smoothing=0.2),
        normal(6, 4),
        probabilities(6, 4),
        fixed=1,
    ),
    case(
        "nll_loss",
        lambda f, x, t: f.nn.functional.nll_loss(f.log_softmax(x, dim=1), t),
        normal(6, 4),
        labels(6, 4, ignored=1),
        fixed=1,
    ),
    case(
        "cross_entropy_one_sample",
        lambda f, x, t: f.nn.functional.cross_entropy(x, t),
        normal(4),
        labels((), 4),
        fixed=1,
    ),
    case(
        "bce_with_logits_pos_weight",
        lambda f, x, t: f.nn.functional.binary_cross_entropy_with_logits(
            x, t, pos_weight=f.arange(1, 4, dtype=x.dtype)
        ),
        normal(5, 3),
        unit(5, 3),
        fixed=1,
    ),
    case(
        "bce_with_logits_far_out",
        lambda f, x, t: f.nn.functional.binary_cross_entropy_with_logits(x * 100, t),
        normal(5, 3),
        unit(5, 3),
        fixed=1,
    ),
]
# Element-wise operations that are not named above, on inputs that suit nearly all: a new one has its case here at once.
DERIVED = [
    case(name, lambda f, x, name=name: getattr(f, name)(x), positive(3, 5))
    for name in unary.__all__
    if not any(each.name.startswith(name) for each in CASES)
]
BY_NAME = {each.name: each for each in [*CASES, *DERIVED]}
