"""Rejoining clitics: normal spelling, with names at exact offsets."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.formats.wikifane import hidden_proclitic_length, rejoin_clitics


def joined(line, *names):
    """Text of the line, surfaces of the names, given as (first, last) token, and undecided tokens."""
    tokens = line.split()
    numbers = [None] * len(tokens)
    for number, (first, last) in enumerate(names):
        numbers[first : last + 1] = [number] * (last - first + 1)
    result = rejoin_clitics(tokens, numbers)
    surfaces = [result.text[result.offsets[a][0] : result.offsets[b][1]] for a, b in names]
    return result.text, surfaces, [tokens[i] for i in result.apart]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("و تعتبر مدينة جوبا عاصمة ها و اكبر مدن ها", "وتعتبر مدينة جوبا عاصمتها واكبر مدنها"),
        ("و ل جنوب السودان", "ولجنوب السودان"),
        ("نتائج ه و قد ب ه", "نتائجه وقد به"),
        ("مستوى ها و على ه", "مستواها وعليه"),
        ("ل الجيش و ل المانيا", "للجيش ولالمانيا"),
        ("لل الاستقرار", "للاستقرار"),
        ("كبير ة ، ك ما قال", "كبيرة ، كما قال"),
        ("عام 1377 ه", "عام 1377 ه"),
        ("مسافة 25 كم و مليون كم", "مسافة 25 كم ومليون كم"),
        ("بين هم و رحلات هم", "بينهم ورحلاتهم"),
        ("صديق ك ، ان ك", "صديقك ، انك"),
        ("الدولة ك دولة", "الدولة كدولة"),
    ],
)
def test_clitics_are_joined_to_their_word(line, text):
    assert joined(line) == (text, [], [])


@pytest.mark.parametrize(
    ("line", "apart"),
    [
        ("ان الشماليين هم تجار", ["هم"]),  # "that the Northerners, they are merchants": no suffix after the article
        ("طوائف ك الكلدان", ["ك"]),
        ("و 30 رجلا", ["و"]),
        ('سمي ب " سحق "', ["ب"]),
        ("( ها انذا", ["ها"]),
        ("ب ن", ["ب"]),
    ],
)
def test_undecided_tokens_stay_separate_and_are_reported(line, apart):
    assert joined(line) == (line, [], apart)


@pytest.mark.parametrize(
    ("line", "names", "text", "surfaces"),
    [
        # A proclitic stays outside, also where the lam swallows the alef.
        ("قال ل الجيش العراقي", [(2, 3)], "قال للجيش العراقي", ["لجيش العراقي"]),
        ("و ب الموصل", [(2, 2)], "وبالموصل", ["الموصل"]),
        # A suffix outside the name.
        ("معرض ها", [(0, 0)], "معرضها", ["معرض"]),
        # Letters of a name that were taken for clitics.
        ("مدينة و هران", [(1, 2)], "مدينة وهران", ["وهران"]),
        ("كتاب وزارة الدفاع و الطيران", [(1, 4)], "كتاب وزارة الدفاع والطيران", ["وزارة الدفاع والطيران"]),
        ("صاروخ سكود س يصل", [(1, 2)], "صاروخ سكودس يصل", ["سكودس"]),
        ("بروكتر و غامبل", [(0, 2)], "بروكتر وغامبل", ["بروكتر وغامبل"]),
        ("الممالي ك في", [(0, 1)], "المماليك في", ["المماليك"]),
    ],
)
def test_names_keep_their_letters(line, names, text, surfaces):
    assert joined(line, *names) == (text, surfaces, [])


def test_a_pronoun_after_a_name_is_not_a_suffix():
    assert joined("علماء بغداد هم", (1, 1)) == ("علماء بغداد هم", ["بغداد"], ["هم"])


TOKENS = [*"وفلبكهةس12،.(", "ها", "هم", "كم", "ال", "لل", "الموصل", "بغداد", "مدينة", "مستوى", "على"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=12))
def test_offsets_tile_the_text(tokens):
    result = rejoin_clitics(tokens, [None] * len(tokens))
    assert len(result.offsets) == len(tokens)
    end = 0
    for token, (start, stop) in zip(tokens, result.offsets, strict=True):
        assert result.text[end:start] in ("", " ")
        # At most two letters are respelt: the article's after a lam, or a word's last one.
        assert len(token) - 2 <= stop - start <= len(token)
        end = stop
    assert end == len(result.text)
    spaces = sum(
        result.text[end:start] == " " for (_, end), (start, _) in zip(result.offsets, result.offsets[1:], strict=False)
    )
    assert spaces == max(0, len(tokens) - 1) - result.joined


def test_frequencies_decide_on_proclitics_that_were_not_split_off():
    starts = Counter(
        {"اوروبا": 243, "لاوروبا": 6, "الازهر": 46, "للازهر": 6, "لبنان": 246, "بنان": 1, "وليد": 3, "ليد": 20}
    )
    assert hidden_proclitic_length("لاوروبا", starts) == 1
    assert hidden_proclitic_length("للازهر", starts) == 1  # the name begins at the second lam
    assert hidden_proclitic_length("لبنان", starts) == 0
    assert hidden_proclitic_length("وليد", starts) == 0
    assert hidden_proclitic_length("بغداد", starts) == 0
