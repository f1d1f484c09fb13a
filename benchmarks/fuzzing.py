"""Fuzz every reader of files with Atheris, guided by coverage, and report what is neither a document nor an :class:`InputError`.

    pip install 'musamma[fuzz]'     # Linux
    python benchmarks/fuzzing.py [TARGET ...] [--seconds 300] [--corpus FOLDER] [--jobs 1]

Each target is a reader. Atheris (Google's binding of libFuzzer to Python) mutates its seeds to reach new branches of the code. For JSON
and YAML a structured mutator changes keys, types and values of a valid document; the rest is changed byte by byte. An input is a failure if:

- the reader raises anything but ``InputError``, or an ``InputError`` of several lines;
- a document read from it cannot be written as JSON lines and read back unchanged;
- the audit does not account for every annotated span;
- tagging's reader does not yield one record (a document or a reject) for every line or row;
- it takes longer than 20 seconds, or 2 GB.

Inputs that fail are kept in ``FOLDER/TARGET/failures``, one for each distinct failure: put them into the tests. The corpus of a target grows
from run to run.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import itertools
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TEXT = "قال سامي إن داعش في الموصل 😀"
DOCUMENT = {
    "id": "a1",
    "text": TEXT,
    "spans": [{"start": 4, "end": 8, "label": "PER"}, {"start": 12, "end": 16, "label": "ORG", "score": 0.5}],
    "nested": [],
    "meta": {"topic": "x"},
}
LABEL_STUDIO = {
    "id": 7,
    "data": {"text": TEXT, "title": "غزة"},
    "annotations": [
        {
            "id": 1,
            "was_cancelled": False,
            "result": [
                {"id": "r", "from_name": "label", "to_name": "text", "type": "labels",
                 "value": {"start": 4, "end": 8, "text": "سامي", "labels": ["PER"]}}
            ],
        }
    ],
    "predictions": [],
}  # fmt: skip
DOCCANO = {"id": 3, "text": TEXT, "label": [[4, 8, "PER"]], "Comments": []}
DOCCANO_RELATIONS = {
    "id": 3, "text": TEXT, "entities": [{"id": 1, "start_offset": 4, "end_offset": 8, "label": "PER"}], "relations": []
}  # fmt: skip
CONLL = "-DOCSTART- O\n\nقال O\nسامي B-PER\nفي O\nالموصل B-LOC\n. O\n\nو O\nداعش B-ORG\n"
CONLL_COLUMNS = "1\tسامي\tNNP\tI-NP\tI-PER\n2\tالعلي\tNNP\tI-NP\tI-PER\n\n1\tقال\tV\tI-VP\tO\n"
MARKUP = "---\ntopic: politics\n---\nقال [سامي|PER] في [جامعة [الموصل|GPE]|ORG] \\[1\\]\n"
BRAT = TEXT + "\0T1\tPER 4 8\tسامي\nT2\tORG 12 16\tداعش\nA1\tNegation T1\n#1\tNote T1 x\nT3\tLOC 0 3;4 8\tقال سامي\n"
CSV = 'id,text,spans,topic\na1,قال سامي,"[{""start"": 4, ""end"": 8, ""label"": ""PER""}]",x\n'
PRODIGY = {
    "text": TEXT, "_input_hash": 1, "_task_hash": 2, "answer": "accept", "meta": {"source": "x"},
    "tokens": [{"text": "قال", "start": 0, "end": 3, "id": 0, "ws": True}, {"text": "سامي", "start": 4, "end": 8, "id": 1, "ws": True}],
    "spans": [{"start": 4, "end": 8, "token_start": 1, "token_end": 1, "label": "PER"}],
}  # fmt: skip
GLINER = {
    "tokenized_text": ["في", "جامعة", "الموصل"],
    "ner": [[1, 2, "ORG"], [2, 2, "GPE"]],
    "text": "في جامعة  الموصل",
}
LIGHTTAG = {
    "examples": [
        {
            "example_id": "e", "content": TEXT, "metadata": {}, "classifications": [],
            "annotations": [{"start": 4, "end": 8, "tag": "PER", "value": "سامي", "correct": None, "annotated_by": []}],
        }
    ],
    "relations": [],
}  # fmt: skip
UBIAI = [
    {"documentName": "a", "document": TEXT, "tokens": [{"text": "سامي", "start": 4, "end": 8, "entityLabel": "PER"}], "relations": []}
]  # fmt: skip
WEBANNO = (
    "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value\n\n\n#Text=😀 قال\\tسامي\n"
    "#Text=في جامعة الموصل\n1-1\t0-2\t😀\t_\t_\t\n1-2\t3-6\tقال\t_\t_\t\n1-3\t7-11\tسامي\tQ5\tPER\t\n1-4\t15-20\tجامعة\t*[1]\tORG[1]\t\n"
    "1-5\t21-27\tالموصل\t*[1]|*[2]\tORG[1]|GPE[2]\t\n\n#Text=للجيش\n2-1\t28-33\tللجيش\t_\t_\t\n2-1.1\t29-33\tلجيش\t*\tOR\\_G\t\n"
)
# Two documents, written by spaCy 3.8.18: entities, a link to a knowledge base, a group `sc` of spans, and categories.
DOCBIN = base64.b85decode(
    b"c%188UY1%^oSC1u*g(&4X<|u9QSlT<U%#`AN0yc3XQ$>BA7xy?nJnnkurpPci2*x^G7Enk_Ex2d8OpcwJXG_u^`$jTUZwoazC!*9e7N+lmS9f)e2;S>On*Hi"
    b"g!Wc0j&J@QTRib{SX1U=vrmjT<o7b)&XrJ+Q^sZfqC;zZ-rTHTk4yfQ_{+*VlUQC{@{IkmoV)J7IDku@XT_m)FHSyOi%Xs(@0`v(iM+2kq#5qEdF?I~kyOSd"
    b"&-;1)_QU^dg>cC)D=tV(PAxvd%LoD>2QvVv<vFQ&=_MJ(M>x2ELZGl+UR+X?nU`LChe2q;Lav2+i`@fU7yAdfFAi`GS`=uw>c-+5n{T$>Sbk&Sk{e5Jwyn9b"
    b"{ASC|)|(wSw%%-6c4NiOmK)1g-2jQU-q?9#<%%1dLCl+7%YeM)H`Xt^*#y$C3P^3d*>z*Zjg?Dow%ype<iq?K4NH;}ONu8oF3C$RFFtMm0pje2rD-{d=|JI4"
    b"8HvU5rFq$T`Q>@>5WgJ4D!3X*=f$TN<(C!|Pdeh!c*L=JNnT=Z>Z0OgNYZUs3Q|!#@rVZYkYa2A5-dQ>3dErBl$Z$AdxUWU04~PcEC"
)
RECIPE = (
    "encoder: nawah\ndata:\n  train: [khabar]\n  dev: [khabar]\nencoding: {max_length: 128}\ntrainer:\n  learning_rate: 1.0e-4\n"
    "  num_train_epochs: 3\nseeds: [1]\noutput: runs/x\n"
)
PRETRAIN_RECIPE = "encoder: nawah\ntext: [news.txt]\noutput: runs/y\nobjective: mlm\nlength: 128\n"
LABEL_MAP = "PER: PER\nLOC: null\nORG: {label: ORG, unmarked: [وزارة]}\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A reader to fuzz.

    Args:
        check: reads a file and raises on a failure.
        suffix: the suffix of the file's name.
        seeds: valid contents.
        structured: change values of the JSON or YAML structure, rather than bytes.
    """

    check: Callable[[Path], None]
    suffix: str
    seeds: tuple[bytes, ...]
    structured: bool = False


