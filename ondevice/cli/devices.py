"""`ondevice devices`: the microphones of this computer."""

import json
from typing import Annotated

import typer

from ondevice.errors import FailureError


def devices(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> None:
    """List the microphones; * marks the default. Choose one by its index or a part of its name."""
    from dataclasses import asdict

    from ondevice.microphone import NO_MICROPHONE, list_devices

    found = list_devices()
    if not found:
        raise FailureError(NO_MICROPHONE)
    if as_json:
        print(json.dumps([asdict(device) for device in found], indent=2, ensure_ascii=False))
        return
    print("  index  channels  rate (Hz)  name")
    for device in found:
        mark = "*" if device.is_default else " "
        print(f"{mark} {device.index:5}  {device.channels:8}  {device.rate_hz:9}  {device.name}")
