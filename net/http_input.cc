#include "net/http_input.h"

#include <utility>

#include "net/limits.h"

namespace tunnel::net {

using core::Slice;
using proto::HeadResult;

HttpInput::HttpInput(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, core::Counter& received_bytes,
                     core::Event& changed)
    : reactor_(reactor), stream_(std::move(stream)), received_bytes_(received_bytes), changed_(changed) {
  stream_->SetHandler(this);
}

HttpInput::~HttpInput() {
  Unpair();
  if (stream_ != nullptr && !over_.has_value()) stream_->Abort();
}

void HttpInput::AddReceived(std::deque<Slice> slices, bool ended) {
  for (; !slices.empty(); slices.pop_back()) {
    received_bytes_.Add(static_cast<int64_t>(slices.back().size()));
    received_.push_front(std::move(slices.back()));
  }
  ended_ = ended_ || ended;
}

template <typename Parse>
HeadResult HttpInput::NextHead(Parse parse) {
  TUNNEL_CHECK(body() != HttpBodyRelay::State::kMore);
  if (std::exchange(head_done_, false)) head_.clear();
  while (!received_.empty()) {
    Slice piece = std::move(received_.front());
    received_.pop_front();
    const size_t before = head_.size();
    // The parser has an answer at that size, so that a body behind the head is not copied.
    head_ += piece.text().substr(0, proto::kHttp1MaxHeadBytes - before);
    const HeadResult result = parse(std::string_view(head_), before);
    if (result.kind == HeadResult::Kind::kNeedMore) continue;
    if (result.kind == HeadResult::Kind::kDone) {
      head_done_ = true;
      piece.RemovePrefix(result.head_bytes - before);
      if (!piece.empty()) received_.push_front(std::move(piece));
    }
    return result;
  }
  if (!over_.has_value()) stream_->ResumeReceive();
  return {};
}

HeadResult HttpInput::NextRequest(proto::RequestHead& head) {
  return NextHead(
      [&head](std::string_view text, size_t scanned) { return proto::ParseRequestHead(text, head, scanned); });
}

HeadResult HttpInput::NextResponse(std::string_view method, proto::ResponseHead& head) {
  return NextHead([&head, method](std::string_view text, size_t scanned) {
    return proto::ParseResponseHead(text, method, head, scanned);
  });
}

void HttpInput::DropHead() {
  head_done_ = false;
  std::string().swap(head_);
}

void HttpInput::StartBody(const proto::BodyFraming& framing, BodyOut out, HttpInput& to) {
  TUNNEL_CHECK(to_ == nullptr && to.feeder_ == nullptr);
  body_.emplace(reactor_, framing, out, to.stream());
  to_ = &to;
  to.feeder_ = this;
  Pump();
}

void HttpInput::Unpair() {
  if (to_ != nullptr) std::exchange(to_, nullptr)->feeder_ = nullptr;
  if (feeder_ != nullptr) std::exchange(feeder_, nullptr)->to_ = nullptr;
}

void HttpInput::Pump() {
  if (abandoned()) return;
  bool room = true;
  while (room && body() == HttpBodyRelay::State::kMore && !received_.empty()) {
    Slice data = std::move(received_.front());
    received_.pop_front();
    (void)body_->Take(data);
    if (!data.empty()) received_.push_front(std::move(data));
    // Only a stream that was sent to is certain to call back when it has drained.
    room = !body_->sent() || to_->stream().writable();
  }
  if (body() == HttpBodyRelay::State::kMore && received_.empty() && ended_) (void)body_->End();
  if (body() != HttpBodyRelay::State::kMore) {
    if (to_ != nullptr) std::exchange(to_, nullptr)->feeder_ = nullptr;
    changed_.Set();
    // It goes on receiving where nothing is held: to see that the peer leaves.
    room = received_.empty();
  }
  if (over_.has_value()) return;
  if (room) {
    stream_->ResumeReceive();
  } else {
    stream_->PauseReceive();
  }
}

void HttpInput::OnData(Slice data) {
  received_bytes_.Add(static_cast<int64_t>(data.size()));
  if (body() == HttpBodyRelay::State::kMore && to_ != nullptr) {
    received_.push_back(std::move(data));
    Pump();
    return;
  }
  received_.push_back(reactor_.buffers().ForHolding(std::move(data)));
  stream_->PauseReceive();
  changed_.Set();
}

void HttpInput::OnEnd() {
  ended_ = true;
  if (body() == HttpBodyRelay::State::kMore) Pump();
  changed_.Set();
}

void HttpInput::OnDrained() {
  if (feeder_ != nullptr) feeder_->Pump();
  changed_.Set();
}

void HttpInput::OnDead(absl::Status reason) {
  const bool in_order = reason.ok();
  over_ = std::move(reason);
  if (in_order) {
    ended_ = true;
    if (body() == HttpBodyRelay::State::kMore) Pump();
  }
  if (feeder_ != nullptr) std::exchange(feeder_, nullptr)->to_ = nullptr;
  changed_.Set();
}

std::unique_ptr<ByteStream> HttpInput::Release(std::deque<Slice>& received) {
  TUNNEL_CHECK(!over_.has_value());
  Unpair();
  stream_->SetHandler(nullptr);
  received = TakeReceived();
  return std::move(stream_);
}

void HttpInput::CloseAfterSend() {
  Unpair();
  if (!over_.has_value()) stream_->CloseAfterSend(kFlushLimit);
  over_ = absl::OkStatus();
}

}  // namespace tunnel::net
