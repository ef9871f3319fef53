// The one exception type of the native side. `code` is one of the ERR_ALMA_… codes of lib/errors.ts; the binding turns it
// into an AlmaError (thrown, or the rejection of a promise). Nothing below the binding ever aborts the process.
#pragma once

#include <stdexcept>
#include <string>

namespace alma {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // a string literal
};

}  // namespace alma
