"""A trained voice or vocoder as an asset that ships: model file, manifest and the report that proves it.

As with recognisers, everything is made and checked in a temporary folder beside the target, which is replaced last.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from export.asset import Card, rounded, write_json, write_reports
from export.convert import Call, Endpoint, keras_calls, relative_error, to_tflite, write_bytes
from export.edge_parts import write_parts
from export.precision import TOLERANCE, Wanted, weights_of
from export.recorder import Recorder
from export.tacotron import endpoints
from export.telling import Teller, quiet
from export.vocoder import endpoints as vocoder_made
from export.voice_parts import convert_parts
from export.writing import beside, put
from models.speech_metrics import log_spectral_distance, mcd13
from models.tacotron import Tacotron
from models.vocoder import Vocoder
from models.wavenet import Wavenet
from ondevice.acoustic import AcousticModel
from ondevice.assets import load_manifest, sha256_of
from ondevice.errors import FailureError
from ondevice.litert import LiteRtModel
from ondevice.manifest import FORMAT
from ondevice.manifest_base import MANIFEST, MODEL_FILE
from ondevice.opening import open_model
from ondevice.phonemes import SYMBOLS
from ondevice.pronounce import Pronouncer
from ondevice.speech_features import SPEECH_MEL, SPEECH_RATE_HZ
from ondevice.styles import measure_styles
from ondevice.synthesizer import Style, Synthesizer
from ondevice.transfer import ProsodyScale
from ondevice.verify import PROOF_FILE, write_proof
from ondevice.vocoder import vocoder_stream
from ondevice.voice_manifest import PRONUNCIATION_FILE, PROSODY_FEATURES, VocoderManifest, VoiceManifest

PARTS = "with 8-bit parts"  # in a report: the file with its signatures replaced by those for an Edge TPU
SHORTEST_S = 0.1  # of a recording on which a copy is judged
DB = 10 / np.log(10)  # of a natural log of power
Sentence = tuple[Sequence[int], np.ndarray]  # symbols, and normalised log-mel [F, M] of a recording


@dataclass(frozen=True)
class TrainedVoice:
    """What an export needs of a finished run."""

    tacotron: Tacotron
    mean: np.ndarray  # of each mel band
    std: np.ndarray
    neutral: np.ndarray  # [S] the style when none is asked for
    pronunciation: Path
    vocoder: str  # name of the vocoder asset
    prosody: ProsodyScale | None = None  # of a voice that learnt to transfer it
    reach: float | None = None  # how far from neutral weight 1 of a style token moves; None: to the token alone


def voice_run(acoustic: AcousticModel, symbols: Sequence[int], mel: np.ndarray) -> dict[str, np.ndarray]:
    """Every part of a voice over a sentence and its recording, normalised log-mel [F, M], with some prosody."""
    style = acoustic.style_of_mel(mel)
    prosody = np.random.default_rng(0).normal(size=(len(symbols), PROSODY_FEATURES)).astype(np.float32)
    said, alignment = acoustic.lead(symbols, mel, style, prosody)
    encoded = acoustic.encode(symbols)
    return {"style": style, "encoded": encoded, "said": said, "alignment": alignment, "refined": acoustic.refine(said)}


def build_voice(
    trained: TrainedVoice, target: Path, card: Card, wanted: Wanted, sentence: Sentence,
    calibration: Sequence[Sentence] = (), say: Teller = quiet, styles: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write the asset `target` (replacing one that is there) and return its report: errors over one real sentence.

    calibration: sentences that set the scales of parts for an Edge TPU, if there are to be any; styles: measure what
    the style tokens do, with the vocoder, which must be there.
    Raises FailureError when a file lacks weights, differs from Keras by more than is allowed or cannot be written,
    InputError when the pronunciation file is none, weights are no numbers, or the target must not be replaced.
    """
    Pronouncer(trained.pronunciation, SYMBOLS)  # raises InputError where it is none
    made = endpoints(trained.tacotron)
    scale: dict[str, Any] = {}
    parameters = trained.tacotron.count_params()
    if trained.reach is not None:
        scale["style_reach"] = trained.reach
    if trained.prosody:
        scale |= {"prosody_mean": rounded(trained.prosody.mean), "prosody_std": rounded(trained.prosody.std)}

    def values(directory: Path, name: str) -> dict[str, Any]:
        return {
            **_common(card, directory, "speak", name, wanted, parameters, trained.mean, trained.std),
            "symbols": list(SYMBOLS), "dropout": trained.tacotron.config.dropout, "vocoder": trained.vocoder,
            "neutral": rounded(trained.neutral), "styles": [], "signatures": described(made), **scale,
        }  # fmt: skip

    def run(directory: Path, calls: Mapping[str, Call]) -> dict[str, np.ndarray]:
        return voice_run(AcousticModel(load_manifest(directory, kind=VoiceManifest), calls), *sentence)

    def parts(directory: Path) -> dict[str, bytes]:
        seen = Recorder(keras_calls(made))
        model = AcousticModel(load_manifest(directory, kind=VoiceManifest), seen.calls)
        for one in calibration:
            voice_run(model, *one)
        for token in range(model.manifest.tokens):
            model.style_of_tokens({token: 1.0})
        return convert_parts(trained.tacotron, made, seen.inputs())

    files = {PRONUNCIATION_FILE: trained.pronunciation}

    def task(said: Mapping[str, np.ndarray]) -> dict[str, float]:
        off = said["refined"][: len(sentence[1])] - (sentence[1] * trained.std + trained.mean)
        return {"spectra led through the recording, off by dB": float(DB * np.sqrt((off**2).mean(axis=1)).mean())}

    finish = partial(measure_tokens, say=say) if styles else None
    return _build(
        target, wanted, card, trained.tacotron, made, files, values, run, parts=parts, say=say, finish=finish, task=task
    )


