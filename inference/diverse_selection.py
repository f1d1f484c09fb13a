"""Selection of texts that are uncertain and unlike each other.

The method is maximal marginal relevance (Carbonell and Goldstein 1998): texts are chosen one by one, each for its rank by
uncertainty and for its distance to the nearest text chosen before. Near copies of a chosen text come after all other texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from musamma.data.errors import InputError

#: Cosine from which two texts are near copies of each other. Measured with Nawah on 60 articles of Khabar: the most similar two
#: articles have 0.52. An article and itself without one sentence have at least 0.84, and with another header 0.95.
COPY_SIMILARITY = 0.7
#: Weight of diversity against uncertainty.
DIVERSITY = 0.3

# Number of vectors converted to float32 at a time.
_BLOCK = 16_384
# Values that differ by less are equal apart from rounding.
_TIE = 1e-9
# A vector that is nearer to the mean, relative to its length, differs from it only by the rounding of float16.
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen text.

    Args:
        index: its index in the pool.
        standing: share of the other texts in the pool that are less uncertain, in [0, 1].
        similarity: cosine to the most similar text that was chosen or annotated before; ``None`` without one, or without vectors.
    """

    index: int
    standing: float
    similarity: float | None = None

    @property
    def is_near_copy(self) -> bool:
        """True if a text chosen or annotated before is almost the same."""
        return self.similarity is not None and self.similarity >= COPY_SIMILARITY


def check_diversity(diversity: float) -> None:
    """Check the weight of diversity.

    Raises:
        InputError: it is not in [0, 1].
    """
    if not 0.0 <= diversity <= 1.0:
        raise InputError(f"`diversity={diversity:g}`", expected="a number from 0 to 1")


def select_diverse(
    scores: np.ndarray,
    vectors: np.ndarray | None,
    count: int,
    *,
    diversity: float = DIVERSITY,
    annotated: np.ndarray | None = None,
) -> list[Choice]:
    """Select texts, the best first. The result is the same for the same arguments; of equal texts, the first in the pool is taken.

    Args:
        scores: the uncertainty of every text; (texts,). Only their order counts.
        vectors: a vector of every text, of any floating type; (texts, dimensions). Cosines are taken after the mean of the pool
            is subtracted, since vectors of the same encoder have much in common. ``None`` ranks by ``scores`` alone.
        count: number of texts to select; all if the pool is smaller.
        diversity: weight of the distance, in [0, 1]: 0 ranks by ``scores`` alone, near copies included, and 1 by distance alone.
        annotated: vectors of texts that are annotated already, to which the chosen ones shall be unlike as well;
            (annotated texts, dimensions).

    Raises:
        InputError: ``diversity`` is not in [0, 1].
    """
    check_diversity(diversity)
    texts = len(scores)
    if not texts:
        return []
    scores = np.asarray(scores, dtype=np.float64)
    standing = np.searchsorted(np.sort(scores), scores) / max(1, texts - 1)
    if vectors is None or diversity == 0.0:
        best = np.argsort(-scores, kind="stable")[:count]
        return [Choice(int(index), float(standing[index])) for index in best]
    space = _CentredVectors(vectors)
    neighbours = [] if annotated is None else [space.centre(vector) for vector in annotated]
    nearest, has_neighbour = space.highest_cosines(neighbours), bool(neighbours)
    available = np.ones(texts, dtype=bool)
    choices: list[Choice] = []
    for _ in range(min(count, texts)):
        values = (1.0 - diversity) * standing + diversity * (1.0 - nearest) / 2.0
        # The values lie in [0, 1], so near copies come after all others.
        values[nearest >= COPY_SIMILARITY] -= 1.0
        values[~available] = -np.inf
        ties = np.flatnonzero(values >= values.max() - _TIE)
        index = int(ties[standing[ties].argmax()])
        choices.append(Choice(index, float(standing[index]), float(nearest[index]) if has_neighbour else None))
        available[index], has_neighbour = False, True
        np.maximum(nearest, space.highest_cosines([space.centre(vectors[index])]), out=nearest)
    return choices


class _CentredVectors:
    """Vectors from which their mean is subtracted. They stay in their own type; float32 copies are made in blocks."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors
        self._mean = sum(block.sum(axis=0, dtype=np.float64) for _, block in self._blocks()) / len(vectors)
        self._lengths = np.empty(len(vectors))
        for part, block in self._blocks():
            self._lengths[part] = self._find_lengths(block)

    def centre(self, vector: np.ndarray) -> np.ndarray:
        """Subtract the mean from a vector and scale it to length 1; zeros for a vector that equals the mean."""
        vector = vector.astype(np.float32)[None]
        return ((vector - self._mean) / self._find_lengths(vector)[:, None])[0]

    def highest_cosines(self, units: Sequence[np.ndarray]) -> np.ndarray:
        """Return the cosine of every vector to the most similar one of :meth:`centre`; float64, (vectors,). -1 without any."""
        highest = np.full(len(self._vectors), -1.0)
        for part, block in self._blocks() if units else ():
            for unit in units:
                products = (block @ unit.astype(np.float32)).astype(np.float64)
                np.maximum(highest[part], (products - self._mean @ unit) / self._lengths[part], out=highest[part])
        return highest

    def _find_lengths(self, block: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(block - self._mean, axis=1)
        lengths[lengths <= _ROUNDING * np.linalg.norm(block, axis=1)] = np.inf
        return lengths

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(self._vectors), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield part, self._vectors[part].astype(np.float32)
