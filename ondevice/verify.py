"""Whether a model asset is still what its manifest says, and does what its proof says.

A proof is `proof.npz` in the asset: of every signature the inputs and outputs of two consecutive calls, recorded when
the asset was made, under the keys `signature/call/in/tensor` and `signature/call/out/tensor`; `interpreter` and
`machine` say who computed them. State names of one shape that were swapped are noticed by nothing else.
"""

import importlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ondevice.assets import find_asset, load_manifest, read_json, verify_file
from ondevice.errors import InputError, OndeviceError
from ondevice.files import DAMAGED
from ondevice.graph import read_graph
from ondevice.litert import Array, LiteRtModel, Signature, choose_backend
from ondevice.manifest import LEXICON_FILE, LM_FILE, PIECES_FILE, VAD_FILE, TranscribeManifest, parse_manifest
from ondevice.manifest_base import EMBEDDING_FILE, MANIFEST, MODEL_FILE, FileInfo, Manifest, SignatureSpec
from ondevice.opening import load_embedding, look_up, open_model
from ondevice.pronounce import Pronouncer
from ondevice.sound_lexicon import SoundLexicon
from ondevice.tokens import Pieces
from ondevice.trial import run_steps, seeded_inputs, state_of, zero_state
from ondevice.vad import load_detector
from ondevice.voice_manifest import PRONUNCIATION_FILE, VocoderManifest, VoiceManifest
from ondevice.wordlm import load_lm

PROOF_FILE = "proof.npz"
OK, FAILED, SKIPPED, WARNING = "ok", "FAILED", "skipped", "warning"
CALLS = 2  # of each signature in a proof
SAME, ELSEWHERE = 1e-3, 2e-2  # relative RMS error allowed: same interpreter and machine, any other
STEPS = 8  # seeded calls of each signature
VARIABLES = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}  # weights that a converter left outside the file
LEAST_BYTES = 0.5  # a parameter is stored in no less than 4 bits


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: str  # OK, FAILED, SKIPPED or WARNING
    detail: str


class RecordedCall(NamedTuple):
    """What went into a call of a signature and what came out, state included."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Proof:
    """Calls recorded of each signature, and who computed them."""

    records: Mapping[str, Sequence[RecordedCall]]
    interpreter: str
    machine: str


def verify(directory: Path) -> Iterator[Check]:
    """Every check of an asset, as it is made; a model file that is not the manifest's is not run."""
    try:
        manifest = parse_manifest(directory, read_json(directory / MANIFEST))
    except InputError as error:
        yield Check("manifest", FAILED, str(error))
        yield from _file_checks(directory / MODEL_FILE, None)
        yield from _not_run("the manifest cannot be read")
        return
    yield Check("manifest", OK, f"{manifest.name}, {manifest.task}, {manifest.precision}")
    files = {n: _check(f"file {n}", partial(_file, directory / n, info)) for n, info in manifest.files.items()}
    yield from files.values()
    yield from _content_checks(manifest, [name for name, check in files.items() if check.status == OK])
    yield from _file_checks(manifest.model_path, manifest.parameters)
    interpreter = _check("interpreter", partial(_interpreter, manifest))
    yield interpreter
    if files[MODEL_FILE].status == FAILED:
        yield from _not_run(f"{MODEL_FILE} is not the manifest's")
    elif interpreter.status == FAILED:
        yield from _not_run("no interpreter")
    else:
        yield from _run_checks(manifest)


def _check(name: str, function: Callable[[], str]) -> Check:
    """The outcome of a function that returns a remark or raises."""
    try:
        return Check(name, OK, function())
    except (OndeviceError, OSError, ValueError, RuntimeError) as error:  # the last two from the interpreter
        return Check(name, FAILED, " ".join(str(error).split()))


def _not_run(why: str) -> Iterator[Check]:
    for name in ("signatures", "state", "finite", "proof"):
        yield Check(name, SKIPPED, why)


