#include "report.h"

#include <atomic>
#include <cstring>
#include <mutex>

namespace alma::emulator {

namespace {
std::mutex mutex;
std::string text;
std::atomic<bool> reported{false};
}  // namespace

std::string text_of(Here here) {
  const char* slash = std::strrchr(here.file, '/');
  return std::string(slash ? slash + 1 : here.file) + ":" + std::to_string(here.line);
}

void report(const std::string& finding) {
  std::lock_guard lock(mutex);
  if (reported) return;
  text = finding;
  reported = true;
}

bool has_report() { return reported; }

std::string last_report() {
  std::lock_guard lock(mutex);
  return text;
}

void forget_report() {
  std::lock_guard lock(mutex);
  text.clear();
  reported = false;
}

}  // namespace alma::emulator
