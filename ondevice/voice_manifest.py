"""Manifests of the speech generator: a voice (text to log-mel) and a vocoder (log-mel to samples)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.manifest_base import MANIFEST, Fields, Manifest, common_fields
from ondevice.sampling import tap_offsets
from ondevice.speech_features import SPEECH_MEL

PRONUNCIATION_FILE = "pronunciation.npz"
STYLE_PROPERTIES = ("f0_mean_semitones", "f0_range_semitones", "energy_db", "rate_percent")
PROSODY_FEATURES = 4  # per symbol: log F0, voicing, log energy, log duration


@dataclass(frozen=True)
class VoiceManifest(Manifest):
    """A Tacotron's description. Sizes of chunks are those of its signatures."""

    does = "speak"
    symbols: tuple[str, ...]  # by id; the first is padding
    dropout: float  # of the pre-net, which stays on
    neutral: tuple[float, ...]  # the style of the voice when none is asked for
    style_reach: float | None  # how far from neutral weight 1 of a style token moves; None: to the token alone
    vocoder: str  # name of the vocoder asset it was made with
    styles: tuple[Mapping[str, Any], ...]  # what each style token does, as measured
    prosody_mean: tuple[float, ...]  # of what `ondevice.transfer` measures; empty: not trained to transfer prosody
    prosody_std: tuple[float, ...]

    @property
    def pronunciation_path(self) -> Path:
        """Lexicon and letter-to-sound model."""
        return self.directory / PRONUNCIATION_FILE

    @property
    def text_chunk(self) -> int:
        """Symbols a step of the text convolutions takes."""
        return self.shape("text", "inputs", "symbols", 2)[1]

    @property
    def most_symbols(self) -> int:
        """The longest sentence the decoder can attend to."""
        return self.shape("decoder", "inputs", "memory", 3)[1]

    @property
    def reduction(self) -> int:
        """Mel frames a decoder step makes."""
        return self.shape("decoder", "outputs", "mel", 3)[1]

    @property
    def mel_chunk(self) -> int:
        """Mel frames a step of the post-net takes."""
        return self.shape("postnet", "inputs", "mel", 3)[1]

    @property
    def reference_frames(self) -> int:
        """Mel frames a step of the reference encoder takes."""
        return self.shape("reference", "inputs", "mel", 3)[1]

    @property
    def tokens(self) -> int:
        """Number of style tokens."""
        return self.shape("style", "inputs", "weights", 3)[2]

    @property
    def style_width(self) -> int:
        """Values in a style."""
        return self.shape("style", "outputs", "style", 2)[1]

    @cached_property
    def neutral_style(self) -> npt.NDArray[np.float32]:
        """[1, S]."""
        return np.asarray(self.neutral, np.float32)[None]


@dataclass(frozen=True)
class WavenetShape:
    """What the loop around a WaveNet's steps must know."""

    dilations: tuple[int, ...]  # of its layers, in steps
    kernel: int
    mixture: int  # logistics it draws from; 0: a softmax


@dataclass(frozen=True)
class VocoderManifest(Manifest):
    """A vocoder's description."""

    does = "vocode"
    lookahead: int  # mel frames it must have heard beyond those it says
    wavenet: WavenetShape | None  # None: spectra and an inverse Fourier transform

    @property
    def entrance(self) -> str:
        """The signature that takes mel frames."""
        return "condition" if self.wavenet else "vocoder"

    @property
    def chunk_frames(self) -> int:
        """Mel frames a step takes."""
        return self.shape(self.entrance, "inputs", "mel", 3)[1]


