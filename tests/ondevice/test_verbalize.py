"""Written English as it is spoken: every kind of number and short form, and any Unicode."""

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.phonemes import PUNCTUATION
from ondevice.spoken_words import roman_value
from ondevice.verbalize import tokens, verbalize
from ondevice.written import letters, plain

# Words that a lexicon would know; capitals that are not among them are spelt.
_LEXICON = """a nasa us it hello world all is the of this mcdonald mcdonald's youtube iphone javascript example john doe
about wind lives unesco ok throwback thursday team no in at by with war great i"""
KNOWN = frozenset(_LEXICON.split())

_NUMBERS = [
    ("0 7 13 20 45 100 342", "zero seven thirteen twenty forty five one hundred three hundred forty two"),
    ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
    ("3.14 and .5 and 0.05", "three point one four and zero point five and zero point zero five"),
    ("-5, −3.5 or +7", "minus five, minus three point five or plus seven"),
    ("±2", "plus or minus two"),
    ("~5 of ≈ 30", "about five of about thirty"),
    ("007", "zero zero seven"),
    ("1234567890123", "one two three four five six seven eight nine zero one two three"),
    ("10,000,000,000,000,000", "ten quadrillion"),
    ("1,000,000,000,001 or 2,000,000,000,000,000,000,000,000.5",
     "one trillion one or two septillion point five"),
    ("1st 2nd 3rd 12th 21st 100th", "first second third twelfth twenty first one hundredth"),
    ("the 1,000th", "the one thousandth"),
    ("1/2, 1/4, 3/4, 2/3, 5/8", "one half, one quarter, three quarters, two thirds, five eighths"),
    ("3 3/4 miles", "three and three quarters miles"),
    ("2½ cups, ½", "two and a half cups, one half"),
    ("3/2", "three halves"),
    ("22/7", "twenty two over seven"),
    ("24/7 since 9/11", "twenty four seven since nine eleven"),
    ("10-20", "ten to twenty"),
    ("10–20 people", "ten to twenty people"),
    ("pages 3 - 5", "pages three to five"),
    ("10-20%", "ten to twenty percent"),
    ("50% or 2.5 %", "fifty percent or two point five percent"),
    ("5‰", "five per mille"),
    ("3M people, 2.5B", "three million people, two point five billion"),
    ("10k", "ten K"),
    ("2 million", "two million"),
    ("221B Baker Street", "two hundred twenty one B baker street"),
    ("1/2 km, 3 3/4 in. of it, ½ kg", "one half kilometer, three and three quarters inches of it, one half kilogram"),
    ("1.2.3", "one point two point three"),
    ("192.168.0.1", "one nine two dot one six eight dot zero dot one"),
    ("192.168.1.1:80, 1.2.3.4:8080",
     "one nine two dot one six eight dot one dot one colon eight zero, one dot two dot three dot four colon eight zero "
     "eight zero"),
    ("0x1F, 0Xdead.", "zero X one F, zero X D E A D."),
    ("2:1 and 16:9", "two to one and sixteen to nine"),
    ("2 + 2 = 4", "two plus two equals four"),
    ("5 - 3 = 2", "five minus three equals two"),
    ("5-3=2", "five minus three equals two"),
    ("3 * 4, 12 × 3 ÷ 2", "three times four, twelve times three divided by two"),
    ("4x4, 3 x 5", "four by four, three by five"),
    ("10x faster", "ten times faster"),
    ("x² + y³", "X squared plus Y cubed"),
    ("10^6", "ten to the power of six"),
    ("2^10", "two to the power of ten"),
    ("1.5e-3", "one point five times ten to the minus three"),
    ("a note¹", "a note"),
    ("１２３ ٣", "one hundred twenty three three"),
    ("#5, No. 5, № 5, Nos. 5", "number five, number five, number five, numbers five"),
    ("1-2-3", "one, two, three"),
]  # fmt: skip
_YEARS_DATES_TIMES = [
    ("1862, 1905, 1900, 2015", "eighteen sixty two, nineteen oh five, nineteen hundred, twenty fifteen"),
    ("2005 and 2,015", "two thousand five and two thousand fifteen"),
    ("in 1066", "in ten sixty six"),
    ("1900s, 1990s, '90s, 80s", "nineteen hundreds, nineteen nineties, nineties, eighties"),
    ("the 2000s", "the two thousands"),
    ("1990-1995", "nineteen ninety to nineteen ninety five"),
    ("1914–18", "nineteen fourteen to eighteen"),
    ("May 5, 2021", "may fifth, twenty twenty one"),
    ("May 5th", "may fifth"),
    ("5 May 2021", "the fifth of may, twenty twenty one"),
    ("the 5th of May", "the fifth of may"),
    ("May 2021", "may twenty twenty one"),
    ("May 3-5, 2021", "may third to fifth, twenty twenty one"),
    ("Jan. 3rd, Sept. 1999", "january third, september nineteen ninety nine"),
    ("Dec. was cold", "december was cold"),
    ("May I go?", "may i go?"),
    ("2021-05-05", "may fifth, twenty twenty one"),
    ("2021-05", "may twenty twenty one"),
    ("5/5/2021, 25/12/2020, 12/25/2020", "may fifth, twenty twenty one, december twenty fifth, twenty twenty, "
     "december twenty fifth, twenty twenty"),
    ("3/4/2021", "three slash four slash twenty twenty one"),
    ("24.12.2021", "december twenty fourth, twenty twenty one"),
    ("Mon. 5 May; Wed., June 3", "monday the fifth of may; wednesday, june third"),
    ("3:05 pm", "three oh five P M"),
    ("15:30 or 15:00", "fifteen thirty or fifteen hundred"),
    ("5:00, 0:30", "five o'clock, zero thirty"),
    ("0:00 or 00:00-02:00", "midnight or midnight to two o'clock"),
    ("0:00:15, 0:05", "zero oh oh and fifteen seconds, zero oh five"),
    ("3pm, 3 p.m., 10 AM", "three P M, three P M, ten A M"),
    ("9am-5pm, 10:00-11:30", "nine A M to five P M, ten o'clock to eleven thirty"),
    ("12:30:15", "twelve thirty and fifteen seconds"),
    ("Mon-Fri, Jan-Mar", "monday to friday, january to march"),
    ("At 3 p.m. He came.", "at three P M. he came."),
    ("At 3 p.m. Monday we met.", "at three P M monday we met."),
]  # fmt: skip
_MONEY_UNITS = [
    ("$1, $5", "one dollar, five dollars"),
    ("$5.50", "five dollars and fifty cents"),
    ("$0.99, $0.01", "ninety nine cents, one cent"),
    ("£2.50 and £1.01", "two pounds and fifty pence and one pound and one penny"),
    ("€1,234.00", "one thousand two hundred thirty four euros"),
    ("5€, 20 EUR, USD 20", "five euros, twenty euros, twenty dollars"),
    ("¥500, ₹10, 99¢", "five hundred yen, ten rupees, ninety nine cents"),
    ("$1,500,000,000,000", "one trillion five hundred billion dollars"),
    ("$3.5 million", "three point five million dollars"),
    ("$1.5bn, $10k, $3M", "one point five billion dollars, ten thousand dollars, three million dollars"),
    ("$20-30, $1-$2", "twenty to thirty dollars, one to two dollars"),
    ("$5/month", "five dollars per month"),
    ("a $5 bill", "a five dollar bill"),
    ("US$20, A$1", "twenty U S dollars, one australian dollar"),
    ("-$5", "minus five dollars"),
    ("5 km, 1 km, 3kg", "five kilometers, one kilometer, three kilograms"),
    ("20 °C, 68°F, 90°", "twenty degrees celsius, sixty eight degrees fahrenheit, ninety degrees"),
    ("60 mph, 100 km/h", "sixty miles per hour, one hundred kilometers per hour"),
    ("9.8 m/s²", "nine point eight meters per second squared"),
    ("30 m², 5 m^3, 30 sq ft", "thirty square meters, five cubic meters, thirty square feet"),
    ("5-10 kg", "five to ten kilograms"),
    ("a 5-km run", "a five kilometer run"),
    ("5 GB at 3 GHz, 16 MB/s", "five gigabytes at three gigahertz, sixteen megabytes per second"),
    ("5 mg/dL", "five milligrams per deciliter"),
    ("6 ft. tall", "six feet tall"),
    ("5 lb. 10 oz. of it", "five pounds ten ounces of it"),
    ("5 in a row", "five in a row"),
    ("5'10\"", "five foot ten"),
    ("555-1234", "five five five, one two three four"),
    ("(555) 123-4567", "five five five, one two three, four five six seven"),
    ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
    ("1-800-FLOWERS", "one, eight hundred flowers"),
    ("E = mc², in kHz", "E equals M C squared, in kilohertz"),
    ("1-800-555-1234", "one, eight hundred, five five five, one two three four"),
]  # fmt: skip
_WORDS = [
    ("Mr. and Mrs. Bell, Dr. Who", "mister and missus bell, doctor who"),
    ("He lives on Main St. in St. Paul.", "he lives on main street in saint paul."),
    ("We met on Main St. He ran.", "we met on main street. he ran."),
    ("5 Ocean Dr. and 10 Park Ave.", "five ocean drive and ten park avenue."),
    ("Gen. Lee met Sen. Bell near Mt. Fuji", "general lee met senator bell near mount fuji"),
    ("i.e. this, e.g. that", "that is this, for example that"),
    ("apples, etc. The end", "apples, et cetera. the end"),
    ("apples, etc., and pears", "apples, et cetera, and pears"),
    ("cats vs. dogs", "cats versus dogs"),
    ("Acme Inc. is big", "acme incorporated is big"),
    ("Fig. 3, pp. 10-12, vol. 2", "figure three, pages ten to twelve, volume two"),
    ("No. No!", "no. no!"),
    ("J. R. R. Tolkien", "J R R tolkien"),
    ("Plan B. Then go", "plan B. then go"),
    ("the U.S. Army", "the U S army"),
    ("the U.S. The end", "the U S. the end"),
    ("U.S.A.", "U S A."),
    ("a Ph.D. in D.C. too", "a P H D in D C too"),
    ("the BBC and NASA", "the B B C and nasa"),
    ("US troops, let us go", "U S troops, let us go"),
    ("HELLO WORLD, THIS IS ALL OF US", "hello world, this is all of us"),
    ("CEO's DVDs", "C E O's D V D's"),
    ("UNESCO, XKCD, ZORBLAX", "unesco, X K C D, zorblax"),
    ("R&D at AT&T in C++ or C#", "R and D at A T and T in C plus plus or C sharp"),
    ("H2O MP3 B2B A4 3D F-16", "H two O M P three B two B A four three D F sixteen"),
    ("COVID-19", "covid nineteen"),
    ("YouTube McDonald's iPhone", "youtube mcdonald's iphone"),
    ("OpenOffice HTTPServer", "open office H T T P server"),
    ("Henry VIII and Louis XIV", "henry the eighth and louis the fourteenth"),
    ("Elizabeth II's reign", "elizabeth the second's reign"),
    ("Charles I was king; Charles I think", "charles the first was king; charles i think"),
    ("Chapter IV, World War II", "chapter four, world war two"),
    ("Rocky III", "rocky three"),
    ("Part I of it, the part I like", "part one of it, the part i like"),
    ("a dog, vitamin A, a) this", "a dog, vitamin A, A, this"),
    ("I am, x and y", "i am, X and Y"),
    ("“Don’t”, ‘he’ said: 'tis it", "don't, he said: 'tis it"),
    ("the dogs' rock 'n' roll", "the dogs rock 'n roll"),
    ("naïve café Ærø Straße ﬁne co\u00adop", "naive cafe aero strasse fine coop"),
    ("well-known, pre- and post-war", "well known, pre and post war"),
    ("and/or w/o w/ n/a he/she", "and or without with N A he slash she"),
    ("50 & 60 @ home", "fifty and sixty at home"),
    ("© 2020 Acme™", "copyright twenty twenty acme trademark"),
    ("§ 5 ≤ π", "section five less than or equal to pi"),
]  # fmt: skip
_MARKS = [
    ("Wait... what?! No!!!", "wait, what? no!"),
    ("Wait... What", "wait. what"),
    ("Yes — really - yes–no", "yes - really - yes no"),
    ("The dog (a poodle) barked.", "the dog, a poodle, barked."),
    ("He said: “go”; she went.", "he said: go; she went."),
    ("**Bold** _it_ `code` ~~~~ x", "bold it code, X"),
    ("end.Then go", "end. then go"),
]
_ADDRESSES = [
    ("https://www.example.com/about?b=1.", "W W W dot example dot com slash about question mark B equals one."),
    ("See example.com/a, please", "see example dot com slash A, please"),
    ("john.doe99@example.co.uk", "john dot doe ninety nine at example dot co dot U K"),
    ("node.js and report.pdf", "node dot J S and report dot P D F"),
    ("@john #ThrowbackThursday", "at john hashtag throwback thursday"),
    ("my_var", "my var"),
]


