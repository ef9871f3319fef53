// Reading the arguments of an op call. Raw Node-API: an op call is the hot path of the binding (goal: below 1 µs).
#pragma once

#include <node_api.h>

#include <climits>
#include <cmath>
#include <string>

#include "environment.h"

namespace alma::addon {

class Arguments {
 public:
  static constexpr size_t kMost = 32;

  Arguments(napi_env env, napi_callback_info info, const char* op) : env_(env), op_(op) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count_, values_, nullptr, &data);
    if (count_ > kMost) count_ = kMost;
    environment_ = static_cast<Environment*>(data);
  }

  Environment& environment() const { return *environment_; }
  Device& device() const { return *device_; }

  // A tensor with at least `needed` elements. All tensors of a call must lie on one device.
  TensorRef tensor(size_t index, const char* name, int64_t needed) {
    const TensorSlot& slot = environment_->tensors.get(number(index, name));
    Device& device = slot.storage->device();
    if (device_ == nullptr) {
      device_ = &device;
    } else if (device_ != &device) {
      fail(name, "is on another device");
    }
    if (needed < 0 || slot.count < needed) {
      fail(name, "has " + std::to_string(slot.count) + " elements, " + std::to_string(needed) + " are needed");
    }
    if (Recording* recording = device.recording()) recording->storages.push_back(slot.storage);
    return {slot.data, slot.dtype};
  }

  TensorRef floats(size_t index, const char* name, int64_t needed) {
    const TensorRef ref = tensor(index, name, needed);
    if (ref.dtype != DType::f32 && ref.dtype != DType::bf16)
      fail(name, std::string("is ") + name_of(ref.dtype) + ", expected f32 or bf16");
    return ref;
  }
  TensorRef f32(size_t index, const char* name, int64_t needed) { return of_dtype(index, name, needed, DType::f32); }
  TensorRef i32(size_t index, const char* name, int64_t needed) { return of_dtype(index, name, needed, DType::i32); }

  // The number −1 stands for an absent tensor.
  bool present(size_t index) const {
    double value = -1;
    return index < count_ && napi_get_value_double(env_, values_[index], &value) == napi_ok && value >= 0;
  }
  TensorRef optional_floats(size_t index, const char* name, int64_t needed) {
    return present(index) ? floats(index, name, needed) : TensorRef{};
  }
  TensorRef optional_f32(size_t index, const char* name, int64_t needed) {
    return present(index) ? f32(index, name, needed) : TensorRef{};
  }
  TensorRef optional_i32(size_t index, const char* name, int64_t needed) {
    return present(index) ? i32(index, name, needed) : TensorRef{};
  }

  // Of two numbers, seedLow and seedHigh, from `index` on.
  uint64_t seed(size_t index) {
    return static_cast<uint64_t>(extent(index, "seedLow")) | static_cast<uint64_t>(extent(index + 1, "seedHigh")) << 32;
  }

  void same_dtype(const TensorRef& a, const TensorRef& b, const char* names) const {
    if (b.data != nullptr && a.dtype != b.dtype) {
      fail(names, std::string("differ in dtype: ") + name_of(a.dtype) + " and " + name_of(b.dtype));
    }
  }

  double number(size_t index, const char* name) const {
    double value = 0;
    if (index >= count_ || napi_get_value_double(env_, values_[index], &value) != napi_ok)
      fail(name, "is not a number");
    return value;
  }
  // An extent: an integer from 0 to 2^40, so that products of two of them and a size stay within 64 bits after product().
  int64_t extent(size_t index, const char* name) const {
    const double value = number(index, name);
    if (!(value >= 0 && value <= 1099511627776.0) || value != std::floor(value)) fail(name, "is not an extent");
    return static_cast<int64_t>(value);
  }
  int32_t integer(size_t index, const char* name) const {
    const double value = number(index, name);
    if (!(value >= INT32_MIN && value <= INT32_MAX) || value != std::floor(value))
      fail(name, "is not a 32-bit integer");
    return static_cast<int32_t>(value);
  }
  float real(size_t index, const char* name) const { return static_cast<float>(number(index, name)); }
  bool boolean(size_t index, const char* name) const {
    bool value = false;
    if (index >= count_ || napi_get_value_bool(env_, values_[index], &value) != napi_ok) fail(name, "is not a boolean");
    return value;
  }

  Invariance invariance(size_t index) const {
    const int32_t value = integer(index, "invariance");
    if (value < 0 || value > 2) fail("invariance", "is unknown");
    return static_cast<Invariance>(value);
  }

  int64_t product(int64_t a, int64_t b) const {
    int64_t result;
    if (__builtin_mul_overflow(a, b, &result)) fail("extents", "are too large");
    return result;
  }
  int64_t product(int64_t a, int64_t b, int64_t c) const { return product(product(a, b), c); }

  [[noreturn]] void fail(const char* name, const std::string& what) const {
    throw Error("ERR_ALMA_SHAPE", std::string(op_) + ": " + name + " " + what);
  }

 private:
  TensorRef of_dtype(size_t index, const char* name, int64_t needed, DType dtype) {
    const TensorRef ref = tensor(index, name, needed);
    if (ref.dtype != dtype) fail(name, std::string("is ") + name_of(ref.dtype) + ", expected " + name_of(dtype));
    return ref;
  }

  napi_env env_;
  const char* op_;
  size_t count_ = kMost;
  napi_value values_[kMost];
  Environment* environment_ = nullptr;
  Device* device_ = nullptr;
};

// A function of the addon that reads its own arguments. Body: void(Arguments&).
template <void (*Body)(Arguments&), const char* const& Name>
napi_value raw_function(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, Name);
  try {
    Body(arguments);
  } catch (const Error& error) {
    napi_throw(env, arguments.environment().make_error(error.code(), error.what()));
  } catch (const std::bad_alloc&) {
    napi_throw(env, arguments.environment().make_error("ERR_ALMA_OUT_OF_MEMORY", "out of host memory"));
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  }
  return nullptr;
}

// Names the function for its error messages and registers it.
#define ALMA_EXPORT_RAW(name, body)                                                                                   \
  do {                                                                                                                \
    static constexpr const char* op_name = name;                                                                      \
    napi_value function;                                                                                              \
    napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, raw_function<body, op_name>, environment, &function); \
    exports.Set(name, Napi::Value(exports.Env(), function));                                                          \
  } while (false)

}  // namespace alma::addon
