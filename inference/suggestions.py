"""Suggestions of texts to annotate next: a pool of texts is scored by uncertainty, and diverse texts of high scores are chosen.

The pool is read once. Its texts and predicted names go to a temporary file; scores and float16 vectors stay in memory.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain, islice, tee
from typing import Any

import numpy as np
import orjson

from musamma.data.arabic import strip_marks
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.options import ReadOptions
from musamma.data.import_audit import ImportAudit
from musamma.data.records import to_json
from musamma.inference.batch_run import GROUP_SIZE, group_records
from musamma.inference.diverse_selection import DIVERSITY, Choice, check_diversity, select_diverse
from musamma.inference.inputs import Record
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.uncertainty import choose_measure, describe_words, measure_words, tag_probabilities
from musamma.models.predictor import Predictor
from musamma.models.runtimes.runtime import VectorRuntime

#: Minimum number of words of a text to suggest. The mean over a few words is high by chance.
MIN_WORDS = 5
#: The key of ``meta`` that holds rank, score, measure and reason.
META_KEY = "suggestion"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredText:
    """A text with its uncertainty.

    Args:
        document: the text with the names that the first model finds in it.
        words: number of words.
        score: the mean of the measure over the words; 0 without words.
        reason: the words with the highest values.
        vector: the vector of the text; float32, (dimensions,).
    """

    document: Document
    words: int
    score: float
    reason: str
    vector: np.ndarray | None


class Scorer:
    """Scores texts by the uncertainty of one or several models.

    Args:
        predictors: the models, which must have the same labels. The names come from the first one, the vectors from the first one
            that is not exported.
        names: what to call the models in errors.
        measure: see :data:`musamma.inference.uncertainty.MEASURES`; by default the disagreement of several models, and the
            confidence of one.
        vectors: compute vectors.

    Raises:
        InputError: the models have different labels, none of them gives vectors, or the measure does not exist or needs several
            models.
    """

    def __init__(
        self, predictors: Sequence[Predictor], *, names: Sequence[str], measure: str | None = None, vectors: bool = True
    ) -> None:
        self.measure = choose_measure(measure, len(predictors))
        self._predictors, self._tag_set = predictors, predictors[0].tag_set
        for name, predictor in zip(names, predictors, strict=True):
            if predictor.tag_set != self._tag_set:
                raise InputError(
                    f"the labels {', '.join(predictor.tag_set.labels)}",
                    where=name,
                    expected=f"those of {names[0]}: {', '.join(self._tag_set.labels)}",
                    remedy="give models of the same labels, such as the seeds of a run",
                )
        self._vector_model = -1
        if vectors:
            able = [index for index, item in enumerate(predictors) if isinstance(item.runtime, VectorRuntime)]
            if not able:
                raise InputError(
                    "runs without PyTorch here, and so gives no vectors of texts",
                    where=names[0],
                    expected="a checkpoint and PyTorch, to tell near copies from other texts",
                    remedy="give the checkpoint of an exported model, pip install 'musamma[train]' if it is missing, or give `diversity=0`",
                )
            self._vector_model = able[0]

    def score_groups(self, groups: Iterable[list[Document]]) -> Iterator[list[ScoredText]]:
        """Yield groups of documents with their scores, in order."""
        streams = [
            predictor.classify_groups(stream, vectors=index == self._vector_model)
            for index, (predictor, stream) in enumerate(
                zip(self._predictors, tee(groups, len(self._predictors)), strict=True)
            )
        ]
        for group in zip(*streams, strict=True):
            yield [self._score(classified) for classified in zip(*group, strict=True)]

    def score(self, documents: Iterable[Document]) -> Iterator[ScoredText]:
        """Yield documents with their scores, in order."""
        return chain.from_iterable(self.score_groups(_form_groups(documents)))

    def compute_vectors(self, documents: Iterable[Document]) -> Iterator[np.ndarray]:
        """Yield the vectors of documents, in order; float32, (dimensions,). Only the model that gives them is run."""
        predictor = self._predictors[self._vector_model]
        for group in predictor.classify_groups(_form_groups(documents), vectors=True):
            yield from (vector for _, _, vector in group if vector is not None)

    def _score(self, classified: Sequence[Any]) -> ScoredText:
        """Score one document, classified by every model."""
        first, logits, _ = classified[0]
        predictor = self._predictors[0]
        document = predictor.decode(first, logits, predictor.calibration)
        words, probabilities = self._align_words(classified)
        values = measure_words(probabilities, document, words, self._tag_set, measure=self.measure)
        return ScoredText(
            document=document,
            words=len(words),
            score=float(values.mean()) if len(values) else 0.0,
            reason=describe_words(document.text, words, values, probabilities.mean(axis=0), self._tag_set.tags),
            vector=None if self._vector_model < 0 else classified[self._vector_model][2],
        )

    def _align_words(self, classified: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the words that all models read, and their tag probabilities by model, (models, words, tags).

        A word that a tokenizer normalises to nothing is missing for the models with that tokenizer.
        """
        common = set.intersection(*(set(tokenized.words[:, 0].tolist()) for tokenized, _, _ in classified))
        starts = np.array(sorted(common), dtype=np.int64)
        words = classified[0][0].words
        probabilities = []
        for predictor, (tokenized, logits, _) in zip(self._predictors, classified, strict=True):
            rows = np.searchsorted(tokenized.words[:, 0], starts)
            temperature = predictor.calibration.tag_temperature
            probabilities.append(tag_probabilities(logits.tags[rows], temperature=temperature))
        return words[np.searchsorted(words[:, 0], starts)], np.stack(probabilities)


