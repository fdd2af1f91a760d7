"""Modules: registration, walking, saving and loading, modes, conversion, representation. Layers: test_nn_layers.py."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import nn
from fastbp.nn.module import structure_version


class MLP(nn.Module):
    def __init__(self, widths=(4, 3, 2)):
        super().__init__()
        self.first = nn.Linear(*widths[:2])
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(*widths[1:]))
        self.scale = nn.Parameter(fastbp.ones(1))
        self.register_buffer("steps", fastbp.tensor(0))
        self.register_buffer("scratch", fastbp.zeros(2), persistent=False)

    def forward(self, x):
        return self.rest(self.first(x)) * self.scale


NAMES = ["scale", "first.weight", "first.bias", "rest.1.weight", "rest.1.bias"]
STATE = ["scale", "steps", "first.weight", "first.bias", "rest.1.weight", "rest.1.bias"]


def arrays(module):
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def assert_equal_state(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


# Registration and walking


def test_names_come_in_pytorchs_order():
    model = MLP()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [name for name, _ in model.named_buffers()] == ["steps", "scratch"]
    assert list(model.state_dict()) == STATE
    assert [name for name, _ in model.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert [name for name, _ in model.named_children()] == ["first", "rest"]
    assert next(model.named_parameters(prefix="net"))[0] == "net.scale"
    assert [name for name, _ in model.named_parameters(recurse=False)] == ["scale"]
    assert list(model.first.state_dict(prefix="first.")) == ["first.weight", "first.bias"]


def test_walks_give_the_objects_themselves():
    model = MLP()
    assert next(model.parameters()) is model.scale
    assert [id(buffer) for buffer in model.buffers()] == [id(model.steps), id(model.scratch)]
    assert [type(module) for module in model.modules()] == [MLP, nn.Linear, nn.Sequential, nn.ReLU, nn.Linear]
    assert list(model.children()) == [model.first, model.rest]


def test_shared_parameters_and_modules_come_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert len(list(model.modules())) == 3
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert [name for name, _ in tied.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(list(tied.named_parameters(remove_duplicate=False))) == 4


def test_attributes_are_replaced_by_their_own_kind_or_none():
    model = MLP()
    model.scale = nn.Parameter(fastbp.zeros(1))
    assert [name for name, _ in model.named_parameters()] == NAMES
    model.steps = fastbp.tensor(7)
    assert model.state_dict()["steps"].item() == 7
    model.scale = None
    assert "scale" not in model.state_dict()
    with pytest.raises(TypeError, match=r"\[MLP\] expected 'first' to be a Module or None, got int"):
        model.first = 3
    with pytest.raises(TypeError, match=r"\[MLP\] expected 'steps' to be a Tensor or None, got int"):
        model.steps = 3
    with pytest.raises(TypeError, match=r"\[Linear\] expected 'weight' to be a Parameter or None, got Tensor"):
        model.first.weight = fastbp.zeros(3, 4)


def test_a_deleted_attribute_is_no_longer_listed():
    model = MLP()
    del model.first, model.steps
    assert list(model.state_dict()) == ["scale", "rest.1.weight", "rest.1.bias"]


def test_missing_attributes_say_what_there_is():
    with pytest.raises(
        AttributeError, match="'MLP' object has no attribute 'second'; its attributes are: first, rest, scale"
    ):
        _ = MLP().second


def test_super_init_comes_first():
    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)
            super().__init__()

    class Never(nn.Module):
        def __init__(self):
            pass

    with pytest.raises(
        AttributeError, match=r"\[Early\] cannot assign 'layer' \(a Linear\) before super\(\).__init__\(\)"
    ):
        Early()
    with pytest.raises(AttributeError, match=r"\[Never\] was used before super\(\).__init__\(\)"):
        list(Never().buffers())


def test_registration_checks_names_and_kinds():
    module = nn.Module()
    module.register_parameter("absent", None)
    assert module.absent is None and list(module.parameters()) == []
    module.register_parameter("absent", nn.Parameter(fastbp.ones(1)))
    assert len(list(module.parameters())) == 1
    for register in (module.register_buffer, module.register_parameter, module.add_module):
        for name in ("", "a.b", "training", "forward"):
            with pytest.raises(KeyError, match="expected a"):
                register(name, None)
        with pytest.raises(TypeError, match="got int"):
            register("new", 3)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"\[Module\] expected a forward method, got none"):
        nn.Module()(1)


def test_structure_version_moves_with_changes_only():
    model = MLP()
    changes = [
        model.eval,
        model.train,
        lambda: model.requires_grad_(False),
        lambda: setattr(model, "scale", None),
        lambda: model.rest.append(nn.Tanh()),
        lambda: delattr(model, "first"),
        model.double,
    ]
    for change in changes:
        before = structure_version()
        change()
        assert structure_version() > before
    before = structure_version()
    model.train()
    model.state_dict()
    model.zero_grad()
    assert structure_version() == before


# Saving and loading


def test_state_dict_shares_memory_and_is_detached():
    model = MLP()
    state = model.state_dict()
    assert not state["scale"].requires_grad
    with fastbp.no_grad():
        model.scale.fill_(5.0)
    assert state["scale"].item() == 5.0
    assert model.state_dict(keep_vars=True)["scale"] is model.scale


@pytest.mark.parametrize("convert", [lambda t: t, np.asarray, lambda t: np.asarray(t).astype(np.float64)])
def test_load_state_dict_takes_tensors_and_arrays(convert):
    model, other = MLP(), MLP()
    result = other.load_state_dict({name: convert(value) for name, value in model.state_dict().items()})
    assert result == ([], [])
    assert_equal_state(arrays(model), arrays(other))
    assert other.scale.dtype is fastbp.float32


def test_loading_copies():
    model, other = MLP(), MLP()
    held = other.first.weight
    other.load_state_dict(model.state_dict())
    with fastbp.no_grad():
        model.first.weight.zero_()
    assert held is other.first.weight
    assert np.abs(held.detach().numpy()).max() > 0


def test_loading_names_every_problem_and_writes_nothing():
    model = MLP()
    before = arrays(model)
    state = arrays(MLP())
    del state["steps"]
    state["first.weight"] = state["first.weight"].T
    state["rest.1.bias"] = "text"
    state["extra"] = np.ones(1)
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    assert str(caught.value).startswith("[load_state_dict] MLP: missing keys: steps; unexpected keys: extra; ")
    assert "first.weight: expected shape (3, 4), got (4, 3)" in str(caught.value)
    assert "rest.1.bias: expected a tensor or array of numbers, got str" in str(caught.value)
    assert_equal_state(arrays(model), before)


def test_loading_not_strictly_reports_what_it_left_out():
    model = MLP()
    result = model.load_state_dict({"scale": np.array([3.0]), "other": np.ones(2)}, strict=False)
    assert result.missing_keys == [name for name in STATE if name != "scale"]
    assert result.unexpected_keys == ["other"]
    assert model.scale.item() == 3.0
    with pytest.raises(RuntimeError, match=r"scale: expected shape \(1,\), got \(2,\)"):
        model.load_state_dict({"scale": np.ones(2)}, strict=False)
    with pytest.raises(TypeError, match="expected state_dict to be a mapping"):
        model.load_state_dict([1])


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_independent_and_equal(clone):
    model = MLP()
    model.eval()
    model.first.requires_grad_(False)
    other = clone(model)
    assert_equal_state(arrays(model), arrays(other))
    assert repr(other) == repr(model) and not other.training
    assert [p.requires_grad for p in other.parameters()] == [True, False, False, True, True]
    x = fastbp.randn(5, 4)
    np.testing.assert_array_equal(model(x).detach().numpy(), other(x).detach().numpy())
    with fastbp.no_grad():
        other.scale.zero_()
    assert model.scale.item() == 1.0
    assert list(other.state_dict()) == STATE


def test_deepcopy_keeps_ties():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    other = copy.deepcopy(tied)
    assert other[1].weight is other[0].weight and other[0].weight is not tied[0].weight


# Modes and conversion


def test_train_and_eval_reach_every_module():
    model = MLP()
    assert model.eval() is model and not any(module.training for module in model.modules())
    assert model.train() is model and all(module.training for module in model.modules())
    with pytest.raises(TypeError, match=r"\[train\] expected mode True or False, got 'yes'"):
        model.train("yes")


def test_requires_grad_freezes():
    model = MLP()
    assert model.requires_grad_(False) is model
    assert not any(p.requires_grad for p in model.parameters())


def test_zero_grad_drops_or_fills():
    model = MLP()
    model(fastbp.ones(2, 4)).sum().backward()
    model.zero_grad(set_to_none=False)
    assert all(not np.any(p.grad.numpy()) for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_conversion_keeps_the_parameters_and_converts_gradients():
    model = MLP()
    held = list(model.parameters())
    model(fastbp.ones(2, 4)).sum().backward()
    assert model.double() is model
    assert all(a is b for a, b in zip(model.parameters(), held, strict=True))
    assert {p.dtype for p in held} == {fastbp.float64} and {p.grad.dtype for p in held} == {fastbp.float64}
    assert model.steps.dtype is fastbp.int64
    assert model(fastbp.ones(2, 4, dtype=fastbp.float64)).dtype is fastbp.float64
    assert model.float().scale.dtype is fastbp.float32
    assert model.to("cpu", fastbp.float64).scale.dtype is fastbp.float64
    assert model.to(fastbp.ones(1)).scale.dtype is fastbp.float32
    with pytest.raises(TypeError, match=r"\[to\] expected a floating-point dtype, got fastbp.int64"):
        model.to(fastbp.int64)


def test_apply_visits_children_first():
    seen = []
    model = MLP()
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen == ["Linear", "ReLU", "Linear", "Sequential", "MLP"]


# Representation


def test_repr_nests():
    assert repr(MLP()) == (
        "MLP(\n"
        "  (first): Linear(in_features=4, out_features=3, bias=True)\n"
        "  (rest): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=3, out_features=2, bias=True)\n"
        "  )\n"
        ")"
    )


def test_reprs_show_options():
    shown = [
        nn.LeakyReLU(0.2),
        nn.GELU(),
        nn.Softmax(dim=1),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Identity(),
        nn.MSELoss("sum"),
    ]
    assert [repr(module) for module in shown] == [
        "LeakyReLU(negative_slope=0.2)",
        "GELU(approximate='none')",
        "Softmax(dim=1)",
        "Dropout(p=0.1)",
        "Flatten(start_dim=1, end_dim=-1)",
        "Identity()",
        "MSELoss(reduction='sum')",
    ]
    assert repr(nn.CrossEntropyLoss(label_smoothing=0.1)) == "CrossEntropyLoss(reduction='mean', label_smoothing=0.1)"
    assert repr(nn.Parameter(fastbp.ones(1))).startswith("Parameter containing:\ntensor([1.")
