"""The HTTP service: texts in, names out, and a web page to try it.

Needs the packages of ``musamma[serve]``.
"""

from musamma.inference.serve.app import create_app
from musamma.inference.serve.request_limits import Limits

__all__ = ["Limits", "create_app"]
