"""The streaming recogniser: audio in, words out, with the interpreter and NumPy alone.

    samples -> log-mel blocks of 60 ms -> encoder step -> search over predictor and joiner -> partial text
                                               -> search over sounds, second pass -> text, times, confidence

Audio is worked off in blocks of one encoder step whatever the chunks it came in, so any chunking of the same samples
gives the same result to the bit.

    recognizer = Recognizer.load("rnnt")
    stream = recognizer.stream()
    for block in microphone:
        stream.accept(block)
        if stream.result().endpoint:
            print(stream.finish().text)
            stream.reset()
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.assets import find_asset, load_manifest
from ondevice.audio import to_mono_float
from ondevice.bias import PhraseBias
from ondevice.endpoint import EndpointConfig, Endpointer
from ondevice.errors import InputError
from ondevice.features import StreamingLogMel, stack_frames
from ondevice.litert import LiteRtModel
from ondevice.manifest import SEARCH_RANGES, TranscribeManifest
from ondevice.opening import edge_tpu_notes, open_model
from ondevice.results import Alternative, Result, Word
from ondevice.search import BeamSearch, Decoded, Emission, GreedySearch, LanguageModel, SearchConfig, write_out
from ondevice.second_pass import SecondPass, SecondPassConfig
from ondevice.sound_lexicon import SoundLexicon
from ondevice.sound_search import look_ahead
from ondevice.tokens import Pieces
from ondevice.vad import SpeechDetector, SpeechWatch, load_detector
from ondevice.wordlm import FIRST_WORD, WordLm, load_lm

Float32 = npt.NDArray[np.float32]

_FRAMES_AT_ONCE = 64  # that the joiner is asked for: more are no faster and take memory
TAIL_S = 0.48  # silence heard after the last sample: a transducer may be that late with its last word


class Encoded(NamedTuple):
    """A step of the encoder."""

    frame: Float32  # [1, J] for the joiner
    phones: Float32 | None  # [1, frames_per_step, C] logits of the phone head, if there is one


class LiteRtTransducer:
    """Predictor and joiner of a model file as the search wants them; arrays [1, J]."""

    def __init__(self, manifest: TranscribeManifest, model: LiteRtModel) -> None:
        self.blank = manifest.blank
        self._predictor, self._joiner = model.signatures["predictor"], model.signatures["joiner"]
        state = manifest.signatures["predictor"].state
        self._zero = {name: np.zeros(shape, np.float32) for name, shape in state.items()}

    def initial_state(self) -> Mapping[str, Float32]:
        """All zeros."""
        return self._zero

    def predict(self, token: int, state: Mapping[str, Float32]) -> tuple[Float32, Mapping[str, Float32]]:
        """(predicted [1, J], next state) after one more token."""
        out = self._predictor({"token": np.array([token], np.int32), **state})
        predicted = out.pop("predicted")
        return predicted, out

    def join(self, encoded: Float32, predicted: Float32) -> Float32:
        """Natural log probabilities [V]."""
        logits: Float32 = self._joiner({"encoded": encoded, "predicted": predicted})["logits"][0]
        logits = logits - logits.max()
        logprobs: Float32 = logits - np.log(np.exp(logits).sum())
        return logprobs

    def join_frames(self, encoded: Sequence[Float32], predicted: Float32, tokens: Sequence[int]) -> Float32:
        """The same of a few tokens [U] at many frames [N] after one history: [N, U]."""
        rows = [np.zeros((0, len(tokens)), np.float32)]
        for start in range(0, len(encoded), _FRAMES_AT_ONCE):
            frames = np.concatenate(encoded[start : start + _FRAMES_AT_ONCE])
            logits: Float32 = self._joiner.rows({"encoded": frames, "predicted": predicted})["logits"]
            top = logits.max(axis=1, keepdims=True)
            rows.append(logits[:, tokens] - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))
        return np.concatenate(rows)


@dataclass(frozen=True)
class RecognizerConfig:
    """What can be set beside the model; None takes the model's own setting."""

    beam: int | None = None  # hypotheses kept, 1..64; 1 is greedy
    lm_weight: float | None = None  # 0 leaves the language model out
    second_pass: bool = True  # where the model has one; greedy search and a weight of 0 leave it out
    vad: bool = True  # no words where nobody speaks, if the model can tell
    n_best: int = 1  # readings in a final result
    bias: tuple[tuple[str, float], ...] = ()  # phrases to favour and their weights, `ondevice.bias.read_bias_file`
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    threads: int = 1
    delegate: str | None = None  # shared library of an accelerator

    def __post_init__(self) -> None:
        for name, value in (("beam", self.beam), ("lm_weight", self.lm_weight)):
            low, high = SEARCH_RANGES[name]
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} {value}: expected {low:g} to {high:g}")
        for name, count in (("beam", self.beam or 1), ("n_best", self.n_best)):
            if not isinstance(count, int) or count < 1:
                raise InputError(f"{name} {count}: expected a whole number of at least 1")


