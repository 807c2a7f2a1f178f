"""Second derivatives of a model's loss, right or refused: modes, layers, memory, the point."""
