"""Orbits of the points of a periodic grid under operations that map the grid onto itself."""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

IntArray = npt.NDArray[np.int64]


def orbit_representatives(shape: tuple[int, int, int], rotations: IntArray, translations: IntArray) -> IntArray:
    """First point, in C order, of the orbit of each grid point; all in integers.

    An operation takes the point p to ``(rotation @ p + translation) mod shape``. The operations must be a
    group, all of it: an orbit is then the images of any one of its points. The cost is linear in the number of
    points, whatever the number of operations.

    Parameters
    ----------
    shape : (n1, n2, n3)
        Points along each axis.
    rotations : (m, 3, 3) int64
        Acting on indices (columns).
    translations : (m, 3) int64
        In grid steps.

    Returns
    -------
    (n1 * n2 * n3,) int64
        Flat indices; a point that represents its orbit has its own.

    Raises
    ------
    ValueError
        When a shape is wrong, or an operation doesn't map the grid onto itself.
    """
    rotations = np.ascontiguousarray(rotations, dtype=np.int64)
    translations = np.ascontiguousarray(translations, dtype=np.int64)
    if rotations.shape != (len(rotations), 3, 3) or translations.shape != (len(rotations), 3):
        raise ValueError(
            f"rotations must be (m, 3, 3) and translations (m, 3), got {rotations.shape} and {translations.shape}"
        )
    sizes = np.array(shape, dtype=np.int64)
    if sizes.shape != (3,) or sizes.min() < 1:
        raise ValueError(f"shape must be three positive integers, got {shape}")
    for rotation in rotations:
        # a whole period along one axis must come out as whole periods
        one_to_one = round(abs(float(np.linalg.det(rotation)))) == 1
        if not one_to_one or (rotation * sizes[None, :] % sizes[:, None]).any():
            raise ValueError(
                f"the rotation {rotation.tolist()} doesn't map a grid of {tuple(shape)} points onto itself"
            )
    representatives = np.full(int(sizes.prod()), -1, dtype=np.int64)
    _find_orbits(representatives, sizes, rotations, translations)
    return representatives


@jit
def _find_orbits(representatives: IntArray, sizes: IntArray, rotations: IntArray, translations: IntArray) -> None:
    """Give each point that isn't known yet, and its images, the point's own index."""
    n1, n2, n3 = sizes
    for i in range(n1):
        for j in range(n2):
            for k in range(n3):
                point = (i * n2 + j) * n3 + k
                if representatives[point] >= 0:
                    continue
                representatives[point] = point
                for operation in range(rotations.shape[0]):
                    r = rotations[operation]
                    a = (r[0, 0] * i + r[0, 1] * j + r[0, 2] * k + translations[operation, 0]) % n1
                    b = (r[1, 0] * i + r[1, 1] * j + r[1, 2] * k + translations[operation, 1]) % n2
                    c = (r[2, 0] * i + r[2, 1] * j + r[2, 2] * k + translations[operation, 2]) % n3
                    representatives[(a * n2 + b) * n3 + c] = point
