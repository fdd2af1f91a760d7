"""Training: the fit loop with progress, evaluation, callbacks and metrics."""

from .callbacks import BestWeights, Callback, EarlyStopping, StepCallback
from .flow import GradientFlow
from .history import History, Run
from .loop import evaluate, fit, predict
from .metrics import accuracy, binary_accuracy, mean_absolute_error, mean_squared_error

__all__ = [
    "BestWeights",
    "Callback",
    "EarlyStopping",
    "GradientFlow",
    "History",
    "Run",
    "StepCallback",
    "accuracy",
    "binary_accuracy",
    "evaluate",
    "fit",
    "mean_absolute_error",
    "mean_squared_error",
    "predict",
]
