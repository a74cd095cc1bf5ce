"""Golden values of the notebook's CNN in Keras: forward, loss, gradients, batch norm, Adam steps.

    pip install -r scripts/golden/requirements.txt
    python scripts/golden/keras_cnn.py tests/golden           # makes keras_cnn.json

Made with keras 3.15.1 on tensorflow 2.21.0 (CPU, f32), torch 2.11.0, numpy 2.4.6.

The network, on 48x48x1: three blocks of Conv2D(3x3, valid, relu), MaxPooling2D(2),
BatchNormalization() (momentum 0.99, epsilon 1e-3) with 32, 64 and 128 filters, then
Flatten, Dense(256, relu), Dropout, Dense(7, softmax). 619,463 trainable parameters.

Without dropout, the layer is Dropout(0.0); nothing else changes.

The weights, in PyTorch's names and layouts, in this order; k is the index in the list,
i the flat row-major index of a value in its tensor, signed(i, k) as in formulas.py:

     k  name                  shape                k  name                  shape
     0  block1.conv.weight    [32, 1, 3, 3]       12  block3.conv.weight    [128, 64, 3, 3]
     1  block1.conv.bias      [32]                13  block3.conv.bias      [128]
     2  block1.norm.weight    [32]                14  block3.norm.weight    [128]
     3  block1.norm.bias      [32]                15  block3.norm.bias      [128]
     4  block1.norm.running_mean [32]             16  block3.norm.running_mean [128]
     5  block1.norm.running_var  [32]             17  block3.norm.running_var  [128]
     6..11  block2.*, with [64, 32, 3, 3], [64]   18  dense1.weight         [256, 2048]
                                                  19  dense1.bias           [256]
                                                  20  output.weight         [7, 256]
                                                  21  output.bias           [7]

    conv.weight, dense1.weight, output.weight   limit * signed(i, k)
    conv.bias, dense1.bias, output.bias         0.05 * signed(i, k)
    norm.weight                                 1.0 + 0.1 * signed(i, k)
    norm.bias                                   0.1 * signed(i, k)
    norm.running_mean                           0.3 + 0.1 * signed(i, k)
    norm.running_var                            0.5 + 0.2 * signed(i, k)

computed in f64 and cast to f32 at the end, with limit = sqrt(6.0 / (fan_in + fan_out)),
Keras' glorot_uniform limit: fan_in = 9 * input channels and fan_out = 9 * output
channels for a convolution, inputs and outputs for a dense layer.

PyTorch to Keras: convolutions OIHW -> HWIO; dense [out, in] -> [in, out], where the
2048 inputs of dense1 go from (channel, row, column) to (row, column, channel) order.

The batch: images 0..7 of formulas.py, each value (byte as f32) / 255 (f32 division),
labels (3 * n) % 7.

What Keras does (the first two are asserted below, the third is from its source):
  * the moving variance uses the biased batch variance (divided by the count); PyTorch's
    BatchNorm2d uses the unbiased one;
  * Adam divides by sqrt(v) + epsilon with v NOT bias-corrected; the correction is in
    the step: lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon). PyTorch's
    Adam matches only with eps = epsilon / sqrt(1 - beta2^t) at step t;
  * in training the loss is computed from the logits, which Keras finds behind the softmax.

A tensor is summarized by its sum, sum of squares, first 8 flat values and `spread`: the
flat values at j * (count - 1) / 7 (whole division), j = 0..7; in PyTorch layout.

Adam runs at two learning rates: 1e-3, the notebook's, where the loss on 8 images falls so
fast that rounding errors grow tenfold per step; and 1e-4, where they do not, so that the
comparison can tell Keras' epsilon from PyTorch's. `losses` are the training-mode losses
before steps 1, 2, 3 and after step 3. `torch_gap` is the difference of PyTorch in f64 with
Keras' update rule, `torch_rule_gap` that of PyTorch's own rule.

If a gradient is zero up to rounding (such as a convolution's bias in a channel that ReLU
never clips, which batch norm cancels), rounding decides the direction of a step of up to the
learning rate. Single values may then differ by several steps; means and losses do not.
"""
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
import keras
import numpy as np
import tensorflow as tf
import torch
from torch import nn

