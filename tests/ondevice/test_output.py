"""Text, JSON and subtitles of utterances, and files that are whole or not there."""

import errno
import io
import json
import os
import re
import stat
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, TextIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ondevice.errors import FailureError, InputError
from ondevice.files import atomic_file, atomic_write, open_output
from ondevice.output import (
    FORMATS,
    LINE_CHARACTERS,
    LONGEST_CUE_S,
    Writer,
    parse_formats,
    render,
    split_cues,
)
from ondevice.results import Alternative, Result, Word

Shown = tuple[int, int, list[str]]  # first and last millisecond, lines


def utterance(*words: tuple[str, float, float], start_s: float = 0.0, end_s: float | None = None) -> Result:
    """An utterance of words with start and end; it ends 0.8 s after the last of them unless told."""
    spoken = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    text = " ".join(word.text for word in spoken)
    ending = end_s if end_s is not None else (spoken[-1].end_s if spoken else start_s) + 0.8
    return Result(text, spoken, 0.9 if spoken else 0.0, (Alternative(text, -1.25),), start_s, ending, True)


def evenly(text: str, word_s: float, start_s: float = 0.0) -> Result:
    """An utterance whose words follow each other without a gap."""
    words = [(w, start_s + i * word_s, start_s + (i + 1) * word_s) for i, w in enumerate(text.split())]
    return utterance(*words, start_s=start_s)


HELLO = utterance(("hello", 0.5, 0.9), ("there", 1.0, 1.4))
CATS = utterance(("cats", 3661.25, 3661.5), ("<", 3661.6, 3661.7), ("dogs & co", 3661.8, 3662.0), start_s=2.2)


def shown(text: str, format: str) -> list[Shown]:
    """The cues of a subtitle file, read strictly."""
    mark = {"srt": ",", "vtt": r"\."}[format]
    clock = rf"(\d\d+):([0-5]\d):([0-5]\d){mark}(\d\d\d)"
    if format == "vtt":
        assert text.startswith("WEBVTT\n")
        text = text.removeprefix("WEBVTT\n").lstrip("\n")
    cues: list[Shown] = []
    for number, block in enumerate(text.rstrip("\n").split("\n\n") if text else [], start=1):
        lines = block.split("\n")
        if format == "srt":
            assert lines.pop(0) == str(number)
        match = re.fullmatch(f"{clock} --> {clock}", lines.pop(0))
        assert match
        h1, m1, s1, ms1, h2, m2, s2, ms2 = map(int, match.groups())
        if format == "vtt":
            assert not re.search("[<>]|&(?!(amp|lt|gt);)", "".join(lines))
            lines = [line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for line in lines]
        cues.append((((h1 * 60 + m1) * 60 + s1) * 1000 + ms1, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2, lines))
    return cues


def test_text_is_a_line_for_each_utterance() -> None:
    results = [HELLO, utterance(), CATS]
    assert render(results, "text", model="m", duration_s=1.0) == "hello there\ncats < dogs & co\n"
    assert render([], "text", model="m", duration_s=1.0) == ""


def test_srt_is_known_by_heart() -> None:
    assert render([HELLO, utterance(), CATS], "srt", model="m", duration_s=4000.0) == (
        "1\n00:00:00,500 --> 00:00:01,900\nhello there\n\n"
        "2\n01:01:01,250 --> 01:01:02,500\ncats < dogs & co\n\n"
    )  # fmt: skip


def test_vtt_is_known_by_heart() -> None:
    assert render([HELLO, CATS], "vtt", model="m", duration_s=4000.0) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.900\nhello there\n\n"
        "01:01:01.250 --> 01:01:02.500\ncats &lt; dogs &amp; co\n"
    )  # fmt: skip
    assert render([], "vtt", model="m", duration_s=1.0) == "WEBVTT\n"


def test_json_holds_everything_under_the_documented_names() -> None:
    text = render([HELLO, utterance()], "json", model="rnnt", duration_s=2.20049, file="höre.wav")
    assert text.count("\n") == 1
    assert "höre.wav" in text
    assert json.loads(text) == {
        "file": "höre.wav",
        "model": "rnnt",
        "duration": 2.2,
        "text": "hello there",
        "segments": [
            {
                "start": 0.5, "end": 1.4, "text": "hello there", "confidence": 0.9,
                "words": [
                    {"word": "hello", "start": 0.5, "end": 0.9, "confidence": 0.9},
                    {"word": "there", "start": 1.0, "end": 1.4, "confidence": 0.9},
                ],
                "n_best": [{"text": "hello there", "score": -1.25}],
            }
        ],
    }  # fmt: skip
    assert "file" not in json.loads(render([], "json", model="rnnt", duration_s=0.0))


