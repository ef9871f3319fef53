"""Matrix products of other libraries for `npm run bench -- ops`: `blas_peer.py LIBRARY THREADS`, one JSON request a line on stdin,
one answer a line on stdout.

A request is {"dtype", "layout", "m", "n", "k"}; the answer is {"name", "seconds"}, the best of several calls, or {"name", "seconds":
null, "reason"}. openblas, blis and onednn are loaded as they lie in the system's folders, without numpy; torch is imported.
"""
import ctypes
import json
import sys
import time

LIBRARY, THREADS = sys.argv[1], int(sys.argv[2])
FILES = {
    "openblas": ["libopenblas.so.0", "libopenblas.so"],
    "blis": ["libblis.so.4", "libblis.so.3", "libblis.so"],
    "onednn": ["libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"],
}
PACKAGES = {"openblas": "libopenblas0-pthread", "blis": "libblis4-openmp", "onednn": "libdnnl2"}
NAMES = {"openblas": "OpenBLAS", "blis": "BLIS", "onednn": "oneDNN", "torch": "PyTorch"}
ROW_MAJOR, NO_TRANS, TRANS = 101, 111, 112


class Missing(Exception):
    pass


def load():
    for name in FILES[LIBRARY]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise Missing(f"not installed; Debian has it as {PACKAGES[LIBRARY]}")


def random_floats(count):
    values = (ctypes.c_float * count)()
    state = 12345
    for i in range(min(count, 4096)):
        state = (state * 1103515245 + 12345) % 2**31
        values[i] = state / 2**30 - 1
    done = min(count, 4096)
    while done < count:  # the rest as copies
        size = min(done, count - done)
        ctypes.memmove(ctypes.byref(values, 4 * done), values, 4 * size)
        done += size
    return values


def blas_product(library, layout, m, n, k):
    a, b, c = random_floats(m * k), random_floats(k * n), (ctypes.c_float * (m * n))()
    ta, tb = layout[0] == "t", layout[1] == "t"
    integer, real = ctypes.c_int64, ctypes.c_float
    if LIBRARY == "onednn":
        gemm = library.dnnl_sgemm
        gemm.argtypes = [ctypes.c_char, ctypes.c_char, integer, integer, integer, real, ctypes.c_void_p, integer,
                         ctypes.c_void_p, integer, real, ctypes.c_void_p, integer]
        # Row-major, as C's arrays.
        args = (b"T" if ta else b"N", b"T" if tb else b"N", m, n, k, 1.0, a, m if ta else k, b, k if tb else n, 0.0, c, n)
    else:
        gemm = library.cblas_sgemm
        integer = ctypes.c_int
        gemm.argtypes = [integer] * 6 + [real, ctypes.c_void_p, integer, ctypes.c_void_p, integer, real,
                                         ctypes.c_void_p, integer]
        args = (ROW_MAJOR, TRANS if ta else NO_TRANS, TRANS if tb else NO_TRANS, m, n, k, 1.0, a, m if ta else k, b,
                k if tb else n, 0.0, c, n)
    gemm.restype = None
    return lambda: gemm(*args)


def torch_product(torch, dtype, layout, m, n, k):
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    a = torch.randn(k, m, dtype=kind).t() if layout[0] == "t" else torch.randn(m, k, dtype=kind)
    b = torch.randn(n, k, dtype=kind).t() if layout[1] == "t" else torch.randn(k, n, dtype=kind)
    out = torch.empty(m, n, dtype=kind)
    return lambda: torch.matmul(a, b, out=out)


def best_seconds(run, limit=0.6, patience=10):
    """Of four calls at least after one that warms up; of fewer where they take longer than `patience`."""
    times, begin = [], time.perf_counter()
    elapsed = 0
    while (len(times) < 5 or elapsed < limit) and elapsed < patience:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        elapsed = time.perf_counter() - begin
    return min(times[1:] or times)


def main():
    name, library, reason = NAMES[LIBRARY], None, None
    try:
        if LIBRARY == "torch":
            import torch as library

            library.set_num_threads(THREADS)
            name = f"PyTorch {library.__version__}"
        else:
            library = load()
        if LIBRARY == "openblas":
            library.openblas_set_num_threads(THREADS)
        if LIBRARY == "blis":
            library.bli_thread_set_num_threads(ctypes.c_int64(THREADS))
    except Missing as error:
        reason = str(error)
    except Exception as error:
        reason = f"cannot be imported: {error}"
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"name": name, "seconds": None, "reason": reason}
        if reason is None:
            shape = (request["layout"], request["m"], request["n"], request["k"])
            if LIBRARY == "torch":
                answer = {"name": name, "seconds": best_seconds(torch_product(library, request["dtype"], *shape))}
            elif request["dtype"] == "f32":
                answer = {"name": name, "seconds": best_seconds(blas_product(library, *shape))}
            else:
                answer["reason"] = "f32 only"
        print(json.dumps(answer), flush=True)


main()
