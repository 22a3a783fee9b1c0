"""Models from files and back: `load` and `save`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo import hub, models
from octavo.checks import require_params, require_threads
from octavo.errors import OctavoError
from octavo.formats import companions, folder
from octavo.memory import uncollected
from octavo.model import Model
from octavo.nn import Array
from octavo.quant import Quantized
from octavo.quantising import quantised, require_kind

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

PRETRAINED = Path(__file__).parent / "pretrained"
SAME = {"F16": "float16", "F32": "float32"}  # what GGUF calls them


def bundled() -> list[str]:
    """The names of the models that ship with the package.

    Examples
    --------
    >>> bundled()
    ['bard', 'christie-gru', 'christie-rnn']
    """
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{folder.CONFIG}"))


@uncollected()
def load(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    model_type: str | None = None,
    quantize: str | None = None,
    threads: int | None = None,
    **config: Any,
) -> Model:
    """Open a model.

    Parameters
    ----------
    path : str or Path
        The name of a model that ships with the package, ``hub:owner/name`` (or ``hub:owner/name@revision``)
        for one on the Hugging Face hub, a folder that `save` wrote or that was published in Hugging Face's
        layout (of a family among `octavo.models.ARCHITECTURES`), a GGUF file of such a model, a Keras model
        (`.json` architecture, `.keras`, whole-model `.h5`), an `.npz` archive of the types `plain` and
        `prenorm`, nanoGPT's `ckpt.pt` or llama2.c's `.bin`. What a file is, its content says. A folder that
        has the name of a shipped model is reached as ``./name``.
    weights : str or Path, optional
        The weights of a Keras architecture (`.h5`, `.weights.h5`).
    tokenizer : Tokenizer, str or Path, optional
        In place of the one in the folder: a tokenizer, a `tokenizer.json` or a pickled
        `tiktoken.Encoding` (which is read without unpickling).
    model_type : str, optional
        Refuse the file if it is of another type.
    quantize : {"q8", "q4"}, optional
        Hold the matrices in blocks of 8 bits a weight, or of 4 with embeddings and output at 8, as
        `octavo.quantising` says: a quarter or a sixth of the memory. What a file holds in as few bits
        already stays as it is. Recurrent models have none of it.
    threads : int, optional
        How many threads compiled code may use for the model, at most as many as there are processors; by
        default all of them.
    **config
        Fields of the architecture's config that the file does not tell, ``n_heads=8`` say.

    Returns
    -------
    Model
        Its parameters are NumPy arrays, half precision widened to float32; the matrices of a GGUF file
        stay as they are there, mapped (`octavo.quant.Quantized`).

    Raises
    ------
    OctavoError
        If the file is missing, damaged or of no known kind; if it holds anything that is not
        supported; or, all at once, for parameters missing, unexpected, misshapen or not finite.

    Examples
    --------
    >>> load("christie-gru")
    Model(gru, 873,513 parameters, vocabulary 41)
    """
    require_kind(quantize)
    require_threads(threads)
    source = locate(path)
    found, settings, params, *metadata = _read(source, weights, config)
    if model_type not in (None, found):
        raise OctavoError(f"{source} holds a model of type {found}, not {model_type}")
    require_params(models.architecture(found).shapes(settings), params, str(source))
    if quantize is not None:
        params = quantised(found, settings, params, quantize)
    if metadata:  # of a GGUF file, which holds in one what a folder holds in several
        from octavo.formats import gguf

        reader = gguf.tokenizer(*metadata) if tokenizer is None else _tokenizer(tokenizer, source)
        model = Model(found, settings, params, reader, gguf.chat_template(*metadata), threads=threads)
    else:
        reader = _tokenizer(tokenizer, source)
        model = Model(found, settings, params, reader, **_companions(source), threads=threads)
    _check_vocabulary(model)
    return model


def _check_vocabulary(model: Model) -> None:
    """Refuse a tokenizer with more tokens than the model; warn of one of characters that has fewer."""
    if model.tokenizer is None or model.tokenizer.vocab_size == model.vocab_size:
        return
    found = f"the tokenizer has {model.tokenizer.vocab_size} tokens and the model {model.vocab_size}"
    if model.tokenizer.vocab_size > model.vocab_size:
        raise OctavoError(f"{found}; they do not belong together")
    from octavo.tokenizers.chars import Char

    if isinstance(model.tokenizer, Char):  # one character left out shifts all that sort after it
        warnings.warn(
            f"{found}; unless it was made from all the texts the model knows, ids mean other characters",
            stacklevel=3,
        )


def locate(path: str | Path) -> Path:
    """The folder of a model that is shipped or on a hub, else the path itself, which must exist."""
    if isinstance(path, str) and path in bundled():
        return PRETRAINED / path
    if isinstance(path, str) and path.startswith(hub.PREFIX):
        return hub.fetch(path)
    if not os.path.exists(path):  # False, where Path.exists raises for a name that is too long
        names = ", ".join(bundled())
        raise OctavoError(
            f"there is no file or folder {str(path)!r}, and no shipped model of that name ({names})"
        )
    return Path(path)


def _read(source: Path, weights: str | Path | None, config: dict[str, Any]) -> tuple[Any, ...]:
    """Model type, config and parameters, of GGUF metadata too: by the `read` of the format of the content."""
    if not source.is_dir() and not _is_gguf(source):
        from octavo.formats import keras

        if keras.recognise(source):
            if config:
                raise OctavoError(f"a Keras model tells its whole config; leave out {', '.join(config)}")
            return keras.read(source, Path(weights) if weights is not None else None)
    if weights is not None:
        raise OctavoError(f"weights go with a Keras architecture; {source} is none")
    read: Any = folder.read if source.is_dir() else _reader(source)
    return tuple(read(source, **config))


def _is_gguf(source: Path) -> bool:
    """Whether a file is of that format, which is asked first: others take longer to import."""
    from octavo.formats import gguf

    return gguf.recognise(source)


def _reader(source: Path) -> Any:
    """The format's `read`, by the content of the file."""
    if _is_gguf(source):
        from octavo.formats import gguf

        return gguf.read
    from octavo.formats import llama2c, nanogpt, npz, torch_zip

    if torch_zip.recognise(source):
        return nanogpt.read
    if torch_zip.is_zip(source):
        return npz.read
    if llama2c.recognise(source):
        return llama2c.read
    raise OctavoError(
        f"{source} is no model that octavo reads: expected a model folder, a GGUF file, a Keras file (.json, "
        ".keras, .h5), an .npz archive, nanoGPT's ckpt.pt or llama2.c's .bin; it may be damaged"
    )


