"""What is trained around an `Rnnt`: its losses and the heads that only training needs.

Shapes: `B` batch, `S` stacked frames, `T` encoder frames, `U` labels, `V` symbols.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from models.ctc import ctc_loss
from models.rnnt import Rnnt
from models.transducer import pruned_transducer_loss

Tensor = Any


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss; each is divided by the number of labels in the batch."""

    transducer: float = 1.0
    additive: float = 0.3  # the joiner that is a sum, which also finds what to prune
    ctc: float = 0.3  # word pieces from the encoder
    phone_ctc: float = 0.3  # phones from the recogniser's phone head, if it has one
    kept: int = 5  # label positions per frame the joiner is run on
    towers: int = 1  # parts of a batch computed side by side, each on its own core


class RnntTrainer(keras.Model):
    """Losses of a batch: `call` takes the dict of arrays `BatchMaker` makes and returns sums and counts."""

    def __init__(self, rnnt: Rnnt, config: LossConfig = LossConfig(), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rnnt, self.config = rnnt, config
        symbols = rnnt.config.symbols
        self.ctc_head = keras.layers.Dense(symbols, name="ctc_head", dtype="float32")
        self.acoustic = keras.layers.Dense(symbols, name="acoustic", dtype="float32")
        self.language = keras.layers.Dense(symbols, use_bias=False, name="language", dtype="float32")
        names = ["transducer", "additive", "ctc"] + ["phone_ctc"] * bool(rnnt.config.phones)
        self.parts = [keras.metrics.Mean(name=n) for n in names]

    def build(self, input_shape: Any = None) -> None:
        """Nothing here: the first call makes the weights, whose shapes follow from the recogniser's."""

    def call(self, batch: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        """Sums over the batch of losses and label counts; `encoded` [B, T, J], `spelled` [B, T], `sounds` [B, S]."""
        towers = self.config.towers if training else 1
        if towers == 1:
            return self._tower(batch, training)
        split = {key: ops.split(value, towers, axis=0) for key, value in batch.items()}
        results = [self._tower({k: v[i] for k, v in split.items()}, training) for i in range(towers)]
        return {
            key: ops.concatenate([r[key] for r in results], axis=0) if len(results[0][key].shape) else
            sum(r[key] for r in results)
            for key in results[0]
        }  # fmt: skip

    def _tower(self, batch: dict[str, Tensor], training: bool | None) -> dict[str, Tensor]:
        rnnt, config = self.rnnt, self.config
        features = batch["features"]
        inside = ops.arange(ops.shape(features)[1])[None, :, None] < batch["frames"][:, None, None]
        features = ops.where(inside, features, 0.0)
        frames = ops.maximum(batch["frames"] // rnnt.config.reduction, 1)
        targets, labels = batch["targets"], batch["labels"]
        layers = rnnt.hidden_layers(features, training=training)
        spelled = self.ctc_head(layers[-1])
        result = {
            "ctc": ops.sum(ctc_loss(spelled, targets, frames, labels)),
            "labels": ops.sum(ops.cast(labels, "float32")),
            "encoded": rnnt.encoder_to_joiner(layers[-1]),
            "spelled": ops.argmax(spelled, axis=-1),
        }
        if rnnt.config.phones:
            sounds = rnnt.phones(layers)
            loss = ctc_loss(sounds, batch["phones"], batch["frames"], batch["phone_labels"])
            result |= {
                "phone_ctc": ops.sum(loss),
                "phone_labels": ops.sum(ops.cast(batch["phone_labels"], "float32")),
                "sounds": ops.argmax(sounds, axis=-1),
            }
        predicted = rnnt.predict_tokens(batch["history"], training=training)
        acoustic, language = self.acoustic(layers[-1]), self.language(predicted)
        if config.transducer or not training:
            loss, simple = pruned_transducer_loss(
                rnnt.join, result["encoded"], predicted, acoustic, language, targets, frames, labels, kept=config.kept
            )
            # a text too long for its audio has no alignment, and then no say
            result["transducer"] = ops.sum(ops.where(loss < 1e5, loss, 0.0))
            result["additive"] = ops.sum(ops.where(simple < 1e5, simple, 0.0))
        else:
            result["transducer"] = result["additive"] = ops.zeros(())
        return result

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """Weighted sum of the losses per label."""
        config = self.config
        labels = ops.maximum(y_pred["labels"], 1.0)
        counts = {"phone_ctc": ops.maximum(y_pred["phone_labels"], 1.0)} if self.rnnt.config.phones else {}
        values = [y_pred[metric.name] / counts.get(metric.name, labels) for metric in self.parts]
        for metric, value in zip(self.parts, values, strict=True):
            metric.update_state(value)
        weights = (config.transducer, config.additive, config.ctc, config.phone_ctc)[: len(values)]
        return sum(w * v for w, v in zip(weights, values, strict=True) if w)
