"""spaCy's ``DocBin``, a file ``.spacy``; needs spaCy.

``doc.ents`` are the names, and the spans of all groups of ``doc.spans`` names inside names. ``doc.user_data`` may hold ``id`` and ``meta``.
The file is loaded into memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from musamma.data.document import Document, parse_id
from musamma.data.errors import InputError, first_line, not_installed, not_readable
from musamma.data.files import atomic_write
from musamma.data.formats.tokens import add_space_tokens, cut_tokens, trim_names
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem
from musamma.data.span_repair import CandidateSpan, RawDocument

#: The group of ``doc.spans`` in which nested names are written.
NESTED_GROUP = "nested"


def _import_spacy(where: str) -> Any:
    try:
        import spacy.tokens
        import spacy.vocab
    except ImportError:
        raise not_installed("spaCy", extra="spacy", purpose="reads and writes .spacy files", where=where) from None
    return spacy


def read_docbin(path: Path, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the documents of a file.

    Raises:
        InputError: spaCy is not installed, or the file is not a ``DocBin``.
    """
    spacy = _import_spacy(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise not_readable(path, error) from error
    stem = file_stem(Path(path.name))
    for number, doc in enumerate(_read_docs(spacy, content, path)):
        yield _convert_doc(doc, f"{stem}-{number:05d}", f"{path}, document {number + 1}", audit)


def _read_docs(spacy: Any, content: bytes, path: Path) -> Iterator[Any]:
    try:
        yield from spacy.tokens.DocBin().from_bytes(content).get_docs(spacy.vocab.Vocab())
    # A damaged file raises errors of zlib, msgpack, numpy and spaCy, of many classes.
    except Exception as error:
        raise InputError(
            f"not readable as a DocBin: {first_line(error, limit=200)}",
            where=str(path),
            expected="a file that DocBin.to_disk wrote",
            remedy="write it again",
        ) from error


def _convert_doc(doc: Any, default_id: str, where: str, audit: ImportAudit) -> RawDocument:
    id = parse_id(doc.user_data.get("id"), default_id, where)
    meta = _to_lists(doc.user_data.get("meta") or {})
    if not isinstance(meta, dict) or not all(isinstance(key, str) for key in meta):
        raise InputError(f"user_data['meta'] is {meta!r:.60}", where=where, expected="an object")
    if not doc.has_annotation("ENT_IOB") and not doc.spans:
        audit.add("no_annotation", document=id, where=where, detail="neither entities nor groups of spans")
    nested = [span for group in doc.spans.values() for span in group]
    linked = sum(bool(span.kb_id_) for span in (*doc.ents, *nested))
    audit.add("ignored_annotation", document=id, where=where, detail=f"{linked} links", count=linked)
    if doc.cats:
        detail = f"{len(doc.cats)} categories of the text"
        audit.add("ignored_annotation", document=id, where=where, detail=detail, count=len(doc.cats))
    outer, inner = (tuple(_convert_span(span, where) for span in spans) for spans in (doc.ents, nested))
    return RawDocument(id, doc.text, outer, inner, meta, where)


def _convert_span(span: Any, where: str) -> CandidateSpan:
    if not span.label_:
        return CandidateSpan(span.start_char, span.end_char, "", None, where, "no_label", "a span without label")
    return CandidateSpan(span.start_char, span.end_char, span.label_, None, where)


def _to_lists(value: Any) -> Any:
    """Convert the tuples, in which spaCy returns lists, to lists."""
    if isinstance(value, dict):
        return {key: _to_lists(item) for key, item in value.items()}
    return [_to_lists(item) for item in value] if isinstance(value, list | tuple) else value


def write_docbin(documents: Iterable[Document], path: Path, audit: ImportAudit) -> None:
    """Write a file, atomically. Nested names become the group :data:`NESTED_GROUP` of ``doc.spans``.

    The tokens end at the borders of words and names, so that each name is a span of tokens.

    Raises:
        InputError: spaCy is not installed.
    """
    spacy = _import_spacy(str(path))
    vocab = spacy.vocab.Vocab()
    store = spacy.tokens.DocBin(attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True)
    for document in documents:
        tokens = cut_tokens(document)
        spaced = add_space_tokens(document.text, tokens)
        words = [document.text[start:end] for start, end, _ in spaced]
        doc = spacy.tokens.Doc(vocab, words=words, spaces=[space for _, _, space in spaced])
        layers = [
            [
                doc.char_span(name.start, name.end, label=name.label)
                for name in trim_names(document, names, tokens, audit)
            ]
            for names in (document.spans, document.nested)
        ]
        doc.set_ents(layers[0])
        if layers[1]:
            doc.spans[NESTED_GROUP] = layers[1]
        doc.user_data["id"] = document.id
        if document.meta:
            doc.user_data["meta"] = dict(document.meta)
        store.add(doc)
    with atomic_write(path) as partial:
        partial.write_bytes(store.to_bytes())
