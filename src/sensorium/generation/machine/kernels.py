"""Machine code of a decoding step: one compiled function runs the whole model, on some threads.

The model is a program: rows of whole numbers, one for each operation, made by `program`. All threads run all
operations in step; within one they claim pieces of its work, and wait for one another after it. Float buffers
are one array `f`; what is packed or half as wide stands elsewhere and is given by address.
"""

# mypy: ignore-errors

import inspect

import numpy as np
from numba.extending import register_jitable
from numba.np.unsafe.ndarray import to_fixed_tuple

from sensorium.generation.machine import attending, pointwise, products
from sensorium.generation.machine.sync import await_count, claim

NORM, MULTIPLY, PLACE, ATTEND, ENCODE, ACTIVATE, REMEMBER = range(7)
BF16, INT8, INT4 = range(3)
PIECE_BYTES = 65536
"""Weights that a thread claims at once, if there is one token."""


def inlined(function):
    """A part of `step`, in its own words."""
    return register_jitable(inspect.unwrap(function))


@inlined
def _encode(kind, source, target, padded):
    if kind == BF16:
        pointwise.encode_bf16(source, target, padded)
    else:
        pointwise.encode_bytes(source, target, padded)


@inlined
def _multiply_block(kind, count, unit, steps, x, x_bytes, out, out_bytes, adds, bias):
    """A unit of rows times one, two, up to four or up to eight tokens; places behind the last are scratch."""
    if kind == BF16:
        if count == 1:
            products.bf16_1(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        elif count == 2:
            products.bf16_2(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        elif count <= 4:
            products.bf16_4(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        else:
            products.bf16_8(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif kind == INT8:
        if count == 1:
            products.int8_1(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        elif count == 2:
            products.int8_2(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        elif count <= 4:
            products.int8_4(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        else:
            products.int8_8(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif count == 1:
        products.int4_1(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif count == 2:
        products.int4_2(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif count <= 4:
        products.int4_4(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    else:
        products.int4_8(unit, steps, x, x_bytes, out, out_bytes, adds, bias)


@inlined
def _multiply(op, count, counter, threads):
    kind, weights, unit_bytes, units, unit_rows, steps, x, x_bytes, out, out_bytes, adds, bias = (
        to_fixed_tuple(op[1:13], 12)
    )
    share = max(1, units // (2 * threads))
    piece = max(1, min(share, PIECE_BYTES // (unit_bytes * count)))
    first = claim(counter, piece)
    while first < units:
        for unit in range(first, min(units, first + piece)):
            for token in range(0, count, 8):
                _multiply_block(
                    kind,
                    count - token,
                    weights + unit * unit_bytes,
                    steps,
                    x + token * x_bytes,
                    x_bytes,
                    out + token * out_bytes + unit * unit_rows * 4,
                    out_bytes,
                    adds,
                    bias + unit * unit_rows * 4,
                )
        first = claim(counter, piece)


@inlined
def _normalise_head(f, place, head_dim, gain, eps):
    total = np.float32(0)
    for k in range(head_dim):
        total += f[place + k] * f[place + k]
    root = np.float32(1) / np.sqrt(total / np.float32(head_dim) + eps)
    for k in range(head_dim):
        f[place + k] *= root * f[gain + k]


@inlined
def _rotate(f, place, turn, head_dim):
    half = head_dim // 2
    for k in range(half):
        cos, sin = f[turn + k], f[turn + half + k]
        first, second = f[place + k], f[place + half + k]
        f[place + k] = first * cos - second * sin
        f[place + half + k] = second * cos + first * sin


@inlined
def _place(op, f, eps, row, position, token):
    """Normalise and rotate a token's queries and keys, and write its keys and values into the cache."""
    qkv, stride, heads, groups, head_dim, turns, q_gain, k_gain, keys, values, capacity = to_fixed_tuple(
        op[1:12], 11
    )
    start = qkv + token * stride
    for head in range(heads + groups):
        place, gain = start + head * head_dim, q_gain if head < heads else k_gain
        if gain >= 0:
            _normalise_head(f, place, head_dim, gain, eps)
        if turns >= 0:
            _rotate(f, place, turns + position * head_dim, head_dim)
    for group in range(groups):
        base = (row * groups + group) * capacity * head_dim * 2
        key, value = start + (heads + group) * head_dim, start + (heads + groups + group) * head_dim
        block = base + (position // 16) * head_dim * 32 + (position % 16) * 2
        for k in range(head_dim):
            attending.put_half(keys + block + k * 32, f[key + k])
            attending.put_half(values + base + (position * head_dim + k) * 2, f[value + k])


@inlined
def _attend(f, base, query, keys, values, count, head_dim, out, scores):
    """One head of one token; `scores` is the thread's own."""
    scale = np.float32(1) / np.sqrt(np.float32(head_dim))
    attending.score(base + query * 4, keys, (count + 15) // 16, head_dim, scale, scores)
    attending.soften(scores, count)
    attending.mix(scores, values, count, head_dim, base + out * 4)


@inlined
def _attend_to_cache(op, f, base, rows, positions, counter, scores, threads):
    qkv, stride, heads, groups, head_dim, keys, values, capacity, out, out_stride = to_fixed_tuple(
        op[1:11], 10
    )
    work = rows.size * heads
    piece = max(1, work // (8 * threads)) if work > 16 else 1
    first = claim(counter, piece)
    while first < work:
        for unit in range(first, min(work, first + piece)):
            token, head = unit // heads, unit % heads
            place = (rows[token] * groups + head * groups // heads) * capacity * head_dim * 2
            query = qkv + token * stride + head * head_dim
            target = out + token * out_stride + head * head_dim
            count = positions[token] + 1
            _attend(f, base, query, keys + place, values + place, count, head_dim, target, scores)
        first = claim(counter, piece)


@inlined
def _attend_to_memory(op, f, base, rows, memories, eps, counter, scores):
    """Each row's memory: [layer, row] -> address of keys, of values, their number, and how many are held."""
    query, stride, heads, groups, head_dim, layer, out, out_stride, q_gain = to_fixed_tuple(op[1:10], 9)
    work = rows.size * heads
    unit = claim(counter, 1)
    while unit < work:
        token, head = unit // heads, unit % heads
        keys, values, count, held = to_fixed_tuple(memories[layer, rows[token]], 4)
        place = (head * groups // heads) * held * head_dim * 2
        start = query + token * stride + head * head_dim
        if q_gain >= 0:
            _normalise_head(f, start, head_dim, q_gain, eps)
        target = out + token * out_stride + head * head_dim
        _attend(f, base, start, keys + place, values + place, count, head_dim, target, scores)
        unit = claim(counter, 1)


@inlined
def _norm(op, eps, token, source):
    x, stride, gain, bias, out, out_stride, width, padded, is_centred, kind, encoded, encoded_bytes = (
        to_fixed_tuple(op[1:13], 12)
    )
    there = out + token * out_stride * 4
    pointwise.normalise(x + source * stride * 4, gain, bias, there, width, padded, eps, is_centred)
    _encode(kind, there, encoded + token * encoded_bytes, padded)


@inlined
def _activate(op, token):
    x, stride, is_gated, width, out, padded, kind, encoded, encoded_bytes = to_fixed_tuple(op[1:10], 9)
    here = x + token * stride * 4
    there = out + token * padded * 4
    if is_gated == 1:
        pointwise.silu_gate(here, here + width * 4, there, padded)
    else:
        pointwise.gelu(here, there, padded)
    _encode(kind, there, encoded + token * encoded_bytes, padded)


STEP = (
    "void(int64[:, ::1], float32[::1], int64[::1], int64[::1], int64[::1], int64[:, :, ::1], float32, "
    "float32, int64[::1], int64, int64)"
)


def step(program, f, rows, positions, scored, memories, eps, head_eps, counters, thread, threads):
    """Run a program for some tokens.

    Token i belongs to row rows[i] of the caches and stands at positions[i]; operations with a last flag see
    the tokens `scored` only. `counters` begin at 0: one for each operation, and one for waiting. The last
    floats of `f` are the threads' scores, as many for each as a row has room for.
    """
    base, counting = f.ctypes.data, counters.ctypes.data
    waiting = counting + 8 * program.shape[0]
    for number in range(program.shape[0]):
        op = program[number]
        name, counter = op[0], counting + 8 * number
        scores = base + 4 * (op[14] + thread * op[15])
        count = scored.size if op[13] == 1 else rows.size
        if name == MULTIPLY:
            if count > 0:
                _multiply(op, count, counter, threads)
        elif name == ATTEND:
            _attend_to_cache(op, f, base, rows, positions, counter, scores, threads)
        elif name == REMEMBER:
            _attend_to_memory(op, f, base, rows, memories, head_eps, counter, scores)
        else:
            for token in range(thread, count, threads):
                if name == NORM:
                    _norm(op, eps, token, scored[token] if op[13] == 1 else token)
                elif name == PLACE:
                    _place(op, f, head_eps, rows[token], positions[token], token)
                elif name == ENCODE:
                    source, stride, padded, kind, encoded, encoded_bytes = to_fixed_tuple(op[1:7], 6)
                    _encode(kind, source + token * stride * 4, encoded + token * encoded_bytes, padded)
                else:
                    _activate(op, token)
        if threads > 1:
            claim(waiting, 1)
            await_count(waiting, (number + 1) * threads)