def test_a_writer_gives_each_utterance_as_it_ends() -> None:
    for format in FORMATS:
        out = io.StringIO()
        writer = Writer(out, format)
        writer.write(HELLO)
        first = out.getvalue()
        writer.write(utterance())
        assert out.getvalue() == first
        writer.write(CATS)
        writer.close()
        if format == "json":
            whole = json.loads(render([HELLO, CATS], "json", model="m", duration_s=1.0))
            assert [json.loads(line) for line in out.getvalue().splitlines()] == whole["segments"]
        else:
            assert out.getvalue() == render([HELLO, CATS], format, model="m", duration_s=1.0)
            assert out.getvalue().startswith(first)


def test_long_utterances_are_cut_into_even_cues_of_even_lines() -> None:
    sentence = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm sun until the evening comes"
    cues = shown(render([evenly(sentence, 0.3)], "srt", model="m", duration_s=9.0), "srt")
    assert [lines for _, _, lines in cues] == [
        ["the quick brown fox jumps", "over the lazy dog and then"],
        ["it sleeps in the warm sun", "until the evening comes"],
    ]
    assert cues[0][1] == cues[1][0] == 3300  # the word "it" begins


def test_a_cue_is_cut_at_a_pause_and_a_long_pause_is_always_a_cut() -> None:
    words = [(w, i * 0.3, i * 0.3 + 0.3) for i, w in enumerate(["one", "two", "three", "four", "five"])]
    late = [(w, start + 2.0, end + 2.0) for w, start, end in words]
    assert [cue.lines for cue in split_cues(utterance(*words, *late[:1]))] == [("one two three four five one",)]
    much_later = [(w, start + 3.1, end + 3.1) for w, start, end in words]
    cues = split_cues(utterance(*words, *much_later))
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(0, 2000), (3100, 5100)]
    # Nine long words need two cues; the cut is where the speaker stops, not in the middle.
    starts = [i * 0.3 + (0.9 if i >= 6 else 0.0) for i in range(9)]
    cues = split_cues(utterance(*(("abcdefghijk", start, start + 0.3) for start in starts)))
    assert [len(" ".join(cue.lines).split()) for cue in cues] == [6, 3]


def test_a_cue_lasts_as_long_as_reading_takes_where_there_is_room() -> None:
    (cue,) = split_cues(utterance(("no", 1.0, 1.06), end_s=9.0))
    assert (cue.start_ms, cue.end_ms) == (1000, 2000)
    (cue,) = split_cues(utterance(("no", 1.0, 1.06), end_s=1.2))
    assert cue.end_ms == 1200  # the next utterance may begin here
    (cue,) = split_cues(utterance(("looong", 1.0, 21.0)))
    assert cue.end_ms == 8000


_SECONDS = st.integers(0, 4000).map(lambda milliseconds: milliseconds / 1000)


