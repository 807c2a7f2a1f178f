"""The query and value layers of the families of transformers, found by "auto"."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import transformers
from samples import short_task
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModel

import landscape as ls
from landscape.errors import UserError
from landscape.identity import mask_digest
from landscape.models import registry
from landscape.models.targets import query_value, target_shapes
from landscape.training import MovingMask, baselines

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
#: architecture -> its sizes; the layers that make its queries and its values; how many they are
FAMILIES: dict[str, tuple[dict[str, object], set[str], int]] = {
    "opt": (SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32}, {"q_proj", "v_proj"}, 4),
    "llama": (SMALL | {"num_key_value_heads": 2}, {"q_proj", "v_proj"}, 4),
    "gpt2": ({"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}, {"c_attn"}, 2),
    "bert": (SMALL, {"query", "value"}, 4),
    "distilbert": (
        {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        {"q_lin", "v_lin"}, 4,
    ),
    "gpt_neox": (SMALL, {"query_key_value"}, 2),
    "bloom": ({"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4},
              {"query_key_value"}, 2),
    "phi3": (SMALL, {"qkv_proj"}, 2),
    "modernbert": (SMALL | {"global_attn_every_n_layers": 1}, {"Wqkv"}, 2),
    "mpnet": (SMALL, {"q", "v"}, 4),
    "deberta-v2": (SMALL, {"query_proj", "value_proj"}, 4),
    "deberta": (SMALL, {"in_proj"}, 2),
    "ctrl": ({"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 64},
             {"Wq", "Wv"}, 4),
    "flaubert": ({"vocab_size": 64, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
                 {"q_lin", "v_lin"}, 4),
    "xlnet": ({"vocab_size": 64, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
              {"q", "v"}, 4),
}  # fmt: skip


def family(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AutoModel.from_config(transformers.AutoConfig.for_model(name, **FAMILIES[name][0]))
    return made.eval()


def last_of(model: nn.Module, first: int) -> Tensor:
    """Return the last token's output where the second token is another one."""
    ids = torch.tensor([[5, first, 9, 11]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, -1]


@pytest.mark.parametrize("name", FAMILIES)
def test_without_the_layers_that_auto_finds_no_token_sees_another(name) -> None:
    """Values of zero carry nothing from token to token, whatever else the model does."""
    model, (_, wanted, count) = family(name), FAMILIES[name]
    found = target_shapes(model, "auto")
    modules = {n if n in dict(model.named_modules()) else n.removesuffix(".weight") for n in found}
    assert {m.rpartition(".")[2] for m in modules} == wanted
    assert len(found) == count
    assert not torch.equal(last_of(model, 7), last_of(model, 8))
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name_ in found:
            named[name_].zero_()
            if (bias := name_.removesuffix("weight") + "bias") in named:
                named[bias].zero_()
    torch.testing.assert_close(last_of(model, 7), last_of(model, 8), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "bert", "gpt2"])
def test_auto_is_what_its_patterns_are_to_every_kind_of_mask(name) -> None:
    model = ls.tiny_model(name)
    patterns = query_value(model)
    assert patterns == {"llama": ["*.[qv]_proj"], "bert": ["*.query", "*.value"],
                        "gpt2": ["*.c_attn"]}[name]  # fmt: skip
    made = {
        "random": lambda targets: ls.random_mask(model, density=0.1, targets=targets),
        "structured": lambda targets: ls.structured_mask(
            model, granularity="columns", density=0.1, targets=targets
        ),
        "selected": lambda targets: ls.select_mask(
            model, score="magnitude", density=0.1, targets=targets
        ),
    }
    for make in made.values():
        ours, theirs = make("auto"), make(patterns)
        assert ours.rule == theirs.rule, "the patterns are stored, not the word"
        assert all(torch.equal(ours.indices[n], theirs.indices[n]) for n in theirs.indices)
    wrapped = baselines.lora(ls.tiny_model(name), rank=2, targets="auto")
    names = {n for n, _ in wrapped.named_parameters() if "lora_A" in n}
    assert len(names) == len(target_shapes(model, patterns))


