"""Round trips through Label Studio and doccano: import, pre-annotate by `musamma serve`, export, read back, compare.

::

    python3 -m venv ls && ls/bin/pip install label-studio==1.23.2
    python benchmarks/annotation_tools.py --label-studio ls/bin/label-studio --model nawah-ner

    python3 -m venv doccano && doccano/bin/pip install doccano==1.8.4 'marshmallow<4' 'numpy<2'
    doccano/bin/doccano init
    doccano/bin/doccano createuser --username admin --password PASSWORD
    doccano/bin/doccano webserver --port 8093 & doccano/bin/doccano task &
    python benchmarks/annotation_tools.py --doccano http://127.0.0.1:8093 --password PASSWORD

Label Studio runs on loopback with a database of its own in a temporary folder; its first start takes a minute or more. With
`--url` and `--token`, a running one is used. What goes in are articles, and texts with emoji, combining marks in both normal forms
and CR LF:

1. names as annotations: imported, exported as JSON and as JSON-MIN, and read back;
2. names with scores as predictions: the same;
3. texts only: the service is connected as ML backend, Label Studio retrieves predictions of all tasks from it, and the exported
   predictions are compared with the names that the service returns at `/predict`.

4. in doccano, projects that count UTF-16 units and ones that count grapheme clusters: names are imported, exported, and read back with
   the unit that the reader finds. doccano's server stores offsets as they come, and its page shows them in the unit of the project.

The exit status is 1 if a text, a name or a score was changed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from service_process import start_service

from musamma.data.corpus_files import ReadOptions, WriteOptions, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.import_audit import ImportAudit
from musamma.data.offset_units import OFFSET_UNITS

_SECONDS = 600
_TOKEN = "0123456789abcdef0123456789abcdef01234567"


def main() -> int:
    """Run the round trips; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label-studio", help="the program label-studio, which is started")
    parser.add_argument("--url", help="the address of a running Label Studio")
    parser.add_argument("--token", default=_TOKEN, help="a legacy token of a user of it")
    parser.add_argument("--port", type=int, default=8090, help="the port of the Label Studio that is started")
    parser.add_argument("--doccano", help="the address of a running doccano")
    parser.add_argument("--user", default="admin", help="a user of doccano")
    parser.add_argument("--password", help="the password of that user")
    parser.add_argument("--model", help="a model to pre-annotate with")
    parser.add_argument("--corpus", default="data/corpora/khabar/articles", help="annotated articles")
    parser.add_argument("--count", type=int, default=5, help="number of articles")
    options = parser.parse_args()
    if not (options.url or options.label_studio or options.doccano):
        parser.error("give --label-studio, --url or --doccano")
    articles = [document for document, _ in zip(read_documents(options.corpus), range(options.count), strict=False)]
    documents = [*_difficult_documents(), *articles]
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.doccano:
            failures += _try_doccano(options, documents, folder)
        if options.url or options.label_studio:
            failures += _try_label_studio(options, documents, folder)
    print(f"{failures} differences")
    return 1 if failures else 0


def _try_label_studio(options: argparse.Namespace, documents: Sequence[Document], folder: Path) -> int:
    """Make the round trips through Label Studio; returns the number of differences."""
    with _label_studio(options, folder) as studio:
        version = studio.call("GET", "/api/version")["release"]
        print(f"Label Studio {version}; {len(documents)} documents, {sum(len(d.all_spans) for d in documents)} names")
        failures = _round_trip(studio, documents, folder, "annotations")
        failures += _round_trip(studio, [_with_scores(document) for document in documents], folder, "predictions")
        return failures + (_pre_annotate(studio, documents, folder, options.model) if options.model else 0)


