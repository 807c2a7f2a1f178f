"""Xu & Zhang 2024, random masking: their figures and tables, and what their theory predicts."""
