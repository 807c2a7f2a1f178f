"""What a model says of a batch: logits, scores of candidates, the loss, texts it generates."""
