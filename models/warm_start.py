"""Beginning a training with the weights of an exported recogniser, its own file being all there is of it.

Quantised weights are widened to what they stand for. What only training needs, the heads of the auxiliary losses and
the optimiser's memory, begins anew.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path

import keras
import numpy as np

from models.rnnt import LstmStack, Rnnt
from models.train_rnnt import Run, compile_with
from ondevice.errors import InputError
from ondevice.graph import Operator, Subgraph, Tensor, read_graph

HEAD_STEPS = 150
HEAD_RATE = 2e-3
HEAD_EPOCH = 1_000_000  # batches no epoch of the run itself will see in this order
Weight = tuple[keras.Variable, bool]  # and whether the file holds it transposed


def start_from(run: Run, path: Path, say: Callable[[str], None] = print, *, steps: int = HEAD_STEPS) -> None:
    """Begin a run with the recogniser in a TFLite file: its weights, and heads that learnt for `steps` to fit them.

    The recogniser is held meanwhile, for what fresh heads would teach it is noise. The run is saved at step 0.
    """
    trainer, optimizer = run.trainer, run.trainer.optimizer
    take_weights(trainer.rnnt, path)
    trainer.rnnt.trainable = False
    compile_with(trainer, keras.optimizers.Adam(HEAD_RATE))
    say(f"{path}: heads of the auxiliary losses learn for {steps} steps")
    batches = chain.from_iterable(run.maker.epoch(epoch) for epoch in count(HEAD_EPOCH))
    for batch in islice(batches, steps):
        trainer.train_on_batch(batch)
    trainer.rnnt.trainable = True
    compile_with(trainer, optimizer)
    run.average = [np.array(v) for v in run._weights()]
    run.save()


def take_weights(rnnt: Rnnt, path: Path) -> None:
    """Give a recogniser the weights of a TFLite file that was exported from one of the same sizes.

    Raises InputError when they do not fit, or are stored in a form that cannot be widened.
    """
    graph = read_graph(path)
    if graph is None:
        raise InputError(f"{path}: reading its weights needs LiteRT's schema: pip install ai-edge-litert")
    for signature, wanted in _order(rnnt).items():
        if signature not in graph.signatures:
            raise InputError(f"{path}: no signature {signature!r}; expected a recogniser from `ondevice export rnnt`")
        found = stored_weights(graph.signatures[signature])
        shapes = [tuple(v.shape)[::-1] if turned else tuple(v.shape) for v, turned in wanted]
        if [t.shape for t in found] != shapes:
            raise InputError(
                f"{path}: signature {signature!r} does not hold the {len(shapes)} weights of this preset; "
                f"expected a recogniser of the same sizes, word pieces and phones"
            )
        for (variable, turned), tensor in zip(wanted, found, strict=True):
            value = widened(path, tensor)
            variable.assign(value.T if turned else value)
    if rnnt.phone_head is not None and _is_folded(graph.signatures["encoder"], rnnt.phone_head):
        _unfold(rnnt.phone_head, rnnt.encoder.layers_[rnnt.config.reduction_after - 1].normalise)


def _is_folded(subgraph: Subgraph, head: keras.layers.Dense) -> bool:
    """Whether a head takes what the layer below has not scaled and shifted yet: the converter did it in the head.

    It does so where no residual stands between them, and keeps scale and shift for the layer above.
    """
    maker = {index: operator.code for operator in subgraph.operators for index in operator.outputs}
    shape = tuple(head.kernel.shape)[::-1]
    taken = [o.inputs[0] for o in subgraph.operators if o.code == "FULLY_CONNECTED" and _shape(subgraph, o) == shape]
    return bool(taken) and all(maker.get(index) == "MUL" for index in taken)


def _shape(subgraph: Subgraph, operator: Operator) -> tuple[int, ...]:
    return subgraph.tensors[operator.inputs[1]].shape


def _unfold(head: keras.layers.Dense, normalise: keras.layers.LayerNormalization) -> None:
    """Take the scale and shift of a normalisation out of the head behind it."""
    gamma, beta = (keras.ops.convert_to_numpy(v) for v in (normalise.gamma, normalise.beta))
    kernel = keras.ops.convert_to_numpy(head.kernel) / gamma[:, None]
    head.kernel.assign(kernel)
    head.bias.assign(keras.ops.convert_to_numpy(head.bias) - beta @ kernel)


def _order(rnnt: Rnnt) -> dict[str, list[Weight]]:
    """The weights of each signature in the order its operators first use them."""
    layers = [list(_layer(rnnt.encoder, i)) for i in range(rnnt.config.encoder_layers)]
    if rnnt.phone_head is not None:
        layers[rnnt.config.reduction_after - 1] += _dense(rnnt.phone_head)
    return {
        "encoder": [
            *_recurrent(rnnt.encoder), *(w for layer in layers for w in layer), *_dense(rnnt.encoder_to_joiner)
        ],
        "predictor": [
            *_recurrent(rnnt.predictor), (rnnt.embedding.embeddings, False),
            *(w for i in range(rnnt.config.predictor_layers) for w in _layer(rnnt.predictor, i)),
            *_dense(rnnt.predictor_to_joiner),
        ],
        "joiner": _dense(rnnt.joiner_to_logits),
    }  # fmt: skip


def _recurrent(stack: LstmStack) -> list[Weight]:
    """These depend on the state alone, so the converter puts them first."""
    return [(layer.recurrent, True) for layer in stack.layers_]


def _layer(stack: LstmStack, index: int) -> Iterator[Weight]:
    layer = stack.layers_[index]
    yield from ((layer.kernel, True), (layer.bias, False), (layer.projection, True))
    yield from ((layer.normalise.gamma, False), (layer.normalise.beta, False))


def _dense(layer: keras.layers.Dense) -> list[Weight]:
    return [(layer.kernel, True)] + ([(layer.bias, False)] if layer.use_bias else [])


def stored_weights(subgraph: Subgraph, *, once: bool = True) -> Sequence[Tensor]:
    """Constants that are neither single numbers nor indices, as the operators come to use them.

    once: each is listed where it is first used. Two that are alike share a place in the file, and so are one then.
    """
    widening = [operator for operator in subgraph.operators if operator.code == "DEQUANTIZE"]
    stored = {operator.outputs[0]: operator.inputs[0] for operator in widening}
    others = (operator for operator in subgraph.operators if operator.code != "DEQUANTIZE")
    used = (subgraph.tensors[stored.get(i, i)] for operator in others for i in operator.inputs if i >= 0)
    found = [t for t in used if len(t.data) and math.prod(t.shape) > 1 and t.type not in ("INT32", "INT64")]
    first: dict[int, Tensor] = {}
    for tensor in found:
        first.setdefault(tensor.buffer, tensor)
    return list(first.values()) if once else found


def widened(path: Path, tensor: Tensor) -> np.ndarray:
    """float32 of a weight: as it is, of half the width, or of 8 bits with a scale for all or for each row."""
    if tensor.type in ("FLOAT32", "FLOAT16"):
        return tensor.data.view(tensor.type.lower()).astype(np.float32).reshape(tensor.shape)
    if tensor.type == "INT8" and len(tensor.scales) in (1, tensor.shape[0]):
        scales = tensor.scales.reshape(-1, *[1] * (len(tensor.shape) - 1))
        return tensor.data.view(np.int8).reshape(tensor.shape) * scales
    raise InputError(f"{path}: a weight is {tensor.type}; expected float32, float16 or int8")
