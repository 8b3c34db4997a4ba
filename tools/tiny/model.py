"""Qwen3ForCausalLM in PyTorch, written for training speed: tokens lie flat, [tokens, hidden], and only attention sees rows.

Parameter names are Hugging Face's. export() writes the Hugging Face directory's config and weights.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab_size: int = 2560
    hidden_size: int = 256
    intermediate_size: int = 640
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)) * self.weight


def rotate(x, cos, sin):
    """RoPE on x [tokens, heads, dim]; cos, sin [tokens, dim/2]."""
    a, b = x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)
        self.q_norm = RMSNorm(c.head_dim, c.rms_norm_eps)
        self.k_norm = RMSNorm(c.head_dim, c.rms_norm_eps)


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)


def before_attention(layer: Layer, x, cos, sin):
    """q, k, v [tokens, heads, dim], keys and values repeated for their query heads."""
    c, a = layer.c, layer.self_attn
    h = layer.input_layernorm(x)
    q = rotate(a.q_norm(a.q_proj(h).view(-1, c.num_attention_heads, c.head_dim)), cos, sin)
    k = rotate(a.k_norm(a.k_proj(h).view(-1, c.num_key_value_heads, c.head_dim)), cos, sin)
    v = a.v_proj(h).view(-1, c.num_key_value_heads, c.head_dim)
    group = c.num_attention_heads // c.num_key_value_heads
    k, v = (t.repeat_interleave(group, 1) for t in (k, v))
    return q.to(v.dtype), k.to(v.dtype), v


def after_attention(layer: Layer, x, y):
    x = x + layer.self_attn.o_proj(y)
    return x + layer.mlp(layer.post_attention_layernorm(x))


def attend(q, k, v, rows: int):
    """Causal attention inside each of the rows."""
    q, k, v = (t.view(rows, -1, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(-1, y.shape[1] * y.shape[3])


class Model(nn.Module):
    """The parts of Qwen3Model; the embedding is also the output layer."""

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.before, self.after = before_attention, after_attention  # train.py compiles them
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = (2 * c.num_hidden_layers) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(p, std=0.02 if "embed" in name else deep * p.shape[1] ** -0.5)
        pos = torch.arange(c.max_position_embeddings, dtype=torch.float32)
        freq = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, dtype=torch.float32) / c.head_dim)
        angle = pos[:, None] * freq
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, ids):
        """Final hidden states [rows*length, hidden] of ids [rows, length]."""
        rows, length = ids.shape
        cos, sin = self.cos[:length].repeat(rows, 1), self.sin[:length].repeat(rows, 1)
        x = self.embed_tokens(ids.reshape(-1))
        for layer in self.layers:
            x = self.after(layer, x, attend(*self.before(layer, x, cos, sin), rows))
        return x

    def logits(self, x):
        return F.linear(self.norm(x).to(x.dtype), self.embed_tokens.weight)


def export(model: Model, tokenizer, out: Path):
    """config.json, generation_config.json and model.safetensors (bf16)."""
    from safetensors.torch import save_file

    c = model.c
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    config = {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": pad, "eos_token_id": end,
        "head_dim": c.head_dim, "hidden_act": "silu", "hidden_size": c.hidden_size, "initializer_range": 0.02,
        "intermediate_size": c.intermediate_size, "max_position_embeddings": c.max_position_embeddings, "max_window_layers": c.num_hidden_layers,
        "model_type": "qwen3", "num_attention_heads": c.num_attention_heads, "num_hidden_layers": c.num_hidden_layers,
        "num_key_value_heads": c.num_key_value_heads, "rms_norm_eps": c.rms_norm_eps, "rope_scaling": None, "rope_theta": c.rope_theta,
        "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False,
        "vocab_size": c.vocab_size,
    }
    generation = {"bos_token_id": pad, "do_sample": True, "eos_token_id": [end, pad], "pad_token_id": pad, "temperature": 0.3, "top_k": 20, "top_p": 0.9}
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    save_file({"model." + k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in model.named_parameters()}, out / "model.safetensors", {"format": "pt"})


def load(path: Path) -> Model:
    """The exported model, for continuing or evaluating."""
    from safetensors.torch import load_file

    j = json.loads((path / "config.json").read_text())
    m = Model(Config(**{k: j[k] for k in Config.__dataclass_fields__}))
    m.load_state_dict({k.removeprefix("model."): v.float() for k, v in load_file(path / "model.safetensors").items()})
    return m
