"""The file formats, one module each; :mod:`musamma.data.corpus_files` reads and writes corpora in any of them."""