@pytest.mark.parametrize(
    ("written", "said"), [*_NUMBERS, *_YEARS_DATES_TIMES, *_MONEY_UNITS, *_WORDS, *_MARKS, *_ADDRESSES]
)
def test_writing_is_said_as_a_reader_says_it(written: str, said: str) -> None:
    spoken = verbalize(written, KNOWN.__contains__)
    assert spoken.text == said
    assert spoken.warnings == ()


@pytest.mark.parametrize(
    ("written", "warning"),
    [
        ("say 你好 and 🙂", "left out: '你好' (CJK), '🙂' (emoji)"),
        ("Привет, мир", "left out: 'Привет' (Cyrillic), 'мир' (Cyrillic)"),
        ("a\x00b\ue000", "left out: U+0000 (control character), U+E000 (private use)"),
        ("सब", "left out: 'सब' (Devanagari)"),
        ("\ud800", "left out: U+D800 (surrogate)"),
        ("你" * 50, f"left out: '{'你' * 20}…' (CJK)"),
        ("♞", "left out: '♞' (emoji)"),
        ("so :) and <3", "left out: ':)' (emoticon), '<3' (emoticon)"),
        ("⠓", "left out: '⠓' (symbol)"),
    ],
)
def test_what_cannot_be_said_is_named(written: str, warning: str) -> None:
    assert verbalize(written, KNOWN.__contains__).warnings == (warning,)


