"""Losses: one kernel gives the loss of every row and its gradients together. Each file has the losses of one subject.

Every loss takes `sample_weight`, one weight s for each entry of the first dimension. With reduction

    "none"  the weighted losses, unreduced
    "sum"   their sum
    "mean"  their sum divided by the total weight: Σᵢ sᵢ·n for losses of elements, with n elements in each entry;
            Σᵢ sᵢ for losses of rows; Σᵢ sᵢ·w[tᵢ] for those of integer classes (entries with ignore_index do not count).
            Without weights that is the plain mean, as PyTorch has it.

Gradients of what is no prediction (targets, weights) come from the plain operations that a loss stands for.
"""

from fastbp.ops.loss.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge_embedding_loss,
    hinge_loss,
    sigmoid_focal_loss,
)
from fastbp.ops.loss.classes import cross_entropy, nll_loss
from fastbp.ops.loss.likelihood import gaussian_nll_loss, kl_div, mixture_nll_loss, poisson_nll_loss
from fastbp.ops.loss.penalty import l1_penalty, l2_penalty
from fastbp.ops.loss.regression import huber_loss, l1_loss, mse_loss, quantile_loss, smooth_l1_loss
from fastbp.ops.loss.similarity import cosine_embedding_loss

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "mixture_nll_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
]
