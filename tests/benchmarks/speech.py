"""How good the synthetic speech is, measured on recordings of the same sentences that nothing was trained on.

    python -m tests.benchmarks.speech CORPUS [--parts intelligibility,prosody,copies,styles,speed] [--limit 100]
    python -m tests.benchmarks.speech CORPUS --parts precisions --beside VOICE=VOCODER ... [--limit 40]

CORPUS is a JSONL manifest (or its folder) of one speaker with a test split. Needs `pip install pocketsphinx==5.1.1`
for intelligibility; espeak-ng and flite are timed where they are installed.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jiwer
import numpy as np
import soxr

from models.griffin_lim import griffin_lim
from models.speech_metrics import (
    align,
    f0_errors,
    log_spectral_distance,
    mcd13,
    mcd13_dtw,
)
from models.speech_store import SPEECH_RATE_HZ, load_speech, read_original
from ondevice.acoustic import AcousticModel
from ondevice.evaluation import RESAMPLES, Transcriber
from ondevice.litert import LiteRtModel
from ondevice.normalize import english
from ondevice.opening import open_model
from ondevice.pitch import track_pitch
from ondevice.recognizer import Recognizer
from ondevice.speech_features import SPEECH_HOP_SAMPLES, speech_mel
from ondevice.stats import peak_memory_mb
from ondevice.styles import measure_styles
from ondevice.synthesizer import Said, Style, Synthesizer
from ondevice.vocoder import vocoder_stream

Recognize = Callable[[np.ndarray], str]  # of samples at 16 kHz
Recording = tuple[str, np.ndarray]  # text, samples at 24 kHz
PARTS = ("intelligibility", "prosody", "copies", "styles", "speed")  # and "precisions"
STYLE_SENTENCES = 8
SEEDS = (0, 1, 2)  # of the pre-net's dropout, which makes every saying another


def heard(recognize: Recognize, audio: Iterable[np.ndarray]) -> list[str]:
    """The words that a recogniser makes of 24 kHz samples."""
    return [english(recognize(soxr.resample(x, SPEECH_RATE_HZ, 16_000).astype(np.float32))) for x in audio]


def wer_of_sayings(recognize: Recognize, spoken: Mapping[str, np.ndarray], texts: Sequence[str]) -> float:
    """Word error rate over texts whose sayings are heard once, however many recordings there are of each."""
    said = dict(zip(spoken, heard(recognize, spoken.values()), strict=True))
    return float(jiwer.wer([english(text) for text in texts], [said[text] for text in texts]))


def steps_back(sayings: Sequence[Sequence[Said]]) -> list[int]:
    """For each saying the most symbols that its attention goes back in one step."""
    places = [[each.mel.alignment.argmax(axis=1) for each in sentences] for sentences in sayings]
    return [max([0, *(int(-np.diff(row, append=row[-1]).min()) for row in rows)]) for rows in places]


def intelligibility(synthesizer: Synthesizer, recordings: Sequence[Recording]) -> None:
    """WER of two recognisers on the recordings and on what the voice makes of their texts, a few times over.

    A sentence is said once for each seed; what is heard of it counts as often as it was recorded, so that both rates
    are over the same words.
    """
    from tests.benchmarks.pocketsphinx_peer import pocketsphinx

    texts = [text for text, _ in recordings]
    troubles: list[str] = []
    sayings: list[list[Said]] = []

    def say(text: str, seed: int) -> np.ndarray:
        sayings.append([])
        return np.concatenate(list(synthesizer.stream(text, seed=seed, warn=troubles.append, said=sayings[-1].append)))

    spoken = [{text: say(text, seed) for text in dict.fromkeys(texts)} for seed in SEEDS]
    print(f"{len(texts)} recordings of {len(spoken[0])} sentences, each said with {len(SEEDS)} seeds")
    print(f"{'recogniser':<20} {'recorded':>9} {'synthetic':>10} {'ratio':>6}   WER over all recordings, each seed")
    for name, recognize in (("PocketSphinx 5.1.1", pocketsphinx()), ("rnnt", Transcriber(Recognizer.load("rnnt")))):
        human = float(jiwer.wer([english(text) for text in texts], heard(recognize, [x for _, x in recordings])))
        each = [wer_of_sayings(recognize, samples, texts) for samples in spoken]
        synthetic, rows = float(np.mean(each)), " ".join(f"{wer:.1%}" for wer in each)
        print(f"{name:<20} {human:9.1%} {synthetic:10.1%} {synthetic / human:6.2f}   {rows}", flush=True)
    print(f"{len(troubles)} warnings in {len(sayings)} sayings (stuck, repeated, left out, without end)")
    back = np.array(steps_back(sayings))
    print(f"attention that steps back by one symbol in {(back == 1).sum()} of them, by more in {(back > 1).sum()}")


def prosody(synthesizer: Synthesizer, recordings: Sequence[Recording]) -> None:
    """Distance from the recording: in the voice's neutral style, and with the recording as reference."""
    print(
        f"{'reference':<20} {'MCD13 (DTW)':>12} {'FFE':>7} {'GPE':>7} {'VDE':>7}   mean of {len(recordings)} recordings"
    )
    for name in ("none", "style", "prosody") if synthesizer.voice.prosody_mean else ("none", "style"):
        rows = []
        for text, samples in recordings:
            made = synthesizer(text, Style() if name == "none" else Style(reference=samples, transfer=name))
            path = align(samples, made, SPEECH_RATE_HZ)
            errors = f0_errors(track_pitch(samples, SPEECH_RATE_HZ), track_pitch(made, SPEECH_RATE_HZ), path)
            distance = mcd13_dtw(samples, made, SPEECH_RATE_HZ, path)
            rows.append((distance, errors.frame, errors.gross, errors.voicing))
        mcd, frame, gross, voicing = np.mean(rows, axis=0)
        print(f"{name:<20} {mcd:9.2f} dB {frame:7.1%} {gross:7.1%} {voicing:7.1%}", flush=True)


