"""IDX files, and the image collections made of them: where they are looked for, and what is wrong with them."""

from __future__ import annotations

import gzip
import http.server
import struct
import sys
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fastbp.data import (
    load_fashion_mnist,
    load_mnist,
    mnist,
    read_idx,
)


def idx_bytes(values: np.ndarray, code: int) -> bytes:
    big = values.astype(values.dtype.newbyteorder(">"))
    return struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape) + big.tobytes()


class TestIdx:
    @pytest.mark.parametrize(
        ("code", "dtype"),
        [(8, "uint8"), (9, "int8"), (11, "int16"), (12, "int32"), (13, "float32"), (14, "float64")],
    )
    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_every_type_plain_and_compressed(self, tmp_path, code, dtype, pack):
        values = np.arange(24).reshape(2, 3, 4).astype(dtype)
        (tmp_path / "values").write_bytes(pack(idx_bytes(values, code)))
        got = read_idx(tmp_path / "values")
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, values)

    whole = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4), 8)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "truncated IDX file: expected a magic number"),
            (whole[:10], "truncated IDX file: expected 2 sizes"),
            (whole[:-1], r"truncated: shape \(3, 4\) needs 12 bytes of values, got 11"),
            (whole + b"x", r"wrong size: shape \(3, 4\) needs 12 bytes of values, got 13"),
            (b"\1" + whole[1:], "wrong magic number 0x01000802"),
            (b"\0\0\7" + whole[3:], "wrong magic number 0x00000702"),
            (b"a,b,c\n1,2,3\n", "wrong magic number"),
            (gzip.compress(whole)[:-9], "truncated or damaged gzip file"),
            (gzip.compress(whole)[:12] + b"\xff" * 9, "truncated or damaged gzip file"),
            (b"\0\0\x08\x03" + b"\xff" * 12, "truncated: shape"),
        ],
    )
    def test_a_file_that_is_not_whole_is_refused_with_name_and_reason(self, tmp_path, content, reason):
        (tmp_path / "some-file").write_bytes(content)
        with pytest.raises(ValueError, match=reason) as caught:
            read_idx(tmp_path / "some-file")
        assert str(tmp_path / "some-file") in str(caught.value)


def write_images(folder, rows=5, prefix="train", images=None, labels=None, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.full((rows, 28, 28), rows, dtype=np.uint8) if images is None else images
    labels = np.arange(rows, dtype=np.uint8) % 10 if labels is None else labels
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images, 8)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels, 8)))


class TestImageCollections:
    @pytest.fixture(autouse=True)
    def _nowhere(self, monkeypatch, tmp_path):
        monkeypatch.delenv("FASTBP_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(mnist, "FASHION_MNIST", replace(mnist.FASHION_MNIST, system_folders=(tmp_path / "debian",)))

    def test_folder_then_variable_then_cache_then_the_system(self, tmp_path, monkeypatch):
        write_images(tmp_path / "debian", rows=4)
        assert len(load_fashion_mnist()[0]) == 4
        write_images(tmp_path / "cache/fastbp/fashion-mnist", rows=3)
        assert len(load_fashion_mnist()[0]) == 3
        monkeypatch.setenv("FASTBP_DATA", str(tmp_path / "data"))
        assert len(load_fashion_mnist()[0]) == 3
        write_images(tmp_path / "data/fashion-mnist", rows=2)
        assert len(load_fashion_mnist()[0]) == 2
        write_images(tmp_path / "mine", rows=1)
        assert len(load_fashion_mnist(folder=tmp_path / "mine")[0]) == 1

    @pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (bytes, "")])
    def test_plain_and_compressed_scaled_by_255(self, tmp_path, pack, suffix):
        write_images(
            tmp_path, rows=3, prefix="t10k", images=np.full((3, 28, 28), 51, np.uint8), pack=pack, suffix=suffix
        )
        x, y = load_mnist("test", tmp_path)
        assert x.shape == (3, 784) and x.dtype == np.float32 and (x == np.float32(0.2)).all()
        assert y.dtype == np.int64 and y.tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"images": np.zeros((5, 28, 27), np.uint8)}, "images-idx3-ubyte.gz: wrong size: expected uint8 images"),
            ({"images": np.zeros((0, 28, 28), np.uint8)}, "images-idx3-ubyte.gz: wrong size"),
            ({"images": np.zeros(5, np.uint8)}, "images-idx3-ubyte.gz: wrong size"),
            ({"labels": np.zeros(4, np.uint8)}, r"labels-idx1-ubyte.gz: wrong size: expected uint8 labels \(5,\)"),
            ({"labels": np.arange(7, 12, dtype=np.uint8)}, "expected labels 0 to 9, got 11 in row 5"),
        ],
    )
    def test_files_that_do_not_fit_are_refused(self, tmp_path, change, reason):
        write_images(tmp_path, **change)
        with pytest.raises(ValueError, match=reason):
            load_mnist("train", tmp_path)

    def test_a_folder_without_the_files_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path} has neither train-images-idx3-ubyte.gz nor"):
            load_mnist(folder=tmp_path)

    def test_without_pooch_the_message_says_where_files_go(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "pooch", None)
        with pytest.raises(FileNotFoundError, match=r'put the IDX files there.*pip install "fastbp\[data\]"') as caught:
            load_mnist()
        assert str(tmp_path / "cache/fastbp/mnist") in str(caught.value)

    def test_download_checks_the_sum_and_lands_in_the_cache(self, monkeypatch, tmp_path):
        import pooch

        write_images(tmp_path / "server", rows=6)
        sums = {file.name: pooch.file_hash(str(file)) for file in (tmp_path / "server").iterdir()}

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_): ...

        handler = partial(Quiet, directory=str(tmp_path / "server"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            here = f"http://127.0.0.1:{server.server_port}/"
            try:
                wrong = dict.fromkeys(sums, "0" * 64)
                monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, mirrors=(here,), checksums=wrong))
                with pytest.raises(OSError, match=r"\[mnist\] could not download train-images-idx3-ubyte.gz"):
                    load_mnist()
                assert not list((tmp_path / "cache").rglob("*.gz"))
                mirrors = (here + "absent/", here)
                monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, mirrors=mirrors, checksums=sums))
                assert len(load_mnist()[0]) == 6
            finally:
                server.shutdown()
                thread.join()
        assert len(load_mnist()[0]) == 6  # now from the cache
