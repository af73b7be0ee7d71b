"""A trained recogniser as an asset that ships: model file, language model, manifest and the report that proves it.

Everything is made in a temporary folder beside the target and checked there by the runtime itself; the target is
replaced only when all of it holds.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import keras
import numpy as np

from export.convert import parity, write_bytes
from export.edge_parts import Parts, write_parts
from export.edgetpu import split_signatures
from export.full_int8 import Embedding, Run, bounded, convert_full
from export.layers import weight_errors
from export.page import operator_table, write_page
from export.precision import TOLERANCE, Wanted, weights_of
from export.recorder import Recorder
from export.rnnt import convert, keras_steps, run_steps, signatures, tflite_steps
from export.telling import Teller, quiet
from export.writing import CURVES, REPORT, beside, put
from models.greedy import greedy_tokens
from models.pieces import load_pieces, piece_list
from models.recipe import Trained
from ondevice.assets import load_manifest, sha256_of
from ondevice.endpoint import EndpointConfig
from ondevice.errors import FailureError, InputError
from ondevice.features import LogMel, stack_frames
from ondevice.litert import LiteRtModel
from ondevice.manifest import FORMAT, LEXICON_FILE, LM_FILE, PIECES_FILE, VAD_FILE
from ondevice.manifest_base import EMBEDDING_FILE, MANIFEST, MODEL_FILE
from ondevice.normalize import english
from ondevice.opening import open_model
from ondevice.recognizer import TAIL_S, Recognizer, RecognizerConfig
from ondevice.sound_lexicon import SoundLexicon
from ondevice.utterances import Utterance
from ondevice.vad import SpeechDetector
from ondevice.verify import PROOF_FILE, RecordedCall, write_proof


@dataclass(frozen=True)
class Card:
    """What a person wants to know of a model and no file tells; read from a JSON file."""

    name: str
    description: str
    licence: str
    language: str = "en"
    data: Sequence[Any] = ()
    search: Mapping[str, float] = field(default_factory=dict)
    second_pass: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    measured: str = ""  # SHA-256 of the model.tflite they were measured of: no other file's manifest has them

    @classmethod
    def load(cls, path: Path) -> "Card":
        """Read a card. Raises InputError naming the file when it is unreadable or a field is missing or unknown."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: {error}; expected a model card (JSON)") from error

    def metrics_of(self, model: Path, say: Teller = quiet) -> list[Mapping[str, Any]]:
        """The metrics if they were measured of this file, else none, which is said."""
        if not self.metrics or sha256_of(model) == self.measured:
            return list(self.metrics)
        say(f"{self.name}: without the card's metrics, whose `measured` is not the SHA-256 of this {MODEL_FILE}")
        return []


def _stacked(trained: Trained, samples: np.ndarray) -> np.ndarray:
    """Normalised stacked features [S, F] of samples [n]."""
    features = (LogMel(trained.features)(samples) - trained.mean) / trained.std
    return stack_frames(features.astype(np.float32), trained.features.stack)


