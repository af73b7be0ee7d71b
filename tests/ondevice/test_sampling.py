"""Noise that a seed decides, and a cache that gives every tap what it should read."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ondevice.sampling import RingCache, mixture_noise, softmax_noise, tap_offsets


def test_taps_and_ring_agree_with_the_definition() -> None:
    assert tap_offsets(1, 2, 1) == (-1,)
    assert tap_offsets(4, 3, 1) == (-8, -4)
    assert tap_offsets(4, 2, 3) == (-4, -3, -2)
    assert tap_offsets(1, 2, 4) == (-1,)
    cache = RingCache((1, 4), 2, 1, steps=2)
    for start in range(0, 8, 2):
        cache.push([np.array([[[start], [start + 1]]], np.float32)] * 2)
    assert [p.ravel().tolist() for p in cache.past()] == [[7.0], [4.0, 5.0]]
    cache.reset()
    assert not any(p.any() for p in cache.past())


@given(
    st.lists(st.sampled_from([1, 2, 3, 4, 8]), min_size=1, max_size=3), st.integers(2, 4), st.integers(1, 6),
    st.integers(1, 8),
)  # fmt: skip
def test_every_tap_reads_what_was_pushed_that_long_ago(dilations, kernel, steps, calls) -> None:
    cache = RingCache(dilations, kernel, 1, steps)
    for call in range(calls):
        now = call * steps
        for dilation, past in zip(dilations, cache.past(), strict=True):
            times = [now + offset for offset in tap_offsets(dilation, kernel, steps)]
            assert past[0, :, 0].tolist() == [float(time + 1) if time >= 0 else 0.0 for time in times]
        cache.push([np.arange(now + 1, now + steps + 1, dtype=np.float32)[None, :, None]] * len(dilations))


def test_noise_is_the_seeds_and_of_the_distributions_it_says() -> None:
    first, again = (mixture_noise(np.random.default_rng(3), (5, 2), 2) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    noise = mixture_noise(np.random.default_rng(0), (20_000,), 1)
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise.mean(0), [np.euler_gamma, 0.0], atol=0.05)
    np.testing.assert_allclose(noise.std(0), [np.pi / np.sqrt(6), np.pi / np.sqrt(3)], rtol=0.03)
    assert not mixture_noise(np.random.default_rng(0), (9,), 3, temperature=0.0)[:, 3].any()
    chosen = (softmax_noise(np.random.default_rng(0), (20_000,), 2) + np.array([1.0, 0.0])).argmax(-1)
    np.testing.assert_allclose(chosen.mean(), 1 / (1 + np.e), atol=0.02)
