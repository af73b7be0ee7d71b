"""`ondevice models`: the models that are here, and the card of one."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ondevice.manifest_base import Manifest

app = typer.Typer(invoke_without_command=True, help="List the models, or show the card of one (`models info NAME`).")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that can be used by name."""
    if context.invoked_subcommand:
        return
    from ondevice.assets import list_assets, load_manifest
    from ondevice.errors import FailureError

    manifests = [load_manifest(path, verify=False) for path in list_assets()]
    if as_json:
        print(json.dumps([_card(manifest) for manifest in manifests], indent=1))
        return
    if not manifests:
        raise FailureError("no models found; expected some in $ONDEVICE_ASSETS or the package's assets")
    print(f"{'name':<16} {'task':<12} {'language':<9} {'size':>9}  {'precision':<14} description")
    for m in manifests:
        size = f"{m.size_bytes / 1e6:.1f} MB"
        print(f"{m.name:<16} {m.task:<12} {m.language:<9} {size:>9}  {m.precision:<14} {m.description}")


@app.command()
def info(name: Annotated[str, typer.Argument(help="Name or directory of a model.")], as_json: AsJson = False) -> None:
    """The card of a model: task, size, precision, data, licence, metrics. Checks its files first."""
    from ondevice.assets import find_asset, load_manifest
    from ondevice.manifest import TranscribeManifest

    manifest = load_manifest(find_asset(name))
    card = _card(manifest)
    if as_json:
        print(json.dumps(card, indent=1))
        return
    for key in ("name", "task", "language", "description", "licence", "precision", "parameters", "interpreters"):
        value = card[key]
        print(f"{key:<13} {', '.join(value) if isinstance(value, list) else value}")
    print(f"{'size':<13} {manifest.size_bytes / 1e6:.1f} MB in {manifest.directory}")
    for file in card["files"]:
        print(f"{'':<13} {file['name']}  {file['bytes']} bytes  sha256 {file['sha256']}")
    settings = manifest.features
    step = f", {1000 * manifest.step_s:.0f} ms a step" if isinstance(manifest, TranscribeManifest) else ""
    print(f"{'audio':<13} {settings.rate_hz} Hz mono, {settings.bands} log-mel bands{step}")
    if "search" in card:
        print(f"{'search':<13} {', '.join(f'{k} {v:g}' for k, v in card['search'].items())}")
    for title in ("data", "metrics"):
        for row in card[title]:
            print(f"{title:<13} {_row(row)}")


def _row(row: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items()) if isinstance(row, dict) else str(row)


def _card(manifest: "Manifest") -> dict[str, Any]:
    """The manifest without what only the runtime needs."""
    from ondevice.manifest import TranscribeManifest

    files = [{"name": name, "bytes": f.bytes, "sha256": f.sha256} for name, f in manifest.files.items()]
    return {
        "name": manifest.name,
        "task": manifest.task,
        "language": manifest.language,
        "description": manifest.description,
        "licence": manifest.licence,
        "precision": manifest.precision,
        "parameters": manifest.parameters,
        "interpreters": list(manifest.interpreters),
        "files": files,
        "size_bytes": manifest.size_bytes,
        **({"search": dict(manifest.search)} if isinstance(manifest, TranscribeManifest) else {}),
        "data": list(manifest.data),
        "metrics": [dict(metric) for metric in manifest.metrics],
    }
