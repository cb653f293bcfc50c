// Reading DNS messages.
#include <algorithm>

#include "core/status.h"
#include "proto/dns_format.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"
#include "proto/dns_wire.h"

namespace tunnel::proto {
namespace {

struct Header {
  uint16_t id = 0;
  uint16_t flags = 0;
  uint16_t questions = 0;
  uint16_t answers = 0;
  uint16_t authorities = 0;
  uint16_t additionals = 0;
};

struct Edns {
  uint8_t extended_rcode = 0;
  uint8_t version = 0;
  bool padded = false;
};

// A record before its data is looked at.
struct RawRecord {
  std::string name;
  uint16_t type = 0;
  uint16_t klass = 0;
  uint32_t ttl = 0;
  size_t data_offset = 0;
  std::span<const uint8_t> data;
};

absl::Status CutOff() { return ProtocolError("malformed DNS message: cut off"); }

absl::StatusOr<Header> ReadHeader(std::span<const uint8_t> message) {
  if (message.size() > kDnsMaxMessageBytes) return ProtocolError("DNS message over {} bytes", kDnsMaxMessageBytes);
  Header header;
  WireReader reader(message);
  if (!reader.ReadU16(header.id) || !reader.ReadU16(header.flags) || !reader.ReadU16(header.questions) ||
      !reader.ReadU16(header.answers) || !reader.ReadU16(header.authorities) || !reader.ReadU16(header.additionals)) {
    return CutOff();
  }
  if ((header.flags & kDnsOpcodeMask) != 0) return ProtocolError("not a standard DNS query or its response");
  const size_t records = size_t{header.answers} + header.authorities + header.additionals;
  if (header.answers > kDnsMaxAnswers || records > kDnsMaxRecords) {
    return ProtocolError("DNS message with {} answers and {} records in all", header.answers, records);
  }
  return header;
}

absl::StatusOr<DnsQuestion> ReadQuestion(std::span<const uint8_t> message, size_t& offset) {
  absl::StatusOr<std::string> name = ReadDnsName(message, offset);
  if (!name.ok()) return name.status();
  WireReader reader(message.subspan(offset));
  uint16_t type = 0;
  uint16_t klass = 0;
  if (!reader.ReadU16(type) || !reader.ReadU16(klass)) return CutOff();
  if (klass != kDnsClassIn) return ProtocolError("DNS question of class {}", klass);
  offset += reader.offset();
  return DnsQuestion{.name = *std::move(name), .type = static_cast<DnsType>(type)};
}

absl::StatusOr<RawRecord> ReadRecord(std::span<const uint8_t> message, size_t& offset) {
  absl::StatusOr<std::string> name = ReadDnsName(message, offset);
  if (!name.ok()) return name.status();
  RawRecord record{.name = *std::move(name)};
  WireReader reader(message.subspan(offset));
  uint16_t size = 0;
  if (!reader.ReadU16(record.type) || !reader.ReadU16(record.klass) || !reader.ReadU32(record.ttl) ||
      !reader.ReadU16(size)) {
    return CutOff();
  }
  record.data_offset = offset + reader.offset();
  if (!reader.ReadBytes(size, record.data)) return CutOff();
  offset += reader.offset();
  return record;
}

// Reads the data of a record of class IN whose type we know.
absl::Status ReadData(std::span<const uint8_t> message, const RawRecord& raw, DnsRecord& record) {
  switch (record.type) {
    case DnsType::kA:
      if (raw.data.size() != 4) return ProtocolError("malformed A record");
      record.data = IpAddress::V4(raw.data.first<4>());
      break;
    case DnsType::kAaaa:
      if (raw.data.size() != 16) return ProtocolError("malformed AAAA record");
      record.data = IpAddress::V6(raw.data.first<16>());
      break;
    case DnsType::kCname: {
      size_t offset = raw.data_offset;
      absl::StatusOr<std::string> target = ReadDnsName(message.first(raw.data_offset + raw.data.size()), offset);
      if (!target.ok()) return Annotate(target.status(), "malformed CNAME record");
      if (offset != raw.data_offset + raw.data.size()) return ProtocolError("malformed CNAME record");
      record.data = DnsCname{*std::move(target)};
      break;
    }
    case DnsType::kHttps: {
      absl::StatusOr<HttpsRecord> https = ParseHttpsRecord(raw.data);
      if (!https.ok()) return https.status();
      record.data = *std::move(https);
      break;
    }
    case DnsType::kOpt:
      return ProtocolError("OPT among the answers");
  }
  return absl::OkStatus();
}

absl::StatusOr<Edns> ReadOpt(const RawRecord& raw) {
  if (raw.name != ".") return ProtocolError("malformed OPT record: its owner is not the root");
  Edns edns{.extended_rcode = static_cast<uint8_t>(raw.ttl >> 24), .version = static_cast<uint8_t>(raw.ttl >> 16)};
  WireReader reader(raw.data);
  while (reader.remaining() > 0) {
    uint16_t code = 0;
    uint16_t size = 0;
    std::span<const uint8_t> value;
    if (!reader.ReadU16(code) || !reader.ReadU16(size) || !reader.ReadBytes(size, value)) {
      return ProtocolError("malformed OPT record: cut off");
    }
    if (code == kDnsOptionPadding) edns.padded = true;
  }
  return edns;
}

// Reads past authority and additional records, picks out OPT, and insists that the message ends there.
absl::StatusOr<std::optional<Edns>> ReadRest(std::span<const uint8_t> message, const Header& header, size_t offset) {
  std::optional<Edns> edns;
  for (size_t i = 0; i < size_t{header.authorities} + header.additionals; ++i) {
    const absl::StatusOr<RawRecord> raw = ReadRecord(message, offset);
    if (!raw.ok()) return raw.status();
    if (static_cast<DnsType>(raw->type) != DnsType::kOpt) continue;
    if (i < header.authorities || edns) return ProtocolError("more than one OPT record, or one out of its place");
    const absl::StatusOr<Edns> read = ReadOpt(*raw);
    if (!read.ok()) return read.status();
    edns = *read;
  }
  if (offset != message.size()) return ProtocolError("{} bytes after a DNS message", message.size() - offset);
  return edns;
}

}  // namespace

std::string ToString(DnsRcode rcode) {
  switch (rcode) {
    case DnsRcode::kNoError:
      return "NOERROR";
    case DnsRcode::kFormErr:
      return "FORMERR";
    case DnsRcode::kServFail:
      return "SERVFAIL";
    case DnsRcode::kNxDomain:
      return "NXDOMAIN";
    case DnsRcode::kNotImp:
      return "NOTIMP";
    case DnsRcode::kRefused:
      return "REFUSED";
    case DnsRcode::kBadVers:
      return "BADVERS";
  }
  return fmt::format("RCODE{}", static_cast<unsigned>(rcode));
}

absl::StatusOr<DnsResponse> ParseResponse(std::span<const uint8_t> message) {
  const absl::StatusOr<Header> header = ReadHeader(message);
  if (!header.ok()) return header.status();
  if ((header->flags & kDnsFlagResponse) == 0) return ProtocolError("a DNS query where a response was expected");
  if (header->questions > 1) return ProtocolError("DNS response with {} questions", header->questions);
  DnsResponse response{.id = header->id,
                       .rcode = static_cast<DnsRcode>(header->flags & kDnsRcodeMask),
                       .truncated = (header->flags & kDnsFlagTruncated) != 0};
  size_t offset = kDnsHeaderBytes;
  if (header->questions == 1) {
    absl::StatusOr<DnsQuestion> question = ReadQuestion(message, offset);
    if (!question.ok()) return question.status();
    response.question = *std::move(question);
  }
  for (size_t i = 0; i < header->answers; ++i) {
    const absl::StatusOr<RawRecord> raw = ReadRecord(message, offset);
    if (!raw.ok()) return raw.status();
    DnsRecord record{
        .name = raw->name, .type = static_cast<DnsType>(raw->type), .ttl_seconds = raw->ttl > INT32_MAX ? 0 : raw->ttl};
    if (raw->klass != kDnsClassIn && record.type != DnsType::kOpt) {
      return ProtocolError("DNS record of class {}", raw->klass);
    }
    TUNNEL_RETURN_IF_ERROR(ReadData(message, *raw, record));
    response.answers.push_back(std::move(record));
  }
  const absl::StatusOr<std::optional<Edns>> edns = ReadRest(message, *header, offset);
  if (!edns.ok()) return edns.status();
  if (*edns) {
    response.rcode =
        static_cast<DnsRcode>(static_cast<uint16_t>(response.rcode) | uint16_t{(*edns)->extended_rcode} << 4);
  }
  return response;
}

absl::StatusOr<DnsQuery> ParseQuery(std::span<const uint8_t> message) {
  const absl::StatusOr<Header> header = ReadHeader(message);
  if (!header.ok()) return header.status();
  if ((header->flags & (kDnsFlagResponse | kDnsFlagTruncated)) != 0) {
    return ProtocolError("a DNS response where a query was expected");
  }
  if (header->questions != 1) return ProtocolError("DNS query with {} questions", header->questions);
  if (header->answers != 0 || header->authorities != 0) return ProtocolError("DNS query with records");
  size_t offset = kDnsHeaderBytes;
  absl::StatusOr<DnsQuestion> question = ReadQuestion(message, offset);
  if (!question.ok()) return question.status();
  const absl::StatusOr<std::optional<Edns>> edns = ReadRest(message, *header, offset);
  if (!edns.ok()) return edns.status();
  DnsQuery query{.id = header->id,
                 .recursion_desired = (header->flags & kDnsFlagRecursionDesired) != 0,
                 .question = *std::move(question)};
  if (*edns) {
    query.has_edns = true;
    query.edns_version = (*edns)->version;
    query.padded = (*edns)->padded;
  }
  return query;
}

}  // namespace tunnel::proto
