"""The speech generator: text in, samples out, with the interpreter and NumPy alone.

    text -> sentences of symbols -> Tacotron steps (+ style) -> log-mel -> vocoder steps -> inverse STFT -> samples

Speech comes sentence by sentence, and each sentence in chunks, so that it is heard while the rest is still text.

    synthesizer = Synthesizer.load("tacotron")
    for samples in synthesizer.stream("Hello there. How are you?", Style(tokens={3: 0.4})):
        speaker.write(samples)
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.acoustic import AcousticModel, Mel, Trouble
from ondevice.assets import find_asset, load_manifest
from ondevice.audio import to_mono_float
from ondevice.errors import InputError
from ondevice.opening import edge_tpu_notes, open_model
from ondevice.pronounce import Pronouncer, SpokenSentence
from ondevice.speech_features import MARGINS_S, SPEECH_DB, speech_mel, trim_silence
from ondevice.transfer import ProsodyScale, prosody_of
from ondevice.vocoder import vocoder_stream
from ondevice.voice_manifest import VocoderManifest, VoiceManifest

Float32 = npt.NDArray[np.float32]

TRANSFERS = ("style", "prosody")
PAUSE_S = 0.25  # between sentences
SLOWEST, FASTEST = 0.5, 2.0
MEL_PORTION = 16  # frames handed to the vocoder at a time: 171 ms of audio
LONGEST_REFERENCE_S = 30.0
QUIETEST_REFERENCE_DB = -55.0  # below full scale: nobody speaks


@dataclass(frozen=True)
class Style:
    """How something is to be said; nothing set is the voice's own way."""

    tokens: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))  # style token -> weight
    reference: npt.NDArray[Any] | None = None  # samples [n] at the synthesizer's rate whose style to take
    transfer: str = "style"  # what to take from the reference; "prosody" where it says the same text
    speed: float = 1.0  # 2 is twice as fast

    def __post_init__(self) -> None:
        if not SLOWEST <= self.speed <= FASTEST:  # NaN too
            raise InputError(f"speed {self.speed}: expected {SLOWEST:g} to {FASTEST:g}")
        if self.transfer not in TRANSFERS:
            raise InputError(f"transfer {self.transfer!r}: expected one of {', '.join(TRANSFERS)}")
        if self.transfer == "prosody" and self.reference is None:
            raise InputError("transfer 'prosody': expected a reference, a recording of the same text")


@dataclass(frozen=True)
class Said:
    """A sentence, its spectra and the seconds it took; for pictures and statistics."""

    sentence: SpokenSentence
    mel: Mel
    log_mel: Float32  # [F, M] natural log, at the speed asked for
    seconds: float  # of speech


