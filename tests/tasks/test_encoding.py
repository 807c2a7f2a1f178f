"""Where a prompt ends and a candidate begins, on the three kinds of tokenizers; truncation."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.encoding import encode

#: prompts and candidates in the shapes of the papers' templates, typed by hand
PAIRS = [
    ("a fine film It was", (" terrible", " great")),
    ('Rain falls.\nDoes this mean that "it is wet" is true? Yes or No?\n', ("Yes", "No")),
    ('Suppose it rains. Can we infer that "it is wet"? Yes, No, or Maybe?\n', ("Yes", "Maybe")),
    ("The man lost his balance because", (" the ladder wobbled.", " I ran.")),
    ("The film opened.\n- It won\n-", (" Anna Lee won the prize", " Rome won the prize")),
    ("Title: Rome\nContext: Rome is old.\nQuestion: Which city?\nAnswer:", (" Rome\n",)),
]
TEXT = [prompt + c for prompt, candidates in PAIRS for c in candidates] * 4


def byte_level() -> Tokenizer:
    """As GPT-2's, OPT's and SmolLM2's: bytes, merged inside words that hold their space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    """As Llama-2's: spaces become a sign of the words, and one stands before the text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=150, initial_alphabet=["\n"], unk_token="<unk>", special_tokens=["<unk>"],
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """As BERT's: words in lower case and their ends, without white space."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


TOKENIZERS = {
    "byte-level BPE": byte_level, "SentencePiece": sentence_piece, "WordPiece": word_piece
}  # fmt: skip


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    made = TOKENIZERS[request.param]()
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(("prompt", "candidates"), PAIRS)
def test_prompt_and_candidate_are_the_tokens_of_the_whole_text_cut_where_the_prompt_ends(
    tokenizer: PreTrainedTokenizerFast, prompt: str, candidates: tuple[str, ...]
) -> None:
    """No template of the papers ends inside a token: their code, which counts, cuts there too."""
    (encoded,) = encode([ls.Example(prompt, candidates, 0)], tokenizer, bos=None)
    for text, tokens in zip(candidates, encoded.candidates, strict=True):
        whole = tokenizer(prompt + text)["input_ids"]
        assert [*encoded.prompt, *tokens] == whole
        assert len(tokens) == len(whole) - len(tokenizer(prompt)["input_ids"])
        said = tokenizer.decode(tokens).strip().lower().split()
        assert "".join(said) == "".join(text.lower().split())


def test_a_passage_of_100000_tokens_keeps_its_first_token_its_end_and_the_candidate() -> None:
    tokenizer = ls.tiny_tokenizer()
    prompt = "x" + "a" * 100_000 + " end. It was"
    (encoded,) = encode([ls.Example(prompt, (" great", " terrible"), 0)], tokenizer, max_length=64)
    bos = tokenizer.bos_token_id
    assert encoded.length == 64
    assert encoded.prompt[0] == bos
    assert tokenizer.decode(encoded.prompt[1:]).endswith("a end. It was")
    assert [tokenizer.decode(c) for c in encoded.candidates] == [" great", " terrible"]


def test_a_candidate_longer_than_the_context_is_refused_by_its_text() -> None:
    example = ls.Example("Why?", (" because" + " so" * 300, " no"), 1)
    with pytest.raises(UserError, match=r"tokens too long: ' because so .*raise max_length"):
        encode([example], ls.tiny_tokenizer(), max_length=128)
