"""Drawings of a graph: for Graphviz, Mermaid, as SVG, and as JSON."""

from .formats import GraphvizFailed, NoGraphviz, to_dot, to_mermaid, to_svg
from .listing import to_json

__all__ = ["GraphvizFailed", "NoGraphviz", "to_dot", "to_json", "to_mermaid", "to_svg"]