class Unaccounted(AssertionError):
    """A span, record or document was lost or changed without being reported."""


def targets() -> dict[str, Target]:
    """Return the targets by name."""

    def lines(*objects: Any) -> bytes:
        return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in objects)

    def array(*objects: Any) -> bytes:
        return json.dumps(objects, ensure_ascii=False).encode()

    utf8 = str.encode
    return {
        "jsonl": Target(
            check_format("jsonl"), ".jsonl", (lines(DOCUMENT), lines(DOCUMENT, {"id": "b", "text": "x"})), True
        ),
        "jsonl-bytes": Target(check_format("jsonl"), ".jsonl", (lines(DOCUMENT),)),
        "json-array": Target(check_format(None), ".json", (array(DOCUMENT), array(LABEL_STUDIO)), True),
        "doccano": Target(check_format("doccano"), ".jsonl", (lines(DOCCANO), lines(DOCCANO_RELATIONS)), True),
        "labelstudio": Target(check_format("labelstudio"), ".json", (array(LABEL_STUDIO),), True),
        "conll": Target(check_format("conll"), ".conll", (utf8(CONLL), utf8(CONLL_COLUMNS))),
        "khabar": Target(check_format("khabar"), ".txt", (utf8(MARKUP),)),
        "brat": Target(check_brat, "", (utf8(BRAT),)),
        "csv": Target(check_format("csv"), ".csv", (utf8(CSV),)),
        "parquet": Target(check_format("parquet"), ".parquet", (parquet_seed(),)),
        "prodigy": Target(check_format("prodigy"), ".jsonl", (lines(PRODIGY, {**PRODIGY, "answer": "reject"}),), True),
        "gliner": Target(check_format("gliner"), ".json", (array(GLINER, GLINER),), True),
        "lighttag": Target(check_format("lighttag"), ".json", (json.dumps(LIGHTTAG).encode(),), True),
        "ubiai": Target(check_format("ubiai"), ".json", (array(*UBIAI),), True),
        "webanno": Target(check_format("webanno"), ".tsv", (utf8(WEBANNO),)),
        "spacy": Target(check_format("spacy"), ".spacy", (DOCBIN,)),
        "guess": Target(check_format(None), ".txt", (utf8(CONLL), utf8(CONLL_COLUMNS))),
        "predict-jsonl": Target(check_inputs, ".jsonl", (lines(DOCUMENT, {"text": "x"}, {"id": "b", "text": "c"}),)),
        "predict-csv": Target(check_inputs, ".csv", (utf8(CSV),)),
        "predict-text": Target(check_inputs, ".txt", (utf8(TEXT),)),
        "recipe": Target(check_recipe, ".yaml", (utf8(RECIPE),), True),
        "pretrain-recipe": Target(check_pretrain_recipe, ".yaml", (utf8(PRETRAIN_RECIPE),), True),
        "recipe-bytes": Target(check_recipe, ".yaml", (utf8(RECIPE),)),
        "label-map": Target(check_label_map, ".yaml", (utf8(LABEL_MAP),), True),
    }


