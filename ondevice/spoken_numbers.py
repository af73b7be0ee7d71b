"""How written numbers are said: cardinals, years, ordinals, fractions, ranges, units, telephone numbers."""

import re

from ondevice.normalize import LARGEST, cardinal, digits, ordinal, year
from ondevice.spoken_rules import Answer, Context, Rule, Said
from ondevice.spoken_tables import PER_WORDS, SCALES, SPECIAL_SLASHES, STOPPED_UNITS, UNITS, words_of

MOST_DIGITS = 30  # of one token, so that none is long; what follows is read digit by digit as well
WHOLE = rf"(?:[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,8}}(?![0-9])|[0-9]{{1,{MOST_DIGITS}}})"
NUMBER = rf"(?:{WHOLE}(?:\.[0-9]{{1,{MOST_DIGITS}}})?(?!\.[0-9])|\.[0-9]{{1,{MOST_DIGITS}}})"
DASH = r"\s?[-–—]\s?"
SCALE = r"(?:\s?(?P<scale>thousand|million|billion|trillion|bn|mn|tn|[kKmMbBtT])(?![A-Za-z0-9]))"
_YEAR_BEFORE = frozenset(words_of("in since until till by before after circa from during of year early late mid"))
_ORDINAL_PARTS = {2: "half", 4: "quarter"}
_GREAT = words_of("trillion quadrillion quintillion sextillion septillion")  # what `cardinal` does not say


def say_number(written: str) -> str:
    """'1,234.50' -> 'one thousand two hundred thirty four point five zero'; '007' digit by digit, as `say_whole`."""
    whole, point, fraction = written.partition(".")
    words = say_whole(whole) if whole else "zero"
    return f"{words} point {digits(fraction)}" if point else words


def say_whole(whole: str) -> str:
    """Words of a whole number: a cardinal unless it begins with zero, or is long and not written in groups of three."""
    plain = whole.replace(",", "")
    if len(plain) > 1 and plain.startswith("0"):
        return digits(plain)
    if len(plain) <= len(str(LARGEST)):
        return cardinal(int(plain))
    return _say_great(int(plain)) if "," in whole else digits(plain)


def _say_great(number: int) -> str:
    """Words of a number that `cardinal` leaves to others: 10**16 -> 'ten quadrillion'."""
    above, rest = divmod(number, LARGEST + 1)
    words = cardinal(rest) if rest else ""
    for name in _GREAT:
        above, group = divmod(above, 1000)
        words = f"{cardinal(group)} {name} {words}" if group else words
    return words.strip()


def say_year(written: str) -> str:
    """'1905' -> 'nineteen oh five', '2005' -> 'two thousand five', '1900' -> 'nineteen hundred'."""
    return year(int(written)).replace(" o ", " oh ") if len(written) == 4 and written[0] != "0" else say_number(written)


def plural(words: str) -> str:
    """'nineteen ninety' -> 'nineteen nineties', 'six' -> 'sixes'."""
    return words[:-1] + "ies" if words.endswith("y") else words + ("es" if words.endswith("x") else "s")


def _is_year(written: str, context: Context) -> bool:
    if not re.fullmatch("[12][0-9]{3}", written):
        return False
    number = int(written)
    return (
        1100 <= number <= 1999 or 2010 <= number <= 2099 or (context.before.lower() in _YEAR_BEFORE and number < 2100)
    )


def _plain_number(written: str, context: Context, start: int) -> str:
    if context.character(start - 1).isdigit():  # the rest of a very long number
        return digits(written)
    return say_year(written) if _is_year(written, context) else say_number(written)


# Units: "5 km", "20 °C", "60mph", "5 km/h", "3 sq ft", "m²", "6 ft."

_UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
_POWER = r"(?:\^?(?P<power>[23])(?![0-9]))?"
UNIT = (
    rf"(?P<gap>\s?|-)(?:(?P<square>sq|cu)\.?\s)?(?P<unit>{_UNIT}){_POWER}"
    rf"(?:/(?P<per>{_UNIT}|{'|'.join(PER_WORDS)})(?:\^?(?P<per_power>[23])(?![0-9]))?)?(?![A-Za-z0-9'])(?P<stop>\.?)"
)