#: what random and structured masks of ratio 1e-4 and seed 0 were while the default was a pattern
PUBLISHED = {
    "smollm2": (
        transformers.LlamaConfig(
            vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
            num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        ),
        transformers.LlamaForCausalLM,
        {ls.random_mask: "c0d40b7c4e3c4d8678a9cb42809f43a7", ls.structured_mask:
         "eb2443386120411ca2b4330f9198d14d"},
    ),
    "opt-125m": (
        transformers.OPTConfig(), transformers.OPTForCausalLM,
        {ls.random_mask: "569613bcceeeb28558ea07007c674f2c", ls.structured_mask:
         "15f189ae9951b1c4d80118ff70effb17"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_masks_without_targets_are_bit_for_bit_those_that_results_were_published_with(name) -> None:
    config, make_model, digests = PUBLISHED[name]
    with torch.device("meta"):
        model = make_model(config)
    for make, digest in digests.items():
        mask = make(model, ratio=1e-4, seed=0)
        assert mask_digest(mask.indices).startswith(digest)
        assert mask.rule["targets"] == ["*.[qv]_proj"]


def test_every_default_is_the_query_and_value_layers_of_an_encoder_with_names_of_its_own() -> None:
    model, names = ls.tiny_model("bert"), ("query", "value")
    made = [
        ls.random_mask(model, density=0.1), ls.structured_mask(model, density=0.1),
        ls.select_mask(model, score="magnitude", density=0.1),
        MovingMask(ls.Schedule("static", count=5), model, 3)._start,
    ]  # fmt: skip
    wrapped = [baselines.lora(ls.tiny_model("bert")), baselines.adalora(model, steps=9)]
    layers = [{n.removesuffix(".weight") for n in mask.shapes} for mask in made]
    for changed in wrapped:
        held = [n for n, _ in changed.named_modules() if n.endswith(".lora_A")]
        layers.append({n.removeprefix("base_model.model.").removesuffix(".lora_A") for n in held})
    for found in layers:
        assert len(found) == 4
        assert all(name.rpartition(".")[2] in names for name in found)


@pytest.mark.parametrize(
    ("architecture", "patterns"), [("opt", "*.[qv]_proj"), ("gpt2", "*.c_attn")]
)
def test_a_schedules_run_names_the_patterns_that_auto_stood_for(
    architecture, patterns, tmp_path
) -> None:
    """So the folders of runs from before the default was "auto" are those of the same runs."""

    def train(**targets: object) -> ls.Run:
        schedule = ls.Schedule("increment", score="gradient", count=40, steps=2, **targets)
        model = ls.tiny_model(architecture)
        return ls.finetune(
            model, ls.tiny_tokenizer(), short_task(), lr=1e-2, epochs=1, schedule=schedule,
            folder=tmp_path,
        )  # fmt: skip

    named = train(targets=patterns)
    assert named.config["trainable"] == 40
    assert named.config["schedule"]["targets"] == patterns
    assert train().stored
    assert train(targets="auto").stored


def test_auto_names_every_attention_of_a_model_of_two_kinds() -> None:
    def attention(*names: str) -> nn.ModuleDict:
        return nn.ModuleDict({name: nn.Linear(2, 2) for name in names})

    both = nn.ModuleDict({"a": attention("q_proj", "v_proj"), "b": attention("qkv", "proj")})
    assert query_value(both) == ["*.[qv]_proj", "*.qkv"]
    # a name that means something else elsewhere is given with the attention's
    odd = nn.ModuleDict({"attn": attention("query", "value"), "head": attention("value")})
    assert query_value(odd) == ["*.query", "attn.value"]
    assert sorted(target_shapes(odd, "auto")) == ["attn.query.weight", "attn.value.weight"]
    assert query_value(nn.ModuleDict({"x": odd})) == ["*.query", "*.attn.value"]
    inner = nn.ModuleDict(
        {n: nn.ModuleDict({"linear": nn.Linear(2, 2)}) for n in ("q_proj", "v_proj")}
    )
    assert query_value(nn.ModuleDict({"a": inner})) == ["*.q_proj.linear", "*.v_proj.linear"]


def test_layers_of_other_kinds_that_bear_the_names_of_queries_are_left_alone() -> None:
    state_space = nn.ModuleDict({"mixer": nn.ModuleDict({"in_proj": nn.Linear(2, 2)})})
    norms = nn.ModuleDict({"a": nn.ModuleDict({n: nn.LayerNorm(2) for n in ("q", "v")})})
    half = nn.ModuleDict({"a": nn.ModuleDict({n: nn.Linear(2, 2) for n in ("q_proj", "k_proj")})})
    assert [query_value(model) for model in (state_space, norms, half)] == [[], [], []]


def test_auto_beside_other_patterns_adds_to_them() -> None:
    model = ls.tiny_model("opt")
    both = target_shapes(model, ["auto", "*.fc1"])
    assert both == target_shapes(model, ["*.[qv]_proj", "*.fc1"])


def test_auto_for_a_model_without_attention_is_refused_with_names() -> None:
    with pytest.raises(UserError, match=r"got auto for one whose .* not known; .*give targets="):
        ls.random_mask(nn.Sequential(nn.Linear(4, 4)), density=0.5, targets="auto")


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("smollm2-135m", "llama"), ("minilm-l6", "bert"), ("mpnet-base", "mpnet"),
     ("qwen2.5-coder-0.5b", "qwen2")],
)  # fmt: skip
def test_a_packaged_models_record_names_its_query_and_value_layers(name, architecture) -> None:
    config = transformers.AutoConfig.for_model(architecture, **SMALL)
    with torch.device("meta"):
        assert query_value(AutoModel.from_config(config)) == list(registry.PACKAGED[name].targets)


#: families whose default model has no query and value layers, and what it has instead
WITHOUT = {
    **dict.fromkeys(
        ("bit", "convnext", "convnextv2", "dac", "dinov3_convnext", "efficientnet", "focalnet",
         "glm_image_vqmodel", "hgnet_v2", "mobilenet_v1", "mobilenet_v2", "muse_spark_audio",
         "poolformer", "pp_ocrv5_mobile_rec", "pp_ocrv5_server_rec", "pp_ocrv6_small_det",
         "pp_ocrv6_small_rec", "pp_ocrv6_tiny_rec", "pp_ocrv6_medium_det", "regnet", "resnet",
         "textnet", "univnet", "uvdoc", "vibevoice_acoustic_tokenizer",
         "vibevoice_acoustic_tokenizer_decoder", "vibevoice_acoustic_tokenizer_encoder"),
        "convolutions",
    ),
    "encodec": "convolutions and an LSTM",
    "fnet": "Fourier transforms",
    "falcon_mamba": "state spaces", "mamba": "state spaces", "mamba2": "state spaces",
    "bamba": "state spaces alone by default, q_proj and v_proj where attention is asked for",
    "granitemoehybrid": "state spaces alone by default, q_proj and v_proj likewise",
    "patchtsmixer": "gates over time and channels",
    "rwkv": "receptances and decaying values, no queries",
    "swiftformer": "queries and keys, no values",
    "jetmoe": "queries and outputs inside a mixture of experts",
}  # fmt: skip

#: what some families' defaults leave open
NEEDED: dict[str, dict[str, object]] = {
    "autoformer": {"prediction_length": 4},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "hunyuan_v1_dense": {"head_dim": 64},
    "hunyuan_v1_moe": {"head_dim": 64},
    "informer": {"prediction_length": 4},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"], "num_hidden_layers": 2},
    "ministral": {"head_dim": 64},
    "nemotron": {"head_dim": 64, "num_key_value_heads": 8},
    "time_series_transformer": {"prediction_length": 4},
}

_LAYERS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers",
    "num_decoder_layers", "num_encoder_layers", "depth",
)  # fmt: skip


