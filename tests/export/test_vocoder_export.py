"""The vocoders' TFLite files equal Keras, outputs and states, and speak the same waveform."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from export import vocoder as vocoder_export  # noqa: E402
from export.convert import keras_calls, parity  # noqa: E402
from models.vocoder import TINY, Vocoder  # noqa: E402
from models.wavenet import TINY as TINY_WAVENET  # noqa: E402
from models.wavenet import Wavenet  # noqa: E402
from ondevice import overlap_add  # noqa: E402
from ondevice.litert import LiteRtModel  # noqa: E402

GROUPED = replace(TINY_WAVENET, hop=8, group=2)
PRECISIONS = [("float32", 1e-5), ("dynamic-int8", 5e-2)]
MEL = np.random.default_rng(0).normal(-6, 3, (32, TINY.bands)).astype(np.float32)


@pytest.fixture(scope="module", params=["vocoder", "grouped", "companded"])
def model(request) -> Vocoder | Wavenet:
    keras.utils.set_random_seed(0)
    wavenets = {"grouped": GROUPED, "companded": replace(TINY_WAVENET, mixture=0)}
    model = Vocoder(TINY) if request.param == "vocoder" else Wavenet(wavenets[request.param])
    model.build()
    return model


def converted(model: Vocoder | Wavenet, precision: str, folder: Path) -> LiteRtModel:
    path = folder / "model.tflite"
    path.write_bytes(vocoder_export.convert(model, precision))
    return LiteRtModel(path)


@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
def test_tflite_equals_keras_outputs_and_state(model, tmp_path: Path, precision: str, tolerance: float) -> None:
    file = converted(model, precision, tmp_path)
    reference = vocoder_export.run(keras_calls(vocoder_export.endpoints(model)), model, MEL)
    rows = parity(reference, vocoder_export.run(dict(file.signatures), model, MEL))
    if isinstance(model, Wavenet) and not model.config.mixture:
        # an argmax over noisy logits: a rounding that flips one changes all that follows
        rows = [row for row in rows if row["signature"] == "condition"]
    assert max(row["relative_rms"] for row in rows) < tolerance
    names = {row["tensor"] for row in rows}
    assert names >= ({"real", "imag", "vocoder_mel"} if isinstance(model, Vocoder) else {"told", "wavenet_mel"})


def test_streamed_spectra_are_the_whole_waveform(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = Vocoder(TINY)
    model.build()
    file = converted(model, "float32", tmp_path)
    silence = np.full((8, TINY.bands), TINY.silence, np.float32)  # a chunk more than the look-ahead brings out the end
    rows = vocoder_export.run(dict(file.signatures), model, np.concatenate([MEL, silence]))["vocoder"]
    spectra = [np.concatenate(rows[part][:, 0])[TINY.lookahead :][: len(MEL)] for part in ("real", "imag")]
    streamed = overlap_add.inverse_stft(*spectra, TINY.fft, TINY.hop)
    np.testing.assert_allclose(streamed, np.asarray(model(MEL[None]))[0], atol=1e-5)


def test_drawn_samples_do_not_depend_on_the_interpreter_or_the_run(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = Wavenet(GROUPED)
    model.build()
    file = converted(model, "float32", tmp_path)
    first, again = (vocoder_export.run_wavenet(dict(file.signatures), model, MEL, seed=3)["steps"] for _ in range(2))
    np.testing.assert_array_equal(first["samples"], again["samples"])
    other = vocoder_export.run_wavenet(dict(file.signatures), model, MEL, seed=4)["steps"]
    assert np.abs(other["samples"] - first["samples"]).max() > 0.01
    expected = vocoder_export.run_wavenet(keras_calls(vocoder_export.endpoints(model)), model, MEL, seed=3)["steps"]
    np.testing.assert_allclose(first["samples"], expected["samples"], atol=1e-4)


def test_the_speed_is_measured(tmp_path: Path) -> None:
    model = Vocoder(TINY)
    model.build()
    file = converted(model, "float32", tmp_path)
    assert vocoder_export.real_time_factor(file, model, MEL) > 0
