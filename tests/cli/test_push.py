"""``musamma push``."""

from __future__ import annotations

from pathlib import Path

from musamma.cli.main import run
from musamma.models import hub_upload
from tests.support import refused_command

KHABAR = Path(__file__).parents[2] / "data" / "corpora" / "khabar"


def test_a_dry_run_lists_the_files(capsys, monkeypatch):
    monkeypatch.delattr(hub_upload, "push")
    assert run(["push", "--corpus", str(KHABAR), "owner/khabar", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = (KHABAR / "LICENSE").stat().st_size
    assert [line.split() for line in lines if line.startswith("LICENSE")] == [["LICENSE", f"{size:,}"]]
    assert lines[-1].startswith("dataset owner/khabar: ")
    assert lines[-1].endswith("nothing is uploaded")


def test_wrong_calls(capsys, monkeypatch, tmp_path):
    assert refused_command(capsys, "push", tmp_path, "mine").startswith("OWNER/NAME 'mine'; expected OWNER/NAME")
    assert refused_command(capsys, "push", tmp_path, "owner/mine") == (
        f"{tmp_path}: no config.json; expected a checkpoint with its tokenizer and model card"
    )
    packaged = tmp_path / "package/tagger"
    packaged.mkdir(parents=True)
    for file in ("config.json", "model-int8.safetensors"):
        (packaged / file).touch()
    monkeypatch.setattr("musamma.models.model_names.packaged_folder", lambda: packaged.parent)
    assert refused_command(capsys, "push", "tagger", "owner/mine") == (
        "tagger: a packed checkpoint, which only Musamma reads; expected a plain checkpoint; write one with musamma unpack"
    )
    refused = refused_command(capsys, "push", "--corpus", KHABAR, "owner/khabar", "--export", tmp_path)
    assert refused == "--export with --corpus; expected an export beside a checkpoint"
    monkeypatch.setattr(hub_upload, "get_token", lambda: None)
    assert refused_command(capsys, "push", "--corpus", KHABAR, "owner/khabar") == (
        "no access token for the hub; log in with `hf auth login`, or set the environment variable HF_TOKEN"
    )
