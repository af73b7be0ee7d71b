"""What written English leaves to the reader: short forms, units, signs, months and names of letters."""

from collections.abc import Mapping
from types import MappingProxyType

from ondevice.normalize import ABBREVIATIONS, DOTTED_ABBREVIATIONS


def words_of(line: str) -> tuple[str, ...]:
    """The words of a line, for tables that read better as one."""
    return tuple(line.split())


def _table(text: str) -> Mapping[str, str]:
    """'etc et cetera; vs versus' as a mapping from the first word of each entry to the rest."""
    pairs = (entry.split(maxsplit=1) for entry in text.split(";") if entry.strip())
    return MappingProxyType({key: value.strip() for key, value in pairs})


MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
MONTH_NUMBERS: Mapping[str, int] = MappingProxyType(
    {
        **{month: number for number, month in enumerate(MONTHS, start=1)},
        **{month[:3]: number for number, month in enumerate(MONTHS, start=1)},
        "sept": 9,
    }
)
WEEKDAYS = _table(
    "mon monday; tue tuesday; tues tuesday; wed wednesday; thu thursday; thur thursday; thurs thursday;"
    "fri friday; sat saturday; sun sunday"
)

# Read alike with and without a full stop.
BARE_ABBREVIATIONS = MappingProxyType({**ABBREVIATIONS, **_table("mx mix; ms miz; mme madame; mlle mademoiselle")})
# With a full stop only, wherever they stand.
STOPPED_ABBREVIATIONS = _table(
    "inc incorporated; ltd limited; corp corporation; co company; bros brothers; ave avenue; blvd boulevard; rd road;"
    "hwy highway; pkwy parkway; dept department; univ university; govt government; asst assistant; assn association;"
    "intl international; natl national; misc miscellaneous; tel telephone; cf compare; viz namely; ca circa;"
    "approx approximately; incl including; excl excluding; resp respectively; dist district; est established;"
    "sgt sergeant; cpl corporal; maj major; adm admiral; cmdr commander; supt superintendent; fr father;"
    "ed editor; eds editors; trans translated; abbr abbreviation; adj adjective; adv adverb; al al; esp especially;"
    "ibid ibid; anon anonymous; temp temperature; mgr manager; div division; orig originally; gal gallons;"
    "tsp teaspoons; tbsp tablespoons; yrs years; hrs hours; mins minutes; secs seconds; lbs pounds"
)
# With a full stop before a name.
NAME_ABBREVIATIONS = MappingProxyType(
    {**DOTTED_ABBREVIATIONS, **_table("ft fort; v versus; amb ambassador; atty attorney")}
)
# With a full stop before a number.
NUMBER_ABBREVIATIONS = _table(
    "no number; nos numbers; p page; pp pages; fig figure; figs figures; vol volume; vols volumes; ch chapter;"
    "chap chapter; sec section; eq equation; art article; pt part; ver version; v version; ext extension; c circa;"
    "max maximum; min minimum; apt apartment; rm room; bk book; op opus; ex exercise; para paragraph"
)
# Dotted inside; others of the kind are spelt.
DOTTED_WORDS = _table(
    "i.e. that is; e.g. for example; a.k.a. also known as; ph.d. P H D; m.sc. M S C; b.sc. B S C; d.phil. D fill;"
    "p.s. P S; n.b. nota bene; q.v. Q V; r.s.v.p. R S V P; w.r.t. with respect to; i.e that is; e.g for example"
)
# Words with signs or capitals of their own, by their small letters.
SPECIAL_WORDS = _table(
    "at&t A T and T; c++ C plus plus; c# C sharp; f# F sharp; .net dot net; w/o without; w/ with; n/a N A; c/o care of;"
    "a/c A C; and/or and or; s/he she or he; q&a Q and A; phd P H D; phds P H D's; ok okay; a+ A plus; b+ B plus;"
    "ios I O S; macos mac O S; wi-fi wifi; 'n' 'n; n' 'n"
)
SPECIAL_SLASHES = _table(
    "24/7 twenty four seven; 9/11 nine eleven; 7/11 seven eleven; 50/50 fifty fifty; 20/20 twenty twenty"
)
SPECIAL_CAPITALS = frozenset(
    words_of("US IT AI ID EU UN AM PM AC DC CV ER ICU IQ PI PR HR IP OS TV UV IRA SAT ACT AD CO API")
)
APOSTROPHE_FIRST = frozenset(
    words_of("'tis 'twas 'twere 'twill 'twould 'em 'til 'cause 'bout 'round 'kay 'course 'cuse")
)
LETTER_NOUNS = frozenset(
    words_of("vitamin grade plan type hepatitis section class level group team option appendix block")
)

