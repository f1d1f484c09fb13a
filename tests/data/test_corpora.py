"""The corpus included in the package."""

import pytest

from musamma.data import corpora
from musamma.data.consistency import find_border_issues, find_unknown_labels
from musamma.data.errors import InputError
from musamma.data.labels import KHABAR


def test_the_seed_article_has_its_names():
    seed = {document.id: document for document in corpora.load_khabar()}["seed-mosul"]
    assert seed.meta["country"] == "IQ"
    names = {(seed.surface(span), span.label) for span in seed.spans}
    assert {("داعش", "ORG"), ("حسام الأحبابي", "PER"), ("قره قوش", "GPE"), ("حي القاهرة", "GPE")} <= names
    assert [(seed.surface(span), span.label) for span in seed.nested] == [("القاهرة", "GPE")]


def test_articles_have_known_labels_and_whole_words():
    documents = corpora.load_khabar()
    assert find_unknown_labels(documents, KHABAR) == {}
    inside = [
        issue
        for issue in find_border_issues(documents)
        if issue.kind in ("starts_inside_word", "ends_inside_word", "mark_at_border")
    ]
    # Words run together, and proclitics of dialect: listed one by one in decided.yaml.
    assert {issue.document for issue in inside} == {"q03", "q11", "q17", "u02", "u03", "u04"}
    assert [document.id for document in documents] == sorted({document.id for document in documents})


@pytest.fixture
def small(tmp_path, monkeypatch):
    folder = tmp_path / "khabar" / "articles"
    folder.mkdir(parents=True)
    for id in ("b", "a", "c"):
        (folder / f"{id}.txt").write_text(f"---\ntopic: {id}\n---\n[بغداد|GPE]", "utf-8")
    (tmp_path / "khabar" / "splits.yaml").write_text("train: [c, a]\ntest: [b]\ndev: [d]\n", "utf-8")
    monkeypatch.setattr(corpora, "files", lambda package: tmp_path)


@pytest.mark.usefixtures("small")
def test_splits_follow_the_file():
    assert [document.id for document in corpora.load_khabar()] == ["a", "b", "c"]
    assert [document.id for document in corpora.load_khabar("train")] == ["c", "a"]
    assert [document.id for document in corpora.load_khabar("test")] == ["b"]
    with pytest.raises(InputError, match=r"splits\.yaml: split 'all'; expected one of train, test, dev"):
        corpora.load_khabar("all")
    with pytest.raises(InputError, match=r"splits\.yaml: article 'd' of split 'dev' is not there"):
        corpora.load_khabar("dev")
