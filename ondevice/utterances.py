"""Labelled recordings: JSONL manifests with sound files or tar archives beside them."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice.audio import RATE_HZ, Samples, decode_audio, read_audio
from ondevice.errors import InputError


@dataclass(frozen=True)
class Utterance:
    """One labelled recording: a sound file, or a member of an uncompressed tar archive."""

    name: str  # of the sound file, as the manifest has it
    path: Path  # the sound file or the archive
    text: str  # as written; empty where nobody speaks
    corpus: str
    where: str = ""  # "manifest:line"
    speaker: str | None = None
    member_bytes: tuple[int, int] | None = None  # first byte and length inside the archive

    def samples(self, rate_hz: int = RATE_HZ) -> Samples:
        """Mono float32[n] in -1..1. Raises InputError if the audio cannot be decoded."""
        if self.member_bytes is None:
            return read_audio(self.path, rate_hz)
        return read_member(self.path, self.member_bytes, self.name, rate_hz)


def read_utterances(
    manifests: Iterable[str | os.PathLike[str]], split: str | None = None, limit: int | None = None
) -> list[Utterance]:
    """The utterances of JSONL manifests or of folders with a manifest.jsonl; the first `limit` of each.

    A line is an object with `file` (or `audio_filepath`, `audio`: relative to the manifest), `text` (null: nobody
    speaks), and perhaps `tar` (uncompressed archive that holds the file), `speaker` and `split`. `split` keeps those
    of one split and those that name none. Raises InputError naming file and line for a broken line or missing audio.
    """
    found: list[Utterance] = []
    for manifest in map(Path, manifests):
        file = manifest / "manifest.jsonl" if manifest.is_dir() else manifest
        corpus = file.resolve().parent.name if file.name == "manifest.jsonl" else file.stem
        if any(utterance.corpus == corpus for utterance in found):
            corpus = str(manifest)
        found += _read_manifest(file, corpus, split, limit)
    return found


def _read_manifest(manifest: Path, corpus: str, split: str | None, limit: int | None) -> list[Utterance]:
    utterances: list[Utterance] = []
    archives: dict[Path, dict[str, tuple[int, int]]] = {}
    splits: Counter[str] = Counter()
    for where, row in _rows(manifest):
        name, text = _text_of(row, ("file", "audio_filepath", "audio"), where), row.get("text", row)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: `text` is {'missing' if text is row else repr(text)}; expected text or null")
        if row.get("offset"):
            raise InputError(f"{where}: a part of a recording (`offset`); expected whole files, cut it out beforehand")
        its_split = str(row.get("split") or "")
        splits[its_split] += 1
        if (split and its_split and its_split != split) or (limit is not None and len(utterances) >= limit):
            continue
        path, member = _locate(manifest.parent, name, row, where, archives)
        speaker = str(row["speaker"]) if row.get("speaker") not in (None, "", "unknown") else None
        utterances.append(Utterance(name, path, text or "", corpus, where, speaker, member))
    if not splits:
        raise InputError(f"{manifest}: no utterances in it; expected one JSON object a line")
    if not utterances and limit != 0:
        there = ", ".join(f"{name} ({count})" for name, count in sorted(splits.items()))
        raise InputError(f"{manifest}: no utterances of the split {split!r}; it has {there}")
    return utterances


def _rows(manifest: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of every line that is not empty."""
    try:
        with manifest.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{manifest}:{number}", _row(line, f"{manifest}:{number}")
    except FileNotFoundError:
        raise InputError(
            f"{manifest}: no such manifest; expected a JSONL file or a folder with manifest.jsonl"
        ) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{manifest}: cannot be read as UTF-8 text ({error}); expected a JSONL manifest") from None


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); expected one object a line") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON {type(row).__name__}; expected one object a line")
    return row


def _text_of(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The first of `names` that the row has, which must be text and not empty."""
    value = next((row[name] for name in names if name in row), None)
    if not isinstance(value, str) or not value:
        raise InputError(
            f"{where}: `{names[0]}` is {'missing' if value is None else repr(value)}; expected a file name"
        )
    return value


def _locate(
    folder: Path, name: str, row: Mapping[str, Any], where: str, archives: dict[Path, dict[str, tuple[int, int]]]
) -> tuple[Path, tuple[int, int] | None]:
    """(sound file, None) or (archive, place in it) of a row."""
    if row.get("tar") is None:
        if not (folder / name).is_file():
            raise InputError(f"{where}: audio file {folder / name} is missing")
        return folder / name, None
    archive = folder / _text_of(row, ("tar",), where)
    if archive not in archives:
        try:
            archives[archive] = tar_members(archive)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    if name not in archives[archive]:
        raise InputError(f"{where}: {name} is not in the archive {archive}")
    return archive, archives[archive][name]


def tar_members(archive: Path) -> dict[str, tuple[int, int]]:
    """Name -> (first byte, length) of the files in an uncompressed tar archive: one seek reads a member later.

    Raises InputError if it is no such archive.
    """
    try:
        with tarfile.open(archive, "r:") as opened:
            return {member.name: (member.offset_data, member.size) for member in opened if member.isfile()}
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"{archive} is not a readable uncompressed tar archive ({error})") from None


def read_member(archive: Path, place: tuple[int, int], name: str, rate_hz: int) -> Samples:
    """A sound file in an archive, decoded as `read_audio` does and with the same checks."""
    try:
        with archive.open("rb") as opened:
            opened.seek(place[0])
            content = opened.read(place[1])
        return decode_audio(content, f"{archive}:{name}", rate_hz)
    except OSError as error:
        raise InputError(f"{archive}:{name} cannot be read ({error.strerror or error})") from None
