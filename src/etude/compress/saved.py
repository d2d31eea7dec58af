"""A compressor on disk: its tensors, and what makes codecs of them again. No code that trains is needed to open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.compressor import Compressor, Part
from etude.compress.methods.base import Method
from etude.compress.rounded import Rounded
from etude.core.errors import DamagedError, UsageError
from etude.core.files import read_json, replacing, write_json
from etude.core.run import Run
from etude.core.site import Site

CODEC, SHAPE = "codec.safetensors", "compressor.json"
FORMAT = 1


def save_compressor(compressor: Compressor, folder: Path) -> None:
    """Write a compressor into a folder, which it makes where there is none.

    Raises:
        UsageError: a codec does not say which method made it, so that nothing could read it back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts, tensors = [], {}
    for site, part in compressor.parts.items():
        if part.method is None:
            raise UsageError(f"the codec at {site} names no method: give its Part the method that fitted it")
        parts.append({"site": site, "reads": part.reads, "method": part.method.to_json(), "precision": part.precision})
        state = part.codec.state_dict().items()
        tensors |= {f"{site}/{name}": tensor.detach().contiguous().clone() for name, tensor in state}
    with replacing(folder / CODEC) as temporary:
        save_file(tensors, temporary)
    write_json(folder / SHAPE, {"format": FORMAT, "model": compressor.model, "parts": parts})


def load_compressor(source: Run | Path | str) -> Compressor:
    """Return the compressor in a run or a folder, ready to be put into its model.

    Raises:
        DamagedError: there is none, or its files are not what was written.
    """
    folder = source.path if isinstance(source, Run) else Path(source)
    if isinstance(source, Run):
        for name in (SHAPE, CODEC):
            source.file(name)  # checked against the run's hashes
    if not (folder / SHAPE).is_file() or not (folder / CODEC).is_file():
        raise DamagedError(f"{folder} holds no compressor ({SHAPE} and {CODEC}): give the run of a compression")
    said = read_json(folder / SHAPE)
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        found = said.get("format") if isinstance(said, dict) else None
        raise DamagedError(f"{folder / SHAPE} has format {found}, and this Etude reads {FORMAT}: compress again")
    try:
        return _opened(said, load_file(folder / CODEC))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        told = str(error).partition("\n")[0]
        raise DamagedError(f"{folder} holds no whole compressor ({told}): copy it again, or compress again") from None


def _opened(said: dict[str, Any], tensors: dict[str, Tensor]) -> Compressor:
    parts = {}
    for entry in said["parts"]:
        site, method, bits = Site(entry["site"]), Method.from_json(entry["method"]), int(entry["precision"])
        own = {n.removeprefix(f"{site}/"): t for n, t in tensors.items() if n.startswith(f"{site}/")}
        parts[site] = Part(_codec(method, own, bits), entry["reads"] and Site(entry["reads"]), method, bits)
    return Compressor(parts, said["model"])


def _codec(method: Method, tensors: dict[str, Tensor], bits: int) -> Codec:
    if "step" not in tensors or "lowest" not in tensors or bits == 32:
        return method.codec(tensors).eval()
    inner = {name.removeprefix("inner."): value for name, value in tensors.items() if name.startswith("inner.")}
    return Rounded.of(method.codec(inner), tensors, bits).eval()
