"""Synthetic training speech: prompts read by free engines (Debian packages), as tar shards and a manifest.

flite and festival voices were built from real speakers, espeak-ng's are formant synthesis; together they give
many pronunciations of many words, which is what a small corpus of human speech lacks. Every utterance gets its
own rate, pitch, vocal-tract length and level. MBROLA voices are left out: not free for commercial use.
"""

import functools
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from models.numbers import words_of
from models.prompts import Prompt, PromptMixer
from models.text import normalize
from ondevice.errors import FailureError, InputError

RATE_HZ = 16000
ENGINES = {"flite": "flite", "festival": "text2wave", "espeak": "espeak-ng"}  # engine -> program
ENGINE_TIMEOUT_S = 60
LONGEST_S, SHORTEST_S = 15.0, 0.25
SECONDS_PER_LETTER = (0.025, 0.30)  # outside this an engine has stumbled: skipped words or read out symbols
OPUS_LEVEL = 0.9  # soundfile compression level: about 28 kbit/s

_ESPEAK_ACCENTS = {
    "en-us": 0.42,
    "en-gb": 0.16,
    "en-gb-x-rp": 0.10,
    "en-gb-scotland": 0.08,
    "en-gb-x-gbclan": 0.06,
    "en-gb-x-gbcwmd": 0.06,
    "en-029": 0.06,
    "en-us-nyc": 0.06,
}
# Left out: whispers, croaks, robots and others that people find hard to follow.
_ESPEAK_VARIANTS = words_of(
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Hugo Jacky "
    "Lee Marco Mario Michael Mike adam anika antonio aunty belinda benjamin boris caleb david ed edward "
    "edward2 grandma grandpa gustave john klatt klatt2 klatt3 klatt4 linda max michel miguel norbert paul quincy "
    "rob robert sandro shelby steph steph2 steph3 travis victor zac"
)


@dataclass(frozen=True)
class Voice:
    """One voice of one engine and how often it is drawn (relative weight)."""

    engine: str
    name: str
    weight: float

    @property
    def speaker(self) -> str:
        return f"{self.engine}-{self.name}"


def known_voices() -> tuple[Voice, ...]:
    """Every voice a corpus may use: 55 % recorded voices (flite, festival), 45 % espeak-ng's variants."""
    recorded = (
        Voice("flite", "slt", 0.14),
        Voice("flite", "rms", 0.14),
        Voice("flite", "awb", 0.11),
        Voice("flite", "kal16", 0.03),
        Voice("flite", "kal", 0.02),  # an 8 kHz voice: sounds like a telephone
        Voice("festival", "cmu_us_slt_arctic_hts", 0.06),
        Voice("festival", "ked_diphone", 0.03),
        Voice("festival", "kal_diphone", 0.02),
    )
    variants = ("", *_ESPEAK_VARIANTS)
    formant = (
        Voice("espeak", f"{accent}+{variant}".rstrip("+"), 0.45 * share / len(variants))
        for accent, share in _ESPEAK_ACCENTS.items()
        for variant in variants
    )
    return (*recorded, *formant)


