"""Baselines: what they train, what they start from, and that everything else works on them."""

from __future__ import annotations

import pytest
import torch
from conftest import CASES, Case
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.training import baselines


def language(architecture: str = "opt") -> torch.nn.Module:
    return ls.tiny_model(architecture, vocab_size=len(ls.tiny_tokenizer()))


def outputs(case: Case, model: torch.nn.Module) -> torch.Tensor:
    """The logits behind a case's loss."""
    found = []
    hook = model.register_forward_hook(lambda *given: found.append(given[2].logits.detach()))
    with torch.no_grad():
        case.loss(model)
    hook.remove()
    return found[0]


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in ls.trainable(model).values())


def made(method: str, model: torch.nn.Module) -> torch.nn.Module:
    options = {"adalora": {"steps": 9}, "prefix": {"tokens": torch.tensor([5, 6, 7])}}
    return baselines.BASELINES[method](model, **options.get(method, {}))


OPT, HIDDEN, LAYERS = "opt", 32, 2


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        # OPT of width 32, two layers: q, k, v, o and two of the feed-forward block have biases
        ("bitfit", {"norms": False}, LAYERS * (4 * HIDDEN + 2 * HIDDEN + HIDDEN)),
        ("bitfit", {}, LAYERS * (4 * HIDDEN + 2 * HIDDEN + HIDDEN) + (2 * LAYERS + 1) * HIDDEN),
        ("adapter", {"width": 3}, 2 * LAYERS * (2 * 3 * HIDDEN + 3 + HIDDEN)),
        ("lora", {"rank": 5}, 2 * LAYERS * 2 * 5 * HIDDEN),
        ("adalora", {"steps": 9, "rank": 4, "first_rank": 6}, 2 * LAYERS * (2 * 6 * HIDDEN + 6)),
        ("prefix", {"tokens": torch.arange(5) + 3}, 5 * LAYERS * 2 * HIDDEN),
    ],
)
def test_a_baseline_trains_as_many_numbers_as_its_formula_says(method, options, expected) -> None:
    assert count(baselines.BASELINES[method](language(), **options)) == expected


def test_bitfit_and_lora_count_what_paper_1_prints_for_opt_125m() -> None:
    import transformers

    config = transformers.OPTConfig()  # its defaults are OPT-125m's
    with torch.device("meta"):
        model = transformers.OPTForCausalLM(config)
        total = sum(p.numel() for p in model.parameters())
        assert total == 125_239_296
        # table 5 prints 0.066 % for BitFit, which leaves LayerNorms out
        linear = count(baselines.bitfit(model, norms=False))
    assert round(100 * linear / total, 3) == 0.066


@pytest.mark.parametrize("method", list(baselines.BASELINES))
@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2"])
def test_every_baseline_trains_with_finetune(method, architecture) -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    plain = language(architecture)
    if method == "bitfit" and architecture == "llama":
        with pytest.raises(UserError, match="without any"):
            made(method, plain)
        return
    frozen = {n: p.detach().clone() for n, p in plain.named_parameters()}
    if architecture == "gpt2" and method in ("lora", "adalora"):
        options = {"steps": 9} if method == "adalora" else {}
        model = baselines.BASELINES[method](plain, targets="*.c_attn", **options)
    else:
        model = made(method, plain)
    rate = 1e-3 if method == "adapter" else 1e-2
    run = ls.finetune(model, tokenizer, task, lr=rate, epochs=4, batch_size=16, test=False, seed=1)
    # one batch holds all examples, so its loss is the same function at every step
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert not run.diverged
    moved = {
        n for n, p in plain.named_parameters() if n in frozen and not torch.equal(p, frozen[n])
    }
    if method == "full":
        assert moved
    elif method == "bitfit":
        assert moved
        assert all(n.endswith("bias") for n in moved)
    else:
        assert not moved


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2"])
def test_a_prefix_starts_as_the_words_it_is_made_from(architecture) -> None:
    """Keys and values of real words: as if the words stood before each text, padded or not."""
    model = language(architecture).double()
    words, text = torch.tensor([9, 30, 40]), torch.tensor([[5, 6, 7, 8], [11, 12, 13, 14]])
    with torch.no_grad():
        expected = model(torch.cat([words.expand(2, -1), text], dim=1)).logits[:, 3:]
        wrapped = baselines.prefix(model, tokens=words)
        found = wrapped(input_ids=text, attention_mask=torch.ones_like(text)).logits
    # Llama's rotary embeddings and norms compute in float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_adapters_sit_behind_both_blocks_of_every_layer_and_start_as_the_identity(case) -> None:
    model = case.model()
    before = outputs(case, model)
    model = baselines.adapter(model, width=4)
    adapters = [m for m in model.modules() if isinstance(m, baselines.Adapter)]
    assert len(adapters) == 2 * 2
    torch.testing.assert_close(outputs(case, model), before, rtol=0, atol=0)
    assert all(a.down.weight.abs().max() > 0.01 for a in adapters)
    case.loss(model).backward()
    # the up-projections learn at the first step, the down-projections behind zeros after it
    for a in adapters:
        assert a.up.weight.grad.abs().sum() > 0
        assert a.down.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_near_identity_adapters_start_as_almost_nothing_with_gradients_everywhere(case) -> None:
    model = case.model()
    before = case.loss(model).detach()
    model = baselines.adapter(model, width=4, start="near identity")
    adapters = [m for m in model.modules() if isinstance(m, baselines.Adapter)]
    after = case.loss(model)
    assert 0 < abs((after - before).item()) < 1e-2
    after.backward()
    assert all(p.grad.abs().sum() > 0 for p in ls.trainable(model).values())
    with torch.no_grad():
        for adapter in adapters:
            adapter.up.weight.zero_()
            adapter.up.bias.zero_()
    torch.testing.assert_close(case.loss(model), before, rtol=0, atol=0)


