"""`ondevice verify`: whether a model asset is whole, and does what it did when it was made."""

from typing import Annotated

import typer


def verify(
    model: Annotated[str, typer.Argument(help="Directory or name of a model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Check a model: its files, shapes, state and weights, and the calls recorded in its proof.npz.

    A line for each check: ok, FAILED, skipped where it could not be made, or warning where something it needs is not
    here. The exit code is 1 if any failed.
    """
    import json
    from dataclasses import asdict

    from ondevice.assets import find_asset
    from ondevice.verify import FAILED, Check
    from ondevice.verify import verify as checks_of

    directory, checks = find_asset(model), list[Check]()
    for check in checks_of(directory):
        checks.append(check)
        if not as_json:
            print(f"{check.status:<8} {check.name:<18} {check.detail}", flush=True)
    passed = all(check.status != FAILED for check in checks)
    if as_json:
        rows = [asdict(check) for check in checks]
        print(json.dumps({"directory": str(directory), "passed": passed, "checks": rows}, indent=1))
    if not passed:
        raise typer.Exit(1)
