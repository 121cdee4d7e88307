"""The grid that tables are laid out in, against rich's own table, which is right and takes ten times as long."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dir_bench.results.render import _LABEL, _grid, as_text, region_table
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import table

words = st.text("ABC+-[]=表é ", min_size=1, max_size=40).filter(lambda text: text.strip() and text == text.strip())
numbers = st.text("0123456789.±*°", max_size=12)
bodies = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.tuples(words, st.lists(st.tuples(numbers, st.booleans()), min_size=columns, max_size=columns)),
        min_size=1,
        max_size=6,
    )
)


def of_rich(headings, body, width, colour):
    """Return the same grid by rich's table: all numbers of a line in one cell that may not be wrapped."""
    heads = list(zip(*(head.splitlines() for head in headings[1:]), strict=True))
    lines = [*heads, *(line[1:] for line in body)]
    widths = [max(cell_len(str(cell)) for cell in column) for column in zip(*lines, strict=True)]

    def joined(cells):
        text = Text()
        for place, (cell, cell_width) in enumerate(zip(cells, widths, strict=True)):
            text.append(" " * (cell_width - cell_len(str(cell)) + (2 if place else 0)))
            text.append(cell)
        return text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    first = [headings[0], *(str(line[0]) for line in body)]
    table.add_column(
        "\n" * (len(heads) - 1) + headings[0], overflow="fold", min_width=min(max(map(cell_len, first)), _LABEL)
    )
    table.add_column(
        "\n".join(joined(head).plain for head in heads), no_wrap=True, width=sum(widths) + 2 * len(widths) - 2
    )
    for line in body:
        table.add_row(line[0], joined(line[1:]))
    return as_text(table, width, colour)


@settings(deadline=None)
@given(bodies, st.integers(1, 120), st.booleans())
def test_a_grid_is_what_rich_would_lay_out(body, width, colour):
    headings = ["method", *("MAE ↓ \nall " for _ in body[0][1])]
    cells = [[label, *(Text(number, "bold") if bold else number for number, bold in row)] for label, row in body]
    assert as_text(_grid(headings, cells), width, colour) == of_rich(headings, cells, width, colour)


@pytest.mark.parametrize("width", [20, 60])
def test_grids_and_text_share_a_page(width):
    grid = _grid(["region", "MAE"], [["a region of a long name", "1.00"]])
    shown = as_text(Group(grid, Text("below")), width).splitlines()
    assert shown[-1] == "below"
    assert "1.00" in shown[2]
    assert (len(shown) == 4) == (width == 60)  # the name is folded where there is no room for it


def test_small_numbers_of_ones_own_data_are_told_apart(tmp_path: Path, make_run: Callable[..., RunFolder]) -> None:
    for method, mae in (("VANILLA", 0.000125), ("SQINV", 0.0012)):
        run = make_run(tmp_path, {"all": {"count": 9, "mae": mae, "gm": 0.0}}, title="Ailerons", method=method)
    shown = table([tmp_path], "md")
    assert "0.000125" in shown
    assert "0.001200" in shown
    assert "**0.000**" in shown  # of a GM of 0 there is no digit to show
    assert "0.00120" in as_text(region_table(json.loads(run.metrics_path.read_text())), width=80, colour=False)
