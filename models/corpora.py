"""Speech corpora as one stream of utterances, whatever the layout they are published in.

Known layouts: JSONL manifests (audio in files or tar archives), LibriSpeech (`*.trans.txt` beside the audio),
LJSpeech (`metadata.csv`), Common Voice (`train.tsv`, `clips/`) and Kaldi folders (`wav.scp`, `text`).
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.corpus_layouts import (
    SPLITS,
    AudioRef,
    Located,
    Utterance,
    existing,
    lines,
    read_common_voice,
    read_kaldi,
    read_librispeech,
    read_ljspeech,
    read_tsv,
)
from models.text import normalize
from ondevice.audio import RATE_HZ, duration_s, read_audio
from ondevice.errors import InputError
from ondevice.utterances import read_member, tar_members

Reader = Callable[[Path], Located]
_log = logging.getLogger(__name__)


def fingerprint(*settings: object, utterances: Iterable[Utterance]) -> str:
    """Eight letters that change when settings do, or a text, speaker, place or file size of the recordings."""
    rows = list(utterances)
    sizes = {os.fspath(path): path.stat().st_size for path in sorted({u.audio_ref.path.resolve() for u in rows})}
    found = hashlib.sha256(json.dumps([*settings, sizes], default=str).encode())
    for utterance in rows:
        found.update(repr(utterance).encode())
    return found.hexdigest()[:8]


def read_corpus(path: Path | str, split: str | None = None) -> Iterator[Utterance]:
    """The utterances of a corpus in the order of its lists, all of them or those of one split.

    `path` is a manifest file or a folder in one of the known layouts. Lines whose text cannot be put into the
    training alphabet are left out and counted in a log message. Raises InputError, naming file and line, when
    the layout is not known, a list is broken, or audio is missing.
    """
    path = Path(path)
    if split is not None and split not in SPLITS:
        raise InputError(f"split {split!r} is not known; expected one of {', '.join(SPLITS)}")
    reader = _sniff(path)
    refused = found = 0
    for where, utterance in reader(path):
        found += 1
        if split not in (None, utterance.split):
            continue
        text = normalize(utterance.text) if utterance.text else ""
        if text is None:
            _log.debug("%s: left out, cannot be normalised: %r", where, utterance.text)
            refused += 1
            continue
        yield Utterance(**{**vars(utterance), "text": text})
    if not found:
        raise InputError(f"{path}: no utterances in it")
    if refused:
        _log.warning("%s: %d of %d transcripts left out (foreign letters or symbols)", path, refused, found)


def _sniff(path: Path) -> Reader:
    """The reader for the layout found at `path`."""
    if not path.exists():
        raise InputError(f"{path}: no such corpus; expected a manifest file or a corpus folder")
    if path.is_file():
        by_suffix: dict[str, Reader] = {".jsonl": _read_jsonl, ".json": _read_jsonl, ".tsv": read_tsv}
        if path.suffix in by_suffix:
            return by_suffix[path.suffix]
        if path.name == "metadata.csv":
            return lambda file: read_ljspeech(file.parent)
        raise InputError(f"{path}: not a known list; expected .jsonl, .tsv or metadata.csv")
    if (path / "manifest.jsonl").is_file():
        return lambda folder: _read_jsonl(folder / "manifest.jsonl")
    if (path / "wav.scp").is_file():
        return read_kaldi
    if (path / "metadata.csv").is_file():
        return read_ljspeech
    if (path / "clips").is_dir() and any(path.glob("*.tsv")):
        return read_common_voice
    if next(path.rglob("*.trans.txt"), None):
        return read_librispeech
    raise InputError(
        f"{path}: no known corpus layout; expected manifest.jsonl, wav.scp, metadata.csv, "
        "clips/ with .tsv files, or LibriSpeech's *.trans.txt"
    )


def _read_jsonl(file: Path) -> Located:
    """Rows with `text`, an audio path in `file` (or `audio_filepath`), and perhaps `tar`, `seconds` (or
    `duration`), `speaker`, `split`; paths are relative to the manifest."""
    archives: dict[str, dict[str, tuple[int, int]]] = {}
    for number, line in lines(file):
        where = f"{file}:{number}"
        row = _json_object(line, where)
        name = _field(row, ("file", "audio_filepath", "audio"), str, where)
        if (tar := _field(row, ("tar",), str, where, optional=True)) is not None:
            if tar not in archives:
                archives[tar] = _members(file.parent / tar, where)
            if name not in archives[tar]:
                raise InputError(f"{where}: {name} is not in the archive {tar}")
            reference = AudioRef(file.parent / tar, *archives[tar][name])
        else:
            reference = AudioRef(existing(file.parent / name, where))
        seconds = _field(row, ("seconds", "duration"), float, where, optional=tar is None)
        yield (
            where,
            Utterance(
                reference,
                _field(row, ("text",), str, where, optional="text" in row) or "",  # null: nobody speaks
                str(row.get("speaker") or "unknown"),
                duration_s(reference.path) if seconds is None else seconds,
                _known_split(str(row.get("split", "train")), where),
                file.parent.name if file.name == "manifest.jsonl" else file.stem,
            ),
        )


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _field(row: dict[str, Any], names: tuple[str, ...], kind: type, where: str, optional: bool = False) -> Any:
    """The first of `names` that the row has, checked to be text or a positive number of seconds."""
    value = next((row[name] for name in names if name in row), None)
    if value is None:
        if optional:
            return None
        raise InputError(f"{where}: `{names[0]}` is missing")
    if kind is str and isinstance(value, str):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6:
        return float(value)
    expected = "text" if kind is str else "a positive number of seconds"
    raise InputError(f"{where}: `{names[0]}` is {value!r}, expected {expected}")


def _known_split(split: str, where: str) -> str:
    if split not in SPLITS:
        raise InputError(f"{where}: `split` is {split!r}, expected one of {', '.join(SPLITS)}")
    return split


def _members(archive: Path, where: str) -> dict[str, tuple[int, int]]:
    try:
        return tar_members(archive)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def load_audio(utterance: Utterance) -> np.ndarray:
    """The utterance's samples: mono float32 [n] at 16 kHz in [-1, 1].

    Raises InputError when they cannot be decoded or the utterance lies beyond the recording's end.
    """
    reference = utterance.audio_ref
    if reference.offset is None:
        samples = read_audio(reference.path)
    else:
        samples = read_member(reference.path, (reference.offset, reference.length), f"byte {reference.offset}", RATE_HZ)
    start = round(reference.start_s * RATE_HZ)
    end = None if reference.end_s is None else round(reference.end_s * RATE_HZ)
    if start >= len(samples):
        heard_s = len(samples) / RATE_HZ
        raise InputError(f"{reference.path}: has {heard_s:.2f} s, but a segment begins at {reference.start_s} s")
    return samples[start:end] if start or end is not None else samples
