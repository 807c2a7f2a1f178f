"""Other people's training loops on an attached model: Trainer, accelerate, data parallel."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from families import add_dense, attached, case_of, spread, tokens
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training.callbacks import DeltaCallback
from landscape.training.moving import MovingMask


class Rows(torch.utils.data.Dataset):
    """A dozen rows of tokens, as the Trainer wants them."""

    def __init__(self, labels: bool = True) -> None:
        self.ids = tokens(rows=12, length=6)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[i], "labels": self.ids[i]}


def trainer(model: nn.Module, folder: Path, **settings):
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=4, learning_rate=0.02, use_cpu=True,
        report_to=[], disable_tqdm=True, save_strategy="steps", save_steps=2, max_steps=4,
        logging_strategy="no", seed=3, **settings,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=Rows())


@pytest.mark.parametrize("name", ["opt", "llama"])
def test_the_trainer_trains_saves_and_resumes_bit_for_bit(tmp_path, name) -> None:
    """The opt case has a tied, masked embedding: one theta under two names."""
    case = case_of(name)
    targets = ["*.[qv]_proj", "*embed_tokens", "*norm*weight"]
    plain = case.model(torch.float32).state_dict()
    model, _ = attached(case, targets=targets)
    trainer(model, tmp_path / "whole").train()
    whole = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    assert all(t.abs().max() > 0 for t in whole.values() if t.numel())
    again, _ = attached(case, targets=targets)
    trainer(again, tmp_path / "again").train(
        resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2")
    )
    for n, theta in ls.trainable(again).items():
        assert torch.equal(theta, whole[n]), n
    assert torch.equal(case.loss(again), case.loss(model))
    for trained in (model, again):
        ls.detach(trained)
        assert all(torch.equal(v, plain[k]) for k, v in trained.state_dict().items())


def test_the_trainer_takes_the_steps_of_a_plain_loop_and_holds_k_numbers_of_state(tmp_path) -> None:
    model, mask = attached(case_of("opt"))
    twin = copy.deepcopy(model).train()
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    loop = trainer(model, tmp_path, lr_scheduler_type="constant", max_grad_norm=0.0)
    loop.train()
    assert len(seen) == 4
    optimizer = torch.optim.AdamW(ls.trainable(twin).values(), lr=0.02, weight_decay=0.0)
    for ids in seen:
        optimizer.zero_grad()
        twin(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    for name, theta in ls.trainable(model).items():
        # the same arithmetic, fused differently: a step's rounding, amplified at tiny gradients
        torch.testing.assert_close(theta, ls.trainable(twin)[name], rtol=0, atol=1e-3)
    assert sum(s["exp_avg"].numel() for s in loop.optimizer.state.values()) == mask.count


def test_a_trainers_checkpoint_is_the_trained_model(tmp_path) -> None:
    case = case_of("opt")
    model, mask = attached(case)
    trainer(model, tmp_path).train()
    values = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    plain = add_dense(case.model(torch.float32), mask, values)
    saved = type(model).from_pretrained(tmp_path / "checkpoint-4")
    wanted = plain(input_ids=tokens()).logits
    assert torch.equal(saved(input_ids=tokens()).logits, wanted)
    torch.testing.assert_close(model(input_ids=tokens()).logits, wanted)


@pytest.mark.parametrize("targets", ["*.[qv]_proj", ["*embed_tokens", "*.fc1"]])
def test_a_small_checkpoint_holds_theta_alone_and_the_trainer_resumes_from_it_bit_for_bit(
    tmp_path, targets
) -> None:
    case = case_of("opt")
    model, mask = attached(case, targets=targets)
    whole = trainer(model, tmp_path / "whole")
    whole.add_callback(DeltaCallback())
    whole.train()
    folder = tmp_path / "whole" / "checkpoint-2"
    held = {p.name: p.stat().st_size for p in folder.iterdir()}
    # theta three times (delta, model, twice its size in moments) and indices of 8 bytes twice
    assert held["model.safetensors"] < 12 * mask.count + 4000
    assert held["delta.safetensors"] < 8 * mask.count + 4000
    assert "config.json" not in held
    again, _ = attached(case, targets=targets)
    loop = trainer(again, tmp_path / "again")
    loop.add_callback(DeltaCallback())
    loop.train(resume_from_checkpoint=str(folder))
    for n, theta in ls.trainable(again).items():
        assert torch.equal(theta, ls.trainable(model)[n]), n
    fresh = case.model(torch.float32)
    ls.load_delta(fresh, tmp_path / "whole" / "checkpoint-4" / "delta.safetensors")
    assert torch.equal(case.loss(fresh), case.loss(model))
    other = case.model(torch.float32)
    ls.attach(other, ls.random_mask(other, density=0.05, targets=targets, seed=9))
    with pytest.raises(UserError, match="another mask"):
        trainer(other, tmp_path / "other").train(resume_from_checkpoint=str(folder))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_prepared_model_trains_as_the_plain_loop_does(precision) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    case = case_of("opt")
    model, _ = attached(case)
    twin = copy.deepcopy(model)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    optimizer = torch.optim.AdamW(ls.trainable(model).values(), lr=0.02)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    reference = torch.optim.AdamW(ls.trainable(twin).values(), lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        accelerator.backward(case.loss(prepared))
        optimizer.step()
        reference.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = case.loss(twin)
        loss.backward()
        reference.step()
    for name, theta in ls.trainable(accelerator.unwrap_model(prepared)).items():
        # accelerate returns the outputs in float32, so the loss itself is computed wider
        tolerance = 1e-6 if precision == "no" else 0.02
        torch.testing.assert_close(theta, ls.trainable(twin)[name], rtol=0, atol=tolerance)
    ls.detach(accelerator.unwrap_model(prepared))


def test_a_sharded_folder_loads_through_accelerate_and_attaches(tmp_path) -> None:
    from accelerate import dispatch_model, init_empty_weights, load_checkpoint_in_model

    case = case_of("llama")
    plain = case.model(torch.float32)
    plain.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    with init_empty_weights(include_buffers=False):
        empty = type(plain)(plain.config).eval()
    mask = ls.random_mask(empty, density=0.2, seed=1)  # shapes are enough
    with pytest.raises(UserError, match="meta"):
        ls.attach(empty, mask)
    load_checkpoint_in_model(empty, tmp_path, device_map={"": "cpu"})
    devices = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu",
               "model.rotary_emb": "cpu", "lm_head": "cpu"}  # fmt: skip
    model = dispatch_model(empty, devices, main_device="cpu", force_hooks=True)
    hooked = model.model.layers[0].self_attn.q_proj
    assert hasattr(hooked, "_hf_hook")
    forward = hooked.forward
    ls.attach(model, mask)
    values = spread(model)
    dense = add_dense(plain, mask, values)
    case.loss(model).backward()
    case.loss(dense).backward()
    for name, theta in ls.trainable(model).items():
        wanted = dict(dense.named_parameters())[name].grad.view(-1)[mask.indices[name]]
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-4, atol=1e-7)
    ls.detach(model)
    assert hooked.forward == forward


def test_a_mask_that_is_detached_under_accelerates_hooks_is_gone() -> None:
    from accelerate import dispatch_model
    from accelerate.hooks import remove_hook_from_submodules

    case = case_of("llama")
    model, _ = attached(case, density=0.3)
    plain = case.model(torch.float32)
    model = dispatch_model(model, {"": "cpu"}, main_device="cpu", force_hooks=True)
    spread(model)
    assert not torch.equal(case.loss(model), case.loss(plain))
    ls.detach(model)
    assert torch.equal(case.loss(model), case.loss(plain))
    remove_hook_from_submodules(model)
    assert torch.equal(case.loss(model), case.loss(plain))


PARALLEL = 2
STEPS = 3


def _batches() -> list[torch.Tensor]:
    return [tokens(rows=4, length=6, seed=s) for s in range(STEPS)]


def _train(model: nn.Module, thetas, batches) -> None:
    optimizer = torch.optim.AdamW(thetas, lr=0.02)
    for ids in batches:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


TARGETS = ["*.[qv]_proj", "*embed_tokens", "*layer_norm*"]


def _join(rank: int, folder: str) -> None:
    """Meet the other processes at a file, which nobody else can take as they can a port."""
    meeting = (Path(folder) / "meeting").as_uri()
    limit = timedelta(minutes=2)  # a process that waits for one that is gone fails, and says so
    torch.distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=PARALLEL, timeout=limit
    )


def _in_parallel(function: Callable[[int, str], None], folder: Path) -> str:
    """Return code that runs a function of this file in several processes at once."""
    return (
        "import runpy, sys, torch.multiprocessing\n"
        f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        f"own = runpy.run_path({__file__!r})\n"
        f"torch.multiprocessing.start_processes(own[{function.__name__!r}], ({str(folder)!r},), "
        f"nprocs={PARALLEL}, start_method='fork')\n"
    )


def _one_rank(rank: int, folder: str) -> None:
    _join(rank, folder)
    torch.manual_seed(100 + rank)  # the mask must not depend on it
    # at this density some tensors have no entry
    model, mask = attached(case_of("opt"), torch.float64, 0.01, TARGETS)
    assert 0 in {i.numel() for i in mask.indices.values()}
    parallel = nn.parallel.DistributedDataParallel(model)
    own = [ids[rank * 2 : rank * 2 + 2] for ids in _batches()]
    _train(parallel, ls.trainable(model).values(), own)
    result = {n: t.detach() for n, t in ls.trainable(model).items()}
    torch.save((mask.indices, result), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_share_mask_and_theta_and_equal_one_on_the_whole_batch(
    forks, tmp_path
) -> None:
    forks.run(_in_parallel(_one_rank, tmp_path))
    (masks, thetas) = zip(*(torch.load(tmp_path / f"{r}.pt") for r in range(PARALLEL)))
    for name in masks[0]:
        assert torch.equal(masks[0][name], masks[1][name])
        assert torch.equal(thetas[0][name], thetas[1][name])
    model, _ = attached(case_of("opt"), torch.float64, 0.01, TARGETS)
    _train(model, ls.trainable(model).values(), _batches())
    for name, theta in ls.trainable(model).items():
        torch.testing.assert_close(thetas[0][name], theta.detach(), rtol=1e-7, atol=1e-9)


SHARDED = ["*.[qv]_proj", "*.fc1"]


def _shard(model: nn.Module) -> None:
    """Shard every layer, then what is left, as FSDP recipes do; backward gathers again."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PARALLEL,))
    for layer in model.model.decoder.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh)


