"""Numbers with their signs and units, and the letters that stand for one of several: what of a prompt is compared to
the letter. Pure.

A vector hardly hears the difference between 5 mg and 5 g, -40 and 40, 8am and 8pm, hepatitis a and hepatitis b. So
whatever has a digit counts as it is written, with its sign, all that is glued to it and the unit behind it; so do units
elsewhere, Roman numerals and single letters.
"""

from __future__ import annotations

import re
from itertools import pairwise

from ollama_proxy.cache.english import FILLERS, stem, words_of

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_DIGIT = re.compile(r"\d")
_ROMAN = re.compile(r"(?=[ivxlcdm]{2})m*(?:cm|cd|d?c{0,4})(?:xc|xl|l?x{0,4})(?:ix|iv|v?i{0,4})")
_ENDS = ".,;:?"
#: So many letters has an abbreviation of a unit at most.
_SHORT = 3

_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
#: Words for numbers, as they would be written in digits; a part, a multiple and a place in a row are numbers of their
#: own, or "half" would be some number and "the first week" one week.
COUNTS = {word: str(number) for number, word in enumerate(_TO_TWENTY.split())}
COUNTS |= {word: str(number) for word, number in (_TENS | _LARGE).items()}
COUNTS |= {f"{word}s": f"{number}s" for word, number in _LARGE.items()}
COUNTS |= {"dozen": "12", "dozens": "12s", "first": "1st", "second": "2nd", "third": "3rd"}
COUNTS |= {word: f"{number}th" for number, word in enumerate(_ORDINALS.split()) if word not in COUNTS}
COUNTS |= {f"{word}s": f"/{number}" for number, word in enumerate(_ORDINALS.split()) if word != "second"}
COUNTS |= {
    word: word for word in ("half", "halves", "quarter", "quarters", "single", "once", "triple", "thrice", "pair")
}
COUNTS |= {"double": "2x", "twice": "2x"}
#: They count wherever they stand: "five degrees celsius" has its number two words before.
_UNITS = words_of(
    "mg milligram mcg microgram gram kg kilogram kilo tonne ton ounce oz pound lb lbs gallon pint quart litre liter "
    "millilitre milliliter ml mm cm km millimetre millimeter centimetre centimeter metre meter kilometre kilometer "
    "mile inch feet foot ft yard acre hectare celsius fahrenheit kelvin degree radian millisecond microsecond "
    "nanosecond seconds sec minute min hour hr day week fortnight month year decade century millennium daily weekly "
    "monthly yearly annual annually hourly pm cent dollar euro pound sterling yen yuan rupee franc peso krona usd "
    "eur gbp jpy cny inr chf cad aud btc percent percentage permille bit byte kb mb gb tb kib mib gib tib kbps mbps "
    "gbps hz khz mhz ghz volt watt amp ampere ohm kw kwh mwh joule calorie kcal kj pascal bar psi newton mph kph "
    "knot minus plus times squared cubed teaspoon tablespoon tsp tbsp cup binary octal decimal hex hexadecimal"
)
_UNIT_STEMS = frozenset(stem(word) for word in _UNITS)
#: Behind a number they are units as well.
_UNITS_BEHIND = frozenset(("am", "a"))
#: What may stand behind an inch.
_BEHIND_INCHES = words_of("in by x is long wide high tall deep thick across or and")
#: Before a number they are no verbs.
_MONTHS = frozenset(("may", "march"))
#: Kinds of which one is named by a letter.
_LETTERED = words_of(
    "act adenosine allele annex annexe answer apartment apolipoprotein appendix block building candidate category "
    "channel chapter charles choice class clause coenzyme cohort column company cyclosporin disc disk district "
    "domain drive edward elizabeth exhibit exit factor figure flat flu gate gene george grade group haemophilia "
    "helix hemophilia henry hep hepatitis immunoglobulin influenza item james john key league level lipoprotein "
    "louis matrix medicare mode model node nucleotide option part paul phase pin plan pope port protein rack reel "
    "richard row salmonella scale scene schedule section sector serie series serotype server slot socket stage step "
    "strain strep streptococcus string subtype suite team terminal tier title toxin tube type variable version "
    "vitamin volume war william wing zone"
)
#: Behind them is no article; behind "her" and "that" may be one, and "your a robot" is meant otherwise.
_SURE_DETERMINERS = words_of("the my our their")
_DETERMINERS = _SURE_DETERMINERS | words_of("your his her its this that")
#: What follows no article.
_NO_NOUNS = words_of(
    "is are was were be do does did has have had can could will would should must may might and or in on to from for "
    "of with at by as than versus vs not if when but because while who which that the"
)


def find_quantities(text: str) -> tuple[str, ...]:
    """What counts to the letter, in its order; `text` with its capitals."""
    tokens = [token for chunk in text.split() for token in _cut(chunk.rstrip(_ENDS))]
    plain = [token.lower() for token in tokens]
    numbers = [_is_number(token) for token in plain]
    told = [is_number or _counts(plain, place) for place, is_number in enumerate(numbers)]
    for place, (here, behind) in enumerate(pairwise(numbers)):
        told[place] |= behind and (plain[place] in _MONTHS or not plain[place][-1].isalnum())
        told[place + 1] |= here and not behind and _is_unit(plain, place + 1)
    return tuple(_write(token) for token, counts in zip(tokens, told, strict=True) if counts)


def _cut(chunk: str) -> list[str]:
    """The words of a piece without blanks; the piece itself where it is to be taken as it is written."""
    if not chunk:
        return []
    words = _WORD.findall(chunk)
    if not words or _DIGIT.search(chunk) or any(len(word) == 1 for word in words):
        return [chunk]
    return words


def _is_number(token: str) -> bool:
    return token in COUNTS or _DIGIT.search(token) is not None


def _counts(tokens: list[str], place: int) -> bool:
    token = tokens[place]
    if token in ("a", "i"):
        return _is_letter(tokens, place)
    # "x-ray" and "b-" are pieces that hold a single letter; without one, signs alone count beside numbers only.
    if not token.isalpha():
        return not _WORD.fullmatch(token) and any(map(str.isalnum, token))
    return len(token) == 1 or stem(token) in _UNIT_STEMS or _ROMAN.fullmatch(token) is not None


def _is_unit(tokens: list[str], place: int) -> bool:
    """Whether a word behind a number is what is counted, though it is on no list: an abbreviation or a plural."""
    token, behind = tokens[place], tokens[place + 1 : place + 2]
    if token == "in":
        return not behind or behind[0] in _BEHIND_INCHES
    if token in _UNITS_BEHIND or not token[0].isalnum():
        return True
    bare = tokens[place - 1] in COUNTS or not any(map(str.isalpha, tokens[place - 1]))
    return bare and token not in FILLERS and (len(token) <= _SHORT or token.endswith("s"))


def _is_letter(tokens: list[str], place: int) -> bool:
    """Whether "a" or "i" is no article and no person, but one of several things."""
    before = tokens[place - 1] if place else ""
    if before in _LETTERED:
        return True
    if tokens[place] == "i":
        return False
    if before in _SURE_DETERMINERS:
        return True
    if before and before not in FILLERS and place > 1 and tokens[place - 2] in _DETERMINERS:
        # "My plan a covers it": behind a noun there is no article.
        return True
    behind = tokens[place + 1 : place + 2]
    return not behind or behind[0] in _NO_NOUNS


def _write(token: str) -> str:
    word = token.lower()
    if word in COUNTS:
        return COUNTS[word]
    # Capitals make another unit: Mb and MB, mW and MW.
    return token if _DIGIT.search(token) or len(token) == 1 else stem(word)
