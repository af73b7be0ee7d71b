"""Utterances as text, JSON or subtitles.

`render` gives a whole recording, `Writer` an utterance as soon as it ends. Utterances without text are left out.

    text   one line per utterance
    json   `render`: one object; `Writer`: one line per utterance, each an object as in `segments`
    srt    SubRip subtitles
    vtt    WebVTT subtitles

The JSON object of a recording; times and durations in seconds from its beginning, confidences 0..1:

    {"file": "talk.wav",                                    only where a name was given
     "model": "rnnt", "duration": 12.48, "text": "all utterances with spaces between them",
     "segments": [{"start": 0.42, "end": 2.1, "text": "one utterance", "confidence": 0.93,
                   "words": [{"word": "one", "start": 0.42, "end": 0.66, "confidence": 0.97}, ...],
                   "n_best": [{"text": "one utterance", "score": -3.2}, ...]}, ...]}

`n_best` holds the readings asked for, best first; scores are natural logs, comparable within one segment. Keys may
be added, never renamed or removed.

Subtitle cues hold up to two lines of 42 characters and 7 seconds, the common guidelines for reading on a screen.
They never overlap, and each lasts a millisecond at least.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ondevice.errors import InputError
from ondevice.results import Result, Word

FORMATS = {"text": "txt", "json": "json", "srt": "srt", "vtt": "vtt"}  # name -> extension of its files

LINE_CHARACTERS = 42
LONGEST_CUE_S = 7.0
_SHORTEST_CUE_S = 1.0  # where nothing follows so soon
_LINGER_S = 0.5  # a cue stays a little: a transducer's words end early, and the eye is slower than the ear
_LONGEST_PAUSE_S = 1.5  # what is said after it is not shown before it


def parse_formats(names: str, option: str = "--format") -> tuple[str, ...]:
    """Formats of a comma-separated list, each once; `txt` means text. Raises InputError for others or none."""
    formats = []
    for name in names.split(","):
        known = {**{name: name for name in FORMATS}, "txt": "text"}.get(name.strip().lower())
        if known is None:
            raise InputError(f"{option} {names}: {name.strip()!r} is not known; expected txt, json, srt or vtt")
        formats.append(known)
    return tuple(dict.fromkeys(formats))


def render(results: Iterable[Result], format: str, *, model: str, duration_s: float, file: str | None = None) -> str:
    """A whole recording in one of `FORMATS`, JSON on one line. Raises InputError for another format."""
    if format == "json":
        return json.dumps(_recording(results, model, duration_s, file), ensure_ascii=False) + "\n"
    out = io.StringIO()
    writer = Writer(out, format)
    for result in results:
        writer.write(result)
    return out.getvalue()


class Writer:
    """Writes utterance by utterance to a text stream, in one of `FORMATS`."""

    def __init__(self, out: TextIO, format: str) -> None:
        """Begin the output. Raises InputError for an unknown format."""
        (self._format,) = parse_formats(format, "format")
        self._out = out
        self._cues, self._end_ms = 0, 0  # written so far; where the last of them ends
        if self._format == "vtt":
            out.write("WEBVTT\n")

    def write(self, result: Result) -> None:
        """Write one utterance and flush, so that a reader sees it at once."""
        if not result.text.strip():
            return
        if self._format == "text":
            self._out.write(_one_line(result.text) + "\n")
        elif self._format == "json":
            self._out.write(json.dumps(_segment(result), ensure_ascii=False) + "\n")
        else:
            for cue in split_cues(result, self._end_ms):
                self._write_cue(cue)
        self._out.flush()

    def close(self) -> None:
        """Nothing more comes; the stream stays open."""
        self._out.flush()

    def _write_cue(self, cue: Cue) -> None:
        self._cues += 1
        self._end_ms = cue.end_ms
        text = "\n".join(cue.lines)
        if self._format == "srt":
            times = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
            self._out.write(f"{self._cues}\n{times}\n{text}\n\n")
        else:
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            self._out.write(f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{text}\n")


@dataclass(frozen=True)
class Cue:
    """Lines of text and when they are shown."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def split_cues(result: Result, earliest_ms: int = 0) -> list[Cue]:
    """The cues of one utterance in order, none before `earliest_ms`."""
    words = [word for word in result.words if word.text.strip()]
    groups = _grouped(words)
    cues: list[Cue] = []
    for number, group in enumerate(groups):
        following_s = groups[number + 1][0].start_s if number + 1 < len(groups) else result.end_s
        start_s, end_s = group[0].start_s, group[-1].end_s
        wanted_s = min(max(end_s + _LINGER_S, start_s + _SHORTEST_CUE_S), max(following_s, end_s))
        start_ms = max(round(1000 * start_s), earliest_ms)
        longest_ms = start_ms + round(1000 * LONGEST_CUE_S)
        earliest_ms = min(max(round(1000 * wanted_s), start_ms + 1), longest_ms)
        cues.append(Cue(start_ms, earliest_ms, _lines([word.text for word in group]) or ()))
    return cues


