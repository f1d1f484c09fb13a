"""A small service: texts in over HTTP, their names out, and a page to try it with.

Needs the packages of ``musamma[serve]``.
"""

from musamma.inference.service.application import create_app
from musamma.inference.service.limits import Limits

__all__ = ["Limits", "create_app"]
