// Layout of DNS messages (RFC 1035 4.1.1, RFC 6891 6.1), shared by the reader and the writer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tunnel::proto {

// Header: id, flags, and the counts of questions, answers, authority and additional records, 16 bits each.
inline constexpr size_t kDnsHeaderBytes = 12;
inline constexpr uint16_t kDnsFlagResponse = 0x8000;
inline constexpr uint16_t kDnsOpcodeMask = 0x7800;
inline constexpr uint16_t kDnsFlagAuthoritative = 0x0400;
inline constexpr uint16_t kDnsFlagTruncated = 0x0200;
inline constexpr uint16_t kDnsFlagRecursionDesired = 0x0100;
inline constexpr uint16_t kDnsRcodeMask = 0x000f;
inline constexpr uint16_t kDnsClassIn = 1;

// OPT: the class is the sender's UDP size, the TTL is extended rcode, version and flags, 8, 8 and 16 bits.
inline constexpr uint16_t kDnsUdpBytes = 1232;
inline constexpr uint16_t kDnsOptionPadding = 12;
inline constexpr size_t kDnsOptionHeaderBytes = 4;

}  // namespace tunnel::proto
