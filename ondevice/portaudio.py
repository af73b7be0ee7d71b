"""PortAudio by way of `sounddevice`, which loads it as it is imported: so that is done when it is first needed."""

import importlib
from typing import Any

from ondevice.errors import FailureError


def sound_library() -> Any:
    """The module sounddevice. Raises FailureError where it or PortAudio is missing."""
    try:
        return importlib.import_module("sounddevice")
    except ImportError:
        line = "microphones and loudspeakers need the package sounddevice; pip install 'ondevice[audio]'"
    except OSError as error:
        line = f"microphones and loudspeakers need PortAudio ({one_line(error)}); apt-get install libportaudio2"
    raise FailureError(line)


def one_line(text: object) -> str:
    """`text` on one line: some drivers' names and reasons have several."""
    return " ".join(str(text).split())


def fitting(devices: list[tuple[int, str]], text: str) -> list[tuple[int, str]]:
    """The (index, name) pairs with that index, else with that name, else with that in their name."""
    by_index = [device for device in devices if str(device[0]) == text]
    by_name = [device for device in devices if device[1].casefold() == text]
    return by_index or by_name or [device for device in devices if text and text in device[1].casefold()]
