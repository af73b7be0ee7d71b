"""Which layers of a network to keep at int8 and which to hold at int4, under a limit on the size of the file.

A layer's sensitivity is how much the error of the outputs grows, over a real recording, when only it is at int4 and all
others at int8. Layers go to int4 in the order of that growth per byte saved, and the curve of size against error along
this order is measured, not added up: errors of layers do not add.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.layers import Layer, at_bits, float_layers, prepared
from export.telling import Teller, quiet
from ondevice.errors import InputError

POINTS = 9  # of the curve, ends included


@dataclass(frozen=True)
class Point:
    """One mixture of bits."""

    size: int  # bytes of the file
    error: float  # relative RMS of the outputs over the recording
    narrow: tuple[str, ...]  # the layers at int4


@dataclass(frozen=True)
class Mixture:
    """What was chosen, and what was found on the way."""

    source: bytes = field(repr=False)  # the float file
    layers: tuple[Layer, ...]
    chosen: Point
    curve: tuple[Point, ...]  # from all int8 to all int4
    sensitivity: Mapping[str, float]  # error of the outputs with only that layer at int4

    def file(self, point: Point) -> bytes:
        """The TFLite file of a point."""
        return at_bits(self.source, self.layers, dict.fromkeys(point.narrow, 4))

    def report(self) -> dict[str, Any]:
        """All of it but the files, for JSON."""
        rows = [
            {"layer": x.name, "values": x.values, "bits": 4 if x.name in self.chosen.narrow else 8,
             "error_at_int4": self.sensitivity.get(x.name)}
            for x in self.layers
        ]  # fmt: skip
        curve = [{"bytes": p.size, "error": p.error, "int4_layers": len(p.narrow)} for p in self.curve]
        return {"layers": rows, "curve": curve, "error": self.chosen.error, "bytes": self.chosen.size}


Measure = Callable[[bytes], float]


def mix(
    content: bytes, weights: Iterable[tuple[str, np.ndarray]], measure: Measure, most_bytes: int, say: Teller = quiet
) -> Mixture:
    """The float file `content` in at most `most_bytes` with the smallest error this search finds.

    measure: error of a file's outputs over a recording. Raises InputError when even all int4 is too large.
    """
    content = prepared(content)
    layers = float_layers(content, weights)
    wide, narrow = at_bits(content, layers, {}), at_bits(content, layers, {layer.name: 4 for layer in layers})
    check_size(len(narrow), most_bytes, "dynamic-mixed")
    sensitivity: dict[str, float] = {}
    base = measure(wide)
    candidates = [layer for layer in layers if layer.narrow]
    for number, layer in enumerate(say.track(candidates, "layers at int4"), 1):
        sensitivity[layer.name] = measure(at_bits(content, layers, {layer.name: 4}))
        say(f"{number} of {len(candidates)}: {layer.name} at int4: error {base:.4f} -> {sensitivity[layer.name]:.4f}")
    order = sorted(candidates, key=lambda layer: (sensitivity[layer.name] - base) / layer.values)

    def at(count: int) -> bytes:
        return at_bits(content, layers, {layer.name: 4 for layer in order[:count]})

    def point(count: int) -> Point:
        file = at(count)
        return Point(len(file), measure(file), tuple(layer.name for layer in order[:count]))

    counts = sorted({round(i * len(order) / (POINTS - 1)) for i in range(POINTS)})
    curve = tuple(point(n) for n in say.track(counts, "sizes"))
    count = fewest(len(order), lambda n: len(at(n)) <= most_bytes)
    return Mixture(content, tuple(layers), point(count), curve, sensitivity)


def check_size(smallest: int, most_bytes: int, precision: str, hint: str = "") -> None:
    """InputError, with a hint, unless the smallest file that can be made at a precision is small enough."""
    if smallest > most_bytes:
        raise InputError(
            f"--max-size: {most_bytes / 1e6:.3g} MB cannot be reached at {precision.removeprefix('dynamic-')}; "
            f"the smallest is {smallest / 1e6:.3g} MB{hint}"
        )


def fewest(most: int, fits: Callable[[int], bool]) -> int:
    """The smallest count from 0 to `most` that fits, where all above one that fits do; `most` is known to."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low
