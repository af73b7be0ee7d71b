"""Build the pronunciation file of the speech generator from a dictionary such as CMUdict (`ondevice train lexicon`).

The letter-to-sound model is an n-gram model over graphones. What it does on words it has not seen is measured on a
twentieth of the words, held out by families (care, cares, caring, carer), so that no inflected form gives one away.
"""

import gzip
import io
import re
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.graphones import Graphone, align
from models.ngram import estimate
from ondevice.errors import InputError
from ondevice.files import atomic_bytes
from ondevice.letter_to_sound import BEAM, BOS, END, FIRST, LetterToSound, Phones
from ondevice.lexicon import arrays
from ondevice.lm import NgramLm, Table
from ondevice.phonemes import PHONE_SET

HELD_OUT_PARTS = 20  # one in so many families of words
RAREST_GRAPHONE = 3  # occurrences; words with rarer ones are spelt by no rule
STEP = 1 / 8  # to which log probabilities are rounded: small files, no measurable loss
SOURCE = (
    "CMUdict (Carnegie Mellon Pronouncing Dictionary), github.com/cmusphinx/cmudict; first pronunciation of each word"
)
_SUFFIXES = ("ings", "ing", "ers", "er", "ed", "es", "ly", "s", "e")

# What the verbaliser says and the dictionary lacks, and words whose first pronunciation is not the usual one.
CORRECTIONS: Mapping[str, str] = {
    "a": "AH0", "the": "DH AH0", "o'": "AH0", "'n": "AH0 N", "miz": "M IH1 Z", "zeroth": "Z IH1 R OW0 TH",
    "tau": "T AW1",
    "mademoiselle": "M AE2 D AH0 M AH0 Z EH1 L", "nota": "N OW1 T AH0", "bene": "B EH1 N EY2", "caret": "K EH1 R AH0 T",
    "paise": "P AY1 S AH0", "paisa": "P AY1 S AH0", "sen": "S EH1 N", "hertz": "HH ER1 T S",
    "kilohertz": "K IH1 L AH0 HH ER2 T S", "gigahertz": "G IH1 G AH0 HH ER2 T S", "terahertz": "T EH1 R AH0 HH ER2 T S",
    "centiliter": "S EH1 N T AH0 L IY2 T ER0", "deciliter": "D EH1 S AH0 L IY2 T ER0", "gigabit": "G IH1 G AH0 B IH2 T",
    "megabit": "M EH1 G AH0 B IH2 T", "kilobit": "K IH1 L AH0 B IH2 T", "gigawatt": "G IH1 G AH0 W AA2 T",
    "kilovolt": "K IH1 L AH0 V OW2 L T", "millivolt": "M IH1 L AH0 V OW2 L T", "milliamp": "M IH1 L IY0 AE2 M P",
    "kilohm": "K IH1 L OW2 M", "kilojoule": "K IH1 L AH0 JH UW2 L", "kilonewton": "K IH1 L AH0 N UW2 T AH0 N",
    "kilocalorie": "K IH1 L AH0 K AE2 L ER0 IY0", "kilopascal": "K IH1 L AH0 P AE0 S K AE2 L",
    "august": "AO1 G AH0 S T", "bass": "B EY1 S", "bow": "B OW1", "covid": "K OW1 V IH0 D", "email": "IY1 M EY2 L",
    "emails": "IY1 M EY2 L Z", "invalid": "IH0 N V AE1 L AH0 D", "tears": "T IH1 R Z", "wound": "W UW1 N D",
    "hectopascal": "HH EH1 K T AH0 P AE0 S K AE2 L", "microsecond": "M AY1 K R OW0 S EH2 K AH0 N D",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """How the n-gram model over graphones is estimated."""

    order: int
    min_gain: float = 0.0  # n-grams that gain less are dropped

    def __str__(self) -> str:
        return f"order {self.order}" + (f", gain {self.min_gain:g}" if self.min_gain else "")


SHIPPED = Setting(order=6, min_gain=1.5)
COMPARED = (Setting(4), Setting(5), Setting(6), Setting(6, min_gain=0.5), Setting(6, min_gain=3.0))


def read_dictionary(path: Path) -> dict[str, list[Phones]]:
    """Every word of a-z and apostrophes with its pronunciations, the usual one first.

    Lines are 'word PH OW1 N Z # comment'; further pronunciations are of 'word(2)'. Raises InputError otherwise.
    """
    words: dict[str, list[Phones]] = defaultdict(list)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, *phones = line.split("#")[0].split() or [""]
                if word.startswith(";;;"):  # a comment in older editions
                    continue
                if unknown := set(phones) - PHONE_SET:
                    raise InputError(f"{path}:{number}: {min(unknown)!r} is not a phone of CMUdict with stress")
                word = word.lower().partition("(")[0]
                if phones and re.fullmatch("[a-z']*[a-z][a-z']*", word):
                    words[word].append(tuple(phones))
    except (OSError, UnicodeDecodeError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as a dictionary ({error})") from error
    if not words:
        raise InputError(f"{path}: no words; expected lines such as 'hello HH AH0 L OW1'")
    return dict(words)


def family(word: str) -> str:
    """A stem that inflected forms share: care, cares, cared, caring, carer -> 'car'."""
    word = word.partition("'")[0] or word
    ending = next((e for e in _SUFFIXES if word.endswith(e) and len(word) - len(e) >= 3), "")
    word = word.removesuffix(ending)
    if word.endswith("i"):
        word = word[:-1] + "y"
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def is_held_out(word: str) -> bool:
    """Whether the word is kept for measuring; all of a family are or none."""
    return zlib.crc32(family(word).encode()) % HELD_OUT_PARTS == 0


def train(aligned: Iterable[Sequence[Graphone]], setting: Setting, rarest: int = RAREST_GRAPHONE) -> LetterToSound:
    """The letter-to-sound model of aligned words. Raises InputError when there are too few."""
    sequences = [graphones for graphones in aligned if graphones]
    counts = Counter(graphone for graphones in sequences for graphone in graphones)
    usual = [graphones for graphones in sequences if all(counts[graphone] >= rarest for graphone in graphones)]
    inventory = sorted({graphone for graphones in usual for graphone in graphones})
    if not inventory:
        raise InputError("letter to sound: too few words to learn from")
    ids = {graphone: number for number, graphone in enumerate(inventory, start=FIRST)}
    sentences = [[*(ids[graphone] for graphone in graphones), END] for graphones in usual]
    lm = estimate(sentences, len(inventory) + FIRST, setting.order, bos=BOS, min_gain=setting.min_gain)
    return LetterToSound(_rounded(lm), [letters for letters, _ in inventory], [phones for _, phones in inventory])


def _rounded(lm: NgramLm) -> NgramLm:
    def rounded(values: Any) -> Any:
        return (np.round(values / STEP) * STEP).astype(np.float16)

    tables = [Table(t.contexts, t.starts, rounded(t.backoffs), t.tokens, rounded(t.logprobs)) for t in lm.tables]
    return NgramLm(lm.unigrams, tables, lm.bos)


@dataclass(frozen=True)
class Score:
    """What a model does on held-out words; any of a word's pronunciations is right. Rates in percent."""

    words: int
    wer: float
    wer_without_stress: float
    per: float  # phone errors, stress included, to the nearest pronunciation
    ms_per_word: float

    def __str__(self) -> str:
        return (
            f"WER {self.wer:.1f} %, without stress {self.wer_without_stress:.1f} %, PER {self.per:.2f} %, "
            f"{self.ms_per_word:.1f} ms a word"
        )


def score(model: LetterToSound, words: Mapping[str, Sequence[Phones]], beam: int = BEAM) -> Score:
    """Error rates of `model` on words with their pronunciations. Raises InputError without words."""
    if not words:
        raise InputError("letter to sound: no held-out words; expected a larger dictionary")
    wrong = wrong_bare = errors = phones = 0
    began = time.perf_counter()
    said = {word: model(word, beam) for word in words}
    took = time.perf_counter() - began
    for word, right in words.items():
        wrong += said[word] not in right
        wrong_bare += _bare(said[word]) not in map(_bare, right)
        distance, length = min((edit_distance(said[word], one), len(one)) for one in right)
        errors, phones = errors + distance, phones + length
    count = len(words)
    return Score(count, 100 * wrong / count, 100 * wrong_bare / count, 100 * errors / phones, 1000 * took / count)


def _bare(phones: Phones) -> Phones:
    return tuple(phone.rstrip("012") for phone in phones)


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Least number of insertions, deletions and substitutions between two sequences."""
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


def build(dictionary: Path, licence: str, output: Path, *, compare: bool = True, setting: Setting = SHIPPED) -> Score:
    """Write the pronunciation file, print what the models do on held-out words, return the shipped one's score."""
    words = read_dictionary(dictionary)
    plain = {word: phones for word, phones in words.items() if word.isalpha()}
    held_out = {word: phones for word, phones in plain.items() if is_held_out(word)}
    learned = [(word, phones[0]) for word, phones in plain.items() if word not in held_out]
    print(f"{len(words)} words; {len(learned)} to learn letter to sound from, {len(held_out)} held out")
    began = time.perf_counter()
    aligned = align(learned)
    print(
        f"aligned in {time.perf_counter() - began:.0f} s; {sum(not graphones for graphones in aligned)} words cannot be"
    )
    for other in COMPARED if compare else ():
        model = train(aligned, other)
        print(
            f"{other}: {model.lm.ngrams} n-grams, {_compressed_size(model.arrays()) / 1e6:.2f} MB; "
            f"{score(model, held_out)}"
        )
    model = train(aligned, setting)
    result = score(model, held_out)
    print(f"shipped ({setting}): {model.lm.ngrams} n-grams; {result}")
    lexicon = {word: phones[0] for word, phones in words.items()}
    lexicon.update({word: tuple(phones.split()) for word, phones in CORRECTIONS.items()})
    metadata = {
        "source": SOURCE,
        "licence": licence,
        "words": len(lexicon),
        "letter_to_sound": str(setting),
        "held_out": {
            name: value for name, value in asdict(result).items() if name != "ms_per_word"
        },  # the same file again
        "command": "ondevice train lexicon",
    }
    with atomic_bytes(output) as file:
        np.savez_compressed(file, **arrays(lexicon, model, metadata))
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB, {len(lexicon)} words")
    return result


def _compressed_size(named: Mapping[str, Any]) -> int:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return len(buffer.getvalue())
