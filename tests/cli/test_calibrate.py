"""``musamma calibrate``: it changes scores and never names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy.special import softmax
from typer.testing import CliRunner

from musamma.cli.calibrate import calibrate
from musamma.data.arabic import proclitic_offsets
from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.errors import InputError
from musamma.evaluation.reliability import measure_reliability
from musamma.inference import Tagger
from musamma.models.checkpoint import load_classifier
from musamma.models.classifier import TokenClassifier
from musamma.models.loading import load_predictor
from musamma.models.window_options import WindowOptions
from tests.support import default_mode, file_modes, write_random_checkpoint

app = typer.Typer()
app.command()(calibrate)

#: Factor by which the model is overconfident in its tags.
OVERCONFIDENCE = 3.0
SENTENCES = [
    "أعلنت وزارة الدفاع العراقية تقدم القوات نحو الموصل وبلدة قره قوش شرقي المدينة",
    "وقال محمد السعيد لوكالة رويترز في بيروت إن الاجتماع سيعقد بالقاهرة غدا",
    "وصل الرئيس إلى دمشق وبغداد ولندن، ثم غادر إلى باريس (فرنسا) برفقة وفد من الأمم المتحدة",
    "شهدت شوارع المدينة احتفالات للجيش والشرطة الاتحادية بعد تحرير ناحية النمرود",
]


@pytest.fixture(scope="module")
def made(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random heads of large weights: it finds names of one word everywhere, with high scores."""

    def lower_inside_tags(classifier: TokenClassifier) -> None:
        classifier.backbone.classifier.bias[2::2] -= 60  # names of one word: each tag can be drawn independently

    return write_random_checkpoint(
        tmp_path_factory.mktemp("model"),
        wordpiece_encoder,
        head_std=0.7,
        proclitic_std=0.2,
        adjust=lower_inside_tags,
    )


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.fixture(scope="module")
def dev(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents whose tags are drawn from the model's probabilities at a temperature of 3."""
    predictor = load_predictor(str(made), device="cpu")
    random = np.random.default_rng(2)
    texts = [" ".join(SENTENCES[index % 4].split()[index % 7 :]) for index in range(120)]
    documents = []
    for tokenized, (tags, borders, _) in predictor.classify(Document(f"{i}", text) for i, text in enumerate(texts)):
        document, spans = tokenized.document, []
        for (start, end), tag, border in zip(
            tokenized.words.tolist(), tags.astype(float), borders.astype(float), strict=True
        ):
            label = predictor.tag_set.label_of(int(random.choice(len(tag), p=softmax(tag / OVERCONFIDENCE))))
            offsets = proclitic_offsets(document.text, start, end)
            if label:
                spans.append(Span(int(random.choice(offsets, p=softmax(border[: len(offsets)]))), end, label))
        documents.append(document.with_spans(spans))
    assert sum(len(document.spans) for document in documents) > 300
    file = tmp_path_factory.mktemp("dev") / "dev.jsonl"
    write_jsonl(documents, file)
    return file


def call(*arguments: object) -> str:
    """Return the printed output; errors are raised as the main function receives them."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def read_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text("utf-8"))


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.strip()}


def measure_tagger(folder: Path, dev: Path):
    """Measure the reliability of the tagger's scores, counted independently of the command."""
    scores, correct = [], []
    gold = list(read_jsonl(dev))
    tagged = Tagger(str(folder), device="cpu").tag_documents(document.with_spans(()) for document in gold)
    for document, prediction in zip(gold, tagged, strict=True):
        keys = {span.key for span in document.spans}
        scores += [span.score for span in prediction.spans]
        correct += [span.key in keys for span in prediction.spans]
    return measure_reliability(scores, correct)


def test_scores_become_reliable_and_names_stay(model, made, dev):
    output = rows(call(dev, "--model", model, "--precision", 0.6))
    stored = read_config(model)["musamma"]["calibration"]
    before, after = measure_tagger(made, dev), measure_tagger(model, dev)
    assert after.ece < before.ece / 2
    assert after.brier < before.brier
    assert stored["ece_before"] == pytest.approx(before.ece, abs=1e-3)
    assert stored["ece_after"] == pytest.approx(after.ece, abs=1e-3)
    assert output["before"][4] == f"{stored['ece_before']:.4f}"
    assert output["after"][0] == f"{stored['tag_temperature']:.2f}"
    assert stored["tag_temperature"] == pytest.approx(OVERCONFIDENCE, rel=0.2)
    documents = list(read_jsonl(dev))
    assert stored["fitted_on"] == {"documents": 120, "names": sum(len(document.spans) for document in documents)}
    texts = [document.text for document in documents]
    plain, fitted = (list(Tagger(str(folder), device="cpu").tag_texts(texts)) for folder in (made, model))
    assert [[span.key for span in spans] for spans in fitted] == [[span.key for span in spans] for spans in plain]
    assert [span.score for span in fitted[0]] != [span.score for span in plain[0]]


def test_thresholds_are_stored_printed_and_applied(model, dev):
    output = rows(call(dev, "--model", model, "--precision", 0.6))
    stored = read_config(model)["musamma"]["calibration"]
    assert stored["precision"] == 0.6
    assert set(stored["thresholds"]) == {"LOC", "ORG", "PER"}
    reached = {label: value for label, value in stored["thresholds"].items() if value is not None}
    assert reached
    gold = {document.id: {span.key for span in document.spans} for document in read_jsonl(dev)}
    tagger = Tagger(str(model), device="cpu", thresholds=True)
    correct: dict[str, list[bool]] = {label: [] for label in stored["thresholds"]}
    for document in tagger.tag_documents(read_jsonl(dev)):
        for span in document.spans:
            assert span.score >= reached[span.label]
            correct[span.label].append(span.key in gold[document.id])
    for label, outcomes in correct.items():
        if label in reached:
            # The batches differ from those of the fit, so the last digit of a score may differ.
            assert sum(outcomes) / len(outcomes) > 0.6
            assert output[label][0] == f"{reached[label]:.4f}"
            assert float(output[label][1]) == pytest.approx(sum(outcomes) / len(outcomes), abs=0.02)
        else:
            assert not outcomes
            assert output[label][:2] == ["not", "reached"]


def test_an_unreachable_precision_leaves_no_name(model, dev):
    output = call(dev, "--model", model, "--precision", 0.999)
    assert read_config(model)["musamma"]["calibration"]["thresholds"] == {"LOC": None, "ORG": None, "PER": None}
    assert output.count("not reached") == 3
    tagger = Tagger(str(model), device="cpu", thresholds=True)
    assert tagger.tag(SENTENCES[0]) == []
    ((tagged, left_out),) = tagger.tag_groups([[Document("0", SENTENCES[0])]])
    assert tagged[0].spans == ()
    assert left_out == len(Tagger(str(model), device="cpu").tag(SENTENCES[0])) > 0


def test_the_rest_of_the_checkpoint_is_unchanged(model, made, dev):
    call(dev, "--model", model)
    after = read_config(model)
    assert after["musamma"].pop("calibration")
    assert after == read_config(made)
    assert sorted(path.name for path in model.iterdir()) == sorted(path.name for path in made.iterdir())
    for file in made.iterdir():
        if file.name != "config.json":
            assert (model / file.name).read_bytes() == file.read_bytes()
    assert load_classifier(str(model))[1] == WindowOptions(max_length=64, overlap=16)


def test_calibrating_again_gives_the_same_result(model, dev):
    call(dev, "--model", model)
    first = read_config(model)
    call(dev, "--model", model)
    assert read_config(model) == first


def test_a_copy_leaves_the_model_unchanged(model, dev, tmp_path):
    before = read_config(model)
    (model / "training").mkdir()
    (model / "model.safetensors").chmod(0o600)
    output = call(dev, "--model", model, "--output", tmp_path / "new" / "copy")
    assert set(file_modes(tmp_path / "new" / "copy").values()) == {default_mode(tmp_path)}
    assert read_config(model) == before
    assert output.splitlines()[-1] == f"written to {tmp_path / 'new' / 'copy' / 'config.json'}"
    copy = read_config(tmp_path / "new" / "copy")
    assert copy["musamma"]["calibration"]["tag_temperature"] > 1.2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]
    assert (tmp_path / "new/copy/proclitic_head.safetensors").read_bytes() == (
        model / "proclitic_head.safetensors"
    ).read_bytes()
    with pytest.raises(InputError, match="copy: is there already; expected a folder that is new or empty"):
        call(dev, "--model", model, "--output", tmp_path / "new" / "copy")


