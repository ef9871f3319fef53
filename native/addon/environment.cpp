#include "environment.h"

namespace alma::addon {

Environment::Environment(Napi::Env env) : env_(env) {
  channel_ = Channel::New(env, "alma-native", 0, 1, this);
  channel_.Unref(env);
}

Environment::~Environment() { close_all(); }

// At the end of an environment: engines must have stopped before anything that their tasks name goes away.
void Environment::close_all() {
  for (auto& device : devices) {
    if (!device) continue;
    device->begin_close();
    device->finish_close();
  }
}

const std::shared_ptr<Device>& Environment::device_pointer(double id) const {
  const auto index = static_cast<size_t>(id);
  if (!(id >= 0) || index >= devices.size() || !devices[index]) {
    throw Error("ERR_ALMA_DISPOSED", "the device was disposed");
  }
  return devices[index];
}

void Environment::release_all_of(const Device& device) {
  tensors.release_all_of(device);
  std::erase_if(graphs, [&](const auto& entry) { return entry.second.device.get() == &device; });
}

Device& Environment::device(double id) const { return *device_pointer(id); }

void Environment::expect_completion() {
  if (pending_++ == 0) channel_.Ref(env_);
}

void Environment::post(PromiseTask* task) noexcept {
  // Not ok means napi_closing: see rule 2.
  (void)channel_.NonBlockingCall(task);
}

void Environment::deliver(Napi::Env env, Napi::Function, Environment* self, PromiseTask* task) {
  if (static_cast<napi_env>(env) == nullptr || task == nullptr) return;  // the environment is closing
  std::unique_ptr<PromiseTask> owned(task);
  if (--self->pending_ == 0) self->channel_.Unref(env);
  owned->finish(env);
}

Napi::Value Environment::make_error(const char* code, const std::string& message) {
  if (!error_class.IsEmpty()) {
    return error_class.New({Napi::String::New(env_, code), Napi::String::New(env_, message)});
  }
  Napi::Error error = Napi::Error::New(env_, message);
  error.Value().Set("code", Napi::String::New(env_, code));
  return error.Value();
}

void Environment::throw_error(const char* code, const std::string& message) {
  throw Napi::Error(env_, make_error(code, message));
}

void PromiseTask::finish(Napi::Env env) {
  if (failed_) {
    if (delivers_failure()) device_->reset_failure(failure_.serial);
    deferred_.Reject(environment_.make_error(failure_.code, failure_.message));
    return;
  }
  try {
    deferred_.Resolve(result(env));
  } catch (const Napi::Error& error) {
    deferred_.Reject(error.Value());
  }
}

Napi::Value submit_promise(Environment& environment, Device& device, std::unique_ptr<PromiseTask> task) {
  if (device.closed()) throw Error("ERR_ALMA_DISPOSED", "the device was disposed");
  if (device.recording() != nullptr) {
    throw Error("ERR_ALMA_DEVICE", "a read, a load or a synchronisation cannot be captured into a graph");
  }
  const Napi::Promise promise = task->promise();
  environment.expect_completion();
  device.submit_task(std::move(task));
  return promise;
}

}  // namespace alma::addon
