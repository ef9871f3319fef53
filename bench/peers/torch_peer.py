"""PyTorch's side of `npm run bench -- --device cuda`: one JSON request a line on stdin, one answer a line on stdout.

A request names an op and its extents; the answer is {"name", "seconds"}, the time of one call on the GPU by CUDA events, or
{"name", "seconds": null, "reason"} where this PyTorch cannot. Inputs are random; what was built for a request is kept for its repeats.
"""
import json
import sys

try:
    import torch
    import torch.nn.functional as F

    REASON = None if torch.cuda.is_available() else "PyTorch sees no GPU"
except Exception as error:  # a broken installation is an answer too
    torch = None
    REASON = f"PyTorch cannot be imported: {error}"

kept = {}


def timed(run, target=0.15):
    """Seconds of one call, over about `target` seconds of them."""
    for _ in range(3):
        run()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def measure(calls):
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / calls

    return measure(max(10, min(2000, int(target / max(measure(5), 1e-6)))))


def normal(*shape, dtype=None, grad=False):
    return torch.randn(*shape, device="cuda", dtype=dtype or torch.bfloat16, requires_grad=grad)


def matmul(layout, m, n, k):
    a = normal(k, m).t() if layout == "tn" else normal(m, k)
    b = normal(n, k).t() if layout == "nt" else normal(k, n)
    out = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
    return "torch.matmul", lambda: torch.matmul(a, b, out=out)


def attention(batch, length, heads, headDim, backward):
    """The best of scaled_dot_product_attention's backends."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (normal(batch, heads, length, headDim, grad=backward) for _ in range(3))
    dout = normal(batch, heads, length, headDim)
    best = None
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        try:
            with sdpa_kernel(backend):
                out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                if backward:
                    run = lambda out=out: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
                else:
                    def run(backend=backend):
                        with sdpa_kernel(backend):
                            F.scaled_dot_product_attention(q, k, v, is_causal=True)
                seconds = timed(run, 0.05)
        except RuntimeError:
            continue
        if best is None or seconds < best[0]:
            best = (seconds, backend.name.lower(), run)
    return f"scaled_dot_product_attention ({best[1]})", best[2]


def rms_norm(rows, cols):
    x, residual, weight = normal(rows, cols), normal(rows, cols), normal(cols)

    @torch.compile
    def body(x, residual, weight):
        total = x + residual
        wide = total.float()
        return total, (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight

    return "torch.compile", lambda: body(x, residual, weight)


def rope(tokens, heads, headDim):
    x = normal(tokens, heads, headDim)
    cosine, sine = (normal(tokens, 1, headDim // 2, dtype=torch.float32) for _ in range(2))

    @torch.compile
    def body(x, cosine, sine):
        a, b = x.float().chunk(2, -1)
        return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1).to(x.dtype)

    return "torch.compile", lambda: body(x, cosine, sine)


def swi_glu(rows, cols):
    gate, up = normal(rows, cols), normal(rows, cols)
    body = torch.compile(lambda gate, up: F.silu(gate) * up)
    return "torch.compile", lambda: body(gate, up)


def cross_entropy(rows, vocab):
    logits = normal(rows, vocab, grad=True)
    targets = torch.randint(vocab, (rows,), device="cuda")
    body = torch.compile(lambda logits, targets: F.cross_entropy(logits.float(), targets))

    def run():
        logits.grad = None
        body(logits, targets).backward()

    return "torch.compile", run


def adamw(count):
    """f32 parameters: fused AdamW has no bf16 weights with a master, so its bytes are two a parameter fewer."""
    parameter = torch.nn.Parameter(normal(count, dtype=torch.float32))
    parameter.grad = normal(count, dtype=torch.float32)
    optimizer = torch.optim.AdamW([parameter], fused=True)
    return "fused AdamW", optimizer.step


def llama(layers, vocabSize, hiddenSize, intermediateSize, numAttentionHeads):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabSize, hidden_size=hiddenSize, intermediate_size=intermediateSize, num_hidden_layers=layers,
        num_attention_heads=numAttentionHeads, tie_word_embeddings=False)
    with torch.device("cuda"):
        return LlamaForCausalLM(config).to(torch.bfloat16)


def decode(scale, layers, sequences, **shape):
    model = llama(layers, **shape).eval()
    ids = torch.randint(3, shape["vocabSize"], (sequences, 64 if scale == "full" else 4), device="cuda")
    few, many = (8, 72) if scale == "full" else (1, 3)

    def seconds(count):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        with torch.inference_mode():
            model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000

    seconds(few)
    return "transformers generate", (seconds(many) - seconds(few)) / (many - few)


def train(scale, layers, sequences, length, **shape):
    model = llama(layers, **shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(3, shape["vocabSize"], (sequences, length), device="cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return "transformers, fused AdamW", timed(step, 1.0)


OPS = {f.__name__: f for f in (matmul, attention, rms_norm, rope, swi_glu, cross_entropy, adamw, decode, train)}


def answer(request):
    if REASON is not None:
        return {"name": "PyTorch", "seconds": None, "reason": REASON}
    arguments = dict(request)
    op = arguments.pop("op")
    key = json.dumps(request, sort_keys=True)
    try:
        if key not in kept:
            kept.clear()  # one request's tensors at a time
            torch.cuda.empty_cache()
            kept[key] = OPS[op](**arguments)
        name, body = kept[key]
        seconds = body if isinstance(body, float) else timed(body)
        return {"name": f"{name} {torch.__version__}", "seconds": seconds}
    except Exception as error:
        kept.clear()
        return {"name": f"{op}, PyTorch {torch.__version__}", "seconds": None, "reason": str(error)[:500]}
    finally:
        if op in ("decode", "train"):
            kept.clear()
            torch.cuda.empty_cache()


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