def test_a_checkpoint_of_another_tool_can_be_calibrated(model, dev):
    """It has no proclitic head and no musamma entry in its configuration."""
    (model / "proclitic_head.safetensors").unlink()
    config = read_config(model)
    del config["musamma"]
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    call(dev, "--model", model)
    stored = read_config(model)["musamma"]
    assert list(stored) == ["calibration"]
    assert stored["calibration"]["proclitic_temperature"] == 1.0
    assert Tagger(str(model), device="cpu").tag(SENTENCES[0])


def test_labels_can_be_renamed_first(model, dev, tmp_path):
    renamed = [
        document.with_spans(Span(span.start, span.end, f"{span.label}X") for span in document.spans)
        for document in read_jsonl(dev)
    ]
    write_jsonl(renamed, tmp_path / "dev.jsonl")
    with pytest.raises(
        InputError, match="labels the model does not have: LOCX, ORGX, PERX; expected only LOC, ORG, PER"
    ):
        call(tmp_path / "dev.jsonl", "--model", model)
    assert "calibration" not in read_config(model)["musamma"]
    (tmp_path / "map.yaml").write_text("LOCX: LOC\nORGX: ORG\nPERX: PER\n", encoding="utf-8")
    call(tmp_path / "dev.jsonl", "--model", model, "--labels", tmp_path / "map.yaml")
    one = read_config(model)
    call(dev, "--model", model)
    assert read_config(model) == one


