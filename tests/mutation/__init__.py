"""Change one thing in the code at a time and see whether the tests notice: a score for the suite.

    python -m tests.mutation                   all that is not in the results yet, then the table
    python -m tests.mutation --only masks.py   one module

A mutant is one change of one expression or statement inside a function, made from the syntax tree
in a fixed order. The tests are collected once; a mutant is a fork of that process in which one
function has other code, and which runs the tests that reach the changed line, cheapest first,
until one fails. Module constants, defaults of arguments and decorators are not changed.
"""
