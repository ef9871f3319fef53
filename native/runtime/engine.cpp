#include "engine.h"

#include <new>

#include "error.h"

#if defined(__linux__)
#include <pthread.h>
#include <signal.h>
#endif

namespace alma {

namespace {
const Failure kStopped{"ERR_ALMA_DISPOSED", "the device was disposed before this was computed"};

// Clears the failed state; recognised by the engine even while it skips commands.
class ResetTask final : public Task {
 public:
  explicit ResetTask(uint64_t failure) : serial(failure) {}
  void run(Stream&) override {}
  void settle(const Failure*) noexcept override { delete this; }
  const uint64_t serial;
};
}  // namespace

Engine::Engine(std::unique_ptr<Stream> stream) : stream_(std::move(stream)), thread_([this] { loop(); }) {}

Engine::~Engine() {
  begin_stop();
  finish_stop();
}

void Engine::submit_task(std::unique_ptr<Task> task) {
  if (stopped_) {
    {
      std::lock_guard lock(late_mutex_);
      if (!finished_) {
        late_.push_back(std::move(task));
        return;
      }
    }
    task.release()->settle(&kStopped);
    return;
  }
  const bool is_awaited = task->is_awaited();
  queue_.next_slot().set_task(task.release());
  queue_.publish(is_awaited);
}

void Engine::reset(uint64_t serial) { submit_task(std::make_unique<ResetTask>(serial)); }

void Engine::begin_stop() {
  stopped_ = true;
  queue_.close();
}

void Engine::finish_stop() {
  if (thread_.joinable()) thread_.join();
  // With its pool: when a worker thread's environment ends, Node unmaps the addon's code from under any thread that is left, and
  // tasks that can no longer be delivered keep the device itself alive.
  stream_.reset();
  std::vector<std::unique_ptr<Task>> late;
  {
    std::lock_guard lock(late_mutex_);
    finished_ = true;
    late.swap(late_);
  }
  for (auto& task : late) task.release()->settle(&kStopped);
}

void Engine::loop() {
#if defined(__linux__)
  // Signals belong to the JavaScript thread (libuv installs its handlers there).
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "alma-engine");
#endif
  stream_->start();
  do {
    while (Command* command = queue_.front()) {
      execute(*command);
      queue_.pop();
    }
    stream_->rest();
  } while (queue_.wait());
  stream_->stop();
  while (Command* command = queue_.front_if_any()) {
    if (command->execute == nullptr) command->task->settle(&kStopped);
    queue_.pop();
  }
}

void Engine::fail(const char* code, const std::string& message) {
  failure_ = Failure{code, message, stream_->next_serial()};
  stream_->note_failure(*failure_);
}

void Engine::execute(Command& command) {
  if (Failure met; stream_->failed_meanwhile(met)) failure_ = std::move(met);
  if (failure_) {
    if (command.execute != nullptr) return;
    const auto* reset = dynamic_cast<const ResetTask*>(command.task);
    const bool answered = reset != nullptr && reset->serial == failure_->serial;
    stream_->settle(command.task, &*failure_);
    if (answered && stream_->recover(*failure_)) failure_.reset();
    return;
  }
  try {
    if (command.execute != nullptr) {
      command.execute(stream_->ops(), command.arguments);
      return;
    }
    command.task->run(*stream_);
  } catch (const Error& error) {
    fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    fail("ERR_ALMA_OUT_OF_MEMORY", "out of host memory while computing");
  } catch (const std::exception& error) {
    fail("ERR_ALMA_DEVICE", error.what());
  } catch (...) {
    fail("ERR_ALMA_DEVICE", "unknown failure while computing");
  }
  if (command.execute == nullptr) stream_->settle(command.task, failure_ ? &*failure_ : nullptr);
}

}  // namespace alma
