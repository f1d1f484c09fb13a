"""Exported models run without PyTorch and transformers, and the command starts without large libraries."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from musamma.inference import Tagger
from musamma.models.checkpoint import load_classifier, load_tokenizer
from musamma.models.export.graph import write_exported
from musamma.models.runtimes import processor
from tests.support import run_python, write_packed

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
# As they are imported, which for these packages is their name on the index.
TRAINING = sorted(re.split("[<>=]", requirement)[0] for requirement in EXTRAS["train"])
TEXT = "وصل محمد السعيد إلى بغداد ثم بيروت، وقال متحدث باسم الأمم المتحدة إن الوفد غادر القاهرة"

# What tagging a text as JSON lines does without; most of these take longer to load than a sentence takes to tag.
UNUSED = ["scipy", "sklearn", "pandas", "huggingface_hub", "pyarrow", "yaml", "tqdm"]

# The command in a process in which the packages of `train` cannot be imported. `sys.modules` shows at the end whether anything
# imported them all the same, or libraries that tagging does not need.
BLOCKED = f"""
import sys
for name in {TRAINING}:
    sys.modules[name] = None
from musamma.cli.main import run
status = run(sys.argv[1:])
imported = [name for name in {TRAINING + UNUSED} if sys.modules.get(name)]
print(*imported, file=sys.stderr)
sys.exit(status or 3 * bool(imported))
"""

# Several calls in one process, which prints their exit statuses and whether anything imported the packages all the same.
CALLS = f"""
import json, sys
for name in {TRAINING}:
    sys.modules[name] = None
from musamma.cli.main import run
print([run(call) for call in json.loads(sys.argv[1])], [name for name in {TRAINING} if sys.modules.get(name)])
"""

SERVED = """
import json, sys
for name in %s:
    sys.modules[name] = None
from fastapi.testclient import TestClient
from musamma.inference import Tagger
from musamma.inference.serve import create_app
with TestClient(create_app(Tagger(sys.argv[1]))) as client:
    print(json.dumps(client.post("/predict", json={"text": sys.argv[2]}).json()["documents"][0]["spans"]))
