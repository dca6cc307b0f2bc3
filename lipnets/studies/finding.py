"""What a study found: a sentence, a table and a figure, written together."""

__all__ = ["Finding", "Verdict"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from ..atomic import write_atomic
from ..report.drawing import png

Verdict = Literal["confirmed", "not confirmed", "undecided"]


@dataclass(frozen=True)
class Finding:
    """What a study found.

    Arguments:
        claim: What was to be tested, in a sentence, with its source.
        verdict: What became of the claim, at this scale.
        sentence: Why, with the numbers that decide.
        header: The names of the columns of the table.
        rows: Its rows, of text.
        figure: The figure.
        scale: At which scale: data, network, steps, number of seeds.
    """

    claim: str
    verdict: Verdict
    sentence: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    figure: Figure
    scale: str

    def markdown(self, name: str, command: str) -> str:
        """The finding as a page in Markdown, beside its figure `NAME.png`."""
        lines = [
            f"# {name.replace('_', ' ').capitalize()}",
            "",
            f"**Claim.** {self.claim}",
            "",
            f"**{self.verdict.capitalize()}** at this scale ({self.scale}). {self.sentence}",
            "",
            f"![{name}]({name}.png)",
            "",
            *self.table(),
            "",
            f"`{command}`",
            "",
        ]
        return "\n".join(lines)

    def table(self) -> list[str]:
        """The lines of the table in Markdown."""
        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        return [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]

    def write(self, out: Path, name: str, command: str) -> None:
        """Writes the page and its figure, each whole or not at all."""
        write_atomic(out / f"{name}.png", png(self.figure))
        write_atomic(out / f"{name}.md", self.markdown(name, command))