@dataclass
class Timing:
    """Seconds of work per stage, added up."""

    text_s: float = 0.0
    style_s: float = 0.0
    acoustic_s: float = 0.0
    vocoder_s: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as a part of a stage."""
        began = time.perf_counter()
        yield
        setattr(self, name, getattr(self, name) + time.perf_counter() - began)


class Synthesizer:
    """A voice and a vocoder ready to speak."""

    def __init__(self, voice: VoiceManifest, vocoder: VocoderManifest, threads: int = 1) -> None:
        """Open the models of two checked manifests. Raises InputError or FailureError as `load` does."""
        self.voice, self.vocoder = voice, vocoder
        self._models = open_model(voice, threads), open_model(vocoder, threads)
        self.acoustic = AcousticModel(voice, self._models[0].signatures)
        self.vocode = self._models[1].signatures
        self.pronouncer = Pronouncer(voice.pronunciation_path, voice.symbols)

    @classmethod
    def load(
        cls, model: str | os.PathLike[str] = "tacotron", vocoder: str | os.PathLike[str] | None = None, threads: int = 1
    ) -> Synthesizer:
        """The voice of a name or directory, with the vocoder it was made for or another.

        Raises InputError: unknown model, a file that is missing, changed or not what the manifest says; models that do
        not fit each other. Raises FailureError: no interpreter here may run it.
        """
        voice = load_manifest(find_asset(model), kind=VoiceManifest)
        return cls(voice, load_manifest(find_asset(vocoder or voice.vocoder), kind=VocoderManifest), threads)

    @property
    def rate_hz(self) -> int:
        """Sample rate of what is said: 24,000."""
        return self.voice.features.rate_hz

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of how it runs here: where the parts for an Edge TPU do, if there are any."""
        return edge_tpu_notes(self.voice, self._models[0])

    def __call__(
        self, text: str, style: Style | None = None, seed: int = 0, warn: Callable[[str], None] = lambda _: None
    ) -> Float32:
        """Everything at once: samples float32 [n] in -1..1. `warn` is told what `stream` tells."""
        return np.concatenate([np.zeros(0, np.float32), *self.stream(text, style, seed, warn)])

    def stream(
        self, text: str | Iterable[str], style: Style | None = None, seed: int = 0,
        warn: Callable[[str], None] = lambda _: None, said: Callable[[Said], None] = lambda _: None,
        timing: Timing | None = None,
    ) -> Iterator[Float32]:  # fmt: skip
        """Chunks of samples float32 [n] in -1..1, the first before the second sentence is looked at.

        text may be lines, as they come. `warn` is told what cannot be spoken and what went wrong, `said` each sentence
        before its samples come, `timing` what each stage took. The same seed says the same.
        Raises InputError for a style that the voice has not, a reference in which nobody speaks, [[phones]] that are
        none, a negative seed.
        """
        if seed < 0:
            raise InputError(f"seed {seed}: expected 0 or more")
        style, timing = style or Style(), timing or Timing()
        with timing.stage("style_s"):
            wanted = self._style(style, warn)
        vocoder = vocoder_stream(self.vocoder, self.vocode, seed)
        pause = np.zeros(round(PAUSE_S / style.speed * self.rate_hz), np.float32)
        for number, sentence in enumerate(self._sentences(text, style, warn, timing)):
            if number:
                yield pause
            with timing.stage("acoustic_s"):
                prosody = self._prosody(style, sentence, wanted, warn)
                mel = self.acoustic.say(sentence.ids, wanted, prosody, seed + number)
                log_mel = change_speed(self.acoustic.refine(mel.frames), style.speed)
            if mel.trouble is not Trouble.NONE:
                warn(f"{mel.trouble.value}, the sentence may be cut or garbled: {sentence.text!r}")
            said(Said(sentence, mel, log_mel, len(log_mel) * self.acoustic.hop_s))
            for start in range(0, len(log_mel), MEL_PORTION):
                with timing.stage("vocoder_s"):
                    samples = vocoder.accept(log_mel[start : start + MEL_PORTION])
                yield from _some(samples)
            with timing.stage("vocoder_s"):
                samples = vocoder.finish()
            yield from _some(samples)

    def _sentences(
        self, text: str | Iterable[str], style: Style, warn: Callable[[str], None], timing: Timing
    ) -> Iterator[SpokenSentence]:
        """The sentences of a text; all of them at once where only one is allowed."""
        sentences = self.pronouncer.sentences(text, self.voice.most_symbols, warn)
        if style.transfer == "prosody":
            if not self.voice.prosody_mean:
                raise InputError(f"voice {self.voice.name}: was not trained to transfer prosody; expected 'style'")
            first = list(itertools.islice(sentences, 2))
            if len(first) > 1:
                raise InputError(
                    "transfer 'prosody': several sentences, or a long one; expected one as in the reference"
                )
            sentences = iter(first)
        while True:
            with timing.stage("text_s"):
                sentence = next(sentences, None)
            if sentence is None:
                return
            yield sentence

    def _style(self, style: Style, warn: Callable[[str], None]) -> Float32:
        base = None
        if style.reference is not None:
            base = self.style_of(style.reference, warn if style.transfer == "style" else lambda _: None)
        return self.acoustic.style_of_tokens(style.tokens, base)

    def _prosody(
        self, style: Style, sentence: SpokenSentence, wanted: Float32, warn: Callable[[str], None]
    ) -> Float32 | None:
        """Prosody [N, 4] of the reference for a sentence, where that was asked for."""
        if style.transfer != "prosody" or style.reference is None:
            return None
        samples = trim_silence(to_mono_float(style.reference, "reference"))
        if len(samples) > LONGEST_REFERENCE_S * self.rate_hz:
            raise InputError(
                f"transfer 'prosody': a reference of more than {LONGEST_REFERENCE_S:g} s; expected one sentence"
            )
        scale = ProsodyScale(*(np.asarray(x, np.float32) for x in (self.voice.prosody_mean, self.voice.prosody_std)))
        prosody, followed = prosody_of(self.acoustic, sentence.ids, samples, wanted, scale)
        if not followed:
            warn(
                "reference: it seems to say something else, or in a voice too different to follow; expect wrong prosody"
            )
        return prosody

    def style_of(self, samples: npt.NDArray[Any], warn: Callable[[str], None] = lambda _: None) -> Float32:
        """The style [1, S] of a recording's first half minute of speech, at the synthesizer's rate.

        `warn` is told when there is more. Raises InputError when nobody speaks in it, or as
        `ondevice.audio.to_mono_float` does.
        """
        speech = trim_silence(to_mono_float(samples, "reference"))
        if len(speech) > (longest := round(LONGEST_REFERENCE_S * self.rate_hz)):
            warn(f"reference: only the first {LONGEST_REFERENCE_S:g} s of its speech are used")
            speech = speech[:longest]
        power = float(np.mean(speech.astype(np.float64) ** 2)) if len(speech) else 0.0
        level_db = 10 * np.log10(max(power, 1e-12))
        if level_db < QUIETEST_REFERENCE_DB:
            raise InputError(f"reference: its level is {level_db:.0f} dB; expected speech")
        mean, std = self.voice.mean_and_std
        return self.acoustic.style_of_mel(((speech_mel(speech) - mean) / std).astype(np.float32))


