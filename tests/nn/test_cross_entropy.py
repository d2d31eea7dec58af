"""The loss from hidden vectors against PyTorch's from logits: values, gradients, and what it holds in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.nn import cross_entropy
from etude.nn.cross_entropy import chunked_cross_entropy
from etude.text.batches import IGNORE

N, D, V = 11, 6, 13


def parts(bias: bool = True, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Any]:
    draw = torch.Generator().manual_seed(seed)
    x, W, b = (torch.randn(*s, dtype=dtype, generator=draw) for s in ((N, D), (D, V), (V,)))
    targets = torch.randint(V, (N,), generator=draw)
    targets[::4] = IGNORE
    return [x, W, b if bias else None, targets]


def chunked(given: list[Any], targets: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
    """Return ours of x, W and perhaps b."""
    x, W, b = given if len(given) == 3 else [*given, None]
    return chunked_cross_entropy(x, W, b, targets, **options)


def plain(given: list[Any], targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return PyTorch's of the same."""
    x, W, b = given if len(given) == 3 else [*given, None]
    logits = F.linear(x, W.mT, b)
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)


def leaves(*tensors: Tensor | None) -> list[Any]:
    return [t.clone().requires_grad_() for t in tensors if t is not None]


def both(bias: bool, dtype: torch.dtype, smoothing: float = 0.0, chunk: int | None = None, factor: float = 1.0):
    """Return the losses and the gradients of our way and of PyTorch's."""
    *given, targets = parts(bias, dtype)
    found = []
    for ours in (True, False):
        live = leaves(*given)
        loss = chunked(live, targets, smoothing=smoothing, chunk=chunk)[0] if ours else plain(live, targets, smoothing)
        (factor * loss).backward()
        found.append((loss, [t.grad for t in live]))
    return found


@pytest.mark.parametrize("chunk", [1, 4, 5, 100, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-6), (torch.float64, 1e-13)], ids=str)
def test_equals_torch(bias: bool, smoothing: float, chunk: int | None, dtype: torch.dtype, close: float) -> None:
    (loss, ours), (expected, theirs) = both(bias, dtype, smoothing, chunk, factor=-0.3)
    torch.testing.assert_close(loss, expected, rtol=close * 10, atol=0)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=close * 10, atol=close)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_its_gradient_is_its_slope(bias: bool, smoothing: float) -> None:
    *given, targets = parts(bias)
    assert torch.autograd.gradcheck(
        lambda *live: chunked(list(live), targets, smoothing=smoothing, chunk=3)[0], leaves(*given)
    )


@given(n=st.integers(0, 9), d=st.integers(1, 4), v=st.integers(1, 9), chunk=st.integers(1, 10), seed=st.integers(0, 99))
def test_any_size(n: int, d: int, v: int, chunk: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    given = [torch.randn(n, d, generator=draw), torch.randn(d, v, generator=draw), torch.randn(v, generator=draw)]
    targets = torch.randint(v, (n,), generator=draw).where(torch.rand(n, generator=draw) < 0.7, IGNORE)
    ours, theirs = leaves(*given), leaves(*given)
    loss, right = chunked(ours, targets, chunk=chunk, counted=True)
    loss.backward()
    expected = plain(theirs, targets)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)
    logits = given[0] @ given[1] + given[2]
    assert right is not None and int(right) == int((logits.argmax(-1) == targets).sum() if n else 0)


def test_nothing_to_predict_is_no_loss_and_no_gradient() -> None:
    x, W, b, _ = parts()
    live = leaves(x, W, b)
    loss, right = chunked(live, torch.full((N,), IGNORE), counted=True)
    loss.backward()
    assert loss.item() == 0 and right is not None and right.item() == 0
    assert all(t.grad is not None and t.grad.shape == t.shape and not t.grad.any() for t in live)


def test_gradient_reaches_tied_embeddings_and_lies_as_they_do() -> None:
    x, W, _, targets = parts()
    ours, theirs = leaves(W.mT.contiguous()), leaves(W.mT.contiguous())
    chunked_cross_entropy(x, ours[0].mT, None, targets)[0].backward()
    plain([x, theirs[0].mT], targets).backward()
    torch.testing.assert_close(ours[0].grad, theirs[0].grad)
    assert ours[0].grad is not None and ours[0].grad.is_contiguous()


