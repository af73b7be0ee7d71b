"""Manifests of recordings: every spelling of their fields, archives, and bytes that are none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import InputError
from ondevice.utterances import read_utterances
from tests.ondevice.manifests import sound, write_manifest


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


def test_an_archive_member_is_heard_as_the_same_file_is(tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path, [{"file": "x.opus", "tar": "s.tar", "text": ""}, {"file": "x.opus", "text": ""}]
    )
    (tmp_path / "x.opus").write_bytes(sound(500, "OGG", "OPUS"))
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(tmp_path / "x.opus", "x.opus")
    packed, plain = (utterance.samples() for utterance in read_utterances([manifest]))
    assert np.array_equal(packed, plain)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_a_manifest_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    manifest = tmp_path_factory.mktemp("bytes") / "manifest.jsonl"
    manifest.write_bytes(data)
    with pytest.raises(InputError, match=r"manifest\.jsonl"):
        read_utterances([manifest])