def _some(samples: Float32) -> Iterator[Float32]:
    if len(samples):
        yield np.clip(samples, -1.0, 1.0)


def first_speech(blocks: Iterable[Float32], rate_hz: int) -> Float32:
    """As much of a recording, in blocks, as a reference may be: from its first speech on, a second over the longest.

    What is loud is judged by what came so far. No more is read than is needed, and less than a minute is held.
    """
    kept, longest, hop = np.zeros(0, np.float32), round((LONGEST_REFERENCE_S + 1) * rate_hz), rate_hz // 100
    for block in blocks:
        kept = np.concatenate([kept, block])
        if len(kept) <= longest:
            continue
        power = np.mean(kept[: len(kept) // hop * hop].reshape(-1, hop) ** 2, axis=1)
        least = max(float(power.max()) * 10 ** (SPEECH_DB / 10), 10 ** (QUIETEST_REFERENCE_DB / 10))
        loud = np.flatnonzero(power > least)
        begin = int(loud[0]) * hop if loud.size else len(kept)
        kept = kept[max(0, begin - round(2 * MARGINS_S[0] * rate_hz)) :]
        if len(kept) > longest:
            break
    return kept[: longest + 1]


def change_speed(log_mel: Float32, speed: float) -> Float32:
    """Log-mel [F, M] as [round(F / speed), M], interpolated in time: the same pitch, said faster or slower."""
    if speed == 1.0:
        return log_mel
    at = np.linspace(0, len(log_mel) - 1, max(1, round(len(log_mel) / speed)))
    low = np.minimum(at.astype(int), len(log_mel) - 1)
    high = np.minimum(low + 1, len(log_mel) - 1)
    part = (at - low)[:, None].astype(np.float32)
    mixed: Float32 = log_mel[low] * (1 - part) + log_mel[high] * part
    return mixed
