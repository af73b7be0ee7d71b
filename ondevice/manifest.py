"""Manifests of model assets: read by task, every field typed, ranged and checked against the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice.errors import InputError
from ondevice.manifest_base import (
    MANIFEST,
    Fields,
    Manifest,
    common_fields,
    is_finite,
)
from ondevice.voice_manifest import parse_vocoder, parse_voice

FORMAT = 1
LM_FILE = "lm.npz"
LEXICON_FILE = "lexicon.npz"
VAD_FILE = "vad.npz"
PIECES_FILE = "pieces.model"  # for a training that starts here

# Decoding defaults a manifest may set: (lowest, highest) value allowed.
SEARCH_RANGES: dict[str, tuple[float, float]] = {
    "beam": (1, 64),
    "max_symbols": (1, 20),
    "lm_weight": (0.0, 5.0),
    "ilm_weight": (0.0, 5.0),
    "length_bonus": (-10.0, 10.0),
    "prune_margin": (0.1, 1000.0),
    "blank_skip": (0.5, 1.0),
    "emission_delay_s": (0.0, 2.0),
}
# Settings of the second pass, which an asset with a lexicon has.
SECOND_PASS_RANGES: dict[str, tuple[float, float]] = {
    "beam": (1, 1000),
    "margin": (0.1, 1000.0),
    "phone_margin": (0.1, 1000.0),
    "lm_weight": (0.0, 5.0),
    "word_bonus": (-10.0, 10.0),
    "transducer_weight": (0.0, 5.0),
    "proposals": (1, 100),
    "crossings": (0, 10),
    "silence_margin": (0.0, 100.0),
}
_WHOLE = ("beam", "max_symbols", "proposals", "crossings")


@dataclass(frozen=True)
class TranscribeManifest(Manifest):
    """A recogniser's description."""

    does = "transcribe"
    frames_per_step: int  # stacked frames an encoder step takes
    tokens: tuple[str, ...]  # SentencePiece pieces by id
    blank: int
    search: Mapping[str, float]  # decoding defaults, keys of SEARCH_RANGES
    second_pass: Mapping[str, float]  # keys of SECOND_PASS_RANGES

    @property
    def lm_path(self) -> Path | None:
        """The language model for shallow fusion, if the asset has one."""
        return self.directory / LM_FILE if LM_FILE in self.files else None

    @property
    def lexicon_path(self) -> Path | None:
        """How words sound, if the asset has a second pass."""
        return self.directory / LEXICON_FILE if LEXICON_FILE in self.files else None

    @property
    def vad_path(self) -> Path | None:
        """Who speaks and who only makes noise, if the asset can tell."""
        return self.directory / VAD_FILE if VAD_FILE in self.files else None

    @property
    def step_frames(self) -> int:
        """Log-mel frames (one hop each) an encoder step consumes: 6."""
        return self.frames_per_step * self.features.stack

    @property
    def step_samples(self) -> int:
        """Samples an encoder step consumes: 960."""
        return self.step_frames * self.features.hop_samples

    @property
    def step_s(self) -> float:
        """Seconds of audio an encoder step consumes: 0.06."""
        return self.step_samples / self.features.rate_hz


def parse_manifest(directory: Path, value: Any) -> Manifest:
    """Check the JSON value of `directory`'s manifest; InputError names the first field that is wrong."""
    root = Fields(directory / MANIFEST, value)
    if root.values.get("format") != FORMAT:
        raise root.fail("format", f"{FORMAT} (the version this release reads)")
    task = root.text("task")
    if task not in PARSERS:
        raise root.fail("task", f"one of {', '.join(PARSERS)}")
    return PARSERS[task](root)


def _parse_recogniser(root: Fields) -> TranscribeManifest:
    common = common_fields(root)
    tokens = _tokens(root)
    manifest = TranscribeManifest(
        **common,
        frames_per_step=root.integer("frames_per_step", 1, 100),
        tokens=tokens,
        blank=root.integer("blank", 0, len(tokens) - 1),
        search=_settings(root.child("search", optional=True), SEARCH_RANGES),
        second_pass=_settings(root.child("second_pass", optional=True), SECOND_PASS_RANGES),
    )
    _check_shapes(manifest)
    return manifest


def _tokens(root: Fields) -> tuple[str, ...]:
    tokens = root.sequence("tokens")
    if len(tokens) < 2 or not all(isinstance(t, str) and t for t in tokens) or len(set(tokens)) < len(tokens):
        raise root.fail("tokens", "a list of at least two different non-empty strings")
    return tuple(tokens)


def _settings(group: Fields, ranges: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    for key, value in group.values.items():
        if key not in ranges:
            raise InputError(f"{group.path}: unknown field {group.prefix + key!r}; known: {', '.join(ranges)}")
        low, high = ranges[key]
        whole = key in _WHOLE
        if not is_finite(value) or not low <= value <= high or (whole and type(value) is not int):
            raise group.fail(key, f"{'an integer' if whole else 'a number'} from {low} to {high}")
    return dict(group.values)


def _check_shapes(manifest: TranscribeManifest) -> None:
    """The transducer's signatures must fit each other, the features and the tokens."""
    taken = (1, manifest.frames_per_step, manifest.features.stacked_width)
    expected = {
        ("encoder", "inputs", "features"): taken,
        ("predictor", "inputs", "token"): (1,),
        ("joiner", "outputs", "logits"): (1, len(manifest.tokens)),
    }
    manifest.expect(expected, "features and tokens say so")
    for name, source in (("encoded", "encoder"), ("predicted", "predictor")):
        made = manifest.shape(source, "outputs", name)
        manifest.expect({("joiner", "inputs", name): made}, f"what the {source} makes")
    if manifest.lexicon_path:
        if not manifest.lm_path:
            raise InputError(f"{manifest.directory / MANIFEST}: a {LEXICON_FILE} needs a {LM_FILE} of words beside it")
        symbols = manifest.shape("encoder", "outputs", "phones", rank=3)[-1]
        heard = (1, manifest.frames_per_step, symbols)
        manifest.expect({("encoder", "outputs", "phones"): heard}, "one row for each stacked frame")


PARSERS = {"transcribe": _parse_recogniser, "speak": parse_voice, "vocode": parse_vocoder}
TASKS = tuple(PARSERS)