class Recognizer:
    """A model ready to hear; streams of one recogniser may be used from several threads."""

    def __init__(self, manifest: TranscribeManifest, config: RecognizerConfig | None = None) -> None:
        """Open the model of a checked manifest. Raises InputError or FailureError as `Recognizer.load` does."""
        self.manifest, self.config = manifest, config or RecognizerConfig()
        self._model = open_model(manifest, self.config.threads, self.config.delegate)
        self.pieces = Pieces(manifest.tokens, manifest.blank)
        self.transducer = LiteRtTransducer(manifest, self._model)
        self._search = _search_config(manifest, self.config)
        self._lm = self.language_model() if self._search.lm_weight else None
        self._bias = PhraseBias(self.config.bias, self.pieces) if self.config.bias else None
        self._encoder = self._model.signatures["encoder"]
        self._lexicon = self._load_lexicon() if self._lm and self.config.second_pass else None
        self._detector = self._load_detector() if self.config.vad else None

    @classmethod
    def load(cls, model: str | os.PathLike[str] = "rnnt", config: RecognizerConfig | None = None) -> Recognizer:
        """The recogniser of a model given by name or directory.

        Raises InputError: unknown model, a file that is missing, changed or not what the manifest says, a setting out
        of range. Raises FailureError: no interpreter here may run it, the delegate does not load.
        """
        return cls(load_manifest(find_asset(model), kind=TranscribeManifest), config)

    @property
    def rate_hz(self) -> int:
        """Sample rate of the audio that streams accept."""
        return self.manifest.features.rate_hz

    @property
    def unspelled(self) -> Sequence[str]:
        """Bias phrases that the model's pieces cannot write; they have no effect."""
        return self._bias.unspelled if self._bias else ()

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of how it runs here: where the parts for an Edge TPU do, if there are any."""
        return edge_tpu_notes(self.manifest, self._model)

    def language_model(self) -> LanguageModel | None:
        """The model's own n-gram language model, read anew; None when it has none."""
        path = self.manifest.lm_path
        return load_lm(path, self.pieces) if path else None

    def _load_lexicon(self) -> tuple[SoundLexicon, Float32] | None:
        """The lexicon and what the language model says of its tree, if the model has a second pass."""
        path, lm = self.manifest.lexicon_path, self._lm
        if not path:
            return None
        lexicon = SoundLexicon.load(path)
        known = lm.ngrams.symbols - FIRST_WORD if isinstance(lm, WordLm) else 0
        symbols = self.manifest.shape("encoder", "outputs", "phones")[-1]
        if not isinstance(lm, WordLm) or len(lexicon) != known or len(lexicon.phones) + 1 != symbols:
            raise InputError(
                f"{path}: {len(lexicon)} words and {len(lexicon.phones)} phones; expected the {known} words of the "
                f"language model and the {symbols - 1} phones of the encoder"
            )
        return lexicon, look_ahead(lexicon, lm.ngrams)

    def _load_detector(self) -> SpeechDetector | None:
        """What tells speech from noise, if the model can."""
        path = self.manifest.vad_path
        return load_detector(path, self.manifest.shape("encoder", "outputs", "encoded")[-1]) if path else None

    @property
    def search_config(self) -> SearchConfig:
        """Settings of the search in effect."""
        return self._search

    def second_pass(self, config: SecondPassConfig | None = None) -> SecondPass | None:
        """A new second pass if the model has one and it is wanted; None takes the manifest's settings."""
        if self._lexicon is None or not isinstance(self._lm, WordLm):
            return None
        if config is None:
            config = SecondPassConfig(**self.manifest.second_pass)  # type: ignore[arg-type]  # ranges were checked
        return SecondPass(
            self.transducer, self.pieces, self._lexicon[0], self._lm, self._lexicon[1], config, self._bias
        )

    def speech_watch(self) -> SpeechWatch | None:
        """Something new that tells whether anybody speaks, if the model can and it is wanted."""
        return SpeechWatch(self._detector) if self._detector else None

    def stream(self) -> Stream:
        """A new stream of audio, independent of all others."""
        return Stream(self)

    def transcribe(self, samples: npt.NDArray[Any]) -> list[Result]:
        """The utterances in a whole recording, samples as `Stream.accept` takes them; those without words left out."""
        stream, results = self.stream(), []
        stream.accept(samples)
        while stream.result().endpoint:
            results.append(stream.finish())
            stream.reset()
        results.append(stream.finish())
        return [result for result in results if result.text]

    def search(self) -> GreedySearch | BeamSearch:
        """A new search over the model's predictor and joiner, with the settings in effect."""
        if self._search.beam == 1 and self._lm is None and self._bias is None:
            return GreedySearch(self.transducer, self._search.max_symbols)
        return BeamSearch(self.transducer, self._search, self._lm, self._bias)

    def initial_state(self) -> dict[str, Float32]:
        """The encoder's state before any audio."""
        return {n: np.zeros(s, np.float32) for n, s in self.manifest.signatures["encoder"].state.items()}

    def encode(self, features: Float32, state: Mapping[str, Float32]) -> tuple[Encoded, dict[str, Float32]]:
        """What is heard in the log-mel frames [step_frames, M] of one step after the state, and the new state."""
        mean, std = self.manifest.mean_and_std
        stacked = stack_frames((features - mean) / std, self.manifest.features.stack)[None]
        out = self._encoder({"features": stacked, **state})
        return Encoded(out.pop("encoded"), out.pop("phones", None)), out