from formulas import digits, image, label, probe, signed, write

CHANNELS = (1, 32, 64, 128)
EPSILON, MOMENTUM = 1e-3, 0.99
RATES = (1e-3, 1e-4)
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-7


def glorot(fan_in, fan_out):
    return math.sqrt(6.0 / float(fan_in + fan_out))


def tensors():
    """name -> f32 array in PyTorch layout, in the order of the docstring."""
    specs = []
    for block in (1, 2, 3):
        i, o = CHANNELS[block - 1], CHANNELS[block]
        specs += [(f"block{block}.conv.weight", (o, i, 3, 3), 0.0, glorot(9 * i, 9 * o)),
                 (f"block{block}.conv.bias", (o,), 0.0, 0.05),
                 (f"block{block}.norm.weight", (o,), 1.0, 0.1),
                 (f"block{block}.norm.bias", (o,), 0.0, 0.1),
                 (f"block{block}.norm.running_mean", (o,), 0.3, 0.1),
                 (f"block{block}.norm.running_var", (o,), 0.5, 0.2)]
    specs += [("dense1.weight", (256, 2048), 0.0, glorot(2048, 256)), ("dense1.bias", (256,), 0.0, 0.05),
             ("output.weight", (7, 256), 0.0, glorot(256, 7)), ("output.bias", (7,), 0.0, 0.05)]
    return {name: (base + scale * signed(math.prod(shape), k)).astype(np.float32).reshape(shape)
            for k, (name, shape, base, scale) in enumerate(specs)}


def to_keras(name, value):
    if name.endswith("conv.weight"):
        return value.transpose(2, 3, 1, 0)
    if name == "dense1.weight":
        return value.reshape(256, 128, 4, 4).transpose(2, 3, 1, 0).reshape(2048, 256)
    return value.T if name == "output.weight" else value


def to_torch(name, value):
    value = np.asarray(value)
    if name.endswith("conv.weight"):
        return value.transpose(3, 2, 0, 1)
    if name == "dense1.weight":
        return value.reshape(4, 4, 128, 256).transpose(3, 2, 0, 1).reshape(256, 2048)
    return value.T if name == "output.weight" else value


def keras_net(dropout=0.0, values=None):
    """The network, and its variables by PyTorch name."""
    layers = [keras.layers.Input((48, 48, 1))]
    for filters in CHANNELS[1:]:
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D(2),
                   keras.layers.BatchNormalization()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(256, activation="relu"), keras.layers.Dropout(dropout),
               keras.layers.Dense(7, activation="softmax")]
    net = keras.Sequential(layers)
    named = {}
    for block in (1, 2, 3):
        conv, _, norm = net.layers[3 * block - 3:3 * block]
        assert norm.momentum == MOMENTUM and norm.epsilon == EPSILON
        named |= {f"block{block}.conv.weight": conv.kernel, f"block{block}.conv.bias": conv.bias,
                  f"block{block}.norm.weight": norm.gamma, f"block{block}.norm.bias": norm.beta,
                  f"block{block}.norm.running_mean": norm.moving_mean,
                  f"block{block}.norm.running_var": norm.moving_variance}
    dense, output = net.layers[10], net.layers[12]
    named |= {"dense1.weight": dense.kernel, "dense1.bias": dense.bias,
              "output.weight": output.kernel, "output.bias": output.bias}
    for name, value in (values or {}).items():
        named[name].assign(to_keras(name, value))
    return net, named


class Torch(nn.Module):
    """The same network in PyTorch, whose batch norm momentum is 1 - Keras' momentum."""

    def __init__(self, values, dtype):
        super().__init__()
        for block in (1, 2, 3):
            part = nn.Module()
            part.conv = nn.Conv2d(CHANNELS[block - 1], CHANNELS[block], 3)
            part.norm = nn.BatchNorm2d(CHANNELS[block], eps=EPSILON, momentum=1 - MOMENTUM)
            setattr(self, f"block{block}", part)
        self.dense1, self.output = nn.Linear(2048, 256), nn.Linear(256, 7)
        self.load_state_dict({n: torch.tensor(v) for n, v in values.items()}, strict=False)
        self.to(dtype)

    def forward(self, x):
        for part in (self.block1, self.block2, self.block3):
            x = part.norm(torch.max_pool2d(torch.relu(part.conv(x)), 2))
        return self.output(torch.relu(self.dense1(x.flatten(1))))


