"""The examples of output distributions learn: each reaches a figure, on data held out, that is far from a guess."""

from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

import fastbp
from fastbp import data
from fastbp.examples import (
    _pictures,
    autoregressive,
    gaussian_regression,
    generative_adversarial_network,
    logistic_regression,
    mixture_density_network,
    softmax_classifier,
    variational_autoencoder,
)
from fastbp.examples._binary_digits import PIXELS, load_binary_digits, nats_of_independent_pixels
from fastbp.examples._judge import Judge, frechet_distance
from fastbp.examples._tables import load_table

# How each is trained; a run serves all tests that look at it.
digits = functools.cache(lambda: (data.load_digits("train"), data.load_digits("test")))
classifier = functools.cache(lambda: softmax_classifier.train(*digits()))
logistic = functools.cache(logistic_regression.train)
gaussian = functools.cache(gaussian_regression.train)
mixture = functools.cache(mixture_density_network.train)
autoencoder = functools.cache(variational_autoencoder.train)
pixel_by_pixel = functools.cache(autoregressive.train)
adversarial = functools.cache(generative_adversarial_network.train)

# Program → (its training, with a run of the tests instead; the last line that it prints).
MAINS = {
    logistic_regression: (lambda: logistic(), r"test accuracy: \d+\.\d\d %"),
    softmax_classifier: (lambda training, test: classifier(), r"test accuracy: \d+\.\d\d %"),
    gaussian_regression: (
        lambda varying: gaussian(varying),
        r"held-out log-likelihood in nats per patient: variance predicted -\d\.\d+, one variance -\d\.\d+",
    ),
    mixture_density_network: (
        lambda components: mixture(components),
        r"held-out log-likelihood in nats per sample: 5 Gaussians \d\.\d+, one Gaussian \d\.\d+",
    ),
    variational_autoencoder: (
        lambda: autoencoder(),
        r"-ELBO, an upper bound of -log p: \d+\.\d\d nats per test image",
    ),
    autoregressive: (lambda: pixel_by_pixel(), r"-log p, average of 4 orderings: \d+\.\d\d nats per test image"),
    generative_adversarial_network: (lambda: adversarial(), r"classes: 10 of 10, Fréchet distance: \d\.\d\d"),
}


def test_logistic_regression_tells_benign_from_malignant():
    run = logistic()
    assert run.accuracy > 0.96  # always saying benign: 0.63
    assert len(run.labels) == 114
    assert np.mean((run.logits > 0) == run.labels) == run.accuracy
    assert logistic_regression.train(epochs=0).accuracy < 0.8


