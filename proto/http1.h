// Heads of HTTP/1.1 messages (RFC 9112), read strictly: what two readers could understand differently is refused, never
// repaired. A head is parsed where it lies: all views point into the bytes given, and nothing is allocated.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "proto/codec_limits.h"

namespace tunnel::proto {

struct HeaderField {
  std::string_view name;
  // Without the white space around it; otherwise any bytes but control characters.
  std::string_view value;
};

// The fields of one head, in their order. Names compare without case.
class HeaderFields {
 public:
  // The value of the first field of that name.
  std::optional<std::string_view> Find(std::string_view name) const;
  size_t Count(std::string_view name) const;
  // Whether `token` is an element, compared without case, of the comma-separated lists of all fields of that name.
  bool HasToken(std::string_view name, std::string_view token) const;

  std::span<const HeaderField> all() const { return std::span(fields_).first(count_); }

  void Clear() { count_ = 0; }
  // False when kHttp1MaxFields are held already.
  [[nodiscard]] bool Add(HeaderField field);

 private:
  // Only the first `count_` mean something; not initialised, since a head is parsed per connection.
  std::array<HeaderField, kHttp1MaxFields> fields_;
  size_t count_ = 0;
};

// How the end of a message's body is found (RFC 9112 6.3).
struct BodyFraming {
  enum class Kind { kNone, kLength, kChunked, kUntilClose };
  Kind kind = Kind::kNone;
  // kLength: bytes, at most kHttp1MaxContentLength.
  uint64_t length = 0;

  bool operator==(const BodyFraming&) const = default;
};

// RFC 9112 3.2.
enum class TargetForm { kOrigin, kAbsolute, kAuthority, kAsterisk };

struct RequestHead {
  std::string_view method;
  // As it stands in the request line; visible ASCII without `#`.
  std::string_view target;
  TargetForm form = TargetForm::kOrigin;
  // Absolute form: the scheme.
  std::string_view scheme;
  // Host and port as given: from the target where it has them (absolute and authority form), else from Host. Empty in
  // an HTTP/1.0 request without either.
  std::string_view host;
  std::optional<uint16_t> port;
  // Path and query. Origin form: the target. Absolute form: what follows the authority, perhaps nothing.
  std::string_view path;
  // 0 or 1.
  int minor_version = 1;
  HeaderFields fields;
  BodyFraming framing;
  // Whether the connection outlives this message (RFC 9112 9.3).
  bool persistent = false;
};

struct ResponseHead {
  int minor_version = 1;
  // 100 to 599.
  int status = 0;
  std::string_view reason;
  HeaderFields fields;
  BodyFraming framing;
  bool persistent = false;
};

struct HeadResult {
  enum class Kind { kNeedMore, kDone, kError };
  Kind kind = Kind::kNeedMore;
  // kDone: the head's bytes, its empty line included; what follows is body or the next message.
  size_t head_bytes = 0;
  // kError: the status to answer a request with, 400, 414, 431, 501 or 505, and why, a literal.
  int status = 0;
  std::string_view reason;
};

// Parses the head that `bytes` starts with. `out` means something only when kDone is returned, and only while `bytes`
// stay where they are.
// `scanned`: where a call for a shorter piece of the same bytes returned kNeedMore, the length of that piece. It saves
// looking at them again, so that a head that comes byte by byte costs what one that comes at once does.
// The result is the same however the bytes are cut. Errors in the first bytes and line ends are found at once, the
// others when the head is complete.
[[nodiscard]] HeadResult ParseRequestHead(std::string_view bytes, RequestHead& out, size_t scanned = 0);

// As above. `request_method` is the method of the request that is answered; it decides the framing. A space after the
// status code is not insisted on where the reason is missing: servers leave it out, and nothing depends on it.
// The statuses of errors are those of ParseRequestHead; all of them mean that the connection is of no further use.
[[nodiscard]] HeadResult ParseResponseHead(std::string_view bytes, std::string_view request_method, ResponseHead& out,
                                           size_t scanned = 0);

}  // namespace tunnel::proto
