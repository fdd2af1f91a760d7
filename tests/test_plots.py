"""Plots: what is drawn, read back from the figure, and what is said of values that cannot be drawn."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import fastbp
from fastbp import nn, plots, train

NAN, INF = math.nan, math.inf


def history(**curves):
    return train.History({name: [float(value) for value in values] for name, values in curves.items()})


def flow_of(model, rows):
    """A flow with these norms, a row for each step; −1 for no gradient."""
    flow = train.GradientFlow(model)
    flow.record(np.asarray(rows, np.float64))
    return flow


def two_layers():
    fastbp.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def layers(count):
    return nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(count)))


def drawn(figure):
    """The figure as an image: everything that is drawn has to survive that."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def curves_of(ax):
    """(x, y) by label; lines without one are marks."""
    lines = [line for line in ax.lines if not line.get_label().startswith("_")]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


class TestHistory:
    def test_a_panel_for_each_metric_with_training_and_validation(self):
        values = history(loss=[3, 2, 1], accuracy=[0.1, 0.2, 0.3], validation_loss=[4, 3, 2])
        figure = drawn(plots.plot_history(values))
        loss, accuracy = figure.axes
        assert curves_of(loss) == {"training": ([1, 2, 3], [3, 2, 1]), "validation": ([1, 2, 3], [4, 3, 2])}
        assert curves_of(accuracy) == {"training": ([1, 2, 3], [0.1, 0.2, 0.3])}
        assert [ax.get_title() for ax in figure.axes] == ["loss", "accuracy"]
        assert [ax.get_xlabel() for ax in figure.axes] == ["epoch", "epoch"]

    def test_what_fit_returns_draws_itself(self):
        from train_runs import problem, run

        result = run(epochs=2, validation=fastbp.data.Batches(*problem(seed=3)), metrics=[train.mean_absolute_error])
        figure = drawn(result.plot())
        assert [ax.get_title() for ax in figure.axes] == ["loss", "mean absolute error"]
        assert curves_of(figure.axes[0])["validation"] == ([1, 2], result["validation_loss"])
        assert len(result.plot(curves=["loss"]).axes) == 1

    def test_an_axis_is_logarithmic_where_a_positive_curve_spans_decades(self):
        scales = {
            "linear": [[1, 0.5], [1, 0.02], [100, 0], [100, -1e-3], [0, 0], [NAN, NAN]],
            "log": [[1, 0.01], [1e-9, 1e9], [1, INF, 0.001]],
        }
        for scale, cases in scales.items():
            for values in cases:
                (ax,) = drawn(plots.plot_history(history(loss=values))).axes
                assert ax.get_yscale() == scale, values

    def test_epochs_without_a_finite_value_are_gaps_that_the_legend_counts(self):
        (ax,) = drawn(plots.plot_history(history(loss=[1, NAN, INF, NAN, 2], validation_loss=[NAN] * 5))).axes
        assert legend_of(ax) == ["training (NaN in 2, infinite in 1 of 5 epochs)", "validation (NaN in 5 of 5 epochs)"]
        for (_, y), expected in zip(curves_of(ax).values(), ([1, NAN, NAN, NAN, 2], [NAN] * 5)):
            np.testing.assert_array_equal(y, expected)
        assert ax.lines[0].get_markevery() == [0, 4]  # points without neighbours, which no line shows

    def test_long_curves_have_markers_only_where_they_stand_alone(self):
        values = np.linspace(1, 2, 100)
        values[[50, 52]] = NAN
        (ax,) = plots.plot_history(history(loss=values)).axes
        assert ax.lines[0].get_markevery() == [51]

    def test_one_epoch_is_one_point_at_one(self):
        (ax,) = drawn(plots.plot_history(history(loss=[2]))).axes
        assert curves_of(ax) == {"training": ([1], [2])}
        assert [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]] == [1]

    def test_given_axes_and_figures_are_used(self):
        values = history(loss=[3, 2], accuracy=[0, 1])
        figure = Figure()
        ax = figure.add_subplot(1, 2, 2)
        assert plots.plot_history(values, curves=["accuracy"], ax=ax) is figure
        assert figure.axes == [ax] and curves_of(ax) == {"training": ([1, 2], [0, 1])}
        other = Figure()
        assert plots.plot_history(values, figure=other) is other and len(other.axes) == 2

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"\[plot_history\] expected a history of at least one epoch, got none"):
            plots.plot_history(train.History())
        with pytest.raises(KeyError, match="expected curves of loss, got 'error'"):
            plots.plot_history(history(loss=[1]), curves=["error"])
        with pytest.raises(ValueError, match="expected one curve for one ax, got loss, accuracy"):
            plots.plot_history(history(loss=[1], accuracy=[1]), ax=Figure().add_subplot())
        with pytest.raises(ValueError, match="expected at least one curve, got none"):
            plots.plot_history(history(loss=[1]), curves=[])


