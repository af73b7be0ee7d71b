"""Files for tflite-runtime 2.14, run by it: in an environment of its own with the NumPy it needs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("exports run on the TensorFlow backend", allow_module_level=True)

from export.asset import Card  # noqa: E402
from export.precision import Wanted  # noqa: E402
from export.rnnt import convert  # noqa: E402
from export.voice import build_vocoder  # noqa: E402
from models.rnnt import TINY as TINY_RNNT  # noqa: E402
from models.rnnt import Rnnt  # noqa: E402
from models.vocoder import TINY, Vocoder  # noqa: E402
from ondevice.errors import InputError  # noqa: E402

ROOT = Path(__file__).parents[2]
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "typer", "rich", "soundfile", "soxr", "jiwer")

# What the second pass does: the joiner over many frames at once, in turn with the predictor.
ROWS = """
import sys, numpy as np
from ondevice.litert import LiteRtModel
model = LiteRtModel(sys.argv[1])
joiner, predictor = model.signatures["joiner"], model.signatures["predictor"]
zeros = {n: np.zeros(s.shape, s.dtype) for n, s in predictor.inputs.items()}
rng = np.random.default_rng(0)
for count in (40, 7, 90, 1, 33):
    encoded = rng.normal(size=(count, joiner.inputs["encoded"].shape[1])).astype(np.float32)
    predicted = predictor(zeros)["predicted"]
    made = joiner.rows({"encoded": encoded, "predicted": predicted})["logits"]
    alone = [joiner({"encoded": row[None], "predicted": predicted})["logits"][0] for row in encoded]
    np.testing.assert_array_equal(made, alone)
print(model.runs_on)
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no wheel for this Python")
    folder = tmp_path_factory.mktemp("compat")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True, timeout=600)
    return folder / "bin" / "python"


def run(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([python, *arguments], capture_output=True, text=True, env=environment, timeout=120)


def verified(python: Path, model: str | Path) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "ondevice", "verify", model)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic-int8"])
def test_a_compat_file_computes_there_what_it_computes_here(old_python: Path, precision: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    vocoder = Vocoder(replace(TINY, bands=80, fft=1024, hop=256))
    vocoder.build()
    mel = np.random.default_rng(0).normal(size=(20, 80)).astype(np.float32)
    build_vocoder(vocoder, tmp_path / "toy", Card("toy", "random", "CC0"), Wanted(precision, compat=True), mel)
    done = verified(old_python, tmp_path / "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "ok       interpreter        tflite_runtime 2.14.0" in lines
    assert lines[-1].startswith("ok       proof")


@pytest.mark.slow
def test_a_joiner_takes_many_rows_there(old_python: Path, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    rnnt = Rnnt(TINY_RNNT)
    rnnt.build()
    (tmp_path / "model.tflite").write_bytes(convert(rnnt, "dynamic-int8", per_tensor=True))
    done = run(old_python, "-c", ROWS, tmp_path / "model.tflite")
    assert (done.returncode, done.stdout) == (0, "tflite_runtime 2.14.0\n"), done.stderr


@pytest.mark.slow
def test_any_other_file_is_refused_there_with_the_reason(old_python: Path) -> None:
    done = verified(old_python, "rnnt")
    assert done.returncode == 1
    refused = next(line for line in done.stdout.splitlines() if line.startswith("FAILED"))
    assert "needs the interpreter ai_edge_litert>=1.0 or tensorflow>=2.18, found tflite_runtime 2.14.0" in refused


def test_what_would_be_wrong_there_cannot_be_asked_for() -> None:
    assert Wanted.parse("int8", target="compat").interpreters("dynamic-int8")[-1] == "tflite_runtime>=2.14"
    assert not any("tflite_runtime" in name for name in Wanted.parse("int8").interpreters("dynamic-int8"))
    with pytest.raises(InputError, match=r"--quantize int4: tflite-runtime .* expected float32, float16 or int8"):
        Wanted.parse("int4", target="compat")
    with pytest.raises(InputError, match="expected one of cpu, edgetpu, compat"):
        Wanted.parse("int8", target="gpu")
