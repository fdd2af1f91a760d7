"""fit, evaluate and predict: the loop, its curves, schedule, callbacks, metrics and refusals."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from compiled_runs import all_state, assert_same
from settings import native_settings_kept

import fastbp
from fastbp import nn, optim, train
from fastbp.data import Batches, load_digits
from fastbp.optim import lr_scheduler


def problem(rows: int = 40, seed: int = 0):
    """A linear rule with a little noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]]) + 0.01 * random.normal(size=(rows, 1))).astype(np.float32)
    return x, y


def linear(seed: int = 0):
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 1))


def weights(model) -> list[np.ndarray]:
    return [value.detach().numpy().copy() for value in model.state_dict().values()]


def run(model=None, epochs=3, data=None, lr=0.1, loss=None, **options):
    model = linear() if model is None else model
    optimizer = optim.SGD(model.parameters(), lr=lr)
    data = Batches(*problem(), batch_size=16) if data is None else data
    return train.fit(model, loss or nn.MSELoss(), optimizer, data, epochs, **options)


class TestLoop:
    def test_equals_the_loop_by_hand_to_the_bit(self):
        by_fit, by_hand = linear(), linear()
        history = run(by_fit, epochs=4, data=Batches(*problem(), batch_size=16, shuffle=True, seed=3))
        batches = Batches(*problem(), batch_size=16, shuffle=True, seed=3)
        optimizer, loss = optim.SGD(by_hand.parameters(), lr=0.1), nn.MSELoss()
        curve = []
        for _ in range(4):
            total = 0.0
            for x, y in batches:
                optimizer.zero_grad()
                value = loss(by_hand(x), y)
                value.backward()
                optimizer.step()
                total += len(y) * value.item()
            curve.append(total / 40)
        for mine, expected in zip(weights(by_fit), weights(by_hand), strict=True):
            np.testing.assert_array_equal(mine, expected)
        assert history["loss"] == curve
        assert history.epochs == 4 and not history.interrupted

    def test_learns_the_digits(self):
        fastbp.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        data = Batches(*load_digits("train"), batch_size=64, shuffle=True)
        test = Batches(*load_digits("test"), batch_size=360)
        loss = nn.CrossEntropyLoss()
        history = train.fit(model, loss, optimizer, data, 5, validation=test, metrics=[train.accuracy])
        assert set(history.curves) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
        assert all(len(curve) == 5 for curve in history.curves.values())
        assert history["validation_accuracy"][-1] > 0.9
        measured = train.evaluate(model, test, loss, [train.accuracy])
        assert measured == {name: history[f"validation_{name}"][-1] for name in ("loss", "accuracy")}

    def test_validation_runs_in_eval_mode_without_gradients(self):
        seen = []

        class Watched(nn.Sequential):
            def forward(self, x):
                y = super().forward(x)
                seen.append((self.training, y.requires_grad))
                return y

        model = Watched(nn.Linear(3, 1))
        model.eval()
        run(model, epochs=1, data=Batches(*problem(), batch_size=40), validation=Batches(*problem(), batch_size=40))
        assert seen == [(True, True), (False, False)]
        assert not model.training
        model.train()
        train.evaluate(model, Batches(*problem()), nn.MSELoss())
        assert model.training

    def test_sample_weights_reach_the_loss_and_the_means(self):
        x, y = problem()
        weight = np.zeros(40, np.float32)
        weight[:10] = 2
        seen = []

        def loss(prediction, target, sample_weight):
            seen.append(sample_weight.numpy().copy())
            return ((prediction - target).square().sum(dim=1) * sample_weight).sum() / sample_weight.sum()

        model = linear()
        batches = Batches(x, y, weight, batch_size=8, drop_last=True)
        got = train.evaluate(model, batches, loss, compile=False)["loss"]
        np.testing.assert_array_equal(np.concatenate(seen), weight)
        assert math.isnan(got)  # batches without any weight have no mean
        batches = Batches(x[:12], y[:12], weight[:12], batch_size=9)
        got = train.evaluate(model, batches, loss, compile=False)["loss"]
        expected = train.evaluate(model, Batches(x[:10], y[:10], batch_size=10), nn.MSELoss())["loss"]
        assert got == pytest.approx(expected, rel=1e-5)

    def test_predict_joins_the_batches(self):
        x, y = problem()
        model = linear()
        got = train.predict(model, Batches(x, y, batch_size=7))
        assert got.shape == (40, 1)
        with fastbp.no_grad():
            np.testing.assert_allclose(got, model(fastbp.tensor(x)).numpy(), rtol=1e-6, atol=1e-6)


