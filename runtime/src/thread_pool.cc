#include "thread_pool.h"

#include <cstring>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mili {
namespace {

constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

long futex(std::atomic<uint32_t> &word, int operation, uint32_t value) {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
  return syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr,
                 nullptr, 0);
}

}  // namespace

void ThreadPool::Gate::open() {
  value.fetch_add(1);
  if (sleepers.load() != 0)
    futex(value, FUTEX_WAKE, 1u << 30);
}

void ThreadPool::Gate::wait_while(uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old)
      return;
    relax();
  }
  // Sequentially consistent with open(): either the sleeper is counted before the value changes, and is woken, or the
  // kernel sees the new value and does not let it sleep.
  sleepers.fetch_add(1);
  while (value.load() == old)
    futex(value, FUTEX_WAIT, old);
  sleepers.fetch_sub(1);
}

StatusOr<std::unique_ptr<ThreadPool>> ThreadPool::create(uint32_t workers, const std::vector<int> &cores) {
  std::unique_ptr<ThreadPool> pool(new ThreadPool(workers));
  pool->starts_.resize(workers);
  auto pin = [&](pthread_t thread, uint32_t worker) {
    if (cores.empty())
      return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cores[worker % cores.size()], &set);
    pthread_setaffinity_np(thread, sizeof(set), &set);  // a wish: without it the system places the worker
  };
  pin(pthread_self(), 0);
  for (uint32_t worker = 1; worker < workers; ++worker) {
    pool->starts_[worker] = {pool.get(), worker};
    pthread_t thread;
    if (int error = pthread_create(&thread, nullptr, enter, &pool->starts_[worker]))
      return resource_exhausted("cannot start worker thread " + std::to_string(worker) + " of " +
                                std::to_string(workers) + ": " + std::strerror(error) + "; use fewer with --threads");
    pool->threads_.push_back(thread);
    pin(thread, worker);
  }
  // A thread allocates as it starts: all of them are up when this returns, so that the first step finds no such work.
  pool->run([](void *, uint32_t) {}, nullptr);
  return pool;
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  job_.open();
  for (pthread_t thread : threads_)
    pthread_join(thread, nullptr);
}

void *ThreadPool::enter(void *argument) {
  auto *start = static_cast<Start *>(argument);
  start->pool->work(start->worker);
  return nullptr;
}

void ThreadPool::work(uint32_t worker) {
  for (uint32_t seen = 0;; ++seen) {
    job_.wait_while(seen);
    if (stop_)
      return;
    task_(context_, worker);
    barrier();
  }
}

void ThreadPool::run(Task task, void *context) {
  if (workers_ > 1) {
    task_ = task;
    context_ = context;
    job_.open();
  }
  task(context, 0);
  barrier();
}

void ThreadPool::barrier() {
  if (workers_ == 1)
    return;
  const uint32_t turn = turn_.value.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == workers_) {
    arrived_.store(0, std::memory_order_relaxed);
    turn_.open();
  } else {
    turn_.wait_while(turn);
  }
}

}  // namespace mili
