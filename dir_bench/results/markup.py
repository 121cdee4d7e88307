"""A run's own text, such as a method's name, so that Markdown, LaTeX and HTML print it and obey nothing in it."""

import re
from functools import cache
from typing import TYPE_CHECKING

from dir_bench.files.values import visible

if TYPE_CHECKING:
    from jinja2 import Environment

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\to$",
    "≥": r"$\geq$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "–": "--",
    "§": r"\S{}",
    "−": "$-$",
    "°": r"$^\circ$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_TEX_SIGNS = re.compile("[" + re.escape("".join(_TEX)) + "]")


def md_text(text: str) -> str:
    """Return text that stands within a line of Markdown, in a cell of a table too."""
    escaped = re.sub(r"([\\|*_`<>\[\]#~$]|&(?=#?\w+;))", r"\\\1", visible(text))
    return re.sub(r"^(\s*\d*)([-+.)])(\s)", r"\1\\\2\3", escaped)  # it begins no list


def md_code(text: str) -> str:
    """Return text as a code span of Markdown, which ends where the text does; not for cells of a table."""
    shown = visible(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def tex_text(text: str) -> str:
    """Return text that LaTeX prints, at the head of a table's row too, where a bracket or star would be an argument."""
    printed = _TEX_SIGNS.sub(lambda sign: _TEX[sign[0]], visible(text))
    return re.sub(r"^(\s*)([\[*])", r"\1{\2}", printed)


def html_page(template: str, **values: object) -> str:
    """Return a page of HTML: a template of this package, filled in.

    Every text that a template prints is escaped, and its control characters are made visible; ends of lines and tabs
    stay. A name that is not in `values` is an error.

    Args:
        template: Its path from this folder, such as "export.html.jinja".
        values: What the template names.
    """
    return _templates().get_template(template).render(values)


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only who prints HTML waits for it

    return Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else visible(str(value), lines=True),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
