"""`ondevice evaluate`: tables and JSON, and each thing that may be wrong with what it is given."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ondevice.errors import OndeviceError
from tests.ondevice.manifests import FINE, write_manifest


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
    manifest = write_manifest(tmp_path, [FINE, row])
    tarfile.open(tmp_path / "empty.tar", "w").close()
    code, line = command(manifest)
    assert code == 2
    assert message in line
    assert f"{manifest}:2: " in line
    assert "\n" not in line


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
    write_manifest(tmp_path / "fine", [FINE])
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
    manifest = write_manifest(tmp_path, [{"file": "text.wav", "text": "x"}, FINE])
    (tmp_path / "text.wav").write_text("this is no sound")
    code, line = command(manifest, "--model", toy_asset)
    out, err = capsys.readouterr()
    assert (code, line) == (1, "1 of 2 utterances could not be decoded; not scored")
    assert err.startswith(f"ondevice: {manifest}:1: {tmp_path / 'text.wav'} is not a sound file")
    assert err.count("\n") == 1
    assert out.splitlines()[3].split()[1] == "1"  # utterances


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_report_that_cannot_be_written_is_one_line(toy_asset: Path, tmp_path: Path) -> None:
    full = Path("/dev/full")
    code, line = command(write_manifest(tmp_path, [FINE]), "--model", toy_asset, "--output", full)
    assert code == 1
    assert line.startswith("/dev/full cannot be written")
    assert full.is_char_device()  # devices are written to, not replaced
