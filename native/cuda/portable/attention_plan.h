// The list of tiles that an attention kernel works off. Lengths are on the device only, so a kernel of one block a list makes it: tiles
// in descending order of their work (a long one should not be the last to start), bad sequences left out. Grids are sized by the most
// tiles that the extents allow; blocks beyond `count` end at once.
#pragma once

#include "../context.h"
#include "attention_bounds.cuh"

namespace alma::ALMA_CUDA::portable {

struct alignas(16) AttentionTile {
  Sequence sequence;
  int index;  // of the sequence
  int first;  // row or key of the sequence
  int pad[2];
};

enum class TileKind : int { rows, keys };

struct TileList {
  AttentionTile* tiles;
  int* count;
  int* before;  // tiles before sequence i; scratch of the planning
  int capacity, tile_size;
  TileKind kind;
};

// Bytes that `place` takes of the workspace.
size_t tile_list_bytes(const AttentionBounds& bounds, TileKind kind, int tile_size);
// `memory` moves on behind the list.
TileList place_tile_list(const AttentionBounds& bounds, TileKind kind, int tile_size, char*& memory);

void plan_attention(Context& context, const AttentionBounds& bounds, const TileList& list);
// Rows and keys of a backward pass, which also checks that no two sequences share keys.
void plan_attention_backward(Context& context, const AttentionBounds& bounds, const TileList& rows,
                             const TileList& keys);

}  // namespace alma::ALMA_CUDA::portable
