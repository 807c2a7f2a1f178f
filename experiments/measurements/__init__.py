"""Measurements that only artefacts of ours make; a grid names them ``module:ATTRIBUTE``.

What descends or looks at masks of its own is measured before a run of the method "none", whose
model is the pretrained one: such a measurement attaches what it needs and takes it away again.
"""