@functools.cache
def _listing(*command: str) -> str:
    """What an engine prints about its voices; empty when it is not installed or fails."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_TIMEOUT_S, check=False)
    return done.stdout


def installed_voices() -> tuple[Voice, ...]:
    """The known voices this machine can speak with. Raises FailureError when there are none."""
    flite = _listing("flite", "-lv").split(":")[-1].split()
    festival = _listing("festival", "-b", "(print (voice.list))").replace("(", " ").replace(")", " ").split()
    espeak = {line.split()[1] for line in _listing("espeak-ng", "--voices=en").splitlines()[1:]}
    found = tuple(
        voice
        for voice in known_voices()
        if (voice.engine == "flite" and voice.name in flite)
        or (voice.engine == "festival" and voice.name in festival)
        or (voice.engine == "espeak" and voice.name.split("+")[0] in espeak)
    )
    if not found:
        raise FailureError(
            "no speech engine found; expected flite, espeak-ng or festival (apt-get install flite espeak-ng)"
        )
    return found


@dataclass(frozen=True)
class Style:
    """How one utterance is read."""

    rate: float  # 1.0 is the voice's own tempo, 1.2 a fifth faster
    pitch: float  # 1.0 is the voice's own pitch, where the engine can shift it by itself
    tract: float  # resampling ratio of the finished audio: > 1 a shorter vocal tract and a higher voice
    level_db: float  # RMS of the speech below full scale, dB
    lead_s: float  # silence before the speech
    tail_s: float  # silence after the speech


def draw_style(rng: np.random.Generator, voice: Voice) -> Style:
    """A random style; formant voices vary by their variants already and are warped less."""
    tract = 0.07 if voice.engine == "espeak" else 0.14
    return Style(
        rate=float(np.exp(rng.normal(0.0, 0.11)).clip(0.78, 1.35)),
        pitch=float(np.exp(rng.normal(0.0, 0.12)).clip(0.75, 1.35)),
        tract=float(np.exp(rng.uniform(-tract, tract))),
        level_db=float(rng.uniform(-32.0, -16.0)),
        lead_s=float(np.clip(rng.exponential(0.2), 0.03, 1.0)),
        tail_s=float(np.clip(rng.exponential(0.25), 0.03, 1.2)),
    )


def _flite_command(voice: Voice, style: Style, text: Path, audio: Path) -> list[str]:
    stretch = style.tract / style.rate  # warping by `tract` shortens what it resamples
    settings = ["--setf", f"duration_stretch={stretch:.4f}", "--setf", f"f0_shift={style.pitch:.4f}"]
    return ["flite", "-voice", voice.name, *settings, "-f", str(text), "-o", str(audio)]


def _festival_command(voice: Voice, style: Style, text: Path, audio: Path) -> list[str]:
    stretch = f"(Parameter.set 'Duration_Stretch {style.tract / style.rate:.4f})"
    return ["text2wave", "-eval", f"(voice_{voice.name})", "-eval", stretch, str(text), "-o", str(audio)]


def _espeak_command(voice: Voice, style: Style, text: Path, audio: Path) -> list[str]:
    words_per_minute = round(165 * style.rate / style.tract)
    pitch = round(float(np.clip(50 * style.pitch, 15, 90)))
    speed = ["-s", str(words_per_minute), "-p", str(pitch)]
    return ["espeak-ng", "-v", voice.name, *speed, "-f", str(text), "-w", str(audio)]


_COMMANDS: dict[str, Callable[[Voice, Style, Path, Path], list[str]]] = {
    "flite": _flite_command,
    "festival": _festival_command,
    "espeak": _espeak_command,
}


def speak(text: str, voice: Voice, style: Style) -> np.ndarray:
    """`text` read by `voice`: float32 [samples] at 16 kHz, within [-0.99, 0.99].

    Raises FailureError when the engine is missing, fails, or says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="ondevice-synth-") as folder:
        script, audio = Path(folder, "prompt.txt"), Path(folder, "speech.wav")
        script.write_text(text + "\n", encoding="utf-8")
        command = _COMMANDS[voice.engine](voice, style, script, audio)
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=ENGINE_TIMEOUT_S)
            samples, rate_hz = sf.read(audio, dtype="float32")
        except FileNotFoundError as error:
            raise FailureError(f"{command[0]} is not installed (voice {voice.speaker})") from error
        except (subprocess.SubprocessError, sf.LibsndfileError, OSError) as error:
            raise FailureError(f"voice {voice.speaker} could not read {text!r}: {error}") from error
    speech = _trim(soxr.resample(samples, rate_hz * style.tract, RATE_HZ, "HQ"))
    if not speech.size:
        raise FailureError(f"voice {voice.speaker} said nothing for {text!r}")
    gain = 10 ** (style.level_db / 20) / max(float(np.sqrt(np.mean(speech**2))), 1e-6)
    speech *= min(gain, 0.99 / max(float(np.abs(speech).max()), 1e-6))
    margins = (round(style.lead_s * RATE_HZ), round(style.tail_s * RATE_HZ))
    return np.pad(speech, margins).astype(np.float32)


def _trim(samples: np.ndarray, floor: float = 0.004) -> np.ndarray:
    """`samples` without the silence at both ends, 20 ms of it kept; empty when all of it is silent."""
    peak = float(np.abs(samples).max(initial=0.0))
    loud = np.flatnonzero(np.abs(samples) > floor * peak) if peak > 1e-3 else np.zeros(0, int)
    margin = RATE_HZ // 50
    return samples[max(0, loud[0] - margin) : loud[-1] + margin].copy() if loud.size else samples[:0]


def plausible(seconds: float, norm: str) -> bool:
    """Whether speech of this length can be a whole reading of the transcript."""
    fastest, slowest = (bound * len(norm) for bound in SECONDS_PER_LETTER)
    return SHORTEST_S <= seconds <= LONGEST_S and fastest <= seconds - 0.1 and seconds <= slowest + 1.5


@dataclass(frozen=True)
class Rendered:
    """One utterance of the corpus: its prompt and voice, and Opus bytes with their length."""

    index: int
    prompt: Prompt
    voice: Voice
    style: Style
    opus: bytes
    samples: int


