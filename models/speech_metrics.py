"""Objective measures of synthesised against recorded speech: timbre (MCD, LSD) and melody (GPE, VDE, FFE).

Frames are 10 ms apart in all of them, frame i centred on sample (i + 1/2) * hop, so that cepstra and F0 share one
alignment. Shapes: `n` samples, `F` frames (ceil(n / hop)), `M` mel bands, `P` steps of a warp.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.dtw import Warp, distances, warp
from ondevice.errors import InputError
from ondevice.features import LogMel, LogMelConfig
from ondevice.pitch import Pitch, track_pitch

CEPSTRA = 13  # MCD13: c_1 ... c_13; c_0, the level, is left out
MCD_DB = 10 / math.log(10) * math.sqrt(2)  # 6.14 dB for one neper of one cepstrum (Kubichek 1993)
GROSS = 0.2  # an F0 further off than this share of the recording's is a gross error
BAND_S = 3.0  # how far a warp may stray from the straight line
LSD_WINDOW_MS, LSD_HOP_MS = 32.0, 8.0
LSD_FLOOR = 1e-7  # of power, about 16-bit noise in one bin


def metric_mel(rate_hz: int) -> LogMelConfig:
    """The front end of MCD: natural-log power in 80 mel bands from 80 to 7600 Hz, Hann windows of 25 ms every 10 ms.

    It is not the one models are trained on, so that no model is measured with the features it was fitted to, and
    sees the same bands at 16 kHz and above. Raises InputError at rates below 15.2 kHz.
    """
    return LogMelConfig(rate_hz=rate_hz, bands=80, low_hz=80.0, high_hz=7_600.0, floor=1e-6, stack=1)


@lru_cache(maxsize=4)
def _cosines(bands: int) -> np.ndarray:
    """[M, 13]: (1 / M) cos(pi k (m + 1/2) / M) for k = 1 ... 13, a DCT-II in the scale of cepstra."""
    k, m = np.arange(1, CEPSTRA + 1), np.arange(bands) + 0.5
    return np.cos(np.pi * np.outer(m, k) / bands) / bands


def mel_cepstra(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mel-cepstra c_1 ... c_13 float64 [F, 13] of samples [n].

    The log power of mel band m is c_0 + 2 sum_k c_k cos(pi k (m + 1/2) / M), so that the MCD of two frames is the
    root mean square, in dB, of the difference of their mel spectra smoothed to 13 cepstra.
    """
    config = metric_mel(rate_hz)
    hop, window = config.hop_samples, config.window_samples
    missing = -len(samples) % hop
    before = (window - hop) // 2
    padded = np.pad(np.asarray(samples, np.float32), (before, missing + window - hop - before))
    return LogMel(config)(padded).astype(np.float64) @ _cosines(config.bands)


def mcd13(recorded: np.ndarray, synthesised: np.ndarray, rate_hz: int) -> float:
    """Mel cepstral distortion in dB frame by frame (Skerry-Ryan et al. 2018, section 4; constant of Kubichek 1993).

    The mean over frames of (10 / ln 10) sqrt(2 sum_k (c_k - c'_k)^2); the shorter one is lengthened by silence, as
    in that paper, so a wrong speaking rate counts. Symmetric.
    """
    longest = max(len(recorded), len(synthesised))
    if not longest:
        raise InputError("mcd13: both recordings are empty; expected at least one sample")
    both = [mel_cepstra(np.pad(x, (0, longest - len(x))), rate_hz) for x in (recorded, synthesised)]
    return float(MCD_DB * np.sqrt(((both[0] - both[1]) ** 2).sum(1)).mean())


def align(recorded: np.ndarray, synthesised: np.ndarray, rate_hz: int) -> Warp:
    """The warp of least total MCD between frames of 10 ms of both; it strays 3 s at most from the straight line."""
    return warp(distances(mel_cepstra(recorded, rate_hz), mel_cepstra(synthesised, rate_hz)), round(BAND_S * 100))


