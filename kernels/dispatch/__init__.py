"""The public kernels: each checks its arguments once, chooses a form, and attaches the gradient by hand.

What a kernel computes is written in the textbook files of `kernels`, faster forms in `kernels.forms`.
"""
