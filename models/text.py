"""Text for training: normalisation to the model's alphabet, sentences of books, and the held-out exclusion.

The alphabet is what read-speech corpora transcribe: a-z, apostrophe and single spaces. Audio corpora often
record books, so text from books must lose what a development or test recording reads: `held_out_filter`.
"""

import json
import lzma
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.numbers import cardinal, ordinal, roman_value, spell_numbers
from ondevice.errors import InputError

ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz' ")
NGRAM_WORDS = 6  # a sentence sharing six words in a row with a held-out transcript is taken to be from the same page
LONGEST_SENTENCE_WORDS = 60  # about 25 s of reading, longer than any training utterance
HELD_OUT_SPLITS = ("dev", "test")

_SPELLED = {  # as LibriSpeech transcribes them
    "mr": "mister",
    "mrs": "missus",
    "messrs": "messieurs",
    "dr": "doctor",
    "st": "saint",
    "rev": "reverend",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "lieut": "lieutenant",
    "lt": "lieutenant",
    "sergt": "sergeant",
    "esq": "esquire",
    "hon": "honorable",
    "prof": "professor",
    "gov": "governor",
    "mt": "mount",
    "jr": "junior",
    "sr": "senior",
    "etc": "et cetera",
    "vol": "volume",
    "viz": "namely",
}
_ABBREVIATION = re.compile(r"\b(" + "|".join(_SPELLED) + r")\.", re.IGNORECASE)
_BARE_TITLE = re.compile(r"\b(mr|mrs|dr)\b(?!\.)", re.IGNORECASE)
_NUMBERED = re.compile(r"\b(no|nos)\.\s*(?=[0-9])", re.IGNORECASE)
_HEADED_ROMAN = re.compile(r"\b(chapter|book|part|volume|act|scene|canto|stave)\s+([ivxlc]+)\b", re.IGNORECASE)
_REGNAL = re.compile(
    r"\b(Louis|Henry|Charles|George|James|Edward|William|Richard|Philip|Napoleon|Pope \w+)"
    r"\s+([IVX]{2,}|V|X)\b"
)
_KEPT_LEADING = (
    "'tis",
    "'twas",
    "'twere",
    "'twill",
    "'twould",
    "'em",
    "'til",
    "'un",
    "'ud",
    "'im",
    "'ee",
    "'cause",
)
_TRANSLATION = str.maketrans(
    {
        **dict.fromkeys("‘’´`′ʼ", "'"),
        **dict.fromkeys("“”«»″", '"'),
        **dict.fromkeys("—–―‐‑‒-/", " "),
        **dict.fromkeys("\u00a0\u2009\u202f\t\r\n", " "),
        "…": ". ",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "ß": "ss",
        "&": " and ",
    }
)
_DROPPED = re.compile(r"[.,;:!?\"()_¡¿]+")
_SPACES = re.compile(r" {2,}")


def normalize(text: str) -> str | None:
    """`text` in the training alphabet, or None where a reader's words cannot be told from the letters.

    Lower case a-z, apostrophes inside (and a few before or after) words, single spaces, no space at the ends;
    never empty. Titles and numbers are spelled out. None: foreign scripts, symbols, markup, huge numbers.
    """
    text = _decompose(text).replace(" n't", "n't")  # some editions print contractions apart
    text = _NUMBERED.sub("number ", text)
    text = _ABBREVIATION.sub(lambda found: f"{_SPELLED[found[1].lower()]} ", text)
    text = _BARE_TITLE.sub(lambda found: _SPELLED[found[1].lower()], text)
    text = _HEADED_ROMAN.sub(_say_heading, text)
    text = _REGNAL.sub(_say_regnal, text)
    text = _DROPPED.sub(" ", spell_numbers(text)).lower()
    line = " ".join(_without_quotes(text.split()))
    return line if line and ALPHABET.issuperset(line) else None


def _decompose(text: str) -> str:
    """`text` with typographic characters as plain ones and accents removed (ö -> o)."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_TRANSLATION))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).translate(_TRANSLATION)


def _say_heading(found: re.Match[str]) -> str:
    value = roman_value(found[2])
    return found[0] if value is None else f"{found[1]} {cardinal(value)}"


def _say_regnal(found: re.Match[str]) -> str:
    value = roman_value(found[2])
    return found[0] if value is None else f"{found[1]} the {ordinal(value)}"


def _without_quotes(words: list[str]) -> Iterator[str]:
    """`words` without single quotation marks; the apostrophes of 'tis, 'em, o' and plural possessives stay."""
    quoted = False
    for word in words:
        bare = word.strip("'")
        if not bare:
            continue
        leading = "'" if word.startswith("'") and f"'{bare}" in _KEPT_LEADING else ""
        quoted |= word.startswith("'") and not leading
        # A closing quotation mark after s looks like a plural possessive: it is one where no quotation is open.
        possessive = re.search(r"[^s]s'$", word) and not quoted
        yield leading + bare + ("'" if possessive or word == "o'" else "")
        quoted &= not word.endswith("'")


