"""Errors a person can act on: one line that says what was wrong and what was expected."""


class OndeviceError(Exception):
    """Base of every error the command line prints as one line instead of a traceback."""

    exit_code = 1


class InputError(OndeviceError):
    """Bad usage or bad input: a missing, corrupt or unsuitable file, option or value (exit code 2)."""

    exit_code = 2


class FailureError(OndeviceError):
    """The input was fine but the work could not be done: no device, no disk space (exit code 1)."""

    exit_code = 1