# without running it


def _file(path: Path, info: FileInfo) -> str:
    verify_file(path, info)
    return f"{info.bytes} bytes, sha256 {info.sha256[:12]}..."


def _content_checks(manifest: Manifest, whole: Sequence[str]) -> Iterator[Check]:
    """Whether the files that are the manifest's hold what their names say, and the voice's vocoder is here."""
    readers: dict[str, Callable[[Path], Any]] = {EMBEDDING_FILE: load_embedding}
    if isinstance(manifest, TranscribeManifest):
        pieces = Pieces(manifest.tokens, manifest.blank)
        readers |= {LM_FILE: partial(load_lm, pieces=pieces), LEXICON_FILE: SoundLexicon.load}
        readers[VAD_FILE] = partial(load_detector, width=manifest.shape("encoder", "outputs", "encoded")[-1])
    if isinstance(manifest, VoiceManifest):
        readers[PRONUNCIATION_FILE] = partial(Pronouncer, symbols=manifest.symbols)
    for name in whole:
        if name in readers:
            yield _check(f"open {name}", partial(_opened, readers[name], manifest.directory / name))
    if isinstance(manifest, TranscribeManifest) and PIECES_FILE in whole:
        if _importable("sentencepiece"):
            yield _check("tokens", partial(_tokens, manifest))
        else:
            yield Check("tokens", SKIPPED, f"needs sentencepiece to read {PIECES_FILE}")
    if isinstance(manifest, VoiceManifest):
        found = _check("vocoder", partial(_vocoder, manifest))
        yield replace(found, status=WARNING) if found.status == FAILED else found


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _opened(read: Callable[[Path], Any], path: Path) -> str:
    try:
        read(path)
    except OndeviceError:
        raise
    except Exception as error:  # whatever a corrupt file makes a reader raise
        raise InputError(f"{path}: cannot be read ({error})") from None
    return "can be read"


def _tokens(manifest: TranscribeManifest) -> str:
    """The tokens are the pieces that transcripts were cut into."""
    path = manifest.directory / PIECES_FILE
    processor = importlib.import_module("sentencepiece").SentencePieceProcessor(model_file=str(path))
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    for number, (piece, token) in enumerate(zip_longest(pieces, manifest.tokens)):
        if piece != token:
            raise InputError(f"{path}: piece {number} is {piece!r}, but the manifest's token is {token!r}")
    return f"{len(pieces)} as in {PIECES_FILE}"


def _vocoder(manifest: VoiceManifest) -> str:
    return load_manifest(find_asset(manifest.vocoder), kind=VocoderManifest).name


def _interpreter(manifest: Manifest) -> str:
    backend = choose_backend(manifest.interpreters, str(manifest.model_path))
    return f"{backend.name} {backend.version}"


def _file_checks(path: Path, parameters: int | None) -> Iterator[Check]:
    """Whether the weights are in the file and are numbers."""
    try:
        graph = read_graph(path)
    except InputError as error:
        yield Check("weights present", FAILED, str(error))
        yield Check("weights finite", SKIPPED, "the file cannot be read")
        return
    if graph is None:
        yield Check("weights present", SKIPPED, "needs ai_edge_litert to read the file")
        yield Check("weights finite", SKIPPED, "needs ai_edge_litert to read the file")
        return
    left_out, size = sorted(VARIABLES & graph.codes), path.stat().st_size
    if left_out:
        yield Check("weights present", FAILED, f"{path}: {', '.join(left_out)}; expected constants in the file")
    elif size < LEAST_BYTES * (parameters or 0):
        yield Check(
            "weights present", FAILED, f"{path}: {size} bytes for {parameters} parameters; expected 4 bits each"
        )
    else:
        yield Check("weights present", OK, f"{size} bytes" + (f" for {parameters} parameters" if parameters else ""))
    bad = sorted({tensor.name for tensor in graph.constants if not tensor.is_finite})
    if bad:
        yield Check("weights finite", FAILED, f"{path}: NaN or infinity in {_some(bad)}")
    else:
        yield Check("weights finite", OK, f"{len(graph.constants)} constants")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# running it


