"""Prompts and candidates as tokens: where a row begins, where it is truncated, how long it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, TypeAlias

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.errors import UserError
from landscape.models.kinds import positions
from landscape.tasks.example import Example

Bos: TypeAlias = Literal["tokenizer"] | int | None
"""What a row starts with; see `encode`."""

MAX_LENGTH = 2048
"""Longest row in the papers' protocol, in tokens."""


@dataclass(frozen=True)
class Encoded:
    """Hold an example as tokens: the prompt's, and those of each candidate; which are right.

    ``truncated`` says whether the prompt has lost tokens.
    """

    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    label: int
    also_right: tuple[int, ...] = ()
    truncated: bool = False

    @property
    def length(self) -> int:
        """Return the number of tokens of the prompt and its longest candidate."""
        return len(self.prompt) + max(map(len, self.candidates))

    @property
    def contents(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Return its tokens, which order examples of one length."""
        return self.prompt, self.candidates

    @property
    def single_token(self) -> bool:
        """Return whether every candidate is one token, so that one forward serves them all."""
        return all(len(candidate) == 1 for candidate in self.candidates)


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
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
    limit = token_limit(tokenizer, max_length)
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
        room = limit - max(map(len, candidates))
        all_of_it = (*start, *prompt)
        kept = _prompt(all_of_it, room, example)
        lost = len(kept) < len(all_of_it)
        encoded.append(Encoded(kept, candidates, example.label, example.also_right, lost))
    return encoded


def length_limit(model: nn.Module, max_length: int | None = None) -> int:
    """Return the most tokens of a row: ``max_length`` or 2048, and never more than a model takes.

    Args:
        model: of transformers; its configuration says how many positions it has.
        max_length: what is asked for, at least 2; 2048 if absent.

    Raises:
        UserError: no whole number of at least 2, which a prompt and a candidate need, or a model
            without a configuration, such as a wrapper of one.
    """
    wrapped = isinstance(getattr(model, "module", None), nn.Module)
    do = "give its .module" if wrapped else "load or build one of transformers"
    checks.has("model", model, "a language model or classifier", "config", do=do)
    wanted = MAX_LENGTH if max_length is None else checks.whole("max_length", max_length, least=2)
    taken = positions(model)
    return wanted if taken is None else min(wanted, taken)


def token_limit(tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Return the most tokens of a row: what is asked for, or what the tokenizer's model takes."""
    return min(max_length, getattr(tokenizer, "model_max_length", max_length))


def truncated(prompt: Sequence[int], room: int) -> tuple[int, ...]:
    """Return a prompt without the tokens on its left that have no room, its first one excepted.

    Args:
        prompt: at least one token.
        room: most tokens of it, at least 1.

    >>> truncated((0, 5, 6, 7), 3)
    (0, 6, 7)
    """
    if len(prompt) <= room:
        return tuple(prompt)
    return (prompt[0], *prompt[len(prompt) - room + 1 :])


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _start(tokenizer: PreTrainedTokenizerBase, bos: Bos) -> tuple[int, ...]:
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
    tokenizer: PreTrainedTokenizerBase, prompt: list[int], whole: list[int], candidate: str
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


def _prompt(prompt: tuple[int, ...], room: int, example: Example) -> tuple[int, ...]:
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
    return truncated(prompt, room)
