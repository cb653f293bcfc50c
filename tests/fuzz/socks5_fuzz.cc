// The SOCKS5 server's negotiation: the same events and the same border to the stream, however the bytes are cut.
// The first byte chooses the method and whether passwords are right.
#include <cstdint>
#include <span>
#include <string>

#include "core/check.h"
#include "proto/socks5.h"

using namespace tunnel::proto;

namespace {

struct Outcome {
  std::string log;
  size_t consumed = 0;

  bool operator==(const Outcome&) const = default;
};

Outcome Negotiate(uint8_t choice, std::span<const uint8_t> input, size_t piece) {
  Socks5Server server;
  Outcome outcome;
  while (true) {
    const std::span<const uint8_t> fed =
        input.subspan(outcome.consumed).first(std::min(piece, input.size() - outcome.consumed));
    server.Feed(fed);
    bool done = false;
    bool more = true;
    while (more) {
      const Socks5Event event = server.Next();
      switch (event.kind) {
        case Socks5Event::Kind::kNeedMore:
          TUNNEL_CHECK(server.consumed() == fed.size());
          more = false;
          break;
        case Socks5Event::Kind::kPaused:
          more = false;
          done = true;
          break;
        case Socks5Event::Kind::kMethods:
          outcome.log += event.offers_no_auth ? 'n' : '-';
          outcome.log += event.offers_user_pass ? 'u' : '-';
          server.SelectMethod((choice & 1) != 0 ? Socks5Method::kUserPass : Socks5Method::kNoAuth);
          break;
        case Socks5Event::Kind::kUserPass:
          TUNNEL_CHECK(!event.user.empty());
          outcome.log += std::string(event.user) + ":" + std::string(event.password);
          server.Authenticate((choice & 2) != 0);
          break;
        case Socks5Event::Kind::kRequest:
          TUNNEL_CHECK(IsValidHost(event.target.host));
          if (event.command == Socks5Command::kConnect) {
            const auto again = ParseTarget(ToString(event.target));
            TUNNEL_CHECK(again.ok() && *again == event.target);
          }
          outcome.log += ToString(event.target);
          break;
        case Socks5Event::Kind::kError:
          TUNNEL_CHECK(!event.reason.empty());
          outcome.log += event.reason;
          outcome.log.append(event.reply.bytes().begin(), event.reply.bytes().end());
          break;
      }
    }
    outcome.consumed += server.consumed();
    if (done || outcome.consumed == input.size()) return outcome;
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
  return 0;
}
