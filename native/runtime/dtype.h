// Element types of tensors, and conversions between them. Header-only and free of platform headers: kernels, binding and
// emulator all include it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace alma {

enum class DType : uint8_t {
  f32 = 0,
  bf16 = 1,  // upper half of an f32, stored as uint16_t
  i32 = 2,
  f16 = 3,  // only as the source of a cast: some checkpoints store it, no op computes in it
};

constexpr size_t size_of(DType type) { return type == DType::f32 || type == DType::i32 ? 4 : 2; }

constexpr const char* name_of(DType type) {
  switch (type) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::i32: return "i32";
    case DType::f16: return "f16";
  }
  return "?";
}

inline float f32_from_bf16(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Round to nearest, ties to even; NaN stays NaN (a plain add could carry a NaN's mantissa over into infinity).
inline uint16_t bf16_from_f32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float f32_from_f16(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  uint32_t exponent = (value >> 10) & 0x1fu;
  uint32_t mantissa = value & 0x3ffu;
  uint32_t bits;
  if (exponent == 0x1f) {
    bits = sign | 0x7f800000u | (mantissa << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else if (mantissa == 0) {
    bits = sign;
  } else {  // subnormal: shift the leading one into place
    exponent = 113;
    while ((mantissa & 0x400u) == 0) {
      mantissa <<= 1;
      --exponent;
    }
    bits = sign | (exponent << 23) | ((mantissa & 0x3ffu) << 13);
  }
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

}  // namespace alma