@pytest.mark.parametrize(("method", "targets"), [("lora", "*lora_*"), ("adapter", "*adapter*")])
def test_masks_attach_on_top_of_lora_and_adapters(method, targets) -> None:
    """ID3 or PaFi on LoRA, SparseAdapter: only the selected numbers of the method move."""
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    model = made(method, language())
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    schedule = ls.Schedule(
        "increment", score="id3", options={"eps": 1.0, "exp": 1.0}, count=40, targets=targets
    )
    run = ls.finetune(
        model, tokenizer, task, lr=1e-2, epochs=2, batch_size=8, schedule=schedule, test=False
    )
    assert run.history[-1]["updated"] == 40
    ls.merge(model)
    changed = sum(int((p != before[n]).sum()) for n, p in model.named_parameters() if n in before)
    assert 0 < changed <= 40
    mask = ls.select_mask(model, score="magnitude_smallest", count=17, targets=targets)
    ls.attach(model, mask)
    assert count(model) == 17


def test_adalora_spends_its_rank_budget_during_the_run() -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    steps = 12
    model = baselines.adalora(language(), steps=steps, rank=2, first_rank=6)
    seen = []

    def ranks(model: torch.nn.Module, _: object) -> None:
        energies = [p for n, p in model.named_parameters() if "lora_E" in n]
        seen.append(sum(int((e != 0).sum()) for e in energies))

    ls.finetune(model, tokenizer, task, lr=1e-2, epochs=6, batch_size=8, probes=[ranks], test=False)
    assert len(seen) == steps
    assert max(seen) > seen[-1]
    assert seen[-1] <= 4 * 2  # four matrices


def test_adaloras_penalty_is_the_one_that_peft_adds_to_its_loss() -> None:
    model = baselines.adalora(language(), steps=9)
    ids = torch.tensor([[5, 6, 7, 8]])
    with_labels = model.base_model(input_ids=ids, labels=ids)
    logits = with_labels.logits[0, :-1].float()
    plain = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    torch.testing.assert_close(with_labels.loss - plain, baselines.method_of(model).penalty())
    assert baselines.method_of(language()).penalty() == 0.0


def test_initialisation_is_a_function_of_the_seed_alone() -> None:
    for method in ("lora", "adapter"):
        found = []
        for seed, outside in ((0, 1), (0, 2), (1, 1)):
            torch.manual_seed(outside)
            model = baselines.BASELINES[method](language(), seed=seed)
            found.append(torch.cat([p.detach().flatten() for p in ls.trainable(model).values()]))
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])


def test_mistakes_are_refused_with_a_sentence(monkeypatch) -> None:
    with pytest.raises(UserError, match="a width of at least 1, got 0"):
        baselines.adapter(language(), width=0)
    with pytest.raises(UserError, match="identity, near identity, got 'zero'"):
        baselines.adapter(language(), start="zero")
    with pytest.raises(UserError, match="give after="):
        baselines.adapter(torch.nn.Sequential(torch.nn.Linear(3, 3)))
    with pytest.raises(UserError, match="matches none"):
        baselines.lora(language(), targets="*.nothing")
    with pytest.raises(UserError, match="row of ids"):
        baselines.prefix(language(), tokens=torch.ones(2, 2, dtype=torch.long))
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match=r"the optional package peft.*pip install peft"):
        baselines.lora(language())


def test_finetune_adds_the_penalty_to_the_gradient_and_leaves_it_out_of_the_loss() -> None:
    """The gradient norm that a run reports at its first step is that of loss + penalty."""
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    model = baselines.adalora(language(), steps=9)
    batch = ls.make_batches(task.train, tokenizer, 16)[0]
    total, terms = ls.task_loss(model, batch)
    numbers = list(ls.trainable(model).values())
    norms = []
    for loss in (total / terms, total / terms + baselines.method_of(model).penalty()):
        grads = torch.autograd.grad(loss, numbers, retain_graph=True, allow_unused=True)
        norms.append(float(torch.cat([g.flatten() for g in grads if g is not None]).norm()))
    assert norms[1] > 1.01 * norms[0]
    run = ls.finetune(model, tokenizer, task, lr=1e-4, epochs=1, batch_size=16, test=False)
    # the batch's order differs, which changes float32 sums
    assert run.history[0]["gradient_norm"] == pytest.approx(norms[1], rel=1e-3)
    assert run.history[0]["loss"] == pytest.approx(float(total.detach() / terms), rel=1e-4)


