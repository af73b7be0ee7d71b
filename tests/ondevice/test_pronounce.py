"""Text as symbols: lexicon, words from parts, letter to sound, sentences of bounded length, escapes."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.lexicon import Setting, train
from ondevice.errors import InputError
from ondevice.heteronyms import NOUN_OR_VERB, reading
from ondevice.letter_to_sound import LetterToSound
from ondevice.lexicon import Lexicon, arrays, load
from ondevice.phonemes import GAP, LETTER_NAMES, PADDING, PHONE_SET, PUNCTUATION, SYMBOLS
from ondevice.pronounce import Pronouncer
from ondevice.sentences import chunks

_WORDS = {
    "a": "AH0", "the": "DH AH0", "and": "AH0 N D", "to": "T UW1", "i": "AY1", "is": "IH1 Z", "it": "IH1 T",
    "hello": "HH AH0 L OW1", "world": "W ER1 L D", "apple": "AE1 P AH0 L", "dog": "D AO1 G", "cat": "K AE1 T",
    "box": "B AA1 K S", "want": "W AA1 N T", "bake": "B EY1 K", "stop": "S T AA1 P", "try": "T R AY1",
    "play": "P L EY1",
    "touch": "T AH1 CH", "screen": "S K R IY1 N", "real": "R IY1 L", "color": "K AH1 L ER0", "five": "F AY1 V",
    "dollars": "D AA1 L ER0 Z", "doctor": "D AA1 K T ER0", "smith": "S M IH1 TH", "record": "R AH0 K AO1 R D",
    "read": "R EH1 D", "they": "DH EY1", "have": "HH AE1 V", "had": "HH AE1 D", "so": "S OW1", "going": "G OW1 IH0 NG",
    "organize": "AO1 R G AH0 N AY2 Z", "you": "Y UW1", "will": "W IH1 L", "percent": "P ER0 S EH1 N T",
}  # fmt: skip


@pytest.fixture(scope="session")
def pronouncer(tmp_path_factory: pytest.TempPathFactory) -> Pronouncer:
    path = tmp_path_factory.mktemp("pronunciation") / "pronunciation.npz"
    words = {word: tuple(phones.split()) for word, phones in _WORDS.items()}
    named = arrays(words, letter_by_letter(), {"source": "here"})
    np.savez_compressed(path, **named)
    return Pronouncer(path)


def letter_by_letter() -> LetterToSound:
    """A letter-to-sound model that says b as B and a as AA1 or AA0, and so on."""
    sounds = zip("abcdefghijklmnopqrstuvwxyz", _SOUNDS.split(), strict=True)
    word = [(letter, (sound,)) for letter, sound in sounds]
    aligned = [word[:8], word[8:16], word[16:]]
    return train(aligned, Setting(order=2), rarest=1)


_SOUNDS = "AA1 B K D EH0 F G HH IH0 JH K L M N OW0 P K R S T UH0 V W Z Y Z"


def spoken(pronouncer: Pronouncer, text: str, **options: object) -> list[str]:
    return [" ".join(s.symbols).replace("   ", " | ") for s in pronouncer.sentences(text, **options)]


def test_the_symbols_are_different_and_in_one_place() -> None:
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 2 + 7 + 69
    assert SYMBOLS[0] == PADDING
    assert {phone for phones in LETTER_NAMES.values() for phone in phones} <= PHONE_SET
    for readings in NOUN_OR_VERB.values():
        assert len(readings) == 2
        assert all(set(phones) <= PHONE_SET for phones in readings)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Hello, world!", "HH AH0 L OW1 , | W ER1 L D !"),
        ("hello", "HH AH0 L OW1 ."),
        ("the dog", "DH AH0 | D AO1 G ."),
        ("the apple", "DH IY0 | AE1 P AH0 L ."),
        ("a dog, A.", "AH0 | D AO1 G , | EY1 ."),
        ("The XO", "DH IY0 | EH1 K S | OW1 ."),
        ("dog's, dogs, cats, boxes", "D AO1 G Z , | D AO1 G Z , | K AE1 T S , | B AA1 K S IH0 Z ."),
        ("wanted baked stopped tried played",
         "W AA1 N T IH0 D | B EY1 K T | S T AA1 P T | T R AY1 D | P L EY1 D ."),
        ("baking stopping trying", "B EY1 K IH0 NG | S T AA1 P IH0 NG | T R AY1 IH0 NG ."),
        ("really, touchscreens", "R IY1 L IY0 , | T AH1 CH S K R IY2 N Z ."),
        ("colour organised goin'", "K AH1 L ER0 | AO1 R G AH0 N AY2 Z D | G OW1 IH0 N ."),
        ("you'll dog'd", "Y UW1 AH0 L | D AO1 G D ."),
        ("soooo", "S OW1 ."),
        ("DVDs", "D IY1 | V IY1 | D IY1 Z ."),
        ("the record; they record", "DH AH0 | R EH1 K ER0 D ; | DH EY1 | R IH0 K AO1 R D ."),
        ("they read it; they have read it", "DH EY1 | R IY1 D | IH1 T ; | DH EY1 | HH AE1 V | R EH1 D | IH1 T ."),
        ("it records the records", "IH1 T | R IH0 K AO1 R D Z | DH AH0 | R AH0 K AO1 R D Z ."),
        ("say [[HH AH0 L OW1]] [[w er1 l d]]s", None),
        ("zab", "Z AA1 B ."),
        ("!!! ... ,", None),
    ],
)  # fmt: skip
def test_words_are_said(pronouncer: Pronouncer, text: str, symbols: str | None) -> None:
    if symbols is not None:
        assert spoken(pronouncer, text) == [symbols]
    elif "[[" in text:
        assert "HH AH0 L OW1 | W ER1 L D" in spoken(pronouncer, text)[0]
    else:
        assert spoken(pronouncer, text) == []


def test_a_wrong_phone_is_named_with_the_right_ones(pronouncer: Pronouncer) -> None:
    with pytest.raises(InputError, match=r"'HX' is not a phone; expected some of B CH D .* ZH AA0 AA1"):
        list(pronouncer.sentences("Say [[HX AH0]]."))
    with pytest.raises(InputError, match="'AH' is not a phone"):
        pronouncer.encode("[[AH]]")


def test_a_sentence_remembers_what_was_written_where(pronouncer: Pronouncer) -> None:
    [sentence] = pronouncer.sentences("Dr. Smith,  $5   [[S OW1]]?")
    assert sentence.text == "Dr. Smith, $5 [[S OW1]]?"
    said = [(word.text, word.spoken, " ".join(sentence.symbols[word.start : word.end])) for word in sentence.words]
    assert said == [
        ("Dr.", "doctor", "D AA1 K T ER0"),
        ("Smith", "smith", "S M IH1 TH"),
        ("$5", "five dollars", "F AY1 V   D AA1 L ER0 Z"),
        ("[[S OW1]]", "[[S OW1]]", "S OW1"),
    ]
    assert sentence.ids == tuple(SYMBOLS.index(symbol) for symbol in sentence.symbols)
    assert pronouncer.encode("Dr. Smith,  $5   [[S OW1]]?") == list(sentence.ids)


def test_a_text_is_one_sentence_for_training(pronouncer: Pronouncer) -> None:
    sentence = pronouncer.say("Hello. Is it?\nNo")
    assert " ".join(sentence.symbols).startswith("HH AH0 L OW1 .   IH1 Z   IH1 T ?   N")
    assert pronouncer.say("你").ids == ()
    assert pronouncer.encode("") == []


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello. World! Is it? So", ["Hello.", "World!", "Is it?", "So"]),
        ("Hello Dr. Smith. So", ["Hello Dr. Smith.", "So"]),
        ("It is 3.5 percent. So", ["It is 3.5 percent.", "So"]),
        ("Hello\n\nworld", ["Hello", "world"]),
        ("\r\nHello\r\n \r\nworld", ["Hello", "world"]),
        ("Hello\nworld.\nSo", ["Hello world.", "So"]),
        ("Hello Dr.\nSmith", ["Hello Dr. Smith"]),
        ("- dog\n- cat\n1) box", ["dog", "cat", "1) box"]),
        ("hello. so it is.", ["hello.", "so it is."]),
        ('"Is it?" they said. "So!"', ['Is it?" they said.', 'So!"']),
        ("Hello... world. Hello... World", ["Hello... world.", "Hello...", "World"]),
    ],
)
def test_text_is_parted_where_sentences_end(pronouncer: Pronouncer, text: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in pronouncer.sentences(text)] == sentences


def test_lines_are_said_as_they_come(pronouncer: Pronouncer) -> None:
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in ("Hello.\n", "The dog\n", "is it. So\n", "Dr.\n", "Smith\n"):
            taken.append(line)
            yield line

    said = pronouncer.sentences(lines())
    assert next(said).text == "Hello."
    assert len(taken) == 1
    assert [sentence.text for sentence in said] == ["The dog is it.", "So Dr. Smith"]


def test_many_lines_without_an_end_are_not_kept(pronouncer: Pronouncer) -> None:
    assert max(map(len, chunks("dog " * 20 for _ in range(1000)))) < 2_200


@pytest.mark.parametrize("most_symbols", [40, 60, 160])
def test_long_sentences_are_cut_at_marks_then_at_words(pronouncer: Pronouncer, most_symbols: int) -> None:
    text = "The dog, the cat; the apple and the world: hello " * 20
    parts = list(pronouncer.sentences(text, most_symbols))
    assert all(0 < len(part.symbols) <= most_symbols for part in parts)
    assert all(part.symbols[-1] in PUNCTUATION for part in parts)
    assert parts[-1].symbols[-1] == "."
    whole = [s for s in pronouncer.say(text).symbols if s not in (GAP, *PUNCTUATION)]
    assert [s for part in parts for s in part.symbols if s not in (GAP, *PUNCTUATION)] == whole
    if most_symbols == 60:
        assert sum(part.symbols[-1] in ";:" for part in parts) > len(parts) / 2


def test_a_word_longer_than_a_sentence_may_be_is_cut(pronouncer: Pronouncer) -> None:
    parts = list(pronouncer.sentences(f"[[{' '.join(['AA1'] * 100)}]]", 40))
    assert all(len(part.symbols) <= 40 for part in parts)
    assert sum(symbol == "AA1" for part in parts for symbol in part.symbols) == 100


@pytest.mark.parametrize("text", ["1" * 100_000, "dog " * 25_000, "." * 100_000, "((((" * 25_000, "z" * 100_000])
def test_the_first_sentences_of_a_long_text_come_at_once(pronouncer: Pronouncer, text: str) -> None:
    sentences = pronouncer.sentences(text)
    for sentence in islice(sentences, 30):
        assert len(sentence.symbols) <= 160
        assert sentence.symbols[-1] in PUNCTUATION


def test_warnings_are_told_sentence_by_sentence(pronouncer: Pronouncer) -> None:
    told: list[str] = []
    assert [s.text for s in pronouncer.sentences("Hello 🙂. 你好", warn=told.append)] == ["Hello 🙂."]
    assert told == ["left out: '🙂' (emoji)", "left out: '你好' (CJK)"]


@given(
    text=st.text() | st.lists(st.sampled_from([*"abAZ'. ,1-\n🙂", "dog ", "Dr. ", "the ", "n't", "ing"])).map("".join)
)
def test_any_text_becomes_sentences_of_known_symbols(pronouncer: Pronouncer, text: str) -> None:
    for sentence in pronouncer.sentences(text.replace("[[", "["), 50):
        assert 2 <= len(sentence.symbols) <= 50
        assert set(sentence.symbols) <= set(SYMBOLS) - {PADDING}
        assert sentence.symbols[0] not in (GAP, *PUNCTUATION)
        assert sentence.symbols[-1] in PUNCTUATION
        assert sentence.words
        ends = [0, *(word.end for word in sentence.words)]
        for word, before in zip(sentence.words, ends, strict=False):
            assert before <= word.start < word.end <= len(sentence.symbols)


def test_too_short_sentences_and_strange_voices_are_refused(pronouncer: Pronouncer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="39 symbols are too short; expected 40"):
        next(pronouncer.sentences("Hello", 39))
    path = tmp_path / "p.npz"
    np.savez_compressed(path, **arrays({"a": ("AH0",)}, letter_by_letter(), {}))
    with pytest.raises(InputError, match="the voice has no symbol 'ZH'"):
        Pronouncer(path, [symbol for symbol in SYMBOLS if symbol != "ZH"])
    voice = Pronouncer(path, SYMBOLS[::-1])
    assert voice.encode("a dog")[0] == SYMBOLS[::-1].index("AH0")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    good = arrays({"a": ("AH0",)}, letter_by_letter(), {})
    for name, named in {
        "empty": {},
        "format": {**good, "metadata": np.frombuffer(b'{"format": 9}', np.uint8)},
        "notes": {**good, "metadata": np.frombuffer(b"{", np.uint8)},
        "words": {**good, "words": good["words"][:-1]},
        "phones": {**good, "phones": np.full_like(good["phones"], 200)},
        "sounds": {**good, "sounds": good["sounds"][:-1]},
        "pickle": {**good, "words": np.array([{}], dtype=object)},
    }.items():
        path = tmp_path / f"{name}.npz"
        np.savez_compressed(path, **named)
        with pytest.raises(InputError, match=name):
            load(path)
    (tmp_path / "text.npz").write_text("no")
    for name in ("text.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            load(tmp_path / name)


def test_a_lexicon_finds_its_words_and_no_others() -> None:
    words = {"b": ("B",), "ba": ("B", "AA1"), "a": ("AH0",), "'tis": ("T", "IH1", "Z")}
    named = arrays(words, letter_by_letter(), {})
    lexicon = Lexicon(named["words"], named["phones"])
    assert len(lexicon) == 4
    for word, phones in words.items():
        assert word in lexicon
        assert lexicon.get(word) == phones
    for word in ("", "c", "bab", "\n", "é", "\ud800", "zz"):
        assert word not in lexicon
        assert lexicon.get(word) is None


@pytest.mark.parametrize(
    ("word", "before", "after", "phones"),
    [
        ("record", "the", "", "R EH1 K ER0 D"),
        ("record", "to", "it", "R IH0 K AO1 R D"),
        ("use", "no", "", "Y UW1 S"),
        ("use", "we", "it", "Y UW1 Z"),
        ("uses", "he", "it", "Y UW1 Z IH0 Z"),
        ("read", "", "it", "R IY1 D"),
        ("read", "had", "it", "R EH1 D"),
        ("live", "they", "in", "L IH1 V"),
        ("live", "a", "show", "L AY1 V"),
        ("lives", "he", "", "L IH1 V Z"),
        ("lives", "their", "", "L AY1 V Z"),
        ("lead", "the", "pipe", "L EH1 D"),
        ("lead", "to", "it", "L IY1 D"),
        ("close", "so", "to", "K L OW1 S"),
        ("close", "please", "the", "K L OW1 Z"),
        ("refuse", "", "it", "R AH0 F Y UW1 Z"),
        ("wind", "the", "blows", "W IH1 N D"),
        ("wind", "to", "it", "W AY1 N D"),
        ("dog", "the", "", None),
    ],
)
def test_words_of_two_readings_follow_their_neighbours(word: str, before: str, after: str, phones: str | None) -> None:
    assert reading(word, before, after) == (tuple(phones.split()) if phones else None)