def _tokenizer(given: str | Path | Tokenizer | None, source: Path) -> Tokenizer | None:
    from octavo import tokenizers

    if given is None:
        own = source / folder.TOKENIZER
        return tokenizers.open(own) if own.is_file() else None
    return tokenizers.open(given) if isinstance(given, str | Path) else given


def _companions(source: Path) -> dict[str, Any]:
    """What a folder says on writing with the model, beside the model itself."""
    if not source.is_dir():
        return {}
    return {
        "chat_template": companions.read_chat_template(source),
        "generation_config": companions.read_generation_config(source),
    }


def save(model: Model, path: str | Path, *, dtype: str | None = None) -> None:
    """Write a model folder: `config.json`, `model.safetensors` and, if it has one, `tokenizer.json`.

    Models of published families (`llama`, `gpt2`, `qwen3`, ...) are written as they are published:
    transformers and whatever else reads that layout opens the folder as it is. A path that ends in ``.gguf``
    becomes one file for llama.cpp and its kin instead.

    Parameters
    ----------
    model : Model
        With or without a tokenizer.
    path : str or Path
        A folder that does not exist yet, or is empty; or a GGUF file that does not exist yet. It appears
        whole or not at all.
    dtype : str, optional
        The precision to store; by default that of the parameters, and what is quantised stays so. In a
        folder "float16", "float32", "float64"; one with quantised parameters is for octavo alone to read.
        In GGUF "F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0".

    Raises
    ------
    OctavoError
        If the path is taken, or cannot be written; if a parameter is not finite in the precision to
        store; if GGUF knows no such architecture.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     save(load("christie-rnn"), f"{parent}/copy")
    ...     load(f"{parent}/copy").count()
    36777
    """
    import numpy as np

    shapes = model.architecture.shapes(model.config)
    if Path(path).suffix.lower() == ".gguf":
        from octavo.formats import gguf_write

        require_params(shapes, model.params, "what is to be saved")
        gguf_write.write(Path(path), model, dtype)
        return
    dtype = SAME.get(dtype or "", dtype)
    if dtype not in (None, "float16", "float32", "float64"):
        raise OctavoError(f"dtype is float16, float32 or float64, not {dtype!r}; a .gguf file holds more")
    with np.errstate(over="ignore"):  # what is too large for the dtype is refused as infinite
        params = {name: _stored(array, dtype) for name, array in model.params.items()}
    require_params(shapes, params, "what is to be saved")
    folder.write(
        Path(path),
        models.describe(model.model_type, model.config),
        params,
        model.tokenizer,
        chat_template=model.chat_template,
        generation_config=model.generation_config,
    )


def _stored(array: Array, dtype: str | None) -> Array:
    """A parameter as a folder is to hold it; blocks of one number are none there."""
    import numpy as np

    if dtype is None and isinstance(array, Quantized):
        if array.format.items > 1:
            return array
        dtype = "float16" if array.format.name == "F16" else "float32"
    return np.asarray(array, dtype)
