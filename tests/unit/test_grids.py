"""Grids as text: widths, escapes, and what untrusted cells may not do."""

from __future__ import annotations

import csv
import io
import unicodedata

import testtools
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len

from covtrack.grids import (
    Column,
    Grid,
    clean,
    defuse,
    escape_markdown,
    fit,
    needed_width,
    render_csv,
    render_markdown,
    render_table,
)

ANY = st.text(st.characters(exclude_categories=()), max_size=30)
GRID = Grid(
    columns=(
        Column(title="name", least=8),
        Column(title="count", figures=True),
        Column(title="extra", figures=True, spare=1),
        Column(title="text", least=6, spare=2),
    ),
    rows=(
        ("a-rather-long-name", "1,234", "5", "words and more words"),
        ("  b", "1", "", ""),
        ("total", "1,235", "5", ""),
    ),
    strong=frozenset({2}),
)


def is_harmless(text: str) -> bool:
    """Whether no character of one line can move a cursor or hide."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


class CleanTest(testtools.TestCase):
    def test_terminal_sequences_and_direction_marks_are_gone(self) -> None:
        self.assertEqual("[31mred a b", clean("\x1b[31mred\u202e a\n\tb\x07"))

    @given(ANY)
    def test_any_text_becomes_harmless_and_stays_so(self, text: str) -> None:
        self.assertTrue(is_harmless(clean(text)))
        self.assertEqual(clean(text), clean(clean(text)))

    def test_letters_of_any_script_stay(self) -> None:
        self.assertEqual("Prüfung 試験 😀", clean("Prüfung 試験 😀"))


class TableTest(testtools.TestCase):
    def test_a_pipe_gets_all_columns_in_full(self) -> None:
        self.assertEqual(
            "name                count  extra  text\n"
            "a-rather-long-name  1,234      5  words and more words\n"
            "  b                     1\n"
            "total               1,235      5\n",
            render_table(GRID),
        )

    def test_text_is_cut_before_columns_are_left_out(self) -> None:
        self.assertEqual(
            "name      count  extra  text\n"
            "a-rathe…  1,234      5  words…\n"
            "  b           1\n"
            "total     1,235      5\n",
            render_table(GRID, width=30),
        )

    def test_columns_are_left_out_by_turns(self) -> None:
        for width, titles in ((30, 4), (29, 3), (22, 3), (21, 2), (10, 2)):
            self.assertEqual(titles, len(fit(GRID, width).columns), str(width))

    def test_no_line_is_wider_than_the_terminal(self) -> None:
        for width in range(needed_width(fit(GRID, 1)), 70):
            lines = render_table(GRID, width=width).splitlines()
            self.assertEqual(4, len(lines))
            self.assertTrue(all(cell_len(line) <= width for line in lines), width)

    def test_figures_are_never_cut(self) -> None:
        for width in range(1, 70):
            self.assertIn("1,234", render_table(GRID, width=width), str(width))

    def test_markup_and_emoji_codes_are_text(self) -> None:
        grid = Grid(columns=(Column(title="t"),), rows=(("[bold]x[/bold] :smile: [/]",),))
        self.assertIn("[bold]x[/bold] :smile: [/]", render_table(grid))
        self.assertIn("[bold]x[/bold] :smile: [/]", render_table(grid, width=40, color=True))

    def test_colour_only_when_asked_for(self) -> None:
        self.assertNotIn("\x1b", render_table(GRID, width=60))
        self.assertIn("\x1b[1m", render_table(GRID, width=60, color=True))

    @given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=4), st.none() | st.integers(1, 90))
    def test_any_cells_make_one_line_each(
        self, rows: list[tuple[str, str]], width: int | None
    ) -> None:
        columns = (Column(title="one", least=5), Column(title="two", figures=True))
        text = render_table(Grid(columns=columns, rows=tuple(rows)), width=width)
        lines = text.split("\n")
        self.assertEqual(len(rows) + 2, len(lines))
        self.assertTrue(all(is_harmless(line) for line in lines))


class MarkdownTest(testtools.TestCase):
    def parse(self, text: str) -> list[str]:
        """The texts of all cells, as a Markdown reader shows them."""
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        cells = [token for token in tokens if token.type == "inline"]
        for token in cells:
            kinds = {child.type for child in token.children or []}
            self.assertTrue(
                kinds <= {"text", "text_special", "strong_open", "strong_close"}, kinds
            )
        return ["".join(child.content for child in token.children or []) for token in cells]

    def test_a_github_table(self) -> None:
        self.assertEqual(
            "| name | count |\n| --- | ---: |\n| a\\|b | 1 |\n| **sum** | **1** |\n",
            render_markdown(
                Grid(
                    columns=(Column(title="name"), Column(title="count", figures=True)),
                    rows=(("a|b", "1"), ("sum", "1")),
                    strong=frozenset({1}),
                )
            ),
        )

    def test_links_images_and_html_are_text(self) -> None:
        for evil in ("<img src=x>", "[a](b)", "![a](b)", "`x`", "a\\|b", "**b**", "&lt;", "<!--"):
            grid = Grid(columns=(Column(title="t"),), rows=((evil,),))
            self.assertEqual(["t", evil], self.parse(render_markdown(grid)))

    @given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=3))
    def test_any_cells_read_back_as_they_were(self, rows: list[tuple[str, str]]) -> None:
        grid = Grid(columns=(Column(title="one"), Column(title="two")), rows=tuple(rows))
        shown = [clean(cell) for row in rows for cell in row]
        self.assertEqual(["one", "two", *shown], self.parse(render_markdown(grid)))

    def test_underscores_and_braces(self) -> None:
        self.assertEqual("\\_\\_init\\_\\_.py", escape_markdown("__init__.py"))


class CsvTest(testtools.TestCase):
    def test_formulas_are_defused(self) -> None:
        for text in ("=1+1", "+1", "-1", "@sum", "\t=1", "\n=1", "\u200b=1"):
            self.assertTrue(defuse(text).startswith("'"), text)
        self.assertEqual("a=1", defuse("a=1"))

    def test_figures_stay_figures_and_none_is_empty(self) -> None:
        self.assertEqual("a,b,c\n-1,,2.5\n", render_csv(("a", "b", "c"), [(-1, None, 2.5)]))

    @given(st.lists(st.tuples(ANY, ANY), max_size=3))
    def test_any_cells_read_back_in_their_places(self, rows: list[tuple[str, str]]) -> None:
        text = render_csv(("one", "two"), rows)
        read = list(csv.reader(io.StringIO(text)))
        self.assertEqual([["one", "two"], *([defuse(a), defuse(b)] for a, b in rows)], read)
