"""How dates, clock times and sums of money are said."""

import re

from ondevice.normalize import cardinal, ordinal
from ondevice.spoken_numbers import DASH, NUMBER, SCALE, say_number, say_whole, say_year
from ondevice.spoken_rules import Answer, Context, Rule
from ondevice.spoken_tables import (
    COUNTRIES,
    CURRENCIES,
    CURRENCY_CODES,
    MONTH_NUMBERS,
    MONTHS,
    PER_WORDS,
    SCALES,
    WEEKDAYS,
)


def _date(month: int, day: int, year: str) -> str | None:
    """'may fifth , twenty twenty one'; None when there is no such day."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{MONTHS[month - 1]} {ordinal(day)}" + (f" , {say_year(year)}" if year else "")


def _iso(found: re.Match[str], context: Context) -> Answer:
    if not found["day"]:
        return f"{MONTHS[int(found['month']) - 1]} {say_year(found['year'])}"
    return _date(int(found["month"]), int(found["day"]), found["year"])


def _slashes(found: re.Match[str], context: Context) -> Answer:
    """Day and month where it is clear which is which; else the three numbers as they stand."""
    first, second, year = int(found[1]), int(found[2]), found[3]
    if first == second or second > 12:
        return _date(first, second, year)
    if first > 12:
        return _date(second, first, year)
    return f"{cardinal(first)} slash {cardinal(second)} slash {say_year(year)}"


def _points(found: re.Match[str], context: Context) -> Answer:
    """24.12.2021: only ever day first."""
    return _date(int(found[2]), int(found[1]), found[3])


def _month_first(found: re.Match[str], context: Context) -> Answer:
    month, year = MONTH_NUMBERS[found["month"].lower()], found["year"]
    if found["day"] is None:
        return f"{MONTHS[month - 1]} {say_year(year)}" if year else None
    said = _date(month, int(found["day"]), year)
    if said and found["last"]:
        said = f"{MONTHS[month - 1]} {ordinal(int(found['day']))} to {ordinal(int(found['last']))}"
        return said + (f" , {say_year(year)}" if year else "")
    return said


def _day_first(found: re.Match[str], context: Context) -> Answer:
    day, month, year = int(found["day"]), MONTH_NUMBERS[found["month"].lower()], found["year"]
    if not 1 <= day <= 31:
        return None
    return f"{'' if context.before.lower() == 'the' else 'the '}{ordinal(day)} of {MONTHS[month - 1]}" + (
        f" , {say_year(year)}" if year else ""
    )


def _short_month(found: re.Match[str], context: Context) -> Answer:
    return context.ended(found, MONTHS[MONTH_NUMBERS[found[1].lower()] - 1])


def _span(found: re.Match[str], context: Context) -> Answer:
    """Mon-Fri, Jan-Mar."""
    first, last = found[1].lower(), found[2].lower()
    if first in WEEKDAYS and last in WEEKDAYS:
        return f"{WEEKDAYS[first]} to {WEEKDAYS[last]}"
    if first in MONTH_NUMBERS and last in MONTH_NUMBERS:
        return f"{MONTHS[MONTH_NUMBERS[first] - 1]} to {MONTHS[MONTH_NUMBERS[last] - 1]}"
    return None


def _short_weekday(found: re.Match[str], context: Context) -> Answer:
    return WEEKDAYS[found[1].lower()]


_MONTH = "|".join(sorted((name.capitalize() for name in MONTH_NUMBERS), key=len, reverse=True))
_SHORT_MONTH = "|".join(name.capitalize() for name in MONTH_NUMBERS if name not in MONTHS)
_SHORT_DAY = "|".join(day.capitalize() for day in WEEKDAYS)
_YEAR = r"(?P<year>[12][0-9]{3})"
_DAY = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?"
_ALONE = r"(?![0-9A-Za-z:%]|[.,/-][0-9])"
_BEFORE = r"(?<![0-9A-Za-z./-])"


# Clock times


def _half_day(found: re.Match[str]) -> str:
    return f" {found['half'].upper()} M" if found["half"] else ""


def _say_clock(hours: int, minutes: int, seconds: str | None, half: bool) -> str:
    """'three oh five', 'five o'clock', 'fifteen hundred', 'zero thirty', 'midnight'."""
    if not (hours or minutes or half or seconds):
        return "midnight"
    words = cardinal(hours)
    if minutes:
        words += f" {'oh ' if minutes < 10 else ''}{cardinal(minutes)}"
    elif not half and seconds is None:
        words += " hundred" if hours > 12 else " o'clock"
    if seconds is not None:
        words += (" oh oh" if not minutes else "") + f" and {cardinal(int(seconds))} seconds"
    return words


def _time(found: re.Match[str], context: Context) -> Answer:
    half = bool(found["half"])
    words = _say_clock(int(found["hours"]), int(found["minutes"]), found["seconds"], half) + _half_day(found)
    return context.ended(found, words, any_capital=True) if found[0].endswith(".") else words


def _hour(found: re.Match[str], context: Context) -> Answer:
    words = f"{cardinal(int(found['hours']))}{_half_day(found)}"
    return context.ended(found, words, any_capital=True) if found[0].endswith(".") else words


_HALF = r"(?P<half>[aApP])\.?\s?[mM](?![A-Za-z0-9])\.?"


# Money


