// The kernel of a product, with what is done to a tile of sums before it is stored as a policy:
//
//   struct Epilogue {
//     using Problem = …;                                    // what the kernel is given; a MatmulTiles
//     static void prefetch(p);                              // its tensor maps
//     static void load_columns(p, b, full, n, k, rank);     // see produce()
//     Epilogue(p, shared, consumer, thread);                // one for each thread of a consumer, for all its tiles
//     void begin(place, m);                                 // the tile's first product runs; m is the consumer's first row
//     void before_last();                                   // its last product runs
//     void finish(d, place, m);                             // d are the sums
//     void end();
//   };
#pragma once

#include "../ptx/named_barrier.cuh"
#include "../ptx/set_max_registers.cuh"
#include "matmul_pipeline.cuh"

namespace alma::ALMA_CUDA::hopper {

template <class C, class Epilogue>
__device__ __forceinline__ void consume(const typename Epilogue::Problem& p, MatmulShared<C>& shared, int consumer) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  // Elements from one step of 16 k to the next; where this consumer's 64 rows of a begin.
  constexpr int kStepA = C::kA == Major::k ? 16 : 16 * 64, kStepB = C::kB == Major::k ? 16 : 16 * 64;
  const int rows = consumer * 64 * C::kDepth, rank = rank_in_cluster<C>();
  int stage = 0;
  unsigned parity = 0;
  float d[C::kN / 2];
  Epilogue epilogue(p, shared, consumer, thread);
  for (Items<C> item(p); item.exists(); item.advance()) {
    const TilePlace place = place_of(p, item.at);
    const int m = (place.m * C::kCluster + rank) * C::kM + consumer * 64;
    int previous = stage;
    for (int block = place.k_begin; block < place.k_end; ++block) {
      ptx::mbarrier_wait(&shared.full[stage], parity);
      ptx::keep(d);
      ptx::wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kDepth / 16; ++step) {
        const uint64_t a = ptx::operand<C::kA>(shared.a[stage] + rows + step * kStepA, C::kDepth * 128);
        const uint64_t b = ptx::operand<C::kB>(shared.b[stage] + step * kStepB, C::kDepth * 128);
        multiply<C>(d, a, b, block + step > place.k_begin);
      }
      ptx::wgmma_commit();
      ptx::keep(d);
      ptx::wgmma_wait<1>();
      if (block > place.k_begin) {
        release<C>(&shared.empty[previous], thread);
      } else {
        epilogue.begin(place, m);
      }
      previous = stage;
      if (++stage == C::kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    epilogue.before_last();
    ptx::wgmma_wait<0>();
    ptx::keep(d);
    release<C>(&shared.empty[previous], thread);
    epilogue.finish(d, place, m);
  }
  epilogue.end();
}

template <class C>
__device__ __forceinline__ void meet() {
  if constexpr (C::kCluster == 1) {
    __syncthreads();
  } else {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}

template <class C, class Epilogue>
__global__ void __launch_bounds__(C::kThreads, 1) matmul_kernel(const __grid_constant__ typename Epilogue::Problem p) {
  ALMA_SHARED(MatmulShared<C>, shared);
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.a);
    Epilogue::prefetch(p);
#pragma unroll
    for (int stage = 0; stage < C::kStages; ++stage) {
      ptx::mbarrier_init(&shared.full[stage], 1);
      ptx::mbarrier_init(&shared.empty[stage], 2 * C::kCluster);
    }
    for (ptx::Mbarrier& loaded : shared.loaded) ptx::mbarrier_init(&loaded, 1);
    ptx::mbarrier_init_fence();
  }
  meet<C>();
  if (threadIdx.x < 128) {
    ptx::decrease_registers<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C, Epilogue>(p, shared);
  } else {
    ptx::increase_registers<C::kConsumerRegisters>();
    consume<C, Epilogue>(p, shared, static_cast<int>(threadIdx.x) / 128 - 1);
  }
  // The other block's last arrivals come here.
  if constexpr (C::kCluster > 1) meet<C>();
}

template <class C, class Epilogue>
void launch_tiles(const Context& context, const char* op, const typename Epilogue::Problem& problem) {
  const int items = problem.tiles_m * problem.tiles_n * problem.splits;
  const int most = context.properties.multiprocessors / C::kCluster;
  const int clusters = items < most ? items : most;
  LaunchShape shape{dim3(static_cast<unsigned>(clusters * C::kCluster)), dim3(C::kThreads), sizeof(MatmulShared<C>)};
  shape.cluster = dim3(C::kCluster);
  launch(context, op, shape, matmul_kernel<C, Epilogue>, problem);
}

}  // namespace alma::ALMA_CUDA::hopper
