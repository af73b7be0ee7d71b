"""PocketSphinx 5.1.1 with its own English model as a peer: pip install pocketsphinx==5.1.1."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def pocketsphinx() -> Callable[[npt.NDArray[np.float32]], str]:
    """A recogniser: samples float32 [n] at 16 kHz in -1..1 -> text. Raises SystemExit where it is not installed."""
    try:
        from pocketsphinx import Decoder
    except ImportError:
        raise SystemExit("this benchmark needs PocketSphinx: pip install pocketsphinx==5.1.1") from None
    decoder: Any = Decoder(samprate=16000, loglevel="FATAL")

    def hear(samples: npt.NDArray[np.float32]) -> str:
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp()
        return heard.hypstr if heard else ""

    return hear
