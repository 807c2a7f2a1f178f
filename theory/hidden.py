"""Real features: the hidden states of a pretrained language model on real text."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from landscape import Example, checks, load_model, load_task
from landscape.errors import UserError
from theory.distributions import HIDDEN
from theory.features import Array, Features, from_array


def hidden_states(
    n: int = 16, *, seed: int = 0, model: str = "smollm2-135m", task: str = "rotten_tomatoes"
) -> Features:
    """Take X (n, d) from a pretrained model: its hidden states at the last token of n prompts.

    Row i holds the states of all layers (embeddings first) at the last token of prompt i, side by
    side: d = (layers + 1) x width, 17,856 for smollm2-135m. A linear model on them is what a probe
    of the frozen network fits. A few coordinates are far larger than all others, as they are in
    most language models, so that which of them a mask keeps decides much of its spectrum.

    Args:
        n: number of prompts, at least 1.
        seed: of the choice of prompts.
        model: name or path, as for `landscape.load_model`.
        task: name, as for `landscape.load_task`.

    Raises:
        UserError: n is below 1, or the model or task cannot be loaded.

    Cost: n forwards.
    """
    n, seed = checks.whole("n", n, least=1), checks.seed(seed)
    model, task = checks.path("model", model), checks.text("task", task)
    return from_array(_states(n, seed, model, task), HIDDEN)


@lru_cache(maxsize=4)
def _states(n: int, seed: int, model: str, task: str) -> Array:
    network, tokenizer = load_model(model)
    examples = load_task(task, num_train=n, num_dev=1, num_test=1, seed=seed).train
    rows = []
    with torch.no_grad():
        for example in examples:
            if not isinstance(example, Example):
                raise UserError(
                    f"expected a task of prompts with candidates, got {task}; choose another"
                )
            tokens = tokenizer(example.prompt, return_tensors="pt")
            states = network(**tokens, output_hidden_states=True, use_cache=False).hidden_states
            rows.append(torch.cat([layer[0, -1] for layer in states]).double().numpy())
    return np.stack(rows)
