"""The vocoders' signatures, their TFLite files, the proof that they compute what was trained, and how fast they are.

`python -m export.vocoder` prints sizes, errors and real-time factors of both presets, with weights or without, and what
a sample of a WaveNet costs however far back its dilations reach.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from export.convert import Call, Endpoint, keras_calls, parity, stack_outputs, to_tflite
from models.vocoder import SMALL, Vocoder, state_type
from models.wavenet import SMALL as SMALL_WAVENET
from models.wavenet import Wavenet, WavenetConfig
from ondevice.litert import LiteRtModel
from ondevice.sampling import RingCache, mixture_noise, softmax_noise, tap_offsets

CHUNK_FRAMES = 8  # 85 ms of speech a call
STEPS = 4  # of a WaveNet in a call: 32 samples with groups of 8
RATE_HZ = 24_000
CYCLES = (3, 2, 1)  # of dilations, with as many layers: the fewer, the further back they reach

Rows = dict[str, dict[str, np.ndarray]]  # signature -> tensor -> [calls, ...]


def vocoder_endpoints(vocoder: Vocoder, chunk: int = CHUNK_FRAMES) -> dict[str, Endpoint]:
    """`vocoder`: a chunk of mel frames -> as many spectra, `lookahead` frames late; the state goes in and out."""
    c = vocoder.config
    state = state_type(c.layers)

    def step(mel: Any, *before: Any) -> dict[str, Any]:
        real, imag, after = vocoder.step(mel, state(*before))
        return {"real": real, "imag": imag, **after._asdict()}

    widths = [c.bands] + [c.width] * c.layers
    inputs = {"mel": ((1, chunk, c.bands), "float32")}
    inputs |= {n: ((1, c.kernel - 1, w), "float32") for n, w in zip(state._fields, widths, strict=True)}
    return {"vocoder": Endpoint(step, inputs)}


def wavenet_endpoints(wavenet: Wavenet, steps: int = STEPS, chunk: int = CHUNK_FRAMES) -> dict[str, Endpoint]:
    """`condition`: mel frames -> what the layers are told; `steps`: so many steps drawn (see `Wavenet.steps`)."""
    c = wavenet.config

    def condition(mel: Any, wavenet_mel: Any) -> dict[str, Any]:
        told, after = wavenet.condition_step(mel, wavenet_mel)
        return {"told": told, "wavenet_mel": after}

    def draw(previous: Any, told: Any, noise: Any, *past: Any) -> dict[str, Any]:
        samples, present = wavenet.steps(previous, told, noise, past)
        return {"samples": samples, **present._asdict()}

    inputs = {
        "previous": ((1, c.group), "float32"),
        "told": ((1, c.layers * 2 * c.residual), "float32"),
        "noise": ((1, steps, c.group, c.noises), "float32"),
    }
    for index, dilation in enumerate(c.dilations):
        inputs[f"past{index}"] = ((1, len(tap_offsets(dilation, c.kernel, steps)), c.residual), "float32")
    mel = {
        "mel": ((1, chunk, c.bands), "float32"),
        "wavenet_mel": ((1, c.mel_kernel - 1, c.bands), "float32"),
    }
    return {"condition": Endpoint(condition, mel), "steps": Endpoint(draw, inputs)}


def endpoints(model: Vocoder | Wavenet) -> dict[str, Endpoint]:
    """The signatures of either vocoder."""
    return vocoder_endpoints(model) if isinstance(model, Vocoder) else wavenet_endpoints(model)


def convert(model: Vocoder | Wavenet, precision: str) -> bytes:
    """TFLite file of a vocoder in one of `export.convert.PRECISIONS`."""
    return to_tflite(model, endpoints(model), precision)


def run_vocoder(calls: Mapping[str, Call], vocoder: Vocoder, mel: np.ndarray) -> Rows:
    """Every output and state over the whole chunks of mel [F, M]."""
    initial = vocoder.initial_state()._asdict()
    state = {name: ops.convert_to_numpy(value) for name, value in initial.items()}
    rows = []
    for start in range(0, len(mel) - CHUNK_FRAMES + 1, CHUNK_FRAMES):
        out = calls["vocoder"]({"mel": mel[None, start : start + CHUNK_FRAMES], **state})
        state = {name: out[name] for name in state}
        rows.append(out)
    return {"vocoder": stack_outputs(rows)}


def run_wavenet(calls: Mapping[str, Call], wavenet: Wavenet, mel: np.ndarray, seed: int = 0) -> Rows:
    """Every output over the whole chunks of mel [F, M]: conditions, and the samples drawn one after another."""
    c, rng = wavenet.config, np.random.default_rng(seed)
    before, rows = ops.convert_to_numpy(wavenet.initial_mel()), []
    for start in range(0, len(mel) - CHUNK_FRAMES + 1, CHUNK_FRAMES):
        out = calls["condition"]({"mel": mel[None, start : start + CHUNK_FRAMES], "wavenet_mel": before})
        before = out["wavenet_mel"]
        rows.append(out)
    conditions = stack_outputs(rows)
    told = np.concatenate(conditions["told"][:, 0])[c.lookahead :]  # [F, L * 2 R]
    per_frame = c.hop // c.group // STEPS
    shape = (len(told) * per_frame, 1, STEPS, c.group)
    noise = mixture_noise(rng, shape, c.mixture) if c.mixture else softmax_noise(rng, shape, c.mu_levels)
    cache, previous, rows = RingCache(c.dilations, c.kernel, c.residual, STEPS), np.zeros((1, c.group), np.float32), []
    for number, drawn in enumerate(noise):
        past = {f"past{i}": value for i, value in enumerate(cache.past())}
        frame = told[None, number // per_frame]
        out = calls["steps"]({"previous": previous, "told": frame, "noise": drawn, **past})
        cache.push([out[f"present{i}"] for i in range(c.layers)])
        previous = out["samples"][:, -c.group :]
        rows.append(out)
    return {"condition": conditions, "steps": stack_outputs(rows)}


def run(calls: Mapping[str, Call], model: Vocoder | Wavenet, mel: np.ndarray) -> Rows:
    """Every output of a vocoder's signatures over mel [F, M]."""
    return run_vocoder(calls, model, mel) if isinstance(model, Vocoder) else run_wavenet(calls, model, mel)


