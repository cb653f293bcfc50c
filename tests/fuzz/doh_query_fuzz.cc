// A stranger's DoH request: the path of a GET, or a POSTed message. Whatever it is, the answer is a well-formed
// response, and it is about our own names only.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/socket_address.h"
#include "net/dns_publisher.h"
#include "net/doh_request.h"
#include "proto/base64.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"

namespace {

using tunnel::core::SocketAddress;
namespace net = tunnel::net;
namespace proto = tunnel::proto;

void CheckAnswer(std::span<const uint8_t> query) {
  static const net::DnsPublisher publisher({"secret.example", "localhost"});
  static const std::string list("\0\4\xfe\x0d\0\0", 6);
  for (const char* ip : {"192.0.2.80", "2001:db8::80"}) {
    const SocketAddress local = *SocketAddress::Parse(ip, 8443);
    const std::vector<uint8_t> answer = publisher.Answer(query, local, list);
    const auto response = proto::ParseResponse(answer);
    TUNNEL_CHECK(response.ok());
    TUNNEL_CHECK(!response->truncated);
    const uint16_t id = query.size() < 2 ? uint16_t{0} : static_cast<uint16_t>(query[0] << 8 | query[1]);
    TUNNEL_CHECK(response->id == id);
    const auto parsed = proto::ParseQuery(query);
    if (!parsed.ok()) {
      TUNNEL_CHECK(response->rcode == proto::DnsRcode::kFormErr && response->answers.empty());
      continue;
    }
    TUNNEL_CHECK(response->question == parsed->question);
    const std::string& name = parsed->question.name;
    const bool ours = name == "secret.example" || name == "localhost" || name.ends_with("._https.secret.example") ||
                      name.ends_with("._https.localhost");
    if (!ours) TUNNEL_CHECK(response->answers.empty() && response->rcode != proto::DnsRcode::kNoError);
    for (const proto::DnsRecord& record : response->answers) {
      TUNNEL_CHECK(record.name == name && record.type == parsed->question.type);
    }
    // No amplification worth the name: the list, an address and a few parameters.
    TUNNEL_CHECK(answer.size() <= 2 * proto::kDnsResponseBlockBytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  bool too_long = false;
  if (const std::optional<std::vector<uint8_t>> query = net::FindDnsParameter(text, too_long)) {
    TUNNEL_CHECK(!too_long && query->size() <= net::kMaxDohQueryBytes);
    // One text for one query.
    TUNNEL_CHECK(text.find("dns=" + proto::Base64UrlEncode(*query)) != std::string_view::npos);
    CheckAnswer(*query);
  }
  CheckAnswer({data, size});
  return 0;
}
