"""The progress bar of fit: on demand or where somebody looks, and else nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from train_runs import run


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
