"""The vocoders' TFLite files equal Keras, outputs and states, and speak the same waveform."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from export import vocoder as vocoder_export  # noqa: E402
from export.convert import Endpoint, keras_calls, parity, to_tflite  # noqa: E402
from export.precision import Wanted, weights_of  # noqa: E402
from models.vocoder import TINY, Vocoder  # noqa: E402
from models.wavenet import TINY as TINY_WAVENET  # noqa: E402
from models.wavenet import Wavenet  # noqa: E402
from ondevice import overlap_add  # noqa: E402
from ondevice.litert import LiteRtModel  # noqa: E402

# Weights of fewer than 1024 values stay as they are at 8 bits, so the models are a little wider than tiny.
VOCODER = replace(TINY, width=32, expansion=48)
GROUPED = replace(TINY_WAVENET, hop=8, group=2, residual=24, skip=48, condition=24)
CONFIGS = {"vocoder": VOCODER, "grouped": GROUPED, "companded": replace(GROUPED, hop=4, group=1, mixture=0)}
PRECISIONS = [("float32", 1e-5), ("float16", 2e-3), ("dynamic-int8", 5e-2), ("dynamic-int4", 0.4)]
MEL = np.random.default_rng(0).normal(-6, 3, (32, TINY.bands)).astype(np.float32)


@cache
def made(name: str) -> tuple[Vocoder | Wavenet, bytes]:
    """A model and its float file."""
    keras.utils.set_random_seed(0)
    model = Vocoder(VOCODER) if name == "vocoder" else Wavenet(CONFIGS[name])
    model.build()
    return model, vocoder_export.convert(model, "float32")


@cache
def reference(name: str) -> vocoder_export.Rows:
    """What Keras makes of MEL, seed 0."""
    model, _ = made(name)
    return vocoder_export.run(keras_calls(vocoder_export.endpoints(model)), model, MEL)


def opened(
    model: keras.Model, endpoints: Mapping[str, Endpoint], float_file: bytes, precision: str, folder: Path
) -> LiteRtModel:
    """A model's file at some precision; where that is less than float32, it is smaller."""
    content, _ = Wanted(precision).make(
        lambda wanted: to_tflite(model, endpoints, wanted), float_file, weights_of(model), lambda _: 0.0
    )
    assert len(content) < len(float_file) or precision == "float32"
    path = folder / "model.tflite"
    path.write_bytes(content)
    return LiteRtModel(path)


def converted(name: str, precision: str, folder: Path) -> LiteRtModel:
    model, float_file = made(name)
    return opened(model, vocoder_export.endpoints(model), float_file, precision, folder)


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
def test_tflite_equals_keras_outputs_and_state(name: str, tmp_path: Path, precision: str, tolerance: float) -> None:
    model, file = made(name)[0], converted(name, precision, tmp_path)
    rows = parity(reference(name), vocoder_export.run(dict(file.signatures), model, MEL))
    if isinstance(model, Wavenet) and not model.config.mixture:
        # an argmax over noisy logits: a rounding that flips one changes all that follows
        rows = [row for row in rows if row["signature"] == "condition"]
    assert max(row["relative_rms"] for row in rows) < tolerance
    names = {row["tensor"] for row in rows}
    assert names >= ({"real", "imag", "vocoder_mel"} if isinstance(model, Vocoder) else {"told", "wavenet_mel"})


def test_streamed_spectra_are_the_whole_waveform(tmp_path: Path) -> None:
    model, file = made("vocoder")[0], converted("vocoder", "float32", tmp_path)
    silence = np.full((8, TINY.bands), TINY.silence, np.float32)  # a chunk more than the look-ahead brings out the end
    rows = vocoder_export.run(dict(file.signatures), model, np.concatenate([MEL, silence]))["vocoder"]
    spectra = [np.concatenate(rows[part][:, 0])[TINY.lookahead :][: len(MEL)] for part in ("real", "imag")]
    streamed = overlap_add.inverse_stft(*spectra, TINY.fft, TINY.hop)
    np.testing.assert_allclose(streamed, np.asarray(model(MEL[None]))[0], atol=1e-5)


def test_drawn_samples_do_not_depend_on_the_interpreter_or_the_run(tmp_path: Path) -> None:
    model, file = made("grouped")[0], converted("grouped", "float32", tmp_path)
    first, again = (vocoder_export.run_wavenet(dict(file.signatures), model, MEL, seed=3)["steps"] for _ in range(2))
    np.testing.assert_array_equal(first["samples"], again["samples"])
    other = vocoder_export.run_wavenet(dict(file.signatures), model, MEL, seed=4)["steps"]
    assert np.abs(other["samples"] - first["samples"]).max() > 0.01
    drawn = vocoder_export.run_wavenet(dict(file.signatures), model, MEL, seed=0)["steps"]
    np.testing.assert_allclose(drawn["samples"], reference("grouped")["steps"]["samples"], atol=1e-4)


def test_the_speed_is_measured(tmp_path: Path) -> None:
    model, file = made("vocoder")[0], converted("vocoder", "float32", tmp_path)
    assert vocoder_export.real_time_factor(file, model, MEL) > 0


def test_a_step_reads_no_more_the_further_it_reaches() -> None:
    far = Wavenet(replace(GROUPED, layers=12, cycles=1))
    inputs = vocoder_export.endpoints(far)["steps"].inputs
    read = [inputs[f"past{i}"][0][1] for i in range(12)]
    assert read == [1, 2, *[vocoder_export.STEPS] * 10]
    assert far.config.receptive_steps == 4096


def test_the_cost_of_reach_is_measured() -> None:
    assert list(vocoder_export.costs_of_reach(GROUPED, (1,), MEL[:8])) == [2 * 16]