def _one_shard(rank: int, folder: str) -> None:
    _join(rank, folder)
    torch.manual_seed(100 + rank)
    plain = case_of("opt").model(torch.float64)
    model = copy.deepcopy(plain)
    _shard(model.requires_grad_(False))
    mask = ls.random_mask(model, density=0.05, targets=SHARDED, seed=3)
    ls.attach(model, mask)
    own = [ids[rank * 2 : rank * 2 + 2] for ids in _batches()]
    _train(model, ls.trainable(model).values(), own)
    weight = model.model.decoder.layers[0].self_attn.q_proj.weight
    held = weight.to_local().numel() / weight.numel()
    path = Path(folder) / f"{rank}.safetensors"
    ls.save_delta(model, path)  # every process gathers what tells the base, one tensor at a time
    thetas = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    refused = []
    for attempt in (
        lambda: ls.merge(model),
        lambda: ls.subspace.dense_gradients(model, print).__enter__(),
        lambda: MovingMask(ls.Schedule("static", count=5), model, 3),
        lambda: ls.attach(ls.detach(model), ls.random_mask(model, count=5, targets="*norm*")),
    ):
        try:
            attempt()
        except UserError as error:
            refused.append(str(error))
    same = all(
        torch.equal(p.full_tensor(), dict(plain.named_parameters())[n])
        for n, p in model.named_parameters()
    )
    early = copy.deepcopy(plain)
    ls.attach(early, mask)
    _shard(early)
    try:
        ls.trainable(early)
    except UserError as error:
        refused.append(str(error))
    torch.save((mask.indices, thetas, held, same, refused), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_base_sharded_by_fsdp_trains_theta_as_one_process_does(forks, tmp_path) -> None:
    forks.run(_in_parallel(_one_shard, tmp_path))
    found = [torch.load(tmp_path / f"{r}.pt") for r in range(PARALLEL)]
    model = case_of("opt").model(torch.float64)
    mask = ls.random_mask(model, density=0.05, targets=SHARDED, seed=3)
    ls.attach(model, mask)
    _train(model, ls.trainable(model).values(), _batches())
    for indices, thetas, held, same, refused in found:
        assert held == 0.5  # half of every weight lies on each process
        assert same  # detach leaves the base bit for bit
        for name, theta in ls.trainable(model).items():
            assert torch.equal(indices[name], mask.indices[name])
            assert torch.equal(thetas[name], found[0][1][name])
            torch.testing.assert_close(thetas[name], theta.detach(), rtol=1e-7, atol=1e-9)
        sentences = ("quantised or sharded", "is sharded; make the mask on",
                     "whole gradients for a schedule", "to be weights of linear",
                     "shard the model first")  # fmt: skip
        assert len(refused) == len(sentences)
        assert all(text in error for text, error in zip(sentences, refused, strict=True))
    # a delta of the sharded model is one of the plain model
    ls.detach(model)
    ls.load_delta(model, tmp_path / "0.safetensors")
    assert all(torch.equal(t, found[0][1][n]) for n, t in ls.trainable(model).items())