def test_each_gradient_alone() -> None:
    x, W, b, targets = parts()
    together = leaves(x, W, b)
    chunked(together, targets)[0].backward()
    for i in range(3):
        alone = [x, W, b]
        alone[i] = alone[i].clone().requires_grad_()
        chunked(alone, targets)[0].backward()
        torch.testing.assert_close(alone[i].grad, together[i].grad)


def test_twice_through_the_same_graph() -> None:
    x, W, b, targets = parts()
    live = leaves(x, W, b)
    loss, _ = chunked(live, targets)
    once = torch.autograd.grad(loss, live, retain_graph=True)
    twice = torch.autograd.grad(2 * loss, live)
    assert all(torch.equal(2 * a, b) for a, b in zip(once, twice, strict=True))


def test_without_gradients_it_only_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_plus", lambda *_: pytest.fail("a gradient was made"))
    *given, targets = parts()
    with torch.no_grad():
        loss, right = chunked(leaves(*given), targets)
    assert not loss.requires_grad and right is None
    torch.testing.assert_close(loss, plain(given, targets))


def test_of_equal_scores_the_first_is_meant() -> None:
    W = torch.zeros(D, V)
    targets = torch.tensor([0, 1, 0, IGNORE, 5])
    _, right = chunked_cross_entropy(torch.randn(5, D), W, None, targets, counted=True)
    assert right is not None and right.item() == 2  # as argmax has it: an untrained model is not right everywhere


def test_large_scores_are_finite_and_sure_answers_keep_their_gradient() -> None:
    x, W = torch.eye(2).requires_grad_(), torch.tensor([[1e4, -1e4], [9.0, 0.0]])
    loss, _ = chunked_cross_entropy(x, W, None, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(1.234e-4, rel=1e-3)  # log(1 + exp(-9))
    rough = torch.tensor([[9.0, 0.0]])
    with torch.autocast("cpu", torch.bfloat16):
        b = torch.zeros(2, requires_grad=True)
        chunked_cross_entropy(torch.ones(1, 1), rough, b, torch.tensor([0]))[0].backward()
    assert b.grad is not None and b.grad[0].item() == pytest.approx(-1.234e-4, rel=5e-3), "p rounds to 1 in bf16"


@pytest.mark.parametrize("chunk", [None, 16], ids=["whole", "chunks"])
def test_bf16_is_as_near_to_the_truth_as_autocast(chunk: int | None) -> None:
    draw = torch.Generator().manual_seed(0)
    x, W = torch.randn(96, 64, generator=draw), torch.randn(64, 500, generator=draw) / 4
    targets = torch.randint(500, (96,), generator=draw)
    (truth, *exact), (usual, *theirs), (found, *ours) = (_slopes(x, W, targets, way, chunk) for way in range(3))
    assert abs(found - truth) <= 1.5 * abs(usual - truth) + 1e-3 * abs(truth) / 96
    for a, b, c in zip(exact, theirs, ours, strict=True):
        assert (c - a).norm() <= 1.1 * (b - a).norm(), "autocast's own error, and no more"


def _slopes(x: Tensor, W: Tensor, targets: Tensor, way: int, chunk: int | None) -> tuple[Any, ...]:
    live = leaves(x, W)
    with torch.autocast("cpu", torch.bfloat16, enabled=way > 0):
        loss = chunked(live, targets, chunk=chunk)[0] if way == 2 else plain(live, targets)
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(t.grad is not None and t.grad.dtype == torch.float32 for t in live)
    return (loss.detach(), *(t.grad for t in live))


def test_only_rows_with_a_target_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    score = cross_entropy._score
    monkeypatch.setattr(cross_entropy, "_score", lambda scores, *rest: seen.append(len(scores)) or score(scores, *rest))
    x, W, b, targets = parts()
    chunked_cross_entropy(x, W, b, targets, chunk=3)
    assert sum(seen) == int((targets != IGNORE).sum()) and max(seen) == 3


def test_as_few_chunks_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1000)
    assert cross_entropy._rows_that_fit(25, 100) == 9  # ten would fit, and leave a last chunk of five
    assert cross_entropy._rows_that_fit(10, 100) == 10
    assert cross_entropy._rows_that_fit(3, 10**6) == 1
    assert cross_entropy._rows_that_fit(0, 100) == 1


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch does so as it traces
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_compiled_in_one_graph(smoothing: float) -> None:
    x, W, b, targets = parts(dtype=torch.float32)

    def way(given: list[Any]) -> tuple[Tensor, Tensor | None]:
        return chunked(given, targets, smoothing=smoothing, chunk=4, counted=True)

    eager, live = leaves(x, W, b), leaves(x, W, b)
    eager_loss, eager_right = way(eager)
    loss, right = torch.compile(way, fullgraph=True, backend="aot_eager")(live)
    (eager_loss / 7).backward()
    (loss / 7).backward()
    torch.testing.assert_close(loss, eager_loss)
    assert right is not None and eager_right is not None and right.item() == eager_right.item()
    for a, c in zip(eager, live, strict=True):
        torch.testing.assert_close(c.grad, a.grad)


