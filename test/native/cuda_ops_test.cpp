// The CUDA kernels on the emulator beside the CPU device, with random arguments, under every order of threads.
//   cuda_ops_test [rounds [seed]]
#include <ctime>

#include "cuda_compare.h"

using namespace alma;
using namespace alma::test;

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 4;
  // Fresh numbers in every run; the seed is printed, and gives the same run again.
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : static_cast<uint64_t>(std::time(nullptr));
  test::random.state ^= seed * 0x9e3779b97f4a7c15ull;
  Devices devices;
  const char* const names[] = {"forward", "reversed", "random"};
  for (int round = 0; round < rounds; ++round) {
    emulator::Schedule schedule;
    schedule.order = static_cast<emulator::Order>(round % 3);
    schedule.seed = seed + static_cast<uint64_t>(round);
    emulator::set_schedule(schedule);
    context = "seed " + std::to_string(seed) + ", round " + std::to_string(round) + ", " + names[round % 3];
    compare_training_ops(devices);
    compare_decoding_ops(devices);
    compare_decoding_products(devices);
  }
  std::printf("%d passed, %d failed (seed %llu)\n", passed, failed, static_cast<unsigned long long>(seed));
  return failed == 0 ? 0 : 1;
}
