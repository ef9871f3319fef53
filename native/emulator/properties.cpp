#include "properties.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace alma::emulator {

namespace {
std::atomic<int>& capability() {
  static std::atomic<int> value = [] {
    const char* text = std::getenv("ALMA_EMULATOR_COMPUTE");
    return text != nullptr && std::strcmp(text, "9.0") == 0 ? 90 : 80;
  }();
  return value;
}
}  // namespace

int compute_capability() { return capability(); }
void set_compute_capability(int value) { capability() = value; }
size_t shared_bytes_per_block() { return capability() == 90 ? 232448 : 166912; }

}  // namespace alma::emulator