def test_the_papers_table_counts_linear_biases_only_at_every_size() -> None:
    import transformers

    # (hidden size, layers, feed-forward width), and table 5's ratios of BitFit in per cent
    sizes = {(768, 12, 3072, 12): 0.066, (2048, 24, 8192, 32): 0.034, (5120, 40, 20480, 40): 0.014}
    for (hidden, layers, width, heads), printed in sizes.items():
        config = transformers.OPTConfig(
            hidden_size=hidden, num_hidden_layers=layers, ffn_dim=width, word_embed_proj_dim=hidden,
            num_attention_heads=heads,
        )  # fmt: skip
        with torch.device("meta"):
            model = transformers.OPTForCausalLM(config)
        total = sum(p.numel() for p in model.parameters())
        ratios = [
            100 * count(baselines.bitfit(model, norms=norms)) / total for norms in (False, True)
        ]
        assert round(ratios[0], 3) == printed
        assert ratios[1] > ratios[0]


@pytest.mark.parametrize(
    ("method", "killed_after"),
    # AdaLoRA of 12 steps: ranks are all kept up to step 1, shared out up to step 8, then fixed
    [*((m, 5) for m in baselines.BASELINES), ("adalora", 2), ("adalora", 9), ("adalora", 11)],
)
def test_a_killed_run_of_a_baseline_resumes_bit_for_bit(tmp_path, method, killed_after) -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    special = {"adalora": {"steps": 12, "rank": 2, "first_rank": 6},
               "prefix": {"tokens": torch.tensor([5, 6, 7])}}  # fmt: skip

    def start() -> torch.nn.Module:
        return baselines.BASELINES[method](language(), **special.get(method, {}))

    class Killed(Exception):
        pass

    def kill(_: torch.nn.Module, record: dict[str, float]) -> None:
        if record["step"] == killed_after:
            raise Killed

    options = {"lr": 1e-2, "epochs": 6, "batch_size": 8, "checkpoint_every": 1, "test": False}
    whole, resumed = start(), start()
    expected = ls.finetune(whole, tokenizer, task, folder=tmp_path / "whole", **options)
    cut = {"folder": tmp_path / "cut", **options}
    with pytest.raises(Killed):
        ls.finetune(start(), tokenizer, task, probes=[kill], **cut)
    found = ls.finetune(resumed, tokenizer, task, **cut)
    assert len(expected.history) == 12
    assert found.history == expected.history
    assert found.evaluations == expected.evaluations
    wanted = ls.trainable(whole)
    assert wanted
    assert all(torch.equal(p, wanted[n]) for n, p in ls.trainable(resumed).items())
    if method == "adalora":
        patterns = [m.peft_config["default"].rank_pattern for m in (whole, resumed)]
        assert patterns[0] == patterns[1]
        assert sum(map(sum, patterns[0].values())) <= 4 * 2


def test_the_papers_table_counts_two_matrices_and_two_vectors_an_adapter() -> None:
    """Table 5 says 0.265, 0.134 and 0.057 %; of all countings only those with 18 d give that.

    The vectors are two of: bias of the second map, weight and bias of a layer norm.
    """
    import transformers

    printed = {(768, 12): (125_239_296, 0.265), (2048, 24): (1_315_758_080, 0.134),
               (5120, 40): (12_853_473_280, 0.057)}  # fmt: skip

    def ratios(count) -> list[float]:
        return [
            round(100 * 2 * layers * count(d) / total, 3)
            for (d, layers), (total, _) in printed.items()
        ]

    fitting = {
        (vectors, bias)
        for vectors in range(4)
        for bias in (0, 8)
        if ratios(lambda d, v=vectors, b=bias: 16 * d + v * d + b)
        == [ratio for _, ratio in printed.values()]
    }
    assert fitting == {(2, 0)}
    with torch.device("meta"):
        model = transformers.OPTForCausalLM(transformers.OPTConfig())
    assert sum(p.numel() for p in model.parameters()) == 125_239_296
    # ours has both biases and leaves layer norms alone
    assert count(baselines.adapter(model, width=8)) == 2 * 12 * (17 * 768 + 8)
    assert ratios(lambda d: 17 * d + 8)[0] == 0.250


def test_a_rank_below_one_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match="expected rank to be a whole number of at least 1, got 0"):
        baselines.lora(ls.tiny_model("opt"), rank=0)
    with pytest.raises(UserError, match="expected first_rank to be a whole number of at least 8"):
        baselines.adalora(ls.tiny_model("opt"), steps=10, first_rank=7)


def test_lora_says_which_target_takes_no_low_rank_update() -> None:
    with pytest.raises(UserError, match=r"got model.decoder.*layer_norm.weight of shape .*; name"):
        baselines.lora(ls.tiny_model("opt"), targets="*layer_norm")
