// Tasks that give memory back in stream order: behind every command that was enqueued before.
#pragma once

#include <utility>
#include <vector>

#include "caching_allocator.h"
#include "command.h"
#include "mapped_file.h"

namespace alma {

class FreeBlocksTask final : public Task {
 public:
  FreeBlocksTask(MemorySource& source, std::vector<CachingAllocator::Block> blocks)
      : source_(source), blocks_(std::move(blocks)) {}
  ~FreeBlocksTask() override {
    for (const auto& block : blocks_) source_.free(block.data, block.bytes);
  }
  void run(Stream&) override {}
  void settle(const Failure*) noexcept override { delete this; }

 private:
  MemorySource& source_;
  std::vector<CachingAllocator::Block> blocks_;
};

class UnmapTask final : public Task {
 public:
  explicit UnmapTask(MappedFile file) : file_(std::move(file)) {}
  void run(Stream&) override {}
  void settle(const Failure*) noexcept override { delete this; }

 private:
  MappedFile file_;
};

}  // namespace alma