"""


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    classifier, options = load_classifier(str(checkpoint))
    write_exported(classifier, options, load_tokenizer(str(checkpoint)), folder, runtime="openvino")
    return folder


def test_predict_writes_the_same_bytes_without_them(exported: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    done = run_python(
        "-c", BLOCKED, "predict", str(text), "--model", str(exported), "--output", str(tmp_path / "a.jsonl")
    )
    assert done.returncode == 0, done.stderr
    done = run_python(
        "-m", "musamma", "predict", str(text), "--model", str(exported), "--output", str(tmp_path / "b.jsonl")
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert '"label"' in (tmp_path / "a.jsonl").read_text(encoding="utf-8")


def test_the_service_answers_without_them(exported: Path) -> None:
    done = run_python("-W", "ignore", "-c", SERVED % TRAINING, str(exported), TEXT)
    assert done.returncode == 0, done.stderr
    expected = [span.to_dict() for span in Tagger(str(exported)).tag(TEXT)]
    assert expected
    found = json.loads(done.stdout)
    assert [{key: span[key] for key in expected[0]} for span in found] == expected


def test_a_checkpoint_names_the_extra(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    done = run_python("-c", BLOCKED, "predict", str(text), "--model", str(checkpoint))
    assert done.returncode == 2
    assert (
        f"musamma: {checkpoint}: torch is not installed, which runs checkpoints; pip install 'musamma[train]', or give a model "
        "that musamma export wrote\n"
    ) in done.stderr


def test_a_packed_checkpoint_runs_in_openvino_without_them(checkpoint: Path, tmp_path: Path) -> None:
    packed = write_packed(checkpoint, tmp_path / "packed")
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    done = run_python("-c", BLOCKED, "predict", str(text), "--model", str(packed))
    if json.loads((packed / "config.json").read_text(encoding="utf-8"))["model_type"] != "bert":
        assert done.returncode == 2
        assert (
            "model_type 'xlm-roberta', which runs in PyTorch only; expected 'bert'; pip install 'musamma[train]'"
            in done.stderr
        )
        return
    assert done.returncode == 0, done.stderr
    found = [(span["start"], span["end"], span["label"]) for span in json.loads(done.stdout)["spans"]]
    assert found
    assert found == [span.key for span in Tagger(str(packed), device="cpu", bfloat16=False).tag(TEXT)]
    done = run_python("-c", BLOCKED, "predict", str(text), "--model", str(packed), "--device", "cuda")
    assert f"{packed}: device 'cuda' for a checkpoint without PyTorch; expected cpu; pip install" in done.stderr
    done = run_python(
        "-c", "import sys; sys.modules['openvino'] = None\n" + BLOCKED, "predict", str(text), "-m", str(packed)
    )
    assert (
        f"{packed}: torch is not installed, which runs checkpoints; pip install 'musamma[train]', or 'musamma[openvino]'"
        in done.stderr
    )


def test_every_format_and_rules_do_without_them(exported: Path, tmp_path: Path) -> None:
    text, rules = tmp_path / "text.txt", tmp_path / "rules.yaml"
    text.write_text(TEXT, encoding="utf-8")
    rules.write_text("lists:\n- {label: PER, names: [محمد السعيد]}\n", encoding="utf-8")
    outputs = [*(tmp_path / f"names.{suffix}" for suffix in ("jsonl", "parquet", "conll", "html")), tmp_path / "brat"]
    common = ["predict", str(text), "--model", str(exported), "--rules", str(rules)]
    calls = [[*common, "--output", str(output), *([] if output.suffix else ["--format", "brat"])] for output in outputs]
    done = run_python("-c", CALLS, json.dumps(calls))
    assert done.stdout.strip() == f"{[0] * len(calls)} []", done.stderr
    assert all(output.exists() for output in outputs)
    assert '"rule":' in outputs[0].read_text(encoding="utf-8")


def test_a_verb_that_needs_them_names_the_extra() -> None:
    calls = [
        ["train", "quickstart", "--output", "nowhere"],
        ["quickstart", "--output", "nowhere"],
        ["average", "first", "second", "--output", "nowhere"],
        ["pack", "nowhere", "packed"],
        ["encoder", "trim", "nawah", "nowhere", "--text", "text.txt"],
        ["encoder", "extend", "nawah", "nowhere", "--text", "text.txt", "--words", "9"],
        ["encoder", "pretrain", "nawah-pretrain"],
        ["export", "--output", "nowhere"],
    ]
    done = run_python("-c", CALLS, json.dumps(calls))
    assert done.stdout.strip() == f"{[2] * len(calls)} []", done.stderr
    message = r"musamma: \w+ is not installed, which this command needs; pip install 'musamma\[([\w,]+)\]'"
    extras = [re.fullmatch(message, line) for line in done.stderr.splitlines()]
    assert [extra and extra[1] for extra in extras] == ["train"] * (len(calls) - 1) + ["train,export"]


def test_help_imports_no_large_library() -> None:
    large = ["numpy", "pyarrow", "yaml", "tokenizers", *TRAINING]
    code = f"""
import sys
from musamma.cli.main import run
status = run(sys.argv[1:])
print([name for name in {large} if name in sys.modules], file=sys.stderr)
"""
    done = run_python("-c", code, "--help")
    assert "quickstart" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("variable", "siblings", "quota", "threads"),
    [
        (None, ["0", "1", "2", "3"], None, 4),
        (None, ["0,2", "1,3", "0,2", "1,3"], None, 2),
        (None, ["0", "1", "2", "3"], "max 100000", 4),
        (None, ["0", "1", "2", "3"], "150000 100000", 2),
        (None, ["0", "1", "2", "3"], "5000 100000", 1),
        ("3,1", ["0"], "100000 100000", 3),
        ("0", ["0", "1"], None, 2),
    ],
)
def test_threads_are_cores_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str | None,
    siblings: list[str],
    quota: str | None,
    threads: int,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    for number, text in enumerate(siblings):
        topology = tmp_path / f"cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(text)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(processor, "_CPUS", tmp_path)
    monkeypatch.setattr(processor, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(len(siblings))), raising=False)
    assert processor.count_threads() == threads


@pytest.mark.parametrize(("flags", "expected"), [("fpu avx512f avx512_bf16", True), ("fpu avx2", False), (None, False)])
def test_bfloat16_is_used_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str | None, expected: bool
) -> None:
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "_CPU_INFO", path)
    assert processor.has_bfloat16() is expected