class TestGradientFlow:
    def test_a_line_for_each_layer_is_the_norm_over_its_parameters(self):
        flow = flow_of(two_layers(), [[3, 4, 5, 12], [6, 8, 0, 2]])
        (ax,) = drawn(plots.plot_gradient_flow(flow)).axes
        assert curves_of(ax) == {"0": ([1, 2], [5, 10]), "2": ([1, 2], [13, 2])}
        assert ax.get_yscale() == "linear" and ax.get_xlabel() == "step"

    def test_a_line_for_each_parameter(self):
        flow = flow_of(two_layers(), [[3, 4, 5, 12], [6, 8, 1, 2]])
        (ax,) = drawn(flow.plot(by="parameter")).axes
        assert {name: y for name, (_, y) in curves_of(ax).items()} == {
            "0.weight": [3, 6],
            "0.bias": [4, 8],
            "2.weight": [5, 1],
            "2.bias": [12, 2],
        }

    def test_parameters_of_the_model_itself(self):
        (ax,) = drawn(plots.plot_gradient_flow(flow_of(nn.Linear(2, 1), [[3, 4]]))).axes
        assert curves_of(ax) == {"(model)": ([1], [5])}

    def test_the_axis_is_logarithmic_where_norms_span_decades(self):
        flow = flow_of(layers(2), [[1, 1e-3], [2, 0], [3, 1e-5]])
        (ax,) = drawn(plots.plot_gradient_flow(flow)).axes
        assert ax.get_yscale() == "log"
        assert legend_of(ax) == ["0", "1 (zero in 1 of 3 steps)"]
        np.testing.assert_array_equal(ax.lines[1].get_ydata(), [1e-3, NAN, 1e-5])

    def test_norms_that_are_not_finite_are_counted_and_marked(self):
        flow = flow_of(layers(2), [[1, 2], [NAN, INF], [INF, 2], [3, NAN]])
        (ax,) = drawn(plots.plot_gradient_flow(flow)).axes
        assert legend_of(ax) == ["0 (NaN in 1, infinite in 1 of 4 steps)", "1 (NaN in 1, infinite in 1 of 4 steps)"]
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, NAN, NAN, 3])
        marks = [line for line in ax.lines if line.get_label().startswith("_")]
        assert [list(line.get_xdata()) for line in marks] == [[2, 3], [2, 4]]
        assert all(set(line.get_ydata()) == {1.0} and line.get_marker() == "x" for line in marks)

    def test_steps_without_a_gradient_are_told_from_nan(self):
        flow = flow_of(two_layers(), [[3, 4, -1, -1], [-1, 4, -1, 2], [NAN, -1, -1, -1]])
        (ax,) = drawn(plots.plot_gradient_flow(flow)).axes
        assert legend_of(ax) == ["0 (NaN in 1 of 3 steps)", "2 (no gradient in 2 of 3 steps)"]
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), [5, 4, NAN])

    def test_nothing_finite_at_all_is_drawn_empty(self):
        (ax,) = drawn(plots.plot_gradient_flow(flow_of(layers(1), [[NAN], [NAN]]))).axes
        assert legend_of(ax) == ["0 (NaN in 2 of 2 steps)"]
        (ax,) = drawn(plots.plot_gradient_flow(flow_of(layers(1), [[0], [0]]))).axes
        assert ax.get_yscale() == "linear" and legend_of(ax) == ["0"]

    def test_a_norm_over_a_layer_does_not_overflow(self):
        (ax,) = drawn(plots.plot_gradient_flow(flow_of(nn.Linear(1, 1), [[3e200, 4e200]]))).axes
        assert ax.lines[0].get_ydata()[0] == pytest.approx(5e200)

    @pytest.mark.parametrize("count", [1, 7, 8, 30])
    def test_every_layer_has_its_own_colour_and_the_legend_fits(self, count):
        figure = drawn(plots.plot_gradient_flow(flow_of(layers(count), np.ones((3, count)))))
        (ax,) = figure.axes
        assert len({tuple(matplotlib.colors.to_rgba(line.get_color())) for line in ax.lines}) == count
        legend, page = ax.get_legend().get_window_extent(), figure.bbox
        assert page.x0 <= legend.x0 < legend.x1 <= page.x1 and page.y0 <= legend.y0 < legend.y1 <= page.y1
        assert ax.get_window_extent().width > 0.5 * page.width

    def test_bad_input(self):
        flow = train.GradientFlow(two_layers())
        with pytest.raises(ValueError, match=r"\[plot_gradient_flow\] expected at least one recorded step, got none"):
            plots.plot_gradient_flow(flow)
        with pytest.raises(ValueError, match="expected by 'layer' or 'parameter', got 'module'"):
            plots.plot_gradient_flow(flow, by="module")


