"""The step contract of WaveNet: teacher-forced wholes equal drawn steps, and see exactly the receptive field."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402

from models.wavenet import PAPER, SMALL, TINY, Wavenet, WavenetConfig, mu_expand, mu_law  # noqa: E402
from models.wavenet_training import LEVELS, WavenetTrainer, mixture_nll, softmax_nll  # noqa: E402
from ondevice.sampling import RingCache, mixture_noise, softmax_noise  # noqa: E402
from tests.models.backends import on_every_backend  # noqa: E402
from tests.models.weight_gradients import assert_all_reached, weight_gradients  # noqa: E402

test_on_jax = on_every_backend(__file__)

GROUPED = replace(TINY, group=2)
COMPANDED = replace(TINY, mixture=0, kernel=3)
CONFIGS = {"single": TINY, "grouped": GROUPED, "companded": COMPANDED}


def make(config: WavenetConfig) -> Wavenet:
    keras.utils.set_random_seed(0)
    model = Wavenet(config)
    model.build()
    for index, variable in enumerate(model.trainable_variables):  # biases that begin as zeros hide what they do
        noise = np.random.default_rng(index).normal(0, 0.3, variable.shape)
        variable.assign(variable.value + noise.astype(np.float32))
    return model


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request) -> Wavenet:
    return make(CONFIGS[request.param])


def mel(config: WavenetConfig, frames: int = 10, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(-6, 3, (batch, frames, config.bands)).astype(np.float32)


def speech(config: WavenetConfig, frames: int = 10, batch: int = 1) -> np.ndarray:
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (batch, frames * config.hop))
    return noise.astype(np.float32)


def numpy_(x) -> np.ndarray:
    return ops.convert_to_numpy(x)


def noise_of(config: WavenetConfig, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(7)
    return mixture_noise(rng, shape, config.mixture) if config.mixture else softmax_noise(rng, shape, config.mu_levels)


def generate(model: Wavenet, frames: int, steps: int) -> np.ndarray:
    """Samples [F * hop] drawn in calls of so many steps."""
    c = model.config
    told, noise = numpy_(model.condition(mel(c, frames))), noise_of(c, (frames * c.hop // c.group, c.group))
    cache = RingCache(c.dilations, c.kernel, c.residual, steps)
    previous, drawn = np.zeros((1, c.group), np.float32), []
    for start in range(0, len(noise), steps):
        now = told[:, start * c.group // c.hop]
        samples, present = model.steps(previous, now, noise[None, start : start + steps], cache.past())
        cache.push([numpy_(p) for p in present])
        previous = numpy_(samples)[:, -c.group :]
        drawn.append(numpy_(samples)[0])
    return np.concatenate(drawn)


def test_drawn_steps_follow_the_whole_sequence(model: Wavenet) -> None:
    c, frames = model.config, 6
    drawn = generate(model, frames, steps=1)
    assert np.abs(drawn).max() <= 1
    assert drawn.std() > 0.05
    signal = drawn if c.mixture else numpy_(mu_expand(drawn, c.mu_levels))
    parameters = numpy_(model(mel(c, frames), signal[None]))[0]
    expected = numpy_(model.draw(parameters, noise_of(c, (frames * c.hop,))))[:, 0]
    np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_several_steps_in_a_call_draw_the_same(model: Wavenet) -> None:
    np.testing.assert_allclose(generate(model, 6, steps=2), generate(model, 6, steps=1), atol=1e-4)


def test_conditioning_in_chunks_equals_the_whole(model: Wavenet) -> None:
    c = model.config
    x, before, chunks = mel(c), model.initial_mel(), []
    late = np.concatenate([x, np.full((1, c.lookahead, c.bands), c.silence, np.float32)], 1)
    for start, stop in ((0, 1), (1, 5), (5, 5 + c.lookahead), (5 + c.lookahead, late.shape[1])):
        told, before = model.condition_step(late[:, start:stop], before)
        chunks.append(numpy_(told))
    np.testing.assert_allclose(np.concatenate(chunks, 1)[:, c.lookahead :], numpy_(model.condition(x)), atol=1e-5)


def test_an_impulse_is_heard_exactly_as_far_as_the_receptive_field(model: Wavenet) -> None:
    c = model.config
    frames = 3 + -(-c.receptive_steps * c.group // c.hop)
    assert c.receptive_steps == 1 + 2 * (1 + 2) * (c.kernel - 1)  # two cycles of dilations 1 and 2
    samples, changed = speech(c, frames), speech(c, frames)
    changed[:, 0] *= -1  # the first sample of the first step
    difference = np.abs(numpy_(model(mel(c, frames), samples)) - numpy_(model(mel(c, frames), changed))).max((0, 2))
    heard = np.flatnonzero(difference > 0)
    assert heard[0] == 1  # the next sample, in the group or as the next step
    assert heard[-1] == c.group * (1 + c.receptive_steps) - 1 if c.group > 1 else heard[-1] == c.receptive_steps
    assert not difference[c.group * (1 + c.receptive_steps) :].any()


def test_the_future_never_changes_the_past(model: Wavenet) -> None:
    c = model.config
    samples, features = speech(c), mel(c)
    samples[:, 5 * c.hop :] = np.nan
    features[:, 5 + c.lookahead :] = np.nan
    heard = numpy_(model(features, samples))
    np.testing.assert_array_equal(heard[:, : 5 * c.hop], numpy_(model(mel(c), speech(c)))[:, : 5 * c.hop])
    assert np.isnan(heard[:, 5 * c.hop + c.group :]).all()


def test_gradients_reach_every_weight(model: Wavenet) -> None:
    c = model.config
    assert_all_reached(weight_gradients(model, lambda y: ops.sum(ops.sin(y)), mel(c), speech(c)))


def test_the_likelihoods_of_all_levels_sum_to_one() -> None:
    parameters = np.array([0.3, -0.2, -0.9, 0.4, -1.0, -6.5], np.float32)
    levels = np.linspace(-1, 1, LEVELS).astype(np.float32)
    nll = numpy_(mixture_nll(np.broadcast_to(parameters, (1, LEVELS, 6)), levels[None]))
    assert np.exp(-nll.astype(np.float64)).sum() == pytest.approx(1.0, abs=2e-3)
    logits = np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)[:, :1].repeat(8, 1)
    centres = numpy_(mu_expand((2 * np.arange(8, dtype=np.float32) + 1) / 8 - 1, 8))
    np.testing.assert_allclose(numpy_(mu_law(centres, 8)), (2 * np.arange(8) + 1) / 8 - 1, atol=1e-6)
    assert np.exp(-numpy_(softmax_nll(logits, centres[None], 8))).sum() == pytest.approx(1.0, abs=1e-5)


def test_draws_have_the_distribution_that_the_loss_is_of() -> None:
    model = make(TINY)
    parameters = np.array([[1.0, 0.0, -0.5, 0.5, -3.0, -2.0]], np.float32).repeat(4000, 0)
    drawn = numpy_(model.draw(parameters, mixture_noise(np.random.default_rng(0), (4000,), 2)))[:, 0]
    assert (drawn < 0).mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.03)
    assert drawn[drawn < 0].std() == pytest.approx(np.exp(-3) * np.pi / np.sqrt(3), rel=0.1)
    still = numpy_(model.draw(parameters, mixture_noise(np.random.default_rng(0), (4000,), 2, temperature=0.0)))
    assert set(np.unique(still)) == {np.float32(-0.5), np.float32(0.5)}
    first, again = (mixture_noise(np.random.default_rng(3), (5, 2), 2) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def fit(config: WavenetConfig, frames: int, steps: int) -> list[float]:
    trainer = WavenetTrainer(make(config))
    time = np.arange(frames * config.hop)
    batch = {"mel": mel(config, frames), "samples": (0.5 * np.sin(0.7 * time))[None].astype(np.float32)}
    trainer.compile(keras.optimizers.Adam(1e-2), jit_compile=keras.backend.backend() == "jax")
    return [float(trainer.train_on_batch(batch, return_dict=True)["loss"]) for _ in range(steps)]


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_segment_is_learned_by_heart(name: str) -> None:
    losses = fit(CONFIGS[name], frames=24, steps=150)
    assert losses[1] < losses[0]
    assert losses[-1] < losses[0] - (3.0 if CONFIGS[name].mixture else 0.7)


def test_too_short_segments_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected more than"):
        fit(replace(TINY, layers=8, cycles=1), frames=4, steps=1)
    with pytest.raises(ValueError, match="equal dilation cycles"):
        replace(TINY, cycles=3)
    with pytest.raises(ValueError, match="no multiple of group"):
        replace(TINY, group=3)
    with pytest.raises(ValueError, match="lookahead"):
        replace(TINY, lookahead=3)


def test_presets() -> None:
    assert (PAPER.layers, PAPER.cycles, PAPER.kernel, PAPER.mixture, PAPER.group) == (30, 3, 3, 10, 1)
    assert PAPER.dilations == tuple(2**i for i in range(10)) * 3
    assert PAPER.receptive_steps == 6139  # Shen et al. 2017, table 4
    small = Wavenet(SMALL)
    small.build()
    assert 0.3e6 < small.count_params() < 2e6
