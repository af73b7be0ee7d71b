"""The meter of a stream: its numbers add up and its memory does not grow."""

import numpy as np
import pytest

from ondevice import stats
from ondevice.stats import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test turns on by hand."""
    now = [0.0]
    monkeypatch.setattr(stats.time, "perf_counter", lambda: now[0])
    return now


def test_factor_quantiles_and_latency_add_up(clock: list[float]) -> None:
    meter = Meter(16_000)
    for number in range(100):
        with meter.chunk(960):
            clock[0] += 0.001 * (number + 1)
        if number == 9:
            meter.word()
    for seconds in (0.01, 0.03):
        with meter.final():
            clock[0] += seconds
    summary = meter.summary(dropped_samples=7, overflows=2)
    assert summary.audio_s == pytest.approx(6.0)
    assert summary.real_time_factor == pytest.approx((5.05 + 0.04) / 6.0)
    assert summary.chunk_p50_ms == pytest.approx(50.5)
    assert summary.chunk_max_ms == pytest.approx(100)
    assert summary.chunk_ms == pytest.approx(60)
    assert summary.first_word_s == pytest.approx(0.6)
    assert summary.final_latency_ms == pytest.approx(20)
    assert "7 in 2 overflows" in "\n".join(summary.lines())


def test_an_endless_stream_keeps_few_times_and_true_quantiles(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "KEPT_TIMES", 256)
    meter, rng = Meter(16_000), np.random.default_rng(0)
    times = rng.exponential(0.001, 20_000)
    for seconds in times:
        with meter.chunk(960):
            clock[0] += seconds
    assert len(meter._times) < 256
    assert meter.summary().chunk_p50_ms == pytest.approx(1000 * float(np.median(times)), rel=0.25)
    assert meter.summary().chunk_max_ms == pytest.approx(1000 * float(times.max()))


def test_nothing_heard_gives_no_numbers() -> None:
    summary = Meter(16_000).summary()
    assert summary.real_time_factor is None
    assert summary.lines()[2].startswith("chunk            p50 -")
