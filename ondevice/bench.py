"""How fast a model runs here: every signature by itself, the whole pipeline, and the memory-bandwidth floor.

A step that reads all its weights once cannot take less than their bytes over the memory's bandwidth. A small model
stays in the processor's cache and can be faster than that.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.assets import asset_roots, find_asset, load_manifest
from ondevice.audio import read_audio
from ondevice.errors import InputError
from ondevice.graph import TABLES, Graph, Subgraph, read_graph
from ondevice.listening import listen
from ondevice.litert import MAX_THREADS, Signature
from ondevice.manifest import TranscribeManifest
from ondevice.manifest_base import MODEL_FILE, Manifest
from ondevice.onnx_peer import OnnxSignature, onnx_signatures
from ondevice.onnx_peer import require as require_onnx
from ondevice.onnx_peer import version as onnx_version
from ondevice.opening import open_model
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.stats import Meter, peak_memory_mb
from ondevice.synthesizer import Synthesizer
from ondevice.trial import seeded_inputs, state_of, zero_state
from ondevice.vocoder import vocoder_stream
from ondevice.voice_manifest import VocoderManifest, VoiceManifest

Float32 = npt.NDArray[np.float32]

PEERS = ("onnx",)
BANDWIDTH_BYTES = 256 * 2**20
BANDWIDTH_PASSES = 5
SENTENCE = "The quick brown fox jumps over the lazy dog."
SPOKEN_TIMES = 3
MEL_S = 5.0  # of audio that a vocoder makes
ELSEWHERE = ("IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE")  # run other subgraphs


@dataclass(frozen=True)
class BenchConfig:
    """What to measure."""

    threads: tuple[int, ...] = (1,)
    runs: int = 100  # timed calls of each signature
    warmup: int = 10  # calls before them
    audio: str | None = None  # a recording for the recogniser instead of the samples that ship
    seed: int = 0
    against: str | None = None  # a peer to time the signatures on, too

    def __post_init__(self) -> None:
        if self.against not in (None, *PEERS):
            raise InputError(f"--against {self.against}: expected {' or '.join(PEERS)}")
        for name, value, lowest in (("runs", self.runs, 1), ("warmup", self.warmup, 0)):
            if value < lowest:
                raise InputError(f"{name} {value}: expected a whole number of at least {lowest}")


@dataclass(frozen=True)
class Weights:
    """Constants of one signature."""

    bytes: int  # in the file, shared ones once
    read_bytes: int | None  # of these in one call; None where that cannot be known


@dataclass(frozen=True)
class Latency:
    """Times of one signature's calls."""

    first_ms: float  # the very first call
    warmup_ms: float | None  # mean; None without warmup
    mean_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    weight_bytes: int | None  # None where the file does not tell
    read_bytes_per_s: float | None  # of weights, at the median


@dataclass(frozen=True)
class PeerRun:
    """A signature of the same network on a peer."""

    precision: str  # of its weights
    bytes: int  # of its file
    latency: Latency
    times_as_long: float  # as here, by p50


@dataclass(frozen=True)
class Pipeline:
    """Audio heard or made, with all work around the model."""

    what: str
    audio_s: float | None = None
    compute_s: float | None = None
    real_time_factor: float | None = None
    missing: str | None = None  # why nothing was measured


@dataclass(frozen=True)
class Step:
    """A recogniser's encoder step against reading its weights once from memory."""

    audio_ms: float
    latency_ms: float  # median
    floor_ms: float | None  # weights over bandwidth; None where the file does not tell what is read
    floor_share: float | None  # 1 is as fast as one thread can read; more: the weights stay in the cache


@dataclass(frozen=True)
class ThreadRun:
    """Everything at one number of threads."""

    threads: int
    load_ms: float
    peak_memory_mb: float  # of the process after the pipeline: what a run before this one needed is in it
    signatures: Mapping[str, Latency]
    pipeline: Pipeline
    step: Step | None
    peers: Mapping[str, tuple[PeerRun, ...]]  # by signature; empty where nothing is timed against


@dataclass(frozen=True)
class Report:
    """What `measure` found."""

    model: str
    task: str
    directory: str
    model_bytes: int
    interpreter: str
    runs: int
    warmup: int
    bandwidth_bytes_per_s: float  # of one thread
    threads: tuple[ThreadRun, ...]
    against: str | None = None  # the peer and its version


