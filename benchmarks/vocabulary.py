"""Measure vocabularies with different numbers of whole-word pieces: pieces per word, and similarity of the hidden states.

    python benchmarks/vocabulary.py ENCODER --text news.txt.zst --text wiki.txt.zst [--gold anercorp.jsonl ...]
        [--pieces 22100] [--words 0 2000 4000] [--initial letters ...] [--every N] [--limit N] [--lines N] [--json FILE]

Words are counted once on the texts; one line in 50 is held out. For each number of words the vocabulary is chosen as
`musamma encoder extend` does, with `--pieces` pieces in total (0 words: the least used pieces are dropped and none added),
and the encoder is built in memory. `p/w` is pieces per white-space word on the held-out lines of a text, or on a `--gold`
file, whose lines are not counted; `finer` is the share of words with more pieces than before. Cosines compare words' mean
last hidden states with the source's, for words with other pieces, for the other words, and for whole lines; `chance` is
the cosine of neighbouring words in the source.
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
    """Count words, choose vocabularies, measure and print."""
    options = _parse_options()
    disable_progress_bar()
    torch.set_num_threads(1)
    console = Console(width=180)
    encoder, tokenizer = load_encoder(options.encoder)
    backend = fast_backend(install_normalizer(tokenizer))
    backend.no_truncation()
    backend.no_padding()
    splits = {path: LineSplit(options.lines) for path in options.text}
    counted = (
        line
        for path, split in splits.items()
        for line in split.skip_held_out(read_lines([path], every=options.every, limit=options.limit))
    )
    word_vocabulary = count_words(backend, counted)
    counts = word_vocabulary.counts
    console.print(
        f"{sum(split.num_counted for split in splits.values()):,} lines, {sum(counts.values()):,} words and signs, "
        f"{len(counts):,} different; {encoder.num_parameters():,} parameters in {options.encoder}"
    )
    held_out = [line for split in splits.values() for line in split.held_out]
    texts = {Path(path).name: split.held_out for path, split in splits.items()}
    texts |= {Path(path).name: list(read_lines([path], limit=options.lines)) for path in options.gold}
    records = []
    for words in options.words:
        choice = choose_vocabulary(backend, word_vocabulary, words=words, pieces=options.pieces)
        base = trim_tokenizer(backend, choice.ids)
        new_backend = extend_tokenizer(base, choice.words)
        vocabulary = new_backend.get_vocab()
        new_ids = {i: vocabulary[piece] for piece, i in backend.get_vocab().items() if piece in vocabulary}
        unknown = unknown_piece_id(backend), unknown_piece_id(new_backend)
        tokenizers = (backend, new_backend)
        fertility = {name: asdict(measure_fertility(tokenizers, lines, unknown)) for name, lines in texts.items()}
        for initial in options.initial if words else options.initial[:1]:
            extended = extend_embeddings(trim_embeddings(encoder, choice.ids), base, choice.words, initial=initial)
            similarity = measure_similarity((encoder, extended), tokenizers, held_out, new_ids)
            records.append(
                {
                    "words": words,
                    "pieces": new_backend.get_vocab_size(),
                    "parameters": extended.num_parameters(),
                    "least_count": min((counts[word] for word in choice.words), default=None),
                    "initial": initial,
                    "cuts": fertility,
                    "states": asdict(similarity),
                }
            )
    _print_tables(records, list(texts), console)
    if options.json:
        write_json(records, options.json)


def _print_tables(records: list[dict[str, Any]], texts: list[str], console: Console) -> None:
    table = Table("words", "pieces", "parameters", *(f"p/w {name}" for name in texts), box=None, pad_edge=False)
    first = records[0]["cuts"]
    table.add_row("source", "", "", *(f"{first[name]['pieces_per_word_before']:.4f}" for name in texts))
    cosines = Table("words", "initial", "changed", "cos changed", "others", "lines", "chance", "exact", box=None)
    finer = Table("words", *(f"one piece / finer {name}" for name in texts), box=None, pad_edge=False)
    finer.add_row("source", *(f"{first[name]['one_piece_before']:.4f}" for name in texts))
    printed = set()
    for record in records:
        cuts, states, words = record["cuts"], record["states"], str(record["words"])
        figures = (states[name] for name in ("changed", "changed_words", "other_words", "sentences", "chance"))
        cosines.add_row(
            words,
            record["initial"],
            *("" if value is None else f"{value:.4f}" for value in figures),
            f"{states['hidden_difference']:.2g}",
        )
        if words in printed:
            continue
        printed.add(words)
        table.add_row(
            words,
            f"{record['pieces']:,}",
            f"{record['parameters']:,}",
            *(f"{cuts[name]['pieces_per_word_after']:.4f}" for name in texts),
        )
        finer.add_row(
            words, *(f"{cuts[name]['one_piece_after']:.4f} / {cuts[name]['cut_finer']:.4%}" for name in texts)
        )
    for part in (table, finer, cosines):
        console.print(part, "")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", metavar="ENCODER")
    parser.add_argument("--text", action="append", required=True, help="text to count words on; repeatable")
    parser.add_argument("--gold", nargs="*", default=[], help="further files to measure on: text, or .jsonl documents")
    parser.add_argument("--pieces", type=int, default=22_100, help="total number of pieces")
    parser.add_argument("--words", type=int, nargs="+", default=[0, 1000, 2000, 4000, 6000, 8000])
    parser.add_argument(
        "--initial", nargs="+", choices=INITIALIZATIONS, default=["letters"], help="initialisation of new rows"
    )
    parser.add_argument("--every", type=int, default=1, help="read one line in this many")
    parser.add_argument("--limit", type=int, help="maximum number of lines to read per text")
    parser.add_argument(
        "--lines", type=int, default=2000, help="maximum number of lines to measure on per text or file"
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
