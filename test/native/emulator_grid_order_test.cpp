// Programmatic dependent launch: a kernel that starts before the one before it has ended, and waits for it where it has to. And blocks that
// find out at a counter which of them is last, and merge what the others have written.
#include "../../native/cuda/ptx/grid_dependency.cuh"
#include "emulator_check.h"

namespace alma::test {

namespace {

constexpr int kBlocks = 3, kThreads = 64, kCount = kBlocks * kThreads;

enum class Mistake {
  none,
  no_wait,
  reads_early,
  writes_early,
  counts_early,
  waits_in_one_thread,
  lets_go_too_soon,
  never_waits,
  no_fence_before,
  no_fence_behind,
  writes_late
};

__global__ void produce(float* out) {
  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  out[blockIdx.x * kThreads + threadIdx.x] = static_cast<float>(threadIdx.x);
}

// out = in + weights: the weights are constants, which may be read early.
template <Mistake mistake>
__global__ void consume(const float* in, const float* weights, float* out, unsigned* count) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (mistake == Mistake::lets_go_too_soon) ptx::grid_dependency_launch();
  const float weight = weights[i];
  float early = 0;
  if (mistake == Mistake::reads_early) early = in[i];
  if (mistake == Mistake::writes_early) out[i] = 0;
  if (mistake == Mistake::counts_early && i == 0) atomicAdd(count, 1u);
  const bool waits = mistake != Mistake::no_wait && mistake != Mistake::never_waits &&
                     (mistake != Mistake::waits_in_one_thread || threadIdx.x == 0);
  if (waits) ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  if (mistake == Mistake::never_waits) return;
  out[i] = in[i] + weight + 0 * early;
}

template <class... Parameters, class... Arguments>
void launch_early(cudaStream_t stream, void (*kernel)(Parameters...), Arguments... arguments) {
  ALMA_CUDA::LaunchShape shape{dim3(kBlocks), dim3(kThreads)};
  shape.early_start = true;
  ALMA_CUDA::Context context;
  context.stream = stream;
  context.properties.compute_capability = 90;
  try {
    ALMA_CUDA::launch(context, "test", shape, kernel, arguments...);
  } catch (const Error& error) {
    check(emulator::has_report(), std::string("launch: ") + error.what());
  }
}

struct Chain {
  Device<float> weights{std::vector<float>(kCount, 2.0f)};
  Device<float> first{kCount}, second{kCount}, third{kCount};
  Device<unsigned> count{std::vector<unsigned>(1)};

  // What the last kernel reads was written two kernels before it, and by no other.
  template <Mistake middle, Mistake last>
  void enqueue(cudaStream_t stream) const {
    launch_early(stream, produce, first.get());
    launch_early(stream, consume<middle>, first.get(), weights.get(), second.get(), count.get());
    launch_early(stream, consume<last>, first.get(), weights.get(), third.get(), count.get());
  }
};

template <Mistake middle, Mistake last>
void run_chain() {
  const Chain chain;
  chain.enqueue<middle, last>(nullptr);
  cudaDeviceSynchronize();
  if (last == Mistake::none) {
    const auto values = chain.third.values();
    for (size_t i = 0; i < values.size() && !emulator::has_report(); ++i)
      check(values[i] == static_cast<float>(i % kThreads) + 2, "a value of a chain of kernels");
  }
}

template <Mistake middle, Mistake last>
void run_captured() {
  const Chain chain;
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  chain.enqueue<middle, last>(stream);
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&executable, graph);
  cudaGraphLaunch(executable, stream);
  cudaGraphLaunch(executable, stream);
  cudaStreamSynchronize(stream);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

void launched_late() {
  const Chain chain;
  launch({dim3(kBlocks), dim3(kThreads)}, produce, chain.first.get());
  launch({dim3(kBlocks), dim3(kThreads)}, consume<Mistake::no_wait>, chain.first.get(), chain.weights.get(),
         chain.second.get(), chain.count.get());
}

struct Flag {
  bool last;
};

// Every block adds up its part; the last one to come adds up the parts.
template <Mistake mistake>
__global__ void sum_parts(const float* in, float* parts, float* out, unsigned* arrivals) {
  ALMA_SHARED(Flag, shared);
  if (threadIdx.x == 0) {
    const int block = static_cast<int>(blockIdx.x);
    float sum = 0;
    for (int i = 0; i < kThreads; ++i) sum += in[block * kThreads + i];
    if (mistake != Mistake::writes_late) parts[block] = sum;
    if (mistake != Mistake::no_fence_before) __threadfence();
    shared.last = atomicInc(arrivals, kBlocks - 1) == kBlocks - 1;
    if (mistake != Mistake::no_fence_behind) __threadfence();
    if (mistake == Mistake::writes_late) parts[block] = sum;
  }
  __syncthreads();
  if (!shared.last || threadIdx.x != 32) return;
  float sum = 0;
  for (int block = 0; block < kBlocks; ++block) sum += parts[block];
  *out = sum;
}

template <Mistake mistake>
void run_sum() {
  const Device<float> in(std::vector<float>(kCount, 1.0f)), parts(kBlocks), out(1);
  const Device<unsigned> arrivals(std::vector<unsigned>(1));
  // The counter is as it was: the second launch finds it at 0.
  for (int i = 0; i < 2; ++i)
    launch({dim3(kBlocks), dim3(kThreads), sizeof(Flag)}, sum_parts<mistake>, in.get(), parts.get(), out.get(),
           arrivals.get());
  cudaDeviceSynchronize();
  if (mistake != Mistake::none) return;
  check(out.values()[0] == kCount, "the sum of all parts");
  check(arrivals.values()[0] == 0, "a counter goes back to 0");
}

}  // namespace

void test_grid_order() {
  constexpr Mistake none = Mistake::none;
  runs_clean("kernels that wait for the one before", run_chain<none, none>);
  runs_clean("the same in a graph", run_captured<none, none>);
  runs_clean("a kernel that is launched behind the one before", launched_late);
  runs_clean("what was written two kernels before, read early", run_chain<none, Mistake::reads_early>);
  is_found("a kernel that does not wait", {"before grid_dependency_wait()"}, run_chain<Mistake::no_wait, none>);
  is_found("a kernel that reads early what the one before writes", {"reads what the kernel before it writes"},
           run_chain<Mistake::reads_early, none>);
  is_found("the same in a graph", {"reads what the kernel before it writes"}, run_captured<Mistake::reads_early, none>);
  is_found("a kernel that writes early", {"writes at byte", "before grid_dependency_wait()"},
           run_chain<none, Mistake::writes_early>);
  is_found("a kernel that counts early", {"an atomic operation"}, run_chain<none, Mistake::counts_early>);
  is_found("threads that do not wait themselves", {"before grid_dependency_wait()"},
           run_chain<Mistake::waits_in_one_thread, none>);
  is_found("a kernel behind one that lets it start before it waits itself", {"reads what the kernel before it writes"},
           run_chain<Mistake::lets_go_too_soon, Mistake::reads_early>);
  is_found("a kernel behind one that never waits", {"reads what the kernel before it writes"},
           run_chain<Mistake::never_waits, Mistake::reads_early>);
  runs_clean("the last block adds up", run_sum<none>);
  is_found("an arrival without a fence before it", {"another block"}, run_sum<Mistake::no_fence_before>);
  is_found("an arrival without a fence behind it", {"another block"}, run_sum<Mistake::no_fence_behind>);
  is_found("a part that is written behind the arrival", {"another block"}, run_sum<Mistake::writes_late>);
}

}  // namespace alma::test
