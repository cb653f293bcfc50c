// The SOCKS4 server's negotiation: the same outcome and the same border to the stream, however the bytes are cut.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "core/check.h"
#include "proto/socks4.h"

using namespace tunnel::proto;

namespace {

struct Outcome {
  std::string log;
  size_t consumed = 0;

  bool operator==(const Outcome&) const = default;
};

Outcome Negotiate(std::span<const uint8_t> input, size_t piece) {
  Socks4Server server;
  Outcome outcome;
  while (outcome.consumed < input.size()) {
    const auto fed = input.subspan(outcome.consumed).first(std::min(piece, input.size() - outcome.consumed));
    server.Feed(fed);
    const Socks4Event event = server.Next();
    outcome.consumed += server.consumed();
    switch (event.kind) {
      case Socks4Event::Kind::kNeedMore:
        TUNNEL_CHECK(server.consumed() == fed.size());
        continue;
      case Socks4Event::Kind::kRequest: {
        TUNNEL_CHECK(input[0] == kSocks4Version && input[1] == 1 && input[outcome.consumed - 1] == 0);
        const auto again = ParseTarget(ToString(event.target));
        TUNNEL_CHECK(again.ok() && *again == event.target);
        outcome.log = ToString(event.target);
        break;
      }
      case Socks4Event::Kind::kError:
        TUNNEL_CHECK(!event.reason.empty());
        TUNNEL_CHECK(event.has_reply == (input[0] == kSocks4Version));
        outcome.log = event.reason;
        break;
      case Socks4Event::Kind::kPaused:
        TUNNEL_CHECK(false);
        break;
    }
    TUNNEL_CHECK(server.Next().kind == Socks4Event::Kind::kPaused);
    break;
  }
  // No message is longer.
  TUNNEL_CHECK(outcome.consumed <= 8 + kSocks4MaxUserIdBytes + 1 + kMaxHostBytes + 1);
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> input(data, size);
  const Outcome whole = Negotiate(input, size + 1);
  TUNNEL_CHECK(Negotiate(input, 1) == whole);
  TUNNEL_CHECK(Negotiate(input, 3) == whole);
  TUNNEL_CHECK(Negotiate(input.first(whole.consumed), size + 1) == whole);
  return 0;
}