def _run_checks(manifest: Manifest) -> Iterator[Check]:
    try:
        model = LiteRtModel(manifest.model_path, interpreters=manifest.interpreters)
        look_up(model, manifest)
    except OndeviceError as error:
        yield Check("signatures", FAILED, str(error))
        yield from list(_not_run("the interpreter cannot load the file"))[1:]
        return
    yield _check("signatures", partial(_signatures, model, manifest))
    for name, signature in model.signatures.items():
        spec = manifest.signatures.get(name)
        if spec is not None:
            yield _check(f"state {name}", partial(_state, signature, spec, manifest))
        yield _check(f"finite {name}", partial(_finite, signature, manifest))
    if (manifest.directory / PROOF_FILE).exists():
        yield _check("proof", partial(_proof, model, manifest.directory / PROOF_FILE))
    else:
        yield Check("proof", FAILED, f"{manifest.directory}: no {PROOF_FILE}, which every export writes")


def _signatures(model: LiteRtModel, manifest: Manifest) -> str:
    """Names, shapes and types as the manifest has them."""
    if set(model.signatures) != set(manifest.signatures):
        have, want = sorted(model.signatures), sorted(manifest.signatures)
        raise InputError(f"{model.path}: signatures {have}, but the manifest lists {want}")
    open_model(manifest)  # compares them
    return ", ".join(manifest.signatures)


def _steps(signature: Signature, manifest: Manifest) -> list[dict[str, Array]]:
    """Inputs of a few calls, the same every time."""
    rng = np.random.default_rng(0)
    return [seeded_inputs(signature, manifest, rng) for _ in range(STEPS)]


def _state(signature: Signature, spec: SignatureSpec, manifest: Manifest) -> str:
    """Each state goes in, comes out changed, and changes something else."""
    for name, shape in spec.state.items():
        got = [side[name].shape if name in side else None for side in (signature.inputs, signature.outputs)]
        if got != [shape, shape]:
            raise InputError(f"state {name!r} goes in as {got[0]} and comes out as {got[1]}; expected {shape}")
    loops = sorted(set(signature.inputs) & set(signature.outputs) - set(spec.state))
    if loops:
        raise InputError(f"{_some(loops)}: goes in and comes out, but the manifest does not list it as state")
    inputs = _steps(signature, manifest)
    made = run_steps(signature, inputs, zero_state(signature))
    stuck = [n for n in spec.state if all(np.array_equal(out[n], made[0][n]) for out in made[1:])]
    if stuck:
        raise InputError(f"state {_some(stuck)} never changes in {STEPS} steps; expected it to advance")
    state = state_of(signature, made[-1])
    idle = [n for n in spec.state if not _matters(signature, n, inputs, state)]
    if idle:
        raise InputError(
            f"state {_some(idle)}: nothing depends on it in {STEPS} steps; expected other outputs to change"
        )
    return f"{len(spec.state)} tensors advance and matter" if spec.state else "none"


def _matters(
    signature: Signature, name: str, inputs: Sequence[Mapping[str, Array]], state: Mapping[str, Array]
) -> bool:
    """Whether another output changes when the calls begin with other values in one state."""
    moved = state[name] + np.random.default_rng(1).normal(size=state[name].shape).astype(np.float32)
    pairs = zip(run_steps(signature, inputs, state), run_steps(signature, inputs, {**state, name: moved}), strict=True)
    return any(not np.array_equal(a[n], b[n]) for a, b in pairs for n in a if n != name)


def _finite(signature: Signature, manifest: Manifest) -> str:
    made = run_steps(signature, _steps(signature, manifest), zero_state(signature))
    bad = sorted({name for out in made for name, values in out.items() if not np.isfinite(values).all()})
    if bad:
        raise InputError(f"NaN or infinity in {_some(bad)} within {STEPS} steps")
    return f"{STEPS} steps"


