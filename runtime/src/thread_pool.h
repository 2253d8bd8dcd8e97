// A pool of workers that run one function together. Worker 0 is the caller.
//
// Waiting spins for some tens of microseconds, as launches of a decode step are that short, and then sleeps in a futex.
#pragma once

#include "mili/runtime/status.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <pthread.h>
#include <vector>

namespace mili {

class ThreadPool {
public:
  using Task = void (*)(void *context, uint32_t worker);

  // `cores` is empty, or has the CPU of each worker.
  static StatusOr<std::unique_ptr<ThreadPool>> create(uint32_t workers, const std::vector<int> &cores);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  uint32_t workers() const { return workers_; }
  // task(context, w) on every worker at once; returns when all have returned.
  void run(Task task, void *context);
  // Inside a task: returns when every worker has called it.
  void barrier();

private:
  explicit ThreadPool(uint32_t workers) : workers_(workers) {}
  static void *enter(void *argument);
  void work(uint32_t worker);

  // A counter that threads wait on until it leaves a value.
  struct alignas(64) Gate {
    std::atomic<uint32_t> value{0};
    std::atomic<uint32_t> sleepers{0};
    void open();
    void wait_while(uint32_t old);
  };
  struct Start {
    ThreadPool *pool;
    uint32_t worker;
  };

  const uint32_t workers_;
  std::vector<pthread_t> threads_;
  std::vector<Start> starts_;
  Task task_ = nullptr;
  void *context_ = nullptr;
  bool stop_ = false;
  Gate job_;
  Gate turn_;
  alignas(64) std::atomic<uint32_t> arrived_{0};
};

}  // namespace mili
