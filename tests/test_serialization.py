"""Saving and loading: PyTorch's files, whole or absent at every instant, and every damaged file refused."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastbp
from fastbp import nn, serialization

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "double": np.array([np.nan, -0.0, np.inf]),
    "count": np.array(7, dtype=np.int64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), dtype=np.float32),
}


def mlp(seed: int = 0):
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


class TestRoundTrip:
    def test_values_shapes_and_dtypes_stay(self, tmp_path):
        fastbp.save(ARRAYS, tmp_path / "a.safetensors")
        got = fastbp.load(tmp_path / "a.safetensors")
        assert set(got) == set(ARRAYS)
        for name, expected in ARRAYS.items():
            array = got[name].numpy()
            assert array.dtype == expected.dtype and array.shape == expected.shape
            np.testing.assert_array_equal(array, expected)

    def test_a_module_and_its_state_dict_give_the_same_file(self, tmp_path):
        model = mlp()
        fastbp.save(model, tmp_path / "module")
        fastbp.save(model.state_dict(), tmp_path / "state")
        assert (tmp_path / "module").read_bytes() == (tmp_path / "state").read_bytes()
        other = mlp(seed=1)
        other.load_state_dict(fastbp.load(tmp_path / "module"))
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())

    def test_loaded_tensors_are_writable_and_their_own(self, tmp_path):
        fastbp.save(ARRAYS, tmp_path / "a")
        fastbp.load(tmp_path / "a")["weight"].numpy()[:] = 9
        np.testing.assert_array_equal(fastbp.load(tmp_path / "a")["weight"].numpy(), ARRAYS["weight"])

    def test_strided_and_big_endian_arrays(self, tmp_path):
        strided = np.arange(12, dtype=np.float64).reshape(3, 4)[::2, ::-1].T
        fastbp.save({"strided": strided, "big": np.arange(3, dtype=">f4")}, tmp_path / "a")
        got = fastbp.load(tmp_path / "a")
        np.testing.assert_array_equal(got["strided"].numpy(), strided)
        np.testing.assert_array_equal(got["big"].numpy(), [0, 1, 2])

    def test_metadata(self, tmp_path):
        fastbp.save(ARRAYS, tmp_path / "a", {"note": "größer"})
        assert serialization.load_with_metadata(tmp_path / "a")[1] == {"note": "größer"}
        fastbp.save(ARRAYS, tmp_path / "a")
        assert serialization.load_with_metadata(tmp_path / "a")[1] == {}

    def test_pytorch_reads_our_file_and_we_read_pytorchs(self, tmp_path):
        torch = pytest.importorskip("torch")
        files = pytest.importorskip("safetensors.torch")
        x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
        theirs = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
        files.save_file(theirs.state_dict(), tmp_path / "theirs")
        mine = mlp()
        mine.load_state_dict(fastbp.load(tmp_path / "theirs"))
        got, expected = mine(fastbp.tensor(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        fastbp.save(mine, tmp_path / "mine")
        for name, value in files.load_file(tmp_path / "mine").items():
            np.testing.assert_array_equal(value.numpy(), theirs.state_dict()[name].numpy())


class TestRefusals:
    @pytest.mark.parametrize(
        ("state", "message"),
        [
            (3, "a module or a mapping of names to tensors, got int"),
            ({"state": {}}, "'state' to be a tensor or array of .*, got dict"),
            ({"half": np.zeros(2, np.float16)}, "'half' .* got an array of float16"),
            ({"object": np.array([None])}, "'object' .* got an array of object"),
            ({1: np.zeros(2)}, "a name to be a string, got int"),
        ],
    )
    def test_values_that_have_no_place_in_a_file(self, tmp_path, state, message):
        with pytest.raises(TypeError, match=r"\[save\] expected " + message):
            fastbp.save(state, tmp_path / "a")
        assert not list(tmp_path.iterdir())

    def test_metadata_must_be_strings(self, tmp_path):
        with pytest.raises(TypeError, match="metadata 'epoch' to be a string, got int"):
            fastbp.save(ARRAYS, tmp_path / "a", {"epoch": 3})

    def test_no_folder_a_folder_and_a_device(self, tmp_path):
        for path in (tmp_path / "none" / "a", tmp_path, os.devnull):
            with pytest.raises(OSError, match="expected the name of a file in an existing folder"):
                fastbp.save(ARRAYS, path)
        assert not os.path.isfile(os.devnull)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            fastbp.load(tmp_path / "none")

    def test_a_file_cut_anywhere(self, tmp_path):
        fastbp.save(ARRAYS, tmp_path / "a")
        whole = (tmp_path / "a").read_bytes()
        for length in range(len(whole)):
            (tmp_path / "cut").write_bytes(whole[:length])
            with pytest.raises(ValueError, match="cut: not a whole safetensors file"):
                fastbp.load(tmp_path / "cut")

    def test_damaged_bytes_never_crash(self, tmp_path):
        fastbp.save(ARRAYS, tmp_path / "a", {"note": "x"})
        whole = (tmp_path / "a").read_bytes()
        random = np.random.default_rng(0)
        for _ in range(500):
            damaged = bytearray(whole)
            for at in random.integers(len(whole), size=3):
                damaged[at] = random.integers(256)
            (tmp_path / "damaged").write_bytes(damaged)
            with contextlib.suppress(ValueError):
                fastbp.load(tmp_path / "damaged")

    def test_other_dtypes_in_a_file(self, tmp_path):
        from safetensors.numpy import save_file

        save_file({"half": np.zeros(2, np.float16)}, tmp_path / "a")
        with pytest.raises(ValueError, match="a: half: expected a dtype of F32, F64, I64, BOOL, got F16"):
            fastbp.load(tmp_path / "a")


class TestWholeOrAbsent:
    @pytest.mark.parametrize("fails", ["fsync", "replace"])
    def test_a_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch, fails):
        fastbp.save({"a": np.zeros(3)}, tmp_path / "a")
        old = (tmp_path / "a").read_bytes()

        def full(*_):
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(os, fails, full)
            with pytest.raises(OSError, match="disk full"):
                fastbp.save({"a": np.ones(1000)}, tmp_path / "a")
        assert [file.name for file in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_bytes() == old

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
    @pytest.mark.parametrize(("instant", "survivor"), [("fsync", 0), ("replace", 0), ("after", 1)])
    def test_a_kill_leaves_the_old_or_the_new_file_whole(self, tmp_path, instant, survivor):
        path = tmp_path / "a"
        fastbp.save({"a": np.zeros(1000)}, path)
        program = f"""
            import os, signal
            import numpy as np, fastbp
            def die(*_):
                os.kill(os.getpid(), signal.SIGKILL)
            if {instant!r} == "after":
                replace = os.replace
                os.replace = lambda *names: (replace(*names), die())
            else:
                setattr(os, {instant!r}, die)
            fastbp.save({{"a": np.ones(1000)}}, {str(path)!r})
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
        assert done.returncode == -signal.SIGKILL
        np.testing.assert_array_equal(fastbp.load(path)["a"].numpy(), np.full(1000, survivor))

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
    def test_a_kill_at_any_instant_of_many_saves(self, tmp_path):
        path = tmp_path / "a"
        program = f"""
            import numpy as np, fastbp
            for at in range(10**9):
                fastbp.save({{"a": np.full(20000, at)}}, {str(path)!r})
                if at == 0:
                    print("ready", flush=True)
        """
        random = np.random.default_rng(0)
        for _ in range(3):
            writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
            with writer:
                assert writer.stdout.readline() == b"ready\n"
                with pytest.raises(subprocess.TimeoutExpired):
                    writer.wait(random.uniform(0, 0.05))
                writer.kill()
            values = fastbp.load(path)["a"].numpy()
            assert values.shape == (20000,) and (values == values[0]).all()

    @pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
    def test_permissions_stay_and_links_are_followed(self, tmp_path):
        path = tmp_path / "a"
        fastbp.save(ARRAYS, path)
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o640)
        (tmp_path / "link").symlink_to(path)
        fastbp.save({"a": np.zeros(1)}, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert set(fastbp.load(path)) == {"a"}
