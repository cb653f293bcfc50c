// Errors as values: absl::Status with messages formatted by fmt.
//
// Debian builds abseil with its own string_view, so a std::string_view does not convert to it. These constructors are
// the one place where our strings become abseil's.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/cord.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace tunnel {

inline std::string_view MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

// Makes a status of `code` whose message is `format` filled in by fmt.
template <typename... Args>
[[nodiscard]] absl::Status MakeStatus(absl::StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
  const std::string message = fmt::format(format, std::forward<Args>(args)...);
  return absl::Status(code, message);
}

// Bytes, an address, a flag or a file that does not say what it must.
template <typename... Args>
[[nodiscard]] absl::Status InvalidArgument(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

// A peer, a file or a service that cannot be reached now and may be later.
template <typename... Args>
[[nodiscard]] absl::Status Unavailable(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kUnavailable, format, std::forward<Args>(args)...);
}

// A peer refused us or failed authentication; trying the same again will not help.
template <typename... Args>
[[nodiscard]] absl::Status PermissionDenied(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kPermissionDenied, format, std::forward<Args>(args)...);
}

template <typename... Args>
[[nodiscard]] absl::Status NotFound(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kNotFound, format, std::forward<Args>(args)...);
}

// What was asked for is over a written bound.
template <typename... Args>
[[nodiscard]] absl::Status ResourceExhausted(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kResourceExhausted, format, std::forward<Args>(args)...);
}

template <typename... Args>
[[nodiscard]] absl::Status DeadlineExceeded(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kDeadlineExceeded, format, std::forward<Args>(args)...);
}

// The operation's scope was cancelled.
[[nodiscard]] inline absl::Status Cancelled() { return absl::CancelledError("cancelled"); }

// A peer that broke its protocol; the connection it came on is to be ended.
template <typename... Args>
[[nodiscard]] absl::Status ProtocolError(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kDataLoss, format, std::forward<Args>(args)...);
}

// A library or the kernel failed in a way that is not the peer's doing.
template <typename... Args>
[[nodiscard]] absl::Status Internal(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(absl::StatusCode::kInternal, format, std::forward<Args>(args)...);
}

// Gives `to` what `from` says beside its code and message (core/io_error.h), and returns it.
[[nodiscard]] inline absl::Status WithPayloadsOf(const absl::Status& from, absl::Status to) {
  from.ForEachPayload([&to](const auto& name, const absl::Cord& payload) { to.SetPayload(name, payload); });
  return to;
}

// Puts `context` and a colon before the message of a status that is not ok; what else it says stays.
template <typename... Args>
[[nodiscard]] absl::Status Annotate(const absl::Status& status, fmt::format_string<Args...> format, Args&&... args) {
  if (status.ok()) return status;
  return WithPayloadsOf(
      status, MakeStatus(status.code(), "{}: {}", fmt::format(format, std::forward<Args>(args)...), MessageOf(status)));
}

}  // namespace tunnel

// Returns early with the error of an absl::Status expression.
#define TUNNEL_RETURN_IF_ERROR(expr)                    \
  do {                                                  \
    if (absl::Status status_ = (expr); !status_.ok()) { \
      return status_;                                   \
    }                                                   \
  } while (false)
