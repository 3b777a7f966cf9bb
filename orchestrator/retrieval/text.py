"""Texts before they are searched: one form, their script, their parts.

What happens here happens to documents and to queries alike, so that they meet.
Stemming is Postgres's: `text_config` names its configuration.
"""

import re
import unicodedata
from collections.abc import Iterable
from enum import StrEnum

_HUMP = re.compile(r"(?<=[a-zа-яё0-9])(?=[A-ZА-ЯЁ])|(?<=[A-ZА-ЯЁ])(?=[A-ZА-ЯЁ][a-zа-яё])")
_WORD = re.compile(r"[^\W_]+")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_SENTENCE_END = re.compile(r"(?<=[.!?…;])\s+|\n+")
_CLAUSE_END = re.compile(
    r",?\s+(?:and then|and also|as well as|and|then|also|а также|и затем|и потом|затем|потом|и)\s+", re.IGNORECASE
)
_MIN_WORDS = 2
_MAX_PARTS = 6
_MAX_CHARACTERS = 2000


class Script(StrEnum):
    """A writing system that the search tells apart."""

    LATIN = "latin"
    CYRILLIC = "cyrillic"
    OTHER = "other"


def script_of(text: str) -> Script:
    """The script of most letters; Latin when there are none."""
    latin, cyrillic = len(_LATIN.findall(text)), len(_CYRILLIC.findall(text))
    if len(_LETTER.findall(text)) - latin - cyrillic > max(latin, cyrillic):
        return Script.OTHER
    return Script.CYRILLIC if cyrillic > latin else Script.LATIN


def text_config(text: str) -> str:
    """The Postgres configuration that stems a text: those of the server, without their stop words.

    The Russian one stems words in Latin letters by the English rules, so one
    Cyrillic letter is enough to choose it: both give lexemes of one namespace.
    """
    return "maruntime_russian" if _CYRILLIC.search(text) else "maruntime_english"


def normalised(text: str) -> str:
    """Lower-case words with single spaces: camel case and `_` split, ё as е, composed, without punctuation."""
    composed = unicodedata.normalize("NFKC", text)
    return " ".join(_WORD.findall(_HUMP.sub(" ", composed).lower().replace("ё", "е")))


def split_into_parts(*texts: str) -> list[str]:
    """What to search for: the whole of each text, then its sentences, then the clauses of a sentence.

    At most six parts; no part twice; a part of one word only when there is
    nothing else. The order says nothing: all parts count the same.
    """
    cut = [text.strip()[:_MAX_CHARACTERS] for text in texts]
    sentences = [sentence for text in cut for sentence in _SENTENCE_END.split(text)]
    clauses = [clause for sentence in sentences for clause in _CLAUSE_END.split(sentence)]
    wholes = _distinct(cut, 1)
    forms = {normalised(whole) for whole in wholes}
    pieces = _distinct([*sentences, *clauses], _MIN_WORDS)
    return [*wholes, *(piece for piece in pieces if normalised(piece) not in forms)][:_MAX_PARTS]


def _distinct(texts: Iterable[str], min_words: int) -> list[str]:
    by_form: dict[str, str] = {}
    for text in texts:
        by_form.setdefault(normalised(text), text.strip())
    return [text for form, text in by_form.items() if len(form.split()) >= min_words]