def parse_voice(root: Fields) -> VoiceManifest:
    """Check a manifest whose task is "speak"."""
    common = common_fields(root)
    symbols = root.sequence("symbols")
    if len(symbols) < 2 or not all(isinstance(s, str) and s for s in symbols) or len(set(symbols)) < len(symbols):
        raise root.fail("symbols", "a list of at least two different non-empty strings")
    if PRONUNCIATION_FILE not in common["files"]:
        raise root.child("files").fail(PRONUNCIATION_FILE, "present")
    transfers = PROSODY_FEATURES if root.sequence("prosody_mean", optional=True) else 0
    width = Manifest(**common).shape("style", "outputs", "style", 2)[1]
    manifest = VoiceManifest(
        **common,
        symbols=tuple(symbols),
        dropout=root.number("dropout", 0.0, 0.99),
        neutral=root.numbers("neutral", width),
        style_reach=root.number("style_reach", 1e-6, 1e6) if "style_reach" in root.values else None,
        vocoder=root.text("vocoder"),
        styles=tuple(_style_row(root.path, s) for s in root.sequence("styles", optional=True)),
        prosody_mean=root.numbers("prosody_mean", transfers) if transfers else (),
        prosody_std=root.numbers("prosody_std", transfers, positive=True) if transfers else (),
    )
    bands, memory = manifest.features.bands, manifest.shape("memory", "outputs", "memory", 3)
    half = manifest.shape("recurrence", "outputs", "both", 2)[1]
    embedding = manifest.shape("text", "outputs", "text", 3)[2]
    for name in ("ahead", "back"):
        manifest.expect({("recurrence", "inputs", name): (1, embedding)}, "what the text convolutions make")
    manifest.shape("decoder", "inputs", "keep", 2)
    expected = {
        ("memory", "inputs", "encoded"): (1, memory[1], half),
        ("reference", "outputs", "weights"): manifest.shape("style", "inputs", "weights", 3),
        ("decoder", "inputs", "lengths"): (1,),
        ("text", "inputs", "inside"): (1, manifest.text_chunk, 1),
        ("memory", "inputs", "style"): (1, manifest.style_width),
        ("memory", "inputs", "prosody"): (1, memory[1], PROSODY_FEATURES),
        ("decoder", "inputs", "memory"): memory,
        ("decoder", "inputs", "keys"): manifest.shape("memory", "outputs", "keys"),
        ("decoder", "inputs", "frame"): (1, bands),
        ("decoder", "outputs", "mel"): (1, manifest.reduction, bands),
        ("decoder", "outputs", "stop"): (1, 1),
        ("postnet", "inputs", "mel"): (1, manifest.mel_chunk, bands),
        ("postnet", "inputs", "inside"): (1, manifest.mel_chunk, 1),
        ("postnet", "outputs", "refined"): (1, manifest.mel_chunk, bands),
        ("reference", "inputs", "mel"): (1, manifest.reference_frames, bands),
    }
    manifest.expect(expected, "the other signatures and the features say so")
    _check_features(manifest)
    return manifest


def _check_features(manifest: Manifest) -> None:
    """The runtime takes spectra with one front end only."""
    if manifest.features != SPEECH_MEL:
        where = f"{manifest.directory / MANIFEST}: field 'features'"
        raise InputError(f"{where} must be the speech generator's ({SPEECH_MEL}), got {manifest.features}")


def _style_row(path: Path, value: Any) -> Mapping[str, Any]:
    """One row of what `ondevice.styles` measured."""
    row = Fields(path, value, "styles[].")
    row.integer("token", 0)
    for name in STYLE_PROPERTIES:
        for part in ("slope", "rho"):
            row.child(name).number(part, -1e9, 1e9)
    return row.values


def parse_vocoder(root: Fields) -> VocoderManifest:
    """Check a manifest whose task is "vocode"."""
    wavenet = _wavenet(root.child("wavenet")) if "wavenet" in root.values else None
    common = common_fields(root)
    manifest = VocoderManifest(**common, lookahead=root.integer("lookahead", 0, 1000), wavenet=wavenet)
    features = manifest.features
    _check_features(manifest)
    chunk = manifest.chunk_frames
    manifest.expect({(manifest.entrance, "inputs", "mel"): (1, chunk, features.bands)}, "the features say so")
    if wavenet is None:
        spectra = (1, chunk, features.fft_size // 2 + 1)
        manifest.expect({("vocoder", "outputs", n): spectra for n in ("real", "imag")}, "the features say so")
        return manifest
    _, steps, group, noises = manifest.shape("steps", "inputs", "noise", 4)
    if features.hop_samples % (steps * group):
        raise InputError(f"{root.path}: {steps} steps of {group} samples do not divide a hop of {features.hop_samples}")
    told = manifest.shape("condition", "outputs", "told", 3)[2]
    residual = manifest.shape("steps", "inputs", "past0", 3)[2]
    expected = {
        ("steps", "inputs", "previous"): (1, group),
        ("steps", "inputs", "told"): (1, told),
        ("steps", "inputs", "noise"): (1, steps, group, wavenet.mixture + 1 if wavenet.mixture else noises),
        ("steps", "outputs", "samples"): (1, steps * group),
    }
    for layer, dilation in enumerate(wavenet.dilations):
        taps = len(tap_offsets(dilation, wavenet.kernel, steps))
        expected["steps", "inputs", f"past{layer}"] = (1, taps, residual)
        expected["steps", "outputs", f"present{layer}"] = (1, steps, residual)
    manifest.expect(expected, "the other signatures and its dilations say so")
    return manifest


def _wavenet(group: Fields) -> WavenetShape:
    dilations = group.sequence("dilations")
    if not dilations or not all(type(d) is int and 1 <= d <= 2**20 for d in dilations):
        raise group.fail("dilations", "a list of positive integers")
    return WavenetShape(tuple(dilations), group.integer("kernel", 2, 16), group.integer("mixture", 0, 1000))
