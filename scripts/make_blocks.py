"""Writes tests/blocks/*.safetensors: one part of a tower each, by the modules of timm and open_clip, with random weights.

    pip install torch timm open_clip_torch safetensors
    python scripts/make_blocks.py                (writes the files, reads them back and checks them)
    python scripts/make_blocks.py --check        (checks the files that are there)

A file holds `input` and `output`, the part's parameters under their canonical names (src/params) relative to the
part's own prefix, and in the safetensors metadata, under `settings`, a JSON object: fields as in models/*.json.
The check computes each output from the canonical names and the settings alone, in float64.
"""
import argparse
import functools
import json
import pathlib
import re

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer
from safetensors import safe_open
from safetensors.torch import save_file
from timm.layers import AttentionPoolLatent, GELUTanh, RotaryEmbeddingCat, SqueezeExcite, apply_rot_embed_cat
from timm.models import fastvit
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem

BLOCKS = pathlib.Path(__file__).resolve().parent.parent / "tests/blocks"
BOUND = 1e-5  # largest difference over the RMS; the modules compute in float32

# open_clip's names, the canonical ones.
RESBLOCK = [("ln_1", "norm1"), ("ln_2", "norm2"), ("attn.in_proj_", "attn.qkv."), ("attn.out_proj", "attn.proj"),
            ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")]
CASES = {}


def case(build):
    """`build` gives inputs, output, module or parameters, renamings and settings."""
    CASES[build.__name__] = build
    return build


def randomized(module, seed=0):
    """Gains near 1, biases that matter, variances of BatchNorm small enough for its epsilon to show."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("gamma"):
                p.normal_(0.5, 0.2)
            elif p.ndim == 1:
                p.normal_(float(name.endswith("weight")), 0.2)
            elif name.endswith(("latent", "cls_token", "pos_embed", "positional_embedding", "token_embedding.weight")):
                p.normal_(0.0, 0.5)
            else:
                p.normal_(0.0, 1.3 * p[0].numel() ** -0.5)
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.normal_(0.0, 0.3)
            elif name.endswith("running_var"):
                b.uniform_(-4.0, 0.5).exp_()
    return module.eval()


def tokens(b, n, d):
    """Positions of very different scale, so that LayerNorm's epsilon shows."""
    return torch.randn(b, n, d) * torch.logspace(-2, 0.5, n)[None, :, None]


def image(b, c, h, w):
    return torch.randn(b, c, h, w)


TRANSFORMER = dict(width=16, heads=2, mlp_dim=40)


def residual_block(act, eps, causal=False):
    layers = {"gelu": torch.nn.GELU, "quick_gelu": QuickGELU}
    block = ResidualAttentionBlock(16, 2, mlp_ratio=2.5, act_layer=layers[act])
    block, x = randomized(block), tokens(2, 5, 16)
    mask = torch.full((5, 5), -torch.inf).triu(1) if causal else None
    return x, block(x, attn_mask=mask), block, RESBLOCK, dict(TRANSFORMER, act=act, norm_eps=eps, causal=causal)


@case
def block_gelu():
    return residual_block("gelu", 1e-5)


@case
def block_quick_gelu():
    return residual_block("quick_gelu", 1e-5)


@case
def block_causal():
    return residual_block("gelu", 1e-5, causal=True)


@case
def block_gelu_tanh():
    norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
    block = randomized(Block(16, 2, mlp_ratio=2.5, qkv_bias=True, act_layer=GELUTanh, norm_layer=norm))
    x = tokens(2, 5, 16)
    return x, block(x), block, [], dict(TRANSFORMER, act="gelu_tanh", norm_eps=1e-6, causal=False)


@case
def last_block():
    """As block_gelu; of its output, the pooled position alone."""
    x, y, block, names, settings = residual_block("gelu", 1e-5)
    return x, y[:, 0], block, names, dict(settings, position=0)


@case
def map_head():
    norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
    head = randomized(AttentionPoolLatent(16, num_heads=4, mlp_ratio=2.5, norm_layer=norm, act_layer=GELUTanh))
    x = tokens(2, 5, 16)
    return x, head(x), head, [], dict(width=16, map_heads=4, map_mlp_dim=40, act="gelu_tanh", norm_eps=1e-6)


@case
def rep_mixer_block():
    block, x = randomized(fastvit.RepMixerBlock(6, mlp_ratio=3.0)), image(2, 6, 7, 5)
    settings = dict(dim=6, mixer_kernel=[3, 3], mlp_kernel=[7, 7], mlp_dim=18, scale_branch=True, act="gelu", bn_eps=1e-5)
    return x, block(x), block, [], settings


@case
def attention_block():
    block = fastvit.AttentionBlock(32, mlp_ratio=0.75)  # heads of 32 channels: one
    block.token_mixer = fastvit.Attention(32, head_dim=8)
    block, x = randomized(block), image(2, 32, 2, 3)
    settings = dict(dim=32, head_dim=8, mlp_dim=24, attn_norm="batch_norm", act="gelu", norm_eps=1e-5, bn_eps=1e-5)
    return x, block(x), block, [], settings


def mobile_one_block(d_in, d_out, stride, groups, se=None):
    block = fastvit.MobileOneBlock(d_in, d_out, 3, stride=stride, group_size=d_in // groups)
    if se:
        block.se = SqueezeExcite(d_out, rd_channels=se)
    block, x = randomized(block), image(2, d_in, 7, 6)
    settings = dict(d_in=d_in, d_out=d_out, kernel=3, stride=stride, groups=groups, scale_branch=True, se=se, act="gelu",
                    bn_eps=1e-5)
    return x, block(x), block, [], settings


@case
def mobile_one():
    """Depthwise, with all three branches."""
    return mobile_one_block(8, 8, 1, 8)


@case
def mobile_one_stem():
    return mobile_one_block(3, 8, 2, 1)


@case
def mobile_one_final():
    """Depthwise with two outputs a channel, and squeeze-and-excite."""
    return mobile_one_block(6, 12, 1, 6, se=3)


@case
def downsample():
    module = fastvit.PatchEmbed(7, 2, 4, 8, lkc_use_act=True, use_se=True)
    module.proj[0].se = SqueezeExcite(8, rd_channels=2)
    module, x = randomized(module), image(2, 4, 9, 6)
    return x, module(x), module.proj, [], dict(d_in=4, d_out=8, se=2, act="gelu", bn_eps=1e-5)


@case
def squeeze_excite():
    module, x = randomized(SqueezeExcite(8, rd_channels=3)), image(2, 8, 3, 4)
    return x, module(x), module, [], dict(dim=8, se=3)


@case
def conv_stem():
    settings = dict(channels=[4, 6, 12], kernels=[4, 2, 2], strides=[4, 2, 2], paddings=[1, 0, 0])
    stem = ConvStem(depth=3, channels=tuple(settings["channels"]), kernel_size=tuple(settings["kernels"]),
                    stride=tuple(settings["strides"]), padding=tuple(settings["paddings"]), act_layer=torch.nn.GELU)
    stem, x = randomized(stem), image(1, 3, 32, 48)
    return x, stem(x), stem, [], dict(settings, act="gelu", bn_eps=1e-5, patch_bias=True)


@case
def patch_embed():
    vit = VisionTransformer(img_size=(8, 12), patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=0)
    vit, x = randomized(vit), image(2, 3, 8, 12)
    parts = {k: v for k, v in vit.state_dict().items() if k.startswith(("patch_embed.", "cls_token", "pos_embed"))}
    settings = dict(image_size=[8, 12], patch_size=4, width=16, patch_bias=True, class_token=True, pos_embed_class=True)
    return x, vit._pos_embed(vit.patch_embed(x)), parts, [], settings


@case
def text_embed_pool():
    """Two rows end before padding, and one holds the largest id twice: the first counts."""
    text = randomized(TextTransformer(context_length=8, vocab_size=32, width=16, heads=2, layers=1, mlp_ratio=2.5, output_dim=12))
    ids = torch.tensor([[30, 5, 31, 0, 0, 0, 0, 0], [30, 7, 2, 9, 11, 3, 8, 31], [30, 31, 4, 31, 6, 0, 0, 0]])
    state = {k: v for k, v in text.state_dict().items() if k != "attn_mask"}
    state["text_projection"] = state["text_projection"].T
    names = [("positional_embedding", "pos_embed"), ("ln_final", "norm"), ("text_projection", "head.weight"),
             ("transformer.resblocks.", "blocks."), *RESBLOCK]
    settings = dict(TRANSFORMER, context_length=8, vocab_size=32, layers=1, act="gelu", norm_eps=1e-5, no_causal_mask=False,
                    pool_type="argmax", embed_dim=12)
    return ids, text(ids), state, names, settings


@case
def naflex_positions():
    """A grid of 4 x 5 for images of other shapes; what padding gets is the first position, as in transformers."""
    torch.manual_seed(0)
    grid, count = torch.randn(4, 5, 8), 24
    shapes = [(4, 5), (3, 7), (8, 3), (2, 2), (1, 9)]
    output, inputs = [], {key: torch.zeros(len(shapes), count, dtype=torch.int64) for key in ("patch_mask", "patch_y", "patch_x")}
    for row, (height, width) in enumerate(shapes):
        resized = F.interpolate(grid.permute(2, 0, 1)[None], (height, width), mode="bilinear", align_corners=False, antialias=True)
        resized = resized[0].flatten(1).T
        output.append(torch.cat([resized, resized[:1].expand(count - len(resized), -1)]))
        at = torch.arange(len(resized))
        for key, values in ("patch_mask", at * 0 + 1), ("patch_y", at // width), ("patch_x", at % width):
            inputs[key][row, : len(resized)] = values
    return inputs, torch.stack(output), dict(pos_embed=grid), [], dict(pos_grid=[4, 5], width=8, shapes=shapes)


def rotary_table(grid, ref, head_dim):
    rope = RotaryEmbeddingCat(head_dim, in_pixels=False, feat_shape=list(grid), ref_feat_shape=list(ref))
    return rope.get_embed(), dict(grid=grid, ref_feat_shape=ref, rope_temperature=10000.0)


@case
def rotary():
    """Of `[B, H, N, head_dim]`; the class token, position 0, is not rotated."""
    table, settings = rotary_table([3, 5], [4, 4], 12)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 12)
    sin, cos = table.chunk(2, -1)
    y = torch.cat([x[:, :, :1], apply_rot_embed_cat(x[:, :, 1:], table)], 2)
    return x, y, dict(sin=sin, cos=cos), [], dict(settings, head_dim=12)


def eva(width, heads, mlp_dim, grid, ref):
    table, settings = rotary_table(grid, ref, width // heads)
    block = randomized(EvaBlock(width, heads, qkv_fused=False, mlp_ratio=(mlp_dim + 0.5) / width, swiglu_mlp=True, scale_mlp=True,
                                scale_attn_inner=True))
    x = tokens(2, 1 + grid[0] * grid[1], width)
    settings = dict(settings, width=width, heads=heads, mlp_dim=mlp_dim, norm_eps=1e-6, scale_mlp=True, scale_attn_inner=True)
    return x, block(x, rope=table), block, [], settings


@case
def eva_block_b():
    """Fewer patches than the reference grid has, as in EVA02-B-16."""
    return eva(16, 2, 42, [3, 2], [4, 4])


@case
def eva_block_l():
    """More patches than the reference grid has, and an MLP of odd width, as in EVA02-L-14-336."""
    return eva(24, 2, 61, [3, 3], [2, 2])


def write(name):
    inputs, output, parameters, names, settings = CASES[name]()
    state = parameters if isinstance(parameters, dict) else parameters.state_dict()
    tensors = dict(inputs if isinstance(inputs, dict) else {"input": inputs}, output=output)
    for key, value in state.items():
        for old, new in names:
            key = re.sub(rf"(^|\.){re.escape(old)}", rf"\1{new}", key)
        if not key.endswith("num_batches_tracked"):
            tensors[key] = value
    path = BLOCKS / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path, {"settings": json.dumps(settings)})
    path.chmod(0o644)


# The same from canonical names and settings.

ACTS = {"gelu": F.gelu, "gelu_tanh": functools.partial(F.gelu, approximate="tanh"), "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}


class Part:
    """Parameters under a prefix, and the settings."""

    def __init__(self, tensors, c, prefix=""):
        self.tensors, self.c, self.prefix = tensors, c, prefix

    def at(self, name):
        return Part(self.tensors, self.c, f"{self.prefix}{name}.")

    def __getitem__(self, name):
        return self.tensors[self.prefix + name]

    def has(self, name):
        return any(key.startswith(self.prefix + name) for key in self.tensors)

    def linear(self, x):
        return x @ self["weight"].T + (self["bias"] if self.has("bias") else 0.0)

    def layer_norm(self, x):
        return F.layer_norm(x, x.shape[-1:], self["weight"], self["bias"], self.c["norm_eps"])

    def conv(self, x, stride=1, groups=1, padding=None):
        padding = self["weight"].shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, self["weight"], self["bias"] if self.has("bias") else None, stride, padding, groups=groups)

    def batch_norm(self, x, eps="bn_eps"):
        scale = self["weight"] / (self["running_var"] + self.c[eps]).sqrt()
        return (x - self["running_mean"][:, None, None]) * scale[:, None, None] + self["bias"][:, None, None]

    def conv_bn(self, x, **how):
        return self.at("bn").batch_norm(self.at("conv").conv(x, **how))

    def act(self, x):
        return ACTS[self.c["act"]](x)

    def mlp(self, x):
        return self.at("fc2").linear(self.act(self.at("fc1").linear(x)))


def attend(q, k, v, heads, mask=0.0):
    """[B, N, D], heads side by side; or [B, H, N, D/H]."""
    q, k, v = (z if z.ndim == 4 else z.unflatten(-1, (heads, -1)).transpose(1, 2) for z in (q, k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def check_block(p, x):
    n = x.shape[1]
    mask = torch.full((n, n), -torch.inf, dtype=x.dtype).triu(1) if p.c.get("causal") else 0.0
    q, k, v = p.at("attn.qkv").linear(p.at("norm1").layer_norm(x)).chunk(3, -1)
    x = x + p.at("attn.proj").linear(attend(q, k, v, p.c["heads"], mask))
    x = x + p.at("mlp").mlp(p.at("norm2").layer_norm(x))
    return x[:, p.c["position"]] if "position" in p.c else x


def check_map_head(p, x):
    k, v = p.at("kv").linear(x).chunk(2, -1)
    q = p.at("q").linear(p["latent"]).expand(len(x), -1, -1)
    x = p.at("proj").linear(attend(q, k, v, p.c["map_heads"]))[:, 0]
    return x + p.at("mlp").mlp(p.at("norm").layer_norm(x))


def check_conv_mlp(p, x):
    x = p.at("conv").conv_bn(x, groups=x.shape[1])
    return p.at("fc2").conv(p.act(p.at("fc1").conv(x)))


def check_branches(p, x, stride, groups):
    y = p.at("conv_kxk.0").conv_bn(x, stride=stride, groups=groups)
    y = y + p.at("conv_scale").conv_bn(x, stride=stride, groups=groups) if p.has("conv_scale") else y
    return y + p.at("identity").batch_norm(x) if p.has("identity") else y


def check_squeeze_excite(p, x):
    y = p.at("fc2").conv(p.at("fc1").conv(x.mean((2, 3), keepdim=True)).relu())
    return x * y.sigmoid()


def check_mobile_one(p, x):
    y = check_branches(p, x, p.c["stride"], p.c["groups"])
    return p.act(check_squeeze_excite(p.at("se"), y) if p.c["se"] else y)


def check_rep_mixer_block(p, x):
    mixer = p.at("token_mixer")
    mixed = check_branches(mixer.at("mixer"), x, 1, x.shape[1]) - mixer.at("norm.identity").batch_norm(x)
    x = x + mixer["layer_scale.gamma"] * mixed
    return x + p["layer_scale.gamma"] * check_conv_mlp(p.at("mlp"), x)


def check_attention_block(p, x):
    y = p.at("norm").batch_norm(x, "norm_eps").flatten(2).transpose(1, 2)
    q, k, v = p.at("token_mixer.qkv").linear(y).chunk(3, -1)
    y = p.at("token_mixer.proj").linear(attend(q, k, v, x.shape[1] // p.c["head_dim"]))
    x = x + p["layer_scale_1.gamma"] * y.transpose(1, 2).reshape(x.shape)
    return x + p["layer_scale_2.gamma"] * check_conv_mlp(p.at("mlp"), x)


def check_downsample(p, x):
    y = sum(p.at(f"0.{conv}").conv_bn(x, stride=2, groups=x.shape[1]) for conv in ("large_conv", "small_conv"))
    return p.act(check_branches(p.at("1"), p.act(check_squeeze_excite(p.at("0.se"), y)), 1, 1))


def check_conv_stem(p, x):
    last = len(p.c["channels"]) - 1
    for i, (stride, padding) in enumerate(zip(p.c["strides"], p.c["paddings"])):
        x = p.at(f"{i}.conv").conv(x, stride=stride, padding=padding)
        x = x if i == last else p.act(p.at(f"{i}.bn").batch_norm(x))
    return x


def check_patch_embed(p, x):
    x = p.at("patch_embed.proj").conv(x, stride=p.c["patch_size"], padding=0).flatten(2).transpose(1, 2)
    return torch.cat([p["cls_token"].expand(len(x), -1, -1), x], 1) + p["pos_embed"]


def check_text_embed_pool(p, ids):
    x = p["token_embedding.weight"][ids] + p["pos_embed"]
    x = check_block(Part(p.tensors, dict(p.c, causal=True), "blocks.0."), x)
    return p.at("head").linear(p.at("norm").layer_norm(x)[torch.arange(len(ids)), ids.argmax(-1)])


def check_naflex_positions(p, mask, y, x):
    """Weights of the grid's lines, as src/towers/naflex.rs has them."""

    def weights(at, size):
        at = (at * mask).double()  # padding takes the first position
        count = at.amax(1, keepdim=True) + 1
        centre = (at + 0.5) * size / count - 0.5
        distance = (centre[..., None] - torch.arange(size)).abs()
        weight = (1 - distance / (size / count).clamp(min=1)[..., None]).clamp(min=0)
        return weight / weight.sum(-1, keepdim=True)

    rows, columns = p.c["pos_grid"]
    return torch.einsum("bni,bnj,ijd->bnd", weights(y, rows), weights(x, columns), p["pos_embed"])


def check_rotary(p, x):
    c = p.c
    rows, columns = (torch.arange(n, dtype=x.dtype) / n * ref for n, ref in zip(c["grid"], c["ref_feat_shape"]))
    bands = c["rope_temperature"] ** -(torch.arange(x.shape[-1] // 4, dtype=x.dtype) / (x.shape[-1] // 4))
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    angles = torch.cat([rows[..., None] * bands, columns[..., None] * bands], -1).flatten(0, 1)
    angles = torch.cat([0 * angles[:1], angles])  # the class token
    for name, wave in ("sin", angles.sin()), ("cos", angles.cos()):
        assert name not in p.tensors or torch.allclose(p[name], wave[1:].repeat_interleave(2, -1), atol=1e-6), name
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin()], -1).flatten(-2)


def check_eva_block(p, x):
    a, heads = p.at("attn"), p.c["heads"]
    y = p.at("norm1").layer_norm(x)
    q, k, v = (a.at(f"{name}_proj").linear(y).unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv")
    y = a.at("norm").layer_norm(attend(check_rotary(p, q), check_rotary(p, k), v, heads))
    x = x + a.at("proj").linear(y)
    y, m = p.at("norm2").layer_norm(x), p.at("mlp")
    return x + m.at("fc2").linear(m.at("norm").layer_norm(F.silu(m.at("fc1_g").linear(y)) * m.at("fc1_x").linear(y)))


CHECKS = [("block_", check_block), ("last_block", check_block), ("mobile_one", check_mobile_one), ("eva_block", check_eva_block)]


def check(path):
    """Largest difference over the RMS; every tensor of the file has to be read."""
    name = path.stem
    with safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    tensors = {key: value.double() if value.is_floating_point() else value for key, value in tensors.items()}
    inputs = [tensors.pop(key) for key in ("input", "patch_mask", "patch_y", "patch_x") if key in tensors]
    expected, read = tensors.pop("output"), set()

    class Read(dict):
        def __getitem__(self, key):
            read.add(key)
            return super().__getitem__(key)

    compute = next((compute for prefix, compute in CHECKS if name.startswith(prefix)), None) or globals()[f"check_{name}"]
    found = compute(Part(Read(tensors), settings), *inputs)
    assert found.shape == expected.shape, (name, found.shape, expected.shape)
    assert read == set(tensors), (name, set(tensors) - read)
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        BLOCKS.mkdir(exist_ok=True)
        for name in CASES:
            write(name)
    errors = {path: check(path) for path in sorted(BLOCKS.glob("*.safetensors"))}
    for path, error in errors.items():
        print(f"{'ok  ' if error < BOUND else 'FAIL'} {path.stem:20} {path.stat().st_size:6} bytes  {error:.1e}")
    assert {path.stem for path in errors} == set(CASES), "a file for every case"
    assert all(error < BOUND for error in errors.values())


if __name__ == "__main__":
    main()
