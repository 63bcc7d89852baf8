"""The compiled decoding step: one numba function runs the program of a model (`program`) on several threads.

A program is a table with one row of integers for each operation. For each operation, threads claim pieces of
its work until none are left, then wait until all are done. So a delayed thread delays the others by one piece
at most. Float buffers are one array `f`; packed weights and float16 caches are passed by address.
"""

# mypy: ignore-errors

import inspect

import numpy as np
from numba.extending import register_jitable
from numba.np.unsafe.ndarray import to_fixed_tuple

from sensorium.generation.cpu import attention, matmul, pointwise
from sensorium.generation.cpu.barrier import await_count, claim
from sensorium.generation.cpu.program import ATTEND, CACHE_KV, CROSS_ATTEND, MULTIPLY, NORM, QUANTISE

BF16, INT8 = range(2)
LINE = 128
"""Bytes between counters: two cache lines, so that threads do not share lines (false sharing)."""
PIECE_BYTES = 65536
"""Bytes of weights that a thread claims at a time, for one token."""


def inlined(function):
    """Make a function callable from `step`."""
    return register_jitable(inspect.unwrap(function))


@inlined
def _quantise(kind, source, target, padded):
    if kind == BF16:
        pointwise.round_bf16(source, target, padded)
    else:
        pointwise.quantise_int8(source, target, padded)


@inlined
def _multiply(op, count, first, last):
    """Multiply units `first` to `last - 1` of rows with all tokens."""
    kind, weights, unit_bytes, _, unit_rows, steps, x, x_bytes, out, out_bytes, adds, bias = to_fixed_tuple(
        op[1:13], 12
    )
    for unit in range(first, last):
        here, biases = weights + unit * unit_bytes, bias + unit * unit_rows * 4
        for token in range(0, count, 8):
            num, source = count - token, x + token * x_bytes
            target = out + token * out_bytes + unit * unit_rows * 4
            if kind == BF16:
                matmul.bf16(num, here, steps, source, x_bytes, target, out_bytes, adds, biases)
            elif kind == INT8:
                matmul.int8(num, here, steps, source, x_bytes, target, out_bytes, adds, biases)
            else:
                matmul.int4(num, here, steps, source, x_bytes, target, out_bytes, adds, biases)


@inlined
def _normalise_head(f, place, head_dim, gain, eps):
    total = np.float32(0)
    for k in range(head_dim):
        total += f[place + k] * f[place + k]
    root = np.float32(1) / np.sqrt(total / np.float32(head_dim) + eps)
    for k in range(head_dim):
        f[place + k] *= root * f[gain + k]


@inlined
def _rotate(f, place, rotary, head_dim):
    half = head_dim // 2
    for k in range(half):
        cos, sin = f[rotary + k], f[rotary + half + k]
        first, second = f[place + k], f[place + half + k]
        f[place + k] = first * cos - second * sin
        f[place + half + k] = second * cos + first * sin


