// What the emulator found wrong: the text of the first finding, which every CUDA call answers with from then on, as a GPU does after
// an illegal access.
#pragma once

#include <string>

namespace alma::emulator {

// A place in a kernel. As a default argument, ALMA_EMULATOR_HERE is the line of the call.
struct Here {
  const char* file;
  int line;
  // Not constexpr: GCC 12 would compute default arguments where they are declared.
  Here(const char* its_file, int its_line) : file(its_file), line(its_line) {}
};
#define ALMA_EMULATOR_HERE ::alma::emulator::Here(__builtin_FILE(), __builtin_LINE())

std::string text_of(Here here);

// Keeps the first finding; the ones behind it are mostly its consequences.
void report(const std::string& finding);
bool has_report();
std::string last_report();
// For tests: as if the process had just started. The device must be idle.
void forget_report();

}  // namespace alma::emulator
