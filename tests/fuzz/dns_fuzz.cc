// DNS messages, HTTPS records and names. The first byte chooses: response, query, HTTPS rdata, name as text.
// What is accepted is written again and read back as the same value.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"

using namespace tunnel::proto;

namespace {

void CheckName(const std::string& name) {
  const auto canonical = CanonicalDnsName(name);
  TUNNEL_CHECK(canonical.ok() && *canonical == name);
}

void CheckResponse(std::span<const uint8_t> message) {
  const auto response = ParseResponse(message);
  if (!response.ok()) return;
  TUNNEL_CHECK(response->answers.size() <= kDnsMaxAnswers);
  DnsQuery query{.id = response->id, .question = {.name = ".", .type = DnsType::kA}, .has_edns = true};
  if (response->question) query.question = *response->question;
  CheckName(query.question.name);
  std::vector<DnsRecord> known;
  for (const DnsRecord& record : response->answers) {
    CheckName(record.name);
    TUNNEL_CHECK(record.ttl_seconds <= INT32_MAX);
    if (!std::holds_alternative<std::monostate>(record.data)) known.push_back(record);
  }
  (void)CheckAnswers(*response, query.question.name, query.question.type).ok();
  if (const auto https = FindHttps(*response, query.question.name); https.ok()) {
    for (size_t i = 0; i < https->services.size(); ++i) {
      TUNNEL_CHECK(https->services[i].IsUsable());
      TUNNEL_CHECK(i == 0 || https->services[i - 1].priority <= https->services[i].priority);
    }
  }
  (void)FindAddresses(*response, query.question.name).ok();

  const auto rebuilt = BuildResponse(query, known, response->rcode);
  // Uncompressed, the records may be over the bound.
  if (rebuilt.status().code() == absl::StatusCode::kResourceExhausted) return;
  TUNNEL_CHECK(rebuilt.ok());
  const auto again = ParseResponse(*rebuilt);
  TUNNEL_CHECK(again.ok());
  TUNNEL_CHECK(again->question == query.question && again->answers == known && again->rcode == response->rcode);
}

void CheckQuery(std::span<const uint8_t> message) {
  const auto query = ParseQuery(message);
  if (!query.ok()) return;
  CheckName(query->question.name);
  const auto response = BuildResponse(*query, {}, DnsRcode::kNxDomain);
  TUNNEL_CHECK(response.ok());
  const auto read = ParseResponse(*response);
  TUNNEL_CHECK(read.ok() && read->question == query->question && read->id == query->id);
  const auto again = BuildQuery(query->question.name, query->question.type, query->id);
  TUNNEL_CHECK(again.ok() && again->size() % kDnsQueryBlockBytes == 0);
  TUNNEL_CHECK(ParseQuery(*again)->question == query->question);
}

void CheckHttps(std::span<const uint8_t> rdata) {
  const auto record = ParseHttpsRecord(rdata);
  if (!record.ok()) return;
  CheckName(record->target);
  const auto encoded = EncodeHttpsRecord(*record);
  TUNNEL_CHECK(encoded.ok());
  TUNNEL_CHECK(*ParseHttpsRecord(*encoded) == *record);
  // Keys have one order and values one form, so only the case of the target may differ.
  TUNNEL_CHECK(record->IsAlias() || encoded->size() == rdata.size());
  const std::string text = FormatHttpsRecord(*record, "");
  for (const char c : text) TUNNEL_CHECK(c >= 0x20 && c < 0x7f);
}

void CheckText(std::string_view text) {
  std::vector<uint8_t> wire;
  if (!AppendDnsName(text, wire).ok()) {
    TUNNEL_CHECK(wire.empty());
    return;
  }
  TUNNEL_CHECK(wire.size() <= kDnsMaxNameBytes);
  size_t offset = 0;
  const auto read = ReadDnsName(wire, offset);
  TUNNEL_CHECK(read.ok() && offset == wire.size());
  CheckName(*read);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> input(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      CheckResponse(input);
      break;
    case 1:
      CheckQuery(input);
      break;
    case 2:
      CheckHttps(input);
      break;
    default:
      CheckText({reinterpret_cast<const char*>(input.data()), input.size()});
      break;
  }
  return 0;
}
