"""Each algorithm's loss on a tiny model: by its paper's formula, by TRL, and the recorded value."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig

from stages._contract.params import load
from stages.grpo.stage import WitnessedTrainer, to_trl
from tests.algorithms import ALGORITHMS, apply
from tests.tiny_model import write_model

if TYPE_CHECKING:
    from stages.grpo.params import GrpoParams

pytestmark = pytest.mark.pipeline

PARAMS = Path(__file__).parents[2] / "params.yaml"
ADVANTAGES = (1.5, -1.0, 0.5, -0.25)
LENGTHS = (6, 3, 1, 5)  # tokens of the four completions
NUM_PROMPT_TOKENS = 3
# Off policy: the policy that sampled had other probabilities, with ratios from about 0.2 to 5.
SPREAD, REFERENCE_SPREAD = 0.8, 0.3
RECORDED = {
    "grpo": -0.17563,
    "r1_stage_1": -0.29750,
    "dapo": -0.28221,
    "dr_grpo": -0.12729,
    "bnpo": -0.27152,
    "gspo": -0.14578,
    "cispo": 2.13896,
}


def params_of(name: str) -> GrpoParams:
    """Returns the algorithm's parameters for one pass of four completions; on a CPU, without vLLM.

    DAPO's overlong punishment and the sampling are no part of a loss.
    """
    params: GrpoParams = apply(load(PARAMS, "grpo"), ALGORITHMS[name])
    sizes: dict[str, Any] = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    sizes |= {"num_generations": 4, "steps_per_generation": None, "max_completion_length": 8}
    return replace(params, rewards={"answer_accuracy": 1.0}, **sizes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_model(folder, num_steps=0)
    return folder


def reward(completions: list[Any], **columns: Any) -> list[float]:
    """Stands where TRL asks for one; no loss calls it."""
    del columns
    return [0.0 for _ in completions]


def make_trainer(params: GrpoParams, model: Path, work: Path) -> WitnessedTrainer:
    rows = [{"prompt": [{"role": "user", "content": "1"}], "answer": "1"}]
    trainer = WitnessedTrainer(
        model=str(model),
        reward_funcs=[reward],
        args=GRPOConfig(**to_trl(params, work)),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.current_gradient_accumulation_steps = 1  # as transformers sets it in training
    trainer.model.train()
    return trainer


def make_batch(trainer: WitnessedTrainer, spread: float) -> dict[str, torch.Tensor]:
    """Returns a batch as TRL samples one, and the trainer's own log-probabilities as `logps`."""
    generator = torch.Generator().manual_seed(0)
    width = max(LENGTHS)
    shape = (len(LENGTHS), width)
    prompts = torch.randint(3, 200, (len(LENGTHS), NUM_PROMPT_TOKENS), generator=generator)
    completions = torch.randint(3, 200, shape, generator=generator)
    mask = (torch.arange(width) < torch.tensor(LENGTHS).unsqueeze(1)).int()
    ids = torch.cat([prompts, completions], dim=1)
    seen = torch.cat([torch.ones_like(prompts), mask], dim=1)
    with torch.no_grad():
        logps = trainer._get_per_token_logps_and_entropies(trainer.model, ids, seen, width)[0]
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions,
        "completion_mask": mask,
        "advantages": torch.tensor(ADVANTAGES),
        "old_per_token_logps": logps + spread * torch.randn(shape, generator=generator),
        "ref_per_token_logps": logps + REFERENCE_SPREAD * torch.randn(shape, generator=generator),
        "num_items_in_batch": mask.sum(),
        "logps": logps,
    }


def compute_by_trl(trainer: WitnessedTrainer, batch: dict[str, torch.Tensor]) -> float:
    """Returns TRL's loss."""
    return float(trainer._compute_loss(trainer.model, batch).detach())


def expect(params: GrpoParams, batch: dict[str, torch.Tensor]) -> float:
    """Returns the loss as the papers write it, in float64."""
    logps, old, ref = (
        batch[key].double() for key in ("logps", "old_per_token_logps", "ref_per_token_logps")
    )
    mask = batch["completion_mask"].double()
    lengths = mask.sum(dim=1, keepdim=True)
    advantages = batch["advantages"].double().unsqueeze(1)
    log_ratio = logps - old
    if params.importance_sampling_level == "sequence":  # GSPO, equation 7
        log_ratio = ((log_ratio * mask).sum(dim=1, keepdim=True) / lengths).expand_as(mask)
    ratio = log_ratio.exp()
    high = params.epsilon if params.epsilon_high is None else params.epsilon_high
    if params.loss_type == "cispo":  # MiniMax-M1, equation 4
        gain = ratio.clamp(max=high) * advantages * logps
    else:  # DeepSeekMath, equation 3; DAPO, equation 8
        clipped = ratio.clamp(1 - params.epsilon, 1 + high)
        gain = torch.minimum(ratio * advantages, clipped * advantages)
    divergence = (ref - logps).exp() - (ref - logps) - 1  # DeepSeekMath, equation 4
    if params.use_bias_correction_kl:  # DeepSeek-V3.2, equation 7
        divergence = divergence * ratio
    tokens = (gain - params.beta * divergence) * mask
    if params.loss_type == "grpo":
        return -float((tokens.sum(dim=1) / lengths.squeeze(1)).mean())
    if params.loss_type == "dr_grpo":
        return -float(tokens.sum() / (len(LENGTHS) * params.max_completion_length))
    return -float(tokens.sum() / mask.sum())


def compute(name: str, model: Path, work: Path, spread: float) -> tuple[float, float]:
    """Returns the loss by TRL and by formula."""
    params = params_of(name)
    trainer = make_trainer(params, model, work)
    batch = make_batch(trainer, spread)
    return compute_by_trl(trainer, batch), expect(params, batch)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_loss_is_the_paper_s_and_the_recorded_one(name: str, model: Path, tmp_path: Path) -> None:
    params = params_of(name)
    trainer = make_trainer(params, model, tmp_path)
    batch = make_batch(trainer, SPREAD)
    found = compute_by_trl(trainer, batch)
    assert found == pytest.approx(expect(params, batch), rel=1e-4)
    assert found == pytest.approx(RECORDED[name], rel=1e-3)
    trainer.share_prompts = True
    assert compute_by_trl(trainer, batch) == pytest.approx(found, rel=1e-5)


def test_recorded_losses_differ() -> None:
    values = sorted(RECORDED.values())
    assert RECORDED.keys() == ALGORITHMS.keys()
    assert min(b - a for a, b in pairwise(values)) > 1e-3


def test_on_policy_clipping_and_the_level_of_the_ratio_change_nothing(
    model: Path, tmp_path: Path
) -> None:
    """All ratios are 1: GSPO and clip-higher are GRPO without a divergence, to the last bit."""
    plain = replace(params_of("gspo"), importance_sampling_level="token", epsilon_high=None)
    trainer = make_trainer(plain, model, tmp_path)
    batch = make_batch(trainer, 0.0)
    mean = sum(ADVANTAGES) / len(ADVANTAGES)
    loss = compute_by_trl(trainer, batch)
    assert loss == pytest.approx(-mean, rel=1e-5)
    assert compute("gspo", model, tmp_path, 0.0)[0] == loss
    wide = replace(plain, epsilon_high=0.28)
    assert compute_by_trl(make_trainer(wide, model, tmp_path), batch) == loss
