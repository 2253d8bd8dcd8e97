#include "mili/runtime/status.h"

namespace mili {

const char *status_code_name(StatusCode code) {
  switch (code) {
  case StatusCode::kOk: return "ok";
  case StatusCode::kInvalidArgument: return "invalid argument";
  case StatusCode::kNotFound: return "not found";
  case StatusCode::kDataLoss: return "data loss";
  case StatusCode::kUnimplemented: return "unimplemented";
  case StatusCode::kResourceExhausted: return "resource exhausted";
  case StatusCode::kUnavailable: return "unavailable";
  case StatusCode::kFailedPrecondition: return "failed precondition";
  case StatusCode::kCancelled: return "cancelled";
  case StatusCode::kInternal: return "internal error";
  }
  return "unknown";
}

std::string Status::to_string() const {
  if (ok())
    return "ok";
  return std::string(status_code_name(code_)) + ": " + message_;
}

Status Status::with_context(std::string_view context) const {
  if (ok())
    return *this;
  return {code_, std::string(context) + ": " + message_};
}

Status invalid_argument(std::string m) {
  return {StatusCode::kInvalidArgument, std::move(m)};
}
Status not_found(std::string m) {
  return {StatusCode::kNotFound, std::move(m)};
}
Status data_loss(std::string m) {
  return {StatusCode::kDataLoss, std::move(m)};
}
Status unimplemented(std::string m) {
  return {StatusCode::kUnimplemented, std::move(m)};
}
Status resource_exhausted(std::string m) {
  return {StatusCode::kResourceExhausted, std::move(m)};
}
Status unavailable(std::string m) {
  return {StatusCode::kUnavailable, std::move(m)};
}
Status failed_precondition(std::string m) {
  return {StatusCode::kFailedPrecondition, std::move(m)};
}
Status cancelled(std::string m) {
  return {StatusCode::kCancelled, std::move(m)};
}
Status internal_error(std::string m) {
  return {StatusCode::kInternal, std::move(m)};
}

}  // namespace mili
