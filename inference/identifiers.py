"""The ids that have been read, so that none comes twice: exact, and in bounded memory."""

from __future__ import annotations

import sqlite3

from musamma.data.errors import InputError

_CACHE_KIB = 32 * 1024


class Identifiers:
    """Where each id was met first.

    32 MB of them stay in memory, the others go to a file of the system's folder for temporary ones, which is gone with the
    process: about 60 MB on disk and 10 seconds a million ids.
    """

    def __init__(self) -> None:
        # SQLite makes a database without a name a temporary file, written only when its cache is full.
        # It is used by one thread at a time; one that garbage is collected in may be the one that closes it.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._table.execute("BEGIN")

    def taken(self, id: str, where: str) -> str | None:
        """Where an id was met before; else ``None``, and ``where`` is noted as its place.

        Raises:
            InputError: there is no room for more ids.
        """
        key = id.encode("utf-8", errors="surrogatepass")
        try:
            if self._table.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, where)).rowcount:
                return None
            return str(self._table.execute("SELECT place FROM seen WHERE id = ?", (key,)).fetchone()[0])
        except sqlite3.OperationalError as error:
            raise InputError(
                f"no room for the ids: {error}",
                where=where,
                expected="60 MB a million documents in the folder for temporary files",
                remedy="set SQLITE_TMPDIR to a larger folder",
            ) from error

    def close(self) -> None:
        """Forget all."""
        self._table.close()
