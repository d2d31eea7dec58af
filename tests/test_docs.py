"""What the documents say of the code is so."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

from etude.models.architectures.decoder import Decoder

ROOT = Path(__file__).parents[1]


def test_the_page_of_sites_lists_every_site_with_its_shape() -> None:
    told: dict[str, str] = {}
    for line in (ROOT / "docs" / "sites.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        names = re.findall(r"`([\w.]+)`", cells[0]) if cells else []
        shapes = [shape.strip() for shape in cells[1].split(",")] if names else []
        told |= {name: shapes[i] if len(shapes) == len(names) else shapes[0] for i, name in enumerate(names)}
    learned = Decoder(layers=1, width=8, heads=2, feedforward=16, context=4)
    every = {**learned.build(11).sites(), **replace(learned, positions="rotary").build(11).sites()}
    norms = {"mlp_norm.w", "mlp_norm.b", "final_norm.w", "final_norm.b"}
    found = {site: " ".join(axis.name for axis in axes) for site, axes in every.items() if site.part not in norms}
    assert told == found


def test_every_link_between_documents_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))]
    assert len(links) > 3
    broken = [f"{page.name}: {link}" for page, link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_the_arithmetic_of_a_large_library_comes_to_what_its_page_says() -> None:
    page = (ROOT / "docs" / "retrieval-at-scale.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", page, re.DOTALL)
    assert found is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found[1], {})
    assert printed.getvalue() == found[2]
