"""What is done to features as they are drawn."""

import numpy as np
import pytest

from models.batches import AugmentConfig, augment, colour

BANDS = 80
STILL = AugmentConfig(warp=0.0, gain_db=0.0, noise=0.0, edges_s=0.0, colour_db=0.0)


def test_a_frequency_response_is_smooth_and_neither_louder_nor_softer_on_the_whole() -> None:
    rng = np.random.default_rng(0)
    curves = np.array([colour(BANDS, 2.5, rng) for _ in range(4000)]) * 10 / np.log(10)  # in dB
    np.testing.assert_allclose(curves.mean(axis=1), 0, atol=1e-9)
    assert np.abs(np.diff(curves, axis=1)).max() < 1.0  # from band to band
    # a cosine has half its square on average: orders 1, 2 and 3 with deviations of 2.5, 1.25 and 0.83 dB
    assert np.sqrt((curves**2).mean()) == pytest.approx(2.5 * np.sqrt((1 + 1 / 4 + 1 / 9) / 2), rel=0.05)


def test_an_utterance_keeps_one_response_throughout() -> None:
    features = np.random.default_rng(1).normal(0, 1, (30, BANDS)).astype(np.float32)
    config = AugmentConfig(warp=0.0, gain_db=0.0, noise=0.0, edges_s=0.0, colour_db=2.5)
    same = augment(features, np.random.default_rng(2), STILL, [], -100.0)
    np.testing.assert_array_equal(same, features)
    added = augment(features, np.random.default_rng(2), config, [], -100.0) - features
    np.testing.assert_allclose(added, np.broadcast_to(added[:1], added.shape), atol=1e-5)
    assert added[0].std() > 0.05
