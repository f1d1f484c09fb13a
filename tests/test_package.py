"""The package as users get it: the wheel away from the checkout, the public surface, and documents that match the code."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import site
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import musamma
from musamma import evaluation, inference
from musamma.cli.commands import app
from musamma.training.config import RunConfig
from musamma.training.config_fields import BaseConfig
from musamma.training.config_files import read_config
from musamma.training.distillation.distill_config import DistillConfig
from musamma.training.pretraining.pretrain_config import PretrainConfig

ROOT = Path(__file__).parents[1]
FOLDERS = ("cli", "configs", "data", "evaluation", "inference", "models", "training")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LARGEST_WHEEL = 100_000_000
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")
# With several test processes, one runs all of these, so that the wheel is built once.
ONE_WHEEL = pytest.mark.xdist_group("wheel")

# Run in the installed copy, in one process, since loading the libraries takes longest.
PROBE = """
import json, sys
from pathlib import Path
import yaml
import musamma.cli.commands
from musamma.data.corpora import load_khabar
from musamma.models.checkpoint import load_tokenizer
from musamma.models.model_names import packaged_models
from musamma.training.config import load_config
from musamma.training.config_files import packaged_configs
from musamma.training.distillation.distill_config import load_distill_config
from musamma.training.pretraining.pretrain_config import load_pretrain_config

def load(name, path):
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    return (load_distill_config if "teacher" in keys else load_pretrain_config if "text" in keys else load_config)(name)

text = "وبالموصل"
encoding = load_tokenizer(str(packaged_models()["nawah"]))(text, add_special_tokens=False, return_offsets_mapping=True)
print(json.dumps({
    "files": sorted({m.__file__ for n, m in sys.modules.items() if n.startswith("musamma.") and m.__file__}),
    "articles": len(load_khabar()),
    "seed": next(d for d in load_khabar("test") if d.id == "seed-mosul").text[:10],
    "configs": {
        name: load(name, path).output for name, path in packaged_configs().items()
    },
    "models": {name: str(path) for name, path in packaged_models().items()},
    "covered": [min(a for a, _ in encoding["offset_mapping"]), max(b for _, b in encoding["offset_mapping"])],
}))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of links to the checkout, in which a build leaves its files."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    package = source / "src/musamma"
    package.mkdir(parents=True)
    for path in (ROOT / "src/musamma").iterdir():
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path.resolve())
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline."""
    target = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", *OFFLINE, "-w", str(target), str(source))
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel alone."""
    target = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", *OFFLINE, "--no-compile", "--target", str(target), str(wheel))
    return target


