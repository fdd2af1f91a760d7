"""Embedding: values and gradients beside PyTorch's, the row that does not learn, indices out of range."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F

INDEX = np.array([[0, 3, 3], [5, 1, 0]])


def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, 4))


@pytest.mark.parametrize("padding", [None, 0, 3, -1])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3), ()])
def test_values_and_gradients_are_those_of_pytorch(shape, padding):
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, fastbp):
        w = library.tensor(weights()).requires_grad_()
        index = library.tensor(INDEX.ravel()[: max(int(np.prod(shape)), 1)].reshape(shape))
        y = library.nn.functional.embedding(index, w, padding)
        y.backward(library.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape))))
        results.append([y.detach().numpy(), w.grad.numpy()])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-13, strict=True)


def test_the_padding_row_has_no_second_derivative_either():
    w, index = fastbp.tensor(weights()).requires_grad_(), fastbp.tensor(INDEX)
    F.embedding(index, w, padding_idx=3).square().sum().backward(create_graph=True)
    first = w.grad
    w.grad = None
    first.square().sum().backward()
    expected = 8 * weights() * np.array([2, 1, 0, 0, 0, 1])[:, None] ** 2
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-13)


def test_a_layer_starts_normal_with_a_padding_row_of_zeros():
    fastbp.manual_seed(0)
    layer = nn.Embedding(1000, 20, padding_idx=-1)
    w = layer.weight.detach().numpy()
    assert layer.padding_idx == 999 and not w[-1].any()
    assert w[:-1].mean() == pytest.approx(0, abs=0.02) and w[:-1].std() == pytest.approx(1, abs=0.02)
    assert repr(layer) == "Embedding(1000, 20, padding_idx=999)" and list(layer.state_dict()) == ["weight"]


def test_training_is_pytorchs_and_leaves_the_padding_row_alone():
    torch = pytest.importorskip("torch")
    tables = []
    for library in (torch, fastbp):
        model = library.nn.Sequential(library.nn.Embedding(6, 4, padding_idx=1), library.nn.Linear(4, 2)).double()
        rng = np.random.default_rng(2)
        for p in model.parameters():
            p.data = library.tensor(rng.standard_normal(tuple(p.shape)))
        optimizer = library.optim.Adam(model.parameters(), lr=0.01)
        for t in range(50):
            index = library.tensor(np.random.default_rng(t).integers(0, 6, 9))
            optimizer.zero_grad()
            model(index).pow(2).sum().backward()
            optimizer.step()
        tables.append(model[0].weight.detach().numpy())
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-10)
    np.testing.assert_array_equal(tables[1][1], np.random.default_rng(2).standard_normal((6, 4))[1])


@pytest.mark.parametrize("bad", [-1, 6, 2**40])
@pytest.mark.parametrize("padding", [None, 2])
def test_an_index_out_of_range_is_named_with_the_range(bad, padding):
    layer, x = nn.Embedding(6, 4, padding_idx=padding), fastbp.tensor([0, bad, 1])
    with pytest.raises(IndexError, match=rf"^\[embedding\] expected indices from 0 to 5, got {bad}"):
        layer(x)
    compiled = fastbp.compile(lambda x: layer(x) * 2)
    np.testing.assert_array_equal(
        compiled(fastbp.tensor([0, 5, 1])).numpy(), layer(fastbp.tensor([0, 5, 1])).detach() * 2
    )
    with pytest.raises(IndexError, match=rf"expected indices from 0 to 5, got {bad}"):
        compiled(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Embedding(-1, 3), ValueError, r"\[Embedding\] expected num_embeddings to be an int of at least 0"),
        (lambda: nn.Embedding(3, 2, 3), ValueError, r"\[Embedding\] expected padding_idx from -3 to 2, got 3"),
        (lambda: nn.Embedding(3, 2)(fastbp.ones(2)), TypeError, r"\[embedding\] expected input as int64 indices, got"),
        (lambda: nn.Embedding(3, 2)([0, 1]), TypeError, r"\[embedding\] expected a tensor, got list"),
        (lambda: F.embedding(fastbp.arange(2), fastbp.ones(3)), ValueError, r"expected weight of shape \(n, d\), got"),
        (lambda: F.embedding(fastbp.arange(2), fastbp.ones(3, 2), 3), ValueError, r"expected padding_idx from -3 to 2"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_indices_and_no_rows():
    assert nn.Embedding(3, 2)(fastbp.zeros(0, dtype=fastbp.int64)).shape == (0, 2)
    with pytest.raises(IndexError, match="expected indices from 0 to -1, got 0"):
        nn.Embedding(0, 2)(fastbp.arange(1))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_train_on_their_own(copied):
    layer = nn.Embedding(6, 4, padding_idx=2)
    before, twin = layer.weight.tolist(), copied(layer)
    twin(fastbp.tensor(INDEX)).sum().backward()
    optim.SGD(twin.parameters(), lr=0.1).step()
    assert layer.weight.tolist() == before != twin.weight.tolist() and twin.padding_idx == 2