def bars_of(ax):
    (patch,) = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
    return patch.get_data()


class TestHistograms:
    def test_counts_are_those_of_the_values(self):
        model = two_layers()
        figure = drawn(plots.plot_weights(model))
        for ax, (name, p) in zip(figure.axes, model.named_parameters(), strict=True):
            values = p.detach().numpy().astype(np.float64)
            assert ax.get_title() == f"{name}\nmean {values.mean():.2g}, std {values.std():.2g}"
            bars = bars_of(ax)
            assert bars.values.sum() == values.size
            np.testing.assert_array_equal(bars.values, np.histogram(values, bars.edges)[0])
            assert bars.edges[0] <= values.min() and values.max() <= bars.edges[-1]

    def test_known_values(self):
        model = nn.Linear(10, 1, bias=False)
        with fastbp.no_grad():
            model.weight.copy_(fastbp.tensor([[0.0, 0.1, 0.2, 0.9, 1.0, 1.1, 1.2, 9.0, 9.5, 10.0]]))
        (ax,) = drawn(plots.plot_weights(model)).axes
        assert bars_of(ax).values.tolist() == [4, 3, 0, 0, 0, 0, 0, 0, 0, 3]
        np.testing.assert_allclose(bars_of(ax).edges, np.arange(11), rtol=1e-7)

    def test_gradients_are_drawn_and_missing_ones_said(self):
        model = two_layers()
        model[0].weight.requires_grad_(False)
        model(fastbp.randn(5, 3)).sum().backward()
        figure = drawn(plots.plot_gradients(model))
        assert [text.get_text() for text in figure.axes[0].texts] == ["no gradient"]
        assert bars_of(figure.axes[3]).values.tolist() == [1] and figure.axes[3].get_title().startswith(
            "2.bias\nmean 5"
        )

    def test_what_is_not_finite_is_left_out_and_counted(self):
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(0, 1, bias=False))
        with fastbp.no_grad():
            model[0].weight.copy_(fastbp.tensor([[NAN, 1.0], [2.0, INF], [-INF, 3.0]]))
            model[0].bias.fill_(NAN)
        figure = drawn(plots.plot_weights(model))
        assert (
            figure.axes[0].get_title().endswith("1 NaN, 2 infinite of 6") and bars_of(figure.axes[0]).values.sum() == 3
        )
        assert [[text.get_text() for text in ax.texts] for ax in figure.axes[1:]] == [["3 NaN of 3"], ["no elements"]]

    @pytest.mark.parametrize(
        "values", [[0.0] * 3, [7.0] * 3, [1.0, 1.0 + 2e-16, 1.0], [-1e307, 0.0, 2e307], [5e-324, 0.0, 1e-323]]
    )
    def test_every_finite_value_is_in_a_bin(self, values):
        model = nn.Linear(1, 3, bias=False, dtype=fastbp.float64)
        with fastbp.no_grad():
            model.weight.copy_(fastbp.tensor(np.array(values)[:, None]))
        (ax,) = drawn(plots.plot_weights(model)).axes
        assert bars_of(ax).values.sum() == 3 and np.isfinite(bars_of(ax).edges).all()

    def test_thirty_layers_with_long_names(self):
        model = nn.ModuleDict({f"a_rather_long_name_of_layer_number_{i}": nn.Linear(2, 2) for i in range(30)})
        figure = drawn(plots.plot_weights(model))
        assert len(figure.axes) == 60
        boxes = [ax.title.get_window_extent() for ax in figure.axes[:6]]
        assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))  # titles beside each other do not meet

    def test_weights_keep_their_memory_to_themselves(self):
        """A tensor whose memory is outside too is packed at every use: drawing must not make it one."""
        model = two_layers()
        facts = [(p.buffer.version, p.buffer.shared) for p in model.parameters()]
        plots.plot_weights(model)
        assert [(p.buffer.version, p.buffer.shared) for p in model.parameters()] == facts
        assert not any(shared for _, shared in facts)

    def test_a_given_figure_is_used(self):
        figure = Figure()
        assert plots.plot_weights(two_layers(), figure=figure) is figure and len(figure.axes) == 4

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"\[plot_weights\] expected a model with parameters, got one with none"):
            plots.plot_weights(nn.ReLU())
        with pytest.raises(ValueError, match=r"\[plot_gradients\] expected a model with parameters"):
            plots.plot_gradients(nn.ReLU())
        with pytest.raises(RuntimeError, match=r"\[plot_gradients\] expected gradients, got none.*keep_grads=True"):
            plots.plot_gradients(two_layers())


