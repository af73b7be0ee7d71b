"""Word pieces: a SentencePiece unigram model (Kudo 2018) trained on transcripts and book text."""

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from ondevice.errors import InputError

BLANK_PIECE, UNKNOWN_PIECE = "<blk>", "<unk>"


def train_pieces(sentences: Iterable[str], symbols: int, path: Path) -> None:
    """Train `symbols` pieces (blank is 0, unknown 1) and write the SentencePiece model to `path`.

    Raises InputError when the text is too small or too large for so many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, model_type="unigram", vocab_size=symbols,
            pad_id=0, pad_piece=BLANK_PIECE, unk_id=1, unk_piece=UNKNOWN_PIECE, bos_id=-1, eos_id=-1,
            character_coverage=1.0, normalization_rule_name="identity", max_sentence_length=2000,
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise InputError(f"{symbols} word pieces cannot be made of this text: {reason}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(model.getvalue())
    temporary.replace(path)


def load_pieces(path: Path) -> sentencepiece.SentencePieceProcessor:
    """The model written by `train_pieces`. Raises InputError when the file holds none."""
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        raise InputError(f"{path}: expected a SentencePiece model, pieces.model of a run") from None


def piece_list(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """Every piece in the order of its id, as the runtime's manifest lists them."""
    return [processor.id_to_piece(i) for i in range(processor.vocab_size())]
