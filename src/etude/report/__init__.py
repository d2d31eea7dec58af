"""Reports: trees of plain values (`blocks`), and what draws them: a page (`html`), Markdown with SVG (`markdown`).

Nothing here imports PyTorch, and nothing here knows what a number means: studies build blocks, this floor shows them.
"""