def run(*arguments: str, **environment: str) -> str:
    """Run Python away from the checkout and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(sys.executable).anchor,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONWARNINGS": "default", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_installed(target: Path, *arguments: str) -> str:
    """Run Python with the installed copy; without ``site`` it does not see an editable install."""
    path = os.pathsep.join([str(target), *site.getsitepackages()])
    return run("-S", "-P", *arguments, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1", COLUMNS="200")


@ONE_WHEEL
def test_wheel_holds_every_file_once(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_WHEEL
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    version = PROJECT["project"]["version"]
    assert {name.split("/")[0] for name in names} == {"musamma", f"musamma-{version}.dist-info"}
    sources = {
        f"musamma/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    } | {"musamma/__init__.py", "musamma/__main__.py", "musamma/py.typed"}
    assert sources == {name for name in names if name.startswith("musamma/")}
    assert {
        "musamma/models/nawah/model.safetensors",
        "musamma/data/corpora/khabar/articles/seed-mosul.txt",
    } <= sources
    assert f"musamma-{version}.dist-info/licenses/LICENSE" in names


def test_folders_are_linked_into_the_package() -> None:
    links = {path.name: path.readlink().as_posix() for path in (ROOT / "src/musamma").iterdir() if path.is_symlink()}
    assert links == {folder: f"../../{folder}" for folder in FOLDERS}


@ONE_WHEEL
def test_editable_install_is_a_path_that_type_checkers_follow(source: Path, tmp_path: Path) -> None:
    run("-m", "pip", "install", *OFFLINE, "--target", str(tmp_path), "--editable", str(source))
    assert [path.name for path in tmp_path.glob("*.py")] == []  # An import hook would be one.
    (path_file,) = tmp_path.glob("*.pth")
    assert path_file.read_text(encoding="utf-8").split() == [str(source / "src")]


@ONE_WHEEL
def test_installed_copy_brings_corpus_configs_and_encoder(installed: Path) -> None:
    found = json.loads(run_installed(installed, "-c", PROBE))
    assert found["files"]
    assert all(Path(file).is_relative_to(installed) for file in found["files"])
    assert found["articles"] == len(list((ROOT / "data/corpora/khabar/articles").glob("*.txt")))
    assert found["seed"] == "أخبار الان"
    assert set(found["configs"]) == {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    packaged = {path.parent.name for path in (ROOT / "models").glob("*/config.json")}
    assert found["models"] == {name: str(installed / f"musamma/models/{name}") for name in packaged}
    assert found["covered"] == [0, 8]


@ONE_WHEEL
def test_installed_command_runs(installed: Path) -> None:
    shown = run_installed(installed, "-m", "musamma", "--help")
    assert {verb.split()[0] for verb in verbs()} - set(shown.split()) == set()


def test_public_names() -> None:
    assert musamma.__all__ == [
        "Document",
        "InputError",
        "Span",
        "Tagger",
        "__version__",
        "export_model",
        "finetune",
        "load_config",
        "read_documents",
        "score_documents",
        "score_tags",
        "write_documents",
    ]
    assert dir(musamma) == musamma.__all__
    assert set(inference.__all__) == {"Tagger"}
    assert set(evaluation.__all__) == {
        *("score_documents", "score_tags", "print_scores", "print_runs", "spread", "Scorer"),
        *("Scores", "SeedScores", "ModeScores", "Counts", "Average", "Losses", "MODES"),
        *("PartialCounts", "PartialScores"),
    }
    for module in (musamma, inference, evaluation):
        assert all(hasattr(module, name) for name in module.__all__)
    assert musamma.Tagger is inference.Tagger
    assert musamma.__version__ == PROJECT["project"]["version"]
    with pytest.raises(AttributeError, match="no attribute 'Tager'"):
        _ = musamma.Tager


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse((ROOT / "src/musamma/__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module, name.name) for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names
    }
    loaded = {(module, name) for name, module in musamma._MODULES.items()}
    assert imported == loaded
    assert {name for _, name in loaded} | {"__version__"} == set(musamma.__all__)


@pytest.mark.parametrize("statement", ["import musamma", "from musamma import Document, InputError, read_documents"])
def test_import_is_light(statement: str) -> None:
    script = f"import sys; {statement}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert run("-c", script, PYTHONPATH=str(ROOT / "src")).strip() == "[]"


def test_command_verbs() -> None:
    assert sorted(verbs()) == [
        "average",
        "calibrate",
        "check",
        "compare",
        "convert",
        "distill",
        "encoder extend",
        "encoder pretrain",
        "encoder trim",
        "encoder unpack",
        "evaluate",
        "export",
        "pack",
        "predict",
        "push",
        "quickstart",
        "serve",
        "suggest",
        "train",
        "unpack",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_load_and_say_how_to_run_them(path: Path) -> None:
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    kind = DistillConfig if "teacher" in keys else PretrainConfig if "text" in keys else RunConfig
    config = read_config(path, kind)
    assert Path(config.output).parts[0] == "runs"
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    commands = [
        line.removeprefix("#").strip() for line in header if line.removeprefix("#").strip().startswith("musamma ")
    ]
    assert commands, "no command in the header"
    for command in commands:
        check_command(command, str(path))


@pytest.mark.parametrize(
    ("kind", "page"), [(RunConfig, "train"), (PretrainConfig, "pretrain"), (DistillConfig, "distill")]
)
def test_every_key_of_a_config_is_documented(kind: type[BaseConfig], page: str) -> None:
    keys = set()
    for name, field in kind.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        keys |= {f"{name}.{key}" for key in inner} if inner else {name}
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition("## A recipe")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == keys


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_show_commands_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for kind, block in blocks(text):
        if kind == "python":
            check_imports(block, str(path))
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            command = line.rsplit(" | ", 1)[-1].strip().removeprefix(".venv/bin/")
            if command.startswith("musamma "):
                check_command(command, str(path))
            elif command.startswith("make "):
                assert set(shlex.split(command, comments=True)[1:]) <= targets, f"{path}: {command}"


def test_readmes_say_the_same() -> None:
    english, arabic = (ROOT / name for name in ("README.md", "README.ar.md"))
    code = [[block for _, block in blocks(path.read_text(encoding="utf-8"))] for path in (english, arabic)]
    commands = [[line for block in each for line in block.splitlines() if "musamma " in line] for each in code]
    assert commands[0] == commands[1]
    figures = [sorted(re.findall(r"<!-- figure: (\S+) -->", p.read_text(encoding="utf-8"))) for p in (english, arabic)]
    assert figures[0] == figures[1]


def test_readme_shows_the_seed_article_as_annotated() -> None:
    article = (ROOT / "data/corpora/khabar/articles/seed-mosul.txt").read_text(encoding="utf-8")
    for name in ("README.md", "README.ar.md"):
        shown = [block.strip() for _, block in blocks((ROOT / name).read_text(encoding="utf-8")) if "|GPE]" in block]
        assert len(shown) == 1
        assert all(line in article for line in shown[0].splitlines())


def test_nothing_names_a_registry_or_a_build_machine() -> None:
    # Put together here, so that this file holds none of them.
    banned = [
        "pypi." + "org",
        "python" + "hosted",
        "npm" + "js.",
        "deb." + "debian",
        "download." + "pytorch",
        "/wo" + "rk/",
    ]
    found = []
    for path in text_files():
        content = path.read_text(encoding="utf-8").lower()
        found += [f"{path.relative_to(ROOT)}: {name}" for name in banned if name in content]
    assert found == []


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert citation["license"] == PROJECT["project"]["license"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_every_direct_dependency() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    # The extras are installed for the tests as well, through the one for developers, except those of benchmarks and the site.
    (own,) = (name for name in extras["dev"] if name.startswith("musamma["))
    assert set(own.removeprefix("musamma[").rstrip("]").split(",")) == set(extras) - {"dev", "docs", "fuzz"}
    wanted = [*PROJECT["project"]["dependencies"], *(name for each in extras.values() for name in each if name != own)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line.split("==")[0]) for line in lines if "==" in line}
    assert {plain(re.split(r"[<>=!~\[; ]", name)[0]) for name in wanted} - pinned == set()


def plain(name: str) -> str:
    """A distribution's name as comparable text."""
    return re.sub(r"[-_.]+", "-", name).lower()


