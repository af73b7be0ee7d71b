"""The voice's recipe: batches, losses, a whole run on a few seconds, and that a tiny voice learns one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

keras = pytest.importorskip("keras")

from models import tacotron as model_file  # noqa: E402
from models import train_tacotron as recipe  # noqa: E402
from models.copies import draw_prosody, write_copies  # noqa: E402
from models.discriminators import MelDiscriminator  # noqa: E402
from models.speech_store import cached_speech  # noqa: E402
from models.step_run import (  # noqa: E402
    StepConfig,
    StepRun,
    warm_judge,
)
from models.tacotron import TINY, Tacotron  # noqa: E402
from models.tacotron_data import TacotronBatches  # noqa: E402
from models.tacotron_training import TacotronLossConfig, TacotronTrainer  # noqa: E402
from models.vocoder_data import MelStatistics  # noqa: E402
from ondevice.errors import InputError  # noqa: E402
from ondevice.speech_features import speech_mel, trim_silence  # noqa: E402
from tests.models.backends import on_every_backend  # noqa: E402
from tests.voices import glide, vowel  # noqa: E402

test_on_jax = on_every_backend(__file__)
RATE_HZ = 24_000
STATISTICS = MelStatistics(np.full(80, -6.0, np.float32), np.full(80, 3.0, np.float32))
SIZES = replace(TINY, bands=80, symbols=30)


def encode(text: str) -> list[int]:
    """Letters as numbers."""
    return [ord(letter) - 96 for letter in text if letter.isalpha()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice") / "reader"
    folder.mkdir()
    rows = []
    for number, split in enumerate(["train"] * 6 + ["dev"] * 2):
        length = RATE_HZ // 2 + 2_400 * number
        sound = np.concatenate(
            [np.zeros(4_800), vowel(glide(120 + 10 * number, 180, length), RATE_HZ), np.zeros(7_200)]
        )
        soundfile.write(folder / f"{number}.wav", sound, RATE_HZ)
        rows.append(json.dumps({"file": f"{number}.wav", "text": "aaa" + "bcd"[number % 3], "split": split}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def batches(corpus: Path, split: str = "train", **options: object) -> TacotronBatches:
    store = cached_speech(corpus, split, corpus / "cache", jobs=1, say=lambda _: None)
    assert store is not None
    return TacotronBatches([store], encode, STATISTICS, batch_frames=600, block=4, **options)


def test_silence_around_speech_is_trimmed() -> None:
    speech = 0.3 * np.sin(np.arange(12_000) / 10)
    samples = np.concatenate([np.zeros(24_000), speech, 1e-4 * np.ones(24_000)]).astype(np.float32)
    assert len(trim_silence(samples)) == pytest.approx(12_000 + 0.17 * RATE_HZ, abs=480)
    assert len(trim_silence(np.zeros(1_000, np.float32))) == 1_000
    assert len(trim_silence(np.zeros(0, np.float32))) == 0


def test_batches_follow_from_seed_and_step_and_hold_what_was_said(corpus: Path) -> None:
    first, again, other = batches(corpus).batch(3), batches(corpus).batch(3), batches(corpus, seed=1).batch(3)
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["mel"], other["mel"])
    made = batches(corpus)
    whole = made.arrays(made.items)
    for row, item in enumerate(made.items):
        count = whole["frames"][row]
        mel = speech_mel(trim_silence(item.store.samples(item.utterance)))
        np.testing.assert_allclose(whole["mel"][row, :count], (mel + 6) / 3, atol=2e-2)  # kept in float16
        assert not whole["mel"][row, count:].any()
        assert tuple(whole["symbols"][row, : whole["lengths"][row]]) == tuple(encode(item.utterance.text))
    assert whole["mel"].shape[1] % 4 == 0


def test_prosody_is_known_to_some_sentences_only(corpus: Path) -> None:
    known = np.ones((4, 4), np.float32)
    made = batches(corpus, prosody=lambda _: known, prosody_dropout=0.5)
    seen = [made.batch(step)["prosody"][:, 0, 0] for step in range(40)]
    assert 0.3 < np.concatenate(seen).mean() < 0.7
    assert made.arrays(made.items)["prosody"][:, :4].all()


def test_a_step_knows_where_a_sentence_ends(corpus: Path) -> None:
    """The stop loss is nothing for a decoder that says stop from the last step on and never before."""
    keras.utils.set_random_seed(0)
    trainer = TacotronTrainer(Tacotron(SIZES))
    steps = np.array([5, 3], np.int32)
    right = np.where(np.arange(8)[None] >= steps[:, None] - 1, 20.0, -20.0).astype(np.float32)
    assert float(trainer._stop_loss(right, steps)) < 1e-6
    assert float(trainer._stop_loss(-right, steps)) > 10
    late = np.where(np.arange(8)[None] >= steps[:, None], 20.0, -20.0).astype(np.float32)
    assert float(trainer._stop_loss(late, steps)) > 1


def test_attention_far_from_the_diagonal_costs(corpus: Path) -> None:
    trainer = TacotronTrainer(Tacotron(SIZES))
    steps, lengths = np.array([10], np.int32), np.array([10], np.int32)
    cost = keras.ops.convert_to_numpy(trainer._off_diagonal(steps, lengths, np.zeros((1, 10, 10), np.float32)))[0]
    assert cost[4, 4] == 0
    assert cost[0, 9] > 0.9


def test_a_tiny_voice_learns_a_sentence(corpus: Path) -> None:
    keras.utils.set_random_seed(0)
    trainer = TacotronTrainer(Tacotron(replace(SIZES, dropout=0.0, lstm_dropout=0.0)), TacotronLossConfig())
    jit = "auto" if keras.backend.backend() == "jax" else False
    trainer.compile(optimizer=keras.optimizers.Adam(1e-2, global_clipnorm=1.0), jit_compile=jit)
    made = batches(corpus)
    batch = made.arrays(made.items[:2])
    losses = [float(trainer.train_on_batch(batch, return_dict=True)["loss"]) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]
    assert np.isfinite(losses).all()


def test_a_run_leaves_weights_pictures_and_a_neutral_style(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if keras.backend.backend() == "jax":
        pytest.skip("runs are the same on both backends: the vocoder's test covers them")
    monkeypatch.setitem(model_file.PRESETS, "tiny", SIZES)
    data = recipe.VoiceData((corpus,), cache=corpus / "cache", batch_frames=600)

    def run(folder: Path, steps: int, start: Path | None = None) -> Path:
        config = StepConfig(preset="tiny", steps=steps, cooldown_steps=1, warmup_steps=1, evaluate_steps=2)
        return recipe.train(recipe.prepare(folder, data, config, encode, symbols=30, start=start))

    weights = run(tmp_path / "run", 2)
    assert {"tacotron.weights.h5", "neutral.json", "norm.json", "spoken.png", "curves.png", "log.jsonl"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    loaded = recipe.load_tacotron(tmp_path / "run")
    assert loaded.config == SIZES
    neutral = json.loads((tmp_path / "run" / "neutral.json").read_text())
    assert len(neutral["style"]) == SIZES.style.width
    assert neutral["reach"] > 0
    run(tmp_path / "run", 4)  # goes on
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "dev"] == [2, 4]
    run(tmp_path / "other", 1, start=weights)
    with pytest.raises(InputError, match="expected the folder of a finished voice run"):
        recipe.load_tacotron(tmp_path)


def test_too_many_symbols_are_refused(corpus: Path, tmp_path: Path) -> None:
    data = recipe.VoiceData((corpus,), cache=corpus / "cache")
    with pytest.raises(InputError, match="99 symbols: preset tiny has room for 80"):
        recipe.prepare(tmp_path / "run", data, StepConfig(preset="tiny"), encode, symbols=99)
    with pytest.raises(InputError, match="--preset huge: expected one of tiny, small, paper"):
        recipe.prepare(tmp_path / "run", data, StepConfig(preset="huge"), encode, symbols=9)


def test_copies_say_the_same_otherwise(corpus: Path, tmp_path: Path) -> None:
    done = list(write_copies(corpus, tmp_path / "copies", count=2, seed=5, jobs=1))
    assert done == [6]
    rows = [json.loads(line) for line in (tmp_path / "copies" / "manifest.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [f"aaa{'bcd'[i % 3]}" for i in range(6) for _ in range(2)]
    store = cached_speech(tmp_path / "copies", "train", tmp_path / "cache", jobs=1, say=lambda _: None)
    assert store is not None
    original = cached_speech(corpus, "train", corpus / "cache", jobs=1, say=lambda _: None)
    assert original is not None
    for row, copy in zip(rows, store.utterances, strict=True):
        source = original.utterances[int(row["file"].split("/")[1].split("-")[0])]
        assert copy.count / RATE_HZ == pytest.approx(source.count / RATE_HZ / row["prosody"]["rate"], rel=0.02)
    with pytest.raises(InputError, match="expected at least 1"):
        list(write_copies(corpus, tmp_path / "none", count=0))


def test_copies_differ_enough_to_be_heard() -> None:
    drawn = [draw_prosody(np.random.default_rng(i)) for i in range(200)]
    for name, spread in (
        ("pitch", 0.1),
        ("pitch_range", 0.3),
        ("rate", 0.1),
        ("gain_db", 3),
        ("tilt_db_per_octave", 1),
    ):
        assert np.std([getattr(prosody, name) for prosody in drawn]) > spread


def test_a_step_with_a_discriminator_moves_every_weight_of_both_sides(corpus: Path) -> None:
    keras.utils.set_random_seed(0)
    judge = MelDiscriminator((2, 3))
    judge.build()
    tacotron = Tacotron(SIZES)
    tacotron.build()
    trainer = TacotronTrainer(tacotron, discriminator=judge)
    made = batches(corpus)
    batch = made.arrays(made.items[:2])
    jit = "auto" if keras.backend.backend() == "jax" else False
    trainer.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=jit)
    before = {v.path: np.array(v) for side in (judge, tacotron.postnet) for v in side.trainable_variables}
    logs = trainer.train_on_batch(batch, return_dict=True)
    parts = sum(logs[name] * weight for name, weight in [("adversarial", 0.2), ("features", 1), ("discriminator", 1)])
    apart = logs["before"] + logs["refined"] + 0.5 * logs["stop"] + logs["guide"]
    assert float(logs["loss"]) == pytest.approx(float(apart + parts), rel=1e-4)
    after = {v.path: np.array(v) for side in (judge, tacotron.postnet) for v in side.trainable_variables}
    assert all((before[path] != after[path]).any() for path in before)


def test_a_discriminator_learns_before_the_voice_does(corpus: Path, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    judge = MelDiscriminator()
    judge.build()
    trainer = TacotronTrainer(Tacotron(SIZES), TacotronLossConfig(), judge)
    trainer.tacotron.build()
    config = StepConfig(preset="tiny", steps=4, cooldown_steps=1, warmup_steps=1, evaluate_steps=100)
    run = StepRun(tmp_path, trainer, batches(corpus), config, dict)

    def weights(model: keras.Model) -> list[np.ndarray]:
        return [np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables]

    voice, judging = weights(trainer.tacotron), weights(judge)
    warm_judge(run, run.trainer.tacotron, 2)
    assert all(np.array_equal(a, b) for a, b in zip(voice, weights(trainer.tacotron), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(judging, weights(judge), strict=True))
    assert len(run.average) == len(voice) + len(judging)
    assert (tmp_path / "checkpoint.npz").exists()
    trainer.train_on_batch(run.batches.batch(0))
    assert not all(np.array_equal(a, b) for a, b in zip(voice, weights(trainer.tacotron), strict=True))
