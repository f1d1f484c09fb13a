"""The error that a user's input causes: one line that names the place, the finding, the expectation and the way out."""

from __future__ import annotations


class InputError(ValueError):
    """Input, configuration or call that cannot be used as it is. The command exits with status 2.

    Args:
        found: what was found, with the value.
        where: file and line, document id and offsets, or the configuration key.
        expected: what would have been right.
        remedy: what the user can do now.
    """

    def __init__(
        self, found: str, *, where: str | None = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        self.found, self.where, self.expected, self.remedy = found, where, expected, remedy
        message = f"{where}: {found}" if where else found
        if expected:
            message += f"; expected {expected}"
        if remedy:
            message += f"; {remedy}"
        # One line, whatever the input held: a newline or a control character from a file must not break the message.
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class ThresholdError(RuntimeError):
    """The run was done and a limit that the user set was missed. The command exits with status 1."""
