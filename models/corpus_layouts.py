"""The corpus layouts that speech data is published in: LibriSpeech, LJSpeech, Common Voice and Kaldi folders.

Each reader yields ("file:line", utterance with its text as written); `models.corpora` chooses the reader.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ondevice.audio import duration_s
from ondevice.errors import InputError

AUDIO_SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class AudioRef:
    """Where an utterance's samples are: a sound file or bytes of a tar archive, whole or a part in time."""

    path: Path
    offset: int | None = None  # first byte of the sound file inside the archive `path`; None: `path` is the file
    length: int = 0  # bytes, with `offset`
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end


@dataclass(frozen=True)
class Utterance:
    """One transcribed recording; `read_corpus` gives `text` normalised (`models.text`), "" for no speech."""

    audio_ref: AudioRef
    text: str
    speaker: str
    seconds: float
    split: str  # one of SPLITS
    corpus: str


Located = Iterator[tuple[str, Utterance]]  # ("file:line", utterance with its raw text)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of the non-empty lines of a UTF-8 file."""
    try:
        with file.open(encoding="utf-8") as opened:
            for number, line in enumerate(opened, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text ({error})") from error


def split_of(name: str) -> str:
    """The split that a name tells: dev-clean -> dev, test_other -> test, anything else train."""
    match = re.search(r"(?<![a-z])(dev|test|valid(?:ation)?|eval)(?![a-z])", name.lower())
    return {"dev": "dev", "valid": "dev", "validation": "dev"}.get(match[1], "test") if match else "train"


def existing(audio: Path, where: str) -> Path:
    if not audio.is_file():
        raise InputError(f"{where}: audio file {audio} is missing")
    return audio


def read_librispeech(folder: Path) -> Located:
    """`<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt`, each line an id and a transcript."""
    for listing in sorted(folder.rglob("*.trans.txt")):
        inside = (folder.name, *listing.relative_to(folder).parts[:-1])
        split = next((found for part in inside if (found := split_of(part)) != "train"), "train")
        for number, line in lines(listing):
            where = f"{listing}:{number}"
            identifier, _, text = line.partition(" ")
            if not text.strip():
                raise InputError(f"{where}: expected an utterance id and its transcript")
            audio = _with_any_suffix(listing.parent / identifier, where)
            speaker = identifier.split("-")[0]
            yield where, Utterance(AudioRef(audio), text, speaker, duration_s(audio), split, folder.name)


def _with_any_suffix(stem: Path, where: str) -> Path:
    for suffix in AUDIO_SUFFIXES:
        if (audio := stem.with_name(stem.name + suffix)).is_file():
            return audio
    raise InputError(f"{where}: no audio file {stem} with one of {', '.join(AUDIO_SUFFIXES)}")


def read_ljspeech(folder: Path) -> Located:
    """`metadata.csv` with `id|text|normalised text`, audio in `wavs/`; the normalised text is taken."""
    listing = folder / "metadata.csv"
    for number, line in lines(listing):
        where = f"{listing}:{number}"
        identifier, *texts = line.split("|")
        if not texts or not texts[-1].strip():
            raise InputError(f"{where}: expected `id|text|normalised text`")
        audio = _with_any_suffix(folder / "wavs" / identifier.removesuffix(".wav"), where)
        yield (
            where,
            Utterance(AudioRef(audio), texts[-1], folder.name, duration_s(audio), "train", folder.name),
        )


def read_common_voice(folder: Path) -> Located:
    """train.tsv, dev.tsv and test.tsv, or validated.tsv (all train) where there are none of them."""
    lists = [folder / f"{split}.tsv" for split in SPLITS if (folder / f"{split}.tsv").is_file()]
    for listing in lists or sorted(folder.glob("validated.tsv")):
        yield from read_tsv(listing)


def read_tsv(listing: Path) -> Located:
    """One list with the columns `path`, `sentence` and perhaps `client_id`; audio in `clips/` beside it."""
    header: list[str] = []
    for number, line in lines(listing):
        where = f"{listing}:{number}"
        cells = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if not header:
            header = cells
            if missing := {"path", "sentence"}.difference(header):
                raise InputError(f"{where}: column {' and '.join(sorted(missing))} is missing from the header")
            continue
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} columns, expected {len(header)}")
        row = dict(zip(header, cells, strict=True))
        name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
        audio = existing(listing.parent / "clips" / name, where)
        speaker = row.get("client_id") or "unknown"
        split = split_of(listing.stem)
        corpus = listing.parent.name
        yield where, Utterance(AudioRef(audio), row["sentence"], speaker, duration_s(audio), split, corpus)


