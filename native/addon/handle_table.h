// Tensors are numbers in JavaScript: 32 bits of slot and 20 bits of generation, exact in a double. A number costs less than an
// object wrap on every op call, and a stale one is recognised instead of being a dangling pointer.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "../runtime/device.h"
#include "../runtime/error.h"

namespace alma::addon {

struct TensorSlot {
  std::shared_ptr<Storage> storage;  // null: the slot is free
  char* data = nullptr;
  int64_t count = 0;
  DType dtype = DType::f32;
  uint32_t generation = 0;
};

class HandleTable {
 public:
  double add(std::shared_ptr<Storage> storage, char* data, int64_t count, DType dtype) {
    uint32_t index;
    if (free_.empty()) {
      index = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    TensorSlot& slot = slots_[index];
    slot.storage = std::move(storage);
    slot.data = data;
    slot.count = count;
    slot.dtype = dtype;
    return static_cast<double>(slot.generation) * 4294967296.0 + index;
  }

  // Throws ERR_ALMA_DISPOSED for a tensor that was disposed, or whose device was.
  const TensorSlot& get(double handle) const {
    const TensorSlot* slot = find(handle);
    if (slot == nullptr) throw Error("ERR_ALMA_DISPOSED", "the tensor or its device was disposed");
    if (slot->storage->device().closed()) throw Error("ERR_ALMA_DISPOSED", "the tensor's device was disposed");
    return *slot;
  }

  // False when the handle was released before: releasing twice is harmless.
  bool release(double handle) {
    const TensorSlot* found = find(handle);
    if (found == nullptr) return false;
    release_slot(static_cast<uint32_t>(found - slots_.data()));
    return true;
  }

  // Releases every tensor of a device that has ended.
  void release_all_of(const Device& device) {
    for (uint32_t index = 0; index < slots_.size(); ++index) {
      if (slots_[index].storage != nullptr && &slots_[index].storage->device() == &device) release_slot(index);
    }
  }

 private:
  void release_slot(uint32_t index) {
    TensorSlot& slot = slots_[index];
    slot.storage.reset();
    slot.data = nullptr;
    slot.generation = (slot.generation + 1) & 0xfffffu;
    free_.push_back(index);
  }

  const TensorSlot* find(double handle) const {
    if (!(handle >= 0 && handle < 4503599627370496.0)) return nullptr;  // 2^52; also false for NaN
    const uint64_t bits = static_cast<uint64_t>(handle);
    const uint32_t index = static_cast<uint32_t>(bits);
    if (index >= slots_.size()) return nullptr;
    const TensorSlot& slot = slots_[index];
    return slot.storage != nullptr && slot.generation == static_cast<uint32_t>(bits >> 32) ? &slot : nullptr;
  }

  std::vector<TensorSlot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace alma::addon
