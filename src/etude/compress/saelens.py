"""Sparse codecs as folders that SAELens reads: `cfg.json` and `sae_weights.safetensors`, as version 6 writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from etude.compress.compressor import Compressor
from etude.compress.saved import load_compressor
from etude.compress.sparse import Sparse
from etude.core.errors import UsageError
from etude.core.files import replacing, write_json
from etude.core.run import Run
from etude.core.site import Site

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
VERSION = "6.0.0"
"""The first version of SAELens that reads this form; a folder that names none is taken for an older one's."""

HOOKS = {
    "embed.out": "hook_embed",
    "resid.pre": "hook_resid_pre",
    "resid.mid": "hook_resid_mid",
    "resid.post": "hook_resid_post",
    "attn.z": "attn.hook_z",
    "attn.out": "hook_attn_out",
    "mlp.post": "mlp.hook_post",
    "mlp.out": "hook_mlp_out",
}
"""What TransformerLens calls our sites."""


def export_saelens(source: Run | Path | str | Compressor, folder: Path, force: bool = False) -> dict[str, Any]:
    """Write a sparse autoencoder as a folder that SAELens's `SAE.load_from_disk` reads, and return its configuration.

    What it reconstructs there is what it does here, and its latents are the same. At `attn.z` it reads and writes heads
    and head width as two axes there.

    Args:
        source: the run of a compression, the folder of a compressor, or a compressor.
        folder: where to.
        force: whether the files may stand there already.

    Raises:
        UsageError: it is not one sparse codec at an activation, or the folder holds something.
    """
    compressor = source if isinstance(source, Compressor) else load_compressor(source)
    site, codec = _sparse(compressor)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (force and folder.is_dir()):
        raise UsageError(f"{str(folder)!r} holds something already: give another folder, or --force to write over it")
    config = saelens_config(site, codec)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as temporary:
        save_file(saelens_weights(codec), temporary)
    write_json(folder / CONFIG, config)
    return config


def _sparse(compressor: Compressor) -> tuple[Site, Sparse]:
    """Return the site and the codec of a compressor that SAELens has a form for."""
    if len(compressor.parts) != 1:
        raise UsageError(
            f"{len(compressor.parts)} sites have a codec and a SAELens folder holds one: export each alone"
        )
    ((site, part),) = compressor.parts.items()
    if not isinstance(part.codec, Sparse) or part.reads is not None:
        kind = part.method.name if part.method else type(part.codec).__name__
        kind += f" at {part.precision} bits" if part.precision < 32 else ""
        raise UsageError(f"SAELens has no form for {kind} at {site}: export a relu-sae or a topk-sae of 32 bits")
    return site, part.codec


def saelens_weights(codec: Sparse) -> dict[str, Tensor]:
    """Return its weights by SAELens's names. The centre goes into the encoder's bias, in float64: they may be large and
    nearly cancel."""
    shift = codec.get_buffer("centre").double() @ codec.W_enc.double()
    weights = {"W_enc": codec.W_enc, "b_enc": (codec.b_enc.double() - shift).float()}
    weights |= {"W_dec": codec.W_dec, "b_dec": codec.b_dec}
    return {name: weight.detach().contiguous().clone() for name, weight in weights.items()}


def saelens_config(site: Site, codec: Sparse) -> dict[str, Any]:
    """Return the configuration that SAELens keeps beside the weights.

    Raises:
        UsageError: TransformerLens has no name for the site.
    """
    if site.part not in HOOKS or site.stack:
        raise UsageError(f"{site} has no name in TransformerLens; choose one of {', '.join(HOOKS)} of a decoder")
    hook = HOOKS[site.part] if site.layer is None else f"blocks.{site.layer}.{HOOKS[site.part]}"
    kind = {"architecture": "topk", "k": codec.k, "rescale_acts_by_decoder_norm": False} if codec.k else {}
    return {
        "architecture": "standard",
        **kind,
        "d_in": codec.W_enc.shape[0],
        "d_sae": codec.W_enc.shape[1],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if site.part == "attn.z" else "none",
        "metadata": {"sae_lens_version": VERSION, "hook_name": hook, "hook_head_index": None},
    }