class TestSchedule:
    @pytest.mark.parametrize(("schedule", "steps"), [("epoch", 3), ("batch", 9)])
    def test_steps_once_per_epoch_or_per_batch(self, schedule, steps):
        model = linear()
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        halving = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        data = Batches(*problem(), batch_size=16)
        train.fit(model, nn.MSELoss(), optimizer, data, 3, scheduler=halving, schedule=schedule)
        assert optimizer.param_groups[0]["lr"] == 0.5**steps

    def test_reduce_on_plateau_follows_the_validation_loss(self):
        seen = []

        class Watched(lr_scheduler.ReduceLROnPlateau):
            def step(self, metrics, *arguments):
                seen.append(metrics)
                super().step(metrics, *arguments)

        for validation, curve in ((Batches(*problem(seed=1)), "validation_loss"), (None, "loss")):
            model = linear()
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            data = Batches(*problem())
            scheduler = Watched(optimizer)
            seen.clear()
            history = train.fit(model, nn.MSELoss(), optimizer, data, 3, validation=validation, scheduler=scheduler)
            assert seen == history[curve]
        with pytest.raises(ValueError, match="schedule 'epoch' with ReduceLROnPlateau"):
            train.fit(model, nn.MSELoss(), optimizer, data, 3, scheduler=scheduler, schedule="batch")


def scripted(values: list[float]):
    """A metric that returns the given values, one per epoch of one batch: numbers, which cannot be compiled."""
    values = iter(values)
    return {"score": lambda prediction, target: next(values)}


ONE_BATCH = {"batch_size": 40}


class TestCallbacks:
    def test_hooks_run_around_the_run_and_after_each_epoch(self):
        calls = []

        class Watch(train.Callback):
            def start(self, run):
                calls.append("start")

            def epoch_end(self, run):
                calls.append(run.history.epochs)

            def end(self, run):
                calls.append("end")

        run(epochs=2, callbacks=[Watch(), lambda run: calls.append(run.history["loss"][-1])])
        assert [call for call in calls if not isinstance(call, float)] == ["start", 1, 2, "end"]
        assert len(calls) == 6

    @pytest.mark.parametrize(
        ("mode", "values"),
        [("min", [3, 2, 2, math.nan, 2.5, 0]), ("max", [3, 4, 4, math.nan, 1, 9])],
    )
    def test_early_stopping_waits_for_patience(self, mode, values):
        stopping = train.EarlyStopping("score", patience=3, mode=mode)
        data = Batches(*problem(), **ONE_BATCH)
        history = run(epochs=6, data=data, metrics=scripted(values), callbacks=[stopping], compile=False)
        assert history.epochs == 5
        assert history.stop_reason == "score has not improved for 3 epochs"

    def test_early_stopping_counts_only_changes_above_min_delta(self):
        stopping = train.EarlyStopping("score", patience=2, min_delta=0.5)
        data = Batches(*problem(), **ONE_BATCH)
        history = run(
            epochs=9,
            data=data,
            metrics=scripted([5, 4.8, 4.4, 4.2, 4.1, 0]),
            callbacks=[stopping],
            compile=False,
        )
        assert history.epochs == 5

    def test_best_weights_are_put_back(self):
        kept = []
        model = linear()
        best = train.BestWeights("score", mode="max")
        callbacks = [best, lambda run: kept.append(weights(run.model))]
        data = Batches(*problem(), **ONE_BATCH)
        run(model, epochs=4, data=data, metrics=scripted([1, 5, 2, 3]), callbacks=callbacks, compile=False)
        assert best.epoch == 2
        for mine, expected, last in zip(weights(model), kept[1], kept[3], strict=True):
            np.testing.assert_array_equal(mine, expected)
            assert not np.array_equal(mine, last)

    def test_validation_loss_is_followed_where_there_is_one(self):
        best = train.BestWeights()
        history = run(epochs=3, validation=Batches(*problem(seed=5)), callbacks=[best])
        assert best.epoch == 1 + int(np.argmin(history["validation_loss"]))

    def test_an_unknown_curve_is_named(self):
        with pytest.raises(KeyError, match="expected one of loss, got 'accuracy'"):
            run(callbacks=[train.EarlyStopping("accuracy")])

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="patience >= 1, got 0"):
            train.EarlyStopping(patience=0)
        with pytest.raises(ValueError, match="mode 'min' or 'max', got 'best'"):
            train.BestWeights(mode="best")