def _say_unit(found: re.Match[str], one: bool, context: Context) -> str | Said | None:
    """Name of the unit that was found, or None where the letters are more likely something else."""
    unit, gap = found["unit"], found["gap"]
    if unit == "in" and gap == " " and not (found["stop"] or found["square"] or context.before.endswith("ft")):
        return None  # 5 in a row
    if unit == "K" and gap != " ":
        return None  # a 5K
    one = one or gap == "-"  # a 5-mile walk
    words = UNITS[unit][0 if one else 1]
    power = {"2": "square", "3": "cubic"}.get(found["power"], {"sq": "square", "cu": "cubic"}.get(found["square"], ""))
    words = f"{power} {words}".strip()
    if per := found["per"]:
        power = {"2": " squared", "3": " cubed"}.get(found["per_power"], "")
        words += f" per {UNITS[per][0] if per in UNITS else per}{power}"
    if found["stop"] and unit not in STOPPED_UNITS:
        return words  # the full stop is not its own
    return context.ended(found, words) if found["stop"] else words


def _measured(found: re.Match[str], context: Context) -> Answer:
    """'5 km', '10-20 kg', '5 to 10 mph' (as three tokens), '-3 °C' (the sign is a token of its own)."""
    first, last = found["first"], found["last"]
    if context.character(found.start() - 1).isalpha():  # A4 paper, H2O
        return None
    number = f"{say_number(first)} to {say_number(last)}" if last else say_number(first)
    said = _say_unit(found, one=last is None and first == "1", context=context)
    if isinstance(said, Said):
        return said._replace(words=f"{number} {said.words}")
    return f"{number} {said}" if said else None


# Ranges and scores, with what may follow both numbers.


def _range(found: re.Match[str], context: Context) -> Answer:
    first, last = found["first"], found["last"]
    if context.character(found.start() - 1) in ("-", "–"):
        return None
    years = len(first) == 4 and _is_year(first, context) and len(last) in (2, 4)
    if years:
        words = f"{say_year(first)} to {say_year(last) if len(last) == 4 else say_number(last)}"
    else:
        words = f"{say_number(first)} to {say_number(last)}"
    after = " percent" if found["percent"] else f" {SCALES[found['scale'].lower()]}" if found["scale"] else ""
    return words + after


def _to(found: re.Match[str], context: Context) -> Answer:
    return f"{say_number(found[1])} to {say_number(found[2])}"


def _percent(found: re.Match[str], context: Context) -> Answer:
    return f"{say_number(found['number'])} {'percent' if found['sign'] == '%' else 'per mille'}"


def _scaled(found: re.Match[str], context: Context) -> Answer:
    scale = found["scale"]
    if context.character(found.start() - 1).isalpha():  # B2B
        return None
    if scale in "MBT" and re.match(r"\s[A-Z]", context.text[found.end() : found.end() + 2]):  # 221B Baker Street
        return None
    if scale in "kKtTm":  # ten K, 5 m is a length
        return None if scale in "tTm" else f"{say_number(found['number'])} K"
    return f"{say_number(found['number'])} {SCALES[scale.lower()]}"


def _ordinal(found: re.Match[str], context: Context) -> Answer:
    return ordinal(int(found[1].replace(",", "")))


def _decade(found: re.Match[str], context: Context) -> Answer:
    """1990s, '90s, 1900s, 747s."""
    number = found["number"]
    words = year(int(number)) if len(number) == 4 and number[0] != "0" else say_number(number)
    return plural(words.replace(" o ", " oh "))


def _fraction(found: re.Match[str], context: Context) -> Answer:
    if said := SPECIAL_SLASHES.get(f"{found['above']}/{found['below']}"):
        return said
    whole, above, below = found["whole"], int(found["above"]), int(found["below"])
    if whole is None and (below == 0 or below == 1 or above == 0 or (above >= below and below not in (2, 3, 4, 8))):
        return f"{cardinal(above)} over {cardinal(below)}"
    if below < 2 or (whole is not None and above >= below):
        return None
    part = _ORDINAL_PARTS.get(below, ordinal(below))
    if above > 1:
        part = "halves" if below == 2 else plural(part) if part.endswith("y") else part + "s"
    if whole is None:
        return f"{cardinal(above)} {part}"
    return f"{say_number(whole)} and {'a' if above == 1 else cardinal(above)} {part}"


def _measured_fraction(found: re.Match[str], context: Context) -> Answer:
    """1/2 km, 3 3/4 in., ½ cup."""
    fraction = _fraction(found, context)
    said = _say_unit(found, one=found["whole"] is None, context=context) if isinstance(fraction, str) else None
    if isinstance(said, Said):
        return said._replace(words=f"{fraction} {said.words}")
    return f"{fraction} {said}" if said else None


def _version(found: re.Match[str], context: Context) -> Answer:
    """1.2.3 in numbers, 192.168.0.1 in digits."""
    parts = found[0].split(".")
    if len(parts) == 4 and max(map(len, parts)) > 1:
        return " dot ".join(map(digits, parts))
    return " point ".join(map(say_whole, parts))


def _port(found: re.Match[str], context: Context) -> Answer:
    """192.168.0.1:80 in digits."""
    return f"{' dot '.join(map(digits, found[1].split('.')))} colon {digits(found[2])}"


