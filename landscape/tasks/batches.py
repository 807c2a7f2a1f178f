"""Batches: prompts and candidates as padded token rows, ready to be scored.

A row holds a prompt and all but the last token of a candidate, padded on the left, so that the
model's last L outputs predict the candidate's L tokens. When every candidate of a batch is one
token the row is the prompt alone, and one forward serves all candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.task import Example, Loss

Batch = dict[str, Tensor]
"""A batch of b examples with at most c candidates, in rows of t tokens.

Every batch: ``input_ids`` and ``attention_mask`` (rows, t); ``labels`` (b,).
Single-token candidates, rows = b: ``candidate_ids`` (b, c) and ``candidate_mask`` (b, c).
Longer ones, one row each: ``targets`` and ``target_mask`` (rows, L), right-aligned; ``rows``
(b, c), the row of each candidate, -1 where there is none.
Language modelling, one row for each right candidate: ``targets`` and ``target_mask`` alone.
"""

Bos = Literal["tokenizer"] | int | None

MAX_LENGTH = 2048
"""Longest row in the papers' protocol, in tokens."""


@dataclass(frozen=True)
class Encoded:
    """Hold an example as tokens: the prompt's, and those of each candidate; which are right."""

    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    label: int
    also_right: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Return the number of tokens of the prompt and its longest candidate."""
        return len(self.prompt) + max(map(len, self.candidates))

    @property
    def single_token(self) -> bool:
        """Return whether every candidate is one token, so that one forward serves them all."""
        return all(len(candidate) == 1 for candidate in self.candidates)


def encode(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    max_length: int = MAX_LENGTH,
    bos: Bos = "tokenizer",
) -> list[Encoded]:
    """Tokenise prompts and candidates.

    A candidate's tokens are what follows the prompt's tokens in prompt + candidate; where the text
    at the boundary merges into other tokens, the candidate is tokenised by itself. A prompt that
    is too long loses tokens on the left, its first token excepted.

    Args:
        examples: prompts with candidates.
        tokenizer: of the model.
        max_length: most tokens of prompt and candidate together, >= 2; less if the tokenizer says
            that its model takes less.
        bos: what a row starts with: "tokenizer" for the special tokens that the tokenizer itself
            puts before a text, a token id to put in their place (the papers' code starts the
            prompts of OPT with 0, not with the tokenizer's 2), None for nothing.

    Returns:
        One encoded example for each example, in order.

    Raises:
        UserError: a candidate without tokens, or one that leaves no room for its prompt.
    """
    limit = min(max_length, getattr(tokenizer, "model_max_length", max_length))
    start = _start(tokenizer, bos)
    prompts = _tokens(tokenizer, [e.prompt for e in examples])
    texts = [e.prompt + candidate for e in examples for candidate in e.candidates]
    whole = iter(_tokens(tokenizer, texts))
    encoded = []
    for example, prompt in zip(examples, prompts):
        candidates = tuple(
            _continuation(tokenizer, prompt, next(whole), candidate)
            for candidate in example.candidates
        )
        kept = _truncate((*start, *prompt), limit - max(map(len, candidates)), example)
        encoded.append(Encoded(kept, candidates, example.label, example.also_right))
    return encoded


def collate(encoded: Sequence[Encoded], pad_id: int, *, loss: Loss = "classification") -> Batch:
    """Pad encoded examples on the left into one batch.

    Args:
        encoded: b >= 1 examples.
        pad_id: token that fills up rows; it is masked out, so any legal id does.
        loss: "classification" keeps all candidates; "language modelling" keeps the right ones
            only, which is all that training on them needs.

    Returns:
        The batch; see ``Batch`` for its entries.
    """
    labels = torch.tensor([e.label for e in encoded])
    if loss == "language modelling":
        right = [(e.prompt, e.candidates[e.label]) for e in encoded]
        return {"labels": labels, **_candidate_rows(right, pad_id)}
    width = max(len(e.candidates) for e in encoded)
    if all(e.single_token for e in encoded):
        ids = torch.full((len(encoded), width), pad_id)
        mask = torch.zeros(len(encoded), width, dtype=torch.bool)
        for i, e in enumerate(encoded):
            ids[i, : len(e.candidates)] = torch.tensor([c[0] for c in e.candidates])
            mask[i, : len(e.candidates)] = True
        padded = _pad_left([e.prompt for e in encoded], pad_id)
        return {"labels": labels, "candidate_ids": ids, "candidate_mask": mask, **padded}
    rows = torch.full((len(encoded), width), -1)
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for i, e in enumerate(encoded):
        count = len(e.candidates)
        rows[i, :count] = torch.arange(len(pairs), len(pairs) + count)
        pairs += [(e.prompt, candidate) for candidate in e.candidates]
    return {"labels": labels, "rows": rows, **_candidate_rows(pairs, pad_id)}


def make_batches(
    examples: Sequence[Example],
    tokenizer: Any,
    batch_size: int,
    *,
    sort: bool = False,
    loss: Loss = "classification",
    max_length: int = MAX_LENGTH,
    bos: Bos = "tokenizer",
) -> list[Batch]:
    """Tokenise examples and cut them into padded batches.

    Args:
        examples: at least one.
        tokenizer: of the model.
        batch_size: examples a batch, >= 1; the last batch may be smaller.
        sort: order by length first, which saves padding; else the given order is kept.
        loss: see ``collate``; pass ``task.loss``.
        max_length: see ``encode``.
        bos: see ``encode``.

    Returns:
        The batches.

    Raises:
        UserError: no examples, a batch size below 1, or text that ``encode`` refuses.
    """
    checks.several("examples", examples, "examples")
    checks.tokenizer(tokenizer)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    max_length = checks.whole("max_length", max_length, least=2)
    if not examples:
        raise UserError("expected at least one example to make batches of, got none")
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    encoded = encode(examples, tokenizer, max_length=max_length, bos=bos)
    if sort:
        encoded = [encoded[i] for i in length_order(encoded)]
    pad = pad_id(tokenizer)
    return [
        collate(encoded[i : i + batch_size], pad, loss=loss)
        for i in range(0, len(encoded), batch_size)
    ]


def length_order(encoded: Sequence[Encoded]) -> list[int]:
    """Return the indices of examples from longest to shortest.

    Equal lengths are ordered by their tokens, so that the same examples in any order make the
    same batches; longest first, so that a batch too large for memory fails at once.
    """
    return sorted(
        range(len(encoded)),
        key=lambda i: (-encoded[i].length, encoded[i].prompt, encoded[i].candidates),
    )


def pad_id(tokenizer: Any) -> int:
    """Return the tokenizer's padding token, or 0 for one that has none: padding is masked out."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def length_limit(model: Any, max_length: int | None = None) -> int:
    """Return the most tokens of a row: ``max_length`` or 2048, and never more than a model takes.

    Raises:
        UserError: a length below 2, which leaves no room for a prompt and a candidate, or a model
            without a configuration, such as a wrapper of one.
    """
    wrapped = isinstance(getattr(model, "module", None), torch.nn.Module)
    do = "give its .module" if wrapped else "load or build one of transformers"
    checks.has("model", model, "a language model or classifier", "config", do=do)
    wanted = MAX_LENGTH if max_length is None else max_length
    if wanted < 2:
        raise UserError(
            f"expected a max_length of at least 2 tokens, got {wanted}; a row holds a prompt and "
            "a candidate"
        )
    return min(wanted, getattr(model.config, "max_position_embeddings", wanted))


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _start(tokenizer: Any, bos: Bos) -> tuple[int, ...]:
    if bos is None:
        return ()
    if bos != "tokenizer":
        if isinstance(bos, bool) or not isinstance(bos, Integral) or not 0 <= bos < len(tokenizer):
            raise UserError(
                f'expected bos to be "tokenizer", a token id from 0 to {len(tokenizer) - 1} or '
                f"None, got {bos!r}; say what rows start with"
            )
        return (int(bos),)
    (bare,) = _tokens(tokenizer, ["a"])
    special = tokenizer("a")["input_ids"]
    for i in range(len(special)):
        if special[i : i + len(bare)] == bare:
            return tuple(special[:i])
    raise UserError(
        f"expected {type(tokenizer).__name__} to put special tokens around a text only, but it "
        "changes the text's own tokens; say what rows start with: bos=None or a token id"
    )


def _continuation(
    tokenizer: Any, prompt: list[int], whole: list[int], candidate: str
) -> tuple[int, ...]:
    if whole[: len(prompt)] == prompt:
        rest = whole[len(prompt) :]
    else:
        (rest,) = _tokens(tokenizer, [candidate])
    if not rest:
        raise UserError(
            f"expected a candidate with at least one token, got {candidate!r}; correct the task"
        )
    return tuple(rest)


def _truncate(prompt: tuple[int, ...], room: int, example: Example) -> tuple[int, ...]:
    if not prompt:
        raise UserError(
            "expected a prompt with at least one token, got an empty one for the candidates "
            f"{list(example.candidates)}; give the prompt text or a bos token"
        )
    if room < 1:
        raise UserError(
            "expected candidates that leave room for the prompt's first token, got one that is "
            f"{1 - room} tokens too long: {max(example.candidates, key=len)[:60]!r}; "
            "raise max_length"
        )
    if len(prompt) <= room:
        return prompt
    return (prompt[0], *prompt[len(prompt) - room + 1 :])


def _candidate_rows(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pad_id: int
) -> dict[str, Tensor]:
    inputs = [prompt + candidate[:-1] for prompt, candidate in pairs]
    targets = _pad_left([candidate for _, candidate in pairs], pad_id)
    return {
        "targets": targets["input_ids"],
        "target_mask": targets["attention_mask"].bool(),
        **_pad_left(inputs, pad_id),
    }


def _pad_left(rows: Sequence[tuple[int, ...]], pad_id: int) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}