def _try_doccano(options: argparse.Namespace, documents: Sequence[Document], folder: Path) -> int:
    """Make a round trip through a project of each unit of doccano; returns the number of differences."""
    url, failures = options.doccano.rstrip("/"), 0
    login = {"username": options.user, "password": options.password}
    headers = {"Authorization": f"Token {post_json('POST', f'{url}/v1/auth/login/', login)['key']}"}
    for unit in OFFSET_UNITS[1:]:
        project = post_json("POST", f"{url}/v1/projects", _doccano_project(unit), headers)["id"]
        path, audit = folder / f"doccano-{unit}.jsonl", ImportAudit()
        write_documents(documents, path, format="doccano", options=WriteOptions(offsets=unit), audit=audit)
        address = f"{url}/v1/projects/{project}"
        form = {"format": "JSONL", "task": "SequenceLabeling", "column_data": "text", "column_label": "label"}
        upload = _upload(f"{url}/v1/fp/process/", path, headers)
        task = post_json("POST", f"{address}/upload", {**form, "uploadIds": [upload], "encoding": "utf_8"}, headers)
        while not (state := post_json("GET", f"{url}/v1/tasks/status/{task['task_id']}", None, headers))["ready"]:
            time.sleep(1)
        if state.get("error"):
            raise SystemExit(f"doccano: {state['error']}")
        task = post_json("POST", f"{address}/download", {"format": "JSONL", "exportApproved": False}, headers)
        for _ in range(_SECONDS):
            exported = fetch("GET", f"{address}/download?taskId={task['task_id']}", None, headers)
            if b"Not ready" not in exported[:40]:
                break
            time.sleep(1)
        archive = zipfile.ZipFile(io.BytesIO(exported))
        result = folder / f"doccano-{unit}-exported.jsonl"
        result.write_bytes(b"".join(archive.read(name) for name in archive.namelist()))
        back = ImportAudit()
        read = list(read_documents(result, format="doccano", options=ReadOptions(overlaps="nested"), audit=back))
        count = _count_differences(documents, read, ids=False)
        moved = audit.kinds["split_cluster"]
        print(
            f"doccano, project of {unit}: {back.documents} documents, {back.spans} names, {back.lost} lost, {count} differences"
        )
        print(f"  {moved} borders moved; read as {back.offset_unit}: {back.offset_reason}")
        failures += count + back.lost + (back.offset_unit != unit)
    return failures


def _doccano_project(unit: str) -> dict[str, Any]:
    return {
        "name": f"round trip {unit}",
        "description": "round trip",
        "project_type": "SequenceLabeling",
        "resourcetype": "SequenceLabelingProject",
        "allow_overlapping": True,
        "grapheme_mode": unit == "graphemes",
    }


def _upload(url: str, path: Path, headers: dict[str, str]) -> str:
    """Upload a file; returns its number."""
    body = (
        b'--part\r\nContent-Disposition: form-data; name="filepond"\r\n\r\n{}\r\n'
        b'--part\r\nContent-Disposition: form-data; name="filepond"; filename="names.jsonl"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + path.read_bytes() + b"\r\n--part--\r\n"
    )
    return fetch("POST", url, body, {**headers, "Content-Type": "multipart/form-data; boundary=part"}).decode()


class LabelStudio:
    """A client of Label Studio's API."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self._headers = url.rstrip("/"), {"Authorization": f"Token {token}"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; returns the JSON of the response."""
        return post_json(method, self.url + path, body, self._headers)

    def create_project(self, labels: Sequence[str], tasks: Sequence[Any]) -> int:
        """Create a project with labels and tasks; returns its id."""
        values = "".join(f'<Label value="{label}"/>' for label in sorted(labels))
        configuration = (
            f'<View><Labels name="label" toName="text">{values}</Labels><Text name="text" value="$text"/></View>'
        )
        project = self.call("POST", "/api/projects", {"title": "round trip", "label_config": configuration})["id"]
        created = self.call("POST", f"/api/projects/{project}/import", tasks)
        print(f"  imported {created['task_count']} tasks")
        return int(project)

    def export(self, project: int, form: str, path: Path) -> Path:
        """Export all tasks of a project to a file, predictions included: the simple export holds only their numbers."""
        url = f"/api/projects/{project}/exports"
        parts = {"drafts": {"only_id": True}, "predictions": {"only_id": False}}
        snapshot = self.call("POST", f"{url}/", {"title": form, "serialization_options": parts})["id"]
        for _ in range(_SECONDS):
            if self.call("GET", f"{url}/{snapshot}")["status"] == "completed":
                break
            time.sleep(1)
        exported = self.call("GET", f"{url}/{snapshot}/download?exportType={form}")
        path.write_text(json.dumps(exported, ensure_ascii=False), "utf-8")
        return path


def post_json(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """Send a request with a body of JSON; returns the JSON of the response."""
    data = None if body is None else json.dumps(body).encode()
    return json.loads(fetch(method, url, data, {"Content-Type": "application/json", **(headers or {})}))


def fetch(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> bytes:
    """Send a request; returns the bytes of the response."""
    try:
        with urlopen(Request(url, body, headers, method=method), timeout=_SECONDS) as response:
            content: bytes = response.read()
            return content
    except HTTPError as error:
        raise SystemExit(f"{method} {url}: {error.code} {error.read().decode()[:500]}") from None


@contextmanager
def _label_studio(options: argparse.Namespace, folder: Path) -> Iterator[LabelStudio]:
    """Start Label Studio, or use the running one."""
    if options.url:
        yield LabelStudio(options.url, options.token)
        return
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "studio"),
        "LABEL_STUDIO_USERNAME": "annotator@example.com",
        "LABEL_STUDIO_PASSWORD": "annotate-on-loopback",
        "LABEL_STUDIO_USER_TOKEN": options.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        # Otherwise it refuses backends on loopback.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    command = [options.label_studio, "start", "--no-browser", "--port", str(options.port)]
    with (folder / "studio.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{options.port}"
        _wait_for(f"{url}/health", process)
        yield LabelStudio(url, options.token)
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_SECONDS):
        if process.poll() is not None:
            raise SystemExit(f"{process.args}: exit status {process.returncode}")
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(1)
    raise SystemExit(f"{url} does not answer")


def _difficult_documents() -> list[Document]:
    """Texts whose offsets differ by unit."""
    text = "😀 زار مُحَمَّد 👨\u200d👩\u200d👧 الرباط\r\nثم café 🇲🇦 القاهرة، آخر\n<b>دمشق</b> & بيروت"
    names = (
        ("مُحَمَّد", "PERSON"),
        ("الرباط", "CITY"),
        ("café", "ORG"),
        ("القاهرة", "CITY"),
        ("دمشق", "CITY"),
        ("بيروت", "CITY"),
    )
    documents = []
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, text)
        spans = []
        for surface, label in names:
            start = written.index(unicodedata.normalize(form, surface))
            spans.append(Span(start, start + len(unicodedata.normalize(form, surface)), label))
        documents.append(Document(f"difficult-{form}", written, tuple(spans), meta={"form": form}))
    return documents


