"""Text normalisation, sentence splitting and the exclusion of held-out text."""

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.numbers import LARGEST, cardinal, ordinal, roman_value, spell_numbers, year
from models.text import (
    ALPHABET,
    HeldOutFilter,
    book_sentences,
    clean_books,
    held_out_filter,
    normalize,
    sentences,
    training_transcripts,
)
from ondevice.errors import InputError


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Mr. Pickwick's hat, said Mrs. Bardell!", "mister pickwick's hat said missus bardell"),
        ("She was born in 1862; he in 1905.", "she was born in eighteen sixty two he in nineteen o five"),
        ("a fortune of £5,000 a year", "a fortune of five thousand pounds a year"),
        ("the 43rd of 3,000 men", "the forty third of three thousand men"),
        ("We met at 3:15, not 4:05.", "we met at three fifteen not four o five"),
        ("CHAPTER XIV", "chapter fourteen"),
        ("Henry VIII and Louis XIV.", "henry the eighth and louis the fourteenth"),
        ("To-day--the arm-chair… was naïve", "to day the arm chair was naive"),
        ("‘’Tis well,’ said he; ‘don’t shoot ’em.’", "'tis well said he don't shoot 'em"),
        ("the soldiers' tents at three o'clock", "the soldiers' tents at three o'clock"),
        ("'the soldiers'", "the soldiers"),
        ("I ca n't.", "i can't"),
        ("No. 6 & No. 7", "number six and number seven"),
    ],
)
def test_normalize_says_what_a_reader_would(written: str, said: str) -> None:
    assert normalize(written) == said


@pytest.mark.parametrize("written", ["", "...", "άνθρωπος", "x = y * 2", "[Footnote]", "9" * 13, "50 © 2001", "''"])
def test_normalize_refuses_what_cannot_be_read(written: str) -> None:
    assert normalize(written) is None


@given(st.text())
def test_normalized_text_is_in_the_alphabet_and_stays_as_it_is(text: str) -> None:
    line = normalize(text)
    if line is not None:
        assert set(line) <= ALPHABET
        assert line
        assert line == " ".join(line.split())
        assert normalize(line) in (line, normalize(normalize(line) or ""))


def test_numbers() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(LARGEST).startswith("nine hundred ninety nine billion")
    assert [ordinal(n) for n in (1, 12, 20, 101)] == ["first", "twelfth", "twentieth", "one hundred first"]
    assert [year(n) for n in (1900, 1066, 2007)] == ["nineteen hundred", "ten sixty six", "two thousand seven"]
    assert [roman_value(n) for n in ("XIV", "mcmxc", "IIX", "")] == [14, 1990, None, None]
    assert " ".join(spell_numbers("2.50 and 0123").split()) == "two point five zero and zero one two three"
    with pytest.raises(ValueError, match="outside"):
        cardinal(-1)


def test_sentences_do_not_end_at_titles_and_initials() -> None:
    paragraph = 'Mr. J. Bell came in. "Who is it?" he asked. It was St. Paul\'s, etc. Then he left'
    assert list(sentences(paragraph)) == [
        "Mr. J. Bell came in.",
        '"Who is it?" he asked.',
        "It was St. Paul's, etc.",
        "Then he left",
    ]


def test_books_lose_titles_tables_and_held_out_sentences(tmp_path: Path) -> None:
    book = tmp_path / "book.txt.xz"
    lines = (
        "= A Book / Somebody (1890) =",
        "CHAPTER I. THE BEGINNING",
        "It was a dark night. The wind that came from the sea was cold and wet. Quite so.",
        "B. C. D. F. 1 2 3 x y",
        "word; " * 70 + "end.",
    )
    book.write_bytes(lzma.compress("\n".join(lines).encode()))
    kept = [norm for _, norm in book_sentences(book)]
    assert kept[:3] == ["it was a dark night", "the wind that came from the sea was cold and wet", "quite so"]
    assert max(len(line.split()) for line in kept) <= 60
    held_out = HeldOutFilter(["and the wind that came from the sea blew", "quite so"])
    assert list(clean_books(book, held_out))[:1] == ["it was a dark night"]
    assert not {"quite so", kept[1]} & set(clean_books(book, held_out))


def test_held_out_filter_takes_dev_and_test_only(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    rows = [
        {"text": "Seven words are more than six, surely", "split": "test"},
        {"text": "GOOD MORNING", "split": "dev"},
        {"text": "Twenty words of training text are all right", "split": "train"},
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    held_out = held_out_filter([manifest])
    assert held_out.overlaps("then seven words are more than six")
    assert held_out.overlaps("good morning")
    assert not held_out.overlaps("good morning sir")
    assert not held_out.overlaps("twenty words of training text are all right")
    assert list(training_transcripts([manifest])) == ["twenty words of training text are all right"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"text": "x"}'])
def test_broken_manifest_names_file_and_line(tmp_path: Path, line: str) -> None:
    manifest = tmp_path / "broken.jsonl"
    manifest.write_text('{"text": "fine", "split": "dev"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"broken\.jsonl:2"):
        held_out_filter([manifest])


def test_missing_or_corrupt_text_is_an_input_error(tmp_path: Path) -> None:
    corrupt = tmp_path / "book.txt.xz"
    corrupt.write_bytes(b"not xz at all")
    for path in (tmp_path / "none.txt", corrupt):
        with pytest.raises(InputError, match=path.name):
            list(book_sentences(path))