# Capitalised words that rarely follow an abbreviation within one sentence.
SENTENCE_STARTERS = (
    *(
        "A",
        "About",
        "After",
        "All",
        "Although",
        "An",
        "And",
        "Any",
        "Are",
        "As",
        "At",
        "Because",
        "Before",
        "Both",
        "But",
    ),
    *(
        "By",
        "Can",
        "Could",
        "Did",
        "Do",
        "Does",
        "Each",
        "Even",
        "Every",
        "Finally",
        "First",
        "For",
        "From",
        "Had",
        "Has",
    ),
    *(
        "Have",
        "He",
        "Her",
        "Here",
        "His",
        "How",
        "However",
        "I",
        "If",
        "In",
        "Instead",
        "Is",
        "It",
        "Its",
        "Just",
        "Later",
    ),
    *(
        "Many",
        "Maybe",
        "Meanwhile",
        "More",
        "Most",
        "My",
        "No",
        "Not",
        "Nothing",
        "Now",
        "Of",
        "On",
        "Once",
        "One",
        "Only",
    ),
    *(
        "Or",
        "Other",
        "Our",
        "Perhaps",
        "Please",
        "She",
        "Should",
        "Since",
        "So",
        "Some",
        "Soon",
        "Still",
        "Such",
        "That",
    ),
    *(
        "The",
        "Their",
        "Then",
        "There",
        "These",
        "They",
        "This",
        "Those",
        "Though",
        "Through",
        "Thus",
        "To",
        "Today",
        "Two",
    ),
    *("Under", "Until", "Was", "We", "Well", "Were", "What", "When", "Where", "Which", "While", "Who", "Why", "Will"),
    *("With", "Would", "Yes", "Yesterday", "Yet", "You", "Your"),
)

SYMBOLS_SPOKEN = MappingProxyType(
    {
        **{"&": "and", "@": "at", "+": "plus", "=": "equals", "%": "percent", "°": "degrees", "©": "copyright"},
        **{"®": "registered", "™": "trademark", "℠": "service mark", "§": "section", "¶": "paragraph", "/": "slash"},
        **{"\\": "backslash", "<": "less than", ">": "greater than", "≤": "less than or equal to", "‰": "per mille"},
        **{"≥": "greater than or equal to", "≠": "is not equal to", "≈": "about", "±": "plus or minus", "×": "times"},
        **{"÷": "divided by", "√": "square root of", "∞": "infinity", "♯": "sharp", "♭": "flat", "→": "to"},
        **{"$": "dollar", "£": "pound", "₤": "pound", "€": "euro", "¥": "yen", "₹": "rupee", "¢": "cent"},
        **{"−": "minus", "~": "tilde", "^": "caret", "†": "", "‡": ""},
        **{
            "α": "alpha",
            "β": "beta",
            "γ": "gamma",
            "δ": "delta",
            "ε": "epsilon",
            "θ": "theta",
            "λ": "lambda",
            "μ": "mu",
        },
        **{"π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega"},
        **{"Δ": "delta", "Σ": "sigma", "Ω": "omega", "Π": "pi", "∑": "sum", "∆": "delta"},
    }
)
ADDRESS_SIGNS = MappingProxyType(
    {
        **{".": "dot", "/": "slash", ":": "colon", "?": "question mark", "&": "and", "=": "equals", "#": "hash"},
        **{"_": "underscore", "-": "dash", "~": "tilde", "%": "percent", "+": "plus", "@": "at", "!": "", ",": "comma"},
    }
)

