"""Training learns, and goes on after a kill exactly as if nothing had happened."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from models import train_rnnt  # noqa: E402
from models.batches import AugmentConfig, BatchMaker  # noqa: E402
from models.feature_store import StoredUtterance  # noqa: E402
from models.rnnt import TINY, Rnnt  # noqa: E402
from models.rnnt_training import LossConfig, RnntTrainer  # noqa: E402
from models.train_rnnt import Run, TrainConfig, error_counts, learning_rate  # noqa: E402
from ondevice.features import LogMelConfig  # noqa: E402

WORDS = ["one", "two", "three", "four"]
BANDS = 8


class ToneStore:
    """Utterances in which each word is a stretch of energy in its own two bands."""

    def __init__(self, count: int) -> None:
        self.config = LogMelConfig(bands=BANDS)
        rng = np.random.default_rng(0)
        self._features, self.utterances = [], []
        for number in range(count):
            words = rng.integers(4, size=rng.integers(1, 4))
            frames = np.full((24 * len(words) + 24, BANDS), -10, np.float32)
            for place, word in enumerate(words):
                frames[24 * place + 6 : 24 * place + 18, 2 * word : 2 * word + 2] = 0
            self._features.append(frames + rng.normal(0, 0.3, frames.shape).astype(np.float32))
            text = " ".join(WORDS[w] for w in words)
            self.utterances.append(StoredUtterance(str(number), text, "tones", "s", "plain", 0, len(frames)))

    def features(self, utterance: StoredUtterance) -> np.ndarray:
        return self._features[int(utterance.key)]


def encode(text: str) -> list[int]:
    return [1 + WORDS.index(word) for word in text.split()]


def decode(tokens: list[int]) -> str:
    return " ".join(WORDS[t - 1] for t in tokens)


def make_run(directory: Path, *, steps: int, config: AugmentConfig | None, towers: int = 1, units: int = 24) -> Run:
    keras.utils.set_random_seed(1)
    store = ToneStore(12)
    common = {"encode": encode, "phones": encode, "mean": np.full(BANDS, -8.0), "std": np.full(BANDS, 4.0)}
    maker = BatchMaker([store], [1.0], batch_frames=2400, multiple=towers, config=config, **common)
    development = BatchMaker([store], [1.0], batch_frames=9000, multiple=1, config=None, **common)
    sizes = replace(
        TINY, features=3 * BANDS, encoder_units=units, encoder_projection=16, predictor_units=16,
        predictor_projection=12, joiner=16, symbols=5, phones=5, dropout=0.1 if config else 0.0,
    )  # fmt: skip
    trainer = RnntTrainer(Rnnt(sizes), LossConfig(towers=towers, kept=3))
    settings = TrainConfig(
        steps=steps, peak_rate=1e-2, warmup_steps=5, cooldown_steps=1, averaging=0.9, evaluate_steps=10**6
    )
    return Run(directory, trainer, maker, development, decode, settings)


class Quiet:
    def step(self, number: int, logs: dict[str, float], audio_s_per_s: float) -> None:
        assert np.isfinite(list(logs.values())).all()

    def note(self, line: str) -> None:
        pass


def test_labels_are_hidden_from_the_predictor_only() -> None:
    store = ToneStore(40)
    common = {"encode": encode, "phones": encode, "mean": np.full(BANDS, -8.0), "std": np.full(BANDS, 4.0)}
    maker = BatchMaker([store], [1.0], batch_frames=9000, config=AugmentConfig(token_dropout=0.4, join=0.0), **common)
    batches = [batch for epoch in range(5) for batch in maker.epoch(epoch)]
    hidden = total = 0
    for batch in batches:
        kept = batch["history"] != 0
        np.testing.assert_array_equal(batch["history"][kept], batch["targets"][kept])
        hidden += int(((batch["targets"] != 0) & ~kept).sum())
        total += int((batch["targets"] != 0).sum())
    assert 0.3 < hidden / total < 0.5
    plain = BatchMaker([store], [1.0], config=None, **common)
    batch = plain.batch(plain.plan(0)[0], np.random.default_rng(0))
    np.testing.assert_array_equal(batch["history"], batch["targets"])


def test_overfitting_reaches_zero_errors(tmp_path: Path) -> None:
    run = make_run(tmp_path, steps=250, config=None)
    run.train(Quiet())
    assert run.evaluate() == {"tones": 0.0, "ctc:tones": 0.0, "phones:tones": 0.0}
    assert (tmp_path / "log.jsonl").exists()
    assert (tmp_path / "examples.jsonl").exists()


def test_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", steps=7, config=AugmentConfig(edges_s=0.05))
    whole.train(Quiet())
    for kills, seconds in enumerate((0.0, 0.0, 1e9)):  # after one step each, which is saved; then to the end
        part = make_run(tmp_path / "part", steps=7, config=AugmentConfig(edges_s=0.05))
        assert part.restore() == (kills > 0)
        assert part.step == kills
        part.train(Quiet(), stop_after_s=seconds)
    assert part.step == 7
    for ours, theirs in zip(whole._all_variables(), part._all_variables(), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-5, err_msg=ours.path)
    for ours, theirs in zip(whole.average, part.average, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_what_was_logged_after_the_last_checkpoint_is_not_logged_twice(tmp_path: Path) -> None:
    run = make_run(tmp_path, steps=9, config=None)
    for run.step in range(1, 4):
        run._log("train", {"loss": run.step})
        run._log("dev", {"tones": run.step})
        if run.step == 2:
            run.save()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # killed while it wrote
    assert run.restore()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["step"]) for row in rows] == [(kind, n) for n in (1, 2) for kind in ("train", "dev")]
    (tmp_path / "checkpoint.npz").unlink()
    run.step = 0
    assert not run.restore()  # killed before its first checkpoint: all of it comes again
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_a_stop_between_two_epochs_is_saved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, steps=1000, config=None)

    def one_epoch_then_stop(batches: Iterator[Any]) -> Iterator[Any]:
        yield from batches
        run.stop = True

    monkeypatch.setattr(train_rnnt, "prefetch", one_epoch_then_stop)
    run.train(Quiet())
    assert 0 < run.step < 1000
    with np.load(tmp_path / "checkpoint.npz") as saved:
        assert saved["position"][0] == run.step


def test_towers_change_nothing_but_the_speed(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", steps=3, config=None)
    two = make_run(tmp_path / "two", steps=3, config=None, towers=2)
    batch = next(iter(two.maker.epoch(0)))
    losses = [float(r.trainer.train_on_batch(batch, return_dict=True)["loss"]) for r in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_rate_warms_up_stays_and_falls() -> None:
    config = TrainConfig(steps=100, peak_rate=1.0, warmup_steps=10, cooldown_steps=20)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[10:81] == [1.0] * 71
    assert rates[99] < 0.03
    assert all(a >= b for a, b in itertools.pairwise(rates[80:]))


def test_error_counts_is_the_edit_distance() -> None:
    assert error_counts([], ["a"]) == 1
    assert error_counts(["a", "b", "c"], ["a", "c"]) == 1
    assert error_counts(["a", "b"], ["b", "a", "b"]) == 1
    assert error_counts(["kitten"], ["kitten"]) == 0
