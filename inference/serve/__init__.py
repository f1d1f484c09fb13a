"""A small service: texts in over HTTP, their names out, and a page to try it with.

Needs the packages of ``musamma[serve]``.
"""

from musamma.inference.serve.app import create_app
from musamma.inference.serve.requests import Limits

__all__ = ["Limits", "create_app"]
