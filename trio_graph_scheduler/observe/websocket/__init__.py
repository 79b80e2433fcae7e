"""The feed as a websocket: for observers outside of the program, within bounds, and not for everyone."""

from .gate import Gate, Refused
from .listening import Address, NeedsToken
from .server import Limits, serve_websocket

__all__ = ["Address", "Gate", "Limits", "NeedsToken", "Refused", "serve_websocket"]
