"""Text as it is scored: numbers and abbreviations as they are said, and any Unicode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import InputError
from ondevice.normalize import LARGEST, NORMALIZERS, basic, cardinal, digits, english, none, normalizer, ordinal, year

# Letters, figures and signs that the rules look at, so that they meet each other in every order.
_TRICKY = st.lists(
    st.sampled_from(
        [
            *"0123456789,.:%$£€-'’/½⁄&_ \t\nåßİσς\u0301\u00ad٣²",
            *(
                "st",
                "th",
                "nd",
                "s",
                "am",
                "p.m.",
                "mr",
                "Dr.",
                "no.",
                "gen. ",
                "n't",
                "'s",
                "ll",
                " million",
                "per cent",
            ),
            *("hundred", "thousand", " and ", "nineteen", " oh ", "five", "[x]", "<unk>", "ok", "ŉ", "ﬁ", "１"),
        ]
    ),
    max_size=12,
).map("".join)
_ANY = st.text() | _TRICKY


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("MISTER QUILTER'S MANNER", "mister quilter's manner"),
        ("Hello,world! (Well-known)", "hello world well known"),
        ("“Don’t”, ‘he’ said: 'tis the soldiers' o’clock", "don't he said tis the soldiers o'clock"),
        ("it 's what they 'll say , I ca n't", "it's what they'll say i can't"),
        ("Mr. and Mrs. Bell, Dr Who's St. Paul, Jr.", "mister and missus bell doctor who's saint paul junior"),
        ("Gen. Lee met gen Z; no, No. 5 etc.", "general lee met gen z no number five et cetera"),
        ("naïve Ærø Straße ﬁne co\u00adop", "naive aero strasse fine coop"),
        ("AT&T [laughter] <unk> ok", "at and t okay"),
        ("Привет, мир", "привет мир"),
        ("colour and color", "colour and color"),
        ("... ?!", ""),
    ],
)
def test_words_are_compared_as_they_are_spoken(written: str, said: str) -> None:
    assert english(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0 7 13 20 45 100 342", "zero seven thirteen twenty forty five one hundred three hundred forty two"),
        ("3,000 men and 1,2,3", "three thousand men and one two three"),
        ("in 1862, 1905, 1900 or 2015", "in eighteen sixty two nineteen o five nineteen hundred or twenty fifteen"),
        ("2007 and 2,015", "two thousand seven and two thousand fifteen"),
        ("the 1st, 22nd, 43rd, 12th, 20th", "the first twenty second forty third twelfth twentieth"),
        ("the 1990s, '60s and 20s", "the nineteen nineties sixties and twenties"),
        ("3.14 .5 0.05 1.2.3", "three point one four zero point five zero point zero five one point two point three"),
        ("-5 and 4-5", "minus five and four five"),
        ("$1 $5 £2.50 $0.01 €1,234", "one dollar five dollars two pounds and fifty pence one cent one thousand "
         "two hundred thirty four euros"),
        ("$1.5 million, 2 million", "one point five million dollars two million"),
        ("5% or 2.5 per cent", "five percent or two point five percent"),
        ("3:15pm 4:05 p.m. 5:00", "three fifteen p m four o five p m five"),
        ("2½ cups, ½, 3 3/4, 1/3, 9/11", "two and a half cups one half three and three quarters one third nine eleven"),
        ("007 B2B ٣", "zero zero seven b two b three"),
        ("1234567890123", "one two three four five six seven eight nine zero one two three"),
        ("one hundred and five", "one hundred five"),
        ("a thousand and one nights and two", "a thousand one nights and two"),
        ("nineteen oh five, oh five", "nineteen o five oh five"),
    ],
)  # fmt: skip
def test_numbers_are_spelled_as_they_are_read(written: str, said: str) -> None:
    assert english(written) == said


def test_digits_and_words_for_the_same_number_become_the_same() -> None:
    for number in (0, 5, 16, 80, 99, 105, 1_000, 1_000_001, LARGEST):
        assert english(f"{number:,}") == cardinal(number)
        assert english(str(number)) == cardinal(number)
    assert english("21st") == ordinal(21) == "twenty first"
    assert english("1066") == "one thousand sixty six"  # as likely a number as a year
    assert year(1066) == "ten sixty six"
    assert digits("0a9") == "zero nine"
    with pytest.raises(ValueError, match="outside"):
        cardinal(LARGEST + 1)


@given(st.integers(0, LARGEST))
def test_every_number_is_read_in_plain_words(number: int) -> None:
    for words in (cardinal(number), ordinal(number)):
        assert words == " ".join(words.split())
        assert set(words) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert english(cardinal(number)) == cardinal(number)


@pytest.mark.parametrize("normalize", NORMALIZERS.values())
@given(text=_ANY)
def test_normalising_twice_is_the_same_as_once(normalize, text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert once == " ".join(once.split())


@given(_ANY)
def test_english_leaves_small_letters_and_apostrophes_inside_words(text: str) -> None:
    for word in english(text).split():
        assert word == word.casefold()
        assert word.strip("'") == word
        assert all(character == "'" or (character.isalnum() and not character.isdecimal()) for character in word)


@given(_ANY)
def test_basic_keeps_no_punctuation(text: str) -> None:
    for word in basic(text).split():
        assert word == word.casefold()
        assert not set(word) & set('.,;:!?"-()[]_')


def test_basic_keeps_numbers_and_accents_and_none_keeps_all() -> None:
    assert basic("Mr. Noël's  3,5 – STRASSE") == "mr noël's 3 5 strasse"
    assert none("  Mr.\tNoël's \n 3,5 ") == "Mr. Noël's 3,5"
    assert normalizer("basic") is basic
    with pytest.raises(InputError, match="'whisper' is not known; expected one of none, basic, english"):
        normalizer("whisper")
