// What a device's queue holds: op calls by value, and tasks by pointer.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>

#include "ops.h"

namespace alma {

class Stream;

// Something other than an op that must happen in stream order: a read-back, loading from a file, a probe.
// The engine calls run() and then settle(nullptr), or settle(failure) when run() threw or when an earlier command of the
// stream had failed (then run() is not called). settle() is called exactly once, on a thread of the device; it disposes of the task.
struct Failure {
  const char* code;
  std::string message;
  uint64_t serial = 0;  // which failure of the stream: a reset names the one that it answers
};

class Task {
 public:
  virtual ~Task() = default;
  virtual void run(Stream& stream) = 0;
  virtual void settle(const Failure* failure) noexcept = 0;
  // False: it may settle as soon as run() has returned, even where the device has only been told what to do.
  virtual bool waits_for_device() const { return true; }
  // False: nobody learns when it has happened, so that a sleeping engine need not be woken for it at once.
  virtual bool is_awaited() const { return true; }
};

// An op call: which method, and its argument struct copied into place. Nothing is allocated for it.
struct Command {
  using Execute = void (*)(Ops& ops, const void* arguments);
  static constexpr size_t kCapacity = 272;

  Execute execute = nullptr;  // null: `task` is meant
  Task* task = nullptr;
  alignas(8) std::byte arguments[kCapacity];

  template <class Arguments, void (Ops::*Method)(const Arguments&)>
  void set_op(const Arguments& value) {
    static_assert(std::is_trivially_copyable_v<Arguments> && sizeof(Arguments) <= kCapacity);
    execute = [](Ops& ops, const void* at) { (ops.*Method)(*static_cast<const Arguments*>(at)); };
    task = nullptr;
    std::memcpy(arguments, &value, sizeof value);
  }

  void set_task(Task* value) {
    execute = nullptr;
    task = value;
  }
};

}  // namespace alma