class Recorded:
    """Every output and state of the network over one real utterance, against which files are held."""

    def __init__(self, trained: Trained, samples: np.ndarray, text: str) -> None:
        self.trained, self.text, self.seconds = trained, text, len(samples) / trained.features.rate_hz
        self._features, self._tokens = _stacked(trained, samples), load_pieces(trained.pieces).encode(text)
        self._references = {"": keras_steps(trained.rnnt, self._features, self._tokens)}

    def parity(self, model: LiteRtModel, precision: str = "") -> list[dict[str, Any]]:
        """The errors of a TFLite file, one row per tensor; int8-full is held against the network with bounded cells."""
        key = precision if precision == "int8-full" else ""
        if key not in self._references:
            self._references[key] = keras_steps(bounded(self.trained.rnnt), self._features, self._tokens)
        return parity(self._references[key], tflite_steps(self.trained.rnnt, model, self._features, self._tokens))

    def proof(self, model: LiteRtModel) -> dict[str, list[RecordedCall]]:
        """Some calls of a file's signatures and what it made of them."""
        recorder = Recorder(model.signatures)
        run_steps(recorder.calls, self.trained.rnnt, self._features, self._tokens)
        return recorder.consecutive()

    def error(self, content: bytes) -> float:
        """Relative RMS error of a file's logits."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, MODEL_FILE)
            path.write_bytes(content)
            return next(row["relative_rms"] for row in self.parity(LiteRtModel(path)) if row["tensor"] == "logits")


def calibration_runs(trained: Trained, utterances: Sequence[Utterance]) -> list[Run]:
    """Features and tokens of recordings, for `export.full_int8`."""
    pieces = load_pieces(trained.pieces)
    return [
        (_stacked(trained, u.samples(trained.features.rate_hz)), pieces.encode(english(u.text))) for u in utterances
    ]


def prove(recorded: Recorded, files: Mapping[str, LiteRtModel]) -> dict[str, Any]:
    """Parity of TFLite files (by precision) with Keras: a table per file.

    Raises FailureError naming the worst tensor when a file is off by more than `TOLERANCE`.
    """
    tables = {}
    for precision, model in files.items():
        rows = recorded.parity(model, precision)
        worst = max(rows, key=lambda row: row["relative_rms"])
        if not worst["relative_rms"] <= TOLERANCE[precision]:  # NaN fails this too
            raise FailureError(
                f"export: {precision} {worst['signature']}.{worst['tensor']} differs from Keras by a relative RMS of "
                f"{worst['relative_rms']:.3g}; expected at most {TOLERANCE[precision]}"
            )
        tables[precision] = rows
    return {"utterance": recorded.text, "seconds": recorded.seconds, "parity": tables}


def word_errors(
    trained: Trained, assets: Mapping[str, Path], utterances: Sequence[Utterance], say: Teller = quiet
) -> dict[str, float]:
    """Greedy WER of the Keras network, whole sequences in float, and of assets (by precision), streaming."""
    texts = [english(utterance.text) for utterance in utterances]
    samples = [utterance.samples(trained.features.rate_hz) for utterance in utterances]
    heard = {"keras": keras_texts(trained, samples)}
    greedy = RecognizerConfig(beam=1, vad=False, endpoint=EndpointConfig(silence_s=0))
    for precision, path in assets.items():
        recognizer = Recognizer(load_manifest(path), greedy)
        tracked = say.track(samples, f"words, {precision}")
        heard[precision] = [" ".join(result.text for result in recognizer.transcribe(x)) for x in tracked]
    return {name: float(jiwer.wer(texts, [english(text) for text in said])) for name, said in heard.items()}


def keras_texts(trained: Trained, recordings: Sequence[np.ndarray], batch: int = 16) -> list[str]:
    """What the network itself hears, greedily: the same features, tail and limits as on the device."""
    config, pieces = trained.rnnt.config, load_pieces(trained.pieces)
    tail = np.zeros(round(TAIL_S * trained.features.rate_hz), np.float32)
    rows = [_stacked(trained, np.concatenate([samples, tail])) for samples in recordings]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    texts = [""] * len(rows)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        frames = np.array([len(rows[i]) // config.reduction for i in chosen], np.int32)
        padded = np.zeros((len(chosen), int(frames.max()) * config.reduction, config.features), np.float32)
        for row, i in zip(padded, chosen, strict=True):
            count = len(rows[i]) // config.reduction * config.reduction
            row[:count] = rows[i][:count]
        encoded = keras.ops.convert_to_numpy(trained.rnnt.encode(padded))
        for i, tokens in zip(chosen, greedy_tokens(trained.rnnt, encoded, frames), strict=True):
            texts[i] = pieces.decode(tokens)
    return texts


def build_asset(
    trained: Trained, target: Path, card: Card, wanted: Wanted, utterance: tuple[np.ndarray, str],
    lm: Path | None = None, labelled: Sequence[Utterance] = (), curves: Path | None = None, say: Teller = quiet,
    calibration: Sequence[Utterance] = (), lexicon: SoundLexicon | None = None, vad: SpeechDetector | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the asset `target` (replacing one that is there) and return its report.

    utterance: samples [n] and their text, a real recording over which the files are compared with Keras;
    labelled: recordings on which the word error rates of Keras, float and quantised files are compared, and of every
    mixture of bits on the way to a mixed one; curves: a picture of the training that goes along; calibration:
    recordings that set the scales of int8-full; lexicon: of the second pass, needs `lm`; vad: tells speech from noise.
    Raises FailureError when a file lacks weights, differs from Keras or cannot be written, InputError for an unknown
    precision, weights that are no numbers, a size that cannot be reached, or a target that must not be replaced.
    """
    weights = weights_of(trained.rnnt)
    if vad and len(vad.weights) != trained.rnnt.config.joiner:
        raise InputError(
            f"--vad: {len(vad.weights)} weights; expected one for each of {trained.rnnt.config.joiner} encoder outputs"
        )
    with beside(target, trained.pieces) as folder:
        recorded = Recorded(trained, *utterance)
        made: dict[str, Path] = {}
        opened: dict[str, LiteRtModel] = {}
        parts: Parts | None = None
        embeddings: dict[str, Embedding] = {}
        float_file = convert(trained.rnnt, "float32")

        def describe(directory: Path, precision: str) -> None:
            values = manifest_values(trained, directory, card, precision, wanted.interpreters(precision))
            write_json(directory / MANIFEST, values | ({"edge_tpu": parts.compiled} if parts else {}))

        def write(name: str, content: bytes, precision: str) -> None:
            nonlocal parts
            made[name] = directory = folder / name
            directory.mkdir()
            write_bytes(directory / MODEL_FILE, content)
            if precision in embeddings:
                table = embeddings[precision]
                np.savez(directory / EMBEDDING_FILE, rows=table.rows, scale=table.scale)
            if lm:
                shutil.copyfile(lm, directory / LM_FILE)
            shutil.copyfile(trained.pieces, directory / PIECES_FILE)  # for a training that starts here
            if lexicon:
                lexicon.save(directory / LEXICON_FILE)
            if vad:
                vad.save(directory / VAD_FILE)
            describe(directory, precision)
            opened[name] = open_model(load_manifest(directory))  # the runtime's own checks
            write_proof(directory / PROOF_FILE, recorded.proof(opened[name]))
            if wanted.edge_tpu and precision == wanted.precision:
                parts = write_parts(directory, split_signatures(content), say)
            describe(directory, precision)

        def converted(precision: str) -> bytes:
            if precision != "int8-full":
                return convert(trained.rnnt, precision, wanted.per_tensor)
            content, embeddings[precision] = convert_full(
                trained.rnnt, calibration_runs(trained, calibration), wanted.per_tensor
            )
            return content

        write("float32", float_file, "float32")
        content, mixture = wanted.make(
            converted,
            float_file,
            weights,
            recorded.error,
            say,
        )
        if wanted.precision != "float32":
            write(wanted.precision, content, wanted.precision)
        report = prove(recorded, opened)
        report["bytes"] = {name: (directory / MODEL_FILE).stat().st_size for name, directory in made.items()}
        if mixture:
            report["mixture"] = mixture.report()
        if parts:
            report["edge_tpu"] = parts.report
        if labelled:
            for number, point in enumerate(mixture.curve if mixture else ()):
                write(f"curve{number}", mixture.file(point), wanted.precision)
            errors = word_errors(trained, made, labelled, say)
            for number in range(len(mixture.curve) if mixture else 0):
                report["mixture"]["curve"][number]["wer"] = errors.pop(f"curve{number}")
            report["utterances"], report["wer"] = len(labelled), errors
        if curves:
            shutil.copyfile(curves, made[wanted.precision] / CURVES)
        write_reports(made[wanted.precision], report, made["float32"] / MODEL_FILE, weights)
        card.metrics_of(made[wanted.precision] / MODEL_FILE, say)
        put(made[wanted.precision], target)
    return report


