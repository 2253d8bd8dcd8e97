// Status and StatusOr<T>: how every function of the runtime that can fail says so. No exception crosses an API.
//
//   StatusOr<Plan> plan = Plan::open(path);
//   if (!plan.ok()) return plan.status();
//   use(*plan);
//
// A message names the thing (file, tensor, flag), what was found, what was expected and the remedy.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mili {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,     // the caller passed something that can never work
  kNotFound,            // a file, tensor, symbol or token that is not there
  kDataLoss,            // a file that is truncated, corrupt or contradicts itself
  kUnimplemented,       // a feature that this version lacks; the message names it
  kResourceExhausted,   // memory, pages, slots; the message says how much and which flag
  kUnavailable,         // a device, driver or library that is not on this machine
  kFailedPrecondition,  // called in the wrong order or state
  kCancelled,           // a callback asked to stop
  kInternal,            // a fault of MILI itself
};

const char *status_code_name(StatusCode code);

class [[nodiscard]] Status {
public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string &message() const { return message_; }
  // "data loss: model.gguf: ..." for people.
  std::string to_string() const;
  // The same status with `context + ": "` before its message; ok stays ok.
  Status with_context(std::string_view context) const;

private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status ok_status() {
  return {};
}
Status invalid_argument(std::string message);
Status not_found(std::string message);
Status data_loss(std::string message);
Status unimplemented(std::string message);
Status resource_exhausted(std::string message);
Status unavailable(std::string message);
Status failed_precondition(std::string message);
Status cancelled(std::string message);
Status internal_error(std::string message);

template <typename T>
class [[nodiscard]] StatusOr {
public:
  StatusOr(Status status) : status_(std::move(status)) { assert(!status_.ok() && "an ok StatusOr needs a value"); }
  StatusOr(T value) : value_(std::move(value)) {}

  bool ok() const { return value_.has_value(); }
  const Status &status() const { return status_; }
  T &operator*() & { return *value_; }
  const T &operator*() const & { return *value_; }
  T &&operator*() && { return std::move(*value_); }
  T *operator->() { return &*value_; }
  const T *operator->() const { return &*value_; }

private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace mili

// Returns from the enclosing function when `expr` (a Status) is not ok.
#define MILI_RETURN_IF_ERROR(expr)                                                                                     \
  do {                                                                                                                 \
    if (::mili::Status mili_status_ = (expr); !mili_status_.ok())                                                      \
      return mili_status_;                                                                                             \
  } while (false)

#define MILI_CONCAT_INNER(a, b) a##b
#define MILI_CONCAT(a, b) MILI_CONCAT_INNER(a, b)
// MILI_ASSIGN_OR_RETURN(auto x, f()): assigns the value, or returns the error.
#define MILI_ASSIGN_OR_RETURN(decl, expr) MILI_ASSIGN_OR_RETURN_IMPL(MILI_CONCAT(mili_or_, __LINE__), decl, expr)
#define MILI_ASSIGN_OR_RETURN_IMPL(tmp, decl, expr)                                                                    \
  auto tmp = (expr);                                                                                                   \
  if (!tmp.ok())                                                                                                       \
    return tmp.status();                                                                                               \
  decl = std::move(*tmp)