def verbs() -> dict[str, Any]:
    """The commands that the verbs run, ``encoder trim`` and its like with both words."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found.update({f"{name} {verb}": each for verb, each in inner.items()} if inner else {name: command})
    return found


def check_command(line: str, where: str) -> None:
    """Fail if a line of a document calls a verb, or gives it an option, that does not exist."""
    words = shlex.split(line, comments=True)[1:]
    if words[0] in ("--help", "-h"):
        return
    verb = next((name for name in (" ".join(words[:2]), words[0]) if name in verbs()), None)
    assert verb is not None, f"{where}: no such verb: {line}"
    known = {option for parameter in verbs()[verb].params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert given <= known | {"--help", "-h", "--debug"}, f"{where}: no such option: {line}"


def check_imports(block: str, where: str) -> None:
    """Fail if a Python example does not parse, or imports what is not there."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("musamma"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, name.name) for name in node.names), f"{where}: {ast.unparse(node)}"


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a Markdown text: their language and content."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def text_files() -> Iterator[Path]:
    """Every text file of the project, what the tools leave behind aside."""
    suffixes = {".py", ".md", ".txt", ".yaml", ".toml", ".cff", ".json", ""}
    folders = [ROOT / name for name in (*FOLDERS, "docs", "tests", "benchmarks", ".ci") if (ROOT / name).is_dir()]
    for path in (*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))):
        if path.is_file() and path.suffix in suffixes and not (path.parent == ROOT and path.name == ".git"):
            yield path
