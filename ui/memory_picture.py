"""What a training run needs of the memory that is free, as a small picture.

Place in the data's way: `MemoryFacts` -> HTML for the Training page. Names in it are escaped.
"""

from __future__ import annotations

from ..training_check import MemoryFacts
from .text import escaped
from .words import size

_CSS = {
    "weights": "weights",
    "file and matrix at hand": "weights",
    "gathered layers": "weights",
    "16-bit copies of weights": "weights",
    "gradients": "gradients",
    "buckets of gradients": "gradients",
    "optimizer states": "optimizer",
    "activations": "activations",
    "logits and temporaries": "temporaries",
    "libraries": "libraries",
}

_MOMENTS = {
    "loading": "while the base is loaded",
    "turn": "when the forward pass ends",
    "end of backward": "when the backward pass ends",
    "optimizer step": "when the optimizer changes the weights",
}


def bar(memory: MemoryFacts) -> str:
    """Return one stacked bar over what is free, or over what is needed where that is more."""
    pieces = [(_css(name), name, num_bytes) for name, num_bytes in memory.parts]
    left = memory.free_bytes - memory.total_bytes
    if left > 0:
        pieces.append(("ls-mem-free", "stays free", left))
    spans = "".join(
        f'<span class="{css}" style="flex-grow:{num_bytes}"'
        f' title="{escaped(name)}: {size(num_bytes)}"></span>'
        for css, name, num_bytes in pieces
    )
    limit = ""
    if left < 0:
        place = memory.free_bytes / memory.total_bytes
        title = f"{size(memory.free_bytes)} free"
        limit = f'<i class="ls-mem-limit" style="left:{place:.1%}" title="{title}"></i>'
    label = f"{size(memory.total_bytes)} needed, {size(memory.free_bytes)} free"
    bar_ = f'<div class="ls-bar" role="img" aria-label="{label}">{spans}</div>'
    return f'<div class="ls-mem">{bar_}{limit}</div>'


def legend(memory: MemoryFacts) -> str:
    """Return a table of the parts with their sizes, and the sum against what is free."""
    rows = "".join(
        f'<tr><td><i class="{_css(name)}"></i>{escaped(name.capitalize())}</td>'
        f"<td>{size(num_bytes)}</td></tr>"
        for name, num_bytes in memory.parts
    )
    moment = _MOMENTS.get(memory.peak, memory.peak)
    verdict = "fits" if memory.total_bytes <= memory.free_bytes else "does not fit"
    total = (
        f"<tr><td><b>Together, {escaped(moment)}</b></td>"
        f"<td><b>{size(memory.total_bytes)}</b></td></tr>"
        f"<tr><td>Free on {escaped(memory.device)}</td><td>{size(memory.free_bytes)}: {verdict}</td></tr>"
    )
    return f'<table class="ls-legend"><tbody>{rows}{total}</tbody></table>'


def _css(name: str) -> str:
    return f"ls-mem-{_CSS.get(name, 'temporaries')}"