def _shrink(config: transformers.PretrainedConfig) -> transformers.PretrainedConfig:
    """Keep two layers, of every kind that the configuration lists, and four experts."""
    for key, value in list(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig):
            _shrink(value)
        elif isinstance(value, int) and (key in _LAYERS or "num_experts" in key) and value > 4:
            setattr(config, key, 2 if key in _LAYERS else 4)
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list):
        kept = list(dict.fromkeys(kinds)) * 2
        config.num_hidden_layers = max(2, len(kept) // 2)
        config.layer_types = kept[: config.num_hidden_layers]
    return config


@contextmanager
def _seconds(limit: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _built(name: str) -> Iterator[nn.Module]:
    """Yield a family's model without memory: of two layers, then whole; none that asks for more."""
    for shrink in (_shrink, lambda config: config):
        try:
            with _seconds(60), torch.device("meta"):
                model = AutoModel.from_config(shrink(CONFIG_MAPPING[name](**NEEDED.get(name, {}))))
        except Exception:  # a library that is not installed, sizes that do not fit each other
            continue
        yield model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_auto_knows_every_family_of_transformers_that_has_queries_and_values() -> None:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names = [name for name in CONFIG_MAPPING.keys() if name in MODEL_MAPPING_NAMES]  # noqa: SIM118
    found: dict[str, list[str]] = {}
    for name in names:
        for model in _built(name):
            found[name] = query_value(model)
            if found[name]:
                break
    assert len(found) > 0.85 * len(names), "most families build from their defaults"
    assert {name for name, patterns in found.items() if not patterns} == WITHOUT.keys() & found


#: layers counted by hand: two a layer, of which there are two in each stack; T5's decoder looks at
#: itself and at the encoder
COUNTS = {
    "opt": 4, "llama": 4, "qwen2": 4, "gpt2": 2, "t5": 12, "bert": 4, "roberta": 4, "mpnet": 4,
    "deberta-v2": 4, "vit": 4, "clip": 8,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_auto_finds_the_queries_and_values_of_every_tiny_model(name) -> None:
    model = ls.tiny_model(name)
    found = target_shapes(model, "auto")
    assert len(found) == COUNTS[name]
    ends = {n.removesuffix(".weight").rpartition(".")[2] for n in found}
    assert len(ends) == (1 if name == "gpt2" else 2)
    assert not any(end.startswith(("k", "o")) for end in ends)