def parse_threads(text: str) -> tuple[int, ...]:
    """Numbers of threads of "1,2"; InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(p.isascii() and p.isdigit() and len(p) < 10 and 1 <= int(p) <= MAX_THREADS for p in parts):
        raise InputError(f"--threads {text!r}: expected numbers from 1 to {MAX_THREADS} with commas, as in 1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def measure(model: str, config: BenchConfig | None = None) -> Report:
    """Time a model of any task, given by name or directory.

    Raises InputError: unknown or broken model, audio that is missing or not for this task.
    """
    config = config or BenchConfig()
    manifest = load_manifest(find_asset(model))
    whole = _pipeline(manifest, config)
    if config.against:
        require_onnx(manifest.model_path)
    timed = [_measure(manifest, threads, config, whole) for threads in config.threads]
    bandwidth = bandwidth_bytes_per_s()  # this late, for its array would be the peak of the memory; so would the file
    graph = read_graph(manifest.model_path) if timed[0].interpreter.startswith("ai_edge_litert") else None
    weights = weights_of(graph) if graph else {}
    runs = [_thread_run(manifest, each, weights, bandwidth) for each in timed]
    if config.against:  # last, for its memory is no part of this model's
        runs = [replace(run, peers=_peers(manifest, run, config)) for run in runs]
    return Report(
        manifest.name, manifest.task, str(manifest.directory), manifest.files[MODEL_FILE].bytes, timed[0].interpreter,
        config.runs, config.warmup, bandwidth, tuple(runs), onnx_version() if config.against else None,
    )  # fmt: skip


def _thread_run(
    manifest: Manifest, timed: "_Timed", weights: Mapping[str, Weights], bandwidth: float
) -> ThreadRun:  # fmt: skip
    signatures = {n: latency(times, timed.warmup, weights.get(n)) for n, times in timed.times_s.items()}
    step = None
    if isinstance(manifest, TranscribeManifest):
        step = _step(manifest.step_s, signatures["encoder"].p50_ms, weights.get("encoder"), bandwidth)
    return ThreadRun(timed.threads, timed.load_ms, timed.peak_memory_mb, signatures, timed.pipeline, step, {})


def _peers(manifest: Manifest, run: ThreadRun, config: BenchConfig) -> dict[str, tuple[PeerRun, ...]]:
    """The same signatures in ONNX Runtime."""
    like = open_model(manifest, run.threads).signatures
    found: dict[str, tuple[PeerRun, ...]] = dict.fromkeys(manifest.signatures, ())
    for precision, name, size, signature in onnx_signatures(manifest.model_path, like, run.threads):
        inputs = seeded_inputs(like[name], manifest, np.random.default_rng(config.seed))
        times = latency(_call_times(signature, inputs, 1 + config.warmup + config.runs), config.warmup)
        found[name] += (PeerRun(precision, size, times, times.p50_ms / run.signatures[name].p50_ms),)
    return found


# memory


def bandwidth_bytes_per_s() -> float:
    """Bytes a second that one thread reads from memory: the best of several passes over 256 MB.

    The maximum is taken because its arithmetic is cheap enough not to be what is measured; a sum's is not.
    """
    data = np.ones(BANDWIDTH_BYTES // 4, np.float32)
    return BANDWIDTH_BYTES / min(_timed(data.max) for _ in range(BANDWIDTH_PASSES))


def weights_of(graph: Graph) -> dict[str, Weights]:
    """Weights of each signature; one that runs other subgraphs is left out."""
    return {
        name: Weights(_weight_bytes(subgraph), _read_bytes(subgraph))
        for name, subgraph in graph.signatures.items()
        if not any(operator.code in ELSEWHERE for operator in subgraph.operators)
    }


def _weight_bytes(subgraph: Subgraph) -> int:
    used = (subgraph.tensors[i] for operator in subgraph.operators for i in operator.inputs if i >= 0)
    return sum({tensor.buffer: len(tensor.data) for tensor in used}.values())


def _read_bytes(subgraph: Subgraph) -> int | None:
    """Of a table only the rows that are taken; None where constants are kept in another form than the file's."""
    read: dict[int, int] = {}
    for operator in subgraph.operators:
        for place, index in enumerate(operator.inputs):
            if index < 0 or not len(subgraph.tensors[index].data):
                continue
            if operator.code == "DEQUANTIZE":
                return None
            tensor = subgraph.tensors[index]
            part = subgraph.rows_taken(operator) if TABLES.get(operator.code) == place else 1.0
            read[tensor.buffer] = max(read.get(tensor.buffer, 0), round(part * len(tensor.data)))
    return sum(read.values())


def _step(audio_s: float, latency_ms: float, weights: Weights | None, bandwidth: float) -> Step:
    if weights is None or weights.read_bytes is None:
        return Step(1000 * audio_s, latency_ms, None, None)
    floor_ms = 1000 * weights.read_bytes / bandwidth
    return Step(1000 * audio_s, latency_ms, floor_ms, floor_ms / latency_ms)


# signatures


@dataclass(frozen=True)
class _Timed:
    """A model opened, the times of its signatures' calls, and the pipeline."""

    threads: int
    warmup: int
    interpreter: str
    load_ms: float
    times_s: Mapping[str, Float32]  # [1 + warmup + runs]
    pipeline: Pipeline
    peak_memory_mb: float


def _measure(manifest: Manifest, threads: int, config: BenchConfig, whole: Callable[[int], Pipeline]) -> _Timed:
    began = time.perf_counter()
    model = open_model(manifest, threads)
    load_ms = 1000 * (time.perf_counter() - began)
    times_s = {}
    for name in manifest.signatures:
        inputs = seeded_inputs(model.signatures[name], manifest, np.random.default_rng(config.seed))
        times_s[name] = _call_times(model.signatures[name], inputs, 1 + config.warmup + config.runs)
    runs_on = model.runs_on
    del model  # which the pipeline opens anew
    pipeline = whole(threads)
    return _Timed(threads, config.warmup, runs_on, load_ms, times_s, pipeline, peak_memory_mb())