def _search_config(manifest: TranscribeManifest, config: RecognizerConfig) -> SearchConfig:
    names = ("beam", "max_symbols", "lm_weight", "ilm_weight", "length_bonus", "prune_margin", "blank_skip")
    settings: dict[str, Any] = {n: manifest.search[n] for n in names if n in manifest.search}
    settings |= {n: v for n in ("beam", "lm_weight") if (v := getattr(config, n)) is not None}
    greedy = settings.get("beam") == 1 and config.lm_weight is None  # as the paper has it
    if config.lm_weight and not manifest.lm_path:
        raise InputError(f"lm_weight {config.lm_weight}: the model {manifest.name} has no language model; expected 0")
    if greedy or not manifest.lm_path or not settings.get("lm_weight"):
        # what balances the language model makes no sense without it
        settings |= {"lm_weight": 0.0, "ilm_weight": 0.0, "length_bonus": 0.0}
    return replace(SearchConfig(), **settings)


class Stream:
    """One stream of audio, utterance after utterance."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        manifest = recognizer.manifest
        self._step_s = manifest.step_s
        self._delay_s = float(manifest.search.get("emission_delay_s", 0.0))
        self._log_mel = StreamingLogMel(manifest.features, manifest.step_frames)
        self._endpointer = Endpointer(recognizer.config.endpoint, manifest.step_s)
        self._waiting: list[Float32] = []  # log-mel blocks behind an endpoint, oldest first
        self._search = recognizer.search()
        self._second_pass = recognizer.second_pass()
        self._speech = recognizer.speech_watch()
        self._samples = 0  # accepted in all
        self._now_s = 0.0  # how far the stream was heard
        self._begin()

    def _begin(self) -> None:
        self._state = self._recognizer.initial_state()
        self._search.reset()
        if self._second_pass:
            self._second_pass.reset()
        if self._speech:
            self._speech.reset()
        self._endpointer.reset()
        self._start_s = self._now_s
        self._steps = 0  # of the utterance
        self._partial: tuple[Emission | None, tuple[Word, ...]] = (None, ())  # the words up to a token
        self._endpoint = self._finished = False

    def accept(self, samples: npt.NDArray[Any]) -> None:
        """Take samples at `Recognizer.rate_hz`: int16, int32 or floats in -1..1, [n] or [n, channels].

        What lies behind an endpoint waits until `reset`. Raises InputError for other types or shapes, NaN or
        infinities, and when the stream was finished without an endpoint and not reset.
        """
        if self._finished and not self._endpoint:
            raise InputError("the stream is finished; reset() it before accepting more audio")
        mono = to_mono_float(samples)
        self._samples += len(mono)
        self._waiting += self._log_mel.accept(mono)
        self._work()

    def _work(self) -> None:
        """Hear waiting blocks up to an endpoint."""
        done = 0
        for block in self._waiting:
            if self._endpoint:
                break
            self._hear(block)
            done += 1
            trail = self._search.best().trail
            self._endpoint = self._endpointer.reached(None if trail is None else trail.frame)
        del self._waiting[:done]

    def _search_on(self, block: Float32) -> None:
        encoded, self._state = self._recognizer.encode(block, self._state)
        self._search.advance(encoded.frame)
        if self._speech:
            self._speech.accept(encoded.frame)
        if self._second_pass and encoded.phones is not None:
            self._second_pass.accept(encoded.frame, encoded.phones)

    def _hear(self, block: Float32) -> None:
        self._search_on(block)
        self._endpointer.accept(block)
        self._steps += 1
        self._now_s = self._start_s + self._steps * self._step_s

    def result(self) -> Result:
        """What was heard of the utterance so far; cheap enough to ask after every chunk."""
        best = self._search.best()
        if self._only_noise:
            return self._result((), [Alternative("", best.score)])
        if best.trail is not self._partial[0]:
            self._partial = (best.trail, self._words(write_out(best)))
        words = self._partial[1]
        return self._result(words, [Alternative(_text(words), best.score)])

    def finish(self) -> Result:
        """The whole utterance: up to the endpoint if there is one, else up to the last sample accepted."""
        if not (self._finished or self._endpoint):
            tail = np.zeros(round(TAIL_S * self._recognizer.rate_hz), np.float32)
            for block in self._log_mel.accept(tail):
                self._search_on(block)
            self._log_mel.reset()
            self._now_s = self._samples / self._recognizer.rate_hz
        self._finished = True
        readings = self._search.n_best()
        if self._only_noise:
            return self._result((), [Alternative("", readings[0].score)])
        if self._second_pass:
            readings = self._second_pass.n_best(readings)
        scores: dict[str, float] = {}  # two sequences of pieces may spell one text
        for reading in readings:
            scores.setdefault(self._recognizer.pieces.text(reading.tokens), reading.score)
        alternatives = [Alternative(text, score) for text, score in scores.items()]
        return self._result(self._words(readings[0]), alternatives[: self._recognizer.config.n_best])

    @property
    def _only_noise(self) -> bool:
        """Whether nobody has spoken in this utterance."""
        return self._speech is not None and not self._speech.heard

    def reset(self) -> None:
        """Begin the next utterance, first with the audio that waits behind the endpoint."""
        self._begin()
        self._work()

    def _result(self, words: tuple[Word, ...], alternatives: Sequence[Alternative]) -> Result:
        return Result(
            text=_text(words),
            words=words,
            confidence=sum(word.confidence for word in words) / len(words) if words else 0.0,
            n_best=tuple(alternatives),
            start_s=round(self._start_s, 3),
            end_s=round(self._now_s, 3),
            endpoint=self._endpoint,
        )

    def _words(self, decoded: Decoded) -> tuple[Word, ...]:
        """Words with times: a token is heard at the end of its frame, less the model's usual delay."""
        begin_s, end_s = self._start_s, self._now_s
        words: list[Word] = []
        for span in self._recognizer.pieces.words(decoded.tokens):
            frames = decoded.frames[span.start : span.end]
            earliest = words[-1].end_s if words else begin_s
            start_s = min(max(begin_s + frames[0] * self._step_s - self._delay_s, earliest), end_s)
            stop_s = min(max(begin_s + (frames[-1] + 1) * self._step_s - self._delay_s, start_s), end_s)
            logs = [math.log(max(sure, 1e-9)) for sure in decoded.confidences[span.start : span.end]]
            confidence = math.exp(sum(logs) / len(logs))
            words.append(Word(span.text, round(start_s, 3), round(stop_s, 3), confidence))
        return tuple(words)


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)
