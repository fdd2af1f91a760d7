"""Losses. Each module holds the options of the function of the same subject in `nn.functional`.

Every loss has `reduction` ("none", "mean" or "sum") and takes one `sample_weight` (N,) in its call; s_i is the weight
of row i, 1 where none is given. "none" gives the weighted losses undivided, "sum" their sum, and "mean" their sum
divided by the denominator that the class states.
"""

from __future__ import annotations

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.tensor import Tensor


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(
                f"[{type(self).__name__}] expected reduction to be 'none', 'mean' or 'sum', got {reduction!r}"
            )
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """Squared error, l = (x − t)².

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j (x_ij − t_ij)² / (n Σ_i s_i) with n elements
    in each row; without weights, the mean over all elements.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.mse_loss(input, target, self.reduction, sample_weight)


class L1Loss(_Loss):
    """Absolute error, l = |x − t|, with gradient 0 at x = t.

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j |x_ij − t_ij| / (n Σ_i s_i) with n elements
    in each row; without weights, the mean over all elements.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.l1_loss(input, target, self.reduction, sample_weight)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities, l = −(t log x + (1 − t) log(1 − x)), logarithms bounded below by −100.

    x in [0, 1] and t in [0, 1] of one shape (N, …). "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    `BCEWithLogitsLoss` on the values before the sigmoid is more accurate.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.binary_cross_entropy(input, target, reduction=self.reduction, sample_weight=sample_weight)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits, l = −(p t log σ(x) + (1 − t) log(1 − σ(x))), computed without overflow.

    x any real and t in [0, 1] of one shape (N, …); p is `pos_weight` (last dimension of x), 1 where none is given.
    "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row: `pos_weight` is not in the denominator.
    """

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.binary_cross_entropy_with_logits(
            input, target, reduction=self.reduction, pos_weight=self.pos_weight, sample_weight=sample_weight
        )


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits, l_i = −Σ_c w_c q_ic log softmax(x_i)_c.

    x (N, C) float32 or float64; `weight` w (C,), 1 where none is given. The target is int64 (N,) of class numbers, then
    q_i is one-hot at t_i, or probabilities q (N, C) of x's dtype. With label smoothing ε, q becomes (1 − ε) q + ε / C.
    Rows whose class number is `ignore_index` give 0.
    "mean" is Σ_i s_i l_i / D. For class numbers D = Σ_i s_i w[t_i] over the rows that are not ignored (without any the
    mean is NaN), for probabilities D = Σ_i s_i. Source of the weighted and smoothed forms: PyTorch.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"[CrossEntropyLoss] expected label_smoothing between 0 and 1, got {label_smoothing!r}")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            sample_weight=sample_weight,
        )

    def extra_repr(self) -> str:
        options = [super().extra_repr()]
        if self.ignore_index != -100:
            options.append(f"ignore_index={self.ignore_index}")
        if self.label_smoothing:
            options.append(f"label_smoothing={self.label_smoothing}")
        return ", ".join(options)
