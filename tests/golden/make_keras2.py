"""Make the files in `keras2/`: small models of real Keras 2 with their outputs, and its activations.

Run with `pip install tensorflow-cpu tf_keras` (tf_keras 2.21.0 made the stored files), from this folder:

    python make_keras2.py

The files `old_*` were made by the same script under `tensorflow-cpu==2.13.1`, whose Keras was still called
`keras` and laid out the weights of a `.keras` file in another way:

    python make_keras2.py old
"""

import sys

import numpy as np
import tensorflow as tf

if sys.argv[1:] == ["old"]:
    import keras
else:
    import tf_keras as keras

L = keras.layers
TOKENS, STEPS, OUT = 11, 7, "keras2/"
ONE_HOT = {"input_shape": (None, TOKENS)}

MODELS = {
    "rnn": [
        L.SimpleRNN(8, return_sequences=True, **ONE_HOT),
        L.SimpleRNN(5),
        L.Dense(TOKENS, activation="softmax"),
    ],
    "gru": [
        L.GRU(8, return_sequences=True, **ONE_HOT),
        L.Dropout(0.2),
        L.GRU(6, dropout=0.1, recurrent_dropout=0.1),
        L.Dense(TOKENS),
        L.Dropout(0.1),
        L.Activation("softmax"),
    ],
    "gru_before": [
        L.GRU(8, reset_after=False, activation="elu", recurrent_activation="hard_sigmoid", **ONE_HOT),
        L.Dense(TOKENS, activation="softmax"),
    ],
    "lstm": [
        L.LSTM(7, return_sequences=True, recurrent_activation="hard_sigmoid", **ONE_HOT),
        L.LSTM(5, use_bias=False, activation="softsign"),
        L.Dense(TOKENS),
        L.Activation("softmax"),
    ],
    "embedding": [
        L.Embedding(TOKENS, 4),
        L.GRU(8, stateful=False, unroll=False),
        L.Dense(6, activation="gelu"),
        L.Dense(6, activation=keras.activations.get("leaky_relu"), use_bias=False),
        L.Dense(TOKENS, activation="softmax"),
    ],
}
NAMES = (
    *("linear", "tanh", "sigmoid", "relu", "elu", "selu", "softplus", "softsign", "swish", "silu", "gelu"),
    *("exponential", "hard_sigmoid", "mish", "leaky_relu", "relu6", "softmax", "log_softmax"),
)


def unlike_zero(model):
    """Give the biases values too, so that no mistake about them goes unseen."""
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.normal(0, 0.3, w.shape) for w in model.get_weights()])


def outputs(model, ids, embedded):
    """What the model says after each prefix."""
    x = ids if embedded else np.eye(TOKENS, dtype="f4")[ids]
    return np.stack([model.predict(x[:, : t + 1], verbose=0) for t in range(STEPS)], axis=1)


def main():
    keras.utils.set_random_seed(2)
    rng = np.random.default_rng(3)
    if sys.argv[1:] == ["old"]:
        save("old_gru", keras.Sequential(MODELS["gru"]), rng, (".h5", ".keras"))
        return
    for name, layers in MODELS.items():
        save(name, keras.Sequential(layers), rng, (".h5", ".keras") if name in ("gru", "embedding") else ())
    x = inputs = keras.Input((None, TOKENS))
    for layer in (L.LSTM(6, name="memory"), L.Dense(TOKENS, activation="softmax", name="logits")):
        x = layer(x)
    save("functional", keras.Model(inputs, x), rng, (".keras",))
    grid = np.concatenate([np.linspace(-6, 6, 61), [-20, 20, 1e-3]]).astype("f4").reshape(8, 8)
    np.savez_compressed(
        OUT + "activations.npz",
        x=grid,
        **{name: keras.activations.get(name)(tf.constant(grid)).numpy() for name in NAMES},
    )


def save(name, model, rng, also):
    unlike_zero(model)
    with open(f"{OUT}{name}.json", "w") as file:
        file.write(model.to_json())
    model.save_weights(f"{OUT}{name}_weights.h5")
    for extension in also:
        model.save(OUT + name + extension)
    ids = rng.integers(0, TOKENS, (2, STEPS))
    np.savez_compressed(f"{OUT}{name}.npz", ids=ids, outputs=outputs(model, ids, name == "embedding"))


main()
