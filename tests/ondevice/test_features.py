import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import InputError
from ondevice.features import LogMel, LogMelConfig, StreamingLogMel, mel_filters, stack_frames


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def test_frame_count_matches_the_promise() -> None:
    log_mel = LogMel()
    for samples, frames in [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)]:
        assert log_mel(noise(samples)).shape == (frames, 80)
        assert log_mel.frame_count(samples) == frames


def test_a_tone_peaks_in_the_band_that_holds_it() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    filters = mel_filters(LogMelConfig())
    loudest = int(LogMel()(tone).mean(0).argmax())
    assert loudest == int(filters[round(1000 / 16_000 * 512)].argmax())


def test_silence_is_the_floor_and_gain_is_an_offset() -> None:
    assert np.allclose(LogMel()(np.zeros(1600, np.float32)), np.log(1e-6))
    loud, quiet = LogMel()(noise(16_000)), LogMel()(noise(16_000) / 2)
    np.testing.assert_allclose(loud - quiet, np.log(4), atol=0.05)  # the floor bends the quietest bands


@given(st.lists(st.integers(0, 3000), max_size=30))
def test_any_chunking_equals_the_whole_file(sizes: list[int]) -> None:
    samples = noise(sum(sizes))
    stream, blocks, start = StreamingLogMel(), [], 0
    for size in sizes:
        blocks += stream.accept(samples[start : start + size])
        start += size
    whole = LogMel()(samples)
    streamed = np.concatenate(blocks) if blocks else whole[:0]
    assert len(whole) - len(streamed) < 6  # only an unfinished block is still pending
    np.testing.assert_allclose(streamed, whole[: len(streamed)], atol=1e-6)
    reference = StreamingLogMel().accept(samples)
    assert all(np.array_equal(a, b) for a, b in zip(blocks, reference, strict=True))


def test_stack_frames_joins_neighbours_and_drops_the_rest() -> None:
    features = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.testing.assert_array_equal(stack_frames(features, 3), np.arange(12, dtype=np.float32).reshape(2, 6))


def test_wrong_settings_name_the_setting() -> None:
    with pytest.raises(InputError, match="high_hz 9000"):
        LogMelConfig(high_hz=9000)
