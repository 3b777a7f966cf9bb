"""Character n-grams of words: what survives misspelling, inflection and glued names."""

from collections.abc import Iterable, Iterator


def ngrams_of(word: str, shortest: int, longest: int) -> Iterator[str]:
    """The n-grams of a word; a space marks where it begins and ends."""
    padded = f" {word} "
    for size in range(shortest, longest + 1):
        for start in range(len(padded) - size + 1):
            yield padded[start : start + size]


def counted(words: Iterable[tuple[str, float]], shortest: int, longest: int) -> dict[str, float]:
    """How often each n-gram of these words occurs, each word by its weight."""
    found: dict[str, float] = {}
    for word, weight in words:
        for ngram in ngrams_of(word, shortest, longest):
            found[ngram] = found.get(ngram, 0.0) + weight
    return found


def heaviest(words: Iterable[tuple[str, float]], shortest: int, longest: int) -> dict[str, float]:
    """Which n-grams occur in these words, each with the weight of the heaviest word that has it."""
    found: dict[str, float] = {}
    for word, weight in words:
        for ngram in ngrams_of(word, shortest, longest):
            found[ngram] = max(weight, found.get(ngram, 0.0))
    return found