def _grouped(words: Sequence[Word]) -> list[Sequence[Word]]:
    """The words of each cue: of all ways to cut, the one with few, evenly filled cues and cuts at pauses."""
    costs, begins = [0.0], [0]  # of the best cut of the first n words, and where its last cue begins
    for stop in range(1, len(words) + 1):
        best = (float("inf"), stop - 1)
        for start in range(stop - 1, -1, -1):
            if start < stop - 1 and not _fit(words[start:stop]):
                break
            characters = len(" ".join(word.text for word in words[start:stop]))
            empty = max(0.0, 1 - characters / (2 * LINE_CHARACTERS))
            pause_s = words[start].start_s - words[start - 1].end_s if start else 0.0
            best = min(best, (costs[start] + 1 + empty**2 - min(max(pause_s, 0.0), 1.0), start))
        costs.append(best[0])
        begins.append(best[1])
    groups: list[Sequence[Word]] = []
    stop = len(words)
    while stop:
        groups.append(words[begins[stop] : stop])
        stop = begins[stop]
    return groups[::-1]


def _fit(words: Sequence[Word]) -> bool:
    """Whether two words or more make one cue. If not, neither do more words before them."""
    if words[-1].end_s - words[0].start_s > LONGEST_CUE_S or words[1].start_s - words[0].end_s > _LONGEST_PAUSE_S:
        return False
    return _lines([word.text for word in words]) is not None


def _lines(words: Sequence[str]) -> tuple[str, ...] | None:
    """One line, or two of even length; None if they need more. A word alone always fits."""
    words = [_one_line(word) for word in words]
    whole = " ".join(words)
    if len(whole) <= LINE_CHARACTERS or len(words) == 1:
        return (whole,)
    if len(whole) > 2 * LINE_CHARACTERS + 1:
        return None
    pairs = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    pair = min(pairs, key=lambda pair: max(map(len, pair)))
    return pair if max(map(len, pair)) <= LINE_CHARACTERS else None


def _one_line(text: str) -> str:
    """Line breaks of every kind would end a cue or begin another utterance."""
    return " ".join(text.split())


def _clock(milliseconds: int, mark: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{milliseconds:03d}"


def _recording(results: Iterable[Result], model: str, duration_s: float, file: str | None) -> dict[str, Any]:
    segments = [_segment(result) for result in results if result.text.strip()]
    return {
        **({} if file is None else {"file": file}),
        "model": model,
        "duration": round(duration_s, 3),
        "text": " ".join(segment["text"] for segment in segments),
        "segments": segments,
    }


def _segment(result: Result) -> dict[str, Any]:
    words = result.words
    return {
        "start": words[0].start_s if words else result.start_s,
        "end": words[-1].end_s if words else result.end_s,
        "text": _one_line(result.text),
        "confidence": round(result.confidence, 4),
        "words": [
            {"word": word.text, "start": word.start_s, "end": word.end_s, "confidence": round(word.confidence, 4)}
            for word in words
        ],
        "n_best": [{"text": reading.text, "score": round(reading.score, 4)} for reading in result.n_best],
    }