class TestInterruption:
    def test_ctrl_c_returns_the_finished_epochs(self):
        best = train.BestWeights()

        def interrupt(run):
            if run.history.epochs == 2:
                raise KeyboardInterrupt

        model = linear()
        history = run(model, epochs=9, callbacks=[best, interrupt])
        assert history.interrupted and history.epochs == 2
        assert best.epoch == 2
        assert model.training

    def test_ctrl_c_inside_an_epoch_drops_its_part(self):
        class Interrupted(Batches):
            def __iter__(self):
                for number, batch in enumerate(super().__iter__()):
                    if self.epoch == 2 and number == 1:
                        raise KeyboardInterrupt
                    yield batch

        history = run(epochs=9, data=Interrupted(*problem(), batch_size=16))
        assert history.interrupted and len(history["loss"]) == 1


class TestRefusals:
    def test_a_loss_that_is_not_finite_takes_no_step(self):
        x, y = problem()
        y[20] = np.nan
        model = linear()
        before = weights(model)
        with pytest.raises(FloatingPointError, match="finite loss, got nan in epoch 1, batch 1"):
            run(model, data=Batches(x, y, batch_size=40))
        for mine, expected in zip(weights(model), before, strict=True):
            np.testing.assert_array_equal(mine, expected)
        with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
            run(model, data=Batches(x, y, batch_size=20))

    def test_a_diverging_run_stops(self):
        with pytest.raises(FloatingPointError, match="lower the learning rate"):
            run(epochs=1000, lr=1e6)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"epochs": 0}, ValueError, "epochs >= 1, got 0"),
            ({"schedule": "step"}, ValueError, "schedule 'epoch' or 'batch', got 'step'"),
            ({"data": []}, ValueError, "at least one batch, got none"),
            ({"validation": []}, ValueError, "at least one batch, got none"),
            ({"data": iter([])}, TypeError, "data that can be iterated in every epoch"),
            ({"data": [(1,)]}, ValueError, r"batches \(x, y\) or \(x, y, sample_weight\), got 1 parts"),
            ({"data": [3]}, ValueError, "got int"),
            ({"metrics": {"loss": train.accuracy}}, ValueError, "names of their own"),
            ({"metrics": [train.accuracy, train.accuracy]}, ValueError, "names of their own"),
            ({"loss": lambda prediction, y: prediction - y}, ValueError, r"a loss of one number, got shape \(16, 1\)"),
        ],
    )
    def test_refused_with_one_sentence(self, options, error, message):
        with pytest.raises(error, match=message):
            run(**options)

    def test_evaluate_and_predict_need_data(self):
        for call in (train.evaluate, train.predict):
            with pytest.raises(ValueError, match="at least one batch, got none"):
                call(linear(), [])


class TestMetrics:
    scores = fastbp.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0], [1.0, 0.0, 0.0]])

    def test_accuracy_for_labels_and_probabilities(self):
        assert train.accuracy(self.scores, fastbp.tensor([0, 2, 2, 0])).item() == 0.75
        probabilities = fastbp.tensor(np.eye(3, dtype=np.float32)[[0, 2, 2, 0]])
        assert train.accuracy(self.scores, probabilities).item() == 0.75

    def test_binary_accuracy(self):
        logits, target = fastbp.tensor([-1.0, 2.0, 0.5, -3.0]), fastbp.tensor([0.0, 1.0, 0.0, 0.0])
        assert train.binary_accuracy(logits, target).item() == 0.75

    def test_errors(self):
        a, b = fastbp.tensor([1.0, 2.0]), fastbp.tensor([2.0, 5.0])
        assert train.mean_squared_error(a, b).item() == 5
        assert train.mean_absolute_error(a, b).item() == 2


