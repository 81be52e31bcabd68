"""Random numbers as a function of their seed: the generator Philox 4×32-10.

Sources: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"; Box & Muller 1958 for normal numbers. Eager
code, graphs and XLA draw the same 32-bit words. Floats are computed from the words here, because TensorFlow's own
random floats differ: XLA keeps the first 23 bits of a word, TensorFlow's kernels keep the last 23.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import tensorflow as tf

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   A round of Philox maps four 32-bit counter words c and two key words k to new ones; ⌊·⌋ is the high word of a
#   64-bit product, mod the low word:
#       p = D2511F53₁₆·c₀,  q = CD9E8D57₁₆·c₂
#       c ← (⌊q/2³²⌋ ⊕ c₁ ⊕ k₀,  q mod 2³²,  ⌊p/2³²⌋ ⊕ c₃ ⊕ k₁,  p mod 2³²)
#       k ← (k₀ + 9E3779B9₁₆,  k₁ + BB67AE85₁₆)  mod 2³²
#   After ten rounds the four words c are random.
#
#   uniform  u = ⌊word/2⁸⌋ · 2⁻²⁴  in [0, 1 − 2⁻²⁴]         normal  √(−2·ln(1 − u)) · cos(2π·v)  of two uniform u, v


# 2. NumPy reference -----------------------------------------------------------------------------------------


def philox_reference(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox.

    Args:
        counter: Four 32-bit words.
        key: Two 32-bit words.

    Returns:
        Four random 32-bit words.
    """
    (c0, c1, c2, c3), (k0, k1), low = counter, key, 0xFFFFFFFF
    for _ in range(10):
        p, q = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (q >> 32) ^ c1 ^ k0, q & low, (p >> 32) ^ c3 ^ k1, p & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


def random_words_reference(count: int, seed: Sequence[int]) -> list[int]:
    """Compute the 32-bit words of tf.random.stateless_uniform(alg="philox").

    TensorFlow first scrambles the seed, two 64-bit numbers, into key and counter with a key of its own. The n-th block
    of four words then has counter n.

    Args:
        count: The number of words.
        seed: Two ints, taken modulo 2⁶⁴.

    Returns:
        `count` ints from 0 to 2³² − 1.
    """
    first, second = (int(s) % 2**64 for s in seed)
    scrambled = (first % 2**32, first >> 32, second % 2**32, second >> 32)
    k0, k1, c2, c3 = philox_reference(scrambled, (0x3EC8F720, 0x02461E29))
    blocks = [philox_reference((n, 0, c2, c3), (k0, k1)) for n in range(-(-count // 4))]
    return [word for block in blocks for word in block][:count]


# 3. Tensor forms --------------------------------------------------------------------------------------------


def random_words(
    shape: Sequence[int] | tf.Tensor, seed: tf.Tensor, part: tuple[tf.Tensor | int, int] | None = None
) -> tf.Tensor:
    """Draw 32-bit words.

    Args:
        shape: [B,…], of the result.
        seed: Two ints.
        part: (index, count) if these are the rows of one of `count` equal parts of a batch of count·B rows.

    Returns:
        uint32 [B,…]; the parts of a batch together are the words of the whole batch.
    """
    if part is None:
        return _words(shape, seed)
    (index, count), batch, rest = part, tf.convert_to_tensor(shape)[:1], tf.convert_to_tensor(shape)[1:]
    words = _words(tf.concat([batch * count, rest], 0), seed)  # [count·B,…]
    first = index * batch[0]
    return words[first : first + batch[0]]


def _words(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")


def uniform_floats(words: tf.Tensor) -> tf.Tensor:
    """uint32 words of any shape → float32, uniform in [0, 1 − 2⁻²⁴]."""
    return tf.cast(tf.bitwise.right_shift(words, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def normal_floats(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Two tensors of `uniform_floats` of one shape → standard normal numbers of that shape."""
    return tf.sqrt(-2 * tf.math.log(1 - u)) * tf.cos(2 * pi * v)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# None: random numbers depend on nothing that has a gradient.


# 5. Cost ----------------------------------------------------------------------------------------------------
#
# None: it is integer work, which `kernels/cost.py` does not count.
