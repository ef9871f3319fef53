// Tensors: allocation, views, and data in and out.
#include <cstring>

#include "bindings.h"

namespace alma::addon {

namespace {

double number_of(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (info.Length() <= index || !info[index].IsNumber())
    throw Error("ERR_ALMA_SHAPE", std::string(name) + " is not a number");
  return info[index].As<Napi::Number>().DoubleValue();
}

int64_t extent_of(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const double value = number_of(info, index, name);
  if (!(value >= 0 && value <= 1099511627776.0) || value != std::floor(value)) {
    throw Error("ERR_ALMA_SHAPE", std::string(name) + " is not an extent");
  }
  return static_cast<int64_t>(value);
}

DType dtype_of(const Napi::CallbackInfo& info, size_t index) {
  const double value = number_of(info, index, "dtype");
  if (value != 0 && value != 1 && value != 2 && value != 3) throw Error("ERR_ALMA_SHAPE", "unknown dtype");
  return static_cast<DType>(value);
}

// tensorCreate(device: number, dtype: number, count: number): number
Napi::Value tensor_create(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info);
  Device& device = environment.device(number_of(info, 0, "device"));
  const DType dtype = dtype_of(info, 1);
  const int64_t count = extent_of(info, 2, "count");
  auto storage = device.allocate(static_cast<size_t>(count) * size_of(dtype));
  char* data = storage->data();
  return Napi::Number::New(info.Env(), environment.tensors.add(std::move(storage), data, count, dtype));
}

// tensorMapFile(device: number, dtype: number, count: number, path: string, offset: number): number
Napi::Value tensor_map_file(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info);
  const auto& device = environment.device_pointer(number_of(info, 0, "device"));
  if (!device->host_accessible())
    throw Error("ERR_ALMA_DEVICE", "device " + device->name() + " cannot compute in a mapped file");
  const DType dtype = dtype_of(info, 1);
  const int64_t count = extent_of(info, 2, "count");
  const int64_t offset = extent_of(info, 4, "offset");
  if (static_cast<size_t>(offset) % size_of(dtype) != 0)
    throw Error("ERR_ALMA_SHAPE", "the offset is not a multiple of the dtype's size");
  const size_t bytes = static_cast<size_t>(count) * size_of(dtype);
  MappedFile file(info[3].ToString(), static_cast<uint64_t>(offset), bytes);
  auto storage = std::make_shared<MappedStorage>(device, std::move(file));
  char* data = storage->data();
  return Napi::Number::New(info.Env(), environment.tensors.add(std::move(storage), data, count, dtype));
}

// The whole mapping behind a tensor of tensorMapFile.
std::shared_ptr<MappedStorage> mapped_storage(const Napi::CallbackInfo& info) {
  auto storage =
      std::dynamic_pointer_cast<MappedStorage>(Environment::of(info).tensors.get(number_of(info, 0, "tensor")).storage);
  if (!storage) throw Error("ERR_ALMA_DEVICE", "the tensor does not lie in a mapped file");
  return storage;
}

// tensorWasCached(tensor: number): boolean
Napi::Value tensor_was_cached(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), mapped_storage(info)->file().was_cached());
}

// Waits for the disk on a thread of libuv's pool, as reading a file through Node does: ops run meanwhile.
class FetchWorker final : public Napi::AsyncWorker {
 public:
  FetchWorker(Napi::Env env, Environment& environment, std::shared_ptr<MappedStorage> storage, size_t begin,
              size_t count)
      : Napi::AsyncWorker(env),
        environment_(environment),
        storage_(std::move(storage)),
        begin_(begin),
        count_(count),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    try {
      storage_->file().fetch(begin_, count_);
    } catch (const Error& error) {
      code_ = error.code();
      SetError(error.what());
    }
  }
  void OnOK() override { deferred_.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(environment_.make_error(code_, error.Message())); }

 private:
  Environment& environment_;
  std::shared_ptr<MappedStorage> storage_;  // let go on the JavaScript thread, which deletes the worker
  size_t begin_;
  size_t count_;
  const char* code_ = "ERR_ALMA_IO";
  Napi::Promise::Deferred deferred_;
};

// tensorFetch(tensor: number, begin: number, count: number): Promise<void>      begin and count in bytes of the mapped part
Napi::Value tensor_fetch(const Napi::CallbackInfo& info) {
  auto storage = mapped_storage(info);
  const auto begin = static_cast<size_t>(extent_of(info, 1, "begin"));
  const auto count = static_cast<size_t>(extent_of(info, 2, "count"));
  auto* worker =
      new FetchWorker(info.Env(), Environment::of(info), std::move(storage), begin, count);  // deletes itself when done
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

// tensorView(tensor: number, offset: number, count: number, dtype: number): number      offset and count in elements of the dtype
Napi::Value tensor_view(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info);
  const TensorSlot slot = environment.tensors.get(number_of(info, 0, "tensor"));
  const int64_t offset = extent_of(info, 1, "offset");
  const int64_t count = extent_of(info, 2, "count");
  const DType dtype = dtype_of(info, 3);
  if (size_of(dtype) != size_of(slot.dtype)) throw Error("ERR_ALMA_SHAPE", "view: elements of another size");
  if (offset > slot.count || count > slot.count - offset) {
    throw Error("ERR_ALMA_SHAPE", "view: elements " + std::to_string(offset) + " to " + std::to_string(offset + count) +
                                      " of a tensor that has " + std::to_string(slot.count));
  }
  char* data = slot.data + static_cast<size_t>(offset) * size_of(dtype);
  return Napi::Number::New(info.Env(), environment.tensors.add(slot.storage, data, count, dtype));
}

