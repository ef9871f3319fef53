// Devices, their memory, graphs and probes.
#include <utility>

#include "../cuda/host/cuda_device.h"
#include "bindings.h"

namespace alma::addon {

namespace {

Environment& environment_of(const Napi::CallbackInfo& info) { return Environment::of(info); }

double id_of(const Napi::CallbackInfo& info, size_t index = 0) {
  if (info.Length() <= index || !info[index].IsNumber())
    throw Error("ERR_ALMA_DEVICE", "expected a device or graph number");
  return info[index].As<Napi::Number>().DoubleValue();
}

std::shared_ptr<Device> open_device(const std::string& name, int threads, const std::string& isa) {
  if (name == "cpu") return open_cpu_device(threads, isa);
#if ALMA_HAS_CUDA
  if (name.starts_with("cuda:") && name.size() > 5 && name.size() < 9 &&
      name.find_first_not_of("0123456789", 5) == std::string::npos) {
    return cuda::open_cuda_device(std::stoi(name.substr(5)));
  }
#endif
#if ALMA_HAS_EMULATOR
  if (name == "emulator") return emulated_cuda::open_cuda_device(0);
#endif
  throw Error("ERR_ALMA_DEVICE", "no device named '" + name + "' in this build");
}

// deviceOpen(name: string, threads: number, isa: string): number
Napi::Value device_open(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const std::string name = info[0].ToString();
  const int threads = info[1].ToNumber().Int32Value();
  const std::string isa = info[2].ToString();
  environment.devices.push_back(open_device(name, threads, isa));
  return Napi::Number::New(info.Env(), static_cast<double>(environment.devices.size() - 1));
}

// Unmapping gigabytes takes a while too, so it is kept off the JavaScript thread.
class FreeWorker final : public Napi::AsyncWorker {
 public:
  FreeWorker(std::shared_ptr<Device> device, Napi::Promise::Deferred deferred)
      : Napi::AsyncWorker(deferred.Env()),
        device_(std::move(device)),
        blocks_(device_->allocator().release_cached()),
        deferred_(deferred) {}