# Sentence ends: . ! ? with closing quotes or brackets, then a space, then what can begin a sentence.
_END = re.compile(r"""(?:[.!?…]+["'”’)\]]*)(?=\s+["'“‘(\[_]*[A-Z0-9])""")
_NOT_AN_END = re.compile(
    r"\b(?:" + "|".join([*_SPELLED, "no", "nos", "[a-z]", "i\\.e", "e\\.g"]) + r")\.$", re.IGNORECASE
)
_REAL_SHORT_END = re.compile(r"\b(?:etc|esq|jr|I)\.$")
_CLAUSE = re.compile(r"(?<=[;:])\s+|--+|—")


def sentences(paragraph: str) -> Iterator[str]:
    """The sentences of one paragraph in order, as written; titles and initials ("Mr. J. Bell") end none."""
    start = 0
    for found in _END.finditer(paragraph):
        head = paragraph[start : found.end()].rstrip("\"'”’)]")
        if head.endswith(".") and _NOT_AN_END.search(head) and not _REAL_SHORT_END.search(head):
            continue
        yield paragraph[start : found.end()].strip()
        start = found.end()
    if tail := paragraph[start:].strip():
        yield tail


def book_sentences(path: Path) -> Iterator[tuple[str, str]]:
    """(as written, normalised) sentences of a book (.txt or .txt.xz, a paragraph a line), odd ones left out.

    Sentences longer than LONGEST_SENTENCE_WORDS are cut at semicolons, colons and dashes, or left out.
    """
    for paragraph in read_lines(path):
        if paragraph.startswith("=") or not any(letter.islower() for letter in paragraph):
            continue  # titles of books and chapters
        for sentence in sentences(paragraph):
            for part in _short_parts(sentence):
                normal = normalize(part)
                if normal is not None and _looks_english(normal):
                    yield part, normal


def _short_parts(sentence: str) -> list[str]:
    if sentence.count(" ") < LONGEST_SENTENCE_WORDS:
        return [sentence]
    parts: list[str] = [""]
    for clause in _CLAUSE.split(sentence):
        if parts[-1] and (parts[-1] + clause).count(" ") > LONGEST_SENTENCE_WORDS // 2:
            parts.append("")
        parts[-1] = f"{parts[-1]} {clause}".strip()
    return [part for part in parts if part and part.count(" ") < LONGEST_SENTENCE_WORDS]


def _looks_english(normal: str) -> bool:
    """False for tables and broken words: too many words of one letter, or a word too long to be one."""
    words = normal.split()
    single = sum(len(word) == 1 and word not in "aio" for word in words)
    return single <= len(words) // 6 and max(map(len, words)) <= 20


def read_lines(path: Path) -> Iterator[str]:
    """Non-empty lines of a UTF-8 text file, plain or .xz. Raises InputError when it cannot be read."""
    try:
        opener = lzma.open if path.suffix == ".xz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            yield from (line for raw in file if (line := raw.strip()))
    except (OSError, lzma.LZMAError, UnicodeDecodeError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error


class HeldOutFilter:
    """Tells whether a normalised sentence overlaps a held-out transcript.

    It does when both share `ngram` words in a row, or when it is shorter and equals a whole transcript.
    """

    def __init__(self, transcripts: Iterable[str], ngram: int = NGRAM_WORDS) -> None:
        self.ngram = ngram
        self._ngrams: set[tuple[str, ...]] = set()
        self._short: set[tuple[str, ...]] = set()
        for transcript in transcripts:
            words = tuple(_plain_words(transcript))
            if len(words) < ngram:
                self._short.add(words)
            self._ngrams.update(self._windows(words))

    def _windows(self, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        return (words[start : start + self.ngram] for start in range(len(words) - self.ngram + 1))

    def overlaps(self, sentence: str) -> bool:
        """True when training on `sentence` (normalised) would show the model held-out text."""
        words = tuple(_plain_words(sentence))
        return words in self._short or any(window in self._ngrams for window in self._windows(words))


def _plain_words(text: str) -> list[str]:
    """Words without apostrophes, so that two spellings of one reading (tis, 'tis) count as the same."""
    return text.replace("'", "").split()


def held_out_filter(manifests: Iterable[Path], splits: tuple[str, ...] = HELD_OUT_SPLITS) -> HeldOutFilter:
    """The filter for every transcript of `splits` in JSONL manifests (rows with `text` and `split`).

    Raises InputError for a manifest that is missing or has a broken line.
    """
    return HeldOutFilter(text for text, split in _manifest_texts(manifests) if split in splits)


def training_transcripts(manifests: Iterable[Path], split: str = "train") -> Iterator[str]:
    """Normalised transcripts of one split of JSONL manifests in order; unreadable ones are left out."""
    return (text for text, its_split in _manifest_texts(manifests) if its_split == split)


def _manifest_texts(manifests: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for manifest in manifests:
        for number, line in enumerate(read_lines(manifest), start=1):
            try:
                row = json.loads(line)
                text, split = str(row["text"]), str(row["split"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{manifest}:{number}: expected a JSON object with `text` and `split` ({error})"
                ) from error
            if normal := normalize(text):
                yield normal, split


def clean_books(path: Path, held_out: HeldOutFilter) -> Iterator[str]:
    """Normalised sentences of a book file that share nothing with the held-out transcripts."""
    return (normal for _, normal in book_sentences(path) if not held_out.overlaps(normal))
