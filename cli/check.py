"""``musamma check``: is this annotation valid, where does it contradict itself, and would a second annotator agree?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from musamma.cli.convert import shown
from musamma.data.consistency import (
    BorderIssue,
    SurfaceForm,
    find_ambiguous_forms,
    find_border_issues,
    find_missed_forms,
    find_repeated_texts,
    find_unknown_labels,
)
from musamma.data.document import Document
from musamma.data.errors import InputError, ThresholdError
from musamma.data.files import write_json
from musamma.data.formats import FORMATS, ReadOptions, read_documents
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import SCHEMAS, load_schema
from musamma.evaluation.agreement import Agreement, measure_agreement

_EXAMPLES = 5
#: What is how a corpus is annotated, and no reason to look again.
_PLAIN = ("behind_proclitic", "before_suffix")


@dataclass(frozen=True, slots=True)
class Survey:
    """All that ``musamma check`` found."""

    documents: Sequence[Document]
    audits: Sequence[ImportAudit]
    remarks: Sequence[BorderIssue]
    two_ways: Sequence[SurfaceForm]
    missed: Sequence[SurfaceForm]
    repeated: Sequence[Sequence[str]]
    outside: Mapping[str, Sequence[str]]
    agreement: Agreement | None = None

    def to_dict(self) -> dict[str, Any]:
        """The survey as a JSON object."""
        return {
            "documents": len(self.documents),
            "spans": sum(len(document.spans) for document in self.documents),
            "nested": sum(len(document.nested) for document in self.documents),
            "labels": dict(_labels(self.documents)),
            "borders": dict(Counter(remark.kind for remark in self.remarks)),
            "outside_schema": {label: list(ids) for label, ids in self.outside.items()},
            "repeated_texts": [list(ids) for ids in self.repeated],
            "tagged_two_ways": [form.to_dict() for form in self.two_ways],
            "missed": [form.to_dict() for form in self.missed],
            "remarks": [remark.to_dict() for remark in self.remarks],
            "imports": [audit.to_dict() for audit in self.audits],
            **({} if self.agreement is None else {"agreement": self.agreement.to_dict()}),
        }


def check(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Files, folders or hf:NAME[@CONFIG][:SPLIT].")
    ],
    schema: Annotated[
        str | None, typer.Option(help=f"The labels allowed: {', '.join(SCHEMAS)}, or a YAML or JSON file with a list.")
    ] = None,
    from_format: Annotated[
        str | None, typer.Option("--from", help=f"Format, guessed if not given: {', '.join(FORMATS)}.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Fail if a larger share of a corpus's spans is dropped or snapped.")
    ] = 0.0,
    second: Annotated[
        str | None,
        typer.Option(
            metavar="CORPUS", help="The same texts, or some of them, annotated by someone else: print the agreement."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything found, with ids, to this file.")
    ] = None,
) -> None:
    """Validate and audit annotation: counts, borders, repeated texts, labels, forms tagged two ways or missed.

    Fails (exit status 1) on labels outside the schema, ids that come twice, and spans that cannot be kept as they are.
    """
    allowed = None if schema is None else load_schema(schema)
    options = ReadOptions(overlaps="nested", repeated_ids="count", missing_tags="O")
    documents: list[Document] = []
    audits = []
    for corpus in corpora:
        audit = ImportAudit(source=corpus)
        documents += shown(read_documents(corpus, format=from_format, options=options, audit=audit), corpus)
        audits.append(audit)
    survey = Survey(
        documents,
        audits,
        list(find_border_issues(documents)),
        find_ambiguous_forms(documents),
        find_missed_forms(documents),
        find_repeated_texts(documents),
        {} if allowed is None else find_unknown_labels(documents, allowed),
        None if second is None else _agreement(documents, second, from_format, options),
    )
    if json_file is not None:
        write_json(survey.to_dict(), json_file)
    _print(survey)
    if problems := _problems(survey, schema, max_loss):
        raise ThresholdError("; ".join(problems))


def _agreement(documents: Sequence[Document], second: str, format: str | None, options: ReadOptions) -> Agreement:
    try:
        return measure_agreement(documents, read_documents(second, format=format, options=options))
    except InputError as error:
        raise InputError(
            error.found,
            where=f"{second}, {error.where}" if error.where else second,
            expected=error.expected,
            remedy="give the second annotation of these very texts",
        ) from None


def _labels(documents: Sequence[Document]) -> Counter[str]:
    return Counter(span.label for document in documents for span in (*document.spans, *document.nested))


def _problems(survey: Survey, schema: str | None, max_loss: float) -> list[str]:
    problems = []
    for label, ids in survey.outside.items():
        problems.append(f"label {label!r} in {len(ids)} documents, first {ids[0]!r}, is not in the schema {schema}")
    owners = Counter(document.id for document in survey.documents)
    if repeated := [id for id, count in owners.items() if count > 1]:
        problems.append(f"{len(repeated)} ids come more than once, first {repeated[0]!r}")
    for audit in survey.audits:
        try:
            audit.check_loss(max_loss)
        except ThresholdError as error:
            problems.append(str(error))
    return problems


def _print(survey: Survey) -> None:
    console = Console(highlight=False, markup=False)
    counts = Table("label", "spans", "nested", title=f"{len(survey.documents)} documents")
    nested = Counter(span.label for document in survey.documents for span in document.nested)
    for label, count in _labels(survey.documents).most_common():
        counts.add_row(label, str(count - nested[label]), str(nested[label]))
    console.print(counts)
    findings = Table("finding", "count", Column("examples", overflow="fold"))
    for audit in survey.audits:
        for kind, count in sorted(audit.kinds.items()):
            listed = [f"{f.where or f.document}: {f.detail}" for f in audit.findings if f.kind == kind]
            if count:
                findings.add_row(kind, str(count), "\n".join(listed[:2]))
    borders = Counter(remark.kind for remark in survey.remarks)
    for kind, count in sorted(borders.items()):
        shown_remarks = [f"{r.document}: {r.surface}" for r in survey.remarks if r.kind == kind]
        findings.add_row(kind, str(count), "" if kind in _PLAIN else "\n".join(shown_remarks[:_EXAMPLES]))
    groups = [" = ".join(ids) for ids in survey.repeated]
    two_ways = [
        f"{f.surface}: {', '.join(f'{len(i)} {label}' for label, i in f.tagged.items())}" for f in survey.two_ways
    ]
    missed = [
        f"{f.surface}: {sum(map(len, f.tagged.values()))} tagged, {len(f.missed)} not, in {', '.join(sorted(set(f.missed))[:3])}"
        for f in survey.missed
    ]
    for name, examples in (("repeated_texts", groups), ("tagged_two_ways", two_ways), ("missed", missed)):
        findings.add_row(name, str(len(examples)), "\n".join(examples[:_EXAMPLES]))
    console.print(findings)
    if survey.agreement is not None:
        _print_agreement(survey.agreement, survey.documents, console)


def _print_agreement(found: Agreement, documents: Sequence[Document], console: Console) -> None:
    texts = {document.id: document.text for document in documents}
    figures = found.scores.strict
    table = Table("label", "first", "second", "F1", title=f"agreement on {found.scores.documents} documents")
    for label, counts in (*figures.per_label.items(), ("all", figures.micro)):
        table.add_row(label, str(counts.support), str(counts.predicted), f"{100 * counts.f1:.1f}")
    console.print(table)
    console.print(
        f"Cohen's kappa over the labels of {found.words} words: {found.kappa:.3f};"
        f" over the words that one of the two holds for part of a name: {found.kappa_names:.3f}"
    )
    kinds = Table("disagreement", "count", Column("examples (first / second)", overflow="fold"))
    for kind, count in Counter(case.kind for case in found.disagreements).most_common():
        examples = [
            f"{case.document}: "
            + " / ".join(
                "-" if span is None else f"{texts[case.document][span.start : span.end]} {span.label}"
                for span in (case.gold, case.predicted)
            )
            for case in found.disagreements
            if case.kind == kind
        ]
        kinds.add_row(kind, str(count), "\n".join(examples[:_EXAMPLES]))
    console.print(kinds)
