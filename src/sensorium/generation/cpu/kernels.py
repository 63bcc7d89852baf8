"""Machine code of a decoding step: one compiled function runs the whole model, on some threads.

The model is a program: rows of whole numbers, one for each operation, made by `program`. Threads claim pieces
of an operation's work until there are none left, and go on when all of it is done, by whomever: a thread that
the system keeps waiting holds up the others by one piece at most. Float buffers are one array `f`; what is
packed or half as wide stands elsewhere and is given by address.
"""

# mypy: ignore-errors

import inspect

import numpy as np
from numba.extending import register_jitable
from numba.np.unsafe.ndarray import to_fixed_tuple

from sensorium.generation.cpu import attention as attending
from sensorium.generation.cpu import matmul as products
from sensorium.generation.cpu import pointwise
from sensorium.generation.cpu.barrier import await_count, claim

NORM, MULTIPLY, PLACE, ATTEND, ENCODE, ACTIVATE, REMEMBER = range(7)
BF16, INT8, INT4 = range(3)
LINE = 128
"""Bytes between counters, so that no two threads write to one line of cache, nor to its neighbour."""
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
    """A unit of rows times one, up to four or up to eight tokens; places behind the last are scratch."""
    if kind == BF16:
        if count == 1:
            products.bf16_1(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        elif count <= 4:
            products.bf16_4(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        else:
            products.bf16_8(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif kind == INT8:
        if count == 1:
            products.int8_1(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        elif count <= 4:
            products.int8_4(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        else:
            products.int8_8(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif count == 1:
        products.int4_1(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    elif count <= 4:
        products.int4_4(unit, steps, x, x_bytes, out, out_bytes, adds, bias)
    else:
        products.int4_8(unit, steps, x, x_bytes, out, out_bytes, adds, bias)


@inlined
def _multiply(op, count, first, last):
    """Units first..last-1 of rows times all tokens."""
    kind, weights, unit_bytes, _, unit_rows, steps, x, x_bytes, out, out_bytes, adds, bias = to_fixed_tuple(
        op[1:13], 12
    )
    for unit in range(first, last):
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
def _attend_to_cache(op, f, base, rows, positions, unit, scores):
    """One head of one token."""
    qkv, stride, heads, groups, head_dim, keys, values, capacity, out, out_stride = to_fixed_tuple(
        op[1:11], 10
    )
    token, head = unit // heads, unit % heads
    place = (rows[token] * groups + head * groups // heads) * capacity * head_dim * 2
    query = qkv + token * stride + head * head_dim
    target = out + token * out_stride + head * head_dim
    _attend(f, base, query, keys + place, values + place, positions[token] + 1, head_dim, target, scores)


@inlined
def _attend_to_memory(op, f, base, rows, memories, eps, unit, scores):
    """The same for a row's memory: [layer, row] -> addresses of keys and values, their number, and room."""
    query, stride, heads, groups, head_dim, layer, out, out_stride, q_gain = to_fixed_tuple(op[1:10], 9)
    token, head = unit // heads, unit % heads
    keys, values, count, held = to_fixed_tuple(memories[layer, rows[token]], 4)
    place = (head * groups // heads) * held * head_dim * 2
    start = query + token * stride + head * head_dim
    if q_gain >= 0:
        _normalise_head(f, start, head_dim, q_gain, eps)
    target = out + token * out_stride + head * head_dim
    _attend(f, base, start, keys + place, values + place, count, head_dim, target, scores)


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
    "float32, int64[:, ::1], int64, int64)"
)


def step(program, f, rows, positions, scored, memories, eps, head_eps, counters, thread, threads):
    """Run a program for some tokens.

    Token i belongs to row rows[i] of the caches and stands at positions[i]; operations with a last flag see
    the tokens `scored` only. `counters` begin at 0: for each operation, what is claimed of the share of each
    thread, and what is done of all.
    """
    base = f.ctypes.data
    for number in range(program.shape[0]):
        op = program[number]
        name, counter = op[0], counters[number:].ctypes.data
        scores = base + 4 * (op[14] + thread * op[15])
        count = scored.size if op[13] == 1 else rows.size
        work, piece = count, 1
        if name == MULTIPLY:
            work = op[4] if count > 0 else 0
            piece = max(1, min(work // (2 * threads), PIECE_BYTES // (op[3] * max(count, 1))))
        elif name == ATTEND or name == REMEMBER:
            work = count * op[3]
            piece = 1 + work // 64
        done = 0
        for turn in range(threads):  # one's own share from its start, then what is left of the others'
            share = (thread + turn) % threads
            begin, end = work * share // threads, work * (share + 1) // threads
            first = begin + claim(counter + LINE * share, piece)
            while first < end:
                last = min(end, first + piece)
                if name == MULTIPLY:
                    _multiply(op, count, first, last)
                else:
                    for unit in range(first, last):
                        if name == ATTEND:
                            _attend_to_cache(op, f, base, rows, positions, unit, scores)
                        elif name == REMEMBER:
                            _attend_to_memory(op, f, base, rows, memories, head_eps, unit, scores)
                        elif name == NORM:
                            _norm(op, eps, unit, scored[unit] if op[13] == 1 else unit)
                        elif name == PLACE:
                            _place(op, f, head_eps, rows[unit], positions[unit], unit)
                        elif name == ENCODE:
                            source, stride, padded, kind, encoded, encoded_bytes = to_fixed_tuple(op[1:7], 6)
                            _encode(kind, source + unit * stride * 4, encoded + unit * encoded_bytes, padded)
                        else:
                            _activate(op, unit)
                done += last - first
                first = begin + claim(counter + LINE * share, piece)
        if threads > 1:
            claim(counter + LINE * threads, done)
            await_count(counter + LINE * threads, work)
