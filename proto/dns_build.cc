// Writing DNS messages.
#include <algorithm>

#include "core/status.h"
#include "proto/dns_format.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"
#include "proto/dns_wire.h"

namespace tunnel::proto {
namespace {

constexpr size_t kAnswersCountOffset = 6;
constexpr size_t kAdditionalsCountOffset = 10;

absl::Status AppendHeaderAndQuestion(uint16_t id, unsigned flags, const DnsQuestion& question,
                                     std::vector<uint8_t>& out) {
  AppendU16(out, id);
  AppendU16(out, flags);
  AppendU16(out, 1);
  for (int count = 0; count < 3; ++count) AppendU16(out, 0);
  TUNNEL_RETURN_IF_ERROR(AppendDnsName(question.name, out));
  AppendU16(out, static_cast<uint16_t>(question.type));
  AppendU16(out, kDnsClassIn);
  return absl::OkStatus();
}

// Appends OPT as the last record, padding the message to a multiple of `pad_to` bytes unless that is 0.
void AppendOpt(DnsRcode rcode, size_t pad_to, std::vector<uint8_t>& out) {
  PatchU16(out, kAdditionalsCountOffset, 1);
  out.push_back(0);
  AppendU16(out, static_cast<uint16_t>(DnsType::kOpt));
  AppendU16(out, kDnsUdpBytes);
  AppendU32(out, static_cast<uint32_t>(static_cast<uint16_t>(rcode) >> 4) << 24);
  if (pad_to == 0) {
    AppendU16(out, 0);
    return;
  }
  const size_t unpadded = out.size() + 2 + kDnsOptionHeaderBytes;
  // A message near the limit gets less padding rather than an end over it.
  const size_t padded = std::max(std::min((unpadded + pad_to - 1) / pad_to * pad_to, kDnsMaxMessageBytes), unpadded);
  AppendU16(out, kDnsOptionHeaderBytes + padded - unpadded);
  AppendU16(out, kDnsOptionPadding);
  AppendU16(out, padded - unpadded);
  out.resize(padded);
}

absl::Status AppendData(const DnsRecord& record, std::vector<uint8_t>& out) {
  const auto* address = std::get_if<IpAddress>(&record.data);
  if (address != nullptr && record.type == (address->v6 ? DnsType::kAaaa : DnsType::kA)) {
    AppendBytes(out, address->octets());
    return absl::OkStatus();
  }
  if (const auto* cname = std::get_if<DnsCname>(&record.data); cname != nullptr && record.type == DnsType::kCname) {
    return AppendDnsName(cname->target, out);
  }
  if (const auto* https = std::get_if<HttpsRecord>(&record.data); https != nullptr && record.type == DnsType::kHttps) {
    const absl::StatusOr<std::vector<uint8_t>> data = EncodeHttpsRecord(*https);
    if (!data.ok()) return data.status();
    AppendBytes(out, *data);
    return absl::OkStatus();
  }
  return InvalidArgument("a DNS record of {} whose data does not fit its type {}", record.name,
                         static_cast<unsigned>(record.type));
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> BuildQuery(std::string_view name, DnsType type, uint16_t id, size_t pad_to) {
  std::vector<uint8_t> out;
  TUNNEL_RETURN_IF_ERROR(
      AppendHeaderAndQuestion(id, kDnsFlagRecursionDesired, {.name = std::string(name), .type = type}, out));
  AppendOpt(DnsRcode::kNoError, pad_to, out);
  return out;
}

absl::StatusOr<std::vector<uint8_t>> BuildResponse(const DnsQuery& query, std::span<const DnsRecord> answers,
                                                   DnsRcode rcode) {
  if (answers.size() > kDnsMaxAnswers) {
    return ResourceExhausted("{} answers in a DNS response, at most {}", answers.size(), kDnsMaxAnswers);
  }
  if (!query.has_edns && static_cast<uint16_t>(rcode) > kDnsRcodeMask) {
    return InvalidArgument("{} cannot be said without EDNS", ToString(rcode));
  }
  std::vector<uint8_t> out;
  const unsigned flags = kDnsFlagResponse | kDnsFlagAuthoritative |
                         (query.recursion_desired ? kDnsFlagRecursionDesired : 0U) |
                         (static_cast<unsigned>(rcode) & kDnsRcodeMask);
  TUNNEL_RETURN_IF_ERROR(AppendHeaderAndQuestion(query.id, flags, query.question, out));
  PatchU16(out, kAnswersCountOffset, answers.size());
  for (const DnsRecord& record : answers) {
    if (record.name == query.question.name) {
      AppendU16(out, 0xc000 | kDnsHeaderBytes);
    } else {
      TUNNEL_RETURN_IF_ERROR(AppendDnsName(record.name, out));
    }
    AppendU16(out, static_cast<uint16_t>(record.type));
    AppendU16(out, kDnsClassIn);
    AppendU32(out, record.ttl_seconds);
    const size_t size_at = out.size();
    AppendU16(out, 0);
    TUNNEL_RETURN_IF_ERROR(AppendData(record, out));
    const size_t size = out.size() - size_at - 2;
    if (size > UINT16_MAX) return ResourceExhausted("a DNS record of {} bytes", size);
    PatchU16(out, size_at, size);
  }
  if (query.has_edns) AppendOpt(rcode, query.padded ? kDnsResponseBlockBytes : 0, out);
  if (out.size() > kDnsMaxMessageBytes) return ResourceExhausted("a DNS response of {} bytes", out.size());
  return out;
}

}  // namespace tunnel::proto
