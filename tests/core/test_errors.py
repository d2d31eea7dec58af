"""Errors: exit codes, and the one line for a name that does not exist."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core import errors
from etude.core.errors import EtudeError, UsageError, unknown

EVERY = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EtudeError)]


@pytest.mark.parametrize("cls", EVERY)
def test_every_error_is_one_kind_with_an_exit_code_and_survives_a_pool(cls: type[EtudeError]) -> None:
    assert cls.exit_code == (2 if cls is UsageError else 1)
    assert cls.__doc__
    back = pickle.loads(pickle.dumps(cls("what happened")))
    assert type(back) is cls
    assert str(back) == "what happened"


@pytest.mark.parametrize(
    ("value", "choices", "see", "message"),
    [
        ("pilib", ["pylib", "fable"], "", "unknown corpus 'pilib': did you mean 'pylib'? There are: fable, pylib."),
        ("zzz", ["pylib", "fable"], "", "unknown corpus 'zzz': There are: fable, pylib."),
        ("x", [], "", "unknown corpus 'x': There are: none."),
        ("x", ["a"], "etude list", "unknown corpus 'x': There are: a. See: etude list"),
    ],
)
def test_an_unknown_name(value: str, choices: list[str], see: str, message: str) -> None:
    assert str(unknown("corpus", value, choices, see)) == message
    assert str(unknown("corpus", value, iter(choices), see)) == message


@given(st.text(), st.lists(st.from_regex(r"[a-z-]{1,8}", fullmatch=True)))
def test_an_unknown_name_is_one_line_with_every_choice(value: str, choices: list[str]) -> None:
    error = unknown("corpus", value, choices)
    assert isinstance(error, UsageError)
    assert len(str(error).splitlines()) == 1
    assert repr(value) in str(error)
    assert all(choice in str(error) for choice in choices)
