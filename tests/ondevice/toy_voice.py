"""A tiny voice and vocoder with random weights, for tests of everything around them.

It has learnt nothing: short texts such as "[[AA1]]." end by themselves, longer ones get stuck and are cut.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

_FIRST = {"b": "B", "c": "K", "d": "D", "h": "HH", "m": "M", "p": "P", "r": "R", "s": "S", "t": "T"}
_VOWELS = {"a": "AE1", "e": "EH1", "i": "IH1", "o": "AA1", "u": "AH1"}
_LAST = {"t": "T", "n": "N", "p": "P", "ts": "T S"}
DICTIONARY = "a AH0\nhello HH AH0 L OW1\noh OW1\nthe DH AH0\nthere DH EH1 R\n" + "".join(
    f"{first}{vowel}{last} {_FIRST[first]} {_VOWELS[vowel]} {_LAST[last]}\n"
    for first in _FIRST
    for vowel in _VOWELS
    for last in _LAST
)


def build_toy_voice(root: Path) -> Path:
    """Write the assets `toy-voice` and `toy-vocoder` into `root`; skips where TensorFlow is missing."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    from export.asset import Card
    from export.precision import Wanted
    from export.voice import TrainedVoice, build_vocoder, build_voice
    from models.lexicon import build
    from models.tacotron import TINY, Tacotron
    from models.vocoder import TINY as TINY_VOCODER
    from models.vocoder import Vocoder
    from ondevice.phonemes import SYMBOLS

    root.mkdir(parents=True, exist_ok=True)
    dictionary, pronunciation = root / "toy.dict", root / "pronunciation.npz"
    dictionary.write_text(DICTIONARY, encoding="utf-8")
    build(dictionary, "public domain", pronunciation, compare=False)
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    tacotron = Tacotron(replace(TINY, bands=80, symbols=len(SYMBOLS)))
    tacotron.build()
    tacotron.to_stop.bias.assign([-10.0])  # it lingers at the end of a text instead of stopping at once
    mean, std = np.full(80, -5.0, np.float32), np.full(80, 2.0, np.float32)
    neutral = rng.normal(size=tacotron.config.style.width).astype(np.float32)
    trained = TrainedVoice(tacotron, mean, std, neutral, pronunciation, os.fspath(root / "toy-vocoder"))
    mel = rng.normal(size=(20, 80)).astype(np.float32)
    build_voice(
        trained, root / "toy-voice", Card("toy-voice", "random", "Apache-2.0"), Wanted("float32"), ([11, 12, 3], mel)
    )
    vocoder = Vocoder(replace(TINY_VOCODER, bands=80, fft=1024, hop=256))
    vocoder.build()
    vocoder.head.bias.assign(np.full(2 * vocoder.config.bins, 1.5, np.float32))  # loud enough for 16 bits
    build_vocoder(
        vocoder, root / "toy-vocoder", Card("toy-vocoder", "random", "Apache-2.0"), Wanted("float32"), mel * 2 - 5
    )
    return root / "toy-voice"
