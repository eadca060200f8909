"""Draw a terminal's text as SVG: `script -qec "make demo" /dev/null | python -m tools.terminal_svg > docs/demo.svg`.

Understands the few escape sequences that the demo prints (bold, dim, colours); everything else is dropped.
"""

from __future__ import annotations

import re
import sys
from html import escape

_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
_COLOURS = {"31": "#f7768e", "32": "#9ece6a", "33": "#e0af68", "36": "#7dcfff"}
_LINE, _CHARACTER = 18, 8.4


def spans(line: str) -> list[tuple[str, str]]:
    """(text, style) pieces of one line."""
    found, style, at = [], "", 0
    for match in _SEQUENCE.finditer(line):
        if match.start() > at:
            found.append((line[at : match.start()], style))
        at = match.end()
        if match[2] == "m":
            style = _style(match[1].split(";"))
    if at < len(line):
        found.append((line[at:], style))
    return found


def _style(codes: list[str]) -> str:
    parts = [f"fill:{_COLOURS[c]}" for c in codes if c in _COLOURS]
    if "1" in codes:
        parts.append("font-weight:bold")
    if "2" in codes:
        parts.append("fill:#787c99")
    return ";".join(parts)


def draw(text: str, columns: int = 118) -> str:
    lines = [line.rstrip("\r")[: columns * 3] for line in text.split("\n")]
    width, height = int(columns * _CHARACTER) + 40, len(lines) * _LINE + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="monospace" font-size="14">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#1a1b26"/>',
        *(
            f'<circle cx="{20 + 18 * n}" cy="18" r="6" fill="{c}"/>'
            for n, c in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
        ),
    ]
    for n, line in enumerate(lines):
        pieces = "".join(f'<tspan style="{s}">{escape(t)}</tspan>' if s else escape(t) for t, s in spans(line))
        out.append(f'<text x="20" y="{50 + n * _LINE}" fill="#c0caf5" xml:space="preserve">{pieces}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(draw(sys.stdin.read().strip("\n")))