# sign -> (name of one, name of many, name of one hundredth, name of many hundredths)
CURRENCIES = MappingProxyType(
    {
        "$": ("dollar", "dollars", "cent", "cents"),
        "£": ("pound", "pounds", "penny", "pence"),
        "€": ("euro", "euros", "cent", "cents"),
        "¥": ("yen", "yen", "sen", "sen"),
        "₹": ("rupee", "rupees", "paisa", "paise"),
        "¢": ("cent", "cents", "", ""),
    }
)
CURRENCY_CODES = MappingProxyType({"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹"})
COUNTRIES = MappingProxyType(
    {"US": "U S", "A": "australian", "C": "canadian", "NZ": "new zealand", "HK": "hong kong", "": ""}
)
SCALES = MappingProxyType(
    {
        **{scale: scale for scale in ("hundred", "thousand", "million", "billion", "trillion")},
        **{"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion"},
        "tn": "trillion",
    }
)

_METRIC = _table(
    "m meter; km kilometer; cm centimeter; mm millimeter; μm micrometer; nm nanometer; g gram; kg kilogram;"
    "mg milligram; μg microgram; mcg microgram; l liter; L liter; dl deciliter; dL deciliter; ml milliliter;"
    "mL milliliter; cl centiliter; W watt; kW kilowatt; MW megawatt; GW gigawatt; kWh kilowatt hour; V volt;"
    "kV kilovolt; mV millivolt; mA milliamp; mAh milliamp hour; kPa kilopascal; hPa hectopascal; dB decibel;"
    "cal calorie; kcal kilocalorie; kJ kilojoule; kN kilonewton; ha hectare; px pixel; s second; ms millisecond;"
    "μs microsecond; ns nanosecond; min minute; h hour; hr hour; KB kilobyte; kB kilobyte; MB megabyte; GB gigabyte;"
    "TB terabyte; Kb kilobit; Mb megabit; Gb gigabit; mi mile; yd yard; lb pound; oz ounce; pt pint; gal gallon;"
    "qt quart; sec second; yr year; mo month; wk week; Ω ohm; kΩ kilohm; ly light year; pc piece; pcs piece; hrs hour;"
    "mins minute; secs second; lbs pound; yrs year; yds yard; ton ton; tbsp tablespoon; tsp teaspoon"
)
_SAME_FOR_MANY = _table(
    "Hz hertz; kHz kilohertz; MHz megahertz; GHz gigahertz; THz terahertz; mph miles per hour; kph kilometers per hour;"
    "kmh kilometers per hour; rpm R P M; fps frames per second; dpi dots per inch; bpm beats per minute;"
    "kbps kilobits per second; Mbps megabits per second; Gbps gigabits per second; psi P S I; ppm parts per million;"
    "°C degrees celsius; °F degrees fahrenheit; ° degrees; K kelvin; mpg miles per gallon"
)
UNITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **{unit: (name, name + "s") for unit, name in _METRIC.items()},
        **{unit: (name, name) for unit, name in _SAME_FOR_MANY.items()},
        "ft": ("foot", "feet"),
        "in": ("inch", "inches"),
        **{"°C": ("degree celsius", "degrees celsius"), "°F": ("degree fahrenheit", "degrees fahrenheit")},
        "°": ("degree", "degrees"),
    }
)
STOPPED_UNITS = frozenset(
    words_of("ft in lb lbs oz hr hrs min mins sec secs yd yds mi pt gal qt yr yrs mo wk tbsp tsp")
)
PER_WORDS = ("second", "minute", "hour", "day", "week", "month", "year", "person", "night", "unit", "gallon", "mile")

REGNAL_NAMES = frozenset(
    words_of(
        "louis henry charles george james edward william richard philip elizabeth mary napoleon catherine "
        "frederick peter alexander nicholas ivan ferdinand leopold wilhelm gustav haakon harald margrethe beatrix "
        "rama ramesses ptolemy pius benedict john paul leo gregory clement innocent urban julius sixtus boniface "
        "celestine adrian"
    )
)
NUMBERED_THINGS = frozenset(
    words_of(
        "chapter book part volume act scene section appendix phase type class title war bowl canto stave article "
        "vol stage grade mark level division group schedule episode world"
    )
)