class TestProgress:
    def test_a_bar_on_demand_shows_the_epoch_and_its_values(self, capsys):
        run(epochs=2, progress=True)
        shown = capsys.readouterr().err
        assert "epoch 2/2" in shown and "loss" in shown and "6/6" in shown

    @pytest.mark.parametrize("progress", [False, None])
    def test_silent_where_nobody_looks(self, capsys, progress):
        run(progress=progress)
        assert capsys.readouterr() == ("", "")

    def test_a_silent_run_does_not_import_tqdm(self):
        program = (
            "import sys; sys.modules['tqdm'] = None\n"
            "import numpy as np, fastbp\n"
            "from fastbp import nn, optim, train\n"
            "from fastbp.data import Batches\n"
            "model = nn.Linear(2, 1)\n"
            "data = Batches(np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))\n"
            "train.fit(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), data, 2)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)


def dropping(seed: int = 0):
    """Layers with dropout, so that the random numbers of every step matter."""
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 1))


def weighted_loss(prediction, target, sample_weight=None):
    error = (prediction - target).square().sum(dim=1)
    return error.mean() if sample_weight is None else (error * sample_weight).sum() / sample_weight.sum()


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.01),
}
SCHEDULES = {
    None: lambda optimizer: {},
    "epoch": lambda optimizer: {"scheduler": lr_scheduler.StepLR(optimizer, 2, gamma=0.5), "schedule": "epoch"},
    "batch": lambda optimizer: {"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.9), "schedule": "batch"},
    "one cycle": lambda optimizer: {
        "scheduler": lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40),
        "schedule": "batch",
    },
    "plateau": lambda optimizer: {"scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)},
}


def fitted(compile, make=dropping, optimizer="sgd", data=None, schedule=None, epochs=3, loss=weighted_loss, **options):
    """Curves, weights, state and random numbers after a run."""
    model = make()
    rule = OPTIMIZERS[optimizer](model.parameters())
    batches = (data or (lambda: Batches(*problem(45), batch_size=10, shuffle=True, seed=4)))()
    options |= SCHEDULES[schedule](rule)
    history = train.fit(model, loss, rule, batches, epochs, compile=compile, **options)
    return [
        ("curves", dict(history.curves)),
        ("epoch", getattr(batches, "epoch", None)),
        *all_state((model, rule, options.get("scheduler") if schedule not in (None, "plateau") else None), False),
    ]


class TestCompiled:
    """What fit leaves does not depend on whether its steps are programs."""

    @pytest.fixture(autouse=True, params=[1, 2])
    def threads(self, request):
        with native_settings_kept():
            fastbp.set_num_threads(request.param)
            yield

    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_weights_and_curves_are_equal(self, optimizer, schedule):
        options = {"optimizer": optimizer, "schedule": schedule}
        options["metrics"] = [train.mean_squared_error, train.mean_absolute_error]
        options["validation"] = Batches(*problem(13, seed=1), batch_size=5)
        assert_same(fitted(False, **options), fitted(True, **options))

    @pytest.mark.parametrize(
        "batches",
        [
            {"batch_size": 10},
            {"batch_size": 10, "shuffle": True, "seed": 9},
            {"batch_size": 10, "shuffle": True, "drop_last": True},
            {"batch_size": 45, "shuffle": True},
            {"batch_size": 100},
            {"batch_size": 1},
        ],
        ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
    )
    @pytest.mark.parametrize("weights", [False, True])
    def test_any_batches(self, batches, weights):
        weight = np.random.default_rng(5).random(45).astype(np.float32)

        def data():
            return Batches(*problem(45), *([weight] if weights else []), **batches)

        options = {"data": data, "metrics": {"error": train.mean_absolute_error}}
        assert_same(fitted(False, **options), fitted(True, **options))

    @pytest.mark.parametrize("kind", ["list", "transform", "float64", "small integers", "memory-mapped"])
    def test_any_data(self, kind, tmp_path):
        x, y = problem(45)

        def data():
            if kind == "list":  # not arrays whose rows a program could take itself
                return list(Batches(x, y, batch_size=10))
            if kind == "transform":
                return Batches(x, y, batch_size=10, transform=lambda a, b: (a * 2, b))
            if kind == "small integers":  # of which each batch becomes int64
                return Batches((x * 10).astype(np.int8), y, batch_size=10)
            if kind == "memory-mapped":
                np.save(tmp_path / "x.npy", x)
                return Batches(np.load(tmp_path / "x.npy", mmap_mode="r"), y, batch_size=10, shuffle=True)
            return Batches(x.astype(np.float64), y.astype(np.float64), batch_size=10, shuffle=True)

        def make():
            model = dropping()
            return model.to(dtype=fastbp.float64) if kind == "float64" else model

        def loss(prediction, target):
            return weighted_loss(prediction, target)

        if kind == "small integers":
            integers = make

            class Cast(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.inner = integers()

                def forward(self, x):
                    return self.inner(x.to(fastbp.float32))

            make = Cast
        options = {"data": data, "make": make, "loss": loss}
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_classes_with_accuracy(self):
        x, _ = problem(45)
        y = np.random.default_rng(1).integers(0, 4, 45)

        def make():
            fastbp.manual_seed(0)
            return nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 4))

        options = {
            "make": make,
            "data": lambda: Batches(x, y, batch_size=8, shuffle=True),
            "loss": nn.CrossEntropyLoss(),
            "metrics": [train.accuracy],
            "validation": Batches(x[:20], y[:20], batch_size=7),
            "optimizer": "adam",
        }
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_batches_of_many_rows(self):
        options = {"data": lambda: Batches(*problem(2500), batch_size=1100, shuffle=True), "optimizer": "adam"}
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_callbacks_see_and_may_change_the_model_between_epochs(self):
        def freeze(run):
            if run.history.epochs == 2:
                run.model[0].weight.requires_grad = False
            with fastbp.no_grad():
                run.model[3].weight.mul_(0.5)

        options = {"epochs": 4, "callbacks": [freeze, train.BestWeights("loss")]}
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_evaluate_and_predict(self):
        x, y = problem(45)
        model = dropping()
        for batch_size in (1, 10, 45):
            data = Batches(x, y, batch_size=batch_size)
            for loss in (None, weighted_loss):
                measured = [
                    train.evaluate(model, data, loss, [train.mean_absolute_error], compile=compile)
                    for compile in (False, True)
                ]
                assert measured[0] == measured[1] and len(measured[0]) == 1 + (loss is not None)
            outputs = [train.predict(model, data, compile=compile) for compile in (False, True)]
            assert outputs[0].tobytes() == outputs[1].tobytes() and outputs[0].shape == (45, 1)
            assert model.training

    def test_evaluate_with_sample_weights_of_zero(self):
        x, y = problem(20)
        data = Batches(x, y, np.zeros(20, np.float32), batch_size=5)
        for compile in (False, True):
            assert math.isnan(train.evaluate(dropping(), data, weighted_loss, compile=compile)["loss"])

    def test_a_loss_that_is_not_finite_in_a_later_epoch(self):
        """The weights are those after the step before it."""

        class Spoiled(Batches):
            def next_order(self):
                if self.epoch == 1:
                    self.arrays[1][25] = np.nan
                return super().next_order()

        for kind in (Batches, Spoiled):
            states = []
            for compile in (False, True):
                model = dropping()
                rule = optim.Adam(model.parameters(), lr=0.01)
                schedule = lr_scheduler.ExponentialLR(rule, 0.9)
                data = kind(*problem(45), batch_size=10)

                def spoil(run, data=data, kind=kind):
                    if kind is Batches:
                        data.arrays[1][25] = np.nan

                with pytest.raises(FloatingPointError, match=r"got -?nan in epoch 2, batch 3: lower the learning rate"):
                    train.fit(
                        model,
                        weighted_loss,
                        rule,
                        data,
                        3,
                        scheduler=schedule,
                        schedule="batch",
                        callbacks=[spoil],
                        compile=compile,
                    )
                assert schedule.last_epoch == 7  # five steps of the first epoch, two of the second
                states.append([("step", rule._cohorts[0].cells[0]), *all_state((model, rule, schedule), False)])
            random = [state.pop() for state in states]  # the step by hand has drawn its dropout
            assert random[0][0] == random[1][0] == "random state"
            assert_same(*states)

    def test_the_bar_counts_all_steps(self, capsys):
        for compile in (False, True):
            run(epochs=2, progress=True, compile=compile, data=Batches(*problem(45), batch_size=2))
            shown = capsys.readouterr().err
            assert "46/46" in shown and "epoch 2/2" in shown

    def test_ctrl_c_between_steps_of_a_program(self):
        """From a metric's side of the loop nothing is seen: the curves of finished epochs are returned."""
        pressed = []

        def press(epoch):
            if epoch == 25 and not pressed:
                pressed.append(epoch)
                raise KeyboardInterrupt
            return 1.0

        model = dropping()
        rule = optim.Adam(model.parameters(), lr=0.01)
        schedule = lr_scheduler.LambdaLR(rule, press)
        history = train.fit(
            model,
            weighted_loss,
            rule,
            Batches(*problem(45), batch_size=5),
            9,
            scheduler=schedule,
            schedule="batch",
        )
        assert history.interrupted and history.epochs == 2
        assert int(rule._cohorts[0].cells[0]) == schedule.last_epoch <= 25


