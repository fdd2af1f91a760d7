"""The network that the command trains, and its file: weights under PyTorch's keys, the rest as JSON in the metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastbp import nn, serialization, train
from fastbp.data import Batches, Scaling

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}
_KEY = "fastbp"
_FORMAT = 1


@dataclass(frozen=True)
class Network:
    """Linear layers of the given sizes with an activation between them, and how raw rows go in and answers come out.

    classes: the labels that the outputs score, or None for a continuous target, which is then `target`-scaled.
    data: the source it was trained on, as named on the command line.
    """

    sizes: tuple[int, ...]
    activation: str
    scaling: Scaling
    classes: np.ndarray | None
    target: Scaling | None
    data: str

    def build(self) -> Any:
        """Return a new model with random weights."""
        layers: list[Any] = []
        for k, n in pairwise(self.sizes):
            layers += [nn.Linear(k, n), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight by its state_dict key: every second layer of the Sequential is a Linear."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (k, n) in enumerate(pairwise(self.sizes)):
            shapes |= {f"{2 * layer}.weight": (n, k), f"{2 * layer}.bias": (n,)}
        return shapes

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Return raw rows as the network sees them, float32."""
        if x.shape[1] != self.sizes[0]:
            raise ValueError(f"expected rows of {self.sizes[0]} values, as in training, got {x.shape[1]}")
        scaled = self.scaling(x)
        if not np.isfinite([scaled.min(initial=0), scaled.max(initial=0)]).all():  # NaN is both
            finite = np.isfinite(scaled).all(axis=1)
            raise ValueError(f"row {finite.argmin() + 1} has values too far from those in training")
        return scaled

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Return raw targets as the loss wants them: class numbers (rows,) int64, or (rows, outputs) float32."""
        if self.classes is not None:
            return np.searchsorted(self.classes, y)
        assert self.target is not None
        return self.target(y.reshape(len(y), -1))

    def answers(self, model: Any, x: np.ndarray) -> np.ndarray:
        """Return the model's answers to raw rows: labels (rows,), or values (rows,) or (rows, outputs) in raw units."""
        outputs = train.predict(model, Batches(self.inputs(x), batch_size=1024))
        if self.classes is not None:
            return self.classes[outputs.argmax(axis=1)]
        assert self.target is not None
        values = self.target.inverse(outputs)
        return values[:, 0] if values.shape[1] == 1 else values

    def save(self, model: Any, path: str) -> None:
        """Write the model's file, or leave the old one as it is."""
        record = {
            "format": _FORMAT,
            "sizes": list(self.sizes),
            "activation": self.activation,
            "scaling": self.scaling.to_dict(),
            "classes": None if self.classes is None else self.classes.tolist(),
            "target": None if self.target is None else self.target.to_dict(),
            "data": self.data,
        }
        serialization.save(model, path, {_KEY: json.dumps(record)})


def load(path: str) -> tuple[Network, Any]:
    """Read a file of `Network.save`; raises ValueError naming it if it is not one or does not fit together."""
    tensors, metadata = serialization.load_with_metadata(path)
    if _KEY not in metadata:
        raise ValueError(f"{path}: not a model of `fastbp train`: its network is not described in the file")
    try:
        network = _from_record(json.loads(metadata[_KEY]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: the description of its network is damaged ({error})") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != network.shapes():
        raise ValueError(f"{path}: expected weights of shapes {network.shapes()}, got {shapes}")
    model = network.build()
    model.load_state_dict(tensors)
    return network, model


def _from_record(record: Any) -> Network:
    if record["format"] != _FORMAT:
        raise ValueError(f"expected format {_FORMAT}, got {record['format']}")
    sizes = tuple(record["sizes"])
    if len(sizes) < 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"expected at least 2 positive sizes, got {sizes}")
    if record["activation"] not in ACTIVATIONS:
        raise ValueError(f"expected an activation of {', '.join(ACTIVATIONS)}, got {record['activation']!r}")
    scaling = Scaling.from_dict(record["scaling"])
    classes = None if record["classes"] is None else np.array(record["classes"], dtype=np.int64)
    target = None if record["target"] is None else Scaling.from_dict(record["target"])
    fits = scaling.shift.shape in ((), sizes[:1]) and (classes is None) != (target is None)
    fits &= classes is None or classes.shape == sizes[-1:]
    fits &= target is None or target.shift.shape == sizes[-1:]
    if not fits or not isinstance(record["data"], str):
        raise ValueError("its parts do not fit its sizes")
    return Network(sizes, record["activation"], scaling, classes, target, record["data"])
