// The parts of the binding. Each registers its functions on the addon's exports; lib/runtime/native-addon.ts declares them all.
#pragma once

#include "environment.h"

#define ALMA_EXPORT(name, function) \
  exports.Set(name, Napi::Function::New(exports.Env(), guarded<function>, name, environment))

namespace alma::addon {

void register_device_functions(Napi::Object& exports, Environment* environment);
void register_tensor_functions(Napi::Object& exports, Environment* environment);
void register_op_functions(Napi::Object& exports, Environment* environment);
void register_decoding_functions(Napi::Object& exports, Environment* environment);
void register_product_functions(Napi::Object& exports, Environment* environment);
void register_training_functions(Napi::Object& exports, Environment* environment);

}  // namespace alma::addon
