"""The recogniser's trainer on both backends: the same losses, and they fall."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from models.rnnt_training import RnntTrainer  # noqa: E402
from tests.models.test_train_rnnt import make_run  # noqa: E402


def losses(steps: int, towers: int) -> list[float]:
    """Losses on one batch of steps of training from weights that do not depend on the backend."""
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), steps=9, config=None, towers=towers)
        draw = np.random.default_rng(0)
        for variable in run.trainer.trainable_variables:
            variable.assign(draw.normal(0, 0.2, variable.shape))
        trainer: RnntTrainer = run.trainer
        batch = next(iter(run.maker.epoch(0)))
        return [float(trainer.train_on_batch(batch, return_dict=True)["loss"]) for _ in range(steps)]


def test_training_is_the_same_on_jax() -> None:
    pytest.importorskip("jax")
    ours = losses(4, towers=2)
    assert np.isfinite(ours).all()
    assert ours[-1] < 0.9 * ours[0]
    code = "import json; from tests.models.test_rnnt_training import losses; print(json.dumps(losses(4, 2)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "KERAS_BACKEND": "jax"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), ours, rtol=1e-3)
