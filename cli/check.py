"""``musamma check``: validate annotation, list inconsistencies, and compare it with a second annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from musamma.cli.convert import with_progress
from musamma.data.errors import InputError, ThresholdError
from musamma.data.files import check_outputs, write_json
from musamma.data.formats.options import FORMATS, ReadOptions
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import SCHEMAS, load_schema

if TYPE_CHECKING:
    from musamma.data.consistency import CorpusReport
    from musamma.data.document import Document
    from musamma.evaluation.agreement import Agreement

_EXAMPLES = 5
_IMPORT_EXAMPLES = 2


def check(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Files, folders or hf:NAME\\[@CONFIG][:SPLIT].")
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
        Path | None, typer.Option("--json", help="Write all findings, with ids, to this file.")
    ] = None,
) -> None:
    """Validate and audit annotation: counts, borders, nested names that cross, repeated texts, labels, forms with two labels or missed.

    Fails (exit status 1) on labels outside the schema, ids that occur twice, and spans that cannot be kept unchanged.
    """
    from musamma.data.consistency import check_corpus
    from musamma.data.corpus_files import read_documents

    check_outputs([("json", json_file)], [*corpora, second or ""])
    labels = None if schema is None else load_schema(schema)
    options = ReadOptions(overlaps="nested", repeated_ids="count", missing_tags="O")
    documents: list[Document] = []
    audits = []
    for corpus in corpora:
        audit = ImportAudit(source=corpus)
        documents += with_progress(read_documents(corpus, format=from_format, options=options, audit=audit), corpus)
        audits.append(audit)
    report = check_corpus(documents, audits=audits, labels=labels)
    compared = None if second is None else _compare(documents, second, from_format, options)
    if json_file is not None:
        write_json(report.to_dict() | ({} if compared is None else {"agreement": compared.to_dict()}), json_file)
    console = Console(highlight=False, markup=False)
    _print_report(report, console)
    if compared is not None:
        _print_agreement(compared, documents, console)
    if problems := report.find_problems(schema_name=schema, max_loss=max_loss):
        raise ThresholdError("; ".join(problems))


def _compare(documents: Sequence[Document], second: str, format: str | None, options: ReadOptions) -> Agreement:
    from musamma.data.corpus_files import read_documents
    from musamma.evaluation.agreement import measure_agreement

    try:
        return measure_agreement(documents, read_documents(second, format=format, options=options))
    except InputError as error:
        where = f"{second}, {error.where}" if error.where else second
        raise error.replace(where=where, remedy="give a second annotation of the same texts") from None


def _print_report(report: CorpusReport, console: Console) -> None:
    from musamma.data.consistency import NORMAL_BORDERS

    nested = report.count_nested_labels()
    labels = Table("label", "spans", "nested", title=f"{len(report.documents)} documents")
    for label, count in report.count_labels().most_common():
        labels.add_row(label, str(count - nested[label]), str(nested[label]))
    console.print(labels)
    findings = Table("finding", "count", Column("examples", overflow="fold"))
    for audit in report.audits:
        if audit.offset_unit:
            findings.add_row("offsets", audit.offset_unit, audit.offset_reason)
        for kind, count in sorted(audit.kinds.items()):
            examples = [finding.describe() for finding in audit.find_examples(kind)]
            if count:
                findings.add_row(kind, str(count), "\n".join(examples[:_IMPORT_EXAMPLES]))
    for kind, count in sorted(Counter(issue.kind for issue in report.border_issues).items()):
        examples = [f"{issue.document}: {issue.surface}" for issue in report.border_issues if issue.kind == kind]
        findings.add_row(kind, str(count), "" if kind in NORMAL_BORDERS else "\n".join(examples[:_EXAMPLES]))
    repeated = [" = ".join(ids) for ids in report.repeated_texts]
    ambiguous = [
        f"{form.surface}: {', '.join(f'{len(ids)} {label}' for label, ids in form.tagged.items())}"
        for form in report.ambiguous_forms
    ]
    missed = [
        f"{form.surface}: {sum(map(len, form.tagged.values()))} tagged, {len(form.missed)} not,"
        f" in {', '.join(sorted(set(form.missed))[:3])}"
        for form in report.missed_forms
    ]
    crossing = [pair.describe() for pair in report.crossing_names]
    kinds = {"repeated_texts": repeated, "crossing_nested": crossing, "tagged_two_ways": ambiguous, "missed": missed}
    for name, examples in kinds.items():
        findings.add_row(name, str(len(examples)), "\n".join(examples[:_EXAMPLES]))
    console.print(findings)


def _print_agreement(compared: Agreement, documents: Sequence[Document], console: Console) -> None:
    texts = {document.id: document.text for document in documents}
    strict = compared.scores.strict
    table = Table("label", "first", "second", "F1", title=f"agreement on {compared.scores.documents} documents")
    for label, counts in (*strict.per_label.items(), ("all", strict.micro)):
        table.add_row(label, str(counts.support), str(counts.predicted), f"{100 * counts.f1:.1f}")
    console.print(table)
    console.print(
        f"Cohen's kappa over the labels of {compared.words} words: {compared.kappa:.3f};"
        f" over the words that are part of a name in either annotation: {compared.kappa_names:.3f}"
    )
    kinds = Table("disagreement", "count", Column("examples (first / second)", overflow="fold"))
    for kind, count in Counter(case.kind for case in compared.disagreements).most_common():
        examples = [
            f"{case.document}: "
            + " / ".join(
                "-" if span is None else f"{texts[case.document][span.start : span.end]} {span.label}"
                for span in (case.gold, case.predicted)
            )
            for case in compared.disagreements
            if case.kind == kind
        ]
        kinds.add_row(kind, str(count), "\n".join(examples[:_EXAMPLES]))
    console.print(kinds)
