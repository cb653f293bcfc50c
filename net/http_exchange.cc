#include "net/http_exchange.h"

#include "net/limits.h"
#include "proto/http1_forward.h"

namespace tunnel::net {
namespace {

using Kind = ExchangeResult::Kind;
using BodyState = HttpBodyRelay::State;
using proto::BodyFraming;
using proto::HeadResult;

ExchangeResult Ended(Kind kind, std::string_view words = {}) { return {.kind = kind, .words = words}; }

bool Died(const HttpInput& input) { return input.over().has_value() && !input.over()->ok(); }

// Waits for the next head of `origin`. kDone: it is in `head`.
core::Task<ExchangeResult> AwaitHead(const ForwardedExchange& exchange, HttpInput& client, HttpInput& origin,
                                     core::Event& changed, proto::ResponseHead& head) {
  for (;;) {
    const HeadResult parsed = origin.NextResponse(exchange.method, head);
    if (parsed.kind == HeadResult::Kind::kDone) co_return Ended(Kind::kDone);
    if (parsed.kind == HeadResult::Kind::kError) {
      co_return Ended(Kind::kBadAnswer, "the target's answer is not HTTP/1.1 as it must be");
    }
    if (client.over().has_value()) co_return Ended(Kind::kBroken);
    if (client.body() == BodyState::kBad) co_return Ended(Kind::kBadRequest, client.body_reason());
    if (origin.ended() || origin.over().has_value()) {
      if (!origin.inside_head()) co_return Ended(Kind::kNoAnswer);
      co_return Ended(Kind::kBadAnswer, "the target's answer was cut short");
    }
    changed.Reset();
    const absl::Status waited = co_await changed.Wait();
    if (!waited.ok()) co_return Ended(Kind::kCancelled);
  }
}

bool SendHead(core::Reactor& reactor, HttpInput& client, const proto::ResponseHead& head,
              const proto::ResponseForwarding& how) {
  const auto text = proto::ForwardedResponse(head, how);
  if (text.ok()) client.stream().Send(reactor.buffers().Copy(std::string_view(*text)));
  return text.ok();
}

}  // namespace

core::Task<ExchangeResult> RelayAnswer(core::Reactor& reactor, const ForwardedExchange& exchange, HttpInput& client,
                                       HttpInput& origin, core::Event& changed) {
  proto::ResponseHead head;
  proto::ResponseForwarding how{.client_minor_version = exchange.client_minor_version};
  for (int interim = 0;; ++interim) {
    const ExchangeResult awaited = co_await AwaitHead(exchange, client, origin, changed, head);
    if (awaited.kind == Kind::kNoAnswer && interim > 0) {
      co_return Ended(Kind::kBadAnswer, "the target closed the connection before its answer");
    }
    if (awaited.kind != Kind::kDone) co_return awaited;
    if (head.status >= 200) break;
    if (head.status == 101) {
      if (!exchange.upgrade || client.body() != BodyState::kDone) {
        co_return Ended(Kind::kBadAnswer, "the target switched protocols without being asked");
      }
      (void)SendHead(reactor, client, head, how);
      co_return Ended(Kind::kSwitched);
    }
    if (interim == kInterimResponses) co_return Ended(Kind::kBadAnswer, "the target sent too many interim answers");
    // RFC 9110 15.2: to HTTP/1.0 there is no such thing.
    if (exchange.client_minor_version == 1) (void)SendHead(reactor, client, head, how);
  }

  const bool until_close = head.framing.kind == BodyFraming::Kind::kUntilClose;
  const bool plain = head.framing.kind == BodyFraming::Kind::kChunked && exchange.client_minor_version == 0;
  // An answer that comes before the request's end may mean that nobody will read the rest: the connection cannot be
  // used again, since its client may or may not send what is left (RFC 9112 9.3, RFC 9110 10.1.1).
  how.close = !exchange.persistent || until_close || plain || client.body() != BodyState::kDone;
  const BodyFraming framing = head.framing;
  const bool origin_persistent = head.persistent;
  if (!SendHead(reactor, client, head, how)) {
    co_return Ended(Kind::kBadAnswer, "the target's answer is not HTTP/1.1 as it must be");
  }
  origin.DropHead();
  origin.StartBody(framing, plain ? BodyOut::kPlain : BodyOut::kAsFramed, client);
  const Kind cut = until_close || plain ? Kind::kBroken : Kind::kCutShort;
  while (origin.body() == BodyState::kMore) {
    if (client.over().has_value()) co_return Ended(Kind::kBroken);
    if (Died(origin) || client.body() == BodyState::kBad) co_return Ended(cut);
    changed.Reset();
    const absl::Status waited = co_await changed.Wait();
    if (!waited.ok()) co_return Ended(Kind::kCancelled);
  }
  if (origin.body() == BodyState::kBad) co_return Ended(cut);
  ExchangeResult result = Ended(Kind::kDone);
  result.client_may_go_on = !how.close;
  // Bytes behind the answer belong to no request (RFC 9112 9.2).
  result.origin_may_go_on = origin_persistent && client.body() == BodyState::kDone && !origin.ended() &&
                            !origin.over().has_value() && !origin.has_bytes();
  co_return result;
}

}  // namespace tunnel::net
