"""The 68 landmarks of iBUG 300-W (Sagonas et al., ICCVW 2013).

0-16 contour, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth.
"""

from __future__ import annotations

import numpy as np

INNER = slice(17, 68)

# MIRROR[k] is the landmark that k becomes in a mirrored picture.
MIRROR = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *range(27, 31),
        *range(35, 30, -1),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
        *(64, 63, 62, 61, 60, 67, 66, 65),
    ]
)
