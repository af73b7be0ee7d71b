"""Transcribing files and blocks from Python: processes that die, order, progress, memory."""

import multiprocessing
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ondevice.errors import FailureError, InputError
from ondevice.recognizer import Recognizer
from ondevice.transcription import Failure, Transcript, transcribe_blocks, transcribe_files
from tests.ondevice.sounds import sound, ten_hours_of_silence


def test_a_process_that_dies_is_a_failure_in_one_line(recognizer: Recognizer, sounds: Path, tmp_path: Path) -> None:
    files = [str(sounds / "a.wav"), str(ten_hours_of_silence(tmp_path / "long.wav"))]
    with closing(transcribe_files(recognizer, files, jobs=2)) as outcomes:
        assert isinstance(next(outcomes), Transcript)
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises(FailureError, match="a worker process ended too early"):
            next(outcomes)


def test_without_order_the_shorter_file_need_not_wait(recognizer: Recognizer, sounds: Path, tmp_path: Path) -> None:
    files = [str(ten_hours_of_silence(tmp_path / "long.wav")), str(sounds / "a.wav"), str(tmp_path / "missing.wav")]
    with closing(transcribe_files(recognizer, files, jobs=2, in_order=False)) as outcomes:
        assert [next(outcomes).source, next(outcomes).source] == files[1:]
    assert not multiprocessing.active_children()
    with pytest.raises(InputError, match="jobs 0"):
        transcribe_files(recognizer, files, jobs=0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_adds_up_to_the_length_of_the_audio(recognizer: Recognizer, sounds: Path, jobs: int) -> None:
    files, seconds = [str(sounds / "a.wav"), str(sounds / "b.flac")], []
    outcomes = list(transcribe_files(recognizer, files, jobs=jobs, heard=seconds.append))
    lengths = [outcome.duration_s for outcome in outcomes if isinstance(outcome, Transcript)]
    assert lengths == [2.0, 3.0]
    assert sum(seconds) == pytest.approx(5.0)
    assert min(seconds) > 0


def test_a_file_that_cannot_be_read_midway_is_a_failure(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> Iterator[np.ndarray]:
        yield np.zeros(1000, np.float32)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("ondevice.transcription.stream_audio", broken)
    (outcome,) = transcribe_files(recognizer, ["disk.wav"])
    assert isinstance(outcome, Failure)
    assert str(outcome.error) == "disk.wav cannot be read (Input/output error)"
    assert outcome.error.exit_code == 1


def test_blocks_are_heard_as_one_recording_and_not_kept(recognizer: Recognizer) -> None:
    samples = sound(30.0)[:, 0].astype(np.float32)
    blocks: list[weakref.ref[np.ndarray]] = []
    most = 0

    def cut() -> Iterator[np.ndarray]:
        nonlocal most
        for start in range(0, len(samples), 1000):
            block = samples[start : start + 1000].copy()
            blocks.append(weakref.ref(block))
            yield block
            del block
            most = max(most, sum(reference() is not None for reference in blocks))

    results, duration_s = transcribe_blocks(recognizer, cut())
    assert list(results) == recognizer.transcribe(samples)
    assert len(results) > 5
    assert duration_s == 30.0
    assert most <= 2
    assert transcribe_blocks(recognizer, [samples]) == (results, duration_s)
