"""Seeded inputs for a model's signatures, to time them and to check them with."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from ondevice.litert import INTEGERS, Array, Signature
from ondevice.manifest import TranscribeManifest
from ondevice.manifest_base import Manifest
from ondevice.voice_manifest import VoiceManifest

SPREAD = 0.5  # standard deviation of inputs: about that of normalised features


def integer_ranges(manifest: Manifest) -> dict[str, tuple[int, int]]:
    """For each integer input the lowest value and the first that is too high."""
    if isinstance(manifest, TranscribeManifest):
        return {"token": (0, len(manifest.tokens))}
    if isinstance(manifest, VoiceManifest):
        longest = manifest.most_symbols  # the decoder looks at everything
        return {"symbols": (1, len(manifest.symbols)), "lengths": (longest, longest + 1)}
    return {}


class Named(Protocol):
    """What has inputs and outputs by name, as a signature."""

    @property
    def inputs(self) -> Mapping[str, Any]: ...

    @property
    def outputs(self) -> Mapping[str, Any]: ...


def seeded_inputs(signature: Named, manifest: Manifest, rng: np.random.Generator) -> dict[str, Array]:
    """What a call takes beside its state: small normal values, valid integers."""
    ranges, inputs = integer_ranges(manifest), {}
    for name, tensor in signature.inputs.items():
        if name in signature.outputs:
            continue
        if name in INTEGERS:
            inputs[name] = rng.integers(*ranges.get(name, (0, 1)), tensor.shape).astype(np.int32)
        else:
            inputs[name] = rng.normal(0.0, SPREAD, tensor.shape).astype(np.float32)
    return inputs


def zero_state(signature: Named) -> dict[str, Array]:
    """Zeros for every input that comes out again."""
    return {n: np.zeros(t.shape, np.float32) for n, t in signature.inputs.items() if n in signature.outputs}


def state_of(signature: Named, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Of a call's outputs those that go into the next."""
    return {name: outputs[name] for name in signature.inputs if name in outputs}


def run_steps(
    signature: Signature, inputs: Iterable[Mapping[str, Array]], state: Mapping[str, Array]
) -> list[dict[str, Array]]:
    """Outputs of one call after another, the state fed back."""
    made = []
    for taken in inputs:
        made.append(signature({**taken, **state}))
        state = state_of(signature, made[-1])
    return made
