"""Pictures of modules: their groups, and the names of their parameters."""

from __future__ import annotations

import numpy as np

import fastbp
from fastbp import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.act = nn.Tanh()

    def forward(self, x):
        return x + self.act(self.inner(x))


def parameters_of(picture):
    return [node.name for node in picture if node.kind == "parameter"]


class TestModules:
    def test_name_parameters_and_operations(self):
        model, x = nn.Sequential(Block(), nn.Linear(2, 1)), fastbp.randn(3, 2)
        with fastbp.explain() as picture:
            loss = model(x).sum()
            loss.backward()
        parameters = [node.name for node in picture if node.kind == "parameter"]
        assert parameters == ["0.inner.weight", "0.inner.bias", "1.weight", "1.bias"]
        modules = {node.operation: node.module for node in picture if node.operation in ("Tanh", "Sum")}
        assert modules == {"Tanh": "0.act", "Sum": ""}
        assert {node.module for node in picture if node.operation == "MatMul"} == {"0.inner", "1"}

    def test_are_groups_within_groups(self):
        model, x = nn.Sequential(Block(), nn.Linear(2, 1)), fastbp.randn(3, 2)
        with fastbp.explain() as picture:
            model(x).sum().backward()
        root = picture.tree
        (outer,) = [member for member in root.members if not hasattr(member, "operation")]
        assert (outer.title, outer.kind) == ("model", "Sequential")
        block, linear = [member for member in outer.members if not hasattr(member, "operation")]
        assert (block.title, block.kind) == ("0", "Block") and (linear.title, linear.kind) == ("1", "Linear")
        inside = [node.name for node in linear.nodes()]
        assert "1.weight" in inside and "1.bias" in inside and "x" not in inside
        # A group of one operation is that operation: tanh stands in its block.
        assert [member.title for member in block.members if not hasattr(member, "operation")] == ["0.inner"]

    def test_that_are_several_have_the_names_of_their_variables(self):
        encoder, decoder = nn.Linear(2, 3), nn.Linear(3, 2)
        with fastbp.explain() as picture:
            decoder(encoder(fastbp.randn(1, 2))).sum().backward()
        parameters = [node.name for node in picture if node.kind == "parameter"]
        assert parameters == ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"]
        assert {node.module for node in picture if node.operation == "MatMul"} == {"encoder", "decoder"}

    def test_that_a_variable_holds_have_the_names_of_their_places(self):
        ms = nn.ModuleList([nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)])
        with fastbp.explain() as picture:
            h = fastbp.ones(3, 2)
            for layer in ms:
                h = layer(h)
            h.sum().backward()
        assert parameters_of(picture) == ["ms.0.weight", "ms.0.bias", "ms.2.weight", "ms.2.bias"]
        assert {node.module for node in picture if node.operation == "MatMul"} == {"ms.0", "ms.2"}

    def test_that_a_list_or_dictionary_holds_have_the_names_of_their_places(self):
        layers, heads = [nn.Linear(2, 2), nn.Linear(2, 2)], {"mean": nn.Sequential(nn.Linear(2, 1))}
        with fastbp.explain() as picture:
            h = fastbp.ones(3, 2)
            for layer in layers:
                h = layer(h)
            heads["mean"](h).sum().backward()
        assert parameters_of(picture)[::2] == ["layers[0].weight", "layers[1].weight", "heads['mean'].0.weight"]

    def test_that_are_the_only_part_of_another_to_be_called_have_their_place(self):
        model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
        with fastbp.explain() as picture:
            model[0](fastbp.ones(3, 2)).sum().backward()
        assert parameters_of(picture) == ["model.0.weight", "model.0.bias"]

    def test_called_in_a_method_have_the_names_of_their_attributes(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

            def loss(self, x):
                return self.head(self.body(x)).sum()

        picture = fastbp.explain(Model().loss, fastbp.ones(3, 2))
        assert parameters_of(picture) == ["body.weight", "body.bias", "head.weight", "head.bias"]

    def test_without_parameters_take_no_name_from_others(self):
        model, loss_function = nn.Linear(2, 3), nn.MSELoss()
        with fastbp.explain() as picture:
            loss_function(model(fastbp.randn(1, 2)), fastbp.zeros(1, 3)).backward()
        assert {node.name for node in picture if node.kind == "parameter"} == {"weight", "bias"}

    def test_called_twice_are_two_groups_around_one_parameter(self):
        layer = nn.Linear(2, 2)
        with fastbp.explain() as picture:
            layer(layer(fastbp.randn(1, 2))).sum().backward()
        titles = [group.title for group in picture.tree.groups()]
        assert titles == ["", "layer", "layer (2)"]
        assert [node.name for node in picture if node.kind == "parameter"] == ["weight", "bias"]
        assert len(picture["weight"].uses) == 2
        np.testing.assert_allclose(picture["weight"].upstream.tolist(), layer.weight.grad.tolist())

    def test_as_the_function_give_their_names(self):
        model = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
        picture = fastbp.explain(model, fastbp.randn(1, 2))
        assert [node.name for node in picture if node.kind == "parameter"] == ["0.weight", "0.bias"]
        assert picture["input"].kind == "input" and picture.title == "Sequential"
        assert model[0].weight.grad is not None

    def test_parameters_used_outside_have_their_names_too(self):
        model = nn.Linear(2, 1)
        with fastbp.explain() as picture:
            loss = model(fastbp.randn(1, 2)).sum() + sum((p * p).sum() for p in model.parameters())
            loss.backward()
        assert len(picture["weight"].uses) == 3
