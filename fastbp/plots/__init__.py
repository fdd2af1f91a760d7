"""Pictures of training, drawn by matplotlib: `pip install "fastbp[plots]"`.

Every function returns a matplotlib Figure, which notebooks show and `savefig` writes. Figures are made without pyplot:
no window opens, and neither the backend nor the settings of matplotlib change.
"""

from .curves import plot_gradient_flow, plot_history
from .histograms import plot_gradients, plot_weights

__all__ = ["plot_gradient_flow", "plot_gradients", "plot_history", "plot_weights"]
