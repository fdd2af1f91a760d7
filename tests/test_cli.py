"""The `fastbp` command: what it prints, saves and reads again, and one sentence for every bad input."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import cli, serialization
from fastbp.data import load_digits


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTBP_DATA", raising=False)


@pytest.fixture
def command(capsys):
    """Run the command in this process and return its status, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return call


def number(output: str, before: str) -> float:
    [line] = [line for line in output.splitlines() if line.startswith(before)]
    return float(line.removeprefix(before).split()[0])


def write_csv(name: str, x: np.ndarray, y: np.ndarray, header: str = "") -> None:
    np.savetxt(name, np.column_stack([x, y]), delimiter=",", fmt="%.9g", header=header, comments="")


def blobs(rows: int = 90):
    """Three well separated clouds with the labels -1, 4 and 10."""
    random = np.random.default_rng(0)
    member = np.arange(rows) % 3
    return random.normal(size=(rows, 4)) + 8 * member[:, None], np.array([-1, 4, 10])[member]


class TestTrain:
    def test_without_arguments_the_digits_reach_97_percent(self, command):
        status, out, err = command("train")
        assert status == 0
        assert number(out, "test accuracy: ") >= 97
        assert "data: digits, 1437 rows to train, 360 held out, 64 inputs, 10 classes" in out
        assert "seed 0" in out and "saved: digits.safetensors" in out
        assert "epoch" in err and "loss" in err
        status, out, _ = command("evaluate", "digits.safetensors")
        assert status == 0 and number(out, "test accuracy: ") >= 97

    def test_every_option(self, command):
        options = "--hidden 16,8 --activation tanh --epochs 2 --batch 100 --optimizer sgd --lr 0.1 --seed 5 --threads 1"
        status, out, _ = command("train", *options.split(), "--out", "mine")
        assert status == 0
        assert "model: 64-16-8-10 tanh" in out
        assert "sgd, learning rate 0.1 falling to 0 by a cosine, batches of 100, 2 epochs, seed 5" in out
        shapes = {name: tuple(value.shape) for name, value in fastbp.load("mine").items()}
        assert shapes == {
            "0.weight": (16, 64),
            "0.bias": (16,),
            "2.weight": (8, 16),
            "2.bias": (8,),
            "4.weight": (10, 8),
            "4.bias": (10,),
        }

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
    def test_every_optimizer_and_a_linear_model(self, command, optimizer):
        status, out, _ = command("train", "--optimizer", optimizer, "--hidden", "none", "--epochs", "3")
        assert status == 0 and number(out, "test accuracy: ") > 80

    @pytest.mark.parametrize("activation", ["leaky_relu", "elu", "gelu", "silu", "mish", "sigmoid", "softplus"])
    def test_every_activation(self, command, activation):
        assert command("train", "--activation", activation, "--epochs", "1")[0] == 0

    def test_the_seed_decides_the_bytes(self, command):
        for seed, out in (("1", "a"), ("1", "b"), ("2", "c")):
            command("train", "--epochs", "1", "--seed", seed, "--out", out)
        a, b, c = (Path(name).read_bytes() for name in "abc")
        assert a == b != c

    def test_a_csv_of_classes_is_trained_predicted_and_evaluated(self, command):
        x, y = blobs()
        write_csv("blobs.csv", x, y, "a,b,c,d,label")
        status, out, _ = command("train", "--data", "blobs.csv", "--epochs", "60")
        assert status == 0
        assert "72 rows to train, 18 held out, 4 inputs, 3 classes" in out
        assert number(out, "test accuracy: ") == 100
        status, out, _ = command("evaluate", "blobs.safetensors")
        assert "data: blobs.csv, 18 rows" in out and number(out, "test accuracy: ") == 100
        status, out, _ = command("evaluate", "blobs.safetensors", "--data", "blobs.csv")
        assert "data: blobs.csv, 90 rows" in out and number(out, "test accuracy: ") == 100
        status, out, err = command("predict", "blobs.safetensors", "blobs.csv")
        assert (status, err) == (0, "")
        assert out.split() == [str(label) for label in y]
        write_csv("inputs.csv", x[:, :-1], x[:, -1])
        assert command("predict", "blobs.safetensors", "inputs.csv")[1] == out

    def test_a_continuous_target_reports_its_error_in_its_units(self, command):
        random = np.random.default_rng(0)
        x = random.normal(50, 20, size=(200, 2))
        y = 1000 + 3 * x[:, 0] - 5 * x[:, 1] + random.normal(size=200)
        np.savez("line.npz", x=x, y=y)
        status, out, _ = command("train", "--data", "line.npz", "--epochs", "100", "--hidden", "none", "--lr", "0.02")
        assert status == 0 and "1 continuous target" in out
        assert 0.5 < number(out, "test error: ") < 2
        assert number(command("evaluate", "line.safetensors")[1], "test error: ") == number(out, "test error: ")
        predicted = np.array(command("predict", "line.safetensors", "line.npz")[1].split(), dtype=float)
        assert np.sqrt(np.mean((predicted - y) ** 2)) < 2

    def test_several_continuous_targets(self, command):
        x = np.random.default_rng(0).normal(size=(50, 3))
        np.savez("two.npz", X=x, y=x[:, :2])
        assert "2 continuous targets" in command("train", "--data", "two.npz", "--hidden", "none", "--lr", "0.05")[1]
        out = command("predict", "two.safetensors", "two.npz")[1]
        got = np.array([line.split(",") for line in out.splitlines()], dtype=float)
        assert got.shape == (50, 2) and np.abs(got - x[:, :2]).max() < 0.5

    def test_whole_numbers_are_classes_unless_the_task_is_said(self, command):
        x = np.random.default_rng(0).normal(size=(30, 2))
        write_csv("prices.csv", x, np.arange(30))
        status, _, err = command("train", "--data", "prices.csv")
        assert status == 1 and "30 different whole numbers" in err and "--task regression" in err
        assert command("train", "--data", "prices.csv", "--task", "regression", "--epochs", "1")[0] == 0
        write_csv("two.csv", x, np.arange(30) % 2)
        assert "2 classes" in command("train", "--data", "two.csv", "--epochs", "1")[1]

    def test_idx_images(self, command, tmp_path, monkeypatch):
        folder = tmp_path / "data" / "mnist"
        folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        for prefix, rows in (("train", 60), ("t10k", 20)):
            labels = np.arange(rows, dtype=np.uint8) % 10
            images = (20 * labels[:, None, None] + random.integers(0, 5, (rows, 28, 28))).astype(np.uint8)
            for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
                head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
                (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
        monkeypatch.setenv("FASTBP_DATA", str(tmp_path / "data"))
        status, out, _ = command("train", "--data", "mnist", "--epochs", "2")
        assert status == 0 and "60 rows to train, 20 held out, 784 inputs, 10 classes" in out
        status, out, _ = command("predict", "mnist.safetensors", str(folder / "t10k-images-idx3-ubyte.gz"))
        assert status == 0 and len(out.splitlines()) == 20
        assert command("evaluate", "mnist.safetensors", "--data", "mnist")[0] == 0

    def test_a_raw_table_of_the_digits_gives_the_same_answers(self, command):
        command("train", "--epochs", "5")
        x, y = load_digits("test")
        write_csv("raw.csv", 16 * x, y)
        out = command("predict", "digits.safetensors", "raw.csv")[1]
        accuracy = np.mean(np.array(out.split(), dtype=int) == y)
        expected = number(command("evaluate", "digits.safetensors")[1], "test accuracy: ")
        assert round(100 * accuracy, 2) == expected

    def test_ctrl_c_saves_nothing(self, command, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("fastbp.train.loop._train_epoch", interrupt)
        status, _, err = command("train")
        assert status == 130 and err == "fastbp: interrupted, nothing was saved\n"
        assert not os.listdir()


class TestInfo:
    def test_prints_something_about_this_machine(self, command):
        status, out, err = command("info")
        assert (status, err) == (0, "") and out.strip()

    def test_help_names_every_option_and_default(self, command):
        status, out, _ = command("train", "--help")
        assert status == 0
        for option in "data task hidden activation epochs batch optimizer lr seed threads out".split():
            assert f"--{option}" in out
        assert out.count("default") >= 10


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ("", "fastbp: the following arguments are required: COMMAND"),
            ("dance", "invalid choice: 'dance'"),
            ("train --lrr 3", "unrecognized arguments: --lrr 3"),
            ("train --hidden 12,x", "argument --hidden: expected a whole number from 1"),
            ("train --hidden 0", "argument --hidden: expected a whole number from 1"),
            ("train --epochs 0", "argument --epochs: expected a whole number from 1"),
            ("train --batch -1", "argument --batch: expected a whole number from 1"),
            ("train --lr 0", "argument --lr: expected a number above 0, got '0'"),
            ("train --lr nan", "argument --lr: expected a number above 0, got 'nan'"),
            ("train --seed 9223372036854775808", "argument --seed: expected a whole number from 0"),
            ("train --optimizer adamm", "argument --optimizer: invalid choice: 'adamm'"),
            ("train --activation step", "argument --activation: invalid choice: 'step'"),
            ("predict only-one", "the following arguments are required: FILE"),
        ],
    )
    def test_wrong_usage(self, command, arguments, sentence):
        self.refused(command, arguments, sentence, status=2)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (
                "train --data mnisst",
                "expected data from digits, mnist, fashion-mnist, FILE.csv or FILE.npz, got 'mnisst'",
            ),
            ("train --data none.csv", "none.csv: No such file or directory"),
            ("train --data none.npz", "none.npz: No such file or directory"),
            ("train --data folder.csv", "folder.csv: Is a directory"),
            ("train --data empty.csv", "empty.csv: expected at least one row of numbers"),
            ("train --data one-row.csv", "one-row.csv: expected at least 2 rows"),
            ("train --data all-different.csv", "every class has a single row"),
            ("train --data word.csv", "word.csv: line 2, column 2: expected a number, got 'cat'"),
            ("train --data nan-label.csv", "nan-label.csv: line 2, column 3: expected a finite number, got nan"),
            ("train --data text.npz", "text.npz: not an NPZ file"),
            ("train --data real.csv --task classification", "expected whole numbers as the classes"),
            ("train --data digits --task regression", "digits has classes"),
            ("train --data real.csv --out real.csv", "is the data itself"),
            ("train --out none/model", "--out: expected a file in an existing writable folder, got 'none/model'"),
            ("train --out folder.csv", "--out: expected a file in an existing writable folder"),
            ("train --data real.csv --lr 1e30 --optimizer sgd", "expected a finite loss, got"),
            ("evaluate none", "none: No such file or directory"),
            ("evaluate empty.csv", "empty.csv: not a whole safetensors file"),
            ("predict plain.safetensors real.csv", "plain.safetensors: not a model of `fastbp train`"),
            ("predict damaged.safetensors real.csv", "damaged.safetensors: the description of its network is damaged"),
            ("predict model.safetensors none.csv", "none.csv: No such file or directory"),
            ("predict model.safetensors five.csv", "expected rows of 2 values, as in training, got 5"),
            ("predict model.safetensors empty.csv", "expected at least one row"),
            ("predict model.safetensors far.csv", "row 2 has values too far from those in training"),
            ("predict model.safetensors word.idx", "word.idx: wrong magic number"),
            ("evaluate model.safetensors --data digits", "expected rows of 2 values, as in training, got 64"),
            ("evaluate classes.safetensors --data real.csv", "expected whole numbers as the classes"),
        ],
    )
    def test_wrong_files(self, command, arguments, sentence):
        os.mkdir("folder.csv")
        for name, text in {
            "empty.csv": "",
            "one-row.csv": "1,2,3\n",
            "all-different.csv": "1,2,1\n1,2,2\n",
            "word.csv": "1,2,3\n1,cat,3\n",
            "nan-label.csv": "1,2,3\n1,2,nan\n",
            "text.npz": "1,2\n",
            "real.csv": "1,2,3.5\n3,2,0\n2,4,1.5\n",
            "five.csv": "1,2,3,4,5\n",
            "far.csv": "1,2\n1,1e300\n",
            "word.idx": "word",
            "classes.csv": "1,2,0\n3,2,1\n1,1,0\n3,1,1\n",
        }.items():
            Path(name).write_text(text)
        for data, out in (("real.csv", "model"), ("classes.csv", "classes")):
            assert command("train", "--data", data, "--epochs", "1", "--out", f"{out}.safetensors")[0] == 0
        fastbp.save({"a": np.zeros(2)}, "plain.safetensors")
        fastbp.save({"a": np.zeros(2)}, "damaged.safetensors", {"fastbp": '{"format": 1, "sizes": [1e9]}'})
        self.refused(command, arguments, sentence, status=1)

    def refused(self, command, arguments: str, sentence: str, status: int) -> None:
        before = sorted(os.listdir())
        got, _, err = command(*arguments.split())
        assert got == status
        line = err.splitlines()[-1]
        assert line.startswith("fastbp") and sentence in line
        assert "Traceback" not in err and sorted(os.listdir()) == before

    def test_a_description_with_any_part_changed_is_refused_or_answers(self, command):
        command("train", "--epochs", "1", "--hidden", "4")
        tensors, metadata = serialization.load_with_metadata("digits.safetensors")
        record = json.loads(metadata["fastbp"])
        for key in record:
            for value in (None, -1, "x", [], [64, 4, 11], [10**12, 10], {"shift": [0], "scale": [1]}, 1e400, True):
                text = json.dumps(record | {key: value})
                fastbp.save(tensors, "changed", {"fastbp": text})
                status, _, err = command("evaluate", "changed")
                assert status == 0 or err.startswith("fastbp: ")
        fastbp.save(tensors, "changed", {"fastbp": "[" * 100_000})
        assert command("evaluate", "changed")[0] == 1

    def test_a_reader_that_leaves_early(self):
        write_csv("rows.csv", np.zeros((50_000, 64)), np.zeros(50_000))
        call = [sys.executable, "-m", "fastbp.cli"]
        subprocess.run([*call, "train", "--epochs", "1"], check=True, capture_output=True)
        command = [*call, "predict", "digits.safetensors", "rows.csv"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
