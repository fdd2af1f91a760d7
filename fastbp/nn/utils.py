"""Norms and clipping of gradients between `backward()` and `step()`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fastbp import kernels, ops
from fastbp.autograd import no_grad
from fastbp.dtypes import float32
from fastbp.ops.common import like, new
from fastbp.tensor import Tensor, filled


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients that are there, each contiguous, as the kernels need it."""
    gradients = []
    for parameter in [parameters] if isinstance(parameters, Tensor) else parameters:
        if parameter.grad is not None:
            if not parameter.grad.is_contiguous():
                parameter.grad = parameter.grad.contiguous()
            gradients.append(parameter.grad)
    return gradients


def _by_kind(gradients: list[Tensor]) -> list[list[Tensor]]:
    """Gradients of one device and dtype together: a kernel call takes one kind."""
    kinds: dict[object, list[Tensor]] = {}
    for gradient in gradients:
        kinds.setdefault((gradient.device, gradient.dtype), []).append(gradient)
    return list(kinds.values())


def _norm(gradients: list[Tensor], norm_type: float) -> Tensor:
    """The norm over all elements of gradients of one kind, as a 0-d tensor."""
    if norm_type == 2:
        norm = new((1,), gradients[0].dtype)
        kernels.of(norm).gradient_norm([gradient.buffer for gradient in gradients], norm.buffer)
        return norm.reshape(())
    if math.isinf(norm_type):
        return ops.stack([gradient.abs().max() for gradient in gradients if gradient.numel()]).max()
    return ops.stack([(gradient.abs() ** norm_type).sum() for gradient in gradients]).sum() ** (1 / norm_type)


def _total_norm(kinds: list[list[Tensor]], norm_type: float) -> Tensor:
    """One kind's norm as it is; several kinds' are combined in the dtype and on the device of the first."""
    norms = [_norm(gradients, norm_type) for gradients in kinds]
    if len(norms) == 1:
        return norms[0]
    norms = [norm.to(norms[0].device).to(norms[0].dtype) for norm in norms]
    return _norm([ops.stack(norms)], norm_type)


def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Return the norm over all elements of all tensors, as a 0-d tensor without history; 0 where there is no tensor.

    norm = (Σ |x|^norm_type)^(1/norm_type); norm_type = inf: the largest |x|. Raises ValueError for norm_type ≤ 0,
    RuntimeError for a norm that is NaN or infinite if `error_if_nonfinite`.
    """
    norm_type = float(norm_type)
    if not norm_type > 0:
        raise ValueError(f"[get_total_norm] expected norm_type > 0, got {norm_type}")
    given = [tensors] if isinstance(tensors, Tensor) else tensors
    with no_grad():
        kinds = _by_kind([tensor.detach().contiguous() for tensor in given])
        norm = _total_norm(kinds, norm_type) if kinds else filled((), 0.0, float32)
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise RuntimeError(f"[get_total_norm] expected a finite norm, got {norm.item()}")
    return norm


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scales all gradients by one factor, so that their norm is at most `max_norm`; returns the norm before.

    norm = (Σ |g|^norm_type)^(1/norm_type) over all elements of all gradients (norm_type = inf: the largest |g|), and
    g ← g · min(1, max_norm / (norm + 1e-6)). Parameters without a gradient do not count; without any the norm is 0.
    A norm that is NaN makes all gradients NaN unless `error_if_nonfinite`, which raises before anything is written.
    Source: Pascanu et al. 2013, in PyTorch's form.
    """
    max_norm, norm_type = float(max_norm), float(norm_type)
    if not norm_type > 0:
        raise ValueError(f"[clip_grad_norm_] expected norm_type > 0, got {norm_type}")
    if not max_norm >= 0:
        raise ValueError(f"[clip_grad_norm_] expected max_norm >= 0, got {max_norm}")
    kinds = _by_kind(_gradients(parameters))
    if not kinds:
        return filled((), 0.0, float32)
    with no_grad():
        norm = _total_norm(kinds, norm_type)
        if error_if_nonfinite and not math.isfinite(norm.item()):
            raise RuntimeError(f"[clip_grad_norm_] expected gradients of finite norm, got {norm.item()}")
        for gradients in kinds:
            own = norm.to(gradients[0].device).to(gradients[0].dtype).reshape(1)
            coefficient = like(own)
            k = kernels.of(own)
            k.clip_coefficient(own.buffer, max_norm, coefficient.buffer)
            k.scale_gradients(coefficient.buffer, [gradient.buffer for gradient in gradients])
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamps every element of every gradient to [−clip_value, clip_value]."""
    clip_value = float(clip_value)
    if not clip_value >= 0:
        raise ValueError(f"[clip_grad_value_] expected clip_value >= 0, got {clip_value}")
    with no_grad():
        for gradient in _gradients(parameters):
            gradient.clamp_(-clip_value, clip_value)
