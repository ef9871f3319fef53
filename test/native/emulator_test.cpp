// The emulator's behaviour, and that it finds mistakes.
#include <algorithm>
#include <cstdio>

#include "../../native/emulator/checks.h"
#include "emulator_check.h"

namespace alma::test {

namespace {
int passed = 0, failed = 0;
}

bool check(bool condition, const std::string& what) {
  condition ? ++passed : ++failed;
  if (!condition) std::printf("FAILED %s\n", what.c_str());
  return condition;
}

int finish() {
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

void under_every_schedule(const std::function<void(const std::string& schedule)>& body) {
  using emulator::AsyncCompletion;
  using emulator::Order;
  const auto run = [&](const char* name, emulator::Schedule schedule) {
    emulator::set_schedule(schedule);
    body(std::string(name) + " " + std::to_string(schedule.seed));
  };
  run("forward, early", {Order::forward, AsyncCompletion::early, 1});
  run("forward, late", {Order::forward, AsyncCompletion::late, 1});
  run("reversed, early", {Order::reversed, AsyncCompletion::early, 1});
  run("reversed, late", {Order::reversed, AsyncCompletion::late, 1});
  for (uint64_t seed = 1; seed <= 4; ++seed) run("random", {Order::random, AsyncCompletion::random, seed});
  emulator::set_schedule({});
}

void runs_clean(const std::string& what, const std::function<void()>& body) {
  under_every_schedule([&](const std::string& schedule) {
    body();
    cudaDeviceSynchronize();
    check(!emulator::has_report(), what + " (" + schedule + ") was found wrong: " + emulator::last_report());
    emulator::forget_report();
    cudaGetLastError();
  });
}

void is_found(const std::string& what, const std::vector<std::string>& parts, const std::function<void()>& body) {
  under_every_schedule([&](const std::string& schedule) {
    body();
    const cudaError_t status = cudaDeviceSynchronize();
    const std::string finding = emulator::last_report();
    if (check(status == cudaErrorLaunchFailure, what + " (" + schedule + ") was not found")) {
      for (const std::string& part : parts)
        check(finding.find(part) != std::string::npos, what + " (" + schedule + "): no '" + part + "' in: " + finding);
      check(cudaGetErrorString(status) == finding, what + ": the finding is the error's text");
    }
    emulator::forget_report();
    cudaGetLastError();
  });
}

}  // namespace alma::test

namespace {

struct Group {
  const char* name;
  void (*run)();
};
constexpr Group kGroups[] = {
    {"barriers", alma::test::test_barriers},
    {"warps", alma::test::test_warps},
    {"memory", alma::test::test_memory},
    {"asynchronous copies", alma::test::test_async_copies},
    {"tensor cores", alma::test::test_tensor_cores},
    {"hopper", alma::test::test_hopper},
    {"grid order", alma::test::test_grid_order},
    {"clusters", alma::test::test_clusters},
    {"host", alma::test::test_host},
};

void print_settings() {
  using alma::emulator::Order;
  const auto schedule = alma::emulator::schedule();
  std::printf("checks %s, schedule %s, seed %llu\n", alma::emulator::checks_enabled() ? "on" : "off",
              schedule.order == Order::forward    ? "forward"
              : schedule.order == Order::reversed ? "reversed"
                                                  : "random",
              static_cast<unsigned long long>(schedule.seed));
}

}  // namespace

// emulator_test [--list | --settings | group …]: all groups without arguments.
int main(int count, char** arguments) {
  const std::vector<std::string> asked(arguments + 1, arguments + count);
  if (asked == std::vector<std::string>{"--list"}) {
    for (const Group& group : kGroups) std::puts(group.name);
    return 0;
  }
  if (asked == std::vector<std::string>{"--settings"}) {
    print_settings();
    return 0;
  }
  for (const Group& group : kGroups)
    if (asked.empty() || std::find(asked.begin(), asked.end(), group.name) != asked.end()) group.run();
  return alma::test::finish();
}
