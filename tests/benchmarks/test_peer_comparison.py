"""Comparison of systems: checked offsets into the raw text, passages that a system can take, and the table of scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.corpus_files import FORMATS, write_documents
from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.errors import InputError
from musamma.evaluation.evaluation_inputs import LabelRenaming
from tests.benchmarks.peer_modules import (
    PredictedName,
    TextPrediction,
    compare_systems,
    ours,
    predicted_names,
    score_rows,
    text_passages,
)
from tests.support import make_document, surfaces

TEXT = "وصل محمد السعيد إلى بيروت، ثم غادر إلى بغداد."
ARABIC = st.text(alphabet="ابغد محوت.،؟!\n\u064b\u0640\u200f (5", max_size=80)

# Offsets


@given(ARABIC)
def test_word_offsets_are_those_of_the_matches(text: str) -> None:
    for pattern in (r"\S+", r"\w+|[^\w\s]"):
        matches = list(re.finditer(pattern, text))
        assert predicted_names.find_word_offsets(text, [m[0] for m in matches]) == [m.span() for m in matches]


def test_a_rewritten_word_is_an_error() -> None:
    with pytest.raises(InputError, match=r"document 'd': the word 'الى' does not follow at character 15"):
        predicted_names.find_word_offsets(TEXT, ["وصل", "محمد", "السعيد", "الى"], where="document 'd'")


def test_a_skipped_word_is_an_error() -> None:
    with pytest.raises(InputError, match="'إلى' does not follow"):
        predicted_names.find_word_offsets(TEXT, ["وصل", "محمد", "إلى"])


def test_tags_are_decoded_as_in_the_shared_tasks() -> None:
    words = TEXT.replace("،", " ،").split()[:8]
    borders = predicted_names.find_word_offsets(TEXT, words)
    tags = ["O", "B-PERS", "I-PERS", "O", "I-LOC", "O", "B-PERS", "I-LOC"]
    found = predicted_names.decode_word_tags(borders, tags)
    assert [(TEXT[name.start : name.end], name.label) for name in found.names] == [
        ("محمد السعيد", "PERS"),
        ("بيروت", "LOC"),
        ("ثم", "PERS"),
        ("غادر", "LOC"),
    ]
    assert found.changes == {"repaired_tag": 2}
    with pytest.raises(InputError, match="7 tags for 8 words"):
        predicted_names.decode_word_tags(borders, tags[1:])


def test_changes_are_counted_in_the_prediction() -> None:
    document = Document("d", TEXT, (Span(0, 3, "OLD"),), meta={"source": "x", "changes": {"stale": 9}})
    city = TEXT.index("بيروت")
    names = (
        PredictedName(city - 1, city + 5, "LOC", 0.5),  # with the space before it
        PredictedName(4, 15, "PER", 0.9, "محمد السعيد"),
        PredictedName(4, 8, "PER", 0.95, "محمد"),  # inside the one before
        PredictedName(3, 4, "PER"),  # a space
        PredictedName(44, 400, "LOC"),
    )
    found = predicted_names.build_document(document, TextPrediction(names, Counter(cut=2)))
    assert surfaces(found) == [("محمد السعيد", "PER"), ("بيروت", "LOC")]
    assert [span.score for span in found.spans] == [0.9, 0.5]
    assert found.meta == {
        "source": "x",
        "changes": {"cut": 2, "empty": 1, "outside": 1, "overlap": 1, "whitespace": 1},
    }
    assert predicted_names.build_document(document, TextPrediction()).meta == {"source": "x"}


def test_offsets_into_another_text_are_an_error() -> None:
    with pytest.raises(
        InputError, match=r"document 'd': the system found 'السعيد' at \[8, 14\), where the text has ' السعي'"
    ):
        predicted_names.build_document(
            Document("d", TEXT), TextPrediction((PredictedName(8, 14, "PER", surface="السعيد"),))
        )
    with pytest.raises(InputError, match="label 'full name'"):
        predicted_names.build_document(Document("d", TEXT), TextPrediction((PredictedName(4, 8, "full name"),)))


def test_documents_are_predicted_in_batches_and_returned_in_order() -> None:
    documents = [Document(str(number), "" if number % 5 == 3 else f"نص {number}") for number in range(17)]
    sizes = []

    def predict(batch):
        sizes.append(len(batch))
        return [TextPrediction((PredictedName(3, len(document.text), "N"),)) for document in batch]

    found = list(predicted_names.predict_documents(iter(documents), predict, batch_size=5))
    assert sizes == [4, 4, 4, 2]  # without the empty ones
    assert [document.id for document in found] == [document.id for document in documents]
    assert [surfaces(document) for document in found] == [
        [(document.id, "N")] if document.text else [] for document in documents
    ]


def test_a_system_that_loses_a_text_is_an_error() -> None:
    with pytest.raises(InputError, match="predictions for 1 texts; expected 2"):
        list(
            predicted_names.predict_documents(
                [Document("a", "نص"), Document("b", "نص")], lambda batch: [TextPrediction()]
            )
        )


# Passages


@given(ARABIC)
def test_sentences_cover_a_text_except_whitespace_between_them(text: str) -> None:
    borders = text_passages.split_sentences(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in borders)
    edges = [0, *(edge for border in borders for edge in border), len(text)]
    assert edges == sorted(edges)
    assert not "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).strip()


def test_a_dot_after_a_single_letter_ends_no_sentence() -> None:
    text = "قال د. محمد السعيد: نعم. متى؟ غدا!\n\nبيروت (أ ب)"
    assert [text[start:end] for start, end in text_passages.split_sentences(text)] == [
        "قال د. محمد السعيد: نعم.",
        "متى؟",
        "غدا!",
        "بيروت (أ ب)",
    ]


@given(ARABIC, st.integers(1, 6))
def test_passages_fit_and_contain_every_word(text: str, limit: int) -> None:
    def fits(passage: str) -> bool:
        return len(passage.split()) <= limit

    found = text_passages.split_passages(text, fits=fits)
    assert [word for start, end in found.borders for word in text[start:end].split()] == text.split()
    assert all(fits(text[start:end]) for start, end in found.borders)
    whole = [text[start:end] for start, end in text_passages.split_sentences(text)]
    assert found.cut == sum(not fits(sentence) for sentence in whole)
    # No two neighbours could have been one.
    assert not any(fits(text[a:b]) for (a, _), (_, b) in zip(found.borders, found.borders[1:], strict=False))


def test_a_word_that_does_not_fit_is_counted_and_retained() -> None:
    found = text_passages.split_passages("في القسطنطينية", fits=lambda passage: len(passage) < 8)
    assert found == text_passages.Passages(((0, 2), (3, 14)), 1)


# The table


def write_gold(folder: Path) -> Path:
    """Write three documents with four names; the tests below compare with scores counted by hand."""
    gold = [
        make_document(TEXT, ("محمد السعيد", "PER"), ("بيروت", "LOC"), id="a"),
        make_document("اجتماع بالموصل", ("الموصل", "LOC"), id="b"),
        make_document("قال محمد", ("محمد", "PER"), id="c"),
    ]
    write_jsonl(gold, folder / "gold.jsonl")
    return folder / "gold.jsonl"


@pytest.mark.usefixtures("fake_gliner")
def test_the_table_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = write_gold(tmp_path)
    predicted = [
        make_document(TEXT, ("محمد السعيد", "PERS"), ("بغداد", "LOC"), id="a"),
        make_document("اجتماع بالموصل", ("بالموصل", "LOC"), id="b"),
        make_document("قال محمد", ("محمد", "DATE"), id="c"),
    ]
    write_jsonl(predicted, tmp_path / "theirs.jsonl")
    (tmp_path / "map.yaml").write_text("PERS: PER\nLOC: LOC\nDATE: null\n", "utf-8")
    monkeypatch.setitem(compare_systems.REQUIREMENTS, "spacy", ("no_such_package_at_all", "pip install spacy"))
    arguments = [
        *("--peer", "zero=gliner:some/gliner#person=PER,city=GPE"),
        *("--peer", "spacy:mine"),
        *("--predictions", f"perfect={gold}"),
        *("--predictions", f"theirs={tmp_path / 'theirs.jsonl'}"),
        *("--predictions", f"absent={tmp_path / 'absent.jsonl'}"),
        *("--labels", f"theirs={tmp_path / 'map.yaml'}"),
        *("--output", str(tmp_path / "out")),
        *("--markdown", str(tmp_path / "table.md")),
        *("--resamples", "200"),
    ]
    status = compare_systems.main([str(gold), *arguments])
    printed = capsys.readouterr()
    assert status == 1  # one system failed
    assert "spacy-mine: the package no_such_package_at_all is not installed; pip install spacy" in printed.err
    assert re.search(r"absent: failed: .*absent\.jsonl: no such file", printed.err)
    lines = (tmp_path / "table.md").read_text("utf-8").splitlines()
    assert lines[0].endswith("gold.jsonl: 3 documents, 13 words, 4 names")
    cells = {row[0]: row[1:] for row in ([c.strip() for c in line.strip("|").split("|")] for line in lines[4:7])}
    # GLiNER's fake predicts three names; only "محمد السعيد" of "a" is correct.
    assert cells["zero"][1:3] == ["33.3", "25.0"]
    assert float(cells["zero"][0].replace(",", "")) > 0
    assert cells["perfect"][:3] == ["", "100.0", "100.0"]
    assert [cell.split(" ")[0] for cell in cells["perfect"][3:]] == ["100.0"] * 5
    # One correct name of three predicted and four gold names; two with the name after a proclitic, and by whole words.
    assert cells["theirs"][:3] == ["", "33.3", "25.0"]
    assert [cell.split(" ")[0] for cell in cells["theirs"][3:]] == ["28.6", "57.1", "57.1", "57.1", "57.1"]
    remarks = "\n".join(lines[7:])
    assert "- theirs: 1 names left out by the label map" in remarks
    assert "- zero: labels that are not in the gold: GPE" in remarks
    assert "- zero: gold labels that are never predicted: LOC" in remarks
    assert "- words/s: of tagging on cpu, without loading" in remarks
    assert "perfect" in printed.out
    assert "cpu" in printed.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["zero.jsonl"]
    kept = list(read_jsonl(tmp_path / "out" / "zero.jsonl"))
    assert surfaces(kept[0]) == [("محمد السعيد", "PER"), ("بيروت", "GPE"), ("بغداد", "GPE")]


def test_a_system_gets_no_gold_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def tag(documents, *, model: str, device: str) -> Iterator[Document]:
        for document in documents:
            seen.append((document.id, document.spans, model, device))
            yield document

    monkeypatch.setattr(ours, "tag", tag)
    peer = compare_systems.System("ours-m", "ours", "m")
    found, seconds = compare_systems.run_peer(peer, list(read_jsonl(write_gold(tmp_path))), device="cpu")
    assert seen == [(id, (), "m", "cpu") for id in "abc"]
    assert [document.spans for document in found] == [(), (), ()]
    assert seconds > 0


def test_conll_predictions_are_matched_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gold.conll").write_text("في O\nبغداد B-LOC\n\nقال O\nمحمد B-PERS\n", "utf-8")
    (tmp_path / "other.conll").write_text("في O\nبغداد I-LOC\n\nقال O\nمحمد O\n", "utf-8")
    arguments = [
        str(tmp_path / "gold.conll"),
        "--predictions",
        f"other={tmp_path / 'other.conll'}",
        "--resamples",
        "50",
    ]
    assert compare_systems.main(arguments) == 0
    assert re.search(r"other +100\.0 +50\.0 +66\.7 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    "name", ["brat", "doccano.jsonl", "labelstudio.json", "table.csv", "table.parquet", "own.jsonl"]
)
def test_predictions_in_every_format_with_offsets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    gold = [
        make_document(f"😀 {TEXT}\nوبغداد", ("محمد السعيد", "PER"), ("بغداد", "LOC"), id="a"),
        make_document("بغداد", ("بغداد", "LOC"), id="b"),
    ]
    write_jsonl(gold, tmp_path / "gold.jsonl")
    format = name.partition(".")[0]
    write_documents(gold, tmp_path / name, format=format if format in FORMATS else None)
    arguments = ["--predictions", f"same={tmp_path / name}", "--resamples", "50"]
    assert compare_systems.main([str(tmp_path / "gold.jsonl"), *arguments]) == 0
    assert re.search(r"same +100\.0 +100\.0 +100\.0 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no system"),
        (
            ["--peer", "polyglot:x"],
            "--peer 'polyglot:x'; expected .* one of ours, pipeline, camel, stanza, spacy, gliner, crf, flair",
        ),
        (["--peer", "ours"], "--peer 'ours'"),
        (["--peer", "ours:a/m", "--peer", "ours:b/m"], "two systems called 'ours-m'"),
        (
            ["--peer", "ours:m", "--labels", "theirs=khabar-to-coarse"],
            "--labels for 'theirs'; expected a system: ours, ours-m",
        ),
        (["--peer", "ours:m", "--labels", "ours=no-such-map"], "no-such-map"),
        (["--predictions", "theirs.jsonl"], "--predictions 'theirs.jsonl'; expected NAME=VALUE"),
        (["--peer", "spacy:m"], "no system could be scored"),
        (["--peer", "ours:m", "--resamples", "3"], "3 resamples"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setitem(compare_systems.REQUIREMENTS, "spacy", ("no_such_package_at_all", "pip install spacy"))
    assert compare_systems.main([str(write_gold(tmp_path)), *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"error: .*{message}", last)


def test_default_names_are_valid_file_names() -> None:
    assert compare_systems.parse_peer("gliner:urchade/gliner_multi-v2.1#person=PER") == compare_systems.System(
        "gliner-gliner_multi-v2.1", "gliner", "urchade/gliner_multi-v2.1#person=PER"
    )
    assert compare_systems.parse_peer("base=pipeline:runs/mine/seed-1").name == "base"
    assert compare_systems.parse_peer("ours:runs/نموذج 1").name == "ours-نموذج-1"


def test_the_row_sums_the_changes_of_all_documents() -> None:
    gold = [make_document(TEXT, ("محمد السعيد", "PER"), id="a"), make_document("قال محمد", ("محمد", "PER"), id="b")]
    predicted = [
        Document(document.id, document.text, document.spans, meta={"changes": {"cut": 2, f"only_{document.id}": 1}})
        for document in gold
    ]
    row = score_rows.score_system(
        "mine", gold, predicted, renaming=LabelRenaming.load(None), resamples=50, speed=1234.5
    )
    assert row.format_cells()[:4] == ["mine", "1,234", "100.0", "100.0"]
    assert list(row.remarks()) == ["mine: 4 cut, 1 only_a, 1 only_b"]
