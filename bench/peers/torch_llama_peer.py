"""PyTorch's side of `npm run bench -- decode train` on the CPU: `torch_llama_peer.py THREADS`, one JSON request a line on stdin, one
answer a line on stdout. LLaMA as transformers has it, in PyTorch alone; random weights.

{"op": "train", "dtype", "sequences", "length", "model": {…}}: a step with gradient clipping and fused AdamW, where this PyTorch has
it; of bf16, with an f32 master. {"op": "prompt", "dtype", "length", "model": {…}}: the logits of the last token. The answer is {"name",
"seconds"} of one of them, or {"name", "seconds": null, "reason"}. What was built for a request is kept for the same one.
"""
import json
import sys
import time

THREADS = int(sys.argv[1])
try:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(THREADS)
    NAME, REASON = f"PyTorch {torch.__version__}", None
except Exception as error:  # a broken installation is an answer too
    NAME, REASON = "PyTorch", f"cannot be imported: {error}"


def parameters_of(shape, dtype):
    width, inner, heads, kv_heads = shape["hiddenSize"], shape["intermediateSize"], shape["heads"], shape["kvHeads"]
    head_dim = width // heads
    normal = lambda *extents: (torch.randn(*extents) * 0.02).to(dtype)
    layers = [
        dict(norm1=torch.ones(width, dtype=dtype), norm2=torch.ones(width, dtype=dtype), q=normal(heads * head_dim, width),
             k=normal(kv_heads * head_dim, width), v=normal(kv_heads * head_dim, width), o=normal(width, heads * head_dim),
             gate=normal(inner, width), up=normal(inner, width), down=normal(width, inner))
        for _ in range(shape["layers"])
    ]
    embedding = normal(shape["vocabSize"], width)
    output = embedding if shape["tied"] else normal(shape["vocabSize"], width)
    return dict(embedding=embedding, output=output, norm=torch.ones(width, dtype=dtype), layers=layers)


def all_of(parameters):
    own = [parameters["embedding"], parameters["norm"]]
    if parameters["output"] is not parameters["embedding"]:
        own.append(parameters["output"])
    return own + [tensor for layer in parameters["layers"] for tensor in layer.values()]


def rms_norm(x, weight):
    if hasattr(F, "rms_norm"):
        return F.rms_norm(x, weight.shape, weight, 1e-5)
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight


def rotate(x, cosine, sine):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1)


def hidden_states(parameters, shape, ids):
    batch, length = ids.shape
    heads, kv_heads = shape["heads"], shape["kvHeads"]
    head_dim = shape["hiddenSize"] // heads
    x = F.embedding(ids, parameters["embedding"])
    frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    for layer in parameters["layers"]:
        y = rms_norm(x, layer["norm1"])
        split = lambda tensor, count: tensor.view(batch, length, count, head_dim).transpose(1, 2)
        q = rotate(split(F.linear(y, layer["q"]), heads), cosine, sine)
        k = rotate(split(F.linear(y, layer["k"]), kv_heads), cosine, sine)
        v = split(F.linear(y, layer["v"]), kv_heads)
        if kv_heads != heads:
            k, v = (tensor.repeat_interleave(heads // kv_heads, 1) for tensor in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(y.transpose(1, 2).reshape(batch, length, -1), layer["o"])
        y = rms_norm(x, layer["norm2"])
        x = x + F.linear(F.silu(F.linear(y, layer["gate"])) * F.linear(y, layer["up"]), layer["down"])
    return rms_norm(x, parameters["norm"])


def adamw(tensors):
    try:
        return torch.optim.AdamW(tensors, lr=1e-4, fused=True)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(tensors, lr=1e-4)


def training(request):
    shape, dtype = request["model"], torch.bfloat16 if request["dtype"] == "bf16" else torch.float32
    parameters = parameters_of(shape, dtype)
    weights = all_of(parameters)
    for tensor in weights:
        tensor.requires_grad_(True)
    masters = [tensor.detach().float() for tensor in weights] if dtype == torch.bfloat16 else weights
    optimizer = adamw(masters)
    ids = torch.randint(3, shape["vocabSize"], (request["sequences"], request["length"]))

    def step():
        for tensor in weights:
            tensor.grad = None
        logits = F.linear(hidden_states(parameters, shape, ids)[:, :-1], parameters["output"])
        loss = F.cross_entropy(logits.reshape(-1, shape["vocabSize"]).float(), ids[:, 1:].reshape(-1))
        loss.backward()
        if masters is not weights:
            for master, tensor in zip(masters, weights):
                master.grad = tensor.grad.float()
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        if masters is not weights:
            with torch.no_grad():
                for master, tensor in zip(masters, weights):
                    tensor.copy_(master)
        return loss.item()

    return step


def prompt(request):
    shape, dtype = request["model"], torch.bfloat16 if request["dtype"] == "bf16" else torch.float32
    parameters = parameters_of(shape, dtype)
    ids = torch.randint(3, shape["vocabSize"], (1, request["length"]))

    def run():
        with torch.inference_mode():
            return F.linear(hidden_states(parameters, shape, ids)[:, -1:], parameters["output"]).argmax().item()

    return run


def seconds_of(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


kept = {}


def answer(request):
    if REASON is not None:
        return {"name": NAME, "seconds": None, "reason": REASON}
    key = json.dumps(request, sort_keys=True)
    try:
        if key not in kept:
            kept.clear()
            run = (training if request["op"] == "train" else prompt)(request)
            kept[key] = run, seconds_of(run)
        run, first = kept[key]
        # The first one warms up, and is all there is where it takes longer than a minute: bf16 on a processor without instructions for it.
        return {"name": NAME, "seconds": first if first > 60 else seconds_of(run)}
    except Exception as error:
        kept.clear()
        return {"name": NAME, "seconds": None, "reason": str(error)[:500]}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