 protected:
  void Execute() override {
    for (const auto& block : blocks_) device_->allocator().source().free(block.data, block.bytes);
  }
  void OnOK() override { deferred_.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  std::shared_ptr<Device> device_;
  std::vector<CachingAllocator::Block> blocks_;
  Napi::Promise::Deferred deferred_;
};

// Waits for the engine on a thread of libuv's pool: at most one op long. Only then may memory change hands: the last op still uses
// it, and the launches that are given up let go of theirs on the engine's thread.
class CloseWorker final : public Napi::AsyncWorker {
 public:
  CloseWorker(Napi::Env env, Environment& environment, std::shared_ptr<Device> device)
      : Napi::AsyncWorker(env),
        environment_(environment),
        device_(std::move(device)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { device_->finish_close(); }
  void OnOK() override {
    environment_.release_all_of(*device_);
    (new FreeWorker(std::move(device_), deferred_))->Queue();  // deletes itself when done
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Environment& environment_;
  std::shared_ptr<Device> device_;
  Napi::Promise::Deferred deferred_;
};

// deviceClose(device: number): Promise<void>
Napi::Value device_close(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const double id = id_of(info);
  std::shared_ptr<Device> device = environment.device_pointer(id);
  environment.devices[static_cast<size_t>(id)].reset();
  device->begin_close();
  auto* worker = new CloseWorker(info.Env(), environment, std::move(device));  // deletes itself when done
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

// deviceDescribe(device: number): { name, description, threads, fusesResiduals }
Napi::Value device_describe(const Napi::CallbackInfo& info) {
  const Device& device = environment_of(info).device(id_of(info));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("name", device.name());
  result.Set("description", device.description());
  result.Set("threads", device.threads());
  result.Set("fusesResiduals", device.fuses_residuals());
  return result;
}

// deviceMemory(device: number): { allocated, reserved, peak, free, total }
Napi::Value device_memory(const Napi::CallbackInfo& info) {
  const MemoryStatistics statistics = environment_of(info).device(id_of(info)).allocator().statistics();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("allocated", static_cast<double>(statistics.allocated));
  result.Set("reserved", static_cast<double>(statistics.reserved));
  result.Set("peak", static_cast<double>(statistics.peak));
  result.Set("free", static_cast<double>(statistics.free));
  result.Set("total", static_cast<double>(statistics.total));
  return result;
}

// deviceResetPeak(device: number): void
Napi::Value device_reset_peak(const Napi::CallbackInfo& info) {
  environment_of(info).device(id_of(info)).allocator().reset_peak();
  return info.Env().Undefined();
}

// deviceReleaseCached(device: number): void
Napi::Value device_release_cached(const Napi::CallbackInfo& info) {
  environment_of(info).device(id_of(info)).release_cached_memory();
  return info.Env().Undefined();
}

class SynchronizeTask final : public PromiseTask {
 public:
  using PromiseTask::PromiseTask;
  void run(Stream&) override {}
};

// deviceSynchronize(device: number): Promise<void>
Napi::Value device_synchronize(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const auto& device = environment.device_pointer(id_of(info));
  return submit_promise(environment, *device, std::make_unique<SynchronizeTask>(environment, info.Env(), device));
}

class ProbeTask final : public PromiseTask {
 public:
  ProbeTask(Environment& environment, Napi::Env env, std::shared_ptr<Device> device, std::string what, double size,
            double seconds)
      : PromiseTask(environment, env, std::move(device)), what_(std::move(what)), size_(size), seconds_(seconds) {}
  void run(Stream& stream) override { value_ = stream.probe(what_, size_, seconds_); }
  Napi::Value result(Napi::Env env) override { return Napi::Number::New(env, value_); }

 private:
  std::string what_;
  double size_, seconds_, value_ = 0;
};

// deviceProbe(device: number, what: string, size: number, seconds: number): Promise<number>
Napi::Value device_probe(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const auto& device = environment.device_pointer(id_of(info));
  return submit_promise(
      environment, *device,
      std::make_unique<ProbeTask>(environment, info.Env(), device, info[1].ToString().Utf8Value(),
                                  info[2].ToNumber().DoubleValue(), info[3].ToNumber().DoubleValue()));
}

// graphBegin(device: number): void
Napi::Value graph_begin(const Napi::CallbackInfo& info) {
  environment_of(info).device(id_of(info)).begin_recording();
  return info.Env().Undefined();
}

// graphEnd(device: number): number
Napi::Value graph_end(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const auto& device = environment.device_pointer(id_of(info));
  const uint64_t id = environment.next_graph++;
  environment.graphs[id] = {device->end_recording(), device};
  return Napi::Number::New(info.Env(), static_cast<double>(id));
}

// Null: there is no such graph (any more).
const Environment::Graph* find_graph(const Environment& environment, double id) {
  const auto found = environment.graphs.find(static_cast<uint64_t>(id));
  return id >= 0 && found != environment.graphs.end() ? &found->second : nullptr;
}

// graphLaunch(graph: number): void
Napi::Value graph_launch(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const Environment::Graph* graph = find_graph(environment, id_of(info));
  if (graph == nullptr) throw Error("ERR_ALMA_DISPOSED", "the graph or its device was disposed");
  Device& device = *graph->device;
  if (device.closed()) throw Error("ERR_ALMA_DISPOSED", "the graph's device was disposed");
  if (device.recording() != nullptr) throw Error("ERR_ALMA_DEVICE", "a graph cannot be launched inside a capture");
  device.launch(graph->recording);
  return info.Env().Undefined();
}

// Lets go of a recording's memory on the JavaScript thread, behind every launch of it.
class GraphReleaseTask final : public PromiseTask {
 public:
  GraphReleaseTask(Environment& environment, Napi::Env env, std::shared_ptr<Device> device,
                   std::shared_ptr<Recording> recording)
      : PromiseTask(environment, env, std::move(device)), recording_(std::move(recording)) {}
  void run(Stream&) override {}
  bool delivers_failure() const override { return false; }

 private:
  std::shared_ptr<Recording> recording_;
};

// graphRelease(graph: number): void      A closed device releases its graphs itself, when its thread has ended.
Napi::Value graph_release(const Napi::CallbackInfo& info) {
  Environment& environment = environment_of(info);
  const double id = id_of(info);
  const Environment::Graph* graph = find_graph(environment, id);
  if (graph == nullptr || graph->device->closed()) return info.Env().Undefined();
  auto [recording, device] = std::move(environment.graphs.extract(static_cast<uint64_t>(id)).mapped());
  auto task = std::make_unique<GraphReleaseTask>(environment, info.Env(), device, std::move(recording));
  // A failure that happened before it is not this call's to report, so its promise is given a handler here.
  const Napi::Promise promise = task->promise();
  promise.Get("catch").As<Napi::Function>().Call(promise,
                                                 {Napi::Function::New(info.Env(), [](const Napi::CallbackInfo&) {})});
  environment.expect_completion();
  device->submit_task(std::move(task));
  return info.Env().Undefined();
}

// setErrorClass(make: new (code: string, message: string) => Error): void
Napi::Value set_error_class(const Napi::CallbackInfo& info) {
  environment_of(info).error_class = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

}  // namespace

void register_device_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT("setErrorClass", set_error_class);
  ALMA_EXPORT("deviceOpen", device_open);
  ALMA_EXPORT("deviceClose", device_close);
  ALMA_EXPORT("deviceDescribe", device_describe);
  ALMA_EXPORT("deviceMemory", device_memory);
  ALMA_EXPORT("deviceResetPeak", device_reset_peak);
  ALMA_EXPORT("deviceReleaseCached", device_release_cached);
  ALMA_EXPORT("deviceSynchronize", device_synchronize);
  ALMA_EXPORT("deviceProbe", device_probe);
  ALMA_EXPORT("graphBegin", graph_begin);
  ALMA_EXPORT("graphEnd", graph_end);
  ALMA_EXPORT("graphLaunch", graph_launch);
  ALMA_EXPORT("graphRelease", graph_release);
}

}  // namespace alma::addon
