"""How the official VQA score cleans an answer before it compares: punctuation, number words, articles, contractions.

Published quirks are kept, because every reported figure has them: a period is removed unless a digit follows, even
behind a digit; a comma between two digits anywhere removes all punctuation without leaving a blank; at most 32 periods
are removed.
"""

from __future__ import annotations

import re
from functools import lru_cache

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}
ARTICLES = frozenset(("a", "an", "the"))

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the flag re.UNICODE is passed where the count belongs
_ANY = re.compile("[" + re.escape(PUNCTUATION) + ".]")

# Words with one apostrophe, which are put right where it is missing.
_ONE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't
    it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't
    somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's
    they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's
    where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
# Words with two, which are put right where the first or the second is missing.
_TWO = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've
    there'd've they'd've we'd've who'd've wouldn't've you'd've
"""


def _contractions() -> dict[str, str]:
    found = {word.replace("'", ""): word for word in _ONE.split()}
    for word in _TWO.split():
        first, second = word.index("'"), word.rindex("'")
        found[word[:first] + word[first + 1 :]] = word
        found[word[:second] + word[second + 1 :]] = word
    irregular = {
        "somebody'd": "somebodyd",  # the published table has it the wrong way round
        "ow's'at": "'ow's'at",
        "'ows'at": "'ow's'at",
        "'ow'sat": "'ow's'at",
        "yall'll": "y'all'll",
        "y'allll": "y'all'll",
        "yall'd've": "y'all'd've",
        "y'alld've": "y'all'd've",
        "y'all'dve": "y'all'd've",
    }
    return found | irregular


CONTRACTIONS = _contractions()
"""What a word without its apostrophe is written as."""


def clean_blanks(answer: str) -> str:
    """Return an answer with blanks for line ends and tabs, and none around it."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 18)
def clean_answer(answer: str) -> str:
    """Return an answer as the official score compares it where the people do not all agree.

    Example:
        >>> clean_answer("The X-ray isnt it? Two."), clean_answer("1,000 dogs"), clean_answer("none")
        ("x ray isn't it 2", '1000 dogs', '0')
    """
    words = (NUMBERS.get(word, word) for word in _without_punctuation(answer).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _without_punctuation(answer: str) -> str:
    if not _ANY.search(answer):
        return answer
    cleaned, always = answer, _COMMA_IN_NUMBER.search(answer) is not None
    for mark in PUNCTUATION:
        if mark in answer:
            beside_a_blank = f"{mark} " in answer or f" {mark}" in answer
            cleaned = cleaned.replace(mark, "" if always or beside_a_blank else " ")
    return _PERIOD.sub("", cleaned, count=_MOST_PERIODS)