def _say_amount(written: str, sign: str, adjective: bool) -> str:
    """'2.50' -> 'two dollars and fifty cents'; a $5 bill is 'five dollar'."""
    one, many, small_one, small_many = CURRENCIES[sign]
    whole, point, fraction = written.partition(".")
    if point and (len(fraction) != 2 or not small_one):
        return f"{say_number(written)} {one if adjective else many}"
    cents = int(fraction or 0)
    parts = []
    if whole.strip("0,") or not cents:
        parts.append(f"{say_whole(whole or '0')} {one if adjective or whole == '1' else many}")
    if cents:
        parts.append(f"{cardinal(cents)} {small_one if cents == 1 or adjective else small_many}")
    return " and ".join(parts)


def _money(found: re.Match[str], context: Context) -> Answer:
    sign, amount, last = found["sign"], found["amount"], found["last"]
    adjective = context.before.lower() in ("a", "an")
    one, many = CURRENCIES[sign][:2]
    country = COUNTRIES[found["country"] or ""]
    per = f" per {found['per']}" if found["per"] else ""
    unit = f"{country} {one if adjective else many}".strip()
    if scale := found["scale"]:
        span = f"{say_number(amount)} to {say_number(last)}" if last else say_number(amount)
        return f"{span} {SCALES[scale.lower()]} {unit}{per}"
    if last:
        return f"{say_number(amount)} to {say_number(last)} {unit}{per}"
    words = _say_amount(amount, sign, adjective)
    if country:
        words = words.replace(f" {one}", f" {country} {one}", 1)
    return words + per


def _money_after(found: re.Match[str], context: Context) -> Answer:
    """5 €, 20 USD, 99¢."""
    sign = CURRENCY_CODES.get(found["sign"], found["sign"])
    if found["scale"]:
        return f"{say_number(found['amount'])} {SCALES[found['scale'].lower()]} {CURRENCIES[sign][1]}"
    return _say_amount(found["amount"], sign, context.before.lower() in ("a", "an"))


def _code_before(found: re.Match[str], context: Context) -> Answer:
    return _say_amount(found["amount"], CURRENCY_CODES[found["sign"]], False)


_SIGN = r"(?P<sign>[$£€¥₹])"
_CODE = "|".join(CURRENCY_CODES)
_PER = rf"(?:\s?/\s?(?P<per>{'|'.join(PER_WORDS)})(?![A-Za-z]))?"
_END = r"(?![0-9])"
_AMOUNT = rf"(?P<amount>{NUMBER})(?:{DASH}[$£€]?(?P<last>{NUMBER}))?{SCALE}?"
NUMERIC_RULES: tuple[Rule, ...] = (
    (re.compile(rf"{_BEFORE}{_YEAR}-(?P<month>0[1-9]|1[0-2])-(?P<day>[0-3][0-9])(?![0-9]|-[0-9])"), _iso),
    (re.compile(rf"{_BEFORE}{_YEAR}-(?P<month>0[1-9])(?P<day>)(?![0-9]|-[0-9])"), _iso),
    (re.compile(rf"{_BEFORE}([0-3]?[0-9])/([0-3]?[0-9])/([12][0-9]{{3}})(?![0-9/])"), _slashes),
    (re.compile(rf"{_BEFORE}([0-3]?[0-9])\.([01]?[0-9])\.([12][0-9]{{3}})(?![0-9]|\.[0-9])"), _points),
    (re.compile(rf"{_BEFORE}{_DAY}\s(?:of\s)?(?P<month>{_MONTH})\.?(?:,?\s{_YEAR}{_ALONE})?(?![A-Za-z])"), _day_first),
    (
        re.compile(
            rf"(?<![0-9:])(?P<hours>2[0-3]|[01]?[0-9]):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9]))?"
            rf"(?:\s?{_HALF})?(?![0-9:])"
        ),
        _time,
    ),
    (re.compile(rf"(?<![0-9:.,])(?P<hours>1[0-2]|0?[1-9])\s?{_HALF}"), _hour),
    (re.compile(rf"{_SIGN}(?P<country>)\s?{_AMOUNT}{_PER}{_END}"), _money),
    (re.compile(rf"(?P<amount>{NUMBER}){SCALE}?\s?(?P<sign>[€£¥₹¢]|(?:{_CODE})(?![A-Za-z]))"), _money_after),
)  # fmt: skip
WORDED_RULES: tuple[Rule, ...] = (
    (re.compile(rf"(?P<country>US|NZ|HK|A|C){_SIGN}{_AMOUNT}{_PER}"), _money),
    (re.compile(rf"(?P<sign>{_CODE})\s?(?P<amount>{NUMBER}){_END}"), _code_before),
    (
        re.compile(
            rf"(?P<month>{_MONTH})\.?\s{_DAY}(?![0-9])(?:[-–](?P<last>[0-3]?[0-9]))?"
            rf"(?:,?\s{_YEAR}(?![0-9]))?(?![0-9A-Za-z:%]|[.,/-][0-9])"
        ),
        _month_first,
    ),
    (re.compile(rf"(?P<month>{_MONTH})\.?,?\s(?P<day>(?!))?(?P<last>(?!))?{_YEAR}{_ALONE}"), _month_first),
    (re.compile(rf"({_SHORT_DAY}|{_MONTH})\.?\s?[-–]\s?({_SHORT_DAY}|{_MONTH})(?![A-Za-z])"), _span),
    (re.compile(rf"({_SHORT_MONTH})\.(?![A-Za-z])"), _short_month),
    (re.compile(rf"({_SHORT_DAY})\.(?=,|\s(?:{_MONTH}|[0-9]))"), _short_weekday),
)  # fmt: skip