PEAK = """
import sys, torch
from torch.nn import functional as F
from etude.nn.cross_entropy import chunked_cross_entropy
torch.set_num_threads(1)
x, W = torch.randn(512, 16, requires_grad=True), torch.randn(16, 20_000, requires_grad=True)
targets = torch.randint(20_000, (512,))
def loss(rows):
    if sys.argv[1] == "ours":
        return chunked_cross_entropy(x[:rows], W, None, targets[:rows], chunk=64)[0]
    return F.cross_entropy(F.linear(x[:rows], W.mT), targets[:rows], reduction="sum")
def peak():  # of this program: getrusage would begin at what the process that started it had
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
loss(4).backward()
before = peak()
loss(512).backward()
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is asked of /proc")
def test_its_peak_is_a_third_of_the_usual() -> None:
    def peak(way: str) -> int:
        done = subprocess.run([sys.executable, "-c", PEAK, way], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak("ours") < peak("plain") / 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"smoothing": 1.0}, r"label smoothing 1\.0 is not a share"),
        ({"smoothing": -0.1}, r"label smoothing -0\.1"),
        ({"chunk": 0}, "a chunk of 0 rows"),
        ({"targets": torch.full((N,), V)}, r"target 13 is outside the vocabulary of 13 \(0 to 12\)"),
        ({"targets": torch.full((N,), -1)}, "target -1 is outside .* -100 where there is nothing to predict"),
    ],
)
def test_bad_values(fields: dict, message: str) -> None:
    x, W, b, targets = parts()
    with pytest.raises(UsageError, match=message):
        chunked_cross_entropy(**{"x": x, "W": W, "b": b, "targets": targets, **fields})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("vocabulary", [1, 64, 65, cross_entropy.STRIP + 7])
def test_bf16_over_any_vocabulary(vocabulary: int, chunk: int | None, tied: bool) -> None:
    """Where scores are filled up to a multiple of columns and W is copied in strips, no column is lost or added."""
    draw = torch.Generator().manual_seed(1)
    x, W, b = (torch.randn(*s, generator=draw).bfloat16() for s in ((N, D), (D, vocabulary), (vocabulary,)))
    targets = torch.randint(vocabulary, (N,), generator=draw)
    found, expected = leaves(x, W.mT.contiguous() if tied else W, b), leaves(x.double(), W.double(), b.double())
    loss, _ = chunked([found[0], found[1].mT if tied else found[1], found[2]], targets, chunk=chunk)
    truth = plain(expected, targets)
    loss.backward()
    truth.backward()
    torch.testing.assert_close(loss.double(), truth, rtol=1e-2, atol=1e-2)
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = ours.grad, theirs.grad
        ours = ours.mT if ours.shape != theirs.shape else ours
        assert ((ours.double() - theirs).norm() <= 0.02 * theirs.norm() + 1e-3).all()