def measure_tokens(directory: Path, say: Teller = quiet) -> None:
    """Write what each style token of a voice does into its manifest; its vocoder must be there."""
    synthesizer = Synthesizer.load(directory)

    def spoken(text: str, token: int, weight: float) -> np.ndarray:
        return synthesizer(text, Style({token: weight}))

    values = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    tokens = synthesizer.voice.tokens
    found = say.track(measure_styles(spoken, tokens, synthesizer.rate_hz), "style tokens", tokens)
    values["styles"] = [effects.values() for effects in found]
    write_json(directory / MANIFEST, values)


def build_vocoder(
    vocoder: Vocoder | Wavenet, target: Path, card: Card, wanted: Wanted, log_mel: np.ndarray, say: Teller = quiet,
    recorded: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The same of a vocoder, over natural-log mel [F, M] of a recording; `recorded` [F * hop] is what a copy is of."""
    made, shape = vocoder_made(vocoder), {}
    if isinstance(vocoder, Wavenet):
        c = vocoder.config
        shape = {"wavenet": {"dilations": list(c.dilations), "kernel": c.kernel, "mixture": c.mixture}}
    mean, std = (ops.convert_to_numpy(x) for x in (vocoder.mean, vocoder.std))

    def values(directory: Path, name: str) -> dict[str, Any]:
        return {
            **_common(card, directory, "vocode", name, wanted, vocoder.count_params(), mean, std),
            "lookahead": vocoder.config.lookahead, "signatures": described(made), **shape,
        }  # fmt: skip

    def run(directory: Path, calls: Mapping[str, Call]) -> dict[str, np.ndarray]:
        stream = vocoder_stream(load_manifest(directory, kind=VocoderManifest), calls)
        return {"samples": np.concatenate([stream.accept(log_mel), stream.finish()])}

    def task(made: Mapping[str, np.ndarray]) -> dict[str, float]:
        if recorded is None or len(recorded) < SHORTEST_S * SPEECH_RATE_HZ:
            return {}
        copy = made["samples"][: len(recorded)]
        return {
            "MCD13 of the copy, dB": mcd13(recorded, copy, SPEECH_RATE_HZ),
            "log-spectral distance of the copy, dB": log_spectral_distance(recorded, copy, SPEECH_RATE_HZ),
        }

    drawn = ("samples",) if isinstance(vocoder, Wavenet) else ()
    return _build(target, wanted, card, vocoder, made, {}, values, run, drawn, say=say, task=task)


def described(made: Mapping[str, Endpoint]) -> dict[str, dict[str, dict[str, list[int]]]]:
    """The manifest's description of endpoints: what goes in and comes out under one name is state."""
    rows = {}
    for name, endpoint in made.items():
        zeros = [ops.zeros(shape, dtype) for shape, dtype in endpoint.inputs.values()]
        outputs = {tensor: list(value.shape) for tensor, value in endpoint.function(*zeros).items()}
        inputs = {tensor: list(shape) for tensor, (shape, _) in endpoint.inputs.items()}
        rows[name] = {
            "inputs": {n: s for n, s in inputs.items() if n not in outputs},
            "outputs": {n: s for n, s in outputs.items() if n not in inputs},
            "state": {n: s for n, s in inputs.items() if n in outputs},
        }
    return rows


def _common(
    card: Card, directory: Path, task: str, precision: str, wanted: Wanted, parameters: int,
    mean: np.ndarray, std: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    names = sorted(path.name for path in directory.iterdir() if path.name != MANIFEST)
    return {
        "format": FORMAT, "name": card.name, "task": task, "language": card.language, "precision": precision,
        "description": card.description, "licence": card.licence, "parameters": parameters,
        "files": {n: {"sha256": sha256_of(directory / n), "bytes": (directory / n).stat().st_size} for n in names},
        "interpreters": wanted.interpreters(precision),
        "features": {**asdict(SPEECH_MEL), "mean": rounded(mean), "std": rounded(std)},
        "data": list(card.data), "metrics": card.metrics_of(directory / MODEL_FILE),
    }  # fmt: skip


def _build(
    target: Path, wanted: Wanted, card: Card, model: keras.Model, made: Mapping[str, Endpoint],
    files: Mapping[str, Path], values: Callable[[Path, str], dict[str, Any]],
    run: Callable[[Path, Mapping[str, Call]], dict[str, np.ndarray]], drawn: Sequence[str] = (),
    parts: Callable[[Path], dict[str, bytes]] | None = None, say: Teller = quiet,
    finish: Callable[[Path], None] | None = None,
    task: Callable[[Mapping[str, np.ndarray]], dict[str, float]] = lambda _: {},
) -> dict[str, Any]:  # fmt: skip
    weights = weights_of(model)
    with beside(target, *files.values()) as folder:
        reference: dict[str, np.ndarray] = {}
        recorder = Recorder(keras_calls(made))
        report: dict[str, Any] = {"parity": {}, "bytes": {}, "task": {}}

        def write(precision: str, content: bytes) -> None:
            directory = folder / precision
            directory.mkdir()
            write_bytes(directory / MODEL_FILE, content)
            for file, source in files.items():
                shutil.copyfile(source, directory / file)
            write_json(directory / MANIFEST, values(directory, precision))
            if not reference:
                reference.update(run(directory, recorder.calls))
                report["task"]["keras"] = task(reference)
            opened = open_model(load_manifest(directory))  # the runtime's own checks
            rows, whole = recorder.errors(opened.signatures, drawn), run(directory, opened.signatures)
            if not drawn:  # what was drawn otherwise once cannot be compared as a whole
                rows += whole_errors(reference, whole)
            report["task"][precision] = task(whole)
            report["parity"][precision] = checked(rows, precision)
            proof = Recorder(opened.signatures)
            run(directory, proof.calls)
            write_proof(directory / PROOF_FILE, proof.consecutive())
            compiled: dict[str, Any] = {}
            if parts and wanted.edge_tpu and precision == wanted.precision:
                made_parts = parts(directory)
                written = write_parts(directory, made_parts, say)
                compiled["edge_tpu"], report["edge_tpu"] = written.compiled, written.report
                in_parts = [LiteRtModel(directory / f"{part}.tflite").signatures[part] for part in made_parts]
                both = {**opened.signatures, **dict(zip(made_parts, in_parts, strict=True))}
                whole = run(directory, both)
                rows, report["task"][PARTS] = recorder.errors(both) + whole_errors(reference, whole), task(whole)
                report["parity"][PARTS] = checked(rows, "int8-full")
            write_json(directory / MANIFEST, values(directory, precision) | compiled)  # with the files written since
            report["bytes"][precision] = len(content)

        def error(content: bytes) -> float:
            path = folder / MODEL_FILE
            path.write_bytes(content)
            rows = recorder.errors(LiteRtModel(path).signatures, drawn)
            return float(np.sqrt(np.mean([row["relative_rms"] ** 2 for row in rows])))

        float_file = to_tflite(model, made)
        write("float32", float_file)
        content, mixture = wanted.make(
            lambda precision: to_tflite(model, made, precision, wanted.per_tensor),
            float_file,
            weights,
            error,
            say,
        )
        if wanted.precision != "float32":
            write(wanted.precision, content)
        if mixture:
            report["mixture"] = mixture.report()
        directory = folder / wanted.precision
        if finish:
            finish(directory)
        write_reports(directory, report, folder / "float32" / MODEL_FILE, weights)
        card.metrics_of(directory / MODEL_FILE, say)
        put(directory, target)
    return report


def whole_errors(reference: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Largest and relative RMS error of each result of a whole run, errors of state included."""
    rows = []
    for name, array in reference.items():
        largest, relative = relative_error(array, other[name])
        rows.append({"tensor": name, "max_error": largest, "relative_rms": relative})
    return rows


def checked(rows: list[dict[str, Any]], precision: str) -> list[dict[str, Any]]:
    """The same rows. Raises FailureError when one is off by too much."""
    for row in rows:
        if not row["relative_rms"] <= TOLERANCE[precision]:  # NaN fails this too
            raise FailureError(
                f"export: {precision} {row['tensor']} differs from Keras by a relative RMS of "
                f"{row['relative_rms']:.3g}; expected at most {TOLERANCE[precision]}"
            )
    return rows
