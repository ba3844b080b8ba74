"""The network of a HexPlane field and its gradient. `deform/network.py` has the readable twin.

Sixteen Gaussians are the lanes of a vector, and a *block* of them passes through all layers at once: its activations
[channels, 16] stay in the L1 cache. The backward pass takes `CHUNK` blocks together, whose activations fit the L2 cache, since
a weight's gradient is one sum over many Gaussians. It does so in pieces, each with its own gradient of the weights: their number
does not depend on the threads, so neither do the bits.

`weights` is flat, and so is its gradient: layer by layer a matrix and a bias. A trunk of layers is followed, for each head, by a
hidden layer and the outputs; all but the outputs have `width` channels and end in a ReLU.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .simd import WIDTH, load, select, splat, store
from .sums import add_products, add_scaled, load_all, store_all, store_sums, zeros

# channels that are computed at once, in registers
GROUP = (0, 0, 0, 0, 0, 0, 0, 0)
# divides the numbers of channels
MULTIPLE = len(GROUP)
# of outputs, of which heads have few
FEW = (0, 0, 0, 0)
OUTPUTS = len(FEW)
# blocks of the backward pass that are worked on together
CHUNK = 16


def spread(channels: int) -> int:
    """Numbers from one block's activations to the next one's: an odd multiple of 512 bytes, for other cache sets."""
    return (channels // MULTIPLE | 1) * MULTIPLE * WIDTH


@part
def take_in(rows, block, lanes):
    """Channels [channels, 16] of a block of rows [N, channels]; zeros beyond the last row."""
    count, channels = rows.shape
    here = min(WIDTH, count - block * WIDTH)
    for n in range(here):
        for c in range(channels):
            lanes[c * WIDTH + n] = rows[block * WIDTH + n, c]
    for n in range(here, WIDTH):
        for c in range(channels):
            lanes[c * WIDTH + n] = 0


@part
def dense(x, at, inputs, weights, first, bias, y, to, outputs, group):
    """y = weights [inputs, outputs] · x + bias of one block; without a bias (-1), added to y."""
    one = splat(x, 1.0)
    for j in range(0, outputs, len(group)):
        if bias < 0:
            sums = load_all(y, to + j * WIDTH, group)
        else:
            sums = add_scaled(zeros(x, group), one, weights, bias + j)
        for i in range(inputs):
            sums = add_scaled(sums, load(x, at + i * WIDTH), weights, first + i * outputs + j)
        store_all(y, to + j * WIDTH, sums)


@part
def rectify(y, at, channels):
    """ReLU in place. NaN stays, so that it is noticed."""
    for c in range(at, at + channels * WIDTH, WIDTH):
        lanes = load(y, c)
        store(y, c, select(lanes <= 0.0, 0.0, lanes))


@part
def rectify_backward(gradient, to, y, at, channels):
    """0 where the ReLU's result `y` is 0."""
    for c in range(0, channels * WIDTH, WIDTH):
        store(gradient, to + c, select(load(y, at + c) <= 0.0, 0.0, load(gradient, to + c)))


@part
def padded(outputs):
    """The number of a head's outputs as `evaluate` computes them."""
    return (outputs + len(FEW) - 1) // len(FEW) * len(FEW)


@part
def activate(x, at, inputs, weights, trunk, width, outputs, values, to, layer):
    """The activations of one block from its features: layer by layer at `to`, `to + layer`, …"""
    where = 0
    for k in range(trunk):
        channels = inputs if k == 0 else width
        source, start = (x, at) if k == 0 else (values, to + (k - 1) * layer)
        dense(
            source, start, channels, weights, where, where + channels * width, values, to + k * layer, width, GROUP
        )  # fmt: skip
        rectify(values, to + k * layer, width)
        where += (channels + 1) * width
    for head in range(len(outputs)):
        here = to + (trunk + head) * layer
        last = to + (trunk - 1) * layer
        dense(values, last, width, weights, where, where + width * width, values, here, width, GROUP)
        rectify(values, here, width)
        where += (width + 1) * (width + padded(outputs[head]))


@kernel
def evaluate(first, last, features, weights, trunk, width, outputs, step, keeps, hidden, deltas):
    """Blocks `first` to `last`: features [N, C] → deltas [N, Σ outputs]; weights of matrices [inputs, outputs].

    Heads' outputs are padded to multiples of OUTPUTS in `weights`. hidden [trunk + heads, blocks, step] gets the activations
    where `keeps`; otherwise it is empty. `step` is `spread(width)`.
    """
    inputs, heads = features.shape[1], len(outputs)
    x = np.empty(inputs * WIDTH, features.dtype)
    y = np.empty(padded(max(outputs)) * WIDTH, features.dtype)
    blocks = (len(features) + WIDTH - 1) // WIDTH if keeps else 1
    layer = blocks * step
    values = hidden if keeps else np.empty((trunk + heads) * layer, features.dtype)
    trunk_size = (inputs + 1) * width + (trunk - 1) * (width + 1) * width
    for block in range(first, last):
        take_in(features, block, x)
        at = block * step if keeps else 0
        activate(x, 0, inputs, weights, trunk, width, outputs, values, at, layer)
        where, column = trunk_size, 0
        for head in range(heads):
            count = outputs[head]
            size = padded(count)
            where += (width + 1) * width
            to = at + (trunk + head) * layer
            dense(values, to, width, weights, where, where + width * size, y, 0, size, FEW)
            where += (width + 1) * size
            for n in range(min(WIDTH, len(features) - block * WIDTH)):
                for c in range(count):
                    deltas[block * WIDTH + n, column + c] = y[c * WIDTH + n]
            column += count