def _form_groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    stream = iter(documents)
    return iter(lambda: list(islice(stream, GROUP_SIZE)), [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestions:
    """The chosen texts, and what became of the others.

    Args:
        documents: the chosen texts with predicted names, the best first; ``meta`` has the reason under :data:`META_KEY`.
        measure: the measure they are ranked by.
        pool: number of texts they were chosen from.
        copies: number of further texts that occur twice in the pool or are annotated already.
        short: number of further texts with too few words.
        rejected: number of records that are not documents.
        near_copies: number of chosen texts that are near copies of other ones.
        first_reject: the error of the first such record.
    """

    documents: list[Document]
    measure: str
    pool: int
    copies: int
    short: int
    rejected: int
    near_copies: int
    first_reject: InputError | None


def load_scorer(
    models: Sequence[str],
    *,
    measure: str | None = None,
    vectors: bool = True,
    device: str | None = None,
    batch_tokens: int | None = None,
) -> Scorer:
    """Load models into a scorer.

    Args:
        models: folders, names of models included in the project, or hub ids.
        measure, vectors: see :class:`Scorer`.
        device, batch_tokens: see :func:`musamma.models.loading.load_predictor`.

    Raises:
        InputError: a model cannot be loaded, or the models cannot be used together.
    """
    # Imported here so that errors in inputs and outputs are reported before torch is loaded, which takes seconds.
    from musamma.models.loading import load_predictor

    predictors = [load_predictor(model, device=device, batch_tokens=batch_tokens) for model in models]
    return Scorer(predictors, names=models, measure=measure, vectors=vectors)


def suggest(
    records: Iterable[Record],
    load: Callable[[], Scorer],
    *,
    count: int,
    diversity: float = DIVERSITY,
    min_words: int = MIN_WORDS,
    annotated: Iterable[Document] = (),
    skip: bool = False,
    progress_bar: ProgressBar | None = None,
) -> Suggestions:
    """Choose the texts of a pool to annotate next.

    Args:
        records: the pool, from :func:`musamma.inference.inputs.read_inputs`. Names in it are replaced by predicted ones.
        load: loads the models; called once, when the first records have been read. Vectors are needed unless ``diversity`` is 0.
        count: number of texts to choose; all if the pool is smaller.
        diversity: see :func:`musamma.inference.diverse_selection.select_diverse`.
        min_words: minimum number of words of a text.
        annotated: texts that are annotated already. They are left out of the pool, and the chosen ones are unlike them.
        skip: leave out records that are not documents, and count them, instead of stopping at the first one.
        progress_bar: shows the progress.

    Raises:
        InputError: a record is not a document, the models cannot be used, there is no text to choose from, or there is no room
            for the temporary file.
    """
    check_diversity(diversity)
    seen: set[bytes] = set()
    known = [document.with_spans(()) for document in annotated if _add_text(seen, document.text)]
    with closing(_Pool(min_words=min_words)) as pool:
        reader = _PoolReader(records, pool, seen, skip=skip)
        first = next(reader.groups, None)
        scorer = load()
        taken = list(scorer.compute_vectors(known)) if diversity else []
        groups = chain([] if first is None else [first], reader.groups)
        for scored_texts in scorer.score_groups(groups):
            pool.add(scored_texts)
            if progress_bar is not None:
                progress_bar.show(
                    read=reader.bytes_read.popleft(), documents=pool.texts, names=pool.names, rejected=pool.rejected
                )
        if not len(pool.scores):
            raise InputError(
                f"no text to suggest among {pool.texts + pool.copies:,}"
                + (f", of which {pool.copies:,} are annotated already or copies" if pool.copies else ""),
                expected=f"texts of {min_words} words or more",
                remedy="give a smaller `min_words`, or other texts",
            )
        choices = select_diverse(
            np.frombuffer(pool.scores, dtype=np.float64),
            pool.vectors() if diversity else None,
            count,
            diversity=diversity,
            annotated=np.stack(taken) if taken else None,
        )
        return Suggestions(
            documents=[
                _describe_choice(*pool.read(choice.index), choice, rank=rank, scorer=scorer, pool=pool)
                for rank, choice in enumerate(choices, start=1)
            ],
            measure=scorer.measure,
            pool=len(pool.scores),
            copies=pool.copies,
            short=pool.short,
            rejected=pool.rejected,
            near_copies=sum(choice.is_near_copy for choice in choices),
            first_reject=pool.first_reject,
        )


def read_annotated(paths: Iterable[str]) -> Iterator[Document]:
    """Read the texts of annotated files of any format. Their names do not matter, so no change to them is an error.

    Raises:
        InputError: a file cannot be read.
    """
    for path in paths:
        options = ReadOptions(overlaps="nested", repeated_ids="count", missing_tags="O")
        yield from read_documents(path, options=options, audit=ImportAudit(limit=0))


def _describe_choice(
    document: Document, reason: str, choice: Choice, *, rank: int, scorer: Scorer, pool: _Pool
) -> Document:
    score = round(pool.scores[choice.index], 6)
    parts = [f"{scorer.measure} {score:.4f} per word, above {100 * choice.standing:.0f}% of the pool"]
    if reason:
        parts.append(f"least certain: {reason}")
    if choice.is_near_copy:
        parts.append("near copy of another text that is chosen or annotated")
    entry = {"rank": rank, "score": score, "measure": scorer.measure, "reason": "; ".join(parts)}
    return replace(document, meta={**document.meta, META_KEY: entry})


def _add_text(seen: set[bytes], text: str) -> bool:
    """Add a text; return whether it is new. Vowel marks and white space do not count."""
    key = blake2b(strip_marks(text).encode("utf-8", errors="surrogatepass"), digest_size=16).digest()
    if key in seen:
        return False
    seen.add(key)
    return True


class _PoolReader:
    """Reads groups of the documents that the pool does not have yet, a few ahead of the group being scored.

    Attributes:
        groups: the groups.
        bytes_read: for each group that is being scored, the bytes of all inputs up to its end.
    """

    def __init__(self, records: Iterable[Record], pool: _Pool, seen: set[bytes], *, skip: bool) -> None:
        self._records, self._pool, self._seen, self._skip = records, pool, seen, skip
        self.groups = self._read_groups()
        self.bytes_read: deque[int] = deque()

    def _read_groups(self) -> Iterator[list[Document]]:
        pool = self._pool
        for group in group_records(self._records, skip=self._skip):
            documents = []
            for record in group:
                if record.document is None:
                    pool.rejected += 1
                    pool.first_reject = pool.first_reject or record.error
                elif _add_text(self._seen, record.document.text):
                    documents.append(record.document)
                else:
                    pool.copies += 1
            self.bytes_read.append(group[-1].bytes_read)
            yield documents


@dataclass(slots=True)
class _Pool:
    """The scored texts: scores and vectors in memory, texts and reasons in a temporary file."""

    min_words: int
    scores: array[float] = field(default_factory=lambda: array("d"))
    texts: int = 0
    names: int = 0
    short: int = 0
    copies: int = 0
    rejected: int = 0
    first_reject: InputError | None = None
    _vectors: bytearray = field(default_factory=bytearray)
    _ends: array[int] = field(default_factory=lambda: array("q", [0]))
    _file: Any = field(default_factory=tempfile.TemporaryFile)

    def add(self, scored_texts: Iterable[ScoredText]) -> None:
        """Add texts; those with too few words are counted only.

        Raises:
            InputError: there is no room for them.
        """
        for scored in scored_texts:
            self.texts += 1
            self.names += len(scored.document.spans)
            if scored.words < self.min_words:
                self.short += 1
                continue
            line = to_json([scored.document.to_dict(), scored.reason])
            try:
                self._file.write(line)
            except OSError as error:
                raise InputError(
                    f"no room for the texts of the pool: {error.strerror}",
                    where=tempfile.gettempdir(),
                    expected="room for all texts in the folder for temporary files",
                    remedy="set TMPDIR to a larger folder",
                ) from error
            self._ends.append(self._ends[-1] + len(line))
            self.scores.append(scored.score)
            if scored.vector is not None:
                self._vectors += scored.vector.astype(np.float16).tobytes()

    def vectors(self) -> np.ndarray:
        """The vectors of the texts; float16, (texts, dimensions)."""
        return np.frombuffer(self._vectors, dtype=np.float16).reshape(len(self.scores), -1)

    def read(self, index: int) -> tuple[Document, str]:
        """Return a text with its predicted names, and its reason."""
        self._file.seek(self._ends[index])
        record, reason = orjson.loads(self._file.read(self._ends[index + 1] - self._ends[index]))
        return Document.from_dict(record, where="the pool"), reason

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()
