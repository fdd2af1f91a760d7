"""Cases of losses: with every reduction, without and with sample weights, and of targets that have gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from op_cases.case import (
    Draw,
    apart,
    between,
    case,
    counts,
    labels,
    normal,
    positive,
    probabilities,
    signs,
    truths,
    unit,
)

QUANTILES = (0.1, 0.5, 0.8)


class Loss(NamedTuple):
    """A loss, loss(library, *inputs, reduction, ...) of inputs of which the last is the target; what gives its values
    without reduction in PyTorch, where that lacks it; and how many entries the inputs have."""

    loss: Callable[..., Any]
    inputs: tuple[Draw, ...]
    in_torch: Callable[..., Any] | None = None

    def in_torch_each(self, f: Any, *inputs: Any) -> Any:
        return self.in_torch(f, *inputs) if self.in_torch else self.loss(f, *inputs, reduction="none")


def named(name: str, *inputs: Draw, in_torch: Callable[..., Any] | None = None, **options: Any) -> Loss:
    """The loss of this name in `nn.functional`, with options."""
    return Loss(lambda f, *x, **how: getattr(f.nn.functional, name)(*x, **options, **how), inputs, in_torch)


def quantile(f, x, t):
    d, q = t.unsqueeze(-1) - x, f.tensor(QUANTILES, dtype=x.dtype)
    return f.maximum(q * d, (q - 1) * d)


def focal(alpha, gamma):
    """As torchvision has it."""

    def losses(f, x, t):
        p = f.sigmoid(x)
        ce = f.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
        each = ce * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
        return each if alpha < 0 else (alpha * t + (1 - alpha) * (1 - t)) * each

    return losses


def mixture(f, logits, means, log_stds, t):
    normal = f.distributions.Normal(means, log_stds.exp())
    components = f.distributions.Independent(normal, 1)
    return -f.distributions.MixtureSameFamily(f.distributions.Categorical(logits=logits), components).log_prob(t)


def binary_cross_entropy(f, x, t):
    """PyTorch adds 1e-12 in its own second derivative."""
    return -(t * f.log(x) + (1 - t) * f.log(1 - x))


def relative_entropy(log_target):
    """PyTorch warns of its own mean."""
    return lambda f, x, t: f.nn.functional.kl_div(x, t, reduction="none", log_target=log_target)


SMALL = 4, 3
LOSSES = {
    "mse_loss": named("mse_loss", normal(*SMALL), normal(*SMALL)),
    "l1_loss": named("l1_loss", apart(*SMALL), between(*SMALL)),
    "huber_loss": named("huber_loss", normal(*SMALL), normal(*SMALL)),
    "huber_loss_delta": named("huber_loss", normal(*SMALL), normal(*SMALL), delta=0.4),
    "smooth_l1_loss": named("smooth_l1_loss", normal(*SMALL), normal(*SMALL)),
    "smooth_l1_loss_beta": named("smooth_l1_loss", normal(*SMALL), normal(*SMALL), beta=0.4),
    "smooth_l1_loss_sharp": named("smooth_l1_loss", apart(*SMALL), between(*SMALL), beta=0.0),
    "quantile_loss": named("quantile_loss", normal(4, 2, 3), normal(4, 2), quantiles=QUANTILES, in_torch=quantile),
    "binary_cross_entropy": named("binary_cross_entropy", unit(*SMALL), unit(*SMALL), in_torch=binary_cross_entropy),
    "binary_cross_entropy_with_logits": named("binary_cross_entropy_with_logits", normal(*SMALL), unit(*SMALL)),
    "sigmoid_focal_loss": named("sigmoid_focal_loss", normal(*SMALL), truths(*SMALL), in_torch=focal(0.25, 2.0)),
    "sigmoid_focal_loss_soft": named(
        "sigmoid_focal_loss", normal(*SMALL), unit(*SMALL), alpha=-1, gamma=0.7, in_torch=focal(-1, 0.7)
    ),
    "hinge_loss": named("hinge_loss", normal(*SMALL), signs(*SMALL), in_torch=lambda f, x, t: f.relu(1 - t * x)),
    "hinge_embedding_loss": named("hinge_embedding_loss", normal(*SMALL), signs(*SMALL), margin=0.7),
    "poisson_nll_loss": named("poisson_nll_loss", normal(*SMALL), counts(*SMALL)),
    "poisson_nll_loss_full": named("poisson_nll_loss", normal(*SMALL), positive(*SMALL), full=True),
    "poisson_nll_loss_rate": named(
        "poisson_nll_loss", positive(*SMALL), positive(*SMALL), log_input=False, full=True, eps=1e-3
    ),
    "kl_div": named("kl_div", normal(*SMALL), unit(*SMALL), in_torch=relative_entropy(False)),
    "kl_div_logs": named("kl_div", normal(*SMALL), normal(*SMALL), log_target=True, in_torch=relative_entropy(True)),
    "cross_entropy": named("cross_entropy", normal(4, 5), labels(4, 5, ignored=2)),
    "nll_loss": named("nll_loss", normal(4, 5), labels(4, 5, ignored=1)),
    "mixture_nll_loss": named(
        "mixture_nll_loss", normal(4, 3), normal(4, 3, 2), normal(4, 3, 2), normal(4, 2), in_torch=mixture
    ),
    "cosine_embedding_loss": named("cosine_embedding_loss", normal(4, 5), normal(4, 5), signs(4), margin=0.1),
}
# Those whose targets are numbers that the loss can be differentiated by.
REAL_TARGETS = (
    "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "quantile_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "sigmoid_focal_loss_soft", "hinge_loss", "poisson_nll_loss_full",
    "poisson_nll_loss_rate", "kl_div", "kl_div_logs", "mixture_nll_loss",
)  # fmt: skip


def reduced(losses: Any, reduction: str, s: Any = None, kept: Any = 1) -> Any:
    """Reductions by their definition: s, the weights of entries; kept: 0 for those that do not count."""
    if s is not None:
        losses = losses * s.reshape(-1, *[1] * (losses.ndim - 1))
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if s is None else losses.sum() / ((s * kept).sum() * losses[0].numel())


def with_reduction(name: str, of: Loss, reduction: str) -> Any:
    return case(
        f"{name}_{reduction}",
        lambda f, *inputs: of.loss(f, *inputs, reduction=reduction),
        *of.inputs,
        fixed=1,
        in_torch=of.in_torch and (lambda f, *inputs: reduced(of.in_torch(f, *inputs), reduction)),
    )


def with_weights(name: str, of: Loss, reduction: str) -> Any:
    """The weights are the first input, and differentiated as the predictions are."""
    return case(
        f"{name}_{reduction}_weighted",
        lambda f, s, *inputs: of.loss(f, *inputs, sample_weight=s, reduction=reduction),
        positive(4),
        *of.inputs,
        fixed=1,
        in_torch=lambda f, s, *inputs: reduced(
            of.in_torch_each(f, *inputs), reduction, s, inputs[-1] != -100 if inputs[-1].dtype == f.int64 else 1
        ),
    )


def with_target(name: str, of: Loss) -> Any:
    return case(
        f"{name}_target",
        of.loss,
        *of.inputs,
        in_torch=of.in_torch and (lambda f, *inputs: reduced(of.in_torch(f, *inputs), "mean")),
    )


CASES = [
    *(with_reduction(name, of, reduction) for name, of in LOSSES.items() for reduction in ("mean", "sum", "none")),
    *(with_weights(name, of, reduction) for name, of in LOSSES.items() for reduction in ("mean", "sum", "none")),
    *(with_target(name, LOSSES[name]) for name in REAL_TARGETS),
    # gaussian_nll_loss with each shape of variances
    *(
        case(
            f"gaussian_nll_loss_{name}",
            lambda f, x, var, t, options=options: f.nn.functional.gaussian_nll_loss(x, t, var, **options),
            normal(4, 3),
            positive(*shape),
            normal(4, 3),
            fixed=1,
        )
        for name, shape, options in (
            ("mean", (4, 3), {}),
            ("sum", (4, 3), {"reduction": "sum", "full": True}),
            ("none", (4, 3), {"reduction": "none"}),
            ("of_rows", (4,), {}),
            ("of_rows_kept", (4, 1), {"reduction": "none"}),
            ("of_columns", (1, 3), {"full": True}),
        )
    ),
    case(
        "gaussian_nll_loss_weighted",
        lambda f, s, x, var, t: f.nn.functional.gaussian_nll_loss(x, t, var, sample_weight=s),
        positive(4),
        normal(4, 3),
        positive(4, 3),
        normal(4, 3),
        in_torch=lambda f, s, x, var, t: reduced(
            f.nn.functional.gaussian_nll_loss(x, t, var, reduction="none"), "mean", s
        ),
    ),
    # others
    case(
        "kl_div_batchmean",
        lambda f, x, t: f.nn.functional.kl_div(x, t, reduction="batchmean"),
        normal(4, 3),
        unit(4, 3),
        fixed=1,
    ),
    case(
        "cosine_embedding_loss_one_pair",
        lambda f, a, b, t: f.nn.functional.cosine_embedding_loss(a, b, t, reduction="none"),
        normal(5),
        normal(5),
        signs(),
        fixed=1,
    ),
    case(
        "kl_div_batchmean_weighted",
        lambda f, s, x, t: f.nn.functional.kl_div(x, t, reduction="batchmean", sample_weight=s),
        positive(4),
        normal(4, 3),
        unit(4, 3),
        fixed=1,
        in_torch=lambda f, s, x, t: (relative_entropy(False)(f, x, t) * s.unsqueeze(1)).sum() / s.sum(),
    ),
    case(
        "quantile_loss_one_entry",
        lambda f, x, t: f.nn.functional.quantile_loss(x, t, QUANTILES, reduction="none"),
        normal(3),
        normal(),
        in_torch=quantile,
    ),
    case(
        "quantile_loss_of_a_tensor",
        lambda f, x, t: f.nn.functional.quantile_loss(x, t, f.arange(1, 4, dtype=x.dtype) / 5),
        normal(4, 2, 3),
        normal(4, 2),
        fixed=1,
        in_torch=lambda f, x, t: f.maximum(
            f.arange(1, 4, dtype=x.dtype) / 5 * (t.unsqueeze(-1) - x),
            (f.arange(1, 4, dtype=x.dtype) / 5 - 1) * (t.unsqueeze(-1) - x),
        ).mean(),
    ),
    case("l1_penalty", lambda f, w: f.nn.functional.l1_penalty(w), apart(3, 4), in_torch=lambda f, w: w.abs().sum()),
    case(
        "l2_penalty",
        lambda f, *weights: f.nn.functional.l2_penalty(weights),
        normal(3, 4),
        normal(4),
        in_torch=lambda f, *weights: sum((w * w).sum() for w in weights),
    ),
    case(
        "cross_entropy_more_dimensions",
        lambda f, x, t: f.nn.functional.cross_entropy(x, t),
        normal(2, 4, 3),
        labels((2, 3), 4),
        fixed=1,
    ),
    *(
        case(
            f"{name}_more_dimensions_{reduction}_weighted",
            lambda f, s, x, t, name=name, reduction=reduction: getattr(f.nn.functional, name)(
                x, t, reduction=reduction, sample_weight=s
            ),
            positive(2),
            normal(2, 4, 3),
            labels((2, 3), 4),
            fixed=1,
            in_torch=lambda f, s, x, t, name=name, reduction=reduction: reduced(
                getattr(f.nn.functional, name)(x, t, reduction="none"), reduction, s
            ),
        )
        for name in ("cross_entropy", "nll_loss")
        for reduction in ("mean", "none")
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
        "nll_loss_of_log_softmax",
        lambda f, x, t: f.nn.functional.nll_loss(
            f.log_softmax(x, dim=1), t, weight=f.arange(1, 5, dtype=x.dtype), ignore_index=2
        ),
        normal(6, 4),
        labels(6, 4),
        fixed=1,
    ),
    case("nll_loss_one_sample", lambda f, x, t: f.nn.functional.nll_loss(x, t), normal(4), labels((), 4), fixed=1),
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
    *(
        case(
            f"bce_with_logits_pos_weight_{name}_{reduction}",
            lambda f, x, p, t, reduction=reduction: f.nn.functional.binary_cross_entropy_with_logits(
                x, t, pos_weight=p.detach(), reduction=reduction
            ),
            normal(5, 3),
            positive(*shape),
            unit(5, 3),
            fixed=2,
        )
        for name, shape in (("of_elements", (5, 3)), ("of_rows", (5, 1)), ("of_columns", (1, 3)), ("of_all", ()))
        for reduction in ("mean", "none")
    ),
    case(
        "bce_with_logits_far_out",
        lambda f, x, t: f.nn.functional.binary_cross_entropy_with_logits(x * 100, t),
        normal(5, 3),
        unit(5, 3),
        fixed=1,
    ),
]
