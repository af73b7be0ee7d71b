"""Bars where a person waits, nothing where nobody does."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest

from export.telling import Teller, Terminal

CODE = """
from export.telling import Terminal
say = Terminal()
assert list(say.track("abc", "letters")) == ["a", "b", "c"]
assert list(say.track(iter("ab"), "others", 2)) == ["a", "b"]
say("done")
"""


def test_nobody_is_told_anything(capfd: pytest.CaptureFixture[str]) -> None:
    say = Teller()
    say("line")
    assert list(say.track([1, 2], "numbers")) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_without_a_terminal_there_are_lines_only(capfd: pytest.CaptureFixture[str]) -> None:
    say = Terminal()
    assert list(say.track([1, 2], "numbers")) == [1, 2]
    say("line")
    assert capfd.readouterr() == ("", "line\n")


def test_on_a_terminal_there_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", CODE], stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = ""
    with contextlib.suppress(OSError):  # at the end
        while part := os.read(ours, 10_000):
            shown += part.decode()
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert "letters" in shown
    assert "3/3" in shown
    assert "2/2" in shown
    assert "done" in shown
