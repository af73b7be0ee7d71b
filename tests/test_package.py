"""What is installed: the wheel alone transcribes and speaks, and no runtime command loads what only training needs."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "assets" / "samples" / "librispeech-2035-152373-0018.opus"
TRAINING = {"tensorflow", "keras", "jax", "sentencepiece", "torch"}
COMMANDS = [
    ["--help"], ["listen", "--help"], ["models"], ["models", "info", "rnnt"], ["listen", str(SAMPLE)],
    ["transcribe", str(SAMPLE)], ["evaluate", str(ROOT / "assets" / "samples"), "--split", "dev", "--limit", "1"],
    ["speak", "Hello there.", "--output", os.devnull, "--raw"], ["styles"], ["verify", "vocoder"],
    ["bench", "vocoder", "--runs", "2"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: " ".join(a[:2])[:30])
def test_no_runtime_command_loads_a_training_library(arguments: list[str]) -> None:
    code = (
        "import sys, json\n"
        "from ondevice.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not TRAINING & set(json.loads(done.stderr.splitlines()[-1]))


def test_the_readme_shows_the_help_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ondevice", "--help"],
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert {"listen", "transcribe", "evaluate", "models", "devices", "train", "export"} <= set(listed)
    for command in listed:
        assert f"`ondevice {command}" in readme, f"README.md does not tell of `ondevice {command}`"


@pytest.mark.slow
def test_the_wheel_installs_bare_transcribes_and_speaks(tmp_path: Path) -> None:
    def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ONDEVICE", "VIRTUAL_ENV"))}
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("ondevice-*.whl")
    venv.create(tmp_path / "bare", with_pip=True)
    bin_ = tmp_path / "bare" / "bin"
    run(bin_ / "pip", "install", "--quiet", wheel)
    assert run(bin_ / "python", "-c", "import tensorflow", check=False).returncode != 0
    heard = run(bin_ / "ondevice", "transcribe", SAMPLE)
    assert len(heard.stdout.split()) >= 8
    assert heard.stdout == run(bin_ / "ondevice", "listen", SAMPLE).stdout
    run(
        bin_ / "ondevice", "speak", "The old man looked up from his book and smiled.", "--output", tmp_path / "said.wav"
    )
    spoken = run(bin_ / "ondevice", "listen", tmp_path / "said.wav").stdout
    assert len(set(spoken.split()) & {"old", "man", "looked", "from", "his", "book", "smiled"}) >= 4
    top = run(bin_ / "python", "-c", "import models", check=False)
    assert "No module named 'models'" in top.stderr
    told = run(bin_ / "ondevice", "train", "lm", "--pieces", "x", "--text", "x", "--output", "x", check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("ondevice: `ondevice train` works from a checkout")
    assert len(told.stderr.splitlines()) == 1
