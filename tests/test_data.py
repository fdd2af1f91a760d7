"""Batches, the embedded digits, CSV and NPZ tables, scaling, held-out rows."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import fastbp
from fastbp.data import (
    Batches,
    Scaling,
    load_csv,
    load_digits,
    load_npz,
    split_rows,
)

LAZY = ("tqdm", "safetensors", "pooch")


def test_importing_fastbp_leaves_the_lazy_modules_out():
    code = f"import fastbp, fastbp.data, fastbp.train, sys; print([m for m in {LAZY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestBatches:
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    y = np.arange(10)

    def rows(self, batches: Batches) -> list[int]:
        return [int(value) for _, y in batches for value in y.numpy()]

    def test_rows_come_in_order_and_the_last_batch_may_be_smaller(self):
        batches = Batches(self.x, self.y, batch_size=4)
        assert len(batches) == 3
        assert [tuple(x.shape) for x, _ in batches] == [(4, 2), (4, 2), (2, 2)]
        assert self.rows(batches) == list(range(10))

    def test_drop_last_leaves_the_smaller_batch_out(self):
        batches = Batches(self.x, self.y, batch_size=4, drop_last=True)
        assert len(batches) == 2
        assert self.rows(batches) == list(range(8))

    def test_shuffling_keeps_rows_together_and_takes_each_once(self):
        for x, y in Batches(self.x, self.y, batch_size=3, shuffle=True, seed=7):
            np.testing.assert_array_equal(x.numpy()[:, 0], 2 * y.numpy())
        assert sorted(self.rows(Batches(self.x, self.y, batch_size=3, shuffle=True))) == list(range(10))

    def test_the_seed_and_the_epoch_decide_the_order(self):
        y = np.arange(100)
        one, same, other = (Batches(y, y, shuffle=True, seed=seed) for seed in (1, 1, 2))
        first, second = self.rows(one), self.rows(one)
        assert first != second
        assert [self.rows(same), self.rows(same)] == [first, second]
        assert self.rows(other) != first
        same.epoch = 1
        assert self.rows(same) == second

    def test_two_iterations_at_once_do_not_disturb_each_other(self):
        y = np.arange(50)
        batches = Batches(y, batch_size=10, shuffle=True)
        pairs = list(zip(batches, batches, strict=True))
        assert len(pairs) == 5
        for at in (0, 1):
            assert sorted(np.concatenate([pair[at][0].numpy() for pair in pairs])) == list(range(50))

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("float16", "float32"),
            ("float32", "float32"),
            (">f8", "float64"),
            ("uint8", "int64"),
            ("int32", "int64"),
            ("bool", "bool"),
        ],
    )
    def test_dtypes_become_those_of_tensors(self, given, expected):
        [(batch,)] = Batches(np.array([0, 1, 1], dtype=given))
        assert batch.numpy().dtype == expected
        assert batch.numpy().tolist() == [0, 1, 1]

    def test_batches_are_copies(self):
        x = self.x.copy()
        for (batch,) in Batches(x, batch_size=10):
            batch.numpy()[:] = -1
        np.testing.assert_array_equal(x, self.x)

    def test_tensors_and_lists_are_taken(self):
        [(x, y)] = Batches(fastbp.from_numpy(self.x.copy()), list(range(10)), batch_size=10)
        np.testing.assert_array_equal(x.numpy(), self.x)
        assert y.numpy().dtype == np.int64

    def test_a_mapped_file_is_read_batch_by_batch(self, tmp_path):
        read = []

        class Watched(np.memmap):
            def __getitem__(self, index):
                read.append(len(range(100)[index]) if isinstance(index, slice) else len(index))
                return np.asarray(self)[index]

            def __array__(self, *arguments, **options):
                raise AssertionError("read as a whole")

        np.arange(300, dtype=np.uint8).reshape(100, 3).tofile(tmp_path / "x")
        mapped = np.memmap(tmp_path / "x", dtype=np.uint8, mode="r", shape=(100, 3))
        watched = mapped.view(Watched)
        for shuffle in (False, True):
            batches = Batches(mapped, batch_size=16, shuffle=shuffle)
            assert batches.arrays[0] is mapped
            watching = Batches(watched, batch_size=16, shuffle=shuffle)
            for (x,), (same,) in zip(batches, watching, strict=True):
                np.testing.assert_array_equal(x.numpy(), same.numpy())
        assert read == 2 * [16, 16, 16, 16, 16, 16, 4]

    def test_the_transform_sees_the_raw_batch(self):
        pixels = np.full((3, 2), 255, dtype=np.uint8)
        [(x, y)] = Batches(pixels, np.zeros(3, int), transform=lambda x, y: (Scaling.unit(255)(x), y + 1))
        assert x.numpy().dtype == np.float32
        assert (x.numpy() == 1).all() and (y.numpy() == 1).all()

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Batches(), "at least one array"),
            (lambda: Batches(np.zeros((0, 3))), "at least one row, got 0"),
            (lambda: Batches(np.zeros(3), batch_size=4, drop_last=True), "at least one batch of 4 rows, got 3 rows"),
            (lambda: Batches(np.zeros(3), np.zeros(4)), "expected 3 rows in array 1, got 4"),
            (lambda: Batches(np.zeros(3), batch_size=0), "batch_size >= 1, got 0"),
            (lambda: Batches(np.zeros(3), seed=-1), "a seed from 0"),
            (lambda: Batches(np.float32(3)), "got a single value"),
        ],
    )
    def test_refused_with_one_sentence(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    @pytest.mark.parametrize("values", [["a"], [1j], [None], np.array([2**63], dtype=np.uint64)])
    def test_other_dtypes_are_refused(self, values):
        with pytest.raises(TypeError, match="floats, integers or booleans in array 0"):
            Batches(values)


class TestDigits:
    def test_sizes_range_and_share_of_each_class(self):
        (x, y), (x_test, y_test) = load_digits("train"), load_digits("test")
        assert x.shape == (1437, 64) and y.shape == (1437,)
        assert x_test.shape == (360, 64) and y_test.shape == (360,)
        assert x.dtype == np.float32 and y.dtype == np.int64
        assert x.min() == 0 and x.max() == 1
        assert np.bincount(y_test).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]

    def test_the_rows_are_those_of_scikit_learn(self):
        from sklearn import datasets

        x, y = datasets.load_digits(return_X_y=True)
        train, test = split_rows(y)
        for split, rows in (("train", train), ("test", test)):
            mine = load_digits(split)
            np.testing.assert_array_equal(mine[0], (x[rows] / 16).astype(np.float32))
            np.testing.assert_array_equal(mine[1], y[rows])

    def test_another_split_is_refused(self):
        with pytest.raises(ValueError, match=r"\[load_digits\] expected split 'train' or 'test', got 'all'"):
            load_digits("all")


class TestSplitRows:
    @pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 99, 100, 101])
    def test_one_row_in_five_rounded_up_once_each(self, n):
        train, test = split_rows(np.zeros(n, dtype=int))
        assert len(test) == -(-n // 5)
        assert sorted([*train, *test]) == list(range(n))

    def test_every_class_gives_its_share(self):
        labels = np.repeat([5, -2, 7], [10, 20, 31])
        _, test = split_rows(labels)
        assert [int((labels[test] == label).sum()) for label in (5, -2, 7)] == [2, 4, 7]

    def test_a_class_keeps_a_row_for_training(self):
        labels = np.array([0] * 10 + [1])
        train, _ = split_rows(labels)
        assert set(labels[train]) == {0, 1}


class TestCsv:
    def read(self, tmp_path, text: str):
        (tmp_path / "table.csv").write_text(text, encoding="utf-8")
        return load_csv(tmp_path / "table.csv")

    def test_whole_targets_are_classes(self, tmp_path):
        x, y = self.read(tmp_path, "1,2.5,3\n4,5e-1,-6\n")
        assert x.tolist() == [[1, 2.5], [4, 0.5]]
        assert y.dtype == np.int64 and y.tolist() == [3, -6]

    def test_other_targets_are_continuous(self, tmp_path):
        _, y = self.read(tmp_path, "1,2\n1,2.5\n")
        assert y.dtype == np.float64 and y.tolist() == [2, 2.5]

    def test_header_byte_order_mark_quotes_and_empty_lines(self, tmp_path):
        x, y = self.read(tmp_path, '\ufeff"a, b",c\n\n"1",2\r\n 3 ,4\n\n')
        assert x.tolist() == [[1], [3]] and y.tolist() == [2, 4]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "expected at least one row of numbers, got none"),
            ("a,b\n", "expected at least one row of numbers, got none"),
            ("1\n2\n", "expected at least 2 columns"),
            ("age,y\n1,2\n,3\n", r"line 3, column 1 \('age'\): expected a number, got an empty cell"),
            ("1,2\n3,cat\n", "line 2, column 2: expected a number, got 'cat'"),
            ("1,cat\n3,4\n", "line 1, column 2: expected a number, got 'cat'"),
            ("1,2\n\n3,4,5\n", "line 3: expected 2 cells, got 3"),
            ("a,y\n1,2\nnan,3\n", r"line 3, column 1 \('a'\): expected a finite number, got nan"),
            ("1,2\n1,inf\n", "line 2, column 2: expected a finite number, got inf"),
        ],
    )
    def test_a_bad_cell_is_refused_by_line_and_column(self, tmp_path, text, reason):
        with pytest.raises(ValueError, match=reason) as caught:
            self.read(tmp_path, text)
        assert "table.csv" in str(caught.value)

    @pytest.mark.parametrize("content", [b"\xff\xfe1,2\n", b"1,2\n\x003,4\n", b"1,2\n\xe9,4\n"])
    def test_what_is_not_text_is_refused(self, tmp_path, content):
        (tmp_path / "table.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"table\.csv"):
            load_csv(tmp_path / "table.csv")


class TestNpz:
    @pytest.mark.parametrize("name", ["x", "X"])
    def test_images_are_flattened_and_the_dtype_decides_the_task(self, tmp_path, name):
        np.savez(tmp_path / "a.npz", y=np.array([[1], [2]], np.uint8), **{name: np.ones((2, 3, 3), np.uint8)})
        x, y = load_npz(tmp_path / "a.npz")
        assert x.shape == (2, 9) and x.dtype == np.uint8
        assert y.dtype == np.int64 and y.tolist() == [1, 2]
        np.savez(tmp_path / "b.npz", y=np.ones((2, 2), np.float32), x=np.ones((2, 3)))
        assert load_npz(tmp_path / "b.npz")[1].dtype == np.float64

    @pytest.mark.parametrize(
        ("arrays", "reason"),
        [
            ({"x": np.ones((2, 2))}, "expected an array named y, got x"),
            ({"y": np.ones(2)}, "expected an array named x or X, got y"),
            ({"x": np.ones((2, 2)), "y": np.ones(3)}, "expected y with 2 rows"),
            ({"x": np.ones(2), "y": np.ones(2)}, r"expected x of shape \(rows, columns\)"),
            ({"x": np.ones((0, 2)), "y": np.ones(0)}, "at least one value"),
            ({"x": np.array([["a"]]), "y": np.ones(1)}, "expected numbers in x, got <U1"),
            ({"x": np.array([[None]]), "y": np.ones(1)}, "damaged or not numeric"),
            ({"x": np.array([[1, np.nan]]), "y": np.ones(1)}, "x, row 1, column 2: expected a finite number, got nan"),
            (
                {"x": np.ones((2, 1)), "y": np.array([0, np.inf])},
                "y, row 2, column 1: expected a finite number, got inf",
            ),
        ],
    )
    def test_refused_by_file_and_array(self, tmp_path, arrays, reason):
        np.savez(tmp_path / "table.npz", **arrays)
        with pytest.raises(ValueError, match=reason) as caught:
            load_npz(tmp_path / "table.npz")
        assert "table.npz" in str(caught.value)

    def test_truncated_and_foreign_files_are_refused(self, tmp_path):
        np.savez_compressed(tmp_path / "table.npz", x=np.ones((9, 9)), y=np.ones(9))
        whole = (tmp_path / "table.npz").read_bytes()
        for content in (whole[:-5], whole[:100], b"", b"1,2\n", whole[:60] + b"\0" * 20 + whole[80:]):
            (tmp_path / "table.npz").write_bytes(content)
            with pytest.raises(ValueError, match=r"table\.npz"):
                load_npz(tmp_path / "table.npz")


class TestScaling:
    def test_unit_is_a_division(self):
        x = np.arange(256, dtype=np.uint8)
        np.testing.assert_array_equal(Scaling.unit(255)(x), x.astype(np.float32) / np.float32(255))

    def test_standardised_columns(self):
        x = np.array([[1e9, 0.1, 5], [1e9 + 2, 0.1, 7], [1e9 + 4, 0.1, 12]])
        scaled = Scaling.standardised(x)(x)
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(scaled.std(axis=0), [1, 0, 1], atol=1e-6)

    def test_inverse_and_json_keep_the_values(self):
        x = np.random.default_rng(0).normal(3, 2, (50, 4))
        scaling = Scaling.standardised(x)
        again = Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
        np.testing.assert_array_equal(again(x), scaling(x))
        np.testing.assert_allclose(again.inverse(again(x)), x, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(
        "record",
        [
            {},
            {"shift": 0, "scale": 0},
            {"shift": [1, 2], "scale": [1]},
            {"shift": "a", "scale": 1},
            {"shift": 0, "scale": float("nan")},
            {"shift": [[0]], "scale": [[1]]},
        ],
    )
    def test_a_damaged_record_is_refused(self, record):
        with pytest.raises(ValueError, match=r"\[Scaling\] expected"):
            Scaling.from_dict(record)

    def test_values_too_large_to_standardise_are_refused(self):
        with pytest.raises(ValueError, match="column 2 has values too large"):
            Scaling.standardised(np.array([[0, 1e308], [1, -1e308]]))
