// What an engine drives: the ops of a device and its way of moving data, in the order of the commands.
//
// On the CPU everything has happened when a method returns. On a GPU the methods enqueue, and settle() hands the task to whoever sees
// the device come to that point of the stream. All methods are called on the engine's thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "command.h"

namespace alma {

struct Recording;

class Stream {
 public:
  virtual ~Stream() = default;

  // ---- for the run() of tasks
  virtual Ops& ops() = 0;
  // From host memory, which may be changed or freed as soon as this returns.
  virtual void write(void* target, const void* source, size_t bytes) = 0;
  // Into host memory, which is filled when the task settles.
  virtual void read(void* target, const void* source, size_t bytes) = 0;
  // `count` elements of a file from `offset` on, stored as `source`, into a tensor.
  virtual void load(const std::string& path, uint64_t offset, DType source, TensorRef target, int64_t count) = 0;
  virtual void replay(Recording& recording) = 0;
  virtual double probe(const std::string& what, double size, double seconds) = 0;

  // ---- for the engine
  virtual void start() {}  // first of all, on the engine's thread
  // Settles a task, at once or when the device has come to it; tasks settle in order.
  virtual void settle(Task* task, const Failure* failure) { task->settle(failure); }
  // Whether the device has failed since the last look, and how.
  virtual bool failed_meanwhile(Failure&) { return false; }
  // A command has thrown. A failure of the device that came before it takes its place.
  virtual void note_failure(Failure&) {}
  // The program knows of the failure. False: the device cannot go on after it.
  virtual bool recover(const Failure&) { return true; }
  // Nothing to do for a while.
  virtual void rest() {}
  // Waits for everything and settles it; what is settled afterwards is settled at once.
  virtual void stop() {}

  uint64_t next_serial() { return ++serial_; }

 private:
  std::atomic<uint64_t> serial_{0};
};

}  // namespace alma
