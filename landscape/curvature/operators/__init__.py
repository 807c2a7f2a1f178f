"""Symmetric matrices that are known by their products; a new one is a file here.

A subclass of `linear.LinearOperator` says its size, dtype, device and product, and every algorithm
in `landscape.curvature.spectrum` takes it. One that averages over batches of a model's loss starts
from `batched.BatchedOperator`, one of the form J'CJ from `jacobian.JacobianOperator`.
"""