class TestNotCompiled:
    """Steps that need the host run operation by operation, after one warning."""

    def assert_warned_once(self, task="fit", match="cannot be compiled", **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = fitted(True, **options)
        assert len(caught) == 1 and f"[{task}] the steps run operation by operation" in str(caught[0].message)
        assert match in str(caught[0].message)
        assert_same(fitted(False, **options), got)

    @pytest.mark.parametrize("data", [None, lambda: list(Batches(*problem(45), batch_size=10))])
    def test_a_model_that_reads_a_value(self, data):
        class Reading(nn.Sequential):
            def forward(self, x):
                y = super().forward(x)
                return y * 0.5 if y.detach().sum().item() > 0 else y

        def make():
            fastbp.manual_seed(0)
            return Reading(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))

        self.assert_warned_once(make=make, data=data, match="return the tensor and read it outside")

    def test_a_model_that_counts_its_calls(self):
        counts = []

        class Counting(nn.Sequential):
            n = 0

            def forward(self, x):
                self.n += 1
                counts.append(self.n)
                return super().forward(x)

        def make():
            fastbp.manual_seed(0)
            return Counting(nn.Linear(3, 8), nn.Linear(8, 1))

        self.assert_warned_once(make=make, match="set an attribute of a module")
        assert counts[-15:] == list(range(1, 16))  # of the run that was not compiled
        assert counts.count(15) == 2  # and of the other one

    def test_a_metric_that_returns_a_number(self):
        def number(prediction, target):
            return float((prediction - target).abs().mean().item())

        self.assert_warned_once(metrics=[number], match="")

    def test_a_metric_of_the_host_in_evaluate(self):
        data = Batches(*problem(45), batch_size=10)
        model = dropping()

        def number(prediction, target):
            return (prediction - target).abs().mean().numpy().max()

        expected = train.evaluate(model, data, None, [number], compile=False)
        with pytest.warns(UserWarning, match=r"^\[evaluate\] the steps run operation by operation") as caught:
            assert train.evaluate(model, data, None, [number]) == expected
        assert len(caught) == 1

    def test_a_model_that_reads_a_value_in_predict(self):
        class Reading(nn.Linear):
            def forward(self, x):
                return super().forward(x) * float(x.sum().item() > 0)

        model, data = Reading(3, 1), Batches(*problem(45), batch_size=10)
        expected = train.predict(model, data, compile=False)
        with pytest.warns(UserWarning, match=r"^\[predict\] the steps run operation by operation") as caught:
            np.testing.assert_array_equal(train.predict(model, data), expected)
        assert len(caught) == 1

    def test_a_label_out_of_range_is_an_error_as_it_is_by_hand(self):
        x, _ = problem(45)
        y = np.random.default_rng(1).integers(0, 4, 45)
        y[33] = 4
        model = nn.Linear(3, 4)
        before = weights(model)
        with pytest.raises(IndexError, match="4"):
            run(model, data=Batches(x, y, batch_size=10), loss=nn.CrossEntropyLoss())
        for mine, expected in zip(weights(model), before, strict=True):
            np.testing.assert_array_equal(mine, expected)

    def test_without_compiling_there_is_no_warning(self):
        class Reading(nn.Linear):
            def forward(self, x):
                return super().forward(x) * float(x.sum().item() > 0)

        fitted(False, make=lambda: Reading(3, 1))
