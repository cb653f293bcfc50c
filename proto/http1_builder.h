// Writes heads of HTTP/1.1 messages.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

namespace tunnel::proto {

// Builds a head field by field. What would not be read back as the same head (CR, LF or NUL in a value, a name that is
// no token, a space in a target) is remembered and refused by Finish, whatever it came from.
class HttpHeadBuilder {
 public:
  // `target` in any of its forms: visible ASCII.
  static HttpHeadBuilder Request(std::string_view method, std::string_view target);
  // `status` 100 to 599. HTTP/1.1 also where the request was 1.0 (RFC 9110 6.2).
  static HttpHeadBuilder Response(int status, std::string_view reason);

  HttpHeadBuilder& Add(std::string_view name, std::string_view value);

  // The head with its empty line, or InvalidArgument naming the part that is not allowed, without its value.
  absl::StatusOr<std::string> Finish();

 private:
  HttpHeadBuilder() = default;

  std::string head_;
  absl::Status status_;
};

}  // namespace tunnel::proto
