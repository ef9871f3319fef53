// RMSNorm (Zhang & Sennrich, 2019), with the residual addition before it, and its gradient.
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// 1 / sqrt as the processor's exact operations have it.
ALMA_INLINE float inverse_sqrt(float x) { return 1.0f / __builtin_sqrtf(x); }

template <class T, class TW>
void forward(ThreadPool& pool, const RmsNormArgs& args) {
  const int64_t cols = args.cols;
  const TW* weight = pointer<TW>(args.weight);
  float* inverse_rms = pointer<float>(args.inverse_rms);
  parallel_rows(pool, args.rows, cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = pointer<T>(args.x, row * cols);
      const T* residual = pointer<T>(args.residual, row * cols);
      T* total = residual ? pointer<T>(args.sum, row * cols) : nullptr;
      T* y = pointer<T>(args.y, row * cols);
      // The sum as it is stored, so that the backward pass, which reads it, differentiates what was computed here.
      const auto value = [&](int64_t i, int lanes) ALMA_LAMBDA {
        const F v = load(x + i, lanes);
        return residual ? rounded_to(x, v + load(residual + i, lanes)) : v;
      };
      F squares[2] = {};
      int64_t i = 0;
      for (; i + 2 * W <= cols; i += 2 * W) {
        const F a = value(i, W), b = value(i + W, W);
        if (total) {
          store(total + i, a);
          store(total + i + W, b);
        }
        squares[0] = a * a + squares[0];
        squares[1] = b * b + squares[1];
      }
      for (; i < cols; i += W) {
        const int lanes = static_cast<int>(min<int64_t>(W, cols - i));
        const F a = value(i, lanes);
        if (total) store(total + i, a, lanes);
        squares[0] = a * a + squares[0];
      }
      const float inverse = inverse_sqrt(sum(squares[0] + squares[1]) / static_cast<float>(cols) + args.epsilon);
      if (inverse_rms) inverse_rms[row] = inverse;
      const T* normalised = total ? total : x;
      const bool add = residual && !total;
      for_lanes(cols, [&](int64_t c, int lanes) ALMA_LAMBDA {
        const F v = add ? value(c, lanes) : load(normalised + c, lanes);
        store(y + c, v * inverse * load(weight + c, lanes), lanes);
      });
    }
  });
}

// dweight is summed over a fixed partition of the rows first, then over the partitions in order.
constexpr int64_t kPartitions = 32;

template <class T, class TW>
void backward(ThreadPool& pool, const RmsNormBackwardArgs& args) {
  const int64_t cols = args.cols;
  const TW* weight = pointer<TW>(args.weight);
  const float* inverse_rms = pointer<float>(args.inverse_rms);
  float* dweight = pointer<float>(args.dweight);
  const int64_t rows_each = max<int64_t>(ceil_div(args.rows, kPartitions), max<int64_t>(1, kElementGrain / cols));
  const int64_t partitions = ceil_div(args.rows, rows_each);
  float* partial = static_cast<float*>(
      dweight ? pool.scratch(0, kSharedSlot, sizeof(float) * static_cast<size_t>(partitions * cols)) : nullptr);
  parallel_ranges(pool, args.rows, rows_each, [&](int64_t begin, int64_t end, int) {
    float* dw = partial ? partial + begin / rows_each * cols : nullptr;
    if (dw) __builtin_memset(dw, 0, sizeof(float) * static_cast<size_t>(cols));
    for (int64_t row = begin; row < end; ++row) {
      const T* dy = pointer<T>(args.dy, row * cols);
      const T* x = pointer<T>(args.x, row * cols);
      T* dx = pointer<T>(args.dx, row * cols);
      const float inverse = inverse_rms[row];
      F dots = {};
      for_lanes(cols, [&](int64_t i, int lanes) ALMA_LAMBDA {
        dots = load(dy + i, lanes) * load(weight + i, lanes) * load(x + i, lanes) + dots;
      });
      const float shrink = sum(dots) / static_cast<float>(cols) * inverse * inverse;
      for_lanes(cols, [&](int64_t i, int lanes) ALMA_LAMBDA {
        const F g = load(dy + i, lanes), v = load(x + i, lanes);
        if (dw) store(dw + i, g * v * inverse + load(dw + i, lanes), lanes);
        F gradient = (g * load(weight + i, lanes) - v * shrink) * inverse;
        if (args.accumulate_dx) gradient += load(dx + i, lanes);
        store(dx + i, gradient, lanes);
      });
    }
  });
  if (!dweight) return;
  parallel_ranges(pool, cols, max<int64_t>(W, kElementGrain / partitions / W * W),
                  [&](int64_t begin, int64_t end, int) {
                    for_lanes(end - begin, [&](int64_t i, int lanes) ALMA_LAMBDA {
                      F total = {};
                      for (int64_t p = 0; p < partitions; ++p) total += load(partial + p * cols + begin + i, lanes);
                      store(dweight + begin + i, load(dweight + begin + i, lanes) + total, lanes);
                    });
                  });
}

}  // namespace

void rms_norm(ThreadPool& pool, const RmsNormArgs& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const TensorRef* const others[] = {&args.residual, &args.y, &args.sum};
  for (const TensorRef* other : others) same_dtype("rms_norm", args.x, *other);
  with_float("rms_norm", args.x.dtype, [&](auto tag) {
    with_float("rms_norm", args.weight.dtype, [&](auto tag_weight) {
      forward<typename decltype(tag)::type, typename decltype(tag_weight)::type>(pool, args);
    });
  });
}

void rms_norm_backward(ThreadPool& pool, const RmsNormBackwardArgs& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  same_dtype("rms_norm_backward", args.x, args.dy);
  same_dtype("rms_norm_backward", args.x, args.dx);
  with_float("rms_norm_backward", args.x.dtype, [&](auto tag) {
    with_float("rms_norm_backward", args.weight.dtype, [&](auto tag_weight) {
      backward<typename decltype(tag)::type, typename decltype(tag_weight)::type>(pool, args);
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA
