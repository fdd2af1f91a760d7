"""The worked examples: every system gives the numbers that were worked out by hand, on both host backends."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import fastbp
import fastbp.examples
from fastbp.examples import (
    chain_rule,
    computational_graphs,
    gradient_descent,
    linear_regression,
    mnist_from_scratch,
    neuron,
    optimizers,
    regularisation,
    two_layer_network,
)

PROGRAMS = sorted(m.name for m in pkgutil.iter_modules(fastbp.examples.__path__) if not m.name.startswith("_"))
# Trained for longer than these tests have; each has tests of its own.
TRAINED = {
    "autoregressive",
    "gaussian_regression",
    "generative_adversarial_network",
    "gradient_descent",
    "logistic_regression",
    "mixture_density_network",
    "mnist_from_scratch",
    "softmax_classifier",
    "variational_autoencoder",
}


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


# (system, its numbers), to rtol 1e-12.
EXACT = [
    (chain_rule.polynomial, {"f": 11, "df_dx": 8, "df_dy": 7}),
    (chain_rule.scaled_square, {"z": 18, "dz_dx": 12}),
    (chain_rule.square_of_sum, {"t": 5, "z": 25, "dz_dx": 10, "dz_dy": 10}),
    (chain_rule.numerical_check, {"numerical": 6.000000000012662, "analytic": 6, "gradcheck": True}),
    (chain_rule.product_gate, {"error": 2, "dw": [[6, 8]], "by_hand": [[6, 8]]}),
    (chain_rule.gates, {"add": [2, 2], "mul": [-8, 6], "max": [2, 0]}),
    (computational_graphs.gym_bill, {"y": 150, "z": 180, "dz_da": 3.6, "dz_db": 60, "dz_dc": 150, "dz_dy": 1.2}),
    (computational_graphs.shared_node, {"f": 14, "df_dx": 7, "df_dy": 2, "df_da": 7, "df_db": 9, "df_dc": 2}),
    (computational_graphs.product_of_sum, {"q": 3, "f": -12, "df_dq": -4, "df_dz": 3, "df_dx": -4, "df_dy": -4}),
    (
        computational_graphs.squared_norm,
        {"q": [0.22, 0.26], "f": 0.116, "dw": [[0.088, 0.176], [0.104, 0.208]], "dx": [-0.112, 0.636]},
    ),
    (
        computational_graphs.elementwise_batch,
        {"jacobian_entries": 409_600**2, "gradient_entries": 409_600, "diagonal": True},
    ),
    (neuron.relu_derivative, {"derivative": [0, 0, 1, 0, 1]}),
    (neuron.affine_sample, {"dx": [0.6, 1.2], "dw": [[1, -2, 3], [2, -4, 6]], "db": [1, -2, 3]}),
    (
        linear_regression.step_by_hand,
        {"prediction": 7, "loss": 9, "dw": 12, "db": 6, "w": 1.8, "b": 0.4, "new_prediction": 4},
    ),
    (linear_regression.forgotten_zeroing, {"dw": [12, 24, 36]}),
    (linear_regression.absolute_error, {"gradient": [-1, 0, 1]}),
    (
        two_layer_network.by_autograd,
        {
            "z1": [[0.6], [1.3]],
            "prediction": 1.38,
            "loss": 0.0722,
            "dw2": [[0.228, 0.494]],
            "db2": [[0.38]],
            "dw1": [[0.19, 0.38], [0.228, 0.456]],
            "db1": [[0.19], [0.228]],
            "w2": [[0.4772, 0.5506]],
            "b2": [[0.262]],
            "w1": [[0.081, 0.162], [0.2772, 0.3544]],
            "b1": [[0.081], [0.1772]],
        },
    ),
    (
        two_layer_network.by_hand,
        {"dw2": [[0.228, 0.494]], "db2": [[0.38]], "dw1": [[0.19, 0.38], [0.228, 0.456]], "db1": [[0.19], [0.228]]},
    ),
    (
        regularisation.penalty_gradients,
        {
            "loss_none": 6.25,
            "dw_none": [-5, -10, -15],
            "loss_l1": 6.4,  # 0.1 · (0.5 + 1)
            "dw_l1": [-4.9, -10.1, -15],  # 0.1 · sign(w), 0 at 0
            "loss_l2": 6.375,  # 0.1 · (0.25 + 1)
            "dw_l2": [-4.9, -10.2, -15],  # 0.1 · 2w
        },
    ),
]

# (system, decimals shown, its numbers).
SHOWN = [
    (
        computational_graphs.sigmoid_neuron_gates,
        6,
        {"f": 0.731059, "dw": [-0.196612, -0.393224, 0.196612], "dx": [0.393224, -0.589836]},
    ),
    (
        computational_graphs.sigmoid_neuron_node,
        6,
        {"f": 0.731059, "dw": [-0.196612, -0.393224, 0.196612], "dx": [0.393224, -0.589836]},
    ),
    (neuron.train_sigmoid_neuron, 8, {"w": [0.20474415, 0.40759064]}),
    (neuron.hidden_layer, 8, {"y": [0.57688526, 0.66150316]}),
    (two_layer_network.nudge, 6, {"rise": 0.000019}),
    (chain_rule.polynomial, 2, {"moved": 0.08}),
    (chain_rule.numerical_check, 13, {"difference": 1.27e-11}),
]


def name_of(system):
    return system.__name__ if callable(system) else ""


@pytest.mark.parametrize(("system", "expected"), EXACT, ids=name_of)
def test_exact_numbers(system, expected):
    numbers = system()
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name], value, rtol=1e-12, atol=0, err_msg=name)


@pytest.mark.parametrize(("system", "decimals", "expected"), SHOWN, ids=name_of)
def test_numbers_to_the_digits_shown(system, decimals, expected):
    numbers = system()
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name], value, rtol=0, atol=0.5000001 * 10.0**-decimals, err_msg=name)


@pytest.mark.parametrize("values", [(0.0, 0.0), (-1.5, 4.0), (3.25, -7.5)])
def test_derivative_of_a_square_of_a_sum_is_2t(values):
    numbers = chain_rule.square_of_sum(*values)
    assert numbers["dz_dx"] == numbers["dz_dy"] == 2 * numbers["t"]


def test_neuron_as_gates_and_as_one_node_agree():
    gates, node = (computational_graphs.sigmoid_neuron_gates(), computational_graphs.sigmoid_neuron_node())
    for name in ("f", "dw", "dx"):
        np.testing.assert_allclose(gates[name], node[name], rtol=1e-14)


def test_the_derivative_by_hand_is_the_derivative():
    for system, pairs in (
        (neuron.train_sigmoid_neuron, [("dw", "by_hand")]),
        (neuron.sigmoid_derivative, [("derivative", "by_hand")]),
        (neuron.affine_batch, [("dx", "dx_by_hand"), ("dw", "dw_by_hand"), ("db", "db_by_hand")]),
        (neuron.affine_sample, [("dx", "dx_by_hand"), ("dw", "dw_by_hand")]),
    ):
        numbers = system()
        for name, by_hand in pairs:
            np.testing.assert_allclose(numbers[name], numbers[by_hand], rtol=1e-12, err_msg=name)


def test_affine_batch_gradients():
    numbers = neuron.affine_batch()
    np.testing.assert_allclose(numbers["dw"], [[6, 6], [-1, 8], [2, 11.25]], rtol=1e-12)
    assert numbers["db"] == [0.5, 2.25]


def test_linear_regression_by_hand_lands_on_the_target():
    assert linear_regression.step_by_hand()["new_loss"] == pytest.approx(0, abs=1e-24)


def test_an_elementwise_gradient_needs_memory_proportional_to_its_input():
    resource = pytest.importorskip("resource")  # POSIX only
    computational_graphs.elementwise_batch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    computational_graphs.elementwise_batch()
    # The peak may move by a few copies of the 3.3 MB input (ru_maxrss counts KiB); the Jacobian would be 1.3 TB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_linear_1_1_learns_its_line_in_200_epochs(capsys):
    result = linear_regression.train_linear(verbose=True)
    assert len(capsys.readouterr().out.splitlines()) == 10  # the loss every 20 epochs
    assert result["losses"][-1] < 1e-10 < result["losses"][0]
    assert result["weight"] == pytest.approx(2, abs=1e-4)
    assert result["bias"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("rule", optimizers.RULES, ids=name_of)
def test_optimizer_rules_by_hand_are_those_of_the_classes(rule):
    np.testing.assert_allclose(optimizers.by_class(rule, 60), optimizers.by_hand(rule, 60), rtol=1e-11, atol=1e-13)


STEPS_PER_EPOCH = {
    "full batch": 1,
    "stochastic": 1437,
    "mini-batches of 32": 45,
    "mini-batches of 64": 23,
    "mini-batches of 128": 12,
}


@pytest.mark.parametrize("name", gradient_descent.BATCHES)
def test_gradient_descent_learns_with_any_batch(name):
    epochs = 1 if name == "stochastic" else 3
    run = gradient_descent.train(*gradient_descent.BATCHES[name], epochs=epochs)
    assert run.steps == epochs * STEPS_PER_EPOCH[name]
    assert run.losses == sorted(run.losses, reverse=True)
    assert run.losses[-1] < np.log(10)  # better than a guess
    assert run.accuracy > (0.3 if name == "full batch" else 0.7)


@pytest.mark.parametrize("name", gradient_descent.OPTIMIZERS)
def test_gradient_descent_learns_with_any_optimizer(name):
    run = gradient_descent.train(*gradient_descent.OPTIMIZERS[name], epochs=3)
    assert run.losses == sorted(run.losses, reverse=True)
    assert run.accuracy > (0.5 if name == "SGD" else 0.8)


def test_of_several_random_starts_the_best_is_kept():
    best, runs = gradient_descent.best_of_random_starts(starts=3, epochs=1)
    assert len({run.losses[-1] for run in runs}) == 3
    assert best.losses[-1] == min(run.losses[-1] for run in runs)


@pytest.mark.parametrize(("activation", "floor"), [(mnist_from_scratch.Relu, 0.85), (mnist_from_scratch.Sigmoid, 0.4)])
def test_layers_from_scratch_learn_digits(tmp_path, capsys, activation, floor):
    training, test = mnist_from_scratch.load(str(tmp_path))  # an empty folder: no MNIST there
    assert "embedded digits instead" in capsys.readouterr().out
    losses, accuracy = mnist_from_scratch.train(training, test, activation, epochs=3)
    assert losses == sorted(losses, reverse=True)
    assert accuracy > floor


@pytest.mark.parametrize("activation", [mnist_from_scratch.Relu, mnist_from_scratch.Sigmoid])
def test_layers_from_scratch_have_the_gradients_of_autograd(activation):
    fastbp.manual_seed(3)
    affine, gate = mnist_from_scratch.Affine(5, 4), activation()
    x, dy = fastbp.randn(7, 5), fastbp.randn(7, 4)
    gate.forward(affine.forward(x))
    dx = affine.backward(gate.backward(dy))
    leaves = [x.requires_grad_(), affine.w.requires_grad_(), affine.b.requires_grad_()]
    getattr(fastbp, activation.__name__.lower())(x @ affine.w + affine.b).backward(dy)
    for by_hand, leaf in zip((dx, affine.dw, affine.db), leaves):
        np.testing.assert_allclose(by_hand.numpy(), leaf.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_an_l2_penalty_is_weight_decay():
    numbers = regularisation.weight_decay()
    np.testing.assert_allclose(numbers["by_penalty"], numbers["by_decay"], rtol=1e-12)


def test_l1_silences_idle_features_and_l2_shrinks_all():
    weights = {name: np.abs(values) for name, values in regularisation.regression().items()}
    assert weights["l1"][2:].max() < weights["none"][2:].max() / 2
    assert (weights["l2"][:2] < weights["none"][:2]).all()
    assert weights["l1"][:2].min() > 0.5


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in TRAINED])
def test_programs_print_their_numbers(name, capsys):
    importlib.import_module(f"fastbp.examples.{name}").main()
    assert capsys.readouterr().out


def test_programs_run_from_the_command_line():
    command = [sys.executable, "-W", "error", "-m", "fastbp.examples.two_layer_network"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "prediction = 1.38" in done.stdout
    assert done.stderr == ""


def test_every_program_has_a_main_and_is_listed():
    for name in PROGRAMS:
        program = importlib.import_module(f"fastbp.examples.{name}")
        assert callable(program.main)
        assert name in fastbp.examples.__doc__
        assert f"python -m fastbp.examples.{name}" in program.__doc__
