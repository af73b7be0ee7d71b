"""The speech generator's symbols: padding, the gap between words, punctuation and ARPAbet phones as in CMUdict."""

from collections.abc import Mapping
from types import MappingProxyType

PADDING, GAP = "_", " "
PUNCTUATION = (",", ".", "!", "?", ";", ":", "-")  # the last is a dash that is heard as a pause
STRENGTHS = {mark: strength for strength, mark in enumerate(",-:;.!?")}  # the stronger of two marks is heard
SENTENCE_ENDS = frozenset(".!?")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
STRESSES = "012"  # none, primary, secondary; written after every vowel
PHONES = (*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in STRESSES))  # 69
SYMBOLS = (PADDING, GAP, *PUNCTUATION, *PHONES)  # 78; what a voice was trained with, in this order
SYMBOL_IDS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
PHONE_SET = frozenset(PHONES)


def is_vowel(phone: str) -> bool:
    """Whether the phone carries stress."""
    return phone[-1] in STRESSES


def _letter_names(text: str) -> Mapping[str, tuple[str, ...]]:
    entries = (entry.split() for entry in text.split(";"))
    return MappingProxyType({letter: tuple(phones) for letter, *phones in entries})


LETTER_NAMES = _letter_names(
    "A EY1; B B IY1; C S IY1; D D IY1; E IY1; F EH1 F; G JH IY1; H EY1 CH; I AY1; J JH EY1; K K EY1; L EH1 L; M EH1 M;"
    "N EH1 N; O OW1; P P IY1; Q K Y UW1; R AA1 R; S EH1 S; T T IY1; U Y UW1; V V IY1; W D AH1 B AH0 L Y UW0;"
    "X EH1 K S; Y W AY1; Z Z IY1"
)
