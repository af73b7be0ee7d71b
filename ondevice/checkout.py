"""Training and exporting need more than the installed package: say so in one line where it is missing."""

import importlib.util

from ondevice.errors import FailureError

REPOSITORY = "the project's repository"


def require_checkout(command: str) -> None:
    """FailureError unless `models` and `export` of a checkout and the training libraries can be imported."""
    if not (_found("models.recipe") and _found("export.asset")):
        raise FailureError(
            f"`ondevice {command}` works from a checkout: clone {REPOSITORY} and run `pip install -e '.[train]'` in it"
        )
    if not (_found("keras") and _found("sentencepiece")):
        raise FailureError(f"`ondevice {command}` needs the training libraries: pip install -e '.[train]'")


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False