def _call_times(signature: Signature | OnnxSignature, inputs: Mapping[str, npt.NDArray[Any]], count: int) -> Float32:
    """Seconds [count] of calls one after the other, the state fed back."""
    state, times = zero_state(signature), np.zeros(count, np.float32)
    for call in range(count):
        taken = {**inputs, **state}
        began = time.perf_counter()
        out = signature(taken)
        times[call] = time.perf_counter() - began
        state = state_of(signature, out)
    return times


def latency(times_s: Float32, warmup: int, weights: Weights | None = None) -> Latency:
    """Of seconds [1 + warmup + runs]: the first call, those of the warmup, and the timed ones."""
    first, warm, timed = times_s[0], times_s[1 : 1 + warmup], 1000 * times_s[1 + warmup :]
    p50, p90, p99 = (float(np.quantile(timed, q)) for q in (0.5, 0.9, 0.99))
    read = weights.read_bytes if weights else None
    return Latency(
        first_ms=1000 * float(first),
        warmup_ms=1000 * float(warm.mean()) if warmup else None,
        mean_ms=float(timed.mean()),
        min_ms=float(timed.min()),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        weight_bytes=weights.bytes if weights else None,
        read_bytes_per_s=None if read is None else 1000 * read / p50,
    )


# pipelines


def _pipeline(manifest: Manifest, config: BenchConfig) -> Callable[[int], Pipeline]:
    """What measures the whole pipeline with so many threads; wrong input is found before anything is timed."""
    if isinstance(manifest, TranscribeManifest):
        rate_hz = manifest.features.rate_hz
        files = [Path(config.audio)] if config.audio is not None else sample_recordings()
        return partial(_hear, manifest, [read_audio(file, rate_hz) for file in files])
    if config.audio is not None:
        raise InputError(f"--audio {config.audio}: {manifest.name} does not hear, its task is {manifest.task!r}")
    if isinstance(manifest, VoiceManifest):
        return partial(_speak, manifest)
    assert isinstance(manifest, VocoderManifest)
    return partial(_vocode, manifest, config.seed)


def sample_recordings() -> list[Path]:
    """Sound files of the first `samples` folder among the assets; none when there is no such folder."""
    for root in asset_roots():
        found = [p for p in sorted(root.glob("samples/*")) if p.suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3")]
        if found:
            return found
    return []


def _hear(manifest: TranscribeManifest, recordings: Sequence[Float32], threads: int) -> Pipeline:
    """A recogniser in chunks of one encoder step, as a microphone would bring them."""
    what = f"hearing {len(recordings)} recordings in chunks of {1000 * manifest.step_s:.0f} ms"
    if not recordings:
        return Pipeline("hearing", missing="no sample recordings in the assets; name one with --audio FILE")
    recognizer, meter = Recognizer(manifest, RecognizerConfig(threads=threads)), Meter(manifest.features.rate_hz)
    for samples in recordings:
        listen(recognizer, _chunks(samples, manifest.step_samples), _ignore, _ignore, meter)
    found = meter.summary()
    return Pipeline(what, found.audio_s, found.compute_s, found.real_time_factor)


def _chunks(samples: Float32, size: int) -> Iterator[Float32]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _ignore(_: object) -> None:
    pass


def _speak(voice: VoiceManifest, threads: int) -> Pipeline:
    """A voice and its vocoder, one sentence."""
    try:
        vocoder = load_manifest(find_asset(voice.vocoder), kind=VocoderManifest)
    except InputError as error:
        return Pipeline("speaking", missing=f"its vocoder: {error}")
    synthesizer = Synthesizer(voice, vocoder, threads)
    what = f"saying {SENTENCE!r} with {vocoder.name}"
    return _made(what, synthesizer.rate_hz, lambda: len(synthesizer(SENTENCE)))


def _vocode(manifest: VocoderManifest, seed: int, threads: int) -> Pipeline:
    """A vocoder alone, a mel of noise."""
    features, model = manifest.features, open_model(manifest, threads)
    frames = round(MEL_S * features.rate_hz / features.hop_samples)
    mean, std = manifest.mean_and_std
    noise = np.random.default_rng(seed).normal(size=(frames, features.bands))
    mel = (mean + std * noise).astype(np.float32)
    stream = vocoder_stream(manifest, model.signatures, seed)
    return _made("vocoding a mel of noise", features.rate_hz, lambda: len(stream.accept(mel)) + len(stream.finish()))


def _made(what: str, rate_hz: int, make: Callable[[], int]) -> Pipeline:
    """The median of a few times to make samples; `make` returns how many."""
    times, samples = [], 0
    for _ in range(SPOKEN_TIMES):
        began = time.perf_counter()
        samples = make()
        times.append(time.perf_counter() - began)
    compute_s, audio_s = float(np.median(times)), samples / rate_hz
    return Pipeline(what, audio_s, compute_s, compute_s / audio_s if audio_s else None)


def _timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
