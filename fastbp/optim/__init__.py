"""Optimizers: update rules over groups of parameters, and schedules of their learning rates."""

from fastbp.optim import lr_scheduler
from fastbp.optim.adagrad import Adagrad
from fastbp.optim.adam import Adam, AdamW
from fastbp.optim.optimizer import Optimizer
from fastbp.optim.rmsprop import RMSprop
from fastbp.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