def mcd13_dtw(recorded: np.ndarray, synthesised: np.ndarray, rate_hz: int, path: Warp | None = None) -> float:
    """MCD13 in dB along the warp (its mean over the steps), for speech of another rate. Symmetric."""
    path = align(recorded, synthesised, rate_hz) if path is None else path
    return MCD_DB * path.cost / len(path.first)


@dataclass(frozen=True)
class F0Errors:
    """Errors of an F0 contour (Skerry-Ryan et al. 2018, section 4), each a share from 0 to 1."""

    gross: float  # GPE: of frames voiced in both, those over 20 % off (Nakatani et al. 2008); 0 if there are none
    voicing: float  # VDE: of all frames, those voiced in one only (Nakatani et al. 2008)
    frame: float  # FFE: of all frames, those with either error (Chu & Alwan 2009)
    frames: int  # compared


def f0_errors(recorded: Pitch, synthesised: Pitch, path: Warp | None = None) -> F0Errors:
    """Errors along the warp, or without one frame by frame, the shorter contour lengthened by unvoiced frames.

    Not symmetric: 20 % are taken of the recording's F0. Raises InputError when the frames are not equally long.
    """
    if recorded.hop_samples * synthesised.rate_hz != synthesised.hop_samples * recorded.rate_hz:
        raise InputError(
            f"f0_errors: hops of {recorded.hop_samples} samples at {recorded.rate_hz} Hz and "
            f"{synthesised.hop_samples} at {synthesised.rate_hz} Hz; expected equal times"
        )
    if path is None:
        longest = max(len(recorded.f0_hz), len(synthesised.f0_hz))
        f0, heard = (np.pad(p.f0_hz, (0, longest - len(p.f0_hz))) for p in (recorded, synthesised))
    else:
        f0, heard = recorded.f0_hz[path.first], synthesised.f0_hz[path.second]
    f0, heard = f0.astype(np.float64), heard.astype(np.float64)
    both = (f0 > 0) & (heard > 0)
    gross = both & (np.abs(heard - f0) > GROSS * f0)
    voicing = (f0 > 0) != (heard > 0)
    count = max(len(f0), 1)
    share = gross.sum() / max(both.sum(), 1)
    return F0Errors(float(share), float(voicing.sum() / count), float((gross.sum() + voicing.sum()) / count), len(f0))


@dataclass(frozen=True)
class SpeechDistance:
    """One synthesised utterance against its recording."""

    mcd13_db: float
    mcd13_dtw_db: float
    f0: F0Errors  # along the warp


def compare_speech(recorded: np.ndarray, synthesised: np.ndarray, rate_hz: int) -> SpeechDistance:
    """All measures that need one alignment, of samples [n] and [m]. Raises InputError when either is empty."""
    path = align(recorded, synthesised, rate_hz)
    f0 = f0_errors(track_pitch(recorded, rate_hz), track_pitch(synthesised, rate_hz), path)
    return SpeechDistance(mcd13(recorded, synthesised, rate_hz), mcd13_dtw(recorded, synthesised, rate_hz, path), f0)


def log_spectral_distance(recorded: np.ndarray, copied: np.ndarray, rate_hz: int) -> float:
    """LSD in dB of copy-synthesis: mean over frames of the RMS over bins of the log power ratio. Symmetric.

    Gray & Markel 1976, with Hann windows of 32 ms every 8 ms. Raises InputError when the lengths differ
    or are under one window.
    """
    window, hop = round(rate_hz * LSD_WINDOW_MS / 1000), round(rate_hz * LSD_HOP_MS / 1000)
    if len(recorded) != len(copied) or len(recorded) < window:
        raise InputError(
            f"log-spectral distance: {len(recorded)} and {len(copied)} samples; expected equally many, {window} or more"
        )
    taper = np.hanning(window + 1)[:-1]
    logs = []
    for samples in (recorded, copied):
        frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float64), window)[::hop] * taper
        logs.append(10 * np.log10(np.abs(np.fft.rfft(frames)) ** 2 + LSD_FLOOR))
    return float(np.sqrt(((logs[0] - logs[1]) ** 2).mean(1)).mean())