def test_a_warning_names_each_thing_once_and_not_too_many() -> None:
    assert verbalize("🙂 🙂 🙂").warnings == ("left out: '🙂' (emoji)",)
    [warning] = verbalize(" ".join(chr(0x4E00 + n) for n in range(20))).warnings
    assert warning.endswith(" and 12 more")


def test_escapes_pass_through() -> None:
    assert verbalize("Say [[HH  AH0 L OW1]]!").text == "say [[HH AH0 L OW1]]!"
    assert verbalize("[note] [[ half").text == "note half"


_TRICKY = st.lists(
    st.sampled_from(
        [
            *"0123456789,.:%$£€-–—−'\"/½²^&_ \t\n#@+=~()[]°aIXVs\u0301\u00ad٣\ud800",
            *("st", "th", "St.", "Dr.", "No.", "p.m.", "e.g.", "May ", "Jan.", " km", "km/h", "°C", "sq ft", "million"),
            *("www.", ".com", "http://", "Henry VIII", "A4", "[[", "]]", "...", "US", "x", "vs", "'s", "🙂", "ﬁ"),
        ]
    ),
    max_size=14,
).map("".join)  # fmt: skip
_ANY = st.text() | _TRICKY


@given(_ANY)
def test_any_text_is_said_in_a_closed_alphabet(text: str) -> None:
    for token in tokens(text, KNOWN.__contains__):
        assert token.written
        for word in token.spoken:
            if word.startswith("[["):
                continue
            plain_word = word in PUNCTUATION or set(word) <= set(string.ascii_lowercase + "'")
            assert plain_word or (word[0] in string.ascii_uppercase and word[1:] in ("", "'s")), (token, word)


