"""Words whose sound depends on their use, chosen by the words beside them.

Only what a neighbour decides well is here: nouns after 'the', verbs after 'to' or 'they', past forms after 'had'.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ondevice.letter_to_sound import Phones
from ondevice.spoken_tables import words_of
from ondevice.word_parts import plural


def _table(text: str) -> Mapping[str, tuple[Phones, Phones]]:
    """Lines 'record: R EH1 K ER0 D | R AH0 K AO1 R D' as word -> (first reading, second reading)."""
    pairs = {}
    for line in text.strip().splitlines():
        word, _, readings = line.partition(":")
        first, _, second = readings.partition("|")
        pairs[word.strip()] = tuple(first.split()), tuple(second.split())
    return MappingProxyType(pairs)


# noun or adjective | verb
NOUN_OR_VERB = _table("""
abuse: AH0 B Y UW1 S | AH0 B Y UW1 Z
alternate: AO1 L T ER0 N AH0 T | AO1 L T ER0 N EY2 T
associate: AH0 S OW1 S IY0 AH0 T | AH0 S OW1 S IY0 EY2 T
close: K L OW1 S | K L OW1 Z
conduct: K AA1 N D AH0 K T | K AH0 N D AH1 K T
conflict: K AA1 N F L IH0 K T | K AH0 N F L IH1 K T
contest: K AA1 N T EH0 S T | K AH0 N T EH1 S T
contract: K AA1 N T R AE2 K T | K AH0 N T R AE1 K T
convert: K AA1 N V ER0 T | K AH0 N V ER1 T
convict: K AA1 N V IH0 K T | K AH0 N V IH1 K T
defect: D IY1 F EH0 K T | D IH0 F EH1 K T
deliberate: D IH0 L IH1 B ER0 AH0 T | D IH0 L IH1 B ER0 EY2 T
duplicate: D UW1 P L IH0 K AH0 T | D UW1 P L IH0 K EY2 T
escort: EH1 S K AO0 R T | EH0 S K AO1 R T
estimate: EH1 S T AH0 M AH0 T | EH1 S T AH0 M EY2 T
excuse: IH0 K S K Y UW1 S | IH0 K S K Y UW1 Z
export: EH1 K S P AO0 R T | IH0 K S P AO1 R T
graduate: G R AE1 JH AH0 W AH0 T | G R AE1 JH AH0 W EY2 T
house: HH AW1 S | HH AW1 Z
import: IH1 M P AO2 R T | IH0 M P AO1 R T
increase: IH1 N K R IY2 S | IH0 N K R IY1 S
insult: IH1 N S AH2 L T | IH0 N S AH1 L T
moderate: M AA1 D ER0 AH0 T | M AA1 D ER0 EY2 T
object: AA1 B JH EH0 K T | AH0 B JH EH1 K T
perfect: P ER1 F IH2 K T | P ER0 F EH1 K T
permit: P ER1 M IH2 T | P ER0 M IH1 T
present: P R EH1 Z AH0 N T | P R IH0 Z EH1 N T
produce: P R OW1 D UW0 S | P R AH0 D UW1 S
progress: P R AA1 G R EH2 S | P R AH0 G R EH1 S
project: P R AA1 JH EH0 K T | P R AH0 JH EH1 K T
protest: P R OW1 T EH2 S T | P R AH0 T EH1 S T
rebel: R EH1 B AH0 L | R IH0 B EH1 L
record: R EH1 K ER0 D | R IH0 K AO1 R D
refuse: R EH1 F Y UW2 Z | R AH0 F Y UW1 Z
reject: R IY1 JH EH0 K T | R IH0 JH EH1 K T
separate: S EH1 P ER0 IH0 T | S EH1 P ER0 EY2 T
subject: S AH1 B JH IH0 K T | S AH0 B JH EH1 K T
suspect: S AH1 S P EH2 K T | S AH0 S P EH1 K T
tear: T IH1 R | T EH1 R
transfer: T R AE1 N S F ER0 | T R AE0 N S F ER1
transport: T R AE1 N S P AO0 R T | T R AE0 N S P AO1 R T
use: Y UW1 S | Y UW1 Z
wind: W IH1 N D | W AY1 N D
""")
_VERB_UNLESS_NOUN = frozenset(("excuse", "refuse", "produce", "convert", "separate"))
_LIVES: tuple[Phones, Phones] = (("L", "AY1", "V", "Z"), ("L", "IH1", "V", "Z"))
_LIVE: tuple[Phones, Phones] = (("L", "AY1", "V"), ("L", "IH1", "V"))
_LEAD: tuple[Phones, Phones] = (("L", "EH1", "D"), ("L", "IY1", "D"))
_READ: tuple[Phones, Phones] = (("R", "EH1", "D"), ("R", "IY1", "D"))

_BEFORE_NOUNS = frozenset(
    words_of(
        "a an the this that these those my your his her its our their whose no some any each every another of in "
        "for with by on at from into under about own new good great old first second last next many such"
    )
)
_BEFORE_VERBS = frozenset(
    words_of(
        "to will would can could shall should may might must do does did don't doesn't didn't won't can't "
        "couldn't wouldn't shouldn't cannot i you we they who i'll you'll he'll she'll we'll they'll it'll i'd "
        "you'd we'd they'd let's please not never always often also and then"
    )
)
_SURE_VERBS = _BEFORE_VERBS - frozenset(words_of("and then not also always often never"))
_BEFORE_VERBS_IN_S = frozenset(("he", "she", "it", "who", "which", "that", "also", "usually", "often"))
_HAVE_BEEN = frozenset(
    words_of(
        "have has had having was were is are been be being haven't hasn't hadn't wasn't weren't isn't aren't i've "
        "you've we've they've it's he's she's well widely"
    )
)


def reading(word: str, before: str, after: str) -> Phones | None:
    """Phones of a word by the words beside it ("" for none), None when it is said in one way only."""
    if word == "read":
        return _READ[0 if before in _HAVE_BEEN or before in ("he", "she", "it", "already", "just") else 1]
    if word == "live":
        return _LIVE[
            1 if before in _BEFORE_VERBS or after in ("in", "on", "at", "with", "for", "here", "there", "by") else 0
        ]
    if word == "lives":
        return _LIVES[0 if before in _BEFORE_NOUNS else 1]
    if word == "lead":
        metal = after in ("paint", "pipe", "pipes", "poisoning", "pencil", "bullet", "bullets", "glass", "acid")
        return _LEAD[0 if metal or before in ("of", "molten", "unleaded") else 1]
    if word in NOUN_OR_VERB:
        noun, verb = NOUN_OR_VERB[word]
        if before in _BEFORE_NOUNS:
            return noun
        wanted = _BEFORE_VERBS if word in _VERB_UNLESS_NOUN else _SURE_VERBS
        return verb if before in wanted or (not before and word in _VERB_UNLESS_NOUN) else noun
    if word.endswith("s") and before in _BEFORE_VERBS_IN_S and word[:-1] in NOUN_OR_VERB:
        return plural(NOUN_OR_VERB[word[:-1]][1])
    return None