@st.composite
def recordings(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[Result]:
    """Utterances one after the other, of words in order of time, perhaps in no time at all."""
    results, now_s = [], 0.0
    scale = draw(st.sampled_from([0.0, 0.05, 1.0]))
    for spoken in draw(st.lists(st.lists(st.tuples(text, _SECONDS, _SECONDS), max_size=40), max_size=4)):
        begin_s, words = now_s, []
        for word, pause_s, length_s in spoken:
            start_s = now_s + scale * pause_s
            now_s = start_s + scale * length_s
            words.append((word, round(start_s, 3), round(now_s, 3)))
        now_s += scale * draw(_SECONDS)
        results.append(utterance(*words, start_s=round(begin_s, 3), end_s=round(now_s, 3)))
    return results


@given(recordings(st.text(max_size=50)), st.sampled_from(["srt", "vtt"]))
@example([utterance(("1\n\n00:00 --> 00:01", 0.0, 0.0), ("\u2028\x85x", 0.0, 0.0))], "vtt")
@example([utterance(("a" * 42, 0.0, 0.1), ("b" * 42, 0.1, 0.2), ("c", 0.2, 0.3))], "srt")
def test_subtitles_of_any_words_are_readable_and_in_order(results: list[Result], format: str) -> None:
    cues = shown(render(results, format, model="m", duration_s=1.0), format)
    spoken = [word for result in results if result.text.strip() for word in result.words if word.text.strip()]
    kept = " ".join(line for _, _, lines in cues for line in lines)
    assert kept.split() == [part for word in spoken for part in word.text.split()]
    whole = {" ".join(word.text.split()) for word in spoken}
    earliest = 0
    for start, end, lines in cues:
        assert earliest <= start < end <= start + 1000 * LONGEST_CUE_S
        assert 1 <= len(lines) <= 2
        assert all(0 < len(line) <= LINE_CHARACTERS or line in whole for line in lines)
        earliest = end


@given(recordings(st.text("abcdefgh", min_size=1, max_size=12)))
def test_no_word_is_shown_before_it_is_said_nor_long_after(results: list[Result]) -> None:
    cues = shown(render(results, "srt", model="m", duration_s=1.0), "srt")
    words = iter([word for result in results for word in result.words])
    before = 0
    for start, end, lines in cues:
        inside = [next(words) for _ in " ".join(lines).split()]
        assert start >= round(1000 * inside[0].start_s)
        assert start == max(round(1000 * inside[0].start_s), before)
        assert end >= min(round(1000 * inside[-1].end_s), start + 1000 * LONGEST_CUE_S)
        assert all(after.start_s - word.end_s <= 1.5 + 1e-9 for word, after in pairwise(inside))
        before = end
    assert next(words, None) is None


@given(recordings(st.text(max_size=20)), st.text(max_size=20))
def test_text_and_json_of_any_words_can_be_read_back(results: list[Result], file: str) -> None:
    said = [" ".join(result.text.split()) for result in results if result.text.strip()]
    assert render(results, "text", model="m", duration_s=1.0).split("\n")[:-1] == said
    text = render(results, "json", model="m", duration_s=1.0, file=file)
    values = json.loads(text)
    assert [segment["text"] for segment in values["segments"]] == said
    assert values["file"] == file


def test_ten_hours_without_an_endpoint_are_cut_in_no_time() -> None:
    result = evenly("word " * 20_000, 0.3)
    cues = split_cues(result)
    assert sum(len(" ".join(cue.lines).split()) for cue in cues) == 20_000
    assert len(cues) < 20_000 / 8


def test_formats_are_listed_with_commas_and_others_refused() -> None:
    assert parse_formats("txt, JSON,srt,vtt,text") == ("text", "json", "srt", "vtt")
    for names in ("", "txt,", "mp4", "txt,mp4"):
        with pytest.raises(InputError, match=r"--format.*expected txt, json, srt or vtt"):
            parse_formats(names)
    with pytest.raises(InputError, match="format doc"):
        Writer(io.StringIO(), "doc")
    with pytest.raises(InputError, match="format doc"):
        render([], "doc", model="m", duration_s=1.0)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "é.txt"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_file(path) as out:
        out.write("new\n")
        out.flush()
        assert path.read_text() == "old"
        (part,) = [file for file in tmp_path.iterdir() if file != path]
        assert part.name.endswith(".part")
    assert path.read_bytes() == b"new\n"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # as it was
    fresh = tmp_path / "fresh.txt"
    atomic_write(fresh, "\ud800é")  # half a surrogate pair cannot be written in UTF-8
    assert fresh.read_text(encoding="utf-8") == "?é"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o666 & ~umask


def fail(out: TextIO, text: str, error: BaseException) -> NoReturn:
    out.write(text)
    out.flush()
    raise error


@pytest.mark.parametrize("error", [InputError("cut short"), ValueError(), KeyboardInterrupt()])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.txt"
    for before in ([], ["out.txt"]):
        for write in (atomic_file, open_output):
            with pytest.raises(type(error)), write(path) as out:
                fail(out, "half", error)
            assert [file.name for file in tmp_path.iterdir()] == before
        path.write_text("old")
    assert path.read_text() == "old"


def test_what_was_heard_before_a_microphone_failed_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FailureError, match="unplugged"), open_output(tmp_path / "out.txt") as out:
        fail(out, "heard\n", FailureError("unplugged"))
    assert (tmp_path / "out.txt").read_text() == "heard\n"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("when", ["write", "close", "replace"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full(io.FileIO):
        def write(self, data: bytes) -> int:
            if when == "write":
                raise full
            return super().write(data)

        def close(self) -> None:
            super().close()
            if when == "close":
                raise full

    def replace(path: Path, target: Path) -> None:
        raise full

    monkeypatch.setattr("ondevice.files._open", Full)
    if when == "replace":
        monkeypatch.setattr(Path, "replace", replace)
    path = tmp_path / "out.txt"
    for write in (atomic_file, open_output):
        with (
            pytest.raises(FailureError, match=r"out\.txt cannot be written \(No space left") as raised,
            write(path) as out,
        ):
            out.write("text")
        assert str(path) in str(raised.value)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_folders_and_places_in_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for place, message in (
        (tmp_path, "is a directory; expected the name of a file"),
        (tmp_path / "no" / "out.txt", "is not a folder; expected a file in one that exists"),
        (tmp_path / "file" / "out.txt", "is not a folder; expected a file in one that exists"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            atomic_write(place, "text")
        assert str(place) in str(raised.value)
    with pytest.raises(FailureError, match=r"cannot be written \(File name too long"):
        atomic_write(tmp_path / ("x" * 300), "text")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FailureError, match=r"out\.txt cannot be written \(Permission denied"):
        atomic_write(tmp_path / "out.txt", "text")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "file.txt")
    atomic_write(link, "first")
    atomic_write(link, "second")
    assert link.is_symlink()
    assert (tmp_path / "real" / "file.txt").read_text() == "second"


def test_a_dash_or_nothing_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (None, "-", Path("-")):
        with open_output(path) as out:
            out.write("text\n")
    assert capsys.readouterr().out == "text\n" * 3
