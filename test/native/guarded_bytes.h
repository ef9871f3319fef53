// Bytes that end where memory ends: what reads or writes behind them stops the program there.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace alma::test {

class GuardedBytes {
 public:
  GuardedBytes() = default;
  GuardedBytes(size_t size, uint8_t value) : size_(size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = (size + page - 1) / page * page;
    mapped_ = usable + page;
    void* const memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(static_cast<uint8_t*>(memory) + usable, page, PROT_NONE) != 0)
      throw std::bad_alloc();
    base_ = static_cast<uint8_t*>(memory);
    data_ = base_ + usable - size;
    std::memset(data_, value, size);
  }
  GuardedBytes(const GuardedBytes& other) : GuardedBytes(other.size_, 0) {
    if (size_ > 0) std::memcpy(data_, other.data_, size_);
  }
  GuardedBytes(GuardedBytes&& other) noexcept { swap(other); }
  GuardedBytes& operator=(GuardedBytes other) noexcept {
    swap(other);
    return *this;
  }
  ~GuardedBytes() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  bool operator==(const GuardedBytes& other) const {
    return size_ == other.size_ && (size_ == 0 || std::memcmp(data_, other.data_, size_) == 0);
  }

 private:
  void swap(GuardedBytes& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
  }

  uint8_t *base_ = nullptr, *data_ = nullptr;
  size_t size_ = 0, mapped_ = 0;
};

}  // namespace alma::test
