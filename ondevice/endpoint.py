"""When an utterance ends: rules on trailing silence and on decoded blanks.

The rules are those of Kaldi's online decoders (end of speech, nothing said, too long), with one difference: both
witnesses are asked. Blanks alone would cut a speaker whom the model does not follow, and loudness alone would never
end anything in a noisy room.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError

_QUIET_OVER_FLOOR = 1.4  # natural log of power: 6 dB above the background counts as silence
_SILENT_LEVEL = -12.0  # mean log-mel below which nobody speaks: only the microphone's own noise
_FLOOR_RISE = 0.01  # how fast the background estimate follows a louder background, natural log per step


@dataclass(frozen=True)
class EndpointConfig:
    """Settings in seconds; `silence_s` 0 switches endpointing off."""

    silence_s: float = 0.8  # after words: silence for so long ends the utterance
    blank_factor: float = 3.0  # after words: so many times as long without a word ends it in any noise
    nothing_s: float = 5.0  # without any word for so long: begin anew, at the next pause if it is loud
    longest_s: float = 30.0  # from here on the next pause of a quarter of silence_s ends it, and twice this any moment

    def __post_init__(self) -> None:
        if not 0 <= self.silence_s <= 60:
            raise InputError(f"endpoint silence {self.silence_s} s; expected 0 (off) to 60")
        for name in ("blank_factor", "nothing_s", "longest_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"endpoint {name} {getattr(self, name)}; expected a number above 0")


class Endpointer:
    """Watches one utterance: `accept` each step's features, then `reached` with the step of the last token."""

    def __init__(self, config: EndpointConfig, step_s: float) -> None:
        self._config, self._step_s = config, step_s
        self._floor: float | None = None  # of the stream, so it survives `reset`
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance; the background level is kept."""
        self._steps = self._quiet_steps = 0

    def accept(self, features: npt.NDArray[np.float32]) -> None:
        """Take the log-mel frames [F, M] of one step."""
        level = float(features.mean())
        if self._floor is None or level < self._floor:
            self._floor = level
        else:
            self._floor += min(_FLOOR_RISE, level - self._floor)
        quiet = level < max(self._floor + _QUIET_OVER_FLOOR, _SILENT_LEVEL)
        self._quiet_steps = self._quiet_steps + 1 if quiet else 0
        self._steps += 1

    def reached(self, last_token_step: int | None) -> bool:
        """Whether the utterance has ended; `last_token_step` counts from its beginning, None: no token yet."""
        config, seconds = self._config, self._steps * self._step_s
        if config.silence_s == 0:
            return False
        quiet_s = self._quiet_steps * self._step_s
        if last_token_step is None:
            # not within a first word that is just being said
            return seconds >= config.nothing_s and (quiet_s >= config.silence_s / 4 or seconds >= config.longest_s)
        blank_s = (self._steps - 1 - last_token_step) * self._step_s
        silent_s = min(blank_s, quiet_s)
        if silent_s >= config.silence_s or blank_s >= config.silence_s * config.blank_factor:
            return True
        if seconds < config.longest_s:
            return False
        return blank_s >= config.silence_s / 4 or seconds >= 2 * config.longest_s
