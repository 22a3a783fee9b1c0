"""Keras architectures: the JSON of a stack of layers, as layers of `octavo.models.recurrent`.

Read are Sequential models, and Functional ones whose layers form a chain, of SimpleRNN, GRU, LSTM, Dense,
Activation, Embedding, and of the layers that do nothing once a model is trained. Whatever else would
change the numbers is refused by name. Nothing that a file holds is ever executed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from octavo.activations import ACTIVATIONS
from octavo.checks import DEEPEST, printable
from octavo.errors import OctavoError
from octavo.models.recurrent import GATES, Layer

Json = dict[str, Any]

IDLE = (  # after training
    *("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout"),
    *("GaussianNoise", "ActivityRegularization"),
)
READ = "SimpleRNN, GRU, LSTM, Dense, Activation, Embedding and Dropout"
OURS = {"gelu_tanh", "hard_sigmoid_keras2"}  # names that Keras does not have
SIGMOIDS = {"sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "sparse_sigmoid"}
ALIASES = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "softmax_v2": "softmax",
    "log_softmax_v2": "log_softmax",
}
BUILT_IN = ("keras", "tf_keras", "tensorflow", "builtins")  # packages whose classes and functions are Keras's


@dataclass(frozen=True)
class Stack:
    """The layers that have an effect, under the names that Keras gave them."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    width: int | None  # of the one-hot tokens, or of the vocabulary of the embedding; None: not said


def read(architecture: Json, keras: int) -> Stack:
    """The stack of an architecture that Keras 2 or 3 wrote.

    Raises
    ------
    OctavoError
        If a layer is not supported, or the last one gives probabilities: of a softmax that the recurrence
        reads itself, or of a sigmoid for each token alone. A closing log_softmax is kept.
    """
    found: list[tuple[str, Layer]] = []
    width: int | None = None
    ended = ""  # the recurrent layer that returned its last output only
    for entry in chain(architecture):
        kind, name, config = describe(entry)
        width = declared_width(kind, config) if width is None and not found else width
        if kind in IDLE:
            continue
        if kind not in READERS:
            raise OctavoError(
                f"layer {name} is a {kind}, which octavo does not read; it reads stacks of {READ}"
            )
        layer = READERS[kind](config, name, keras)
        if layer.kind in GATES:
            if ended:
                raise OctavoError(
                    f"layer {ended} has return_sequences=False, yet {name} reads a sequence from it"
                )
            ended = "" if flag(config, "return_sequences", name) else name
        if name in dict(found):
            raise OctavoError(f"the architecture is damaged: two layers are called {name}")
        found.append((name, layer))
    if not any(layer.kind in GATES for _, layer in found):
        raise OctavoError(f"the model has no recurrent layer; octavo reads stacks of {READ}")
    names, layers = zip(*open_end(found), strict=True)
    return Stack(layers, names, width)


def open_end(found: list[tuple[str, Layer]]) -> list[tuple[str, Layer]]:
    """The layers without a closing softmax, so that the last one gives logits."""
    while (last := found[-1][1]).kind == "activation" and last.activation == "linear":
        found = found[:-1]
    *rest, (name, last) = found
    if last.activation == "softmax" and last.kind == "activation" and rest:
        return rest
    if last.activation == "softmax" and last.kind == "dense":
        return [*rest, (name, replace(last, activation="linear"))]
    if last.activation == "softmax":  # of a recurrent layer, which reads the probabilities itself
        raise OctavoError(f"the last layer, {name}, gives probabilities by softmax, and octavo needs logits")
    if last.activation in SIGMOIDS:
        raise OctavoError(
            f"the last layer, {name}, gives each token a probability of its own by {last.activation}, no "
            "distribution over the next token; train the model with a closing softmax instead"
        )
    return found


# ---------------------------------------------------------------- layers


def recurrent(kind: str) -> Callable[[Json, str, int], Layer]:
    """The reader of a recurrent layer."""

    def read_layer(config: Json, name: str, keras: int) -> Layer:
        for option in ("go_backwards", "time_major"):
            if flag(config, option, name, False):
                raise OctavoError(f"layer {name} has {option}=True, which octavo does not support")
        gated = kind != "rnn"
        return Layer(
            kind,
            size(config, "units", name),
            activation(config, "activation", name, keras),
            activation(config, "recurrent_activation", name, keras) if gated else "sigmoid",
            flag(config, "reset_after", name, False) if kind == "gru" else True,  # older files lack it
            flag(config, "use_bias", name),
        )

    return read_layer


def dense(config: Json, name: str, keras: int) -> Layer:
    """A Dense layer."""
    act = activation(config, "activation", name, keras)
    return Layer("dense", size(config, "units", name), act, use_bias=flag(config, "use_bias", name))


def embedding(config: Json, name: str, keras: int) -> Layer:
    """An Embedding layer."""
    if flag(config, "mask_zero", name, False):
        raise OctavoError(f"layer {name} has mask_zero=True, which octavo does not support")
    return Layer("embedding", size(config, "output_dim", name))


def activation_layer(config: Json, name: str, keras: int) -> Layer:
    """An Activation layer."""
    return Layer("activation", activation=activation(config, "activation", name, keras))


def softmax_layer(config: Json, name: str, keras: int) -> Layer:
    """A Softmax layer over the last axis."""
    if config.get("axis", -1) != -1:
        raise OctavoError(
            f"layer {name} is a Softmax over axis {short(config['axis'])}; octavo supports -1, the last"
        )
    return Layer("activation", activation="softmax")


