"""What a user may ask of an export: how weights are held and how large the file may be.

float32, float16, int8 (weights at 8 bits, activations quantised as they come) and int8-full (everything at 8 bits) are
made by TensorFlow's converter; int4 and mixed by `ai-edge-quantizer` out of the float file.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from export.convert import PRECISIONS as CONVERTED
from export.layers import at_bits, float_layers, prepared
from export.mixed import Measure, Mixture, check_size, mix
from export.telling import Teller, quiet
from ondevice.errors import InputError

ASKED = {
    "float32": "float32", "float16": "float16", "int8": "dynamic-int8", "dynamic-int8": "dynamic-int8",
    "int8-full": "int8-full", "int4": "dynamic-int4", "mixed": "dynamic-mixed",
}  # fmt: skip
# Who computes which files rightly; tflite-runtime 2.14 rejects their FULLY_CONNECTED version.
_LATE: Sequence[str] = ("ai_edge_litert>=1.0", "tensorflow>=2.18")
_INT4: Sequence[str] = ("ai_edge_litert>=2.0", "tensorflow>=2.20")
INTERPRETERS = {
    "float32": _LATE, "float16": _LATE, "dynamic-int8": _LATE, "int8-full": _LATE, "dynamic-int4": _INT4,
    "dynamic-mixed": _INT4,
}  # fmt: skip
COMPAT = "tflite_runtime>=2.14"
TARGETS = ("cpu", "edgetpu", "compat")
# relative RMS that every output and state may have; what int4 costs is for the task's own metric to say
TOLERANCE = {
    "float32": 1e-3, "float16": 2e-2, "dynamic-int8": 0.15, "int8-full": 0.6, "dynamic-int4": 0.9,
    "dynamic-mixed": 0.9,
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """How the weights of an asset are to be held."""

    precision: str = "dynamic-int8"  # a key of INTERPRETERS
    most_bytes: int | None = None  # of the file
    compat: bool = False  # runs on tflite-runtime 2.14 too
    edge_tpu: bool = False  # with parts for Coral's Edge TPU

    @property
    def per_tensor(self) -> bool:
        """Whether a weight matrix has one scale, as tflite-runtime 2.14 and the Edge TPU's compiler need."""
        return self.compat or (self.edge_tpu and self.precision == "int8-full")

    @classmethod
    def parse(
        cls, quantize: str, max_size: str | None = None, target: str = "cpu", for_edge_tpu: str | None = "int8-full"
    ) -> "Wanted":  # fmt: skip
        """From --quantize, --max-size and --target.

        for_edge_tpu: what --quantize must be for its sake, int8 where only parts of the model are at 8 bits everywhere
        and None where none can be.
        Raises InputError for an unknown one, or two that do not agree.
        """
        if target not in TARGETS:
            raise InputError(f"--target {target}: expected one of {', '.join(TARGETS)}")
        if quantize not in ASKED:
            names = ", ".join(name for name in ASKED if name != "dynamic-int8")
            raise InputError(f"--quantize {quantize}: expected one of {names}")
        limit = size_in_bytes(max_size) if max_size else None
        if quantize == "mixed" and limit is None:
            raise InputError("--quantize mixed: expected --max-size with it, such as 80MB")
        if target == "compat" and ASKED[quantize] not in ("float32", "float16", "dynamic-int8"):
            raise InputError(
                f"--quantize {quantize}: tflite-runtime 2.14 computes it wrongly; expected float32, float16 or int8 "
                "with --target compat"
            )
        if quantize == "int8-full" and for_edge_tpu != "int8-full":
            raise InputError(
                f"--quantize {quantize}: only a recogniser can be at 8 bits everywhere; "
                "expected float32, float16, int8, int4 or mixed"
            )
        if target == "edgetpu" and for_edge_tpu is None:
            raise InputError(
                "--target edgetpu: no vocoder runs there, for it has neither LayerNorm nor GELU, nor the comparisons "
                "(GREATER_EQUAL) by which a WaveNet draws samples; expected cpu or compat"
            )
        if target == "edgetpu" and quantize != for_edge_tpu:
            raise InputError(
                f"--target edgetpu: it computes 8 bits only; expected --quantize {for_edge_tpu} with it, got {quantize}"
            )
        return cls(ASKED[quantize], limit, target == "compat", target == "edgetpu")

    def interpreters(self, precision: str) -> list[str]:
        """Who may run a file of a precision, for its manifest."""
        return [*INTERPRETERS[precision], *([COMPAT] if self.compat else ())]

    def make(
        self, convert: Callable[[str], bytes], float_file: bytes, weights: Iterable[tuple[str, np.ndarray]],
        measure: Measure, say: Teller = quiet,
    ) -> tuple[bytes, Mixture | None]:  # fmt: skip
        """The file, and how a mixture was found. Raises InputError when it cannot be small enough."""
        most = self.most_bytes or 2**62
        if self.precision == "dynamic-mixed":
            mixture = mix(float_file, weights, measure, most, say)
            return mixture.file(mixture.chosen), mixture
        if self.precision in CONVERTED:
            content = float_file if self.precision == "float32" else convert(self.precision)
        else:
            source = prepared(float_file)
            layers = float_layers(source, weights)
            content = at_bits(source, layers, {layer.name: 4 for layer in layers})
        may_be_less = self.precision != "dynamic-int4" and not self.compat and not self.edge_tpu
        check_size(len(content), most, self.precision, "; mixed or int4 may reach less" if may_be_less else "")
        return content, None


def weights_of(model: keras.Model) -> list[tuple[str, np.ndarray]]:
    """Path below the model and values of every weight. Raises InputError when one is not finite."""
    found = [
        (weight.path.removeprefix(f"{model.name}/"), keras.ops.convert_to_numpy(weight)) for weight in model.weights
    ]
    for path, values in found:
        if not np.isfinite(values).all():
            raise InputError(f"the trained network has NaN or infinite values in {path}; expected finite weights")
    return found


def size_in_bytes(text: str) -> int:
    """Bytes of a size such as 80MB, 4.5MB or 900kB. Raises InputError for anything else."""
    units = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
    number = text.strip().lower().removesuffix("b")
    unit = number[-1:] if number[-1:] in units and number[-1:] else ""
    try:
        size = float(number.removesuffix(unit)) * units[unit]
    except ValueError:
        size = float("nan")
    if not 0 < size < 2**62:
        raise InputError(f"--max-size {text}: expected a size such as 80MB")
    return int(size)