@part
def add_outer(g, g_at, g_step, outputs, x, x_at, x_step, inputs, blocks, row, gradient, to):
    """gradient[o, i] += Σ g[o]·x[i], and the bias behind it += Σ g[o], over the Gaussians of `blocks` blocks."""
    for i in range(0, inputs, len(GROUP)):
        for o in range(0, outputs, 2):
            # two outputs at once, which share what is loaded of x
            other = min(o + 1, outputs - 1)
            sums, more = zeros(x, GROUP), zeros(x, GROUP)
            for b in range(blocks):
                at = x_at + b * x_step + i * WIDTH
                sums = add_products(sums, load(g, g_at + b * g_step + o * WIDTH), x, at)
                more = add_products(more, load(g, g_at + b * g_step + other * WIDTH), x, at)
            store_sums(row, 0, sums)
            for k in range(len(GROUP)):
                gradient[to + o * inputs + i + k] += row[k]
            if other > o:
                store_sums(row, 0, more)
                for k in range(len(GROUP)):
                    gradient[to + other * inputs + i + k] += row[k]
    for o in range(outputs):
        total = splat(x, 0.0)
        for b in range(blocks):
            total = total + load(g, g_at + b * g_step + o * WIDTH)
        store_sums(row, 0, (total,))
        gradient[to + outputs * inputs + o] += row[0]


@kernel
def evaluate_backward(
    first, last, pieces, features, forward, weights, trunk, width, outputs, used, steps, kept, upstream, learns,
    to_weights, to_features,
):  # fmt: skip
    """Pieces `first` to `last`, from upstream [N, Σ outputs]: to_features [N, C], and where `learns`, to_weights [pieces, P].

    weights of matrices [outputs, inputs], the layout that PyTorch's layers have, without padding; `forward`: those of
    `evaluate`. used [heads]: whether anything depends on a head. steps: `spread` of width and C. kept: what `evaluate` kept;
    where that is empty, activations are computed again, with the same bits.
    """
    count, inputs = features.shape
    heads = len(outputs)
    blocks = (count + WIDTH - 1) // WIDTH
    step, x_step = steps
    keeps = len(kept) > 0
    layer = (blocks if keeps else CHUNK) * step
    hidden = kept if keeps else np.empty((trunk + heads) * layer, features.dtype)
    x = np.empty(CHUNK * x_step, features.dtype)
    g_out = np.empty(CHUNK * max(outputs) * WIDTH, features.dtype)
    # of a head's hidden layer, then of a layer of the trunk; and of the trunk's last layer
    g_far, g_near = np.empty(CHUNK * step, features.dtype), np.empty(CHUNK * step, features.dtype)
    g_x = np.empty(inputs * WIDTH, features.dtype)
    row = np.empty(WIDTH, features.dtype)
    trunk_size = (inputs + 1) * width + (trunk - 1) * (width + 1) * width
    for piece in range(first, last):
        start, stop = blocks * piece // pieces, blocks * (piece + 1) // pieces
        gradient = to_weights[piece]
        turns = (stop - start + CHUNK - 1) // CHUNK
        for turn in range(turns):
            begin = start + (stop - start) * turn // turns
            some = start + (stop - start) * (turn + 1) // turns - begin
            base = begin * step if keeps else 0
            if learns or not keeps:
                for b in range(some):
                    take_in(features, begin + b, x[b * x_step :])
            if not keeps:
                for b in range(some):
                    activate(x, b * x_step, inputs, forward, trunk, width, outputs, hidden, b * step, layer)
            g_near[:] = 0
            where, column = trunk_size, 0
            for head in range(heads):
                k = outputs[head]
                values = base + (trunk + head) * layer
                after = where + (width + 1) * width
                if not used[head]:
                    where = after + (width + 1) * k
                    column += k
                    continue
                for b in range(some):
                    take_in(upstream[:, column : column + k], begin + b, g_out[b * k * WIDTH :])
                    for c in range(b * step, b * step + width * WIDTH, WIDTH):
                        store(g_far, c, splat(g_far, 0.0))
                    dense(g_out, b * k * WIDTH, k, weights, after, -1, g_far, b * step, width, GROUP)
                    rectify_backward(g_far, b * step, hidden, values + b * step, width)
                    dense(g_far, b * step, width, weights, where, -1, g_near, b * step, width, GROUP)
                if learns:
                    add_outer(g_out, 0, k * WIDTH, k, hidden, values, step, width, some, row, gradient, after)
                    add_outer(
                        g_far, 0, step, width, hidden, base + (trunk - 1) * layer, step, width, some,
                        row, gradient, where,
                    )  # fmt: skip
                where = after + (width + 1) * k
                column += k
            where = trunk_size
            for k in range(trunk - 1, -1, -1):
                for b in range(some):
                    rectify_backward(g_near, b * step, hidden, base + b * step + k * layer, width)
                if k > 0:
                    where -= (width + 1) * width
                    if learns:
                        add_outer(
                            g_near, 0, step, width, hidden, base + (k - 1) * layer, step, width, some,
                            row, gradient, where,
                        )  # fmt: skip
                    g_far[:] = 0
                    for b in range(some):
                        dense(g_near, b * step, width, weights, where, -1, g_far, b * step, width, GROUP)
                    g_near, g_far = g_far, g_near
            for b in range(some):
                for c in range(0, inputs * WIDTH, WIDTH):
                    store(g_x, c, splat(g_x, 0.0))
                dense(g_near, b * step, width, weights, 0, -1, g_x, 0, inputs, GROUP)
                for n in range(min(WIDTH, count - (begin + b) * WIDTH)):
                    for c in range(inputs):
                        to_features[(begin + b) * WIDTH + n, c] = g_x[c * WIDTH + n]
            if learns:
                add_outer(g_near, 0, step, width, x, 0, x_step, inputs, some, row, gradient, 0)
