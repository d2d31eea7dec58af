"""The tuned lens (Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens"): an affine
translator for each layer, trained so that its lens predicts what the model will.

The loss of a layer is KL(final || lens), in nats, averaged over positions (section 3). The model is frozen and read
once a step, and the translators of all layers learn from that one pass, each by itself: none changes what another
learns. The paper takes SGD with Nesterov momentum; here it is Adam, whose rate needs no search for each model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.core.seeds import stream
from etude.evals.loss import batch_for, batches, live
from etude.interp.lenses import Translators, divergence, log_probabilities, streams, translate
from etude.interp.subject import decoder_of
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Examples, Sampler
from etude.train.checkpoint import State
from etude.train.loop import advance

CLIP = 1.0
"""Greatest norm of a gradient, as in the paper, but of each layer's by itself: the early layers, which have the most to
learn, do not slow the late ones down."""


class TunedLensStepper:
    """Trains translators on windows of text.

    Args:
        model: a decoder, which stays as it is.
        translators: what is trained.
        examples: the training split.
        steps: how many in all; the rate falls to 0 over them, along a straight line.
        batch: windows in a step.
        rate: of the first step.
        seed: of the order of the windows.
    """

    def __init__(
        self,
        model: DecoderModel,
        translators: Translators,
        examples: Examples,
        *,
        steps: int,
        batch: int,
        rate: float,
        seed: int,
    ) -> None:
        self.model, self.translators, self.examples = model, translators, examples
        self.steps, self.rate = steps, rate
        self.sampler = Sampler(len(examples), batch, stream(seed, "order"))
        self.optimiser = torch.optim.Adam(translators.parameters(), lr=0.0, fused=True)
        for parameter in translators.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def step(self, number: int) -> dict[str, Any]:
        """Take one step on the windows that its number decides, so that a resumed run takes the same.

        Returns:
            `loss`, the mean over layers of the divergence before the step, and `kl`, that of each layer, in nats.
        """
        batch = self.examples.batch(self.sampler.indices(number), draw=number)
        *before, final = _rows(self.model, *live(batch, self.translators.A.device))
        final = log_probabilities(self.model, final)
        found = [self._differentiate(layer, x, final) for layer, x in enumerate(before)]
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * (1 - number / self.steps)
        self.optimiser.step()
        return {"loss": sum(found) / len(found), "kl": found}

    def _differentiate(self, layer: int, x: Float[Tensor, "N D"], final: Float[Tensor, "N V"]) -> float:
        """Set the gradient of one layer's translator and return its loss. Its scores are gone when the next begins."""
        weights = self.translators.A, self.translators.b
        A, b = (weight[layer].detach().requires_grad_() for weight in weights)
        with torch.enable_grad():
            loss = divergence(final, log_probabilities(self.model, translate(x, A, b))).sum() / max(1, len(x))
        gradients = torch.autograd.grad(loss, (A, b))  # of these alone: the model's own are not touched
        norm = float(get_total_norm(gradients))
        for weight, gradient in zip(weights, gradients, strict=True):
            assert weight.grad is not None  # made with the stepper
            weight.grad[layer] = gradient * (CLIP / max(CLIP, norm))
        return loss.item()

    def state(self) -> State:
        return State.of(self.optimiser, translators=self.translators)

    def load(self, state: State) -> None:
        state.load_into(self.optimiser, translators=self.translators)


@torch.no_grad()
def train_tuned_lens(
    model: Transformer, examples: Examples, *, steps: int, batch: int, rate: float, seed: int, run: Draft
) -> Translators:
    """Return translators trained for every layer of a decoder.

    Args:
        model: in evaluation mode; it is not changed.
        examples: windows of training text, no longer than the model's context.
        steps: how many; 0 leaves the logit lens.
        batch: windows in a step.
        rate: Adam's, which falls to 0.
        seed: of the order of the windows.
        run: where rows and checkpoints go. A run that was stopped goes on exactly.

    Raises:
        UsageError: the model is no decoder, drops out or has no layers, or a number is out of its range.
    """
    decoder = decoder_of(model)
    if not decoder.spec.layers:
        raise UsageError("the model has 0 layers, so there is nothing to translate: give one with a layer or more")
    if steps < 0 or rate <= 0:
        raise UsageError(f"steps = {steps} at a rate of {rate}: give 0 steps or more, and a rate over 0")
    translators = Translators(decoder.spec.layers, decoder.spec.width).to(next(decoder.parameters()))
    stepper = TunedLensStepper(decoder, translators, examples, steps=steps, batch=batch, rate=rate, seed=seed)
    advance(stepper, run, steps=steps, log_every=max(1, steps // 20), per_step=batch * examples.context)
    return translators.requires_grad_(False)


@torch.no_grad()
def lens_divergence(
    model: Transformer, examples: Examples, windows: np.ndarray, translators: Translators | None = None
) -> Float[Tensor, " L"]:
    """Return how far each layer's lens is from the model's prediction on held-out windows: KL(final || lens) in nats,
    the mean over all positions that predict something, in fp64 on the CPU.

    Args:
        model: a decoder, in evaluation mode.
        examples: the validation split.
        windows: which of its windows, from `etude.evals.loss.chosen_windows`.
        translators: of the tuned lens; None is the logit lens.

    Raises:
        UsageError: the model is no decoder or drops out, or the translators are of another model.
    """
    decoder = decoder_of(model)
    if translators is not None:
        translators.check(decoder)
    summed, count = torch.zeros(decoder.spec.layers, dtype=torch.float64), 0
    size, device = batch_for(decoder.vocabulary, examples.context), next(decoder.parameters()).device
    for batch in batches(examples, windows, device, size):
        *before, final = _rows(decoder, *batch)
        count += len(final)
        final = log_probabilities(decoder, final)
        for layer, x in enumerate(before):
            x = x if translators is None else translators(layer, x)
            summed[layer] += divergence(final, log_probabilities(decoder, x)).sum().cpu()
    return summed / count


def _rows(model: DecoderModel, tokens: Tensor, targets: Tensor, given: dict[str, Tensor]) -> list[Float[Tensor, "N D"]]:
    """Return the stream before each layer and behind the last, at the positions that predict something."""
    there = targets != IGNORE
    return [x[there] for x in streams(model, tokens, **given)]
