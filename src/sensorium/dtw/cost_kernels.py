"""Numba kernels that fill panels of local costs; compiled by `core.jit.compiled`, called from `costs`."""

import numpy as np

DIFFERENCES = "void(f[:, ::1], f[:, ::1], int64, int64, f[:, :])"


def differences(x, y_columns, power, root, out):  # type: ignore[no-untyped-def]
    """Sum over axes of |x - y|^power for x (k, D) and columns of y (D, w); square root if `root`."""
    for row in range(x.shape[0]):
        line = out[row]
        for column in range(line.size):
            line[column] = 0
        for axis in range(x.shape[1]):
            here = x[row, axis]
            others = y_columns[axis]
            if power == 1:
                for column in range(line.size):
                    line[column] += abs(here - others[column])
            else:
                for column in range(line.size):
                    gap = here - others[column]
                    line[column] += gap * gap
        if root == 1:
            for column in range(line.size):
                line[column] = np.sqrt(line[column])


FROM_PRODUCTS = "void(f[:, ::1], f[:, ::1], f, f[::1], f[::1], f, int64, f[:, ::1])"


def from_products(x, y, ratio, x_squares, y_squares, near, root, out):  # type: ignore[no-untyped-def]
    """Convert matrix products in `out` (k, w) to |x - y|^2, or its root.

    Products and squares are those of centred rows times `ratio`. x (k, D) and y (w, D) are the original rows.
    Cells below `near` times the sum of squares are recomputed from them.
    """
    width, zero = 256, near - near  # a literal 0 is an integer, which would make this float64
    for row in range(x.shape[0]):
        square = x_squares[row]
        for first in range(0, out.shape[1], width):
            part = out[row, first : first + width]
            others = y_squares[first : first + width]
            num_near = 0
            for column in range(part.size):
                total = square + others[column]
                value = total - (part[column] + part[column])
                num_near += value < near * total
                part[column] = value
            if num_near > 0:
                for column in range(part.size):
                    if part[column] < near * (square + others[column]):
                        value = zero
                        for axis in range(x.shape[1]):
                            gap = x[row, axis] * ratio - y[first + column, axis] * ratio
                            value += gap * gap
                        part[column] = value
            if root == 1:
                for column in range(part.size):
                    part[column] = np.sqrt(part[column])
