// Every bound that the SOCKS, HTTP/1.1, DNS and address codecs hold their peers to, and how the bounds relate.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tunnel::proto {

// A host in a target: what one SOCKS5 length byte can say, and two more than a DNS name has in text (RFC 1035 2.3.4).
inline constexpr size_t kMaxHostBytes = 255;

// SOCKS5 messages (RFC 1928 3, 4; RFC 1929 2): the longest of each kind.
inline constexpr size_t kSocks5MaxGreetingBytes = 1 + 1 + 255;
inline constexpr size_t kSocks5MaxUserPassBytes = 1 + 1 + 255 + 1 + 255;
inline constexpr size_t kSocks5MaxAddressBytes = 1 + 1 + 255 + 2;
inline constexpr size_t kSocks5MaxRequestBytes = 3 + kSocks5MaxAddressBytes;
inline constexpr size_t kSocks5MaxReplyBytes = 4 + 16 + 2;
inline constexpr size_t kSocks5MaxUdpHeaderBytes = 3 + kSocks5MaxAddressBytes;
// SOCKS4 sets no bound to its user id; what SOCKS5 gives a user name is enough.
inline constexpr size_t kSocks4MaxUserIdBytes = 255;

// One HTTP/1.1 message head, start line and the empty line at its end included.
inline constexpr size_t kHttp1MaxHeadBytes = 16UL * 1024;
// The start line with its CRLF: 8,000 bytes of target is what RFC 9112 3 asks recipients to take.
inline constexpr size_t kHttp1MaxStartLineBytes = 8UL * 1024;
inline constexpr size_t kHttp1MaxFields = 100;
// Lengths above this are refused, so that they fit the signed integers of whatever reads them next.
inline constexpr uint64_t kHttp1MaxContentLength = INT64_MAX;
// A chunk's size line without its CRLF, and the bytes of extensions and of trailers in one whole body. The sums are
// bounded, not only the lines: else a peer makes us read kilobytes for each byte of body (CVE-2023-39326).
inline constexpr size_t kHttp1MaxChunkLineBytes = 256;
inline constexpr size_t kHttp1MaxChunkExtensionBytes = 4UL * 1024;
inline constexpr size_t kHttp1MaxTrailerBytes = 4UL * 1024;
static_assert(kHttp1MaxStartLineBytes < kHttp1MaxHeadBytes);
static_assert(kHttp1MaxChunkLineBytes < kHttp1MaxChunkExtensionBytes);

// DNS (RFC 1035 2.3.4, 4.2.2).
inline constexpr size_t kDnsMaxLabelBytes = 63;
inline constexpr size_t kDnsMaxNameBytes = 255;
inline constexpr size_t kDnsMaxMessageBytes = 65535;
// Pointers in one name: every one must point strictly backward, so this only bounds the work.
inline constexpr int kDnsMaxPointers = 32;
inline constexpr size_t kDnsMaxAnswers = 64;
inline constexpr size_t kDnsMaxRecords = 128;
inline constexpr int kDnsMaxCnames = 8;
// Block lengths of EDNS(0) padding for queries and for responses (RFC 8467 4.1).
inline constexpr size_t kDnsQueryBlockBytes = 128;
inline constexpr size_t kDnsResponseBlockBytes = 468;
static_assert(kDnsMaxAnswers <= kDnsMaxRecords);

}  // namespace tunnel::proto
