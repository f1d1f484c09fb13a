"""Recognition of files that hold something else than their name says: other encodings, compressed files, office documents."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder

from musamma.data.errors import InputError

#: Number of bytes at a file's start that :func:`check_content` looks at.
HEAD_SIZE = 1024
#: Compression by suffix.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_DECOMPRESS = "decompress it, or let its name end in"
_EXPORT = "export its text, e.g. as UTF-8 text or CSV"
# What a file holds by its first bytes, and the way out.
_CONTENTS: tuple[tuple[bytes, str, str], ...] = (
    (_MAGIC["gzip"], "gzip", f"{_DECOMPRESS} .gz"),
    (_MAGIC["zstd"], "zstd", f"{_DECOMPRESS} .zst"),
    (b"BZh91AY&SY", "bzip2", "decompress it with bunzip2"),
    (b"\xfd7zXZ\x00", "xz", "decompress it with unxz"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "unpack it"),
    (b"Rar!\x1a\x07", "rar", "unpack it"),
    (b"PK\x03\x04", "zip, perhaps an Excel or Word document", "unpack it, or export its text as UTF-8 text or CSV"),
    (b"PK\x05\x06", "an empty zip", "unpack it"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word document", _EXPORT),
    (b"%PDF-", "PDF", "extract its text, e.g. with pdftotext"),
    (b"SQLite format 3\x00", "an SQLite database", "export its table, e.g. as CSV"),
    (b"ARROW1\x00", "Arrow", "write it as Parquet, or give its folder as hf:FOLDER"),
    (b"PAR1\x15", "Parquet", "let its name end in .parquet"),
)
_UTF_32 = {b"\xff\xfe\x00\x00": "UTF-32LE", b"\x00\x00\xfe\xff": "UTF-32BE"}
_UTF_16 = {b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}
# A container whose signature has a zero byte is longer than its signature.
_SHORTEST_CONTAINER = 32
_RTF = re.compile(rb"\{\\rtf\d\\")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_SHARE_OF_LETTERS = 0.9
# Bytes; a shorter text with zero bytes may be UTF-8.
_SHORTEST_TEXT = 16


def check_content(head: bytes, *, where: str, expected: str = "UTF-8 text") -> None:
    """Check that the first bytes of a file are not those of another kind of file or encoding.

    Args:
        head: up to :data:`HEAD_SIZE` bytes.
        where: the file.
        expected: what the file should hold.

    Raises:
        InputError: they are; names the content and the way out.
    """
    if _RTF.match(head):
        raise InputError("the file is RTF", where=where, expected=expected, remedy=_EXPORT)
    # Some signatures are letters, with which a text may start as well.
    if not _is_plain_text(head):
        for magic, name, remedy in _CONTENTS:
            if head.startswith(magic) and (len(head) >= _SHORTEST_CONTAINER or b"\0" not in magic):
                raise InputError(f"the file is {name}", where=where, expected=expected, remedy=remedy)
    if encoding := _find_encoding(head):
        name = encoding.partition("LE")[0].partition("BE")[0]
        # With a byte order mark, iconv finds the order of bytes and removes the mark.
        source = name if head[:4] in _UTF_32 or head[:2] in _UTF_16 else encoding
        raise InputError(
            f"the file is {name}", where=where, expected=expected, remedy=f"convert it: iconv -f {source} -t UTF-8"
        )


def check_compression(head: bytes, compression: str, *, where: str, suffix: str) -> None:
    """Check that a file is compressed as its suffix says.

    Raises:
        InputError: it is not.
    """
    if head and not head.startswith(_MAGIC[compression][: len(head)]):
        raise InputError(
            f"the file is not {compression}",
            where=where,
            expected=f"{compression}, as its suffix says",
            remedy=f"remove {suffix} from its name",
        )


def _is_plain_text(head: bytes) -> bool:
    """Whether bytes are UTF-8, perhaps cut within a character, and have no control characters but white space."""
    try:
        text = getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None


def _find_encoding(head: bytes) -> str | None:
    marked = _UTF_32.get(head[:4]) or _UTF_16.get(head[:2])
    if marked or b"\0" not in head:
        return marked
    # Without a byte order mark: zero bytes, which text hardly has, and letters of Arabic or ASCII in this order of bytes.
    return next((encoding for encoding in _UTF_16.values() if _is_text(head, encoding)), None)


def _is_text(head: bytes, encoding: str) -> bool:
    if len(head) % 2 or len(head) < _SHORTEST_TEXT:
        return False
    text = head.decode(encoding, errors="replace")
    letters = sum(" " <= c <= "~" or c in "\t\r\n" or "\u0600" <= c <= "\u06ff" for c in text)
    return letters >= _SHARE_OF_LETTERS * len(text) > 0
