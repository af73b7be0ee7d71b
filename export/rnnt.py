"""The recogniser's signatures, its TFLite files and the proof that they compute what was trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.convert import Endpoint, keras_calls, stack_outputs, to_tflite
from models.rnnt import BLANK, Rnnt, state_type
from ondevice.litert import LiteRtModel


def endpoints(rnnt: Rnnt, embedded: bool = False) -> dict[str, Endpoint]:
    """`encoder`, `predictor` and `joiner`: one step each, the state as named tensors going in and coming out.

    embedded: the predictor takes a token's embedding instead of the token.
    """
    c = rnnt.config

    def stepper(part: str, layers: int, step: Any, output: str) -> Any:
        def function(x: Any, *state: Any) -> dict[str, Any]:
            y, new = step(x, state_type(part, layers)(*state))
            return {output: y, **new._asdict()}

        return function

    def state_shapes(part: str, layers: int, units: int, projection: int) -> dict[str, tuple[tuple[int, ...], str]]:
        fields = state_type(part, layers)._fields
        return {name: ((1, units if "_c" in name else projection), "float32") for name in fields}

    def encoder(features: Any, *state: Any) -> dict[str, Any]:
        encoded, phones, new = rnnt.hearing_step(features, state_type("encoder", c.encoder_layers)(*state))
        return {"encoded": encoded, **({} if phones is None else {"phones": phones}), **new._asdict()}

    encoder_state = state_shapes("encoder", c.encoder_layers, c.encoder_units, c.encoder_projection)
    predictor_state = state_shapes("predictor", c.predictor_layers, c.predictor_units, c.predictor_projection)
    width = ((1, c.joiner), "float32")
    return {
        "encoder": Endpoint(
            encoder,
            {"features": ((1, c.reduction, c.features), "float32"), **encoder_state},
        ),
        "predictor": Endpoint(
            stepper("predictor", c.predictor_layers, rnnt.embedded_step, "predicted"),
            {"embedded": ((1, c.embedding), "float32"), **predictor_state},
        )
        if embedded
        else Endpoint(
            stepper("predictor", c.predictor_layers, rnnt.predictor_step, "predicted"),
            {"token": ((1,), "int32"), **predictor_state},
        ),
        "joiner": Endpoint(
            lambda encoded, predicted: {"logits": rnnt.joiner_step(encoded, predicted)},
            {"encoded": width, "predicted": width},
        ),
    }


def signatures(rnnt: Rnnt) -> dict[str, dict[str, dict[str, list[int]]]]:
    """The manifest's description of the same."""
    made = endpoints(rnnt)

    def shapes(name: str, *, state: bool) -> dict[str, list[int]]:
        return {
            tensor: list(shape)
            for tensor, (shape, _) in made[name].inputs.items()
            if tensor.startswith(name + "_") == state
        }

    width, symbols, phones = rnnt.config.joiner, rnnt.config.symbols, rnnt.config.phones
    outputs = {
        "encoder": {"encoded": [1, width]} | ({"phones": [1, rnnt.config.reduction, phones]} if phones else {}),
        "predictor": {"predicted": [1, width]},
        "joiner": {"logits": [1, symbols]},
    }
    return {
        name: {
            "inputs": shapes(name, state=False),
            "outputs": outputs[name],
            "state": shapes(name, state=True),
        }
        for name in made
    }


def convert(rnnt: Rnnt, precision: str, per_tensor: bool = False) -> bytes:
    """TFLite file of the recogniser in one of `export.convert.PRECISIONS` but int8-full."""
    return to_tflite(rnnt, endpoints(rnnt), precision, per_tensor)


def keras_steps(rnnt: Rnnt, features: np.ndarray, tokens: Sequence[int]) -> dict[str, dict[str, np.ndarray]]:
    """Every output and state of a real run in Keras float: encoder over features [S, F], predictor over tokens."""
    return run_steps(keras_calls(endpoints(rnnt)), rnnt, features, tokens)


def tflite_steps(
    rnnt: Rnnt, model: LiteRtModel, features: np.ndarray, tokens: Sequence[int]
) -> dict[str, dict[str, np.ndarray]]:
    """The same run through a TFLite file."""
    return run_steps(dict(model.signatures), rnnt, features, tokens)


def run_steps(
    calls: Mapping[str, Any], rnnt: Rnnt, features: np.ndarray, tokens: Sequence[int]
) -> dict[str, dict[str, np.ndarray]]:
    """The run by any calls of the signatures."""
    rate = rnnt.config.reduction
    shapes = signatures(rnnt)

    def walk(name: str, key: str, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        state = {n: np.zeros(s, np.float32) for n, s in shapes[name]["state"].items()}
        rows = []
        for x in inputs:
            out = calls[name]({key: x, **state})
            state = {n: out[n] for n in state}
            rows.append(out)
        return stack_outputs(rows)

    steps = [features[None, i : i + rate] for i in range(0, len(features) - rate + 1, rate)]
    encoder = walk("encoder", "features", steps)
    predictor = walk("predictor", "token", [np.array([t], np.int32) for t in [BLANK, *tokens]])
    # every frame against the token history that a straight line through the lattice would have
    pairs = [
        (e, predictor["predicted"][i * len(predictor["predicted"]) // len(steps)])
        for i, e in enumerate(encoder["encoded"])
    ]
    joiner = stack_outputs([calls["joiner"]({"encoded": e, "predicted": p}) for e, p in pairs])
    return {"encoder": encoder, "predictor": predictor, "joiner": joiner}