def real_time_factor(file: LiteRtModel, model: Vocoder | Wavenet, mel: np.ndarray) -> float:
    """Seconds of computing for a second of speech, the second of two runs over mel [F, M], cache and noise included."""
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        run(dict(file.signatures), model, mel)
        seconds = time.perf_counter() - start
    return seconds / (len(mel) // CHUNK_FRAMES * CHUNK_FRAMES * model.config.hop / RATE_HZ)


def costs_of_reach(config: WavenetConfig, cycles: Sequence[int], mel: np.ndarray) -> dict[int, float]:
    """Milliseconds for a sample of WaveNets with so many dilation cycles and as many layers, by their samples of reach.

    They take turns, and each one's fastest turn counts.
    """
    milliseconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = [Wavenet(replace(config, cycles=count)) for count in cycles]
        for model in models:
            model.build()
            Path(folder, f"{model.config.cycles}.tflite").write_bytes(convert(model, "float32"))
        files = [LiteRtModel(Path(folder, f"{model.config.cycles}.tflite")) for model in models]
        for _ in range(5):
            for model, file in zip(models, files, strict=True):
                reach = model.config.receptive_steps * model.config.group
                now = 1000 * real_time_factor(file, model, mel) / RATE_HZ
                milliseconds[reach] = min(now, milliseconds.get(reach, now))
    return milliseconds


def main(arguments: list[str] | None = None) -> None:
    """Print what the presets cost and how exactly they convert."""
    parser = argparse.ArgumentParser(prog="python -m export.vocoder", description=main.__doc__)
    parser.add_argument("--vocoder", type=Path, help="vocoder.weights.h5 (default: random weights)")
    parser.add_argument("--wavenet", type=Path, help="wavenet.weights.h5 (default: random weights)")
    options = parser.parse_args(arguments)
    mel = np.random.default_rng(0).normal(-6, 3, (96, SMALL.bands)).astype(np.float32)
    for model, weights in ((Vocoder(SMALL), options.vocoder), (Wavenet(SMALL_WAVENET), options.wavenet)):
        model.build()
        if weights:
            model.load_weights(weights)
        reference = run(keras_calls(endpoints(model)), model, mel)
        for precision in ("float32", "dynamic-int8"):
            content = convert(model, precision)
            with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
                Path(file.name).write_bytes(content)
                loaded = LiteRtModel(file.name)
                rows = parity(reference, run(dict(loaded.signatures), model, mel))
                factor = real_time_factor(loaded, model, mel)
            worst = max(row["relative_rms"] for row in rows if row["signature"] != "steps")
            name = type(model).__name__.lower()
            print(f"{name:8} {precision:13} {len(content) / 1e6:5.1f} MB  relative RMS {worst:.1e}  RTF {factor:.3f}")
    for reach, cost in costs_of_reach(SMALL_WAVENET, CYCLES, mel).items():
        print(f"wavenet  of {SMALL_WAVENET.layers} layers that reach {reach:6,} samples back: {cost:.4f} ms a sample")


if __name__ == "__main__":
    main()
