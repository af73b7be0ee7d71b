"""The `ondevice` command: each subcommand reads its arguments, calls one function and prints."""

import os
import sys
from typing import Any

import typer

from ondevice.cli import train, train_voice
from ondevice.cli.bench import bench
from ondevice.cli.devices import devices
from ondevice.cli.evaluate import evaluate
from ondevice.cli.export import app as export_app
from ondevice.cli.listen import listen
from ondevice.cli.models import app as models_app
from ondevice.cli.speak import speak
from ondevice.cli.styles import styles
from ondevice.cli.transcribe import transcribe
from ondevice.cli.verify import verify
from ondevice.errors import OndeviceError

_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # Click's, which newer Typers bring along

app = typer.Typer(
    name="ondevice",
    help="Speech software that runs entirely on this device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(listen)
app.command()(transcribe)
app.command()(speak)
app.command()(styles)
app.command()(evaluate)
app.add_typer(models_app, name="models")
app.command()(bench)
app.command()(verify)
app.command()(devices)
for name in ("tacotron", "vocoder", "wavenet", "prosody", "copies", "lexicon"):
    train.app.command()(getattr(train_voice, name))
app.add_typer(train.app, name="train")
app.add_typer(export_app, name="export")


def main() -> None:
    """Run the command line; every error a person can act on is one line on stderr."""
    try:
        sys.exit(app(standalone_mode=False))
    except OndeviceError as error:
        print(f"ondevice: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output went away: nothing to tell anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that is a file: nobody else knew it better
        place = f"{error.filename}: " if error.filename else ""
        print(f"ondevice: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except typer.Abort:
        print("ondevice: aborted", file=sys.stderr)
        sys.exit(1)
    except _USAGE_ERROR as error:
        if line := _usage_line(error):
            print(f"ondevice: {line}", file=sys.stderr)
        sys.exit(2)


def _usage_line(error: Any) -> str:
    """What was wrong with the arguments, and whose help to read; "" where it is on the screen already."""
    message = " ".join(error.format_message().split()).removesuffix(".")
    if not message or error.ctx is None:
        return message
    return f"{message[0].lower()}{message[1:]}; see {error.ctx.command_path} --help"