def keras_adam_step(parameters, state, step, rate):
    """Keras' update rule on PyTorch tensors."""
    alpha = rate * math.sqrt(1 - BETA2 ** step) / (1 - BETA1 ** step)
    with torch.no_grad():
        for p, (m, v) in zip(parameters, state):
            m += (p.grad - m) * (1 - BETA1)
            v += (p.grad * p.grad - v) * (1 - BETA2)
            p -= m * alpha / (v.sqrt() + ADAM_EPSILON)


def torch_steps(values, x, labels, dtype, rule, rate):
    """Losses before steps 1, 2, 3 and after step 3, and the network after step 3."""
    net = Torch(values, dtype).train()
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(BETA1, BETA2), eps=ADAM_EPSILON)
    state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    losses = []
    for step in (1, 2, 3, 4):
        net.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        losses.append(float(loss.detach()))
        if step < 4:
            loss.backward()
            keras_adam_step(parameters, state, step, rate) if rule == "keras" else optimizer.step()
    return losses, net


def gap(a, b):
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


def summary(name, value):
    flat = np.ascontiguousarray(value).reshape(-1).astype(np.float64)
    return {"name": name, "count": flat.size, "sum": digits([flat.sum()])[0],
            "sum_of_squares": digits([(flat * flat).sum()])[0], "first": digits(flat[:8]),
            "spread": digits(flat[[j * (flat.size - 1) // 7 for j in range(8)]])}


def main(folder):
    values = tensors()
    trainable = [n for n in values if "running" not in n]
    images = np.stack([image(n) for n in range(8)])
    x = (images.astype(np.float32) / np.float32(255))[..., None]
    labels = np.array([label(n) for n in range(8)])
    y = np.eye(7, dtype=np.float32)[labels]
    checks = {}

    net, named = keras_net(0.0, values)
    assert sum(int(np.prod(v.shape)) for v in net.trainable_variables) == 619463
    assert set(map(id, net.trainable_variables)) == {id(named[n]) for n in trainable}
    for n, v in values.items():
        assert np.array_equal(to_torch(n, named[n]), v)
    features = keras.Model(net.inputs[0], net.layers[11].output)

    def logits_of(training):
        return (features(x, training=training) @ tf.convert_to_tensor(named["output.weight"])
                + tf.convert_to_tensor(named["output.bias"]))

    def plain_loss(probabilities):
        """Categorical cross-entropy from probabilities: a numpy array has no logits behind it."""
        return float(np.mean(keras.losses.categorical_crossentropy(y, np.asarray(probabilities))))

    # (a) inference
    probabilities = np.asarray(net(x, training=False))
    logits = np.asarray(logits_of(False))
    assert gap(tf.nn.softmax(logits), probabilities) < 1e-6
    with_half, _ = keras_net(0.5, values)
    assert gap(with_half(x, training=False), probabilities) == 0.0
    inference = {
        "logits": logits, "probabilities": probabilities,
        "loss_from_probabilities": plain_loss(probabilities),
        "loss_from_logits": float(np.mean(keras.losses.categorical_crossentropy(y, logits, from_logits=True))),
    }

    # (b), (c) one training-mode forward, gradients, moving statistics
    train_logits = np.asarray(logits_of(True))
    for n, v in values.items():
        named[n].assign(to_keras(n, v))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, net(x, training=True)))
    gradients = dict(zip(trainable, tape.gradient(loss, [named[n].value for n in trainable])))
    gradients = {n: to_torch(n, g) for n, g in gradients.items()}
    train_loss = float(loss)
    statistics = {n: np.asarray(named[n]) for n in values if "running" in n}

    # (e) three Adam steps, by a custom loop and by train_on_batch
    def fresh(rate):
        net, named = keras_net(0.0, values)
        adam = keras.optimizers.Adam(learning_rate=rate)
        assert (adam.beta_1, adam.beta_2, adam.epsilon) == (BETA1, BETA2, ADAM_EPSILON)
        net.compile(optimizer=adam, loss="categorical_crossentropy")
        return net, named

    tl = torch.tensor(labels)
    adam_records, adam_after = [], []
    for rate in RATES:
        stepped, stepped_named = fresh(rate)
        variables = [stepped_named[n] for n in trainable]
        losses = []
        for step in range(4):
            if step == 3:
                after = {n: np.array(to_torch(n, v)) for n, v in stepped_named.items()}
                after_loss = plain_loss(stepped(x, training=False))
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, stepped(x, training=True)))
            losses.append(float(loss))
            if step < 3:
                stepped.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        batched, _ = fresh(rate)
        batched_losses = []
        for _ in range(3):
            batched.reset_metrics()
            batched_losses.append(float(np.reshape(batched.train_on_batch(x, y), -1)[0]))
        checks[f"adam {rate:g}, train_on_batch, losses"] = gap(batched_losses, losses[:3])

        record = {"learning_rate": rate, "beta1": BETA1, "beta2": BETA2, "epsilon": ADAM_EPSILON,
                  "losses": digits(losses), "inference_loss_after_3_steps": digits([after_loss])[0]}
        for dtype, word in ((torch.float32, "f32"), (torch.float64, "f64")):
            tx = torch.tensor(x[:, None, :, :, 0], dtype=dtype)
            for rule in ("keras", "torch"):
                other_losses, moved = torch_steps(values, tx, tl, dtype, rule, rate)
                moved = {n: p.detach().double().numpy() for n, p in moved.named_parameters()}
                differences = np.concatenate([np.abs(moved[n] - after[n]).reshape(-1) for n in trainable])
                line = f"adam {rate:g}, torch {word}, {rule}'s rule"
                each = np.abs(np.array(other_losses) - losses)
                checks[f"{line}, losses"] = float(each.max())
                checks[f"{line}, loss after one step"] = float(each[1])
                checks[f"{line}, parameters after 3 steps, mean"] = float(differences.mean())
                checks[f"{line}, parameters after 3 steps, 999 in 1000"] = float(np.quantile(differences, 0.999))
                checks[f"{line}, parameters after 3 steps, max"] = float(differences.max())
                if word == "f64":
                    record["torch_gap" if rule == "keras" else "torch_rule_gap"] = digits(each, 3)
                    if rule == "keras":
                        for n in trainable:
                            ours, theirs = summary(n, after[n]), summary(n, moved[n])
                            adam_after.append({"learning_rate": rate} | ours | {
                                f"torch_gap_{field}": float(f"{gap(theirs[field], ours[field]):.3g}")
                                for field in ("sum", "first", "spread")})
        adam_records.append(record)

    # the same in PyTorch
    for dtype, word in ((torch.float32, "f32"), (torch.float64, "f64")):
        tx = torch.tensor(x[:, None, :, :, 0], dtype=dtype)
        other = Torch(values, dtype)
        with torch.no_grad():
            out = other.eval()(tx)
        checks[f"torch {word}, inference logits"] = gap(out, logits)
        checks[f"torch {word}, inference probabilities"] = gap(out.softmax(1), probabilities)
        checks[f"torch {word}, inference loss"] = gap(
            nn.functional.cross_entropy(out, tl), inference["loss_from_logits"])
        out = other.train()(tx)
        loss = nn.functional.cross_entropy(out, tl)
        loss.backward()
        checks[f"torch {word}, training logits"] = gap(out.detach(), train_logits)
        checks[f"torch {word}, training loss"] = gap(loss.detach(), train_loss)
        own = dict(other.named_parameters())
        checks[f"torch {word}, gradients, relative to the max of the tensor"] = max(
            gap(own[n].grad, g) / np.abs(g).max() for n, g in gradients.items())
        buffers = dict(other.named_buffers())
        checks[f"torch {word}, moving mean"] = max(gap(buffers[n], v) for n, v in statistics.items() if "mean" in n)
        biased = unbiased = 0.0
        for block, side in ((1, 23), (2, 10), (3, 4)):
            n, count = f"block{block}.norm.running_var", 8 * side * side
            old = values[n].astype(np.float64)
            batch = (buffers[n].double().numpy() - MOMENTUM * old) / (1 - MOMENTUM) * (count - 1) / count
            biased = max(biased, gap(MOMENTUM * old + (1 - MOMENTUM) * batch, statistics[n]))
            unbiased = max(unbiased, gap(buffers[n], statistics[n]))
        checks[f"torch {word}, moving variance made biased"] = biased
        checks[f"torch {word}, moving variance as PyTorch has it (unbiased)"] = unbiased
    for line, value in checks.items():
        print(f"{line}: {value:.3g}")
    for word in ("inference logits", "inference probabilities", "inference loss", "training logits", "training loss",
                 "gradients, relative to the max of the tensor", "moving mean", "moving variance made biased"):
        assert checks[f"torch f32, {word}"] < 2e-5 and checks[f"torch f64, {word}"] < 2e-5, word
    for word in ("f32", "f64"):
        assert checks[f"adam 0.0001, torch {word}, keras's rule, losses"] < 3e-5
        assert checks[f"adam 0.0001, torch {word}, torch's rule, losses"] > 6e-5
        assert checks[f"adam 0.001, torch {word}, keras's rule, loss after one step"] < 5e-5
        assert checks[f"adam 0.001, torch {word}, keras's rule, losses"] < 2e-3

    # (d) the initializers
    fresh_net = keras_net(0.5)[0]
    initializers = []
    for place, name, fan_in, fan_out in ((0, "block1.conv", 9, 288), (3, "block2.conv", 288, 576),
                                         (6, "block3.conv", 576, 1152), (10, "dense1", 2048, 256),
                                         (12, "output", 256, 7)):
        layer = fresh_net.layers[place]
        assert layer.kernel_initializer.__class__.__name__ == "GlorotUniform"
        limit, sampled = glorot(fan_in, fan_out), np.abs(np.asarray(layer.kernel))
        assert 0.95 * limit < sampled.max() <= limit * (1 + 1e-6) and not np.asarray(layer.bias).any()
        initializers.append({"name": name, "weight": "glorot_uniform", "fan_in": fan_in, "fan_out": fan_out,
                             "limit": digits([limit])[0], "bias": "zeros"})
    for place in (2, 5, 8):
        layer = fresh_net.layers[place]
        assert (np.asarray(layer.gamma) == 1).all() and not np.asarray(layer.beta).any()
        assert (np.asarray(layer.moving_variance) == 1).all() and not np.asarray(layer.moving_mean).any()
        initializers.append({"name": f"block{place // 3 + 1}.norm", "weight": "ones", "bias": "zeros",
                             "running_mean": "zeros", "running_var": "ones"})

    def rows(array):
        return [digits(row) for row in array]

    write(os.path.join(folder, "keras_cnn.json"), {
        "made_by": f"scripts/golden/keras_cnn.py, keras {keras.__version__}, tensorflow {tf.__version__}, "
                   f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}",
        "probe": probe(),
        "labels": labels.tolist(),
        "weights": [summary(n, v) for n, v in values.items()],
        "inference_logits": rows(inference["logits"]),
        "inference_probabilities": rows(inference["probabilities"]),
        "inference_loss_from_probabilities": digits([inference["loss_from_probabilities"]])[0],
        "inference_loss_from_logits": digits([inference["loss_from_logits"]])[0],
        "training_logits": rows(train_logits),
        "training_loss": digits([train_loss])[0],
        "statistics_after_one_forward": [summary(n, v) for n, v in statistics.items()],
        "gradients": [summary(n, g) for n, g in gradients.items()],
        "initializers": initializers,
        "adam": adam_records,
        "adam_after_3_steps": adam_after,
        "checks": {line: float(f"{value:.3g}") for line, value in checks.items()},
    })


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
