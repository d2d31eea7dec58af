"""Where weights from outside come from: a Hugging Face folder, a file of llama2.c, or a name on the hub. What can be
known of them without PyTorch: format, configuration, which tensors there are, and an identity."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError, UsageError, unknown
from etude.core.family import Family
from etude.core.files import sha256_of
from etude.models.formats._config import Config
from etude.models.formats.base import Format, Reading
from etude.models.formats.llama2c import Llama2c, layout, read_header

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")
CONVERT = (
    "a pickle can run any code when it is opened, so Etude never opens one: where you trust it, transformers makes a"
    " folder with model.safetensors: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OTHER)"
)
UNSAID = "not said"
"""The licence of a folder that says none."""

HUB_FILES = ("config.json", "model*.safetensors*", "tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json",
             "README.md", "LICENSE*")  # fmt: skip
"""What is fetched of a hub repository."""

OLD_NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
}
"""Hub names without an owner, from before repositories had one, and where they are now."""


@dataclass(frozen=True)
class Stored:
    """One tensor in a file.

    Attributes:
        file: which.
        name: under which name.
        shape: its shape.
        dtype: `F32`, `BF16` and so on, as safetensors has them.
        at: where it begins, in a file that has no table of its own.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    at: int = 0


@dataclass(frozen=True)
class Source:
    """A model from outside, opened.

    Attributes:
        path: the folder or file.
        format: how it is written down.
        config: its configuration.
        tensors: what there is, by the names of the format's table.
        files: those that decide the model.
        revision: the commit on the hub, if it comes from there.
    """

    path: Path
    format: Format
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    files: tuple[Path, ...]
    revision: str = ""

    @property
    def folder(self) -> Path:
        """Where its tokenizer is looked for."""
        return self.path if self.path.is_dir() else self.path.parent

    @functools.cached_property
    def reading(self) -> Reading:
        """What its configuration says.

        Raises:
            UsageError: Etude has no part for something in it.
        """
        config = Config(self.config, str(self.path / CONFIG if self.path.is_dir() else self.path))
        try:
            found = self.format.read(config, self.tensors.keys())
        except UsageError as error:
            known = str(error).startswith(config.where)
            raise error if known else UsageError(f"{config.where}: {error}") from None
        config.finish()
        return found

    def identity(self) -> str:
        """Return a hash (64 hex) of what decides the model: configuration and weights, wherever they lie."""
        config = hashlib.sha256(json.dumps(dict(self.config), sort_keys=True).encode()).hexdigest()
        hashes = [config, *(_hash(file, *_stamp(file)) for file in self.files)]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    @property
    def licence(self) -> str:
        """What the folder says of its licence."""
        return licence_of(self.folder)


def opened(path: str | Path) -> Source:
    """Open a model from outside.

    Args:
        path: a folder with config.json and safetensors; a `.bin` of llama2.c; or OWNER/NAME on the hub.

    Raises:
        UsageError: there is none, or it is of a kind that Etude does not read.
        DamagedError: a file is not what it says.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_folder(place)
    if place.is_file():
        return _open_file(place)
    if is_hub_name(str(path)):
        folder, revision = fetched_folder(str(path))
        return _open_folder(folder, revision)
    raise UsageError(
        f"nothing at {str(path)!r}: give a folder with config.json and model.safetensors, a .bin of llama2.c, or the"
        f" name of a model on the hub, OWNER/NAME (or {', '.join(list(OLD_NAMES)[:2])} and the like)"
    )


def is_foreign(path: Path) -> bool:
    """Return whether a path holds a model from outside."""
    return (path.is_dir() and (path / CONFIG).is_file()) or (path.is_file() and path.suffix == ".bin")


def is_hub_name(name: str) -> bool:
    """Return whether a text that is no path can be a hub name: OWNER/NAME, or one of the old names without an owner.
    Where a folder OWNER stands here, a path was meant."""
    if name in OLD_NAMES:
        return True
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).parent.exists()


def fetched_folder(name: str) -> tuple[Path, str]:
    """Return the folder of a hub repository's files, fetched where they are not there yet, and the commit."""
    from etude.text.hub import fetched

    snapshot = fetched(OLD_NAMES.get(name, name), HUB_FILES, kind="model")
    return snapshot.folder, snapshot.revision


