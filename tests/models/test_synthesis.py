"""Prompts and synthetic speech; what needs an engine is skipped where it is not installed."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models import synthesis
from models.corpora import load_audio, read_corpus
from models.prompts import KINDS, Prompt, PromptMixer, Sources, load_sources, spoken_form
from models.synthesis import Style, Voice, draw_style, known_voices, plausible, speak, write_corpus
from models.text import ALPHABET, HeldOutFilter, normalize
from ondevice.errors import FailureError, InputError

PLAIN = Style(rate=1.0, pitch=1.0, tract=1.0, level_db=-20.0, lead_s=0.1, tail_s=0.2)
BOOK = tuple((f"{line}.", line) for line in ("the old man went home", "we saw a ship", "rain fell on the far hill"))
NOTHING_HELD_OUT = HeldOutFilter([])


def mixer(held_out: HeldOutFilter = NOTHING_HELD_OUT) -> PromptMixer:
    return PromptMixer(Sources(BOOK, (("good day!", "good day"),), ("zebra", "queue")), held_out)


def test_prompts_are_of_every_kind_in_the_alphabet_and_repeatable() -> None:
    drawn = [mixer().draw(np.random.default_rng([7, index])) for index in range(300)]
    assert {prompt.kind for prompt in drawn} == set(KINDS)
    assert all(set(prompt.norm) <= ALPHABET and normalize(prompt.norm) == prompt.norm for prompt in drawn)
    assert drawn == [mixer().draw(np.random.default_rng([7, index])) for index in range(300)]
    spelled = next(prompt for prompt in drawn if prompt.kind == "spelled" and prompt.norm == "z e b r a")
    assert spelled.spoken == "zee, ee, bee, are, eigh"


def test_held_out_prompts_are_never_drawn() -> None:
    held_out = HeldOutFilter(["we saw a ship", "good day"])
    drawn = Counter(mixer(held_out).draw(np.random.default_rng(index)).norm for index in range(300))
    assert drawn["the old man went home"]
    assert not drawn["we saw a ship"] + drawn["good day"]


def test_spoken_form_keeps_punctuation_only_where_the_words_agree() -> None:
    assert spoken_form('"Well," he said; "go!"', "well he said go") == "well, he said; go!"
    assert spoken_form("It was 1862.", "it was eighteen sixty two") == "it was eighteen sixty two"
    assert spoken_form("Mr. Bell", "mister bell") == "mister bell"


def test_sources_leave_out_unknown_words_held_out_text_and_other_splits(tmp_path: Path) -> None:
    book, lexicon, daily = tmp_path / "book.txt", tmp_path / "dict", tmp_path / "daily.tsv"
    book.write_text("We saw the ship. We saw a xyzzyx there. We saw the old hill.\n")
    lexicon.write_text("we W\nsaw S\nthe D\nship S\na A\nthere D\nold O\nhill H\nhill(2) H\n")
    daily.write_text("split\ten\tes\ntrain\tWe saw the hill!\tx\ntest\tThe old ship there.\ty\n")
    sources = load_sources(book, daily, lexicon, HeldOutFilter(["we saw the old hill"]))
    assert sources.book == (("we saw the ship.", "we saw the ship"),)
    assert sources.everyday == (("we saw the hill!", "we saw the hill"),)
    daily.write_text("en\nx\n")
    with pytest.raises(InputError, match="columns `split` and `en`"):
        load_sources(book, daily, lexicon, NOTHING_HELD_OUT)
    with pytest.raises(InputError, match="no usable sentence"):
        load_sources(
            book, None, None, HeldOutFilter(["we saw the ship", "we saw a xyzzyx there", "we saw the old hill"])
        )


def test_voices_are_weighted_and_free_of_mbrola() -> None:
    voices = known_voices()
    assert len({voice.speaker for voice in voices}) == len(voices)
    shares = Counter[str]()
    for voice in voices:
        shares[voice.engine] += voice.weight
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["espeak"] == pytest.approx(0.45)
    assert not any("mb" in voice.name for voice in voices)


def test_plausible_lengths() -> None:
    assert plausible(2.0, "it is a simple sentence")
    assert not plausible(0.3, "it is a simple sentence that cannot be read so fast")
    assert not plausible(9.0, "short")
    assert not plausible(20.0, "a " * 100)


@pytest.mark.parametrize(
    ("engine", "name"), [("flite", "slt"), ("flite", "kal"), ("espeak", "en-us+f3"), ("festival", "kal_diphone")]
)
def test_speech_has_the_style_asked_for(engine: str, name: str) -> None:
    if not shutil.which(synthesis.ENGINES[engine]):
        pytest.skip(f"{engine} is not installed")
    voice, text = Voice(engine, name, 1.0), "the old man went home over the hill"
    try:
        samples = speak(text, voice, PLAIN)
    except FailureError as error:
        pytest.skip(str(error))
    assert samples.dtype == np.float32
    assert np.abs(samples).max() <= 0.99
    assert 1.2 < len(samples) / 16000 < 4.5
    assert np.all(samples[:1400] == 0)
    speech = samples[1600:-3200]
    assert 20 * np.log10(np.sqrt(np.mean(speech**2))) == pytest.approx(-20.0, abs=0.5)
    again = speak(text, voice, PLAIN)
    assert len(again) == len(samples)
    if engine != "espeak":  # once in some fifty times its samples differ
        np.testing.assert_array_equal(samples, again)
    faster = speak(text, voice, Style(1.3, 1.0, 1.0, -20.0, 0.1, 0.2))
    assert len(faster) < 0.92 * len(samples)
    warped = speak(text, voice, Style(1.0, 1.0, 1.12, -20.0, 0.1, 0.2))  # another voice, the same tempo
    assert len(warped) == pytest.approx(len(samples), rel=0.1)


def test_a_missing_engine_or_silent_voice_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FailureError, match="flite is not installed"):
        speak("hello", Voice("flite", "slt", 1.0), PLAIN)


@pytest.fixture
def beeps(monkeypatch: pytest.MonkeyPatch) -> tuple[Voice, ...]:
    """Two voices that answer with a tone of a plausible length, so that no engine is needed."""

    def beep(text: str, voice: Voice, style: Style) -> np.ndarray:
        if "ship" in text:
            raise FailureError("stumbled")
        return np.full(round((0.2 + 0.04 * len(text) + style.lead_s + style.tail_s) * 16000), 0.1, np.float32)

    monkeypatch.setattr(synthesis, "speak", beep)
    return Voice("flite", "one", 0.9), Voice("espeak", "two", 0.1)


def test_corpus_grows_by_shards_and_goes_on_as_if_never_stopped(tmp_path: Path, beeps: tuple[Voice, ...]) -> None:
    whole, parts = tmp_path / "whole" / "synth", tmp_path / "parts" / "synth"
    for folder, goals in ((whole, [0.005]), (parts, [0.002, 0.005])):
        for hours in goals:
            list(write_corpus(folder, mixer(), hours, seed=5, shard_minutes=0.2, voices=beeps))
    rows, again = (
        [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()] for folder in (whole, parts)
    )
    assert [{**row, "tar": ""} for row in rows] == [{**row, "tar": ""} for row in again]
    assert {path.name for path in whole.iterdir()} == {"manifest.jsonl", *(row["tar"] for row in rows)}
    utterances = list(read_corpus(whole))
    assert sum(utterance.seconds for utterance in utterances) >= 0.005 * 3600
    assert {utterance.speaker for utterance in utterances} == {"flite-one", "espeak-two"}
    assert not any("ship" in utterance.text for utterance in utterances)
    assert len(load_audio(utterances[0])) / 16000 == pytest.approx(utterances[0].seconds, abs=1e-3)
    assert {row["split"] for row in rows} == {"train"}
    with pytest.raises(InputError, match="another seed"):
        list(write_corpus(whole, mixer(), 1.0, seed=4, voices=beeps))


def test_a_corpus_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "render", lambda *_: None)
    with pytest.raises(FailureError, match="50 utterances in a row"):
        list(write_corpus(tmp_path, mixer(), 0.1, voices=known_voices()[:1]))
    with pytest.raises(InputError, match="above 0"):
        list(write_corpus(tmp_path, mixer(), -1))


def test_styles_stay_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    for voice in (Voice("flite", "slt", 1), Voice("espeak", "en", 1)):
        for style in (draw_style(rng, voice) for _ in range(100)):
            assert 0.75 <= style.rate <= 1.35
            assert 0.85 <= style.tract <= 1.16
            assert -32 <= style.level_db <= -16


def test_prompts_are_values() -> None:
    assert Prompt("a.", "a", "book") == Prompt("a.", "a", "book")
