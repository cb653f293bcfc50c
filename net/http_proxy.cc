#include "net/http_proxy.h"

#include <optional>
#include <string>
#include <utility>

#include "core/log.h"
#include "net/http_exchange.h"
#include "net/http_input.h"
#include "net/limits.h"
#include "net/proxy_credentials.h"
#include "net/proxy_replies.h"
#include "proto/http1_forward.h"
#include "proto/http1_grammar.h"

namespace tunnel::net {
namespace {

using core::Slice;
using proto::BodyFraming;
using proto::HeadResult;
using proto::RequestHead;
using proto::Target;
using proto::TargetForm;

constexpr uint16_t kHttpPort = 80;

// One connection of a client. Lives in the frame of ServeHttpProxy.
class HttpProxyConnection {
 public:
  HttpProxyConnection(HttpProxyContext context, std::unique_ptr<ByteStream> client, std::deque<Slice> received,
                      bool ended)
      : context_(context),
        client_(context.reactor, std::move(client), context.reactor.counters().bytes_from_target, changed_) {
    client_.AddReceived(std::move(received), ended);
  }

  core::Task<void> Serve();

 private:
  // Waits for the next head. False: there is none, and the connection is closed or to be dropped.
  core::Task<bool> AwaitRequest(RequestHead& head);
  core::Task<bool> WaitForFirstByte();
  // These say whether the connection goes on.
  core::Task<bool> Dispatch(const RequestHead& head);
  core::Task<bool> Forward(const RequestHead& head);
  core::Task<void> Connect(const RequestHead& head);

  // Has a stream to `target` in origin_ with `head` sent on it. `fresh`: whether it was opened for this.
  core::Task<absl::Status> SendRequest(const Target& target, const std::string& head, bool& fresh);
  bool Conclude(const ExchangeResult& result);
  void SwitchToRelay();
  void Answer(int status, std::string_view words, AfterAnswer after, std::string_view extra = {});
  // An answer to a request that was not forwarded. The connection goes on where nothing of the request is left.
  bool AnswerInstead(const RequestHead& head, int status, std::string_view words, std::string_view extra = {});
  core::Task<absl::Status> Changed();
  void DropDeadOrigin();

