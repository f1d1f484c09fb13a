"""What a vocabulary is worth: pieces a word, and how near the hidden states stay, by the number of whole-word pieces.

    python benchmarks/vocabulary.py ENCODER --text news.txt.zst --text wiki.txt.zst [--gold anercorp.jsonl ...]
        [--pieces 22100] [--words 0 2000 4000] [--initial letters ...] [--every N] [--limit N] [--lines N] [--json FILE]

Words are counted once on the texts, one line in 50 is held out. For each number of words the vocabulary is chosen as
`musamma encoder extend` does, with `--pieces` pieces in all (0 words: the least used pieces go and nothing comes),
and the encoder is made in memory. `p/w` is pieces a white-space word on the held-out lines of a text, or on a
`--gold` file, whose lines are not counted; `finer` is the share of words that are cut into more pieces than before.
Cosines are those of words' mean last hidden states with the source's, for the words that are cut otherwise and for
the others, and of whole lines; `chance` is that of neighbouring words in the source.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from musamma.data.files import write_json
from musamma.data.input_files import read_lines
from musamma.data.normalization import fast_backend, install_normalizer
from musamma.models.pretrained_encoder import load_encoder
from musamma.models.vocabulary.embeddings import INITIALIZATIONS, extend_embeddings, trim_embeddings
from musamma.models.vocabulary.encoder_similarity import LineSplit, measure_fertility, measure_similarity
from musamma.models.vocabulary.tokenizer import trim_tokenizer
from musamma.models.vocabulary.word_vocabulary import choose_vocabulary, count_words, extend_tokenizer, unknown_piece_id


def main() -> None:
    """Count, choose, measure, print."""
    options = _options()
    disable_progress_bar()
    torch.set_num_threads(1)
    console = Console(width=180)
    model, tokenizer = load_encoder(options.encoder)
    backend = fast_backend(install_normalizer(tokenizer))
    backend.no_truncation()
    backend.no_padding()
    held = {path: LineSplit(options.lines) for path in options.text}
    counted = (
        line
        for path, one in held.items()
        for line in one.rest(read_lines([path], every=options.every, limit=options.limit))
    )
    lexicon = count_words(backend, counted)
    console.print(
        f"{sum(one.counted for one in held.values()):,} lines, {sum(lexicon.counts.values()):,} words and signs, "
        f"{len(lexicon.counts):,} different; {model.num_parameters():,} parameters in {options.encoder}"
    )
    judged = {Path(path).name: one.lines for path, one in held.items()}
    judged |= {Path(path).name: list(read_lines([path], limit=options.lines)) for path in options.gold}
    own = [line for one in held.values() for line in one.lines]
    records = []
    for words in options.words:
        choice = choose_vocabulary(backend, lexicon, words=words, pieces=options.pieces)
        base = trim_tokenizer(backend, choice.ids)
        new = extend_tokenizer(base, choice.words)
        places = new.get_vocab()
        moved = {i: places[piece] for piece, i in backend.get_vocab().items() if piece in places}
        unknown = unknown_piece_id(backend), unknown_piece_id(new)
        cuts = {name: asdict(measure_fertility((backend, new), lines, unknown)) for name, lines in judged.items()}
        for initial in options.initial if words else options.initial[:1]:
            extended = extend_embeddings(trim_embeddings(model, choice.ids), base, choice.words, initial=initial)
            states = measure_similarity((model, extended), (backend, new), own, moved)
            records.append(
                {
                    "words": words,
                    "pieces": new.get_vocab_size(),
                    "parameters": extended.num_parameters(),
                    "least_count": min((lexicon.counts[word] for word in choice.words), default=None),
                    "initial": initial,
                    "cuts": cuts,
                    "states": asdict(states),
                }
            )
    _print(records, list(judged), console)
    if options.json:
        write_json(records, options.json)


def _print(records: list[dict[str, Any]], texts: list[str], console: Console) -> None:
    table = Table("words", "pieces", "parameters", *(f"p/w {name}" for name in texts), box=None, pad_edge=False)
    first = records[0]["cuts"]
    table.add_row("source", "", "", *(f"{first[name]['pieces_per_word_before']:.4f}" for name in texts))
    cosines = Table("words", "initial", "changed", "cos changed", "others", "lines", "chance", "exact", box=None)
    finer = Table("words", *(f"one piece / finer {name}" for name in texts), box=None, pad_edge=False)
    finer.add_row("source", *(f"{first[name]['one_piece_before']:.4f}" for name in texts))
    done = set()
    for record in records:
        cuts, states, words = record["cuts"], record["states"], str(record["words"])
        figures = (states[name] for name in ("changed", "changed_words", "other_words", "sentences", "chance"))
        cosines.add_row(
            words,
            record["initial"],
            *("" if value is None else f"{value:.4f}" for value in figures),
            f"{states['hidden_difference']:.2g}",
        )
        if words in done:
            continue
        done.add(words)
        table.add_row(
            words,
            f"{record['pieces']:,}",
            f"{record['parameters']:,}",
            *(f"{cuts[name]['pieces_per_word_after']:.4f}" for name in texts),
        )
        finer.add_row(
            words, *(f"{cuts[name]['one_piece_after']:.4f} / {cuts[name]['cut_finer']:.4%}" for name in texts)
        )
    for one in (table, finer, cosines):
        console.print(one, "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", metavar="ENCODER")
    parser.add_argument("--text", action="append", required=True, help="text to count words on; repeatable")
    parser.add_argument("--gold", nargs="*", default=[], help="further files to cut: text, or .jsonl documents")
    parser.add_argument("--pieces", type=int, default=22_100, help="pieces in all")
    parser.add_argument("--words", type=int, nargs="+", default=[0, 1000, 2000, 4000, 6000, 8000])
    parser.add_argument(
        "--initial", nargs="+", choices=INITIALIZATIONS, default=["letters"], help="how new rows are made"
    )
    parser.add_argument("--every", type=int, default=1, help="read one line in so many")
    parser.add_argument("--limit", type=int, help="read at most so many lines of a text")
    parser.add_argument("--lines", type=int, default=2000, help="cut at most so many lines of a text or file")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
