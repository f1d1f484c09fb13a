"""Documents, annotation formats, Arabic text, and the words, pieces and windows of a document."""
