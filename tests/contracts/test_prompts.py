"""What every member of the family `chat/prompts` owes. A new one is tested here as soon as its file is there."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from etude.chat.dialogue import Dialogue, Turn, render
from etude.chat.prompts.base import Prompt
from etude.chat.prompts.none import Nothing
from etude.chat.prompts.short import Short
from etude.chat.room import prompt_for
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.text.tokenizers.live import ByteTokenizer
from etude.text.turns import turns
from etude.text.visible import visible

FAMILY = Family("chat/prompts")
MEMBERS: list[Any] = list(FAMILY)
every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda cls: cls.name)

WORDS = {
    ("long", 1): "739a6d354fe2",
    ("none", 1): "e3b0c44298fc",
    ("short", 1): "1523df39d278",
    ("story", 1): "e3b0c44298fc",
}
"""The hash of each version's words. Where they changed, give the member the next version and add a line here."""


def test_the_family_is_found() -> None:
    assert FAMILY.base() is Prompt
    assert {"none", "short", "long", "story"} <= set(FAMILY.names())


@every_member
def test_the_words_are_those_of_the_version(member: type[Prompt]) -> None:
    assert hashlib.sha256(member().text.encode()).hexdigest()[:12] == WORDS[member.name, member.version]


@every_member
def test_its_turns_are_found_as_they_were_meant(member: type[Prompt]) -> None:
    prompt = member()
    if prompt.story:
        assert not len(turns(prompt.text.encode(), prompt.marks).own)
        return
    text = render(prompt, Dialogue((Turn("user", "And you?"),)))
    found = turns(text.encode(), prompt.marks)
    assert len(found.own) == len(prompt.examples) + 1
    assert [text.encode()[a:b].decode().strip() for a, b in found.own] == [m for _, m in prompt.examples] + [""]
    assert text.endswith(f"\n{prompt.user_mark} And you?\n{prompt.model_mark}"[0 if prompt.text else 1 :])


@every_member
def test_its_words_are_plain_and_it_is_read_back(member: type[Prompt]) -> None:
    prompt = member()
    assert visible(prompt.text) == prompt.text == prompt.text.strip()
    assert Prompt.from_json(prompt.to_json()) == prompt
    assert prompt.role in prompt.text


def test_the_short_one_is_short() -> None:
    assert 0 < len(Short().text) < 600


@pytest.mark.parametrize(("context", "name"), [(10_000, "long"), (1024, "short"), (512, "none")])
def test_the_longest_that_leaves_half_of_the_context_is_chosen(context: int, name: str) -> None:
    assert prompt_for(ByteTokenizer(), context).name == name


@pytest.mark.parametrize("marks", [("User:", "User:"), ("", "A:"), ("U:\n", "A:"), ("Q", "Q:"), (" Q:", "A:")])
def test_marks_that_cannot_be_told_apart(marks: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="mark"):
        Nothing(*marks)