def copies(synthesizer: Synthesizer, recordings: Sequence[Recording]) -> None:
    """Copy-synthesis: recordings through log-mel and back, by the vocoder and by Griffin-Lim."""
    stream = vocoder_stream(synthesizer.vocoder, synthesizer.vocode)

    def vocoder(mel: np.ndarray) -> np.ndarray:
        return np.concatenate([stream.accept(mel), stream.finish()])

    print(
        f"{'from log-mel by':<20} {'MCD13':>9} {'LSD':>9} {'FFE':>7} {'RTF':>7}   mean of {len(recordings)} recordings"
    )
    measured = []
    for name, make in ((synthesizer.vocoder.name, vocoder), ("Griffin-Lim, 60", griffin_lim)):
        rows, seconds, audio_s = [], 0.0, 0.0
        for _, samples in recordings:
            samples = samples[: len(samples) // SPEECH_HOP_SAMPLES * SPEECH_HOP_SAMPLES]
            mel, began = speech_mel(samples), time.perf_counter()
            copy = make(mel)
            seconds, audio_s = seconds + time.perf_counter() - began, audio_s + len(samples) / SPEECH_RATE_HZ
            errors = f0_errors(track_pitch(samples, SPEECH_RATE_HZ), track_pitch(copy, SPEECH_RATE_HZ))
            lsd = log_spectral_distance(samples, copy, SPEECH_RATE_HZ)
            rows.append((mcd13(samples, copy, SPEECH_RATE_HZ), lsd, errors.frame))
        distance, lsd, frame = np.mean(rows, axis=0)
        print(f"{name:<20} {distance:6.2f} dB {lsd:6.2f} dB {frame:7.1%} {seconds / audio_s:7.4f}", flush=True)
        measured.append(np.array(rows))
    for column, name in enumerate(("MCD13", "LSD")):
        mean, low, high = paired_difference(measured[0][:, column], measured[1][:, column])
        print(
            f"{name}, the first less the second: {mean:+.2f} dB, 95 % interval {low:+.2f} to {high:+.2f} dB (bootstrap)"
        )


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Mean of first - second [n] and its 95 % interval, by a percentile bootstrap over recordings."""
    differences = first - second
    drawn = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), (2.5, 97.5))
    return float(differences.mean()), float(low), float(high)


def styles(synthesizer: Synthesizer, recordings: Sequence[Recording]) -> None:
    """What each token does: change per unit of weight, and how steadily (Spearman's rho over 7 weights)."""
    texts = [text for text, _ in recordings[:STYLE_SENTENCES]]

    def say(text: str, token: int, weight: float) -> np.ndarray:
        return synthesizer(text, Style({token: weight}))

    names = ("F0 mean, semitones", "F0 range, semitones", "energy, dB", "rate, %")
    print(f"{'token':<6}" + "".join(f"{name:>22} {'rho':>6}" for name in names))
    for found in measure_styles(say, synthesizer.voice.tokens, SPEECH_RATE_HZ, texts):
        effects = (found.f0_mean_semitones, found.f0_range_semitones, found.energy_db, found.rate_percent)
        print(f"{found.token:<6}" + "".join(f"{e.slope:+22.2f} {e.rho:+6.2f}" for e in effects), flush=True)


def speed(synthesizer: Synthesizer, recordings: Sequence[Recording]) -> None:
    """Time to the first sound and real-time factor on one thread, for texts of several lengths; others beside it."""
    texts = [text for text, _ in recordings]
    lengths = {"a sentence": texts[0], "ten sentences": " ".join(texts[:10]), "all": " ".join(texts)}
    print(f"{'text':<20} {'audio':>8} {'first audio':>12} {'RTF':>8}")
    for name, text in lengths.items():
        began, samples, first = time.perf_counter(), 0, 0.0
        for chunk in synthesizer.stream(text):
            first = first or time.perf_counter() - began
            samples += len(chunk)
        audio_s, seconds = samples / SPEECH_RATE_HZ, time.perf_counter() - began
        print(f"{name:<20} {audio_s:6.1f} s {1000 * first:9.0f} ms {seconds / audio_s:8.4f}", flush=True)
    print(f"peak memory of this process {peak_memory_mb():.0f} MB (`ondevice speak --stats` tells that of the command)")
    for command in (["espeak-ng", "-f"], ["flite", "-voice", "slt", "-f"]):
        if not shutil.which(command[0]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            script, wav = Path(folder, "text.txt"), Path(folder, "out.wav")
            script.write_text(lengths["all"], encoding="utf-8")
            began = time.perf_counter()
            subprocess.run([*command, script, "-w" if command[0] == "espeak-ng" else "-o", wav], check=True)
            seconds, audio_s = time.perf_counter() - began, _seconds(wav)
        print(f"{command[0] + ', all':<20} {audio_s:6.1f} s {'':>12} {seconds / audio_s:8.4f}", flush=True)


def precisions(synthesizers: Sequence[Synthesizer], recordings: Sequence[Recording]) -> None:
    """Exports of one voice against each other: size, WER of two recognisers, distance from recordings in their style.

    Each is said a few times over, but for the distance. What an export has for an Edge TPU is computed on the CPU.
    """
    from tests.benchmarks.pocketsphinx_peer import pocketsphinx

    texts = [text for text, _ in recordings]
    recognisers = {"PocketSphinx": pocketsphinx(), "rnnt": Transcriber(Recognizer.load("rnnt"))}
    columns = "".join(f"{name + ' WER':>18}" for name in recognisers)
    print(f"{'voice':<27}{'vocoder':<15}{'MB':>6}{columns}{'MCD13 (DTW)':>13}   {len(texts)} recordings")
    for each in synthesizers:
        parts = use_parts(each)
        spoken = [{text: each(text, seed=seed) for text in dict.fromkeys(texts)} for seed in SEEDS]
        wers = [float(np.mean([wer_of_sayings(r, said, texts) for said in spoken])) for r in recognisers.values()]
        styled = [each(text, Style(reference=samples)) for text, samples in recordings]
        mcd = float(np.mean([mcd13_dtw(x, y, SPEECH_RATE_HZ) for (_, x), y in zip(recordings, styled, strict=True)]))
        size = sum(m.files["model.tflite"].bytes for m in (each.voice, each.vocoder)) / 1e6
        rows, name = "".join(f"{wer:18.1%}" for wer in wers), each.voice.precision + (", 8-bit parts" if parts else "")
        print(f"{name:<27}{each.vocoder.precision:<15}{size:6.1f}{rows}{mcd:10.2f} dB", flush=True)


def use_parts(synthesizer: Synthesizer) -> bool:
    """Have a voice compute with the files it has for an Edge TPU, if there are any."""
    voice = synthesizer.voice
    names = [name for name in voice.signatures if f"{name}.tflite" in voice.files]
    parts = {name: LiteRtModel(voice.directory / f"{name}.tflite").signatures[name] for name in names}
    synthesizer.acoustic = AcousticModel(voice, {**open_model(voice).signatures, **parts})
    return bool(parts)


def _seconds(path: Path) -> float:
    import soundfile

    return float(soundfile.info(path).duration)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--model", default="tacotron")
    parser.add_argument("--vocoder")
    parser.add_argument("--beside", action="append", default=[], metavar="VOICE=VOCODER", help="for precisions")
    options = parser.parse_args()
    utterances = list(read_original(options.corpus, "test"))[: options.limit]
    recordings = [(u.text, load_speech(u)) for u in utterances]
    synthesizer = Synthesizer.load(options.model, options.vocoder)
    for part in options.parts.split(","):
        if part not in (*PARTS, "precisions"):
            raise SystemExit(f"--parts {part}: expected some of {', '.join(PARTS)}, precisions")
        print(f"\n{part}")
        if part == "precisions":
            others = [Synthesizer.load(*pair.split("=", 1)) for pair in options.beside]
            precisions([*others, synthesizer], recordings)
            continue
        globals()[part](synthesizer, recordings)


if __name__ == "__main__":
    main()
