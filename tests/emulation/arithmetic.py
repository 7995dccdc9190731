"""Prints the sha256 of what the libraries compute on this CPU, as JSON; no model is needed.

The shapes are the default model's (576 wide, 1536 in the MLP, heads of 64) and a few others, since
kernels are chosen by shape.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import get_args

from stages._contract.determinism import CpuIsa, limit_cpu, observe

SHAPES = [(64, 576, 576), (64, 1536, 576), (8, 576, 1536), (1, 576, 192), (96, 64, 96)]


def main(isa: str) -> None:
    """Computes with the limit `isa`, on two threads."""
    os.environ.update(OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    limits: dict[str, CpuIsa] = {name: name for name in get_args(CpuIsa)}
    limit_cpu(limits[isa])
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    torch.set_num_threads(2)

    def draw(*shape: int) -> torch.Tensor:
        """Returns exact fractions, so that only what is tested rounds."""
        return torch.randint(-(2**20), 2**20, shape, generator=generator).float() / 2**20

    x, q = draw(64, 576), draw(2, 9, 40, 64)
    results = {
        "attention": functional.scaled_dot_product_attention(q, q, q, is_causal=True),
        "softmax": torch.softmax(x, -1),
        "silu": functional.silu(x),
        "norm": (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt(),
        "logsumexp": torch.logsumexp(x, -1),
        "cos": torch.cos(50 * x),
        "exp": torch.exp(x),
    }
    torch.ops.load_library(find_vllm())
    for m, k, n in SHAPES:
        a, b = draw(m, k), draw(n, k)
        results[f"linear {m}x{k}x{n}"] = functional.linear(a, b)
        results[f"gradient {m}x{k}x{n}"] = a.T @ (a @ b.T)
        handler = torch.tensor(torch.ops._C.create_onednn_mm_handler(b.t(), 32), dtype=torch.int64)
        out = torch.empty(m, n)
        torch.ops._C.onednn_mm(out, a, None, handler)
        results[f"vLLM linear {m}x{k}x{n}"] = out
    digests = {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in results.items()
    }
    print(json.dumps({"digests": digests, "mkl_branch": observe()["mkl_branch"]}))


def find_vllm() -> str:
    """Returns vLLM's kernels for AVX2, which it loads where AVX-512 is not to be used."""
    (path,) = (path for folder in sys.path for path in Path(folder).glob("vllm/_C_AVX2.abi3.so"))
    return str(path)


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # the kernels' destructors are none of this test's business