READERS: dict[str, Callable[[Json, str, int], Layer]] = {
    "SimpleRNN": recurrent("rnn"),
    "GRU": recurrent("gru"),
    "LSTM": recurrent("lstm"),
    "Dense": dense,
    "Embedding": embedding,
    "Activation": activation_layer,
    "Softmax": softmax_layer,
}

# ---------------------------------------------------------------- fields


def describe(entry: Any) -> tuple[str, str, Json]:
    """The class, name and config of a layer; refuses classes that are not Keras's own."""
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise OctavoError("the architecture is damaged: a layer has no config")
    config: Json = entry["config"]
    kind, name = (
        printable(x) if isinstance(x, str) else "" for x in (entry.get("class_name"), config.get("name"))
    )
    if not kind or not name:
        raise OctavoError("the architecture is damaged: a layer has no class_name, or its config no name")
    if not is_built_in(entry, kind):
        registered = short(entry.get("registered_name") or entry.get("module"))
        raise OctavoError(
            f"layer {name} is of a custom class, {kind} ({registered}), which octavo does not read"
        )
    return kind, name, config


def is_built_in(entry: Json, name: str) -> bool:
    """Whether a serialized object of that name is Keras's own, by its module and registered name."""
    module = entry.get("module") or "keras"
    return (
        isinstance(module, str)
        and module.split(".")[0] in BUILT_IN
        and entry.get("registered_name") in (None, name, "function")
    )


def activation(config: Json, key: str, name: str, keras: int) -> str:
    """Our name of an activation; the serialized function objects of Keras are understood too."""
    if key not in config:
        raise OctavoError(f"layer {name} has no {key}")
    value = config[key]
    if (
        isinstance(value, dict)
        and value.get("class_name") == "function"
        and isinstance(value.get("config"), str)
    ):
        value = value["config"] if is_built_in(value, value["config"]) else value
    if value is None:
        return "linear"
    if not isinstance(value, str):
        raise OctavoError(f"layer {name} has the custom {key} {short(value)}, which octavo does not read")
    ours = ALIASES.get(value, value)
    if ours == "sparsemax":
        raise OctavoError(f"layer {name} has the {key} sparsemax, which Keras computed wrongly until 3.15")
    if ours not in ACTIVATIONS or ours in OURS:
        raise OctavoError(f"layer {name} has the {key} {short(value)}, which octavo does not have")
    return "hard_sigmoid_keras2" if (ours, keras) == ("hard_sigmoid", 2) else ours


def flag(config: Json, key: str, name: str, default: bool | None = None) -> bool:
    """A field that is true or false."""
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise OctavoError(f"layer {name} must have {key} true or false, not {short(value)}")
    return value


def size(config: Json, key: str, name: str) -> int:
    """A field that is a whole number; `recurrent.Layer` checks its range."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise OctavoError(f"layer {name} must have a whole number of {key}, not {short(value)}")
    return value


def declared_width(kind: str, config: Json) -> int | None:
    """How many tokens there are, if a first layer says so: of an embedding, or of one-hot vectors."""
    if kind == "Embedding":
        return size(config, "input_dim", str(config["name"]))
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    if isinstance(shape, list) and len(shape) == 3 and isinstance(shape[2], int):
        return shape[2]
    return None


def short(value: Any) -> str:
    """A value out of a file, fit for a line of text."""
    return printable(value) if isinstance(value, str) else printable(repr(value))


# ---------------------------------------------------------------- the order of the layers


def chain(architecture: Json) -> list[Any]:
    """The layers in the order in which they are applied."""
    kind, config = architecture.get("class_name"), architecture.get("config")
    if kind not in ("Sequential", "Functional", "Model"):
        raise OctavoError(
            f"the model is a {short(kind)}; octavo reads Sequential models, and Functional chains"
        )
    if not is_built_in(architecture, kind):
        raise OctavoError(f"the model is of a custom class, {kind}, which octavo does not read")
    layers = config.get("layers") if isinstance(config, dict) else config  # a bare list until Keras 2.2
    if not isinstance(layers, list):
        raise OctavoError("the architecture is damaged: it has no list of layers")
    if len(layers) > DEEPEST:
        raise OctavoError(f"the model has {len(layers)} layers; octavo reads at most {DEEPEST}")
    if kind != "Sequential":
        require_chain(layers, config if isinstance(config, dict) else {})
    return layers


def require_chain(layers: list[Any], config: Json) -> None:
    """Refuse a Functional model unless each layer reads the one before, and the last is the output."""
    before: str | None = None
    for entry in layers:
        kind, name, _ = describe(entry)
        source = origin(entry.get("inbound_nodes"))
        if (kind == "InputLayer") != (before is None) or source != before:
            raise OctavoError(
                f"the Functional model branches at layer {name}; octavo reads plain chains of layers"
            )
        before = str(entry.get("name", name))
    ends = config.get("output_layers")
    if ends not in ([before, 0, 0], [[before, 0, 0]]):
        raise OctavoError(f"the Functional model's output is not that of its last layer, {short(before)}")


def origin(nodes: Any) -> str | None:
    """The one layer whose first output a layer reads; "" for anything else, None for nothing."""
    if nodes == []:
        return None
    match nodes:
        case [[[str(name), 0, 0, kwargs]]]:  # Keras 2
            pass
        case [{"args": [{"config": {"keras_history": [str(name), 0, 0]}}], "kwargs": kwargs}]:  # Keras 3
            pass
        case _:
            return ""
    harmless = isinstance(kwargs, dict) and all(
        key in ("training", "mask") and not isinstance(value, dict | list) for key, value in kwargs.items()
    )
    return name if harmless else ""
