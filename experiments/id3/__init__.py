"""Agarwal et al. 2024, ID3: which weights to train."""