// tensorRelease(tensor: number): boolean
Napi::Value tensor_release(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), Environment::of(info).tensors.release(number_of(info, 0, "tensor")));
}

// The bytes of a write are copied on the JavaScript thread, so that the caller may change its array at once; they are uploads of ids
// and of small tensors. Weights come from files, through LoadTask.
class WriteTask final : public Task {
 public:
  WriteTask(char* target, const void* source, size_t bytes) : target_(target), bytes_(bytes), copy_(new char[bytes]) {
    std::memcpy(copy_.get(), source, bytes);
  }
  void run(Stream& stream) override { stream.write(target_, copy_.get(), bytes_); }
  void settle(const Failure*) noexcept override { delete this; }
  bool waits_for_device() const override { return false; }
  bool is_awaited() const override { return false; }

 private:
  char* target_;
  size_t bytes_;
  std::unique_ptr<char[]> copy_;
};

// tensorWrite(tensor: number, bytes: ArrayBufferView): void      the elements as they lie in memory
Napi::Value tensor_write(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info);
  const TensorSlot& slot = environment.tensors.get(number_of(info, 0, "tensor"));
  if (!info[1].IsTypedArray()) throw Error("ERR_ALMA_SHAPE", "write: expected a typed array");
  const auto array = info[1].As<Napi::TypedArray>();
  const size_t bytes = static_cast<size_t>(slot.count) * size_of(slot.dtype);
  if (array.ByteLength() != bytes) {
    throw Error("ERR_ALMA_SHAPE", "write: " + std::to_string(array.ByteLength()) + " bytes given, the tensor has " +
                                      std::to_string(bytes));
  }
  Device& device = slot.storage->device();
  if (device.recording() != nullptr) throw Error("ERR_ALMA_DEVICE", "a write cannot be captured into a graph");
  if (bytes > 0) {
    const char* source = static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    device.submit_task(std::make_unique<WriteTask>(slot.data, source, bytes));
  }
  return info.Env().Undefined();
}

// Copies straight into the ArrayBuffer that the promise will give: nobody else can reach (or detach) it before.
class ReadTask final : public PromiseTask {
 public:
  ReadTask(Environment& environment, Napi::Env env, std::shared_ptr<Device> device, const TensorSlot& slot)
      : PromiseTask(environment, env, std::move(device)), storage_(slot.storage), source_(slot.data) {
    bytes_ = static_cast<size_t>(slot.count) * size_of(slot.dtype);
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, bytes_);
    target_ = buffer.Data();
    buffer_ = Napi::Persistent(buffer);
  }
  void run(Stream& stream) override {
    if (bytes_ > 0) stream.read(target_, source_, bytes_);
  }
  Napi::Value result(Napi::Env) override { return buffer_.Value(); }

 private:
  std::shared_ptr<Storage> storage_;
  const char* source_;
  size_t bytes_;
  void* target_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

// tensorRead(tensor: number): Promise<ArrayBuffer>
Napi::Value tensor_read(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info);
  const TensorSlot& slot = environment.tensors.get(number_of(info, 0, "tensor"));
  const auto& device = slot.storage->owner();
  return submit_promise(environment, *device, std::make_unique<ReadTask>(environment, info.Env(), device, slot));
}

// Reads a part of a file into a tensor, converting on the way. The engine does it: neither the disk nor the conversion is waited
// for by the JavaScript thread.
class LoadTask final : public PromiseTask {
 public:
  LoadTask(Environment& environment, Napi::Env env, std::shared_ptr<Device> device, const TensorSlot& slot,
           std::string path, uint64_t offset, DType source)
      : PromiseTask(environment, env, std::move(device)),
        storage_(slot.storage),
        target_{slot.data, slot.dtype},
        count_(slot.count),
        path_(std::move(path)),
        offset_(offset),
        source_(source) {}

  void run(Stream& stream) override { stream.load(path_, offset_, source_, target_, count_); }

 private:
  std::shared_ptr<Storage> storage_;
  TensorRef target_;
  int64_t count_;
  std::string path_;
  uint64_t offset_;
  DType source_;
};

// tensorLoadFile(tensor: number, path: string, offset: number, sourceDtype: number): Promise<void>
Napi::Value tensor_load_file(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info);
  const TensorSlot& slot = environment.tensors.get(number_of(info, 0, "tensor"));
  const auto& device = slot.storage->owner();
  const std::string path = info[1].ToString();
  const auto offset = static_cast<uint64_t>(extent_of(info, 2, "offset"));
  return submit_promise(
      environment, *device,
      std::make_unique<LoadTask>(environment, info.Env(), device, slot, path, offset, dtype_of(info, 3)));
}

}  // namespace

void register_tensor_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT("tensorCreate", tensor_create);
  ALMA_EXPORT("tensorMapFile", tensor_map_file);
  ALMA_EXPORT("tensorWasCached", tensor_was_cached);
  ALMA_EXPORT("tensorFetch", tensor_fetch);
  ALMA_EXPORT("tensorView", tensor_view);
  ALMA_EXPORT("tensorRelease", tensor_release);
  ALMA_EXPORT("tensorWrite", tensor_write);
  ALMA_EXPORT("tensorRead", tensor_read);
  ALMA_EXPORT("tensorLoadFile", tensor_load_file);
}

}  // namespace alma::addon
