"""Samples → figures, tables and JSON. A ratio is formed within each round, where both programs met
the same machine; what is shown is the median over the rounds, and the middle half as its spread."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles

from rich import box
from rich.console import Console
from rich.table import Table as Grid

Samples = list[float]

WIDTH = 140  # characters at least: to cut a table off helps nobody


@dataclass
class Table:
    """What is printed, and the samples behind it by row and column."""

    title: str
    columns: tuple[str, ...]
    note: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)

    def row(self, name: str, *cells: str, **samples: Samples) -> None:
        self.rows.append((name, *cells))
        self.samples[name] = samples


def middle(samples: Samples, form: str = ",.0f") -> str:
    """The median."""
    return format(median(samples), form)


def spread(samples: Samples, form: str = ".2f") -> str:
    """The median, and in brackets the middle half."""
    if len(samples) < 2:
        return format(samples[0], form)
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return f"{median(samples):{form}} ({low:{form}}–{high:{form}})"


def ratio(samples: Samples, base: Samples) -> str:
    """How these samples relate to those of another program in the same rounds."""
    return spread([one / other for one, other in zip(samples, base, strict=True)])


def percentile(samples: Samples, percent: int) -> float:
    return sorted(samples)[min(len(samples) - 1, len(samples) * percent // 100)]


def show(table: Table) -> None:
    """Print a table."""
    grid = Grid(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for at, column in enumerate(table.columns):
        grid.add_column(column, justify="right" if at else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*row)
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(grid)
    if table.note:
        console.print(f"  {table.note}\n", style="dim", soft_wrap=True)


def as_json(tables: Sequence[Table]) -> str:
    return json.dumps([asdict(table) for table in tables], ensure_ascii=False, indent=1)