@inlined
def _cache_kv(op, f, eps, row, position, token):
    """Apply query-key norm and rotary embedding to a token; write its keys and values to the cache."""
    qkv, stride, heads, groups, head_dim, rotary, q_gain, k_gain, keys, values, capacity = to_fixed_tuple(
        op[1:12], 11
    )
    start = qkv + token * stride
    for head in range(heads + groups):
        place, gain = start + head * head_dim, q_gain if head < heads else k_gain
        if gain >= 0:
            _normalise_head(f, place, head_dim, gain, eps)
        if rotary >= 0:
            _rotate(f, place, rotary + position * head_dim, head_dim)
    for group in range(groups):
        base = (row * groups + group) * capacity * head_dim * 2
        key, value = start + (heads + group) * head_dim, start + (heads + groups + group) * head_dim
        block = base + (position // 16) * head_dim * 32 + (position % 16) * 2
        for k in range(head_dim):
            attention.store_half(keys + block + k * 32, f[key + k])
            attention.store_half(values + base + (position * head_dim + k) * 2, f[value + k])


@inlined
def _attend(f, base, query, keys, values, count, head_dim, out, scores):
    """Attention of one head of one token; each thread has its own buffer `scores`."""
    scale = np.float32(1) / np.sqrt(np.float32(head_dim))
    attention.scaled_scores(base + query * 4, keys, (count + 15) // 16, head_dim, scale, scores)
    attention.softmax(scores, count)
    attention.weighted_sum(scores, values, count, head_dim, base + out * 4)


@inlined
def _attend_to_cache(op, f, base, rows, positions, unit, scores):
    """Self-attention of one head of one token; work unit: token times head."""
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
    """Cross-attention; memories[layer, row]: addresses of keys and values, their number, padded number."""
    query, stride, heads, groups, head_dim, layer, out, out_stride, q_gain = to_fixed_tuple(op[1:10], 9)
    token, head = unit // heads, unit % heads
    keys, values, count, num_padded = to_fixed_tuple(memories[layer, rows[token]], 4)
    place = (head * groups // heads) * num_padded * head_dim * 2
    start = query + token * stride + head * head_dim
    if q_gain >= 0:
        _normalise_head(f, start, head_dim, q_gain, eps)
    target = out + token * out_stride + head * head_dim
    _attend(f, base, start, keys + place, values + place, count, head_dim, target, scores)


@inlined
def _norm(op, eps, token, source):
    x, stride, gain, bias, out, out_stride, width, padded, is_centred, kind, quantised, quantised_bytes = (
        to_fixed_tuple(op[1:13], 12)
    )
    there = out + token * out_stride * 4
    pointwise.normalise(x + source * stride * 4, gain, bias, there, width, padded, eps, is_centred)
    _quantise(kind, there, quantised + token * quantised_bytes, padded)


@inlined
def _quantise_token(op, token):
    source, stride, padded, kind, quantised, quantised_bytes = to_fixed_tuple(op[1:7], 6)
    _quantise(kind, source + token * stride * 4, quantised + token * quantised_bytes, padded)


@inlined
def _activate(op, token):
    x, stride, is_gated, width, out, padded, kind, quantised, quantised_bytes = to_fixed_tuple(op[1:10], 9)
    here = x + token * stride * 4
    there = out + token * padded * 4
    if is_gated == 1:
        pointwise.silu_gate(here, here + width * 4, there, padded)
    else:
        pointwise.gelu(here, there, padded)
    _quantise(kind, there, quantised + token * quantised_bytes, padded)


STEP = (
    "void(int64[:, ::1], float32[::1], int64[::1], int64[::1], int64[::1], int64[:, :, ::1], float32, "
    "float32, int64[:, ::1], int64, int64)"
)


def step(program, f, rows, positions, scored, memories, eps, head_eps, counters, thread, threads):
    """Run a program for a batch of tokens.

    Token i is in row rows[i] of the caches, at positions[i]. Operations with op[13] = 1 run for the tokens
    `scored` only. `counters` start at 0. For each operation they hold the claimed units of each thread's
    share, and the number of finished units.
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
        elif name == ATTEND or name == CROSS_ATTEND:
            work = count * op[3]
            piece = 1 + work // 64
        done = 0
        for shift in range(threads):  # its own share first, then the rest of the other shares (work stealing)
            share = (thread + shift) % threads
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
                        elif name == CROSS_ATTEND:
                            _attend_to_memory(op, f, base, rows, memories, head_eps, unit, scores)
                        elif name == NORM:
                            _norm(op, eps, unit, scored[unit] if op[13] == 1 else unit)
                        elif name == CACHE_KV:
                            _cache_kv(op, f, head_eps, rows[unit], positions[unit], unit)
                        elif name == QUANTISE:
                            _quantise_token(op, unit)
                        else:
                            _activate(op, unit)
                done += last - first
                first = begin + claim(counter + LINE * share, piece)
        if threads > 1:
            claim(counter + LINE * threads, done)
            await_count(counter + LINE * threads, work)