def read_kaldi(folder: Path) -> Located:
    """`text` and `wav.scp`, with `utt2spk`, `segments` and `utt2dur` where there are any."""
    recordings = {key: _plain_path(value, folder, where) for where, key, value in _kaldi_table(folder / "wav.scp")}
    segments = {key: (where, value) for where, key, value in _kaldi_table(folder / "segments", optional=True)}
    speakers = {key: value for _, key, value in _kaldi_table(folder / "utt2spk", optional=True)}
    lengths = {key: (where, value) for where, key, value in _kaldi_table(folder / "utt2dur", optional=True)}
    for where, identifier, text in _kaldi_table(folder / "text", empty_values=True):
        if segments:
            if identifier not in segments:
                raise InputError(f"{where}: utterance {identifier} is not in segments")
            reference = _segment(*segments[identifier], recordings)
        elif identifier in recordings:
            reference = AudioRef(recordings[identifier])
        else:
            raise InputError(f"{where}: utterance {identifier} is not in wav.scp")
        if reference.end_s is not None:
            seconds = reference.end_s - reference.start_s
        elif identifier in lengths:
            seconds = _seconds(lengths[identifier][1], lengths[identifier][0])
        else:
            seconds = duration_s(reference.path) - reference.start_s
        speaker = speakers.get(identifier, "unknown")
        yield where, Utterance(reference, text, speaker, seconds, split_of(folder.name), folder.name)


def _kaldi_table(file: Path, optional: bool = False, empty_values: bool = False) -> Iterator[tuple[str, str, str]]:
    """("file:line", key, value) of a Kaldi table."""
    if optional and not file.exists():
        return
    for number, line in lines(file):
        key, *rest = line.split(maxsplit=1)
        if not rest and not empty_values:
            raise InputError(f"{file}:{number}: expected a key and a value")
        yield f"{file}:{number}", key, rest[0].strip() if rest else ""


def _plain_path(value: str, folder: Path, where: str) -> Path:
    if value.endswith("|") or value.startswith("|"):
        raise InputError(f"{where}: a command pipe; expected a plain path of an audio file (convert it beforehand)")
    if not value.lower().endswith(AUDIO_SUFFIXES):
        raise InputError(f"{where}: {value} is not a plain path of one of {', '.join(AUDIO_SUFFIXES)}")
    candidate = folder / value  # an absolute path replaces the folder
    return existing(candidate if candidate.is_file() else Path(value), where)


def _segment(where: str, value: str, recordings: dict[str, Path]) -> AudioRef:
    fields = value.split()
    if len(fields) != 3:
        raise InputError(f"{where}: expected `utterance recording start end`")
    recording, start_s, end_s = fields[0], _seconds(fields[1], where), _seconds(fields[2], where)
    if recording not in recordings:
        raise InputError(f"{where}: recording {recording} is not in wav.scp")
    if end_s != -1 and end_s <= start_s:
        raise InputError(f"{where}: the segment ends at {end_s} s, before its start at {start_s} s")
    return AudioRef(recordings[recording], start_s=start_s, end_s=None if end_s == -1 else end_s)


def _seconds(value: str, where: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if seconds == -1 or 0 <= seconds < 1e6:  # Kaldi writes -1 for "to the end"
        return seconds
    raise InputError(f"{where}: {value!r} is not a time in seconds")