def parquet_seed() -> bytes:
    """Return a Parquet file of two documents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    spans = [[{"start": 4, "end": 8, "label": "PER"}], []]
    pq.write_table(pa.table({"id": ["a", "b"], "text": [TEXT, "x"], "spans": spans}), buffer)
    return buffer.getvalue()


# Checks


def check_format(name: str | None) -> Callable[[Path], None]:
    """Return a check of the reader of a format; ``None`` guesses the format."""

    def check(path: Path) -> None:
        from musamma.data.corpus_files import ReadOptions, read_documents
        from musamma.data.import_audit import ImportAudit

        options = ReadOptions(overlaps="nested", repeated_ids="count")
        audit = ImportAudit()
        documents = list(read_documents(path, format=name, options=options, audit=audit))
        found = sum(len(document.all_spans) for document in documents)
        retained = audit.exact + audit.count_category("snapped") + audit.count_category("doubtful")
        merged, dropped = audit.count_category("merged"), audit.count_category("dropped")
        # Annotation that is not read is dropped without having been counted as a span.
        if found != retained or not found + merged <= audit.spans <= found + merged + dropped:
            raise Unaccounted(f"{found} spans are read; the audit: {audit.to_dict()}")
        check_round_trip(documents)

    return check


def check_brat(path: Path) -> None:
    """Check brat's reader on a text and its annotation, which a NUL separates in the input."""
    text, _, annotation = path.read_bytes().partition(b"\0")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / "a.txt").write_bytes(text)
        (Path(folder) / "a.ann").write_bytes(annotation)
        check_format("brat")(Path(folder))


def check_round_trip(documents: list[Any]) -> None:
    """Check that documents written as JSON lines are read back unchanged."""
    from musamma.data.document import Document, format_json_line

    for document in documents:
        again = Document.from_dict(json.loads(format_json_line(document)), where="written")
        if again != document:
            raise Unaccounted(f"{document!r} is read back as {again!r}")