@given(_ANY)
def test_the_pieces_are_the_text(text: str) -> None:
    written = "".join(token.written for token in tokens(text, KNOWN.__contains__))
    assert "".join(written.split()) == "".join(plain(text).split())


@given(st.text())
def test_folded_letters_are_plain_or_nothing(text: str) -> None:
    folded = letters(text)
    assert folded is None or set(folded) <= set(string.ascii_lowercase + "'")


@pytest.mark.parametrize(
    "piece",
    ["1", ".", "(", "[", "a", "A", "-", "'", "1,", "1.", "a.", "a@", "$1", "1/", "1-", "e\u0301\u0316", "🙂", "www."],
)  # fmt: skip
def test_long_rows_take_time_in_proportion(piece: str) -> None:
    def seconds(count: int) -> float:
        began = time.perf_counter()
        for _ in tokens(piece * (count // len(piece)), KNOWN.__contains__):
            pass
        return time.perf_counter() - began

    assert seconds(100_000) < 20  # a quadratic rule would take many minutes


def test_roman_numerals_are_well_formed() -> None:
    assert [roman_value(n) for n in ("I", "IV", "IX", "XL", "XC", "CCCXCIX")] == [1, 4, 9, 40, 90, 399]
    assert [roman_value(n) for n in ("IIII", "VX", "IC", "")] == [None] * 4