def _open_folder(folder: Path, revision: str = "") -> Source:
    config = _read_config(folder)
    chosen = _format_of(config, folder)
    files = _weight_files(folder)
    found = {name: stored for file in files for name, stored in _tensors(file).items()}
    trunk = any(name.startswith(chosen.trunk) for name in found)
    tensors = {chosen.canonical(name, trunk): stored for name, stored in found.items()}
    return Source(folder, chosen, config, tensors, tuple(files), revision)


def _open_file(path: Path) -> Source:
    if path.name in PICKLES or path.suffix in (".pt", ".pth", ".ckpt", ".pkl"):
        raise UsageError(f"{str(path)!r} is a pickle: {CONVERT}")
    if path.suffix != ".bin":
        raise UsageError(f"{str(path)!r} is no model: give its folder, or a .bin of llama2.c")
    with path.open("rb") as file:
        if file.read(2) in (b"PK", b"\x80\x02"):  # a zip, as torch.save writes, or a bare pickle
            raise UsageError(f"{str(path)!r} is a pickle: {CONVERT}")
    header = read_header(path)
    places = layout(header)
    end, size = places.pop("end")[0], path.stat().st_size
    if size != end:
        state = "cut short" if size < end else "too long"
        raise DamagedError(f"{str(path)!r} is {state}: it has {size:,} bytes and its header asks for {end:,}")
    tensors = {name: Stored(path, name, shape, "F32", at) for name, (at, shape) in places.items()}
    return Source(path, Llama2c(), header, tensors, (path,))


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise UsageError(f"no {CONFIG} in {str(folder)!r}: give a folder as transformers' save_pretrained writes it")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{str(file)!r} is not JSON ({error}): fetch it again") from None
    if not isinstance(config, dict):
        raise DamagedError(f"{str(file)!r} holds no object: fetch it again")
    return config


def _format_of(config: Mapping[str, Any], folder: Path) -> Format:
    """Return the format that `model_type` names, having seen that it reads the class."""
    formats = [cls() for cls in Family("models/formats") if issubclass(cls, Format)]
    by_type = {kind: chosen for chosen in formats for kind in chosen.model_types if chosen.classes}
    kind = str(config.get("model_type", ""))
    if kind not in by_type:
        raise unknown(f"model_type in {str(folder / CONFIG)!r}", kind, by_type, see="etude list models/formats")
    chosen, classes = by_type[kind], config.get("architectures") or []
    if classes and not set(classes) & set(chosen.classes):
        raise UsageError(
            f"{folder / CONFIG}: architectures = {classes[0]!r} is not supported: of {kind}, Etude reads"
            f" {', '.join(chosen.classes)}"
        )
    return chosen


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            names = sorted({Path(name).name for name in shards.values()})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DamagedError(f"{str(folder / INDEX)!r} does not say where tensors are: fetch it again") from None
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise DamagedError(f"{str(folder)!r} lacks {missing[0]}, one of {len(names)} shards: fetch it again")
        return [folder / name for name in names]
    if pickles := [name for name in PICKLES if (folder / name).is_file()]:
        raise UsageError(f"{str(folder)!r} has its weights in {pickles[0]}: {CONVERT}")
    raise UsageError(f"no {WEIGHTS} in {str(folder)!r}, nor {INDEX} of several: fetch the weights too")


def _tensors(file: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened_file:
            slices = {name: opened_file.get_slice(name) for name in opened_file.keys()}  # noqa: SIM118
            return {name: Stored(file, name, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except SafetensorError as error:
        raise DamagedError(f"{str(file)!r} cannot be read ({error}): fetch it again") from None


def _stamp(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_size, about.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _hash(file: Path, size: int, changed: int) -> str:
    """Return a file's hash, remembered for as long as it is not written again."""
    return sha256_of(file)


def licence_of(folder: Path) -> str:
    """Return the licence that a folder's README.md has in its head, or the first line of its LICENSE."""
    readme = folder / "README.md"
    if readme.is_file():
        head = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        said = re.search(r"^license:\s*(\S.*?)\s*$", head[1], re.MULTILINE) if head else None
        if said:
            return said[1].strip("'\"")
    for file in sorted(folder.glob("LICENSE*")):
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), file.name)
    return UNSAID
