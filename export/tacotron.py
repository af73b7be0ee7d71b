"""The voice's signatures: every part of a Tacotron as one step with named state.

text -> recurrence (both directions) -> memory <- style <- reference | token weights      decoder -> postnet
"""

from typing import Any

from keras import ops

from export.convert import Endpoint
from models.convolution import conv_state_type
from models.style import reference_state_type
from models.tacotron import PROSODY_FEATURES, DecoderState, RecurrenceState, Tacotron

Shapes = dict[str, tuple[tuple[int, ...], str]]
TEXT_CHUNK = 16  # symbols a step of the text convolutions takes
MEL_CHUNK = 8  # frames a step of the post-net takes
MOST_SYMBOLS = 192  # the longest sentence


def floats(**shapes: tuple[int, ...]) -> Shapes:
    """Tensor specifications of float32 inputs."""
    return {name: (shape, "float32") for name, shape in shapes.items()}


def endpoints(tacotron: Tacotron, most_symbols: int = MOST_SYMBOLS) -> dict[str, Endpoint]:
    """All signatures; those that take states have them as named tensors that go in and come out."""
    t, c = tacotron, tacotron.config

    def shapes(state: Any) -> Shapes:
        return floats(**{name: tuple(value.shape) for name, value in state._asdict().items()})

    text_state, postnet_state = t.text.initial_state(1), t.postnet.initial_state(1)
    reference_state, decoder_state = t.reference.initial_state(1), t.initial_state(1, most_symbols)
    recurrence_state = RecurrenceState(*(ops.zeros((1, c.encoder_units)),) * 4)
    memory = floats(memory=(1, most_symbols, c.memory), keys=(1, most_symbols, c.attention))
    lengths: Shapes = {"lengths": ((1,), "int32")}

    def text(symbols, inside, *state):
        y, new = t.text_step(symbols, inside, conv_state_type("text", len(t.text.widths))(*state))
        return {"text": y, **new._asdict()}

    def recurrence(ahead, back, *state):
        y, new = t.recurrence_step(ahead, back, RecurrenceState(*state))
        return {"both": y, **new._asdict()}

    def remember(encoded, style, prosody):
        memory, keys = t.remember(encoded, style, prosody)
        return {"memory": memory, "keys": keys}

    def reference(mel, *state):
        y, new = t.reference.step(mel, reference_state_type(len(c.style.filters))(*state))
        return {"weights": t.style(y), **new._asdict()}

    def style(weights):
        return {"style": t.style.embed(weights)}

    def decoder(frame, keep, memory, keys, lengths, *state):
        mel, stop, new = t.decoder_step(frame, keep, memory, keys, lengths, DecoderState(*state))
        return {"mel": mel, "stop": stop, **new._asdict()}

    def postnet(mel, inside, postnet_late, *state):
        y, late, new = t.postnet_step(
            mel, inside, postnet_late, conv_state_type("postnet", len(t.postnet.widths))(*state)
        )
        return {"refined": y, "postnet_late": late, **new._asdict()}

    return {
        "text": Endpoint(
            text, {"symbols": ((1, TEXT_CHUNK), "int32"), **floats(inside=(1, TEXT_CHUNK, 1)), **shapes(text_state)}
        ),
        "recurrence": Endpoint(
            recurrence, {**floats(ahead=(1, c.embedding), back=(1, c.embedding)), **shapes(recurrence_state)}
        ),
        "memory": Endpoint(
            remember,
            floats(
                encoded=(1, most_symbols, c.memory), style=(1, c.style.width),
                prosody=(1, most_symbols, PROSODY_FEATURES),
            ),
        ),
        "reference": Endpoint(reference, {**floats(mel=(1, c.style.block, c.bands)), **shapes(reference_state)}),
        "style": Endpoint(style, floats(weights=(1, c.style.heads, c.style.tokens))),
        "decoder": Endpoint(
            decoder,
            {**floats(frame=(1, c.bands), keep=(1, 2 * c.prenet)), **memory, **lengths, **shapes(decoder_state)},
        ),
        "postnet": Endpoint(
            postnet,
            {
                **floats(mel=(1, MEL_CHUNK, c.bands), inside=(1, MEL_CHUNK, 1)),
                **floats(postnet_late=(1, t.postnet.delay, c.bands)),
                **shapes(postnet_state),
            },
        ),
    }  # fmt: skip
