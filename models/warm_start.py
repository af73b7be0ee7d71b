"""Beginning a training with the weights of an exported recogniser, its own file being all there is of it.

What only training needs, the heads of the auxiliary losses and the optimiser's memory, begins anew.
"""

from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path

import keras
import numpy as np

from models.file_weights import Place, dense, fill, plain, turned
from models.rnnt import LstmStack, Rnnt
from models.train_rnnt import Run, compile_with
from ondevice.graph import Operator, Subgraph

HEAD_STEPS = 150
HEAD_RATE = 2e-3
HEAD_EPOCH = 1_000_000  # batches no epoch of the run itself will see in this order


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
    signatures = fill(path, _order(rnnt), "a recogniser of the same sizes, word pieces and phones")
    if rnnt.phone_head is not None and _is_folded(signatures["encoder"], rnnt.phone_head):
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


def _order(rnnt: Rnnt) -> dict[str, list[Place]]:
    """The weights of each signature in the order its operators first use them."""
    layers = [list(_layer(rnnt.encoder, i)) for i in range(rnnt.config.encoder_layers)]
    if rnnt.phone_head is not None:
        layers[rnnt.config.reduction_after - 1] += dense(rnnt.phone_head)
    return {
        "encoder": [
            *_recurrent(rnnt.encoder), *(w for layer in layers for w in layer), *dense(rnnt.encoder_to_joiner)
        ],
        "predictor": [
            *_recurrent(rnnt.predictor), plain(rnnt.embedding.embeddings),
            *(w for i in range(rnnt.config.predictor_layers) for w in _layer(rnnt.predictor, i)),
            *dense(rnnt.predictor_to_joiner),
        ],
        "joiner": dense(rnnt.joiner_to_logits),
    }  # fmt: skip


def _recurrent(stack: LstmStack) -> list[Place]:
    """These depend on the state alone, so the converter puts them first."""
    return [turned(layer.recurrent) for layer in stack.layers_]


def _layer(stack: LstmStack, index: int) -> Iterator[Place]:
    layer = stack.layers_[index]
    yield from (turned(layer.kernel), plain(layer.bias), turned(layer.projection))
    yield from (plain(layer.normalise.gamma), plain(layer.normalise.beta))
