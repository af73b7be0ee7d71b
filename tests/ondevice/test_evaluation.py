"""Error rates known by hand, intervals, manifests whole and broken, and `ondevice evaluate` itself."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import InputError, OndeviceError
from ondevice.evaluation import (
    Errors,
    Score,
    Transcriber,
    aligned,
    evaluate,
    score,
    summarize,
)
from ondevice.normalize import basic, none
from ondevice.recognizer import Recognizer
from ondevice.utterances import Utterance, read_utterances

RATE_HZ = 16_000


class Parrot:
    """Says the text that belongs to a number of milliseconds; other lengths are silence."""

    def __init__(self, said: dict[int, str]) -> None:
        self.said = said

    def __call__(self, samples: np.ndarray) -> str:
        assert samples.dtype == np.float32
        return self.said.get(len(samples) * 1000 // RATE_HZ, "")


def sound(milliseconds: int, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    samples = np.random.default_rng(milliseconds).uniform(-0.3, 0.3, RATE_HZ * milliseconds // 1000)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=kind, subtype=subtype)
    return buffer.getvalue()


def write_manifest(folder: Path, rows: Sequence[dict[str, Any] | str], name: str = "manifest.jsonl") -> Path:
    """A manifest of rows; sound files of 100, 200, ... ms are written for names such as 100.wav."""
    folder.mkdir(parents=True, exist_ok=True)
    for milliseconds in range(100, 600, 100):
        (folder / f"{milliseconds}.wav").write_bytes(sound(milliseconds))
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def spoken(text: str, heard: str, corpus: str = "corpus", speaker: str | None = None) -> Score:
    return score(Utterance("a.wav", Path("a.wav"), text, corpus, speaker=speaker), heard, audio_s=2.0, processing_s=0.5)


def test_errors_counted_by_hand() -> None:
    one = spoken("The cat sat on the mat.", "the the cat sit on mat")
    assert one.words == Errors(substitutions=1, deletions=1, insertions=1, reference=6)
    assert one.words.rate == 0.5
    letters = spoken("abc", "axcd")
    assert letters.characters == Errors(substitutions=1, deletions=0, insertions=1, reference=3)
    assert letters.words == Errors(substitutions=1, reference=1)
    assert spoken("a b", "a b").characters.reference == 3  # the space counts
    assert spoken("two words", "").words == Errors(deletions=2, reference=2)


def test_numbers_and_case_are_no_errors_unless_they_are_asked_for() -> None:
    utterance = Utterance("a.wav", Path("a.wav"), "Mr. Bell has 2 cats", "corpus")
    assert score(utterance, "mister bell has two cats").words.total == 0
    assert score(utterance, "mister bell has two cats", basic).words.total == 2
    assert score(utterance, "mister bell has two cats", none).words.total == 3


def test_rates_are_pooled_not_averaged() -> None:
    report = summarize([spoken("one", "won"), spoken("a b c d e f g h i", "a b c d e f g h i")])
    assert report.overall.wer == 0.1
    assert report.overall.audio_s == 4.0
    assert report.overall.rtf == 0.25


def test_words_where_nobody_speaks_are_insertions_and_no_reference() -> None:
    silent = [spoken("", "oh no"), spoken("...", "")]
    report = summarize([spoken("four words are here", "four words are here"), *silent])
    assert report.overall.words == Errors(insertions=2, reference=4)
    assert report.overall.wer == 0.5
    assert (report.overall.nonspeech, report.overall.nonspeech_insertions) == (2, 2)
    alone = summarize(silent).overall
    assert (alone.wer, alone.cer, alone.wer_interval) == (None, None, None)
    assert alone.words.insertions == 2


_WORDS = st.lists(st.sampled_from(["a", "bc", "d"]), max_size=8).map(" ".join)


@given(_WORDS, _WORDS)
def test_errors_balance_and_the_alignment_shows_them(text: str, heard: str) -> None:
    one = spoken(text, heard)
    assert one.words.reference == len(text.split())
    assert one.words.insertions - one.words.deletions == len(heard.split()) - len(text.split())
    assert (one.words.total == 0) == (text == heard)
    pairs = aligned(one)
    assert [word.lower() for word, _ in pairs if "*" not in word] == text.split()
    assert [word.lower() for _, word in pairs if "*" not in word] == heard.split()
    assert sum(word != word.lower() or "*" in word for word, _ in pairs) == one.words.total


def many(speakers: int | None, corpus: str = "corpus") -> list[Score]:
    """500 utterances of two words; every second speaker is understood not at all."""
    return [
        spoken("good day", "" if i % 2 else "good day", corpus, f"s{i % speakers}" if speakers else None)
        for i in range(500)
    ]  # fmt: skip


def test_interval_over_utterances_is_the_binomial_one() -> None:
    corpus = summarize(many(None)).corpora[0]
    assert corpus.resampled == "utterances"
    assert corpus.wer_interval is not None
    spread = 1.96 * (0.5 * 0.5 / 500) ** 0.5
    assert corpus.wer_interval == pytest.approx((0.5 - spread, 0.5 + spread), abs=0.01)


def test_interval_over_speakers_is_wider_where_speakers_differ() -> None:
    corpus = summarize(many(20)).corpora[0]
    assert (corpus.resampled, corpus.speakers) == ("speakers", 20)
    assert corpus.wer_interval is not None
    spread = 1.96 * (0.5 * 0.5 / 20) ** 0.5
    assert corpus.wer_interval == pytest.approx((0.5 - spread, 0.5 + spread), abs=0.06)
    assert summarize(many(8)).corpora[0].resampled == "utterances"  # too few to draw from
    half_known = [*many(20), spoken("a", "b")]
    assert summarize(half_known).corpora[0].resampled == "utterances"


def test_intervals_follow_from_the_seed_and_the_corpus_alone() -> None:
    first, other = many(None, "first"), [spoken("yes", "no", "other"), spoken("no", "no", "other")]
    alone, both = summarize(first), summarize([*other, *first])
    assert [corpus.name for corpus in both.corpora] == ["other", "first"]
    assert both.corpora[1] == alone.corpora[0]
    assert summarize([*other, *first]) == both
    assert summarize(first, seed=1).corpora[0].wer_interval != alone.corpora[0].wer_interval
    assert both.overall.wer_interval is not None
    assert both.overall.wer_interval[0] < 0.5 < both.overall.wer_interval[1]


def test_one_utterance_has_no_interval_and_a_perfect_corpus_one_of_zero() -> None:
    assert summarize([spoken("a", "b")]).overall.wer_interval is None
    assert summarize([spoken("a", "a"), spoken("b", "b")]).overall.wer_interval == (0.0, 0.0)
    assert summarize([]).overall.wer is None


def test_manifest_with_files_archive_and_every_spelling_of_the_fields(tmp_path: Path) -> None:
    rows = [
        {"file": "100.wav", "text": "One", "norm": "wrong", "seconds": 0.1, "speaker": "ann", "split": "test"},
        {"audio_filepath": str(tmp_path / "c" / "200.wav"), "text": "Two", "duration": 0.2, "speaker": 7},
        "",
        {"audio": "in/300.opus", "tar": "shard.tar", "text": "Three", "split": "test", "offset": 0.0},
        {"file": "400.wav", "text": None, "split": "dev", "speaker": None},
    ]
    manifest = write_manifest(tmp_path / "c", rows)
    with tarfile.open(tmp_path / "c" / "shard.tar", "w") as archive:
        for name, data in (("other.txt", b"no sound"), ("in/300.opus", sound(300, "OGG", "OPUS"))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    utterances = read_utterances([manifest])
    assert [(u.name.rpartition("/")[2], u.text, u.speaker) for u in utterances] == [
        ("100.wav", "One", "ann"), ("200.wav", "Two", "7"), ("300.opus", "Three", None), ("400.wav", "", None),
    ]  # fmt: skip
    assert [len(u.samples()) for u in utterances] == [1600, 3200, 4800, 6400]
    assert [len(u.samples(8000)) for u in utterances] == [800, 1600, 2400, 3200]
    assert {u.corpus for u in utterances} == {"c"}
    assert utterances[2].where == f"{manifest}:4"
    assert read_utterances([tmp_path / "c"], split="test") == utterances[:3]  # the second names no split
    assert read_utterances([tmp_path / "c"], limit=1) == utterances[:1]


def test_manifests_of_one_name_stay_apart(tmp_path: Path) -> None:
    rows = [{"file": "100.wav", "text": "a"}]
    one, two = write_manifest(tmp_path / "x", rows, "test.jsonl"), write_manifest(tmp_path / "y", rows, "test.jsonl")
    report = evaluate(Parrot({100: "a"}), read_utterances([one, two]))
    assert [corpus.name for corpus in report.corpora] == ["test", str(two)]


def test_an_archive_member_is_heard_as_the_same_file_is(tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path, [{"file": "x.opus", "tar": "s.tar", "text": ""}, {"file": "x.opus", "text": ""}]
    )
    (tmp_path / "x.opus").write_bytes(sound(500, "OGG", "OPUS"))
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(tmp_path / "x.opus", "x.opus")
    packed, plain = (utterance.samples() for utterance in read_utterances([manifest]))
    assert np.array_equal(packed, plain)


_FINE = {"file": "100.wav", "text": "fine", "split": "test"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", ":2: not JSON"),
        ("[1]", ":2: a JSON list; expected one object a line"),
        ("[" * 100_000, ":2: not JSON"),
        ({"text": "x"}, ":2: `file` is missing"),
        ({"file": 3, "text": "x"}, ":2: `file` is 3; expected a file name"),
        ({"file": "100.wav"}, ":2: `text` is missing"),
        ({"file": "100.wav", "text": 5}, ":2: `text` is 5; expected text or null"),
        ({"file": "no.wav", "text": "x"}, "no.wav is missing"),
        ({"file": "no\0.wav", "text": "x"}, "is missing"),
        ({"file": "100.wav", "tar": "no.tar", "text": "x"}, "no.tar is not a readable uncompressed tar archive"),
        ({"file": "100.wav", "tar": "100.wav", "text": "x"}, "100.wav is not a readable uncompressed tar archive"),
        ({"file": "no.wav", "tar": "empty.tar", "text": "x"}, ":2: no.wav is not in the archive"),
        ({"file": "100.wav", "text": "x", "offset": 1.5}, ":2: a part of a recording"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, row: dict[str, Any] | str, message: str) -> None:
    manifest = write_manifest(tmp_path, [_FINE, row])
    tarfile.open(tmp_path / "empty.tar", "w").close()
    code, line = command(manifest)
    assert code == 2
    assert message in line
    assert f"{manifest}:2: " in line
    assert "\n" not in line


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_a_manifest_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    manifest = tmp_path_factory.mktemp("bytes") / "manifest.jsonl"
    manifest.write_bytes(data)
    with pytest.raises(InputError, match=r"manifest\.jsonl"):
        read_utterances([manifest])


def test_what_cannot_be_decoded_is_a_failure_and_the_rest_is_scored(tmp_path: Path) -> None:
    rows = [{"file": "bad.wav", "text": "x"}, _FINE, {"file": "cut.opus", "tar": "shard.tar", "text": "y"}]
    manifest = write_manifest(tmp_path, rows)
    (tmp_path / "bad.wav").write_bytes(b"RIFF and nothing else")
    (tmp_path / "cut.opus").write_bytes(sound(500, "OGG", "OPUS")[:-100])
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(tmp_path / "cut.opus", "cut.opus")
    seen: list[object] = []
    report = evaluate(Parrot({100: "fine"}), read_utterances([manifest]), on_outcome=seen.append)
    assert [type(outcome).__name__ for outcome in seen] == ["Failure", "Score", "Failure"]
    assert report.overall.words == Errors(reference=1)
    assert "bad.wav" in report.failures[0].message
    assert report.failures[1].message.startswith(f"{tmp_path / 'shard.tar'}:cut.opus is cut short")


def test_the_worst_come_first_and_those_without_errors_never(tmp_path: Path) -> None:
    texts = ["all right", "one wrong", "both wrong here", "both wrong"]
    rows = [{"file": f"{100 * n}.wav", "text": text} for n, text in enumerate(texts, start=1)]
    said = {100: "all right", 200: "one right", 300: "x y here", 400: ""}
    report = evaluate(Parrot(said), read_utterances([write_manifest(tmp_path, rows)]))
    assert [one.reference for one in report.worst(9)] == ["both wrong", "both wrong here", "one wrong"]
    assert [one.hypothesis for one in report.worst(1)] == [""]
    assert report.scores[0].audio_s == 0.1
    assert 0 < report.overall.processing_s < 1


def test_processes_side_by_side_find_the_same(tmp_path: Path) -> None:
    rows = [{"file": f"{100 * n}.wav", "text": "good morning"} for n in range(1, 6)]
    utterances = read_utterances([write_manifest(tmp_path, rows)])
    (tmp_path / "300.wav").write_bytes(b"")
    parrot = Parrot({100: "good morning", 200: "good evening"})
    alone, together = evaluate(parrot, utterances), evaluate(parrot, utterances, jobs=2)
    assert [one.hypothesis for one in together.scores] == [one.hypothesis for one in alone.scores]
    assert together.failures == alone.failures
    assert together.overall.words == alone.overall.words == Errors(1, 4, 0, 8)
    with pytest.raises(InputError, match="jobs 0"):
        evaluate(parrot, utterances, jobs=0)


def test_a_recogniser_hears_the_same_in_pieces_and_in_another_process(toy_asset: Path) -> None:
    samples = np.random.default_rng(5).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    recognizer = Recognizer.load(toy_asset)
    whole = Transcriber(recognizer)(samples)
    assert whole
    pieces = Transcriber(recognizer, chunk_ms=70)
    assert pieces(samples) == whole
    copy = pickle.loads(pickle.dumps(pieces))
    assert copy.chunk_ms == 70
    assert copy(samples) == whole
    with pytest.raises(InputError, match="chunk_ms 0"):
        Transcriber(recognizer, chunk_ms=0)


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and error line of `ondevice evaluate`; what it prints is for capsys."""
    import typer

    from ondevice.cli.evaluate import evaluate as evaluate_command

    app = typer.Typer()
    app.command()(evaluate_command)
    try:
        app([str(argument) for argument in arguments], standalone_mode=False)
    except OndeviceError as error:
        return error.exit_code, str(error)
    return 0, ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such manifest"),
        (["fine", "--split", "tset"], "no utterances of the split 'tset'; it has test (1)"),
        (["fine", "--normalize", "much"], "normalisation 'much' is not known"),
        (["fine", "--model", "nosuch"], "'nosuch'"),
        (["fine", "--output", "no/folder/x.json"], "--output no/folder/x.json: expected a file name in a folder"),
        (["fine", "--output", "fine"], "--output fine: expected a file name"),
        (["fine", "empty.jsonl"], "empty.jsonl: no utterances in it"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    write_manifest(tmp_path / "fine", [_FINE])
    (tmp_path / "empty.jsonl").write_text("\n\n")
    monkeypatch.chdir(tmp_path)
    code, line = command(*arguments)
    assert code == 2
    assert message in line
    assert "\n" not in line


def test_table_for_a_person(toy_asset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_manifest(tmp_path / "first", [{"file": f"{n}00.wav", "text": "no, it is 5"} for n in (3, 4, 5)])
    second = write_manifest(tmp_path / "second", [{"file": "500.wav", "text": None, "split": "test"}])
    assert command(first, second, "--model", toy_asset, "--worst", "1") == (0, "")
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "toy (float32), own search settings, split test, normalisation english"
    assert lines[2].split()[:5] == ["corpus", "utts", "spk", "hours", "words"]
    assert [line.split()[:5] for line in lines[3:6]] == [
        ["first", "3", "-", "0.00", "12"], ["second", "1", "-", "0.00", "0"], ["overall", "4", "-", "0.00", "12"],
    ]  # fmt: skip
    assert lines[7].startswith("1 recordings without speech")
    assert sum("errors in" in line for line in lines) == 1
    assert "  ref " in out


def test_json_for_a_program(toy_asset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"file": f"{n}00.wav", "text": "to the \ud800 sea", "speaker": "ann"} for n in (3, 4, 5)]
    manifest, output = write_manifest(tmp_path / "c", rows), tmp_path / "report.json"
    options = ("--model", toy_asset, "--json", "--beam", "1", "--limit", "2", "--streaming-chunk-ms", "60")
    assert command(manifest, *options, "--normalize", "basic", "--output", output) == (0, "")
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.json"]
    values = json.loads(output.read_text())
    assert values["settings"]["beam"] == 1
    assert values["overall"]["utterances"] == len(values["utterances"]) == 2
    words = values["overall"]["words"]
    errors = words["substitutions"] + words["deletions"] + words["insertions"]
    assert values["overall"]["wer"] == errors / words["reference"] == errors / 6
    assert values["overall"]["rtf"] > 0
    assert values["utterances"][0]["reference"] == "to the sea"
    assert values["utterances"][0]["speaker"] == "ann"
    assert values["failures"] == []
    # What is said does not depend on how it is fed.
    assert command(manifest, *options[:-2], "--normalize", "basic") == (0, "")
    again = json.loads(capsys.readouterr().out)
    assert [row["hypothesis"] for row in again["utterances"]] == [row["hypothesis"] for row in values["utterances"]]


def test_half_a_character_in_the_text_can_be_printed(
    toy_asset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, [{"file": "500.wav", "text": "\ud800 é"}])
    assert command(manifest, "--model", toy_asset, "--normalize", "none") == (0, "")
    assert " ?  É\n" in capsys.readouterr().out


def test_audio_that_cannot_be_decoded_is_reported_and_ends_in_a_failure(
    toy_asset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, [{"file": "text.wav", "text": "x"}, _FINE])
    (tmp_path / "text.wav").write_text("this is no sound")
    code, line = command(manifest, "--model", toy_asset)
    out, err = capsys.readouterr()
    assert (code, line) == (1, "1 of 2 utterances could not be decoded; not scored")
    assert err.startswith(f"ondevice: {manifest}:1: {tmp_path / 'text.wav'} is not a sound file")
    assert err.count("\n") == 1
    assert out.splitlines()[3].split()[1] == "1"  # utterances


def test_a_report_that_cannot_be_written_leaves_the_old_one(toy_asset: Path, tmp_path: Path) -> None:
    manifest, output = write_manifest(tmp_path, [_FINE]), tmp_path / "report.txt"
    output.write_text("old")
    (tmp_path / "report.txt.part").mkdir()
    code, line = command(manifest, "--model", toy_asset, "--output", output)
    assert code == 1
    assert line.startswith(f"--output {output} cannot be written")
    assert output.read_text() == "old"
