"""A vocoder learns, alone and against discriminators, and goes on after a kill exactly as if nothing had happened."""

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402

from models.discriminators import DiscriminatorConfig, Discriminators  # noqa: E402
from models.spectral_losses import log_mel, power_spectrum, reconstruction_losses  # noqa: E402
from models.speech_store import SpokenUtterance  # noqa: E402
from models.step_run import StepConfig, StepRun, read_log  # noqa: E402
from models.vocoder import TINY, Vocoder  # noqa: E402
from models.vocoder_data import MelStatistics, SegmentBatches  # noqa: E402
from models.vocoder_training import VocoderLossConfig, VocoderTrainer  # noqa: E402
from ondevice.features import LogMel, LogMelConfig  # noqa: E402
from tests.models.backends import on_every_backend  # noqa: E402
from tests.models.weight_gradients import assert_all_reached, weight_gradients  # noqa: E402

test_on_jax = on_every_backend(__file__)

MEL = LogMelConfig(rate_hz=1000, window_ms=16, hop_ms=4, bands=TINY.bands, low_hz=0, high_hz=500, stack=1)
LOSSES = VocoderLossConfig(resolutions=((16, 4), (32, 8)), edge_frames=3, adversarial_frames=16)
JUDGES = DiscriminatorConfig(
    periods=(2, 3), period_channels=(3, 4), resolutions=((16, 4),), spectral_channels=(3, 4)
)  # fmt: skip


class ToneStore:
    """Utterances of rising tones, the shortest shorter than a segment."""

    rate_hz = MEL.rate_hz

    def __init__(self) -> None:
        self.utterances = [SpokenUtterance(str(i), "", "tones", "s", i, 60 + 150 * i) for i in range(4)]

    def samples(self, utterance: SpokenUtterance, start: int = 0, count: int | None = None) -> np.ndarray:
        time = np.arange(utterance.count)
        tone = 0.3 * np.sin(2 * np.pi * time * (0.06 + 0.03 * utterance.start + 2e-5 * time)).astype(np.float32)
        return tone[start : None if count is None else start + count]


def batches(**changes) -> SegmentBatches:
    return SegmentBatches([ToneStore()], MEL, **{"size": 3, "frames": 24, **changes})


def make_trainer(adversarial: bool = False) -> VocoderTrainer:
    keras.utils.set_random_seed(0)
    vocoder, judge = Vocoder(TINY), Discriminators(JUDGES) if adversarial else None
    for model in (vocoder, judge):
        if model is not None:
            model.build()
    return VocoderTrainer(vocoder, MEL, LOSSES, judge)


class Parts(keras.Model):
    """The sum of some of the adversarial losses as a model, to take gradients of."""

    def __init__(self, trainer: VocoderTrainer, *names: str) -> None:
        super().__init__()
        self.trainer_, self.names = trainer, names
        self.built = True

    def call(self, batch):
        values = self.trainer_.adversarial_losses(batch["samples"], self.trainer_(batch))
        return sum(values[name] for name in self.names)


def sizes(grads: dict[str, np.ndarray], trainer: VocoderTrainer) -> tuple[float, float]:
    """Largest gradient in the vocoder and in the discriminators."""
    mine = {v.path for v in trainer.vocoder.trainable_variables}
    assert len(mine) < len(grads)
    return (
        max(np.abs(g).max() for path, g in grads.items() if path in mine),
        max(np.abs(g).max() for path, g in grads.items() if path not in mine),
    )


def test_each_side_learns_from_its_own_loss_only() -> None:
    trainer, batch = make_trainer(adversarial=True), batches().batch(0)
    vocoder, judge = sizes(weight_gradients(Parts(trainer, "adversarial", "features"), lambda y: y, batch), trainer)
    assert vocoder > 1e-6
    assert judge == 0
    vocoder, judge = sizes(weight_gradients(Parts(trainer, "discriminator"), lambda y: y, batch), trainer)
    assert vocoder == 0
    assert judge > 1e-6


def test_discriminators_use_every_weight() -> None:
    judge = Discriminators(JUDGES)
    judge.build()
    samples = batches().batch(0)["samples"]
    scores, features = judge(samples)
    assert (len(scores), len(features)) == (3, 6)
    assert_all_reached(weight_gradients(judge, lambda y: sum(ops.sum(ops.sin(s)) for s in y[0]), samples))


