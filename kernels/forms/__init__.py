"""Faster forms of the operations, interchangeable with the tensor forms of the textbook files.

Every form of the convolution has the same four functions (`ConvolutionForm`). `kernels.dispatch` chooses among them,
`benchmarks/tune.py` measures them.
"""
