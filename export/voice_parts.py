"""A voice's parts for an Edge TPU: the signatures that are computed at 8 bits from end to end, a file of its own each.

Those that attend to the text are not among them: of the matrices they multiply, neither is a constant, which no
accelerator of whole 8-bit models takes. What is named here computes the same as in the voice's own file, with style
tokens head by head, for such accelerators take one row at a time.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from export.convert import Endpoint, to_tflite
from models.style import reference_state_type
from models.tacotron import Tacotron

Inputs = Mapping[str, np.ndarray]


def part_endpoints(tacotron: Tacotron, made: Mapping[str, Endpoint]) -> dict[str, Endpoint]:
    """The parts, out of a voice's endpoints."""
    t, heads = tacotron, range(tacotron.config.style.heads)
    state_type = reference_state_type(len(tacotron.config.style.filters))

    def reference(mel, *state):
        y, new = t.reference.step(mel, state_type(*state))
        scores = t.style.scores(y)
        return {"weights": ops.concatenate([ops.softmax(scores[:, h : h + 1]) for h in heads], 1), **new._asdict()}

    def style(weights):
        values = t.style.values()
        return {"style": ops.concatenate([ops.matmul(weights[:, h], values[h]) for h in heads], axis=-1)}

    return {
        "recurrence": made["recurrence"],
        "reference": Endpoint(reference, made["reference"].inputs),
        "style": Endpoint(style, made["style"].inputs),
        "postnet": made["postnet"],
    }


def convert_parts(
    tacotron: Tacotron, made: Mapping[str, Endpoint], taken: Mapping[str, Sequence[Inputs]]
) -> dict[str, bytes]:
    """The TFLite file of each part; `taken` are real calls of each, which set its scales."""
    t, style = tacotron, tacotron.config.style
    parameters = {
        "recurrence": t.forwards.count_params() + t.backwards.count_params(),
        "reference": t.reference.count_params() + t.style.query.shape[0] * style.width,
        "style": style.tokens * style.width,  # all that is left of them
        "postnet": t.postnet.count_params(),
    }
    files = {}
    for name, endpoint in part_endpoints(t, made).items():
        calls = [(name, {key: array.astype(np.float32) for key, array in inputs.items()}) for inputs in taken[name]]
        files[name] = to_tflite(t, {name: endpoint}, "int8-full", True, calls, parameters[name])
    return files
