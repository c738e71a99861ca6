"""placeholder"""

from surgery.diagnostics import Source


def format_text(source: Source) -> str:
    return source.text