def render(index: int, seed: int, mixer: PromptMixer, voices: tuple[Voice, ...]) -> Rendered | None:
    """Utterance `index` of the corpus drawn from `seed`; None when the engine stumbled over it.

    The mixer must have drawn every earlier prompt, for its memory of words heard steers it.
    """
    rng = np.random.default_rng([seed, index])
    prompt = mixer.draw(rng)
    weights = np.array([voice.weight for voice in voices])
    voice = voices[int(rng.choice(len(voices), p=weights / weights.sum()))]
    style = draw_style(rng, voice)
    try:
        samples = speak(prompt.spoken, voice, style)
    except FailureError:
        return None
    if not plausible(samples.size / RATE_HZ - style.lead_s - style.tail_s, prompt.norm):
        return None
    return Rendered(index, prompt, voice, style, encode_opus(samples), samples.size)


def written(prompt: Prompt) -> str:
    """The prompt with its punctuation, which a speech generator learns from, where it still reads as the transcript."""
    return prompt.spoken if normalize(prompt.spoken) == prompt.norm else prompt.norm


def encode_opus(samples: np.ndarray) -> bytes:
    """Ogg Opus file of float32 [samples] at 16 kHz."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, RATE_HZ, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL)
    return buffer.getvalue()


def write_corpus(
    folder: Path,
    mixer: PromptMixer,
    hours: float,
    seed: int = 0,
    shard_minutes: float = 30.0,
    voices: tuple[Voice, ...] | None = None,
) -> Iterator[float]:
    """Write (or go on writing) shards and `manifest.jsonl` into `folder`; yields the hours so far.

    A shard is renamed into place and its manifest rows are appended when it is complete, so a corpus can be
    used while it grows and a killed run goes on where it stopped. Raises InputError or FailureError.
    """
    if hours <= 0 or shard_minutes <= 0:
        raise InputError(f"hours and shard_minutes must be above 0, got {hours} and {shard_minutes}")
    voices = voices or installed_voices()
    manifest = folder / "manifest.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    done_s, shard, index = _progress(manifest, seed)
    for skipped in range(index):
        mixer.draw(np.random.default_rng([seed, skipped]))
    while done_s < hours * 3600:
        name, rows, shard_s = f"{folder.name}-{shard:02d}.tar", [], 0.0
        goal_s = min(shard_minutes * 60, hours * 3600 - done_s)
        partial = folder / f".{name}.part"
        with tarfile.open(partial, "w") as archive:
            failures = 0
            while shard_s < goal_s:
                rendered = render(index, seed, mixer, voices)
                index += 1
                failures = 0 if rendered else failures + 1
                if failures > 50:
                    raise FailureError(f"{folder}: 50 utterances in a row failed; are the engines working?")
                if rendered:
                    rows.append(_add(archive, name, folder.name, rendered, seed))
                    shard_s += rendered.samples / RATE_HZ
        os.replace(partial, folder / name)
        with manifest.open("a", encoding="utf-8") as file:
            file.write("".join(rows))
        done_s, shard = done_s + shard_s, shard + 1
        yield done_s / 3600


def _progress(manifest: Path, seed: int) -> tuple[float, int, int]:
    """Seconds and shards already there, and the index of the next utterance."""
    if not manifest.exists():
        return 0.0, 0, 0
    try:
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        if any(row["seed"] != seed for row in rows):
            raise InputError(f"{manifest}: was made with another seed; give an empty folder or that seed")
        shards = len({row["tar"] for row in rows})
        return (
            sum(row["seconds"] for row in rows),
            shards,
            max((row["index"] for row in rows), default=-1) + 1,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest}: not a manifest of synthetic speech ({error!r})") from error


def _add(archive: tarfile.TarFile, tar: str, prefix: str, rendered: Rendered, seed: int) -> str:
    """Put the audio into the shard; its manifest line."""
    member = tarfile.TarInfo(f"{prefix}/{rendered.index:07d}.opus")
    member.size = len(rendered.opus)
    archive.addfile(member, io.BytesIO(rendered.opus))
    row = {
        "file": member.name,
        "tar": tar,
        "text": written(rendered.prompt),
        "norm": rendered.prompt.norm,
        "speaker": rendered.voice.speaker,
        "seconds": round(rendered.samples / RATE_HZ, 4),
        "split": "train",
        "voice": rendered.voice.name,
        "engine": rendered.voice.engine,
        "kind": rendered.prompt.kind,
        "style": {key: round(value, 4) for key, value in asdict(rendered.style).items()},
        "index": rendered.index,
        "seed": seed,
    }
    return json.dumps(row) + "\n"
