// The addon's entry: builds the environment's state and registers the parts. No arithmetic and no policy here: names, defaults and
// messages for users are TypeScript's (lib/runtime).
#include "../cpu/cpu_ops.h"
#include "../cuda/device_query.h"
#include "bindings.h"

#ifndef ALMA_HAS_CUDA
#define ALMA_HAS_CUDA 0
#endif
#ifndef ALMA_HAS_EMULATOR
#define ALMA_HAS_EMULATOR 0
#endif
#ifndef ALMA_BUILD_CUDA_NOTE
#define ALMA_BUILD_CUDA_NOTE "built without CUDA"
#endif

namespace alma::addon {

namespace {

// buildInformation(): { cuda, cudaNote, emulator, cpuInstructionSets, processors }
Napi::Value build_information(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  result.Set("cuda", Napi::Boolean::New(env, ALMA_HAS_CUDA != 0));
  result.Set("cudaNote", ALMA_BUILD_CUDA_NOTE);
  result.Set("emulator", Napi::Boolean::New(env, ALMA_HAS_EMULATOR != 0));
  Napi::Array sets = Napi::Array::New(env);
  const std::vector<std::string> names = cpu::supported_isas();  // ascending; the best one comes first here
  for (uint32_t i = 0; i < names.size(); ++i) sets.Set(i, names[names.size() - 1 - i]);
  result.Set("cpuInstructionSets", sets);
  result.Set("processors", cpu::usable_processors());
  return result;
}

// cudaDevices(): { devices: { name, computeCapability, memoryBytes }[], reason }      the first call starts the CUDA runtime
Napi::Value cuda_devices(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string reason;
  Napi::Array devices = Napi::Array::New(env);
  uint32_t index = 0;
  for (const auto& device : cuda::query(reason)) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", device.name);
    entry.Set("computeCapability", std::to_string(device.compute_major) + "." + std::to_string(device.compute_minor));
    entry.Set("memoryBytes", static_cast<double>(device.memory_bytes));
    devices.Set(index++, entry);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("devices", devices);
  result.Set("reason", reason);
  return result;
}

}  // namespace

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // The hook is added after the environment's thread-safe function was made: hooks run in reverse order, so the engines are
  // stopped while the way back is still open.
  auto* environment = new Environment(env);
  env.AddCleanupHook([](Environment* state) { delete state; }, environment);
  ALMA_EXPORT("buildInformation", build_information);
  ALMA_EXPORT("cudaDevices", cuda_devices);
  register_device_functions(exports, environment);
  register_tensor_functions(exports, environment);
  register_op_functions(exports, environment);
  return exports;
}

}  // namespace alma::addon

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return alma::addon::initialize(env, exports);
}

NODE_API_MODULE(alma_native, initialize_addon)