def _with_scores(document: Document) -> Document:
    def score(spans: tuple[Span, ...]) -> tuple[Span, ...]:
        return tuple(replace(span, score=round(0.5 + index / 1000, 3)) for index, span in enumerate(spans))

    return replace(document, spans=score(document.spans), nested=score(document.nested))


def _round_trip(
    studio: LabelStudio, documents: Sequence[Document], folder: Path, kind: Literal["annotations", "predictions"]
) -> int:
    """Import documents and read the exports back; returns the number of differences."""
    path = folder / f"{kind}.json"
    write_documents(documents, path, options=WriteOptions(tasks_as=kind))
    print(f"{kind}:")
    labels = {span.label for document in documents for span in document.all_spans}
    project = studio.create_project(sorted(labels), json.loads(path.read_text("utf-8")))
    differences = 0
    for form in ("JSON", "JSON_MIN") if kind == "annotations" else ("JSON",):
        exported = studio.export(project, form, folder / f"{kind}-{form}.json")
        audit = ImportAudit()
        options = ReadOptions(overlaps="nested", predictions="fallback")
        read = list(read_documents(exported, format="labelstudio", options=options, audit=audit))
        count = _count_differences(documents, read, ids=form == "JSON")
        print(f"  {form}: {audit.documents} documents, {audit.spans} names, {audit.lost} lost, {count} differences")
        differences += count + audit.lost
    return differences


def _count_differences(sent: Sequence[Document], read: Sequence[Document], *, ids: bool = True) -> int:
    """Count documents that came back different."""
    by_text = {document.text: document for document in read}
    differences = len({document.text for document in sent} ^ by_text.keys())
    for document in sent:
        back = by_text.get(document.text)
        if back is None:
            continue
        same = sorted(document.all_spans) == sorted(back.all_spans) and (not ids or document.id == back.id)
        if not same:
            print(
                f"  {document.id}: {sorted(document.all_spans)[:3]} came back as {back.id}, {sorted(back.all_spans)[:3]}"
            )
        differences += not same
    return differences


def _pre_annotate(studio: LabelStudio, documents: Sequence[Document], folder: Path, model: str) -> int:
    """Connect the service as ML backend and let Label Studio retrieve predictions; returns the number of differences."""
    print("pre-annotation by the service:")
    with start_service(model, ["--max-characters", "1000000"]) as (_, url):
        labels = post_json("GET", f"{url}/health")["labels"]
        tasks = [{"data": {"id": document.id, "text": document.text}} for document in documents]
        project = studio.create_project(labels, tasks)
        backend = studio.call("POST", "/api/ml", {"url": f"{url}/label-studio", "project": project, "title": "musamma"})
        print(f"  backend: {backend['readable_state']}, model version {backend['model_version']}")
        action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
        studio.call("POST", action, {"selectedItems": {"all": True, "excluded": []}, "project": project})
        audit = ImportAudit()
        exported = studio.export(project, "JSON", folder / "pre-annotated.json")
        read = list(read_documents(exported, options=ReadOptions(predictions="fallback"), audit=audit))
        body = {"documents": [{"id": document.id, "text": document.text} for document in documents]}
        tagged = [
            Document(d["id"], d["text"], tuple(Span(s["start"], s["end"], s["label"], s["score"]) for s in d["spans"]))
            for d in post_json("POST", f"{url}/predict", body)["documents"]
        ]
        count = _count_differences(tagged, read)
        names = sum(len(document.spans) for document in tagged)
        print(f"  {audit.documents} documents, {audit.spans} of {names} names, {audit.lost} lost, {count} differences")
        return count + audit.lost


if __name__ == "__main__":
    sys.exit(main())
