#include "core/io_error.h"

#include <array>
#include <cerrno>
#include <cstring>

#include "core/log.h"

namespace tunnel::core {
namespace {

// One visible character for each IoError.
constexpr const char* kPayloadName = "tunnel/io-error";
constexpr char kPayloadBase = 'a';

}  // namespace

IoError FromErrno(int error_number) {
  switch (error_number) {
    case 0:
      return IoError::kOk;
    case ECANCELED:
      return IoError::kCancelled;
    case ENOENT:
    case ENOTDIR:
      return IoError::kNotFound;
    case ECONNREFUSED:
      return IoError::kRefused;
    case EHOSTUNREACH:
    case EHOSTDOWN:
      return IoError::kUnreachable;
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
      return IoError::kNetworkUnreachable;
    case ETIMEDOUT:
      return IoError::kTimedOut;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
      return IoError::kReset;
    case EADDRINUSE:
      return IoError::kAddressInUse;
    case EACCES:
    case EPERM:
      return IoError::kDenied;
    case EMFILE:
    case ENFILE:
      return IoError::kNoDescriptors;
    case ENOMEM:
    case ENOBUFS:
      return IoError::kNoMemory;
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case ENOSYS:
      return IoError::kUnsupported;
    default:
      spdlog::warn("system error {}: {}", error_number, std::strerror(error_number));
      return IoError::kOther;
  }
}

std::string_view ToString(IoError error) {
  switch (error) {
    case IoError::kOk:
      return "ok";
    case IoError::kCancelled:
      return "cancelled";
    case IoError::kNotFound:
      return "no such file or directory";
    case IoError::kRefused:
      return "connection refused";
    case IoError::kUnreachable:
      return "host unreachable";
    case IoError::kNetworkUnreachable:
      return "network unreachable";
    case IoError::kTimedOut:
      return "timed out";
    case IoError::kReset:
      return "connection reset by the peer";
    case IoError::kAddressInUse:
      return "address already in use";
    case IoError::kDenied:
      return "not permitted";
    case IoError::kNoDescriptors:
      return "no file descriptors left (raise the limit of open files)";
    case IoError::kNoMemory:
      return "the kernel is out of memory or buffers";
    case IoError::kUnsupported:
      return "not supported by the kernel";
    case IoError::kOther:
      return "I/O error";
  }
  return "I/O error";
}

absl::Status ToStatus(IoError error, std::string_view what) {
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  switch (error) {
    case IoError::kOk:
      return absl::OkStatus();
    case IoError::kCancelled:
      code = absl::StatusCode::kCancelled;
      break;
    case IoError::kTimedOut:
      code = absl::StatusCode::kDeadlineExceeded;
      break;
    case IoError::kDenied:
      code = absl::StatusCode::kPermissionDenied;
      break;
    case IoError::kNoDescriptors:
    case IoError::kNoMemory:
      code = absl::StatusCode::kResourceExhausted;
      break;
    default:
      break;
  }
  absl::Status status = MakeStatus(code, "{}: {}", what, ToString(error));
  const std::array<char, 2> payload = {static_cast<char>(kPayloadBase + static_cast<int>(error)), '\0'};
  status.SetPayload(kPayloadName, absl::Cord(payload.data()));
  return status;
}

IoError IoErrorOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadName);
  return payload.has_value() && payload->size() == 1 ? static_cast<IoError>((*payload)[0] - kPayloadBase)
                                                     : IoError::kOk;
}

}  // namespace tunnel::core
