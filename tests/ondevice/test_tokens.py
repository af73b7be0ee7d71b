"""Word pieces to text: the words, and the same text as SentencePiece itself writes."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.tokens import UNKNOWN, Pieces, WordSpan

PIECES = ["<blk>", "<unk>", "▁", "▁the", "re", "s", "▁of▁the", "<0xC3>", "<0xA9>", "'", "</s>"]
pieces = Pieces(PIECES)


def ids(*names: str) -> list[int]:
    return [PIECES.index(name) for name in names]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ((), ""),
        (("▁the",), "the"),
        (("▁the", "re"), "there"),
        (("▁the", "▁", "re", "s"), "the res"),
        (("re", "s", "▁the"), "res the"),
        (("▁the", "▁of▁the", "s"), "the of thes"),
        (("▁", "▁", "▁the"), "the"),
        (("▁the", "<0xC3>", "<0xA9>", "s"), "theés"),
        (("▁the", "<0xC3>", "▁the"), "the\ufffd the"),
        (("▁the", "<unk>", "▁the"), f"the {UNKNOWN} the"),
        (("▁the", "</s>"), "the"),
    ],
)
def test_text(tokens: tuple[str, ...], text: str) -> None:
    assert pieces.text(ids(*tokens)) == text


def test_words_know_their_tokens() -> None:
    spans = pieces.words(ids("▁the", "re", "▁", "s", "▁of▁the"))
    assert spans == [
        WordSpan("there", 0, 2), WordSpan("s", 2, 4), WordSpan("of", 4, 5), WordSpan("the", 4, 5),
    ]  # fmt: skip


@given(st.lists(st.integers(0, len(PIECES) - 1)))
def test_any_tokens_make_ordered_words(tokens: list[int]) -> None:
    spans = pieces.words(tokens)
    assert all(0 <= s.start < s.end <= len(tokens) and s.text and " " not in s.text for s in spans)
    assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(spans))
    assert pieces.text(tokens).split() == [s.text for s in spans]


def test_shortest_spelling() -> None:
    assert pieces.spell("▁there") == ids("▁the", "re")
    assert pieces.spell("▁of▁thes") == ids("▁of▁the", "s")
    assert pieces.spell("") == []
    assert pieces.spell("▁café") is None


def test_same_text_as_sentencepiece(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    sentences = ["the cat sat on the mat", "a dog and cat", "it's the end of the day", "on and on"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_prefix=str(tmp_path / "m"), vocab_size=24, pad_id=0,
        unk_id=1, bos_id=-1, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    ours = Pieces([model.id_to_piece(i) for i in range(model.vocab_size())])
    for sentence in sentences[:4]:
        tokens = model.encode(sentence)
        assert ours.text(tokens) == model.decode(tokens) == sentence
        spelt = ours.spell("▁" + sentence.replace(" ", "▁"))
        assert spelt is not None
        assert len(spelt) <= len(tokens)
        assert model.decode(spelt) == sentence
