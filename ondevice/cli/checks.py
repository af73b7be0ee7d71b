"""Checks of options that several commands share, so that a message names what was typed."""

from ondevice.errors import InputError


def check_search(beam: int | None, lm_weight: float | None) -> None:
    """Raises InputError for a --beam or --lm-weight out of range."""
    from ondevice.manifest import SEARCH_RANGES

    for option, name, value in (("--beam", "beam", beam), ("--lm-weight", "lm_weight", lm_weight)):
        low, high = SEARCH_RANGES[name]
        if value is not None and not low <= value <= high:  # NaN too
            raise InputError(f"{option} {value}: expected {low:g} to {high:g}")


def check_raw_rate(rate_hz: int) -> None:
    """Raises InputError for a --rate that no recording has."""
    from ondevice.containers import check_rate

    check_rate(rate_hz, "--rate")
