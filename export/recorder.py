"""Calls of a model's signatures, kept with what went in and came out: what others are compared with, and a proof."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.convert import Call, relative_error
from ondevice.verify import CALLS, RecordedCall


class Recorder:
    """Calls of signatures, kept with what went in and came out."""

    def __init__(self, calls: Mapping[str, Call]) -> None:
        self.kept: list[tuple[str, Mapping[str, np.ndarray], dict[str, np.ndarray]]] = []
        self.calls = {name: self._recorded(name, call) for name, call in calls.items()}

    def _recorded(self, name: str, call: Call) -> Call:
        def recorded(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = call(inputs)
            self.kept.append((name, dict(inputs), dict(outputs)))
            return outputs

        return recorded

    def inputs(self) -> dict[str, list[Mapping[str, np.ndarray]]]:
        """What each signature was given, call by call."""
        rows: dict[str, list[Mapping[str, np.ndarray]]] = {name: [] for name in self.calls}
        for name, inputs, _ in self.kept:
            rows[name].append(inputs)
        return rows

    def consecutive(self, count: int = CALLS) -> dict[str, list[RecordedCall]]:
        """The last so many calls of each signature, the first of them again where there were fewer."""
        rows: dict[str, list[RecordedCall]] = {name: [] for name in self.calls}
        for name, inputs, outputs in self.kept:
            rows[name].append(RecordedCall(inputs, outputs))
        return {name: (calls[:1] * count + calls)[-count:] for name, calls in rows.items()}

    def errors(self, calls: Mapping[str, Call], drawn: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Each output of the same calls by others: largest and relative RMS error, states included.

        Every call is given what the recorded one was given, so that one draw that falls otherwise does not make all
        that follows differ; the tensors in `drawn` are left out.
        """
        pairs: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        for name, inputs, outputs in self.kept:
            others = calls[name](inputs)
            for tensor, value in outputs.items():
                if tensor not in drawn:
                    pairs[name, tensor].append((value, others[tensor]))
        rows = []
        for (name, tensor), values in pairs.items():
            largest, relative = relative_error(*(np.stack(side) for side in zip(*values, strict=True)))
            rows.append({"tensor": f"{name}.{tensor}", "max_error": largest, "relative_rms": relative})
        return rows
