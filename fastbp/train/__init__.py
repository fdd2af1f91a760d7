"""Training: the fit loop with progress, evaluation, callbacks and metrics."""

from .callbacks import BestWeights, Callback, EarlyStopping
from .history import History, Run
from .loop import evaluate, fit, predict
from .metrics import accuracy, binary_accuracy, mean_absolute_error, mean_squared_error

__all__ = [
    "BestWeights",
    "Callback",
    "EarlyStopping",
    "History",
    "Run",
    "accuracy",
    "binary_accuracy",
    "evaluate",
    "fit",
    "mean_absolute_error",
    "mean_squared_error",
    "predict",
]