def test_equal_sounds_have_no_distance_and_the_mel_is_the_runtimes() -> None:
    samples = batches().batch(0)["samples"]
    losses = reconstruction_losses(samples, samples, LOSSES.resolutions, MEL)
    assert float(losses["log_magnitude"]) == float(losses["mel"]) == 0
    assert float(losses["convergence"]) < 1e-2
    quieter = reconstruction_losses(samples, 0.5 * samples, LOSSES.resolutions, MEL)
    assert float(quieter["convergence"]) == pytest.approx(0.5, abs=0.01)
    ours = ops.convert_to_numpy(log_mel(power_spectrum(samples, 16, 4), MEL))
    np.testing.assert_allclose(ours, [LogMel(MEL)(row) for row in samples], atol=1e-3)


def test_segments_are_drawn_anew_and_again() -> None:
    made = batches(gain_db=0.0)
    first, again = made.batch(5), made.batch(5)
    np.testing.assert_array_equal(first["samples"], again["samples"])
    assert np.abs(first["samples"] - made.batch(6)["samples"]).max() > 0
    assert first["mel"].shape == (3, 24, TINY.bands)
    assert first["samples"].shape == (3, 96)
    inner = LogMel(MEL)(first["samples"][0, 2:])  # windows within the segment: frame 2 begins at sample 2 * 4 - 6
    np.testing.assert_allclose(first["mel"][0, 2 : 2 + len(inner)], inner, atol=1e-4)
    loud = np.abs(batches(gain_db=60.0, size=20).batch(0)["samples"]).max(1)
    assert loud.max() <= 0.981


def fit(trainer: VocoderTrainer, batch, steps: int) -> list[float]:
    trainer.compile(keras.optimizers.Adam(5e-3), jit_compile=keras.backend.backend() == "jax")
    return [float(trainer.train_on_batch(batch, return_dict=True)["loss"]) for _ in range(steps)]


@pytest.mark.parametrize("adversarial", [False, True])
def test_a_step_lowers_the_loss_and_moves_every_weight(adversarial: bool) -> None:
    trainer = make_trainer(adversarial)
    before = [ops.convert_to_numpy(v) for v in trainer.trainable_variables]
    losses = fit(trainer, batches().batch(0), 4)
    assert losses[-1] < losses[0]
    for variable, old in zip(trainer.trainable_variables, before, strict=True):
        assert np.abs(ops.convert_to_numpy(variable) - old).max() > 0, variable.path


def test_one_segment_is_learned_by_heart() -> None:
    losses = fit(make_trainer(), batches(size=1).batch(2), 250)
    assert losses[-1] < 0.35 * losses[0]


def make_run(directory: Path, steps: int = 12) -> StepRun:
    trainer = make_trainer()
    config = StepConfig(steps=steps, warmup_steps=3, cooldown_steps=4, evaluate_steps=6, averaging=0.9)

    def evaluate() -> dict[str, float]:
        return {"mel": float(trainer.test_on_batch(batches(seed=1).batch(0), return_dict=True)["mel"])}

    return StepRun(directory, trainer, batches(), config, evaluate)


class Quiet:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, number: int, logs: dict[str, float], audio_s_per_s: float) -> None:
        assert np.isfinite(list(logs.values())).all()

    def note(self, line: str) -> None:
        self.notes.append(line)


def test_a_killed_run_goes_on_as_if_unbroken(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole")
    whole.train(Quiet(), report_steps=2)
    make_run(tmp_path / "broken").train(Quiet(), stop_after_s=0.0)  # a single step
    resumed = make_run(tmp_path / "broken")
    assert resumed.restore()
    assert resumed.step == 1
    resumed.train(watch := Quiet(), report_steps=2)
    for mine, theirs in zip(resumed._weights() + resumed.average, whole._weights() + whole.average, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(watch.notes) == 2
    rows = read_log(tmp_path / "whole")
    assert [r["step"] for r in rows["train"]] == [2, 4, 6, 8, 10, 12]
    assert [r["step"] for r in rows["dev"]] == [6, 12]


def test_statistics_are_computed_once(tmp_path: Path) -> None:
    store, file = ToneStore(), tmp_path / "norm.json"
    made = MelStatistics.of([store], file, MEL)
    frames = np.concatenate([LogMel(MEL)(store.samples(u)) for u in store.utterances])
    np.testing.assert_allclose(made.mean, frames.mean(0), atol=1e-5)
    np.testing.assert_allclose(MelStatistics.of([], file, MEL).std, made.std)
