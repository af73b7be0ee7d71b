"""A corpus of prosody-changed copies of another: the same voice and words, said higher, flatter, slower, softer.

An hour of one reader holds few styles; style tokens learn from these copies what can be changed. Layout as of
synthetic corpora: Opus in tar shards and `manifest.jsonl`, whose rows tell what was changed.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile as sf

from models.corpus_layouts import Utterance
from models.pitch_marks import find_pitch_marks
from models.prosody import Prosody, change_prosody
from models.speech_store import SPEECH_RATE_HZ, load_speech, read_original
from models.synthesis import OPUS_LEVEL
from ondevice.errors import InputError

LOUDEST = 0.98
SHARD = 400  # recordings in a tar file


def draw_prosody(rng: np.random.Generator) -> Prosody:
    """How a copy is said: each property moves on its own, far enough to be heard, seldom to extremes."""
    return Prosody(
        pitch=float(np.exp(rng.normal(0, 0.15)).clip(0.7, 1.45)),
        pitch_range=float(np.exp(rng.uniform(np.log(0.35), np.log(1.8)))),
        rate=float(np.exp(rng.normal(0, 0.16)).clip(0.68, 1.5)),
        gain_db=float(rng.uniform(-9, 5)),
        tilt_db_per_octave=float(rng.uniform(-3, 3)),
    )


def _copies(job: tuple[Utterance, int, int, int]) -> list[tuple[Prosody, bytes, int]]:
    """The copies of one recording: how they are said, as Opus, and their samples."""
    utterance, number, count, seed = job
    samples = load_speech(utterance)
    marks, made = find_pitch_marks(samples, SPEECH_RATE_HZ), []
    for index in range(count):
        rng = np.random.default_rng([seed, number, index])
        prosody = draw_prosody(rng)
        copy = change_prosody(samples, SPEECH_RATE_HZ, prosody, rng, marks)
        copy *= min(1.0, LOUDEST / max(float(np.abs(copy).max(initial=0.0)), 1e-6))
        buffer = io.BytesIO()
        sf.write(buffer, copy, SPEECH_RATE_HZ, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL)
        made.append((prosody, buffer.getvalue(), len(copy)))
    return made


def write_copies(corpus: Path, folder: Path, count: int = 2, seed: int = 0, jobs: int = 2) -> Iterator[int]:
    """Write the copies of a corpus's train split into `folder`; yields how many recordings are done.

    The manifest comes last, so a half-written corpus is not used. Raises InputError when there is nothing to copy.
    """
    if count < 1:
        raise InputError(f"copies: {count} of each; expected at least 1")
    utterances = list(read_original(corpus, "train"))
    if not utterances:
        raise InputError(f"{corpus}: no utterances in the train split")
    folder.mkdir(parents=True, exist_ok=True)
    work = [(utterance, number, count, seed) for number, utterance in enumerate(utterances)]
    rows: list[str] = []
    with ProcessPoolExecutor(jobs) as pool:
        for first in range(0, len(work), SHARD):
            name = f"{folder.name}-{first // SHARD:02d}.tar"
            part = folder / f".{name}.part"
            with tarfile.open(part, "w") as archive:
                chosen = work[first : first + SHARD]
                for job, made in zip(chosen, pool.map(_copies, chosen, chunksize=8), strict=True):
                    rows += [_add(archive, name, folder.name, job, i, *copy) for i, copy in enumerate(made)]
            os.replace(part, folder / name)
            yield min(first + SHARD, len(work))
    temporary = folder / "manifest.jsonl.part"
    temporary.write_text("".join(rows), encoding="utf-8")
    os.replace(temporary, folder / "manifest.jsonl")


def _add(
    archive: tarfile.TarFile, tar: str, prefix: str, job: tuple[Utterance, int, int, int], index: int,
    prosody: Prosody, opus: bytes, samples: int,
) -> str:  # fmt: skip
    """Put a copy into the shard; its manifest line."""
    utterance, number, _, seed = job
    member = tarfile.TarInfo(f"{prefix}/{number:06d}-{index}.opus")
    member.size = len(opus)
    archive.addfile(member, io.BytesIO(opus))
    row = {
        "file": member.name, "tar": tar, "text": utterance.text, "speaker": utterance.speaker,
        "seconds": round(samples / SPEECH_RATE_HZ, 4), "split": "train", "seed": seed,
        "prosody": {name: round(value, 4) for name, value in asdict(prosody).items()},
    }  # fmt: skip
    return json.dumps(row, ensure_ascii=False) + "\n"