def _hexadecimal(found: re.Match[str], context: Context) -> Answer:
    """0x1F one by one."""
    return " ".join(digits(sign) or sign.upper() for sign in found[0])


def _telephone(found: re.Match[str], context: Context) -> Answer:
    groups = re.findall("[0-9]+", found[0])
    if found[0].startswith("+") and sum(map(len, groups)) < 8:
        return None
    words = (cardinal(int(g)) if re.fullmatch("[1-9]00", g) and groups[0] == "1" else digits(g) for g in groups)
    return ("plus " if found[0].startswith("+") else "") + " , ".join(words)


def _groups(found: re.Match[str], context: Context) -> Answer:
    """1-2-3 and 978-0-306-40615-7: groups of digits."""
    return " , ".join(map(digits, found[0].replace("–", "-").split("-")))


def _height(found: re.Match[str], context: Context) -> Answer:
    return f"{cardinal(int(found[1]))} foot {cardinal(int(found[2]))}"


def _power_of_ten(found: re.Match[str], context: Context) -> Answer:
    sign = "minus " if found[2] == "-" else ""
    return f"{say_number(found[1])} times ten to the {sign}{say_whole(found[3])}"


def _number(found: re.Match[str], context: Context) -> Answer:
    return _plain_number(found[0], context, found.start())


_TELEPHONE = (
    r"\+[0-9]{1,3}(?:[ .-]?(?:\([0-9]{1,4}\)|[0-9]{1,5})){2,5}",
    r"(?:1[ .-])?(?:\([0-9]{3}\)\s?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}",
    r"1-8[0-9]{2}(?=-[A-Z])",
    r"[0-9]{3}-[0-9]{4}",
    r"0[0-9]{2,4}[ -][0-9]{3,4}[ -]?[0-9]{3,4}",
)
_NOT_INSIDE = r"(?<![0-9A-Za-z])"
_ENDED = r"(?![0-9A-Za-z]|[-.,/][0-9])"
_PART = "(?P<above>[0-9]{1,3})/(?P<below>[0-9]{1,3})"
_AFTER_RANGE = rf"(?:(?P<percent>\s?%)|{SCALE})?(?![0-9A-Za-z]|\s?=)"
RULES: tuple[Rule, ...] = (
    (re.compile(rf"{_NOT_INSIDE}(?:{'|'.join(_TELEPHONE)}){_ENDED}"), _telephone),
    (re.compile(rf"[0-9]{{1,6}}(?:[-–][0-9]{{1,7}}){{2,6}}{_ENDED}"), _groups),
    (re.compile(rf"{_NOT_INSIDE}0[xX][0-9A-Fa-f]{{1,{MOST_DIGITS}}}(?![0-9A-Za-z])"), _hexadecimal),
    (re.compile(r"([1-9])'\s?([0-9]{1,2})(?:\"|'')"), _height),
    (re.compile(rf"(?:(?P<whole>{WHOLE})\s)?(?<![0-9/]){_PART}{UNIT}"), _measured_fraction),
    (re.compile(rf"(?:(?P<whole>{WHOLE})\s)?(?<![0-9/]){_PART}{_ENDED}(?!/)"), _fraction),
    (re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}):([0-9]{1,5})(?![0-9:])"), _port),
    (re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){2,5}(?![0-9])"), _version),
    (re.compile(rf"({NUMBER})[eE]([-+−]?)([0-9]{{1,3}})(?![A-Za-z0-9])"), _power_of_ten),
    (re.compile(r"([0-9]{1,3}(?:,[0-9]{3}){1,3}|[0-9]{1,12})(?:st|nd|rd|th|ST|ND|RD|TH)(?![A-Za-z0-9])"), _ordinal),
    (re.compile(r"(?P<number>[0-9]{1,4})'?s(?![\w'])"), _decade),
    (re.compile(r"'(?P<number>[0-9]0)s(?![\w'])"), _decade),
    (re.compile(rf"(?P<first>{NUMBER})(?:{DASH}(?P<last>{NUMBER}))?{UNIT}"), _measured),
    (re.compile(rf"(?P<first>{NUMBER}){DASH}(?P<last>{NUMBER}){_AFTER_RANGE}"), _range),
    (re.compile(r"([0-9]{1,3}):([0-9]{1,3})(?![0-9:])"), _to),
    (re.compile(rf"(?P<number>{NUMBER})\s?(?P<sign>[%‰])"), _percent),
    (re.compile(rf"(?P<number>{NUMBER}){SCALE}"), _scaled),
    (re.compile(NUMBER), _number),
    (re.compile(WHOLE), _number),
)  # fmt: skip