def check_inputs(path: Path) -> None:
    """Check that tagging's reader yields a record for each line or row."""
    from musamma.data.errors import InputError
    from musamma.inference.inputs import Inputs, read_inputs

    content = path.read_bytes()
    try:
        records = list(read_inputs(Inputs(names=(str(path),))))
    except InputError as error:
        if path.suffix == ".jsonl":  # Every line is a document or a reject; only an empty file is an error.
            raise Unaccounted(f"the whole file is refused: {error}") from error
        raise
    for record in records:
        record.content()
        json.loads(record.to_reject()) if record.error else None
    if path.suffix == ".jsonl" and all(record.line is not None for record in records):
        expected = sum(bool(line.strip()) for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
        if len(records) != expected:
            raise Unaccounted(f"{len(records)} records of {expected} lines")
    if path.suffix == ".csv" and all(record.line is not None and record.error is None for record in records):
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
        if len(records) != sum(bool(row) for row in rows) - 1:
            raise Unaccounted(f"{len(records)} records of {len(rows)} rows")


def check_recipe(path: Path) -> None:
    """Check that a recipe of fine-tuning that is accepted survives being written and read."""
    from musamma.training.config import RunConfig

    check_config(path, RunConfig)


def check_pretrain_recipe(path: Path) -> None:
    """Check the same of a recipe of pre-training."""
    from musamma.training.pretraining.pretrain_config import PretrainConfig

    check_config(path, PretrainConfig)


def check_config(path: Path, kind: Any) -> None:
    """Check that a configuration of a kind that is accepted survives being written and read."""
    from musamma.training.config_files import read_config

    config = read_config(path, kind)
    written = path.with_name("again.yaml")
    written.write_text(config.to_yaml(), "utf-8")
    if read_config(written, kind) != config:
        raise Unaccounted("the recipe changes when it is written and read")


def check_label_map(path: Path) -> None:
    """Check the reader of label maps and of schemas."""
    from musamma.data.labels import load_label_map

    load_label_map(path)


# The structured mutator

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 0.5, 1e400, float("nan"), "", "a", "سامي", "\0", "\ud800", "\u200f",
    "é", "😀", "1", "PER", "B-PER", "A B", "x" * 2000, [], [[]], {}, {"": ""}, {"start": 0, "end": 1, "label": "X"}, [0, 1, "X"], "2024-01-01",
)  # fmt: skip


def mutate(value: Any, chance: random.Random) -> Any:
    """Change one place of a structure: a value, a key, an item's position, or its number."""
    paths = list(walk(value))
    path = chance.choice(paths)
    if not path:
        return chance.choice(VALUES) if chance.random() < 0.05 else value
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    choice = chance.randrange(7)
    if choice == 0:
        del parent[key]
    elif choice == 1:
        parent[key] = chance.choice(VALUES)
    elif choice == 2 and isinstance(parent[key], int):
        parent[key] += chance.choice((-1, 1, 2, -2, 100))
    elif choice == 3 and isinstance(parent, dict):
        parent[
            chance.choice(("id", "text", "spans", "label", "labels", "start", "end", "meta", "nested", "data", "x", ""))
        ] = parent.pop(key)
    elif choice == 4 and isinstance(parent, list):
        parent.insert(chance.randrange(len(parent) + 1), json.loads(json.dumps(parent[key])))
    elif choice == 5 and isinstance(parent[key], str):
        text = parent[key]
        at = chance.randrange(len(text) + 1)
        parent[key] = (
            text[:at] + chance.choice(("😀", "\r\n", "\u0301", "\u200f", " ", "[", "|", "\t", '"', "")) + text[at + 1 :]
        )
    else:
        other = chance.choice(paths)
        donor = value
        for step in other:
            donor = donor[step]
        parent[key] = json.loads(json.dumps(donor))
    return value