@pytest.fixture
def refused(model: Path, dev: Path, tmp_path: Path) -> Callable[..., str]:
    """Return the message of an error."""

    def failing(*arguments: object, dev: Path = dev, model: object = model) -> str:
        with pytest.raises(InputError) as caught:
            call(dev, "--model", model, *arguments)
        return str(caught.value)

    return failing


def test_invalid_calls_raise_an_error(refused, model, tmp_path):
    before = read_config(model)
    (tmp_path / "bare.jsonl").write_text('{"id": "a", "text": "وصل إلى بغداد"}\n', encoding="utf-8")
    assert refused(dev=tmp_path / "bare.jsonl").startswith(f"{tmp_path / 'bare.jsonl'}: 1 documents without names; ")
    assert "none.jsonl" in refused(dev=tmp_path / "none.jsonl")
    assert refused("--precision", 1).startswith("precision 1; expected a share between 0 and 1")
    assert refused(model="nawah") == (
        "nawah: not a folder of your own, so the model cannot be changed; give --output FOLDER to write a calibrated copy"
    )
    packaged = Path(__file__).parents[2] / "models" / "nawah"
    assert "give --output FOLDER" in refused(model=packaged)
    assert "no such model" in refused(model="nothing")
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert refused("--output", tmp_path / "file").startswith(f"{tmp_path / 'file'}: is there already")
    assert "choose an `output` that can be written" in refused("--output", tmp_path / "file" / "below")
    assert read_config(model) == before


def test_a_model_that_finds_nothing_is_an_error(made, dev, refused, model):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"][0] += 1_000
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert "the model predicts no name, and the documents have " in refused()


def test_a_folder_without_write_permission_is_an_error(refused, model, monkeypatch):
    def denied(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_text", denied)  # root may write anywhere
    message = refused()
    assert "Permission denied" in message
    assert message.endswith("give an `output` that can be written")


def test_invalid_minimum_scores_raise_an_error(made):
    for options, message in (
        ({"min_score": 1.2}, "minimum score 1.2; expected a number from 0 to 1"),
        ({"label_min_scores": {"PER": -1}}, "minimum score -1"),
        ({"label_min_scores": {"GPE": 0.5}}, "a minimum score for 'GPE'; expected one of its labels: LOC, ORG, PER"),
        ({"thresholds": True}, "the checkpoint has no thresholds; .*; run musamma calibrate DEV --model"),
    ):
        with pytest.raises(InputError, match=message):
            Tagger(str(made), device="cpu", **options)


def test_a_name_must_reach_both_bounds(model, dev):
    call(dev, "--model", model, "--precision", 0.6)
    config = read_config(model)
    config["musamma"]["calibration"]["thresholds"] = {"LOC": 0.4, "ORG": 0.9, "PER": None}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    documents = [document.with_spans(()) for document in read_jsonl(dev)]
    every = [span for d in Tagger(str(model), device="cpu").tag_documents(documents) for span in d.spans]

    def lowest(label: str, bound: float) -> int:
        return sum(span.label == label and span.score >= bound for span in every)

    for options, bounds in (
        ({"min_score": 0.6}, (0.6, 0.6, 0.6)),
        ({"thresholds": True}, (0.4, 0.9, 2)),
        ({"thresholds": True, "min_score": 0.6}, (0.6, 0.9, 2)),
        ({"thresholds": True, "min_score": 0.6, "label_min_scores": {"PER": 0.0, "ORG": 0.5}}, (0.6, 0.5, 0.0)),
        ({"label_min_scores": {"LOC": 0.7}}, (0.7, 0.0, 0.0)),
    ):
        tagger = Tagger(str(model), device="cpu", **options)
        ((group, left_out),) = tagger.tag_groups([documents])
        retained = [span for document in group for span in document.spans]
        counts = tuple(sum(span.label == label for span in retained) for label in ("LOC", "ORG", "PER"))
        assert counts == tuple(map(lowest, ("LOC", "ORG", "PER"), bounds))
        assert left_out == len(every) - len(retained) > 0
        assert group == list(tagger.tag_documents(documents))
