// Tensor maps are made by the driver, whose library is not linked: its function is asked for at run time.
#include <cstring>
#include <string>

#include "../launch.h"
#include "../tensor_map.h"
#ifdef ALMA_EMULATOR
#include "../../emulator/tensor_map.h"
#else
#include <cuda.h>
#endif

namespace alma::ALMA_CUDA {

namespace {

[[noreturn]] void refuse(const char* op, const std::string& reason) {
  throw Error("ERR_ALMA_DEVICE", std::string(op) + ": no tensor map: " + reason);
}

void check_boxes(const char* op, const TensorBoxes& boxes) {
  const auto element = static_cast<int64_t>(size_of(boxes.dtype));
  bool fits = reinterpret_cast<uintptr_t>(boxes.data) % 16 == 0 && (boxes.rank == 2 || boxes.rank == 3);
  for (int i = 0; i < boxes.rank; ++i) {
    fits =
        fits && boxes.extents[i] > 0 && boxes.extents[i] < int64_t{1} << 32 && boxes.box[i] > 0 && boxes.box[i] <= 256;
    fits = fits && (i == 0 ? boxes.strides[0] == 1 : boxes.strides[i] * element % 16 == 0);
  }
  fits = fits && boxes.box[0] * element % 16 == 0 && (!boxes.swizzled || boxes.box[0] * element == 128);
  if (!fits) refuse(op, "the tensor's alignment, extents or box do not fit");
}

#ifndef ALMA_EMULATOR
using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encode_function(const char* op) {
  static const Encode function = [op] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    check(op, cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
    if (result != cudaDriverEntryPointSuccess || found == nullptr)
      refuse(op, "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(found);
  }();
  return function;
}
#endif

}  // namespace

TensorMap make_tensor_map(const char* op, const TensorBoxes& boxes) {
  check_boxes(op, boxes);
  TensorMap map{};
#ifdef ALMA_EMULATOR
  emulator::BoxMap encoded{};
  encoded.data = static_cast<char*>(const_cast<void*>(boxes.data));
  encoded.rank = boxes.rank;
  encoded.element_bytes = static_cast<int>(size_of(boxes.dtype));
  encoded.swizzled = boxes.swizzled;
  encoded.is_f32 = boxes.dtype == DType::f32;
  for (int i = 0; i < 3; ++i) {
    encoded.extents[i] = i < boxes.rank ? boxes.extents[i] : 1;
    encoded.strides[i] = i < boxes.rank ? boxes.strides[i] * encoded.element_bytes : 0;
    encoded.box[i] = i < boxes.rank ? boxes.box[i] : 1;
  }
  static_assert(sizeof encoded <= sizeof map);
  std::memcpy(&map, &encoded, sizeof encoded);
#else
  static_assert(sizeof(CUtensorMap) == sizeof map);
  cuuint64_t extents[3], strides[2];
  cuuint32_t box[3], steps[3] = {1, 1, 1};
  for (int i = 0; i < boxes.rank; ++i) {
    extents[i] = static_cast<cuuint64_t>(boxes.extents[i]);
    box[i] = static_cast<cuuint32_t>(boxes.box[i]);
    if (i > 0) strides[i - 1] = static_cast<cuuint64_t>(boxes.strides[i]) * size_of(boxes.dtype);
  }
  const CUresult result = encode_function(op)(
      reinterpret_cast<CUtensorMap*>(&map),
      boxes.dtype == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
      static_cast<cuuint32_t>(boxes.rank), const_cast<void*>(boxes.data), extents, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, boxes.swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) refuse(op, "CUDA driver error " + std::to_string(static_cast<int>(result)));
#endif
  return map;
}

}  // namespace alma::ALMA_CUDA