def write_reports(
    directory: Path, report: dict[str, Any], float_file: Path, weights: Sequence[tuple[str, np.ndarray]]
) -> None:
    """Time an asset that is otherwise done, and write report.json and report.html into its directory.

    Its weights are held against those of the float file; `weights`, path and values of each in Keras, give the names.
    """
    report["layers"] = weight_errors(directory / MODEL_FILE, float_file, weights)
    report["bench"] = timed(directory)
    report["operators"] = operator_table(directory / MODEL_FILE)
    write_json(directory / REPORT, report)
    write_page(directory, load_manifest(directory), report)


def timed(directory: Path) -> dict[str, Any]:
    """What `ondevice bench` says of an asset, in a process of its own: this one's memory is TensorFlow's."""
    command = [sys.executable, "-m", "ondevice", "bench", str(directory), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise FailureError(f"export: the finished file does not run: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    del found["directory"]
    return found


def manifest_values(
    trained: Trained, directory: Path, card: Card, precision: str, interpreters: Sequence[str]
) -> dict[str, Any]:
    """The manifest of the files in `directory`."""
    config = trained.rnnt.config
    first = [name for name in (MODEL_FILE, LM_FILE, LEXICON_FILE, VAD_FILE, PROOF_FILE) if (directory / name).exists()]
    names = [*first, *sorted(path.name for path in directory.iterdir() if path.name not in {*first, MANIFEST})]
    return {
        "format": FORMAT, "name": card.name, "task": "transcribe", "language": card.language, "precision": precision,
        "description": card.description, "licence": card.licence, "parameters": trained.rnnt.count_params(),
        "files": {
            name: {"sha256": sha256_of(directory / name), "bytes": (directory / name).stat().st_size} for name in names
        },
        "interpreters": list(interpreters),
        "features": {**asdict(trained.features), "mean": rounded(trained.mean), "std": rounded(trained.std)},
        "frames_per_step": config.reduction, "tokens": piece_list(load_pieces(trained.pieces)), "blank": 0,
        "signatures": signatures(trained.rnnt), "search": dict(card.search),
        **({"second_pass": dict(card.second_pass)} if (directory / LEXICON_FILE).exists() else {}),
        "data": list(card.data), "metrics": card.metrics_of(directory / MODEL_FILE),
    }  # fmt: skip


def rounded(values: np.ndarray) -> list[float]:
    """float32 values as the shortest decimals that read back to the same bits."""
    return [float(str(value)) for value in values]


def write_json(path: Path, value: object) -> None:
    """JSON with one short list a line, so that a manifest can be read and its changes seen."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())