def walk(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Yield the path of each value in a structure."""
    yield path
    if isinstance(value, (dict, list)) and len(path) < 12:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from walk(value[key], (*path, key))


def change_structure(data: bytes, suffix: str, chance: random.Random) -> bytes | None:
    """Change a few places of a JSON or YAML file; ``None`` if it is not one."""
    try:
        text = data.decode("utf-8", "surrogatepass")
        if suffix == ".yaml":
            value = yaml.safe_load(text)
        elif suffix == ".jsonl":
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            value = json.loads(text)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            value = mutate(value, chance)
        if suffix == ".yaml":
            result = yaml.safe_dump(value, allow_unicode=True, sort_keys=False)
        elif suffix == ".jsonl" and isinstance(value, list):
            result = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in value)
        else:
            result = json.dumps(value, ensure_ascii=False)
        return result.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, TypeError, yaml.YAMLError):
        return None


def structured_mutator(suffix: str) -> Callable[[bytes, int, int], bytes]:
    """Return a mutator for ``atheris.Setup``: mostly of the structure, now and then of bytes."""
    import atheris

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = None if chance.random() < 0.2 else change_structure(data, suffix, chance)
        if changed is None:
            return atheris.Mutate(data[:max_size], min(len(data) + 32, max_size))
        return changed if len(changed) <= max_size else data[:max_size]

    return mutator


# Running


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one target in this process, which libFuzzer ends."""
    import atheris

    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["musamma"], enable_loader_override=False):
        import musamma.data.corpus_files
        import musamma.inference.inputs
        import musamma.training.config  # noqa: F401
    from musamma.data.errors import InputError

    target = targets()[name]
    failures = folder / "failures"
    failures.mkdir(exist_ok=True)
    known: set[str] = {path.name for path in failures.iterdir()}
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None)) / f"a{target.suffix}"

    def record(data: bytes, error: BaseException, message: str) -> None:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "musamma" in frame.filename]
        place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "outside"
        key = f"{type(error).__name__}-{place}"
        if key not in known:
            known.add(key)
            (failures / key).write_bytes(data)
            (failures / f"{key}.message").write_text(message[:2000], "utf-8", "backslashreplace")

    def test_one_input(data: bytes) -> None:
        scratch.write_bytes(data)
        try:
            target.check(scratch)
        except InputError as error:
            if "\n" in str(error):
                record(data, error, f"several lines: {error}")
        except Exception as error:
            record(data, error, "".join(traceback.format_exception(error)))

    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-max_len=8192",
        f"-artifact_prefix={failures}/", "-verbosity=1", str(folder / "inputs"),
    ]  # fmt: skip
    if target.structured:
        atheris.Setup(arguments, test_one_input, custom_mutator=structured_mutator(target.suffix))
    else:
        atheris.Setup(arguments, test_one_input)
    atheris.Fuzz()


def run(name: str, folder: Path, seconds: int) -> str:
    """Fuzz one target in a process of its own, and return its row of the table."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for seed in targets()[name].seeds:
        (inputs / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    started = time.monotonic()
    command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds), "--corpus", str(folder.parent)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    elapsed = time.monotonic() - started
    executions = int(match[1]) if (match := re.search(r"number_of_executed_units: (\d+)", done.stderr)) else 0
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    failures = sorted(path.name for path in (folder / "failures").iterdir() if path.suffix != ".message")
    if done.returncode and not any(name.startswith(("timeout", "oom", "crash", "leak")) for name in failures):
        failures.append(f"exit status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return f"| {name} | {executions:,} | {elapsed:.0f} | {coverage[-1] if coverage else '-'} | {len(list(inputs.iterdir()))} | {', '.join(failures) or 'none'} |"


def main() -> int:
    """Fuzz the targets one after another, or several at a time, and print a table. Exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all of: {', '.join(targets())}")
    parser.add_argument("--seconds", type=int, default=300, help="time for each target")
    parser.add_argument("--corpus", type=Path, default=Path("fuzzing"), help="folder of inputs and failures")
    parser.add_argument("--jobs", type=int, default=1, help="targets to fuzz at the same time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.child, options.corpus / options.child, options.seconds)
        return 0
    names = options.targets or list(targets())
    if unknown := set(names) - set(targets()):
        parser.error(f"target {sorted(unknown)[0]!r}; expected one of {', '.join(targets())}")
    print(
        "| target | executions | seconds | branches | inputs kept | failures |\n| --- | ---: | ---: | ---: | ---: | --- |"
    )
    failed = False
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(run, names, (options.corpus / name for name in names), itertools.repeat(options.seconds)):
            print(row, flush=True)
            failed = failed or not row.endswith("| none |")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
