"""Alignment of letters and phones, the letter-to-sound model, and the file that holds it, on a toy dictionary."""

import gzip
from pathlib import Path

import pytest

from models.graphones import align
from models.lexicon import (
    Setting,
    build,
    edit_distance,
    family,
    is_held_out,
    read_dictionary,
    score,
    train,
)
from ondevice.errors import InputError
from ondevice.letter_to_sound import LetterToSound
from ondevice.lexicon import load
from ondevice.phonemes import PHONE_SET
from ondevice.pronounce import Pronouncer
from tests.conftest import DATA

_ONSETS = {"b": "B", "d": "D", "k": "K", "m": "M", "s": "S", "sh": "SH", "th": "TH", "x": "K S"}
_RHYMES = {"at": "AE1 T", "ot": "AA1 T", "et": "EH1 T", "ang": "AE1 NG", "ee": "IY1", "ax": "AE1 K S", "ate": "EY1 T"}


def toy_words() -> list[tuple[str, tuple[str, ...]]]:
    """Every onset with every rhyme, and words of two syllables whose second has no stress."""
    one = [(o + r, tuple(f"{p} {q}".split())) for o, p in _ONSETS.items() for r, q in _RHYMES.items()]
    two = [(f + s, (*p, *(x.replace("1", "0") for x in q))) for f, p in one for s, q in one if len(f + s) < 7]
    return one + two


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dictionary") / "toy.dict.gz"
    lines = [f"{word} {' '.join(phones)}" for word, phones in toy_words()]
    lines += ["bat(2) B AA1 T # another", "bat's B AE1 T S", "a.m. EY2 EH1 M", "# only a comment"]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def model() -> LetterToSound:
    return train(align([w for w in toy_words() if not is_held_out(w[0])]), Setting(order=3))


def test_letters_are_aligned_with_the_phones_they_spell() -> None:
    words = toy_words()
    aligned = dict(zip([word for word, _ in words], align(words), strict=True))
    for word, phones in words:
        assert "".join(letters for letters, _ in aligned[word]) == word
        assert tuple(phone for _, sounds in aligned[word] for phone in sounds) == phones
        assert all(len(letters) <= 2 and len(sounds) <= 2 for letters, sounds in aligned[word])
    assert ("x", ("K", "S")) in aligned["bax"]
    assert ("sh", ("SH",)) in aligned["shat"] or ("s", ("SH",)) in aligned["shat"]


def test_words_with_too_many_phones_are_not_aligned() -> None:
    words = [*toy_words(), ("w", ("D", "AH1", "B", "AH0", "L")), ("bbb", ())]
    assert align(words)[-2:] == [(), ()]
    assert align([]) == []


def test_unseen_words_are_pronounced(model: LetterToSound) -> None:
    held_out = {word: [phones] for word, phones in toy_words() if is_held_out(word)}
    assert len(held_out) > 20
    result = score(model, held_out)
    assert result.wer < 5
    assert result.wer_without_stress <= result.wer
    assert result.per < 2
    assert result.words == len(held_out)


def test_a_word_has_one_primary_stress(model: LetterToSound) -> None:
    for word in ("batatate", "thangdeeshax", "xaxaxax"):
        assert sum(phone.endswith("1") for phone in model(word)) == 1


def test_any_letters_are_pronounced(model: LetterToSound) -> None:
    assert model("") == ()
    assert model("qqq") == ()
    assert model("qbatq") == ("B", "AE1", "T")
    assert set(model("batshee" * 5)) <= PHONE_SET


def test_a_wider_beam_finds_what_a_narrow_one_finds_or_better(model: LetterToSound) -> None:
    def log_probability(word: str, beam: int) -> float:
        return max(hypothesis.score for hypothesis in model.search(word, beam))

    for word in ("shatdot", "theeshang", "kateket"):
        assert log_probability(word, 200) >= log_probability(word, 3) - 1e-4
        assert model(word, 50) == model(word, 200)


def test_the_model_survives_its_file(model: LetterToSound) -> None:
    again = LetterToSound.from_arrays(model.arrays())
    for word, _ in toy_words()[::37]:
        assert again(word) == model(word)


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("care cares cared caring carer care's", True),
        ("stop stops stopped stopping stopper", True),
        ("try tries tried trying", True),
        ("cat dog", False),
    ],
)
def test_families_share_a_stem(words: str, same: bool) -> None:
    assert (len({family(word) for word in words.split()}) == 1) == same


def test_edit_distance() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("abc", "abc") == 0


def test_a_dictionary_is_read_with_all_pronunciations(toy: Path) -> None:
    words = read_dictionary(toy)
    assert words["bat"] == [("B", "AE1", "T"), ("B", "AA1", "T")]
    assert words["bat's"] == [("B", "AE1", "T", "S")]
    assert "a.m." not in words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no words"),
        (b"hello HH AX0", "1: 'AX0' is not a phone"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_broken_dictionaries_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.dict"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_dictionary(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_dictionary(tmp_path / "missing.dict.gz")


def test_it_writes_a_file_the_runtime_reads(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "pronunciation.npz"
    build(toy, "Copyright somebody", output)
    printed = capsys.readouterr().out
    for setting in ("order 4", "order 5", "order 6, gain 0.5", "shipped (order 6, gain 1.5)"):
        assert setting in printed
    assert printed.count("WER") == 6
    lexicon, _, notes = load(output)
    assert lexicon.get("bat") == ("B", "AE1", "T")
    assert notes["licence"] == "Copyright somebody"
    assert "CMUdict" in notes["source"]
    assert 0 <= notes["held_out"]["wer"] <= 100
    [sentence] = Pronouncer(output).sentences("bat's deekang")
    assert " ".join(sentence.symbols) == "B AE1 T S   D IY1 K AE0 NG ."
    with pytest.raises(InputError, match="is not a folder"):
        build(toy, "", tmp_path / "no" / "where.npz", compare=False)


def test_too_few_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.dict"
    path.write_text("bat B AE1 T\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"too few words|no held-out words"):
        build(path, "", tmp_path / "out.npz", compare=False)


@pytest.mark.slow
def test_cmudict_gives_a_small_file_that_says_what_the_verbaliser_says(tmp_path: Path) -> None:
    dictionary = DATA / "text" / "cmudict.dict.gz"
    if not dictionary.exists():
        pytest.skip("no CMUdict here: set ONDEVICE_DATA to a folder that holds text/cmudict.dict.gz")
    output = tmp_path / "pronunciation.npz"
    result = build(dictionary, "", output, compare=False)
    assert output.stat().st_size < 2e6
    assert result.wer < 40  # families of words held out, two thirds of them names
    assert result.per < 12
    assert Pronouncer(output).word("thought") == ("TH", "AO1", "T")
