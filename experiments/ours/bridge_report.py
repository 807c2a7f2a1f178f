"""Judge `bridge`."""


def check(r):
    return []


def coverage_table(r):
    return []


def mask_table(r):
    return []


def drawn(r):
    return []
