#include "tensor_map.h"

#include <cstring>
#include <functional>

#include "../cuda/layout/swizzle.h"
#include "async_proxy.h"
#include "checks.h"
#include "cluster.h"
#include "memory.h"

namespace alma::emulator {

namespace {

struct Box {
  BoxMap map;
  int at[3];
  size_t bytes() const {
    return static_cast<size_t>(map.box[0]) * static_cast<size_t>(map.box[1]) * static_cast<size_t>(map.box[2]) *
           static_cast<size_t>(map.element_bytes);
  }
  // row(its first element in the tensor or null, its offset in the box, how many of its bytes the tensor has)
  template <class Use>
  void each_row(Use use) const {
    const size_t row_bytes = static_cast<size_t>(map.box[0] * map.element_bytes);
    size_t offset = 0;
    for (int z = 0; z < map.box[2]; ++z)
      for (int y = 0; y < map.box[1]; ++y, offset += row_bytes) {
        const int64_t begin = at[0], row = at[1] + int64_t{y}, plane = at[2] + int64_t{z};
        const bool inside = row >= 0 && row < map.extents[1] && plane >= 0 && plane < map.extents[2] && begin >= 0;
        const int64_t count = inside ? std::min<int64_t>(map.box[0], map.extents[0] - begin) : 0;
        char* data = map.data + plane * map.strides[2] + row * map.strides[1] + begin * map.element_bytes;
        if (count > 0) {
          use(data, offset, static_cast<size_t>(count * map.element_bytes));
        } else {
          use(static_cast<char*>(nullptr), offset, size_t{0});
        }
      }
  }
};

Box box_of(const void* map, const int (&coordinates)[3], int rank, const char* what, Here here) {
  Box box;
  std::memcpy(&box.map, map, sizeof box.map);
  if (box.map.rank != rank)
    current_block->fail(std::string(what) + " at " + text_of(here) + " with " + std::to_string(rank) +
                        " coordinates, its tensor map has " + std::to_string(box.map.rank));
  if (coordinates[0] < 0)
    current_block->fail(std::string(what) + " at " + text_of(here) + " begins before the tensor's first column");
  std::memcpy(box.at, coordinates, sizeof box.at);
  return box;
}

// The place in shared memory of 16 bytes.
size_t place(const Box& box, size_t start, size_t offset) {
  return box.map.swizzled ? layout::swizzle_128(start + offset) : start + offset;
}

size_t offset_in_shared(const void* shared) {
  return static_cast<size_t>(static_cast<const char*>(shared) - current_block->shared());
}

// Writes the box to the shared memory of a block.
std::function<void()> fill(const Box& box, Block& block, size_t start) {
  return [box, base = block.shared(), start] {
    box.each_row([&](const char* data, size_t offset, size_t bytes) {
      const auto row_bytes = static_cast<size_t>(box.map.box[0] * box.map.element_bytes);
      for (size_t i = 0; i < row_bytes; i += 16) {
        char chunk[16] = {};
        if (i < bytes) std::memcpy(chunk, data + i, std::min<size_t>(16, bytes - i));
        std::memcpy(base + place(box, start, offset + i), chunk, 16);
      }
    });
  };
}

}  // namespace

void tma_load(void* shared, const void* map, void* mbarrier, const int (&coordinates)[3], int rank, Here here) {
  const Block::Internal internal(*current_block);
  const Box box = box_of(map, coordinates, rank, "a bulk copy", here);
  box.each_row([](char* data, size_t, size_t bytes) {
    if (bytes > 0) check_read(data, bytes, 1);
  });
  current_block->async().load(mbarrier, shared, box.bytes(), fill(box, *current_block, offset_in_shared(shared)), here);
}

void tma_load_multicast(void* shared, const void* map, void* mbarrier, const int (&coordinates)[3], int rank,
                        unsigned blocks, Here here) {
  Block& from = *current_block;
  const Block::Internal internal(from);
  const Box box = box_of(map, coordinates, rank, "a bulk copy", here);
  box.each_row([](char* data, size_t, size_t bytes) {
    if (bytes > 0) check_read(data, bytes, 1);
  });
  const size_t offset = offset_in_shared(shared), barrier = offset_in_shared(mbarrier);
  for (unsigned to = 0; to < 16; ++to) {
    if ((blocks >> to & 1) == 0) continue;
    if (to == from.rank()) {
      from.async().load(mbarrier, shared, box.bytes(), fill(box, from, offset), here);
      continue;
    }
    Block& other = from.cluster().reached(from, to, "a bulk copy at " + text_of(here));
    other.async().load_from(from, barrier, offset, box.bytes(), fill(box, other, offset), here);
  }
}

void tma_store(const void* map, const void* shared, const int (&coordinates)[3], int rank, bool add, Here here) {
  const Block::Internal internal(*current_block);
  const Box box = box_of(map, coordinates, rank, "a bulk store", here);
  if (add && !box.map.is_f32) current_block->fail("a bulk store that adds at " + text_of(here) + " needs f32");
  box.each_row([](char* data, size_t, size_t bytes) {
    if (bytes > 0) check_write(data, bytes, 1);
  });
  const char* base = current_block->shared();
  const auto start = static_cast<size_t>(static_cast<const char*>(shared) - base);
  const auto run = [box, base, start, add] {
    box.each_row([&](char* data, size_t offset, size_t bytes) {
      for (size_t i = 0; i < bytes; i += 16) {
        const char* chunk = base + place(box, start, offset + i);
        const size_t count = std::min<size_t>(16, bytes - i);
        if (!add) {
          std::memcpy(data + i, chunk, count);
          continue;
        }
        for (size_t e = 0; e < count; e += 4) {
          float sum, term;
          std::memcpy(&sum, data + i + e, 4);
          std::memcpy(&term, chunk + e, 4);
          sum += term;
          std::memcpy(data + i + e, &sum, 4);
        }
      }
    });
  };
  current_block->async().store(shared, box.bytes(), run, here);
}

}  // namespace alma::emulator