  HttpProxyContext context_;
  core::Event changed_;
  HttpInput client_;
  std::unique_ptr<HttpInput> origin_;
  Target origin_target_;
};

core::Task<absl::Status> HttpProxyConnection::Changed() {
  changed_.Reset();
  absl::Status waited = co_await changed_.Wait();
  co_return std::move(waited);
}

// What a kept origin sends unasked, its end included, makes it useless for the next request.
void HttpProxyConnection::DropDeadOrigin() {
  if (origin_ == nullptr) return;
  if (origin_->over().has_value() || origin_->ended() || origin_->has_bytes()) origin_.reset();
}

core::Task<void> HttpProxyConnection::Serve() {
  for (bool first = true;; first = false) {
    if (!first) {
      const bool came = co_await WaitForFirstByte();
      if (!came) break;
    }
    RequestHead head;
    {
      const core::CountGuard counted(context_.reactor.counters().handshakes_in_progress);
      const bool read = co_await AwaitRequest(head);
      if (!read) break;
    }
    const bool go_on = co_await Dispatch(head);
    if (!go_on) break;
    client_.DropHead();
  }
}

core::Task<bool> HttpProxyConnection::WaitForFirstByte() {
  core::TaskContext& task = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(task, kIdleRequestLimit);
  // Answers are not piled up for a client that sends requests and does not read.
  while (!client_.has_bytes() || !client_.stream().writable()) {
    if (client_.over().has_value()) co_return false;
    if (client_.ended() && !client_.has_bytes()) {
      client_.CloseAfterSend();
      co_return false;
    }
    DropDeadOrigin();
    if (!client_.has_bytes()) client_.stream().ResumeReceive();
    const absl::Status waited = co_await Changed();
    if (absl::IsDeadlineExceeded(waited)) client_.CloseAfterSend();
    if (!waited.ok()) co_return false;
  }
  co_return true;
}

core::Task<bool> HttpProxyConnection::AwaitRequest(RequestHead& head) {
  core::TaskContext& task = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(task, kNegotiationLimit);
  for (;;) {
    const HeadResult parsed = client_.NextRequest(head);
    if (parsed.kind == HeadResult::Kind::kDone) co_return true;
    if (parsed.kind == HeadResult::Kind::kError) {
      spdlog::debug("{}: refused a request: {}", context_.spec.description, parsed.reason);
      Answer(parsed.status, parsed.reason, AfterAnswer::kClose);
      co_return false;
    }
    if (client_.over().has_value()) co_return false;
    if (client_.ended()) {
      client_.CloseAfterSend();
      co_return false;
    }
    DropDeadOrigin();
    const absl::Status waited = co_await Changed();
    if (absl::IsDeadlineExceeded(waited)) client_.CloseAfterSend();
    if (!waited.ok()) co_return false;
  }
}

void HttpProxyConnection::Answer(int status, std::string_view words, AfterAnswer after, std::string_view extra) {
  const std::string answer = HttpAnswer(status, words, after, extra);
  client_.stream().Send(context_.reactor.buffers().Copy(std::string_view(answer)));
  if (after == AfterAnswer::kClose) client_.CloseAfterSend();
}

bool HttpProxyConnection::AnswerInstead(const RequestHead& head, int status, std::string_view words,
                                        std::string_view extra) {
  const bool whole = head.framing == BodyFraming{} || head.framing == BodyFraming{BodyFraming::Kind::kLength, 0};
  // RFC 9112 9.3: not with HTTP/1.0.
  const bool go_on = whole && head.persistent && head.minor_version == 1;
  Answer(status, words, go_on ? AfterAnswer::kKeepAlive : AfterAnswer::kClose, extra);
  return go_on;
}

core::Task<bool> HttpProxyConnection::Dispatch(const RequestHead& head) {
  if (!IsAuthorized(context_.spec, head)) {
    co_return AnswerInstead(head, 407, "this proxy asks for a user name and password",
                            "Proxy-Authenticate: Basic realm=\"proxy\", charset=\"UTF-8\"\r\n");
  }
  if (head.method == "CONNECT") {
    co_await Connect(head);
    co_return false;
  }
  if (head.form != TargetForm::kAbsolute) {
    Answer(400, "this is a proxy: the request needs a whole URL, as http://host/path", AfterAnswer::kClose);
    co_return false;
  }
  if (!proto::EqualsIgnoreCase(head.scheme, "http")) {
    co_return AnswerInstead(head, 501, "only http:// is forwarded; https:// and others go by CONNECT");
  }
  if (proto::MaxForwards(head) == uint64_t{0}) {
    if (head.method == "OPTIONS") {
      co_return AnswerInstead(head, 200, "this proxy is the last hop that Max-Forwards allows");
    }
    co_return AnswerInstead(head, 501, "this proxy does not answer TRACE");
  }
  co_return co_await Forward(head);
}

core::Task<absl::Status> HttpProxyConnection::SendRequest(const Target& target, const std::string& head, bool& fresh) {
  core::Reactor& reactor = context_.reactor;
  DropDeadOrigin();
  if (origin_ != nullptr && origin_target_ != target) origin_.reset();
  fresh = origin_ == nullptr;
  Slice first = reactor.buffers().Copy(std::string_view(head));
  if (!fresh) {
    origin_->stream().Send(std::move(first));
    co_return absl::OkStatus();
  }
  const core::CountGuard counted(reactor.counters().handshakes_in_progress);
  auto opened = co_await context_.opener.Open(target, std::move(first));
  if (!opened.ok()) co_return opened.status();
  origin_ = std::make_unique<HttpInput>(reactor, *std::move(opened), reactor.counters().bytes_to_target, changed_);
  origin_target_ = target;
  co_return absl::OkStatus();
}

core::Task<bool> HttpProxyConnection::Forward(const RequestHead& head) {
  const RelaySet::Hold hold(context_.relays);
  const ForwardedExchange exchange{.method = std::string(head.method),
                                   .client_minor_version = head.minor_version,
                                   .persistent = head.persistent && head.minor_version == 1,
                                   .upgrade = proto::AsksToUpgrade(head)};
  const Target target{.host = std::string(head.host), .port = head.port.value_or(kHttpPort)};
  const BodyFraming framing = head.framing;
  const bool may_be_sent_again = proto::MayBeSentAgain(head);
  const auto text = proto::ForwardedRequest(head, !exchange.persistent);
  if (!text.ok()) {
    Answer(400, "the request cannot be forwarded", AfterAnswer::kClose);
    co_return false;
  }
  for (;;) {
    bool fresh = false;
    const absl::Status sent = co_await SendRequest(target, *text, fresh);
    if (!sent.ok()) {
      spdlog::debug("{}: {}: {}", context_.spec.description, proto::ToString(target), MessageOf(sent));
      if (client_.over().has_value()) co_return false;
      const ProxyReply reply = ReplyFor(sent);
      co_return AnswerInstead(head, reply.http_status, reply.words);
    }
    client_.StartBody(framing, BodyOut::kAsFramed, *origin_);
    const ExchangeResult result = co_await RelayAnswer(context_.reactor, exchange, client_, *origin_, changed_);
    if (result.kind == ExchangeResult::Kind::kNoAnswer && !fresh && may_be_sent_again) {
      origin_.reset();
      continue;
    }
    if (result.kind == ExchangeResult::Kind::kNoAnswer && fresh) {
      Answer(502, "the target closed the connection before its answer", AfterAnswer::kClose);
      co_return false;
    }
    co_return Conclude(result);
  }
}

bool HttpProxyConnection::Conclude(const ExchangeResult& result) {
  switch (result.kind) {
    case ExchangeResult::Kind::kDone:
      if (!result.origin_may_go_on || !result.client_may_go_on) origin_.reset();
      if (!result.client_may_go_on) client_.CloseAfterSend();
      return result.client_may_go_on;
    case ExchangeResult::Kind::kSwitched:
      SwitchToRelay();
      return false;
    case ExchangeResult::Kind::kNoAnswer:
    case ExchangeResult::Kind::kCutShort:
      client_.CloseAfterSend();
      return false;
    case ExchangeResult::Kind::kBadAnswer:
      Answer(502, result.words, AfterAnswer::kClose);
      return false;
    case ExchangeResult::Kind::kBadRequest:
      Answer(400, result.words, AfterAnswer::kClose);
      return false;
    case ExchangeResult::Kind::kBroken:
    case ExchangeResult::Kind::kCancelled:
      break;  // aborted by destruction: what the client has must not look whole
  }
  return false;
}

void HttpProxyConnection::SwitchToRelay() {
  if (client_.over().has_value()) return;
  std::deque<Slice> from_origin;
  std::deque<Slice> from_client;
  const bool origin_over = origin_->over().has_value();
  const bool client_ended = client_.ended();
  std::unique_ptr<ByteStream> origin;
  if (origin_over) {
    from_origin = origin_->TakeReceived();
  } else {
    origin = origin_->Release(from_origin);
  }
  for (Slice& slice : from_origin) client_.stream().Send(std::move(slice));
  if (origin_over) {
    client_.CloseAfterSend();
    return;
  }
  std::unique_ptr<ByteStream> client = client_.Release(from_client);
  for (Slice& slice : from_client) origin->Send(std::move(slice));
  if (client_ended) origin->FinishSend();
  context_.relays.Start(std::move(origin), std::move(client), client_ended);
}

core::Task<void> HttpProxyConnection::Connect(const RequestHead& head) {
  const core::CountGuard counted(context_.reactor.counters().handshakes_in_progress);
  core::Reactor& reactor = context_.reactor;
  const Target target{.host = std::string(head.host), .port = head.port.value_or(0)};
  origin_.reset();
  if (client_.over().has_value()) co_return;
  const bool ended = client_.ended();
  std::deque<Slice> received;
  std::unique_ptr<ByteStream> client = client_.Release(received);
  Slice first;
  if (!received.empty()) {
    first = std::move(received.front());
    received.pop_front();
  }
  auto opened = co_await context_.opener.Open(target, std::move(first));
  if (!opened.ok()) {
    spdlog::debug("{}: {}: {}", context_.spec.description, proto::ToString(target), MessageOf(opened.status()));
    const ProxyReply reply = ReplyFor(opened.status());
    const std::string answer = HttpAnswer(reply.http_status, reply.words, AfterAnswer::kClose);
    client->Send(reactor.buffers().Copy(std::string_view(answer)));
    client->CloseAfterSend(kCloseLimit);
    co_return;
  }
  client->Send(reactor.buffers().Copy(std::string_view("HTTP/1.1 200 Connection established\r\n\r\n")));
  for (Slice& slice : received) (*opened)->Send(std::move(slice));
  if (ended) (*opened)->FinishSend();
  context_.relays.Start(*std::move(opened), std::move(client), ended);
}

}  // namespace

core::Task<void> ServeHttpProxy(HttpProxyContext context, std::unique_ptr<ByteStream> client,
                                std::deque<Slice> received, bool ended) {
  HttpProxyConnection connection(context, std::move(client), std::move(received), ended);
  co_await connection.Serve();
}

}  // namespace tunnel::net