class TestFigures:
    def test_a_notebook_shows_them(self):
        assert plots.plot_history(history(loss=[1, 2]))._repr_png_().startswith(b"\x89PNG")

    def test_matplotlib_stays_as_it_is(self, tmp_path):
        """No pyplot, no window, no backend and no setting is touched, and `import fastbp` loads none of it."""
        script = """if True:
            import sys, fastbp
            from fastbp import nn, plots, train
            assert "matplotlib" not in sys.modules
            import matplotlib
            settings = lambda: dict(dict.items(matplotlib.rcParams))  # without resolving the backend
            before = settings()
            model = nn.Linear(3, 2)
            flow = train.GradientFlow(model)
            model(fastbp.ones(1, 3)).sum().backward()
            flow.record()
            history = train.History({"loss": [1.0, 1e-4]})
            for figure in (history.plot(), flow.plot(), plots.plot_weights(model), plots.plot_gradients(model)):
                figure.savefig(sys.argv[1])
            assert settings() == before
            assert "matplotlib.pyplot" not in sys.modules
        """
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "picture.png")], check=True)

    def test_without_matplotlib_the_extra_is_named(self, monkeypatch):
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        model = two_layers()
        model(fastbp.ones(1, 3)).sum().backward()
        flow = train.GradientFlow(model)
        flow.record()
        for draw in (
            history(loss=[1]).plot,
            flow.plot,
            lambda: plots.plot_weights(model),
            lambda: plots.plot_gradients(model),
        ):
            with pytest.raises(ImportError, match=r'pip install "fastbp\[plots\]"'):
                draw()