def test_softmax_classifier_recognises_digits():
    run = classifier()
    assert run.accuracy > 0.97
    assert run.probabilities.shape == (360, 10)
    np.testing.assert_allclose(run.probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.skipif(
    not (Path(os.environ.get("FASTBP_DATA", "/nowhere")) / "mnist").is_dir(), reason="MNIST is not in $FASTBP_DATA"
)
def test_softmax_classifier_recognises_mnist():
    run = softmax_classifier.train(data.load_mnist("train"), data.load_mnist("test"))
    assert run.accuracy > 0.975


def test_a_predicted_variance_makes_patients_more_likely():
    varying, constant = gaussian(True), gaussian(False)
    assert varying.log_likelihood > constant.log_likelihood + 0.01
    # One Gaussian for all patients, whatever their features.
    assert constant.log_likelihood > -0.5 * np.log(2 * np.pi * np.e * constant.y.var()) + 0.3
    for run in (varying, constant):
        assert 0.93 < np.mean(np.abs(run.y - run.mean) < 2 * run.deviation) < 0.98


def test_one_variance_for_all_patients_is_one_number_in_each_fold():
    assert len(set(gaussian(False).deviation.tolist())) == gaussian_regression.FOLDS
    assert len(set(gaussian(True).deviation.tolist())) > 400


def test_a_mixture_surpasses_one_gaussian_and_not_the_truth():
    x, _ = mixture_density_network.load_samples(seed=1)
    mixed, single = mixture(mixture_density_network.COMPONENTS), mixture(1)
    assert mixed.log_likelihood > 1
    assert 0.3 < single.log_likelihood < 0.7
    assert mixed.log_likelihood < mixture_density_network.likelihood_of_the_truth(x)


def test_a_mixture_is_a_density():
    t = fastbp.linspace(-3, 4, 7001).reshape(-1, 1)
    for x in (0.1, 0.5, 0.9):
        with fastbp.no_grad():
            values = mixture(5).model(fastbp.full((7001, 1), x)).log_prob(t).exp()
        assert abs(values.sum().item() * 0.001 - 1) < 1e-3


def test_a_variational_autoencoder_bounds_the_likelihood():
    run = autoencoder()
    assert run.nats < 18.2
    assert run.nats < nats_of_independent_pixels() - 6


def test_the_bound_is_below_a_better_estimate_of_the_likelihood():
    """log of the mean of w = p(x, z) / q(z | x) over k codes: ELBO for k = 1, rising to log p (Burda et al., 2016)."""
    model, x = autoencoder().model, fastbp.from_numpy(load_binary_digits("test")[0])
    log_weights = []
    fastbp.manual_seed(0)
    with fastbp.no_grad():
        mean, log_variance = model.encode(x)
        for _ in range(200):
            noise = fastbp.randn_like(mean)
            z = mean + (0.5 * log_variance).exp() * noise
            p = model.decoder(z).sigmoid()
            log_p = (x * p.log() + (1 - x) * (1 - p).log()).sum(dim=1)
            log_weights.append(log_p + 0.5 * (noise**2 - z**2 + log_variance).sum(dim=1))
        log_w = fastbp.stack(log_weights)
    better = (log_w.logsumexp(dim=0) - np.log(200)).mean().item()
    assert abs(log_w.mean().item() + autoencoder().nats) < 0.05
    assert -autoencoder().nats + 0.2 < better < 0


def test_pixel_by_pixel_is_likelier_than_the_bound_of_the_autoencoder():
    run = pixel_by_pixel()
    assert run.nats < min(run.each)
    assert max(run.each) < autoencoder().nats - 0.5


def test_no_pixel_sees_itself_or_a_later_one():
    for model in pixel_by_pixel().models:
        x = fastbp.tensor(load_binary_digits("test")[0][:1])
        flipped = (x - fastbp.eye(PIXELS)).abs()  # row i: pixel i is the other colour
        with fastbp.no_grad():
            changes = (model(flipped) != model(x)).numpy()
        later = model.order[None, :] > model.order[:, None]
        assert not changes[~later].any()
        assert changes[later].mean() > 0.9


def test_samples_are_as_likely_as_digits():
    """Samples of one network, judged by another one."""
    fastbp.manual_seed(0)
    sampler, judge = pixel_by_pixel().models[:2]
    turns = sampler.sample(500)
    assert turns.shape == (PIXELS, 500, PIXELS)
    with fastbp.no_grad():
        nats = -judge.log_likelihood(fastbp.from_numpy(turns[-1])).mean().item()
    assert abs(nats - pixel_by_pixel().each[1]) < 3
    # After each turn one more pixel is known, and the others are still white.
    assert (turns[7][:, sampler.order > 7] == 0).all()
    assert (turns[-1][:, sampler.order <= 7] == turns[7][:, sampler.order <= 7]).all()


def test_a_generator_makes_all_digits():
    images = generative_adversarial_network.sample(adversarial().generator)
    judge = Judge()
    x, labels = data.load_digits("test")
    assert (judge.probabilities(x).argmax(axis=1) == labels).mean() > 0.95
    counts = np.bincount(judge.confident_labels(images), minlength=10)
    assert counts.min() > 0.02 * len(images)
    assert judge.distance(images) < 2  # noise: 292, an untrained generator more than 100
    assert (
        judge.distance(generative_adversarial_network.sample(generative_adversarial_network.train(1).generator)) > 100
    )


def test_frechet_distance_is_that_of_the_formula():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(200, 5)), generator.normal(1, 2, (300, 5)) @ generator.normal(size=(5, 5))
    covariances = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(b, a), expected, rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(a, a + 1), 5, rtol=1e-8)


SHORT = {
    "logistic_regression": lambda: logistic_regression.train(epochs=2).logits.tolist(),
    "softmax_classifier": lambda: softmax_classifier.train(*digits(), steps=50).probabilities.tolist(),
    "gaussian_regression": lambda: gaussian_regression.train(True, epochs=2).mean.tolist(),
    "mixture_density_network": lambda: mixture_density_network.train(5, epochs=2).log_likelihood,
    "variational_autoencoder": lambda: variational_autoencoder.train(epochs=2).nats,
    "autoregressive": lambda: autoregressive.train(epochs=1).nats,
    "generative_adversarial_network": lambda: generative_adversarial_network.train(epochs=2).losses.tolist(),
}


@pytest.mark.parametrize("name", SHORT)
def test_figures_are_the_same_in_every_run_and_with_any_threads(name):
    threads = fastbp.get_num_threads()
    figures = []
    try:
        for count in (1, 2):
            fastbp.set_num_threads(count)
            figures.append(SHORT[name]())
    finally:
        fastbp.set_num_threads(threads)
    assert figures[0] == figures[1]


@pytest.mark.parametrize("program", MAINS, ids=lambda program: program.__name__.rpartition(".")[2])
def test_programs_draw_and_print_their_figure_last(program, monkeypatch, tmp_path, capsys):
    train, last_line = MAINS[program]
    monkeypatch.setattr(program, "train", train)
    if program is softmax_classifier:
        monkeypatch.setattr(program, "load", digits)
    program.main(["--out", str(tmp_path / "picture.png")])
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert f"picture: {tmp_path / 'picture.png'}" in lines
    assert re.fullmatch(last_line, lines[-1])


def test_pictures_go_to_the_current_folder_by_default():
    assert _pictures.picture_file("autoregressive", []) == Path("autoregressive.png")


def test_without_matplotlib_there_is_no_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _pictures.save_picture(tmp_path / "picture.png", (1, 1), lambda figure: pytest.fail("there is nothing to draw on"))
    assert not (tmp_path / "picture.png").exists()
    assert capsys.readouterr().out == 'no picture: matplotlib is not installed (pip install "fastbp[plots]")\n'


def test_without_scikit_learn_the_tables_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load_table("diabetes")
