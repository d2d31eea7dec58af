"""What a family's tasks say: planted growth is found, and where nothing grows nothing is said to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.item_masks import ItemMask
from etude.evals.listed import Listed
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.tasks.perplexity import Perplexity
from etude.models.architectures.decoder import Decoder
from etude.studies.family import Family
from etude.studies.sections.tasks_numbers import ALL, Scored, calibrations, grown, scored
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

SIZES = [100_000, 200_000, 400_000, 800_000, 1_600_000]
MADE = Path(__file__).parent / "made"
DATA = Tokens(Fable(stories=20), Byte())


def model(width: int) -> Train:
    shape = Decoder(layers=1, width=width, heads=2, feedforward=16, context=160)
    return Train(DATA, shape, batch=2, steps=0, evaluate_every=0, evaluate_tokens=160, precision="fp32")


def study(**fields: object) -> Family:
    listed = (Listed("one", "choices", MultipleChoice(path=str(MADE / "choices.jsonl"))),)
    return Family(**{"of": (model(8), model(16)), "tasks": listed, "draws": 400, **fields})


def planted(random: np.random.Generator, category: str, name: str, chances: list[float], items: int = 400) -> Scored:
    """Return a task of which each model is right with a chance of its own, on items that are hard for all or easy for
    all alike."""
    hardness = random.random(items)
    right = np.array([(hardness < chance).astype(float) for chance in chances])
    return Scored(category, name, "choice", right, None, 0.25, 0.3, 0, 0, tuple(f"evaluate-{n}" for n in range(5)))


def test_growth_is_found_where_it_was_planted_and_nowhere_else() -> None:
    random = np.random.default_rng(0)
    still, rises, falls = [0.3] * 5, [0.3, 0.33, 0.36, 0.39, 0.42], [0.5, 0.45, 0.4, 0.35, 0.3]
    tasks = [
        planted(random, "still", "a", still),
        planted(random, "still", "b", still),
        planted(random, "rises", "c", rises),
        planted(random, "falls", "d", falls),
    ]
    found = {one.name: one for one in grown(study(), tasks, SIZES)}
    assert {name: one.together for name, one in found.items() if name != ALL} == {"still": 0, "rises": 1, "falls": -1}
    assert found["rises"].slope.mean == pytest.approx(0.03, abs=0.01)
    assert found["falls"].difference.mean == pytest.approx(-0.2, abs=0.04)
    assert found["still"].tasks == 2 and found["still"].items == 800
    assert found[ALL].scores[0].mean == pytest.approx(np.mean([t.right[0].mean() for t in tasks]))


def test_intervals_hold_what_they_should() -> None:
    """Of 200 families that do not grow, some twentieth of the slopes' intervals leave out 0, and hardly any that are
    widened for three categories."""
    outside = together = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        independent = [
            Scored(
                name, name, "choice", (random.random((5, 150)) < 0.3).astype(float), None, 0.3, None, 0, 0, ("",) * 5
            )
            for name in "abc"
        ]
        found = [one for one in grown(study(draws=300), independent, SIZES) if one.name != ALL]
        outside += sum(one.slope.excludes_zero for one in found)
        together += any(one.together for one in found)
    assert 4 <= outside <= 30  # 15 are expected of 300
    assert together <= 12  # 5 are expected of 100


def test_what_models_have_in_common_does_not_widen_the_slope() -> None:
    random = np.random.default_rng(1)
    alike = planted(random, "one", "a", [0.3, 0.32, 0.34, 0.36, 0.38])
    apart = Scored(**{**vars(alike), "right": np.array([random.permutation(row) for row in alike.right])})
    widths = []
    for task in (alike, apart):
        (one,) = grown(study(), [task], SIZES)
        widths.append(one.slope.high - one.slope.low)
    assert widths[0] < 0.5 * widths[1]


def test_models_are_told_by_size_and_masked_items_are_left_out(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "runs", threads=1, quiet=True)
    mask = tmp_path / "mask.json"
    mask.write_text('{"masked": {"choices.jsonl": [2, 3], "other.jsonl": [1]}, "r": 0.5}')
    plain = study(of=(model(16), model(8))).resolve()
    masked = study(of=(model(16), model(8)), mask=ItemMask(str(mask))).resolve()
    assert plain.fingerprint() != masked.fingerprint()
    done = Done()
    for run, recipe in zip(lab.run_all(list(plain.plan({}))), plain.plan({}), strict=True):
        done.add(recipe.resolve(), run)
    (whole,), (rest,) = scored(plain, done), scored(masked, done)
    assert whole.right.shape == (2, 4) and rest.right.shape == (2, 2) and rest.masked == 2
    assert np.array_equal(rest.right, whole.right[:, [0, 3]])
    assert (whole.chance, whole.always_one) == (pytest.approx((1 / 3 + 1 / 2 + 1 / 3 + 1 / 2) / 4), 0.75)
    assert (rest.chance, rest.always_one) == (pytest.approx((1 / 3 + 1 / 2) / 2), 0.5)
    assert [one["n"] for one in calibrations(masked, done, [rest])] == [2, 2]
    (tmp_path / "all.json").write_text('{"masked": {"choices.jsonl": [1, 2, 3, 4]}}')
    with pytest.raises(UsageError, match="no item is left"):
        scored(replace(masked, mask=ItemMask(str(tmp_path / "all.json"))), done)
    sizes = [done[done_of].result["parameters"] for done_of in (model(8).resolve(), model(16).resolve())]
    assert sizes == sorted(sizes)
    assert whole.runs[0] == done[plain.evaluations(plain.of[1])[0]].id  # the smaller one first
    mask.write_text("{}")
    with pytest.raises(UsageError, match="is no mask"):
        ItemMask(str(mask)).masked()


def test_few_items_are_never_clear_and_one_file_under_two_categories_is_drawn_once() -> None:
    lucky = Scored("one", "a", "choice", np.array([[0.0] * 5] * 2 + [[1.0] * 5] * 3), None, 0.5, 0.5, 0, 0, ("",) * 5)
    (found,) = grown(study(), [lucky], SIZES)
    assert found.together == 0 and not found.able
    random = np.random.default_rng(3)
    task = planted(random, "one", "a", [0.3] * 5, items=50)
    twice = Scored(**{**vars(task), "category": "two"})
    alone, _, both = grown(study(), [task, twice], SIZES)
    assert both.slope.high - both.slope.low == pytest.approx(alone.slope.high - alone.slope.low, rel=0.15)


def test_better_than_one_number_is_said_of_choices_alone() -> None:
    written = Scored("one", "a", "written", np.array([[0.2, 1.0] * 30] * 5), None, 0.0, None, 0, 0, ("",) * 5)
    assert not grown(study(), [written], SIZES)[0].able
    chosen = Scored("one", "a", "choice", np.array([[0.0] + [1.0] * 29] * 5), None, 0.25, 0.4, 0, 0, ("",) * 5)
    assert grown(study(), [chosen], SIZES)[0].able


def test_what_is_no_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two models"):
        study(of=(model(8),))
    with pytest.raises(UsageError, match="nothing to ask"):
        study(tasks=())
    with pytest.raises(UsageError, match="never right or wrong"):
        study(tasks=(Listed("", "text", Perplexity(path=str(MADE / "choices.jsonl"), text_field="query")),))
    with pytest.raises(UsageError, match="listed twice"):
        study(tasks=study().tasks * 2)


def test_tasks_are_named_by_files_folders_and_categories(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("How?,1,2,3,4,D\n")
    (tmp_path / "a.jsonl").write_text('{"context": "To be", "continuation": "or not"}\n')
    (tmp_path / "sets.json").write_text('{"Maths": ["b.csv"], "Common Sense": ["a.jsonl", "b.csv"]}')
    found = Listed.from_words([str(tmp_path / "sets.json")])
    assert [(one.category, one.name, one.task.name) for one in found] == [
        ("Maths", "b", "mmlu"),
        ("Common Sense", "a", "cloze"),
        ("Common Sense", "b", "mmlu"),
    ]
    assert Listed.from_words([Listed.as_words(found)]) == found
    (tmp_path / "sets.json").unlink()
    assert [one.name for one in Listed.from_words([str(tmp_path)])] == ["a", "b"]
    with pytest.raises(UsageError, match=r"no file or folder 'x\.jsonl'"):
        Listed.from_words(["x.jsonl"])
    (tmp_path / "sets.json").write_text('{"Maths": ["c.csv"]}')
    with pytest.raises(UsageError, match=r"'sets.json' lists 'c.csv', which is not there"):
        Listed.from_words([str(tmp_path / "sets.json")])
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.json").write_text('[{"query": "a", "choices": ["b", "c"], "gold": 0}]')
    (tmp_path / "here" / "README.txt").write_text("words")
    alike = Listed.from_words([str(tmp_path / "here"), str(tmp_path / "there" / "task.json")])
    assert [one.name for one in alike] == ["here/task", "there/task"]
