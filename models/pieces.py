"""Word pieces: a SentencePiece unigram model (Kudo 2018) trained on transcripts and book text."""

from collections.abc import Iterable
from pathlib import Path

import sentencepiece

BLANK_PIECE, UNKNOWN_PIECE = "<blk>", "<unk>"


def train_pieces(sentences: Iterable[str], symbols: int, path: Path) -> None:
    """Train `symbols` pieces (blank is 0, unknown 1) and write the SentencePiece model to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=file, model_type="unigram", vocab_size=symbols,
            pad_id=0, pad_piece=BLANK_PIECE, unk_id=1, unk_piece=UNKNOWN_PIECE, bos_id=-1, eos_id=-1,
            character_coverage=1.0, normalization_rule_name="identity", max_sentence_length=2000,
            minloglevel=2,
        )  # fmt: skip


def load_pieces(path: Path) -> sentencepiece.SentencePieceProcessor:
    """The model written by `train_pieces`."""
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def piece_list(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """Every piece in the order of its id, as the runtime's manifest lists them."""
    return [processor.id_to_piece(i) for i in range(processor.vocab_size())]
