// The state of one JavaScript environment (the main thread, or a worker thread): its devices, its tensors, and the way back from
// engine threads. Nothing of it is shared between environments.
//
// Rules of the way back (each of them fails silently when broken):
//  1. An engine thread never touches a napi_value or a Napi::Reference; it hands the whole task over with post().
//  2. post() after the environment began to close reports napi_closing; the task is then leaked on purpose, because the
//     references inside may no longer be touched from anywhere.
//  3. The thread-safe function keeps the process alive exactly while a promise is pending.
#pragma once

#include <napi.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "handle_table.h"

namespace alma::addon {

class PromiseTask;

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(const Napi::CallbackInfo& info) { return *static_cast<Environment*>(info.Data()); }

  HandleTable tensors;
  std::vector<std::shared_ptr<Device>> devices;  // by id; null after close
  struct Graph {
    std::shared_ptr<Recording> recording;
    std::shared_ptr<Device> device;
  };
  std::unordered_map<uint64_t, Graph> graphs;  // by id; an id is never given twice
  uint64_t next_graph = 0;
  Napi::FunctionReference error_class;

  // Lets go of the tensors and graphs of a device whose thread has ended.
  void release_all_of(const Device& device);

  Device& device(double id) const;
  const std::shared_ptr<Device>& device_pointer(double id) const;

  // JavaScript thread: a task is on its way / has arrived.
  void expect_completion();
  // Engine thread: brings the task back to the JavaScript thread, where deliver() is called.
  void post(PromiseTask* task) noexcept;

  // An AlmaError of lib/errors.ts (or a plain Error with a code before setErrorClass() was called).
  Napi::Value make_error(const char* code, const std::string& message);
  [[noreturn]] void throw_error(const char* code, const std::string& message);

 private:
  static void deliver(Napi::Env env, Napi::Function, Environment* self, PromiseTask* task);
  using Channel = Napi::TypedThreadSafeFunction<Environment, PromiseTask, &Environment::deliver>;

  void close_all();

  Napi::Env env_;
  Channel channel_;
  size_t pending_ = 0;
};

// A task whose end settles a promise.
class PromiseTask : public Task {
 public:
  PromiseTask(Environment& environment, Napi::Env env, std::shared_ptr<Device> device)
      : environment_(environment), device_(std::move(device)), deferred_(Napi::Promise::Deferred::New(env)) {}

  void settle(const Failure* failure) noexcept final {
    if (failure != nullptr) {
      failed_ = true;
      failure_ = *failure;
    }
    environment_.post(this);
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  // JavaScript thread.
  virtual Napi::Value result(Napi::Env env) { return env.Undefined(); }
  // Whether its rejection tells the program of a failure, which answers it. A release behind the scenes must leave it to the next read.
  virtual bool delivers_failure() const { return true; }
  void finish(Napi::Env env);

 protected:
  Environment& environment_;
  std::shared_ptr<Device> device_;

 private:
  Napi::Promise::Deferred deferred_;
  bool failed_ = false;
  Failure failure_{};
};

// Submits a task and returns its promise.
Napi::Value submit_promise(Environment& environment, Device& device, std::unique_ptr<PromiseTask> task);

// Wraps a function so that alma::Error becomes an AlmaError.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const Error& error) {
    Environment::of(info).throw_error(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    Environment::of(info).throw_error("ERR_ALMA_OUT_OF_MEMORY", "out of host memory");
  }
}

}  // namespace alma::addon