# proof


def write_proof(path: str | os.PathLike[str], records: Mapping[str, Sequence[RecordedCall]]) -> None:
    """Write what each signature made in two consecutive calls on this machine, in its first choice of interpreter."""
    backend = choose_backend()
    arrays = {"interpreter": np.array(f"{backend.name} {backend.version}"), "machine": np.array(machine())}
    for signature, calls in records.items():
        if len(calls) != CALLS:
            raise InputError(f"proof of {signature!r}: {len(calls)} calls; expected {CALLS}")
        for number, call in enumerate(calls):
            for side, tensors in (("in", call.inputs), ("out", call.outputs)):
                arrays |= {f"{signature}/{number}/{side}/{name}": np.asarray(t) for name, t in tensors.items()}
    with open(path, "wb") as file:  # savez would add its suffix to a name
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_proof(path: str | os.PathLike[str]) -> Proof:
    """What `write_proof` wrote. InputError when it cannot be read or is not a proof."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, *DAMAGED) as error:
        raise InputError(f"{os.fspath(path)}: cannot be read ({error}); expected a proof") from error
    made_by = [str(arrays.pop(name, "")) for name in ("interpreter", "machine")]
    found: dict[str, list[dict[str, dict[str, Array]]]] = {}
    for key, values in arrays.items():
        parts = key.split("/")
        if len(parts) != 4 or parts[1] not in ("0", "1") or parts[2] not in ("in", "out"):
            raise InputError(f"{os.fspath(path)}: key {key!r}; expected signature/call/in|out/tensor")
        calls = found.setdefault(parts[0], [{"in": {}, "out": {}} for _ in range(CALLS)])
        calls[int(parts[1])][parts[2]][parts[3]] = values
    return Proof({n: [RecordedCall(c["in"], c["out"]) for c in calls] for n, calls in found.items()}, *made_by)


def machine() -> str:
    """The processor here, as far as it tells: results differ in their last bits from one to another."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else f"{platform.machine()} {platform.processor()}".strip()


def _proof(model: LiteRtModel, path: Path) -> str:
    """The recorded calls, made again."""
    proof = read_proof(path)
    if set(proof.records) != set(model.signatures):
        raise InputError(f"{path}: of {sorted(proof.records)}, but the model has {sorted(model.signatures)}")
    here = proof.interpreter == f"{model.backend.name} {model.backend.version}" and proof.machine == machine()
    limit, worst = SAME if here else ELSEWHERE, 0.0
    for name, calls in proof.records.items():
        for number, call in enumerate(calls):
            for tensor, error in _errors(model.signatures[name], call, f"{path}: {name}/{number}").items():
                if not error <= limit:  # NaN too
                    what = f"{path}: {name}/{number}/out/{tensor}"
                    raise InputError(f"{what}: relative RMS error {error:.2g}; expected {limit:g} or less")
                worst = max(worst, error)
    return f"relative RMS error {worst:.2g} of {limit:g} allowed, recorded {'here' if here else 'elsewhere'}"


def _errors(signature: Signature, call: RecordedCall, where: str) -> dict[str, float]:
    """Relative RMS error of each output of a recorded call."""
    for got, wanted, side in ((call.inputs, signature.inputs, "in"), (call.outputs, signature.outputs, "out")):
        if {n: a.shape for n, a in got.items()} != {n: t.shape for n, t in wanted.items()}:
            raise InputError(f"{where}/{side}: {sorted(got)} are not the model's {sorted(wanted)}, in name or shape")
    made = signature(call.inputs)
    return {name: relative_rms(made[name], expected) for name, expected in call.outputs.items()}


def relative_rms(got: Array, expected: Array) -> float:
    """RMS of the difference over the RMS of what was expected."""
    error, size = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (got - expected, expected))
    return error / max(size, 1e-6)
