"""GradientFlow: norms of gradients by hand, in loops, in compiled steps and in fit; callbacks of steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from train_runs import fitted, linear, problem, run, weights

import fastbp
from fastbp import nn, optim, train
from fastbp.data import Batches


def two_layers(seed: int = 0):
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def norm_of(gradient) -> float:
    return math.sqrt(np.square(gradient.numpy(), dtype=np.float64).sum())


class TestByHand:
    def test_norms_are_those_of_the_gradients(self):
        model = nn.Linear(2, 1)
        flow = train.GradientFlow(model)
        model(fastbp.tensor([[3.0, 4.0]])).sum().backward()
        flow.record()
        model(fastbp.tensor([[3.0, 4.0]])).sum().backward()  # on top of the first
        flow.record()
        assert flow.norms == {"weight": [5.0, 10.0], "bias": [1.0, 2.0]}
        assert flow.steps == [1, 2]

    def test_a_parameter_without_a_gradient_has_none(self):
        model = two_layers()
        model[0].requires_grad_(False)
        flow = train.GradientFlow(model)
        model(fastbp.ones(2, 3)).sum().backward()
        flow.record()
        model[0].requires_grad_(True)
        model(fastbp.ones(2, 3)).sum().backward()
        flow.record()
        assert flow.norms["0.weight"] == [None, pytest.approx(norm_of(model[0].weight.grad))]
        assert flow.norms["2.bias"] == [2.0, 4.0]

    def test_nan_and_infinity_are_kept(self):
        model = nn.Linear(1, 1)
        flow = train.GradientFlow(model)
        model.weight.grad, model.bias.grad = fastbp.tensor([[math.nan]]), fastbp.tensor([math.inf])
        flow.record()
        assert math.isnan(flow.norms["weight"][0]) and flow.norms["bias"] == [math.inf]

    def test_float64_is_not_rounded(self):
        model = nn.Sequential(nn.Linear(1, 1, dtype=fastbp.float32), nn.Linear(1, 1, dtype=fastbp.float64))
        flow = train.GradientFlow(model)
        model[1].weight.grad = fastbp.tensor([[0.1]], dtype=fastbp.float64)
        assert flow.measure().dtype is fastbp.float64 and flow.measure().tolist() == [-1.0, -1.0, 0.1, -1.0]

    def test_recording_leaves_gradients_alone(self):
        model = two_layers()
        model(fastbp.ones(2, 3)).sum().backward()
        model[0].weight.grad = model[0].weight.grad.t().contiguous().t()
        before = [(p.grad, p.grad.stride(), p.grad.tolist()) for p in model.parameters()]
        train.GradientFlow(model).record()
        for p, (gradient, strides, values) in zip(model.parameters(), before):
            assert p.grad is gradient and p.grad.stride() == strides and p.grad.tolist() == values

    def test_nothing_to_record_is_said(self):
        model = two_layers()
        flow = train.GradientFlow(model)
        with pytest.raises(RuntimeError, match=r"\[GradientFlow\] expected gradients, got none.*keep_grads=True"):
            flow.record()
        with pytest.raises(RuntimeError, match="expected gradients, got none"):
            flow.record(flow.measure())
        assert flow.steps == [] and set(map(len, flow.norms.values())) == {0}

    def test_a_model_without_parameters(self):
        with pytest.raises(ValueError, match=r"\[GradientFlow\] expected a model with parameters, got ReLU with none"):
            train.GradientFlow(nn.ReLU())

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 4)])
    def test_norms_of_another_shape_are_refused(self, shape):
        flow = train.GradientFlow(two_layers())
        with pytest.raises(ValueError, match=r"expected norms of 4 parameters, one step or \(steps, 4\), got shape"):
            flow.record(np.zeros(shape))


class TestCompiled:
    def steps(self, measured: bool, **options):
        model = two_layers()
        flow = train.GradientFlow(model)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            norms = flow.measure() if measured else None
            optimizer.step()
            return (loss, norms) if measured else loss

        return flow, step, fastbp.compile(step, **options)

    def test_measured_norms_are_those_of_eager_steps(self):
        x, y = problem()
        by_hand, step, _ = self.steps(True)
        for begin in range(0, 40, 8):
            by_hand.record(step(fastbp.tensor(x[begin : begin + 8]), fastbp.tensor(y[begin : begin + 8]))[1])
        flow, _, compiled = self.steps(True)
        _, norms = compiled.run_epoch([x, y], batch_size=8)
        flow.record(norms)
        assert flow.norms == by_hand.norms and flow.steps == by_hand.steps == [1, 2, 3, 4, 5]

    def test_gradients_that_an_optimizer_used_up_cannot_be_recorded(self):
        flow, _, compiled = self.steps(False)
        compiled(*problem())
        with pytest.raises(RuntimeError, match=r"After a compiled optimizer step grad is None: return measure\(\)"):
            flow.record()

    def test_gradients_that_are_kept_can_be(self):
        flow, _, compiled = self.steps(False, keep_grads=True)
        compiled(*problem())
        flow.record()
        assert flow.norms["0.weight"] == [pytest.approx(norm_of(flow._parameters["0.weight"].grad))]

    def test_recording_inside_is_refused_with_the_line(self):
        model = two_layers()
        flow = train.GradientFlow(model)

        def step(x):
            model(x).sum().backward()
            flow.record()

        with pytest.raises(fastbp.CompileError, match=r"test_gradient_flow.py:\d+: .*return the tensor"):
            fastbp.compile(step)(problem()[0])


class TestFit:
    def flows(self, compile, **options):
        seen = []

        def make():
            model = two_layers()
            seen.append(train.GradientFlow(model))
            return model

        class Late(train.StepCallback):
            """Stands in for the flow of a model that `fitted` has yet to make."""

            def measure(self):
                return seen[-1].measure()

            def record(self, values):
                seen[-1].record(values)

        state = fitted(compile, make=make, callbacks=[Late()], **options)
        return state, seen[-1]

    @pytest.mark.parametrize("data", [None, lambda: list(Batches(*problem(45), batch_size=10))])
    def test_norms_do_not_depend_on_compiling(self, data):
        eager, compiled = self.flows(False, data=data)[1], self.flows(True, data=data)[1]
        assert eager.norms == compiled.norms
        assert eager.steps == compiled.steps == list(range(1, 16))

    @pytest.mark.parametrize("compile", [False, True])
    def test_training_does_not_depend_on_the_flow(self, compile):
        from compiled_runs import assert_same

        assert_same(fitted(compile, make=two_layers), self.flows(compile)[0])

    @pytest.mark.parametrize("compile", [False, True])
    def test_norms_of_a_rule_known_by_hand(self, compile):
        """Loss w·x over a batch of 2 rows: the gradient is the mean of x, whatever w is."""
        model = nn.Linear(2, 1)
        flow = train.GradientFlow(model)
        x = np.array([[3.0, 4.0], [3.0, 4.0], [6.0, 8.0], [6.0, 8.0]], np.float32)
        data = Batches(x, np.zeros((4, 1), np.float32), batch_size=2)
        run(model, epochs=2, data=data, loss=lambda p, y: p.mean(), callbacks=[flow], compile=compile)
        assert flow.norms == {"weight": [5.0, 10.0, 5.0, 10.0], "bias": [1.0, 1.0, 1.0, 1.0]}

    def test_a_parameter_that_thaws_between_epochs(self):
        for compile in (False, True):
            model = two_layers()
            model[0].requires_grad_(False)
            flow = train.GradientFlow(model)
            run(model, epochs=2, callbacks=[flow, lambda run: run.model.requires_grad_(True)], compile=compile)
            assert [norm is None for norm in flow.norms["0.weight"]] == [True] * 3 + [False] * 3
            assert None not in flow.norms["2.weight"]

    @pytest.mark.parametrize("compile", [False, True])
    def test_the_steps_before_a_loss_that_is_not_finite_are_recorded(self, compile):
        x, y = problem(45)
        y[35] = np.nan
        flow = train.GradientFlow(model := linear())
        with pytest.raises(FloatingPointError, match="batch 8"):
            run(model, data=Batches(x, y, batch_size=5), callbacks=[flow], compile=compile)
        assert flow.steps == list(range(1, 8)) and np.isfinite(flow.norms["0.weight"]).all()

    def test_steps_that_cannot_be_compiled_are_recorded_once(self):
        class Reading(nn.Sequential):
            def forward(self, x):
                y = super().forward(x)
                return y * 0.5 if y.detach().sum().item() > 0 else y

        flow = train.GradientFlow(model := Reading(nn.Linear(3, 1)))
        with pytest.warns(UserWarning, match="operation by operation"):
            run(model, epochs=2, callbacks=[flow])
        assert flow.steps == list(range(1, 7))

    def test_a_second_run_goes_on(self):
        flow = train.GradientFlow(model := linear())
        run(model, epochs=1, callbacks=[flow])
        run(model, epochs=1, callbacks=[flow])
        assert flow.steps == list(range(1, 7)) and len(flow.norms["0.bias"]) == 6


class TestStepCallback:
    @pytest.mark.parametrize("compile", [False, True])
    def test_values_come_in_order_beside_metrics(self, compile):
        class Bias(train.StepCallback):
            def __init__(self, model):
                self.model, self.seen = model, []

            def measure(self):
                return self.model[0].bias.detach()

            def record(self, values):
                assert values.shape[1:] == (1,)
                self.seen += values[:, 0].tolist()

        model = linear()
        before = weights(model)[1].tolist()
        watchers = [Bias(model), train.GradientFlow(model), Bias(model)]
        history = run(
            model, epochs=2, callbacks=watchers, metrics=[train.mean_absolute_error], compile=compile, lr=0.05
        )
        first, flow, second = watchers
        assert first.seen == second.seen and len(first.seen) == 6
        assert first.seen[:1] == before and len(set(first.seen)) == 6  # as it was before each step
        assert flow.steps == list(range(1, 7)) and history.epochs == 2
        assert history["mean_absolute_error"][0] > history["mean_absolute_error"][1]

    @pytest.mark.parametrize("compile", [False, True])
    def test_what_is_no_tensor_is_refused(self, compile):
        class Wrong(train.StepCallback):
            def measure(self):
                return 3.0

            def record(self, values): ...

        with pytest.raises(TypeError, match=r"\[fit\] expected Wrong.measure to return a tensor, got 3.0"):
            run(callbacks=[Wrong()], compile=compile)
