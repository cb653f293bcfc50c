// The SOCKS5 client's negotiation: the same messages sent, the same end and the same border to the stream, however the
// proxy's bytes are cut. The first byte chooses the request.
#include <cstdint>
#include <span>
#include <string>

#include "core/check.h"
#include "proto/socks5_client.h"

using namespace tunnel::proto;

namespace {

struct Outcome {
  std::string log;
  size_t consumed = 0;
  bool over = false;

  bool operator==(const Outcome&) const = default;
};

Socks5Client MakeClient(uint8_t choice) {
  const Target targets[] = {{"example.org", 443}, {"192.0.2.1", 80}, {"2001:db8::1", 65535}, {"0.0.0.0", 1}};
  std::optional<Credentials> credentials;
  if ((choice & 4) != 0) credentials = Credentials{.user = "user", .password = "pass"};
  const auto command = (choice & 8) != 0 ? Socks5Command::kUdpAssociate : Socks5Command::kConnect;
  return {command, targets[choice & 3], credentials};
}

Outcome Negotiate(uint8_t choice, std::span<const uint8_t> input, size_t piece) {
  Socks5Client client = MakeClient(choice);
  Outcome outcome;
  std::span<const uint8_t> fed;
  int sent = 0;
  for (;;) {
    const Socks5ClientEvent event = client.Next();
    switch (event.kind) {
      case Socks5ClientEvent::Kind::kSend:
        TUNNEL_CHECK(!event.send.empty() && ++sent <= 3);
        outcome.log.append(event.send.begin(), event.send.end());
        continue;
      case Socks5ClientEvent::Kind::kNeedMore:
        TUNNEL_CHECK(client.consumed() == fed.size());
        outcome.consumed += fed.size();
        if (outcome.consumed == input.size()) return outcome;
        fed = input.subspan(outcome.consumed);
        fed = fed.first(std::min(piece, fed.size()));
        client.Feed(fed);
        continue;
      case Socks5ClientEvent::Kind::kDone:
        TUNNEL_CHECK(IsValidHost(event.bound.host));
        outcome.log += ToString(event.bound);
        break;
      case Socks5ClientEvent::Kind::kError:
        TUNNEL_CHECK(!event.error.ok());
        outcome.log += event.error.ToString();
        break;
    }
    outcome.over = true;
    outcome.consumed += client.consumed();
    return outcome;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> input(data + 1, size - 1);
  const Outcome whole = Negotiate(data[0], input, input.size() + 1);
  TUNNEL_CHECK(Negotiate(data[0], input, 1) == whole);
  TUNNEL_CHECK(Negotiate(data[0], input, 3) == whole);
  // What was not consumed has no part in the outcome.
  TUNNEL_CHECK(Negotiate(data[0], input.first(whole.consumed), input.size() + 1) == whole);
  // Nothing more than a negotiation is taken.
  TUNNEL_CHECK(whole.consumed <= 2 + 2 + kSocks5MaxRequestBytes);
  return 0;
}
