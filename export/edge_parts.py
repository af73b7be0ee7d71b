"""An asset's parts for an Edge TPU: a file for each signature, audited, and compiled where its compiler is installed.

What the compiler makes only runs where such a device is; the files it is made of run anywhere and are kept beside it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.convert import write_bytes
from export.edgetpu import audit, run_compiler, tensor_order
from export.telling import Teller, quiet
from ondevice.errors import FailureError


@dataclass(frozen=True)
class Parts:
    """What was written."""

    compiled: Mapping[str, Any]  # the manifest's field `edge_tpu`
    report: list[dict[str, Any]]  # a row for each signature

    def tell(self, say: Teller) -> None:
        """A line for each signature."""
        for row in self.report:
            done = "compiled" if row["compiler"] else "not compiled"
            say(f"{row['file']}: {row['operators']} operators on the Edge TPU; {done}")


def write_parts(directory: Path, files: Mapping[str, bytes], say: Teller = quiet) -> Parts:
    """Write `<signature>.tflite` for each into an asset's directory, and `<signature>_edgetpu.tflite` where possible.

    files: int8 files of one graph each. Raises FailureError with the compiler's words when it fails, and naming the
    first operator of a file that would not run on an Edge TPU as a whole.
    """
    compiled, report = {}, []
    for name, content in files.items():
        found = audit(content)
        (graph,) = found.graphs
        if not found.maps:
            reason = found.first_fallback(graph.name) or found.problems[0]
            raise FailureError(f"--target edgetpu: {name} would not run there as a whole: {reason}")
        path = directory / f"{name}.tflite"
        write_bytes(path, content)
        done = run_compiler(directory, path)
        if done:
            inputs, outputs = tensor_order(content)
            compiled[name] = {"file": done.output.name, "inputs": inputs, "outputs": outputs}
            done.output.with_suffix(".log").unlink(missing_ok=True)
        report.append({
            "signature": name, "file": path.name, "bytes": len(content), "operators": len(graph.operators),
            "on_edge_tpu": len(graph.operators), "notes": list(found.notes),
            "compiler": {**asdict(done), "output": done.output.name} if done else None,
        })  # fmt: skip
    parts = Parts(compiled, report)
    parts.tell(say)
    return parts
