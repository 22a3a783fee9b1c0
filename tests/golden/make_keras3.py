"""Make the files in `keras3/`: small models of real Keras 3 with their outputs, and its activations.

Run with `pip install tensorflow-cpu keras` (Keras 3.15.1 made the stored files), from this folder:

    python make_keras3.py
"""

import keras
import numpy as np

L = keras.layers
TOKENS, STEPS, OUT = 11, 7, "keras3/"


def one_hot():
    return L.Input((None, TOKENS))


MODELS = {
    "rnn": [
        one_hot(),
        L.SimpleRNN(8, return_sequences=True),
        L.SimpleRNN(5),
        L.Dense(TOKENS, activation="softmax"),
    ],
    "gru": [
        one_hot(),
        L.GRU(8, return_sequences=True),
        L.Dropout(0.2),
        L.GRU(6, dropout=0.1, recurrent_dropout=0.1),
        L.Dense(TOKENS),
        L.Dropout(0.1),
        L.Activation("softmax"),
    ],
    "gru_before": [
        one_hot(),
        L.GRU(8, reset_after=False, activation="elu", recurrent_activation="hard_sigmoid"),
        L.Dense(TOKENS),
        L.Softmax(),
    ],
    "lstm": [
        one_hot(),
        L.LSTM(7, return_sequences=True, recurrent_activation="hard_sigmoid"),
        L.LSTM(5, use_bias=False, activation="hard_silu"),
        L.Dense(TOKENS),
        L.Activation("softmax"),
    ],
    "embedding": [
        L.Embedding(TOKENS, 4),
        L.GRU(8, stateful=False, unroll=False),
        L.Dense(6, activation=keras.activations.gelu),
        L.Dense(6, activation="leaky_relu", use_bias=False),
        L.Dense(5, activation="mish"),
        L.Dense(TOKENS, activation="softmax"),
    ],
}
NAMES = (
    *("linear", "tanh", "sigmoid", "relu", "elu", "selu", "celu", "softplus", "softsign", "swish", "silu"),
    *("gelu", "exponential", "hard_sigmoid", "mish", "leaky_relu", "relu6", "softmax", "log_softmax"),
    *("log_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink"),
    *("squareplus", "sparse_plus", "sparse_sigmoid"),
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
    for name, layers in MODELS.items():
        save(name, keras.Sequential(layers), rng, (".h5", ".keras") if name in ("gru", "embedding") else ())
    x = inputs = keras.Input((None, TOKENS))
    for layer in (L.LSTM(6, name="memory"), L.Dense(TOKENS, activation="softmax", name="logits")):
        x = layer(x)
    save("functional", keras.Model(inputs, x), rng, (".keras",))
    half = keras.Sequential([L.Input((4,)), L.Dense(3, dtype="bfloat16")])
    half.save(OUT + "bfloat16.keras")
    np.savez_compressed(OUT + "bfloat16.npz", kernel=np.asarray(half.layers[0].kernel, "f4"))
    grid = np.concatenate([np.linspace(-6, 6, 61), [-20, 20, 1e-3]]).astype("f4").reshape(8, 8)
    np.savez_compressed(
        OUT + "activations.npz",
        x=grid,
        **{name: np.asarray(keras.activations.get(name)(grid)) for name in NAMES},
    )


def save(name, model, rng, also):
    ids = rng.integers(0, TOKENS, (2, STEPS))
    embedded = name == "embedding"
    model(ids if embedded else np.eye(TOKENS, dtype="f4")[ids])
    unlike_zero(model)
    with open(f"{OUT}{name}.json", "w") as file:
        file.write(model.to_json())
    model.save_weights(f"{OUT}{name}.weights.h5")
    for extension in also:
        model.save(OUT + name + extension)
    np.savez_compressed(f"{OUT}{name}.npz", ids=ids, outputs=outputs(model, ids, embedded))


main()
