"""Sites: one naming scheme, and globs over a model's sites."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.site import Site, match

SITES = [
    Site(text)
    for text in (
        "embed.out",
        "L0.resid.pre",
        "L0.attn.q",
        "L0.attn.pattern",
        "L0.attn.W_O",
        "L1.attn.pattern",
        "logits",
    )
]


@pytest.mark.parametrize(
    ("text", "layer", "part", "path", "is_weight"),
    [
        ("L3.attn.pattern", 3, "attn.pattern", "layers.3.attn.pattern", False),
        ("L0.attn.W_O", 0, "attn.W_O", "layers.0.attn.W_O", True),
        ("L12.mlp.b_in", 12, "mlp.b_in", "layers.12.mlp.b_in", True),
        ("L1.norm.w", 1, "norm.w", "layers.1.norm.w", True),
        ("embed.W_E", None, "embed.W_E", "embed.W_E", True),
        ("embed.out", None, "embed.out", "embed.out", False),
        ("logits", None, "logits", "logits", False),
        ("Latent.out", None, "Latent.out", "Latent.out", False),
        ("encoder.L3.attn.W_Q", 3, "attn.W_Q", "encoder.layers.3.attn.W_Q", True),
        ("encoder.L0.attn.pattern", 0, "attn.pattern", "encoder.layers.0.attn.pattern", False),
        ("encoder.final_norm.out", None, "encoder.final_norm.out", "encoder.final_norm.out", False),
    ],
)
def test_an_address_and_its_parts(text: str, layer: int | None, part: str, path: str, is_weight: bool) -> None:
    site = Site(text)
    assert (site, site.layer, site.part, site.path, site.is_weight) == (text, layer, part, path, is_weight)
    assert Site.of(path) == site
    assert pickle.loads(pickle.dumps(site)) == copy.deepcopy(site) == site
    assert isinstance(pickle.loads(pickle.dumps(site)), Site)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "L3",
            "L3.",
            "L03.attn.q",
            "L3.L4.out",
            "L-1.attn",
            "L\u0663.attn.q",
            "3.attn",
            "layers.3.attn",
            "a..b",
        ),
        *("L0.attn.*", "L0/attn", "L0.attn.q ", "L0.attn.q\n", "L0.attn q", "L0.attn.é"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Site(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_of_a_second_stack_names_the_stack() -> None:
    assert Site("encoder.L3.attn.q").stack == "encoder"
    assert Site("L3.attn.q").stack == Site("logits").stack == Site("encoder.final_norm.out").stack == ""


def _is_no_layer(part: str) -> bool:
    """Return whether a part has another name than layers have: `a.L0.L0` would be layer 0 of two stacks."""
    return part.isascii() and re.fullmatch(r"L\d+", part) is None


@given(
    st.none() | st.from_regex(r"[a-z]\w{0,5}", fullmatch=True).filter(str.isascii),
    st.integers(0, 10**6),
    st.lists(st.from_regex(r"[A-Za-z_]\w{0,5}", fullmatch=True).filter(_is_no_layer), min_size=1),
)
def test_a_path_and_its_site_are_the_same_place(stack: str | None, layer: int, parts: list[str]) -> None:
    path = ".".join([*([stack] if stack else []), "layers", str(layer), *parts])
    try:
        site = Site.of(path)
    except UsageError:
        return
    assert (site.path, site.layer, site.stack) == (path, layer, stack or "")


@given(
    st.integers(0, 10**6) | st.none(), st.lists(st.from_regex(r"[A-Za-z_]\w{0,5}", fullmatch=True).filter(str.isascii))
)
def test_every_site_is_the_only_name_of_its_path(layer: int | None, parts: list[str]) -> None:
    text = ".".join([f"L{layer}"] * (layer is not None) + parts)
    try:
        site = Site(text)
    except UsageError:
        return
    assert Site.of(site.path) == site
    assert ((f"L{site.layer}." if site.layer is not None else "") + site.part) == site


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("L*.attn.pattern", ["L0.attn.pattern", "L1.attn.pattern"]),
        ("L0.*", ["L0.resid.pre", "L0.attn.q", "L0.attn.pattern", "L0.attn.W_O"]),
        ("logits", ["logits"]),
        (["logits", "L0.attn.q"], ["L0.attn.q", "logits"]),
        (["L0.attn.*", "*.pattern"], ["L0.attn.q", "L0.attn.pattern", "L0.attn.W_O", "L1.attn.pattern"]),
        (Site("L0.attn.q"), ["L0.attn.q"]),
        ([], []),
        ("*", SITES),
    ],
)
def test_globs_find_sites_in_the_models_order_once(patterns: str | list[str], found: list[str]) -> None:
    assert match(patterns, SITES) == found
    assert match(patterns, iter(SITES)) == found
    assert all(isinstance(site, Site) for site in match(patterns, SITES))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("L9.mlp.out", "unknown site 'L9.mlp.out': the model has 2 layers (L0, L1)"),
        ("L9.*", "the model has 2 layers (L0, L1)"),
        ("L0.attn.patern", "did you mean 'L0.attn.pattern'?"),
        ("logit", "did you mean 'logits'?"),
        ("L*.attn.pattrn", "pattern"),
        ("l0.attn.q", "did you mean 'L0.attn.q'?"),
        ("", "unknown site ''"),
    ],
)
def test_a_glob_that_finds_nothing_is_an_error(pattern: str, words: str) -> None:
    for patterns in (pattern, ["logits", pattern]):
        with pytest.raises(UsageError) as caught:
            match(patterns, SITES)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_two_stacks_are_told_apart() -> None:
    sites = [Site(text) for text in ("encoder.L0.attn.pattern", "encoder.L1.attn.pattern", "L0.attn.pattern", "logits")]
    assert match("L*.attn.pattern", sites) == ["L0.attn.pattern"]
    assert match("encoder.L*.attn.pattern", sites) == sites[:2]
    assert match("*attn.pattern", sites) == sites[:3]
    for pattern, words in (
        ("L1.attn.pattern", "the model has 1 layers (L0)"),
        ("encoder.L2.attn.pattern", "its encoder has 2 layers (L0, L1)"),
        ("encodr.L0.attn.pattern", "did you mean 'encoder.L0.attn.pattern'?"),
    ):
        with pytest.raises(UsageError) as caught:
            match(pattern, sites)
        assert words in str(caught.value)


def test_a_model_without_layers() -> None:
    with pytest.raises(UsageError, match=r"unknown site 'L0\.attn\.q': the model has 0 layers \(none\)"):
        match("L0.attn.q", [Site("logits")])
