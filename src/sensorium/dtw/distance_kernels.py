"""Numba kernels for DTW distances of univariate series without a path; compiled by `core.jit.compiled`."""

import numpy as np

from sensorium.dtw.simd_kernels import REGISTER_BYTES, REGISTERS, lanes, strip

ONE_PAIR = "f(f[::1], f[::1], int64, f, f, f, boolean, boolean)"


def one_pair(x, y, power, extra, far, big, open_begin, open_end):  # type: ignore[no-untyped-def]
    """Least cost of aligning x (n) and y (m) with local cost |x - y|^power.

    `extra` is added to the weight of diagonal moves.

    `far` is a padding value: its cost exceeds that of every path, and its power is at most `big`.
    """
    n, m = x.size, y.size
    width = REGISTER_BYTES // x.itemsize
    height = width * REGISTERS
    zero = big - big
    backwards = np.empty(m + 2 * height, x.dtype)
    backwards[:], backwards[height : height + m] = far, y[::-1]
    reached = np.empty(m + 2 * height, x.dtype)
    reached[:] = big
    if open_begin:
        reached[height - 1 : height - 1 + m] = zero
    rows, out = np.empty(height, x.dtype), np.empty(2 * height, x.dtype)
    gap = abs(x[0] - y[0])
    first = gap if power == 1 else gap * gap
    corner = zero if open_begin else -extra * first
    last = 0
    for top in range(0, n, height):
        last = min(height, n - top) - 1
        rows[:] = zero
        rows[: last + 1] = x[top : top + last + 1]
        strip(rows, backwards, height + m - 1, reached, m + last, corner, power, extra, big, open_end, out)  # type: ignore[call-arg]
        corner = big
    return out[height + last] if open_end else out[last]


MANY_PAIRS = (
    "void(f[::1], int64[::1], int64[::1], f[::1], int64[::1], int64[::1], int64[:, ::1], int64, int64, "
    "f, f, f, f, f[::1])"
)


def many_pairs(  # type: ignore[no-untyped-def]
    xs, x_start, x_size, ys, y_start, y_size, pairs, radius, power, extra, far, big, limit, out
):
    """Distances of pairs (i, j) of series, one pair per SIMD lane.

    Series i is xs[x_start[i]:] with length x_size[i]; the band is |i - j| <= radius. If lengths differ,
    series are padded on both sides with far elements. Two far elements cost nothing together; a far and a
    real element cost more than any path. So padding does not change a distance. Pairs that exceed `limit` may
    be returned as `big` (early abandoning).
    """
    width = REGISTER_BYTES // xs.itemsize
    for first in range(0, pairs.shape[0], width):
        group = pairs[first : first + width]
        n, m, is_even = np.int64(0), np.int64(0), True
        for lane in range(group.shape[0]):
            size_x, size_y = x_size[group[lane, 0]], y_size[group[lane, 1]]
            is_even = is_even and (lane == 0 or (size_x == n and size_y == m))
            n, m = max(n, size_x), max(m, size_y)
        if not is_even:
            n = max(n, m) + 1
            m = n
        x, y = np.empty(n * width, xs.dtype), np.empty(m * width, xs.dtype)
        row = np.empty((m + 1) * width, xs.dtype)
        x[:], y[:], row[:] = far, far, big
        least = np.empty(width, xs.dtype)
        for lane in range(width):
            pair = group[min(lane, group.shape[0] - 1)]
            start, size = x_start[pair[0]], x_size[pair[0]]
            for i in range(size):
                x[i * width + lane] = xs[start + i]
            start, size = y_start[pair[1]], y_size[pair[1]]
            for j in range(size):
                y[j * width + lane] = ys[start + j]
            gap = abs(x[lane] - y[lane])
            row[lane] = -extra * (gap if power == 1 else gap * gap)
        step = 4 if radius >= max(n, m) else 1
        top = 0
        is_open = True
        while top < n and is_open:
            count = step if top + step <= n else 1
            begin, end = max(0, top - radius), min(m, top + radius + 1)
            lanes(x[top * width :], y, row, begin, end, count, power, extra, big, least)  # type: ignore[call-arg]
            if begin == 0:
                row[:width] = big
            top += count
            is_open = False
            for lane in range(group.shape[0]):
                is_open = is_open or least[lane] <= limit
        for lane in range(group.shape[0]):
            out[first + lane] = row[m * width + lane] if is_open and top >= n else big


ENVELOPES = "void(f[::1], int64[::1], int64[::1], int64, int64[::1], int64[::1], f[::1], f[::1])"


def envelopes(ys, start, size, radius, place, length, low, high):  # type: ignore[no-untyped-def]
    """Minimum and maximum of each series within `radius` of its positions 0..length-1."""
    best = np.empty(size.max(), np.int64)
    for series in range(size.size):
        y = ys[start[series] : start[series] + size[series]]
        for sign in (1, -1):
            out = low if sign == 1 else high
            head, tail, entered = 0, 0, 0  # candidates best[head:tail] get worse and later
            for i in range(length[series]):
                while entered < min(i + radius + 1, y.size):
                    while tail > head and sign * y[best[tail - 1]] >= sign * y[entered]:
                        tail -= 1
                    best[tail] = entered
                    tail += 1
                    entered += 1
                while best[head] < i - radius:
                    head += 1
                out[place[series] + i] = y[best[head]]


BOUNDS = (
    "void(f[::1], int64[::1], int64[::1], int64[::1], int64[::1], f[::1], f[::1], int64[::1], int64, f, "
    "f[::1])"
)


def bounds(xs, x, start, size, y, low, high, place, power, limit, out):  # type: ignore[no-untyped-def]
    """Keogh's lower bound of pairs (x[k], y[k]): cost of elements of x outside y's envelope.

    Summation stops above `limit`.
    """
    zero = limit - limit
    for pair in range(out.size):
        first, envelope = start[x[pair]], place[y[pair]]
        total = zero
        for i in range(size[x[pair]]):
            value = xs[first + i]
            gap = max(max(value - high[envelope + i], low[envelope + i] - value), zero)
            total += gap if power == 1 else gap * gap
            if total > limit:
                break
        out[pair] = max(out[pair], total)
