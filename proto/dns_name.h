// Domain names between their wire form (RFC 1035 3.1, 4.1.4) and text.
//
// Text is the presentation form of RFC 1035 5.1 without the last dot: `example.com`, and `.` for the root. Upper-case
// ASCII is lowered both ways (RFC 4343), so that names compare as strings. A dot or backslash within a label, and the
// characters that zone files give a meaning, are written \X, bytes that are not visible ASCII \DDD.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tunnel::proto {

enum class NameCompression { kAllowed, kForbidden };

// Reads the name at `offset` of `message` and moves `offset` behind it. Pointers must point strictly backward, to
// before the labels they continue, so there are no loops; kDnsMaxPointers and the 255 bytes of a name bound the work.
// ProtocolError on anything malformed, `offset` then unchanged.
absl::StatusOr<std::string> ReadDnsName(std::span<const uint8_t> message, size_t& offset,
                                        NameCompression compression = NameCompression::kAllowed);

// Appends `name`, with or without its last dot, uncompressed. InvalidArgument when it is no domain name, `out` then
// unchanged.
absl::Status AppendDnsName(std::string_view name, std::vector<uint8_t>& out);

// The spelling that ReadDnsName would give: to compare a name from elsewhere with names in messages.
absl::StatusOr<std::string> CanonicalDnsName(std::string_view name);

}  // namespace tunnel::proto
